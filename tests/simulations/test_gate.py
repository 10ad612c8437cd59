"""How often a gate is wrong, and how much it takes to decide.

Run with ``-s`` to see the tables that docs/user-guide/gate.md prints. Scores: z ~ N(-0.1, 1.35^2), p = sigmoid(z), and
the label is drawn from the true probability q. "slope": q = sigmoid(a z), with a so that the mean of abs(p - q) is what
is stated. Comparisons: the champion states q, the candidate q give or take an error of one size.
"""

import numpy as np
import pytest
from scipy import optimize, special

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.evidence import DataIdentity, Evidence, ModelIdentity, Rows
from mlflow_caliber.gate import Bound, GatePolicy, SequentialComparison, decide
from mlflow_caliber.gate._comparison import paired_difference, score_differences
from mlflow_caliber.gate._estimate import estimate
from mlflow_caliber.report import reliability_report

LIMIT = 0.05
ECE = Bound(metric="caliber_ece", max=LIMIT, confidence=0.95)
QUANTILES = special.ndtri((np.arange(20_000) + 0.5) / 20_000) * 1.35 - 0.1


def slope(error):
    """The slope of the true probabilities whose mean distance from the stated ones is ``error``."""

    def excess(a):
        return float(np.abs(special.expit(a * QUANTILES) - special.expit(QUANTILES)).mean()) - error

    return 1.0 if error == 0.0 else optimize.brentq(excess, 0.0, 1.0)


def draw(rng, n, a):
    z = rng.normal(-0.1, 1.35, n)
    return Rows(y=(rng.random(n) < special.expit(a * z)).astype(np.intp), p=special.expit(z))


def verdicts(n, error, replicates, seed):
    """The share of each verdict on the calibration error, and that of a gate on its plain value."""
    rng, a = np.random.default_rng(seed), slope(error)
    found = [estimate("ece", draw(rng, n, a), None, 0.95) for _ in range(replicates)]
    shares = {
        verdict: np.mean([one.verdict(ECE) == verdict for one in found]) for verdict in ("pass", "fail", "inconclusive")
    }
    return shares, np.mean([one.value <= LIMIT for one in found])


def duel(rng, n, candidate_error, champion_error):
    """Both state the true probability, give or take an error whose mean square is as stated."""
    q = rng.uniform(0.1, 0.9, n)
    y = (rng.random(n) < q).astype(np.intp)
    signs = rng.choice([-1.0, 1.0], (2, n))
    p, other = q + signs[0] * np.sqrt(candidate_error), q + signs[1] * np.sqrt(champion_error)
    return Rows(y=y, p=p), Rows(y=y, p=other)


def looked_at(rng, n, step, errors, margin):
    """The row at which a sequential test passes, looked at every ``step`` rows; and whether a t interval ever would."""
    candidate, champion = duel(rng, n, *errors)
    d = score_differences("brier", candidate, champion)
    test, passed, peeked = SequentialComparison(margin=margin), None, False
    for start in range(0, n, step):
        test = test.update(d[start : start + step])
        if passed is None and test.verdict == "pass":
            passed = test.n
        so_far = d[: test.n]
        peeked |= so_far.mean() + 1.645 * so_far.std(ddof=1) / np.sqrt(test.n) <= margin
    return passed, bool(peeked)


# --- quick -----------------------------------------------------------------------------------------------------------


def test_a_calibrated_model_passes_and_one_at_the_limit_hardly_ever():
    assert verdicts(2000, 0.0, 60, seed=1)[0]["pass"] >= 0.85
    assert verdicts(2000, LIMIT, 60, seed=2)[0]["pass"] <= 0.1


def test_looking_often_does_not_make_a_model_at_the_margin_pass():
    rng = np.random.default_rng(3)
    runs = [looked_at(rng, 3000, 500, (0.002, 0.0), 0.002) for _ in range(60)]
    assert np.mean([passed is not None for passed, _ in runs]) <= 0.1


# --- the calibration error -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_gate_on_the_calibration_error():
    print(f"\nlimit {LIMIT}, confidence .95\ntrue error      n    pass    fail   open   point value passes")
    shares = {}
    for k, (error, n) in enumerate([(0.0, 1000), (0.0, 2000), (0.025, 2000), (0.05, 1000), (0.05, 2000), (0.05, 5000)]):
        shares[error, n], point = verdicts(n, error, 400, seed=100 + k)
        line = "".join(f"{shares[error, n][verdict]:8.3f}" for verdict in ("pass", "fail", "inconclusive"))
        print(f"{error:10.3f} {n:6d}{line}{point:12.3f}")
    assert shares[0.05, 5000]["pass"] <= 0.07
    assert shares[0.05, 2000]["pass"] <= 0.07
    assert shares[0.0, 2000]["pass"] >= 0.90
    assert max(shares[0.05, n]["fail"] for n in (1000, 2000, 5000)) <= 0.05


@pytest.mark.slow
def test_a_gate_on_a_mean_errs_as_often_as_it_says():
    """Brier score at its true value, which is E q(1 - q): a pass and a fail are errors, at 5 % each."""
    rng, bound = np.random.default_rng(5), float((special.expit(QUANTILES) * special.expit(-QUANTILES)).mean())
    rule = Bound(metric="caliber_brier", max=bound, confidence=0.95)
    like = reliability_report([0, 1], [0.2, 0.7])
    found = [estimate("brier", draw(rng, 1000, 1.0), like, 0.95).verdict(rule) for _ in range(300)]
    wrong = {verdict: found.count(verdict) / len(found) for verdict in ("pass", "fail")}
    print(f"\nBrier score at its bound, n = 1000: {wrong}")
    assert max(wrong.values()) <= 0.085  # .05 and three standard errors


# --- segments --------------------------------------------------------------------------------------------------------


def worst_of(rng, slopes, n, confidence):
    """The verdict of ``segment: worst`` on segments of ``n`` rows with these slopes; and of a rule on the value."""
    level = 1.0 - (1.0 - confidence) / len(slopes)
    found = [estimate("ece", draw(rng, n, a), None, level) for a in slopes]
    each = {one.verdict(ECE) for one in found}
    verdict = next(verdict for verdict in ("fail", "inconclusive", "pass") if verdict in each)
    return verdict, all(one.value <= LIMIT for one in found)


@pytest.mark.slow
def test_the_worst_of_ten_segments():
    rng = np.random.default_rng(6)
    at_limit, calibrated, bad = slope(LIMIT), 1.0, slope(0.12)
    print(
        "\nten segments, confidence .95\nwhat they are                    n    pass    fail   open   point value passes"
    )
    shares = {}
    cases = {
        "all calibrated": ([calibrated] * 10, 1000),
        "all calibrated, large": ([calibrated] * 10, 4000),
        "all at the limit": ([at_limit] * 10, 1000),
        "one at the limit": ([at_limit] + [calibrated] * 9, 4000),
        "one at .12": ([bad] + [calibrated] * 9, 2000),
    }
    for name, (slopes, n) in cases.items():
        runs = [worst_of(rng, slopes, n, 0.95) for _ in range(200)]
        shares[name] = {
            verdict: np.mean([run[0] == verdict for run in runs]) for verdict in ("pass", "fail", "inconclusive")
        }
        line = "".join(f"{share:8.3f}" for share in shares[name].values())
        print(f"{name:24s} {n:9d}{line}{np.mean([run[1] for run in runs]):12.3f}")
    assert shares["all calibrated"]["fail"] <= 0.05
    assert shares["all at the limit"]["fail"] <= 0.07
    assert shares["one at the limit"]["pass"] <= 0.07
    assert shares["one at .12"]["fail"] >= 0.8


# --- comparisons -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_comparison_on_one_data_set_errs_as_often_as_it_says():
    rng = np.random.default_rng(7)
    print("\npaired, margin .002      n   passes at the margin   passes when better by .0007")
    for n, replicates in ((1000, 300), (5000, 300), (20000, 300)):
        rates = []
        for errors in ((0.002, 0.0), (0.0, 0.0007)):
            found = (
                paired_difference("brier", *duel(rng, n, *errors), confidence=0.95, margin=0.002)
                for _ in range(replicates)
            )
            rates.append(np.mean([one.verdict in ("better", "non_inferior") for one in found]))
        print(f"{n:26d}{rates[0]:18.3f}{rates[1]:22.3f}")
        assert rates[0] <= 0.085  # .05 and three standard errors
    assert rates[1] >= 0.95


@pytest.mark.slow
def test_a_sequential_comparison_may_be_looked_at_every_day():
    rng = np.random.default_rng(8)
    at_margin = [looked_at(rng, 20_000, 500, (0.002, 0.0), 0.002) for _ in range(300)]
    better = [looked_at(rng, 20_000, 500, (0.0, 0.0007), 0.002) for _ in range(300)]
    wrong, peeked = (np.mean(x) for x in ([p is not None for p, _ in at_margin], [q for _, q in at_margin]))
    first = [passed for passed, _ in better if passed is not None]
    print(
        f"\nlooked at every 500 of 20000 rows, margin .002: passes at the margin {wrong:.3f} (t interval {peeked:.3f})"
    )
    print(f"better by .0007: passes {len(first) / len(better):.3f}, median {np.median(first):.0f} rows")
    assert wrong <= 0.07
    assert len(first) / len(better) >= 0.99


# --- certificates ----------------------------------------------------------------------------------------------------


def confident(rng, n, a=1.0):
    z = rng.normal(-0.1, 2.7, n)
    return Rows(y=(rng.random(n) < special.expit(a * z)).astype(np.intp), p=special.expit(z))


@pytest.mark.slow
def test_the_demand_for_a_certificate():
    """Certified on 3000 rows, checked on 2000 others: of the same kind, or of less discriminating times."""
    rng, model = np.random.default_rng(9), ModelIdentity(digest="sha256:" + "a" * 64, uri="models:/x/1")
    rule = {"metric": "caliber_brier", "max": 1}
    gate = GatePolicy.from_dict({"targets": {"champion": {"rules": [rule], "certificate": {"max_risk": 0.05}}}})
    shares = {}
    for a in (1.0, 0.6):
        failed = []
        for _ in range(100):
            rows = confident(rng, 3000)
            policy = AbstainPolicy.certify(
                np.maximum(rows.p, 1 - rows.p), (rows.p > 0.5) == rows.y, max_risk=0.05, delta=0.05
            )
            fresh = confident(rng, 2000, a)
            report = reliability_report(fresh.y, fresh.p, policy=policy).to_dict()
            data = DataIdentity(digest="sha256:" + "1" * 64, n=2000)
            evidence = Evidence(model=model, data=data, report=report)
            outcome, _ = decide(gate, evidence, candidate_rows=lambda fresh=fresh: fresh).rules
            failed.append(outcome.verdict == "fail")
        shares[a] = np.mean(failed)
    print(f"\ncertificate of .05, checked on 2000 rows: fails {shares[1.0]:.3f}, of a model too sure {shares[0.6]:.3f}")
    assert shares[1.0] <= 0.05
    assert shares[0.6] >= 0.9

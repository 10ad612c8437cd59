import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber.drift import drift_report
from mlflow_caliber.evidence import DataIdentity, ModelIdentity, Rows
from mlflow_caliber.exceptions import ConfigError, EvidenceError, InvalidInputError
from mlflow_caliber.gate import decide
from mlflow_caliber.gate._comparison import paired_difference

MODEL = ModelIdentity(digest="sha256:" + "a" * 64, uri="models:/churn/2")
CHAMPION = ModelIdentity(digest="sha256:" + "b" * 64, uri="models:/churn/1")
VERSUS = {"metric": "caliber_brier", "versus": "champion", "max_regression": 0.002}
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(scope="session")
def evidence(make, rows):
    return make.evidence(rows, MODEL)


def drifted(k):
    """A drift report of four columns of which k moved."""
    rng = np.random.default_rng(0)
    reference = pd.DataFrame(rng.normal(size=(500, 4)), columns=list("abcd"))
    return drift_report(reference, reference + 3.0 * (np.arange(4) < k)).to_dict()


def only(decision):
    (outcome,) = decision.rules
    return outcome


# --- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "verdict", "wanted"),
    [
        ({"metric": "caliber_brier", "max": 0.3}, "pass", "at most 0.3"),
        ({"metric": "caliber_brier", "max": 0.1}, "fail", "at most 0.1"),
        ({"metric": "caliber_brier", "min": 0.1}, "pass", "at least 0.1"),
        ({"metric": "caliber_roc_auc", "min": 0.99}, "fail", "at least 0.99"),
        ({"metric": "caliber_roc_auc", "min": 0.5, "max": 0.99}, "pass", "between 0.5 and 0.99"),
        ({"metric": "caliber_prevalence", "min": 0.9, "max": 1}, "fail", "between 0.9 and 1"),
    ],
)
def test_a_bound(make, evidence, rule, verdict, wanted):
    outcome = only(decide(make.policy(rule), evidence))
    value = evidence.report["metrics"][rule["metric"].removeprefix("caliber_")]
    assert (outcome.verdict, outcome.wanted, outcome.got) == (verdict, wanted, f"{value:.6g}")
    assert outcome.sentence == f"{rule['metric']} must be {wanted}, got {value:.6g}."


@pytest.mark.parametrize("end", ["min", "max"])
def test_a_bound_includes_its_end(make, evidence, end):
    value = evidence.report["metrics"]["brier"]
    assert decide(make.policy({"metric": "caliber_brier", end: value}), evidence).verdict == "pass"


def test_a_metric_that_was_not_computed_is_inconclusive_with_its_reason(make):
    one_class = make.evidence(Rows(y=np.ones(50, dtype=int), p=np.full(50, 0.9)), MODEL)
    decision = decide(make.policy({"metric": "caliber_roc_auc", "min": 0.5}), one_class)
    assert decision.verdict == "inconclusive"
    assert decision.reasons == (
        "caliber_roc_auc must be at least 0.5, got no value: roc_auc needs both classes, got only class 1 in 50 rows.",
    )


def test_drift_is_read_from_the_drift_report(make, evidence, rows):
    policy = make.policy({"metric": "caliber_drift_share", "max": 0.3})
    assert decide(policy, evidence).verdict == "inconclusive"
    assert "compared no column with a reference" in only(decide(policy, evidence)).sentence
    half = drifted(2)
    assert only(decide(policy, make.evidence(rows, MODEL, drift=half))).got == "0.5"
    assert decide(policy, make.evidence(rows, MODEL, drift=drifted(1))).verdict == "pass"
    # It is counted again from the columns: what stands beside them is not believed.
    assert only(decide(policy, make.evidence(rows, MODEL, drift=half | {"share": 0.0}))).got == "0.5"
    with pytest.raises(EvidenceError, match=r"evidence\.drift must be a drift report"):
        decide(policy, make.evidence(rows, MODEL, drift={"share": 0.1}))


# --- segments --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def segmented(make):
    good, bad = make.rows(300, seed=1), make.rows(60, seed=2, temperature=0.2)
    tiny = Rows(y=np.zeros(10, dtype=int), p=np.full(10, 0.99))
    rows = Rows(y=np.concatenate([r.y for r in (good, bad, tiny)]), p=np.concatenate([r.p for r in (good, bad, tiny)]))
    region = np.repeat(["north", "south", "isle"], [300, 60, 10])
    return make.evidence(rows, MODEL, segments={"region": region})


def test_the_worst_segment_decides_and_is_named(make, segmented):
    decision = decide(make.policy({"metric": "caliber_brier", "segment": "worst", "max": 0.2}), segmented)
    value = next(s["metrics"]["brier"] for s in segmented.report["segments"] if s["value"] == "south")
    assert decision.verdict == "fail"
    assert only(decision).sentence == (
        f"caliber_brier in the worst segment must be at most 0.2, got {value:.6g} (region = south, 60 rows)."
    )


def test_small_segments_are_passed_over_unless_the_rule_says_otherwise(make, segmented):
    rule = {"metric": "caliber_brier", "segment": "worst", "max": 0.5}
    assert decide(make.policy(rule), segmented).verdict == "pass"
    assert "region = isle, 10 rows" in only(decide(make.policy(rule | {"min_rows": 10}), segmented)).got


def test_with_a_lower_end_the_worst_segment_is_the_lowest(make, segmented):
    rule = {"metric": "caliber_prevalence", "segment": "worst", "min": 0.999}
    shares = {s["value"]: s["metrics"]["prevalence"] for s in segmented.report["segments"] if s["n"] >= 30}
    assert f"region = {min(shares, key=shares.get)}" in only(decide(make.policy(rule), segmented)).got


def test_a_segment_without_the_metric_leaves_it_open_unless_another_fails(make, segmented):
    rule = {"metric": "caliber_roc_auc", "segment": "worst", "min_rows": 10}
    opened = only(decide(make.policy(rule | {"min": 0.01}), segmented))
    assert opened.verdict == "inconclusive"
    assert "of region = isle: roc_auc needs both classes" in opened.sentence
    assert only(decide(make.policy(rule | {"min": 0.99}), segmented)).verdict == "fail"


def test_no_segment_at_all(make, evidence):
    outcome = only(decide(make.policy({"metric": "caliber_ece", "segment": "worst", "max": 0.1}), evidence))
    assert outcome.verdict == "inconclusive"
    assert "the evaluation has no segment of at least 30 rows" in outcome.sentence


# --- demands on the evidence -----------------------------------------------------------------------------------------

BRIER = {"metric": "caliber_brier", "max": 0.3}


def test_too_few_rows_are_inconclusive_and_say_how_many_it_takes(make, evidence):
    decision = decide(make.policy(BRIER, min_rows=1001), evidence)
    assert decision.verdict == "inconclusive"
    assert decision.rules[0].rows_needed == 1001
    assert decision.reasons == ("The evaluation must have at least 1001 rows, got 1000.",)
    assert decide(make.policy(BRIER, min_rows=1000), evidence).verdict == "pass"


@pytest.mark.parametrize(
    ("age", "verdict"),
    [
        (timedelta(0), "pass"),
        (timedelta(days=30), "pass"),
        (timedelta(days=30, seconds=1), "fail"),
        (-timedelta(minutes=59), "pass"),  # clocks differ
        (-timedelta(days=1), "fail"),
    ],
)
def test_evidence_has_an_age(make, evidence, age, verdict):
    dated = replace(evidence, created_at=(NOW - age).isoformat())
    decision = decide(make.policy(BRIER, max_age_days=30), dated, now=NOW)
    assert decision.verdict == verdict
    assert decision.rules[0].sentence.startswith("The evidence must be at most 30 days old, got ")


@pytest.mark.parametrize("now", [None, datetime(2026, 11, 22)])
def test_an_age_needs_a_time_with_its_zone(make, evidence, now):
    with pytest.raises(InvalidInputError, match="now must be a time with its zone"):
        decide(make.policy(BRIER, max_age_days=30), evidence, now=now)


def test_evidence_about_no_model_passes_no_gate(make, evidence):
    with pytest.raises(EvidenceError, match="must be about a model"):
        decide(make.policy(BRIER), replace(evidence, model=None))


def test_a_failure_outweighs_what_is_open(make, evidence):
    policy = make.policy({"metric": "caliber_drift_share", "max": 1}, {"metric": "caliber_brier", "max": 0})
    decision = decide(policy, evidence)
    assert [outcome.verdict for outcome in decision.rules] == ["inconclusive", "fail"]
    assert decision.verdict == "fail"
    assert len(decision.reasons) == 1


def test_a_target_that_the_policy_does_not_name(make, evidence):
    with pytest.raises(ConfigError, match="unknown key 'challenger'"):
        decide(make.policy(BRIER), evidence, target="challenger")


def test_evidence_that_was_made_for_another_policy_is_refused(make, evidence):
    policy, other = make.policy(BRIER), make.policy(BRIER, min_rows=2)
    bound = replace(evidence, policy_sha256=policy.sha256)
    assert decide(policy, bound).verdict == "pass"
    with pytest.raises(EvidenceError, match=r"must be made for this policy \(\w{12}\), got evidence for another one"):
        decide(other, bound)


def test_a_decision_says_what_it_was_made_on(make, evidence):
    policy = make.policy(BRIER)
    state = decide(policy, evidence, evidence).to_dict()
    assert state["policy_sha256"] == policy.sha256
    assert state["evidence_sha256"] == state["champion_evidence_sha256"] == evidence.sha256
    assert state["model_digest"] == MODEL.digest
    assert state["data_digest"] == evidence.data.digest
    assert state["rules"][0]["rule"] == "caliber_brier max 0.3"


# --- comparisons -----------------------------------------------------------------------------------------------------


def duel(make, rule, candidate, champion):
    return decide(
        make.policy(rule),
        make.evidence(candidate, MODEL),
        make.evidence(champion, CHAMPION),
        candidate_rows=lambda: candidate,
        champion_rows=lambda: champion,
    )


def test_without_a_champion_there_is_nothing_to_be_compared_with(make, evidence):
    decision = decide(make.policy(VERSUS), evidence)
    assert decision.verdict == "pass"
    assert only(decision).sentence == "caliber_brier has nothing to be compared with: no champion yet."


def test_a_champion_without_evidence_leaves_it_open(make, evidence):
    decision = decide(make.policy(VERSUS), evidence, no_evidence="champion is version 1, which was never evaluated")
    assert decision.verdict == "inconclusive"
    assert "got no value: champion is version 1, which was never evaluated." in decision.reasons[0]


def test_other_rows_are_no_comparison(make, evidence, rows):
    data = DataIdentity(digest="sha256:" + "c" * 64, n=1000)
    decision = decide(make.policy(VERSUS), evidence, replace(evidence, data=data))
    assert decision.verdict == "inconclusive"
    assert "evaluated on different data" in decision.reasons[0]


def test_without_rows_there_is_no_pairing(make, evidence):
    assert "needs the rows of both" in decide(make.policy(VERSUS), evidence, evidence).reasons[0]


def test_each_bound_is_one_sided():
    """Brier differences -.03, .05, 0, .09: mean .0275, s = .0531507, SE = s/2, z(.95) = 1.6448536."""
    y = np.array([1, 0, 1, 0])
    candidate = Rows(y=y, p=np.sqrt([0.0, 0.05, 0.0, 0.09]) * np.array([0, 1, 0, 1]) + y)
    champion = Rows(y=y, p=np.array([1 - math.sqrt(0.03), 0.0, 1.0, 0.0]))
    found = paired_difference("brier", candidate, champion, confidence=0.95, margin=0.03)
    assert found.difference == pytest.approx(0.0275)
    assert found.interval.high == pytest.approx(0.0275 + 1.6448536 * 0.0531507 / 2, abs=1e-6)
    assert found.interval.low == pytest.approx(0.0275 - 1.6448536 * 0.0531507 / 2, abs=1e-6)
    # The upper bound shrinks to .03 when 1.6448536 s / sqrt(n) = .0025: n = 1222.9.
    assert found.rows_needed == 1223


def test_weights_are_the_evidence_s():
    rng = np.random.default_rng(0)
    y, p, q = rng.integers(0, 2, 40), rng.random(40), rng.random(40)
    halves = (np.arange(40) < 20) * 1.0
    weighted = paired_difference("brier", Rows(y=y, p=p, weight=halves), Rows(y=y, p=q, weight=halves), confidence=0.9)
    first = paired_difference("brier", Rows(y=y[:20], p=p[:20]), Rows(y=y[:20], p=q[:20]), confidence=0.9)
    assert weighted.interval == pytest.approx(first.interval)
    assert weighted.n == first.n == 20


@pytest.mark.parametrize("other", [slice(0, 999), slice(None, None, -1)], ids=["fewer", "reversed"])
def test_rows_that_are_not_the_same_are_refused(rows, other):
    with pytest.raises(EvidenceError, match="must have the same rows and classes on both sides"):
        paired_difference("brier", rows, Rows(y=rows.y[other], p=rows.p[other]), confidence=0.95)


def test_one_row_has_no_interval():
    row = Rows(y=np.array([1]), p=np.array([0.5]))
    with pytest.raises(EvidenceError, match="at least two rows with a weight, got 1"):
        paired_difference("brier", row, row, confidence=0.95)


@pytest.mark.parametrize("metric", ["caliber_brier", "caliber_log_loss"])
def test_a_model_is_no_worse_than_itself(make, rows, metric):
    decision = duel(make, {"metric": metric, "versus": "champion", "max_regression": 0}, rows, rows)
    assert decision.verdict == "pass"


def test_a_sharpened_model_fails_against_the_calibrated_one_and_not_the_other_way(make):
    calibrated, sharpened = make.rows(4000), make.rows(4000, temperature=0.4)
    failed = duel(make, VERSUS, sharpened, calibrated)
    assert failed.verdict == "fail"
    assert "caliber_brier must be at most 0.002 worse than champion, got +0." in failed.reasons[0]
    assert "4000 paired rows" in failed.reasons[0]
    assert duel(make, VERSUS, calibrated, sharpened).verdict == "pass"


def test_a_small_difference_on_few_rows_is_open_and_the_rows_it_asks_for_decide(make):
    def compared(n):
        rows = make.rows(n, seed=3)
        noise = np.random.default_rng(4).normal(0, 0.02, n)
        return duel(make, VERSUS, Rows(y=rows.y, p=np.clip(rows.p + noise, 0, 1)), rows)

    few = compared(60)
    assert few.verdict == "inconclusive"
    needed = only(few).rows_needed
    assert needed > 60
    assert f"About {needed} rows would decide." in few.reasons[0]
    assert compared(4 * needed).verdict == "pass"


def test_at_the_margin_a_pass_is_rare(make):
    """The mean difference equals the margin: a pass is an error, and may happen in 5 % of the draws."""
    rng = np.random.default_rng(7)
    passes = 0
    for _ in range(400):
        d = rng.normal(0.002, 0.05, 800)
        rows = Rows(y=np.zeros(800, dtype=int), p=np.sqrt(0.25 + d))
        against = Rows(y=rows.y, p=np.full(800, 0.5))
        found = paired_difference("brier", rows, against, confidence=0.95, margin=0.002)
        passes += found.verdict in ("better", "non_inferior")
    assert 0.02 < passes / 400 < 0.09


@pytest.mark.parametrize(
    ("metric", "margin", "verdict"),
    [
        ("caliber_ece", 0.5, "pass"),
        ("caliber_ece", 0.0, "fail"),
        ("caliber_accuracy", 0.0, "pass"),
        ("caliber_accuracy", -0.1, "fail"),  # negative: it must be better by so much
    ],
)
def test_other_metrics_are_compared_as_two_values_and_it_says_so(make, metric, margin, verdict):
    calibrated, sharpened = make.rows(), make.rows(temperature=0.4)
    rule = {"metric": metric, "versus": "champion", "max_regression": margin}
    outcome = only(duel(make, rule, sharpened, calibrated))
    assert outcome.verdict == verdict
    assert outcome.sentence.endswith("(two values; this metric has no comparison in pairs).")


def sliced(rows, n_north):
    return replace(rows, segments={"region": np.repeat(["north", "south"], [n_north, len(rows.y) - n_north])})


def test_a_comparison_in_each_segment_names_the_worst(make):
    """In the south the candidate is sharpened too far; over all rows it is the better one."""
    champion = make.rows(6000, temperature=0.6)
    better, worse = make.rows(6000), make.rows(6000, temperature=0.3)
    rule = VERSUS | {"segment": "worst"}
    candidate = sliced(Rows(y=champion.y, p=np.where(np.arange(6000) < 5000, better.p, worse.p)), 5000)
    assert duel(make, VERSUS, candidate, champion).verdict == "pass"
    decision = duel(make, rule, candidate, champion)
    assert decision.verdict == "fail"
    assert "caliber_brier in the worst segment must be at most 0.002 worse than champion" in decision.reasons[0]
    assert "corrected for 2 segments; region = south, 1000 paired rows" in decision.reasons[0]
    assert duel(make, VERSUS | {"segment": "region=north"}, candidate, champion).verdict == "pass"
    assert duel(make, VERSUS | {"segment": "region=south"}, candidate, champion).verdict == "fail"
    assert "no segment region = west" in duel(make, VERSUS | {"segment": "region=west"}, candidate, champion).reasons[0]


def test_rows_that_a_segment_asks_for_are_counted_in_total(make):
    rows = make.rows(400, seed=3)
    noise = np.random.default_rng(4).normal(0, 0.02, 400)
    candidate = sliced(Rows(y=rows.y, p=np.clip(rows.p + noise, 0, 1)), 360)
    alone = candidate.take(np.arange(400) >= 360)
    asked = only(duel(make, VERSUS | {"segment": "region=south"}, candidate, rows)).rows_needed
    asked_alone = only(duel(make, VERSUS, replace(alone, segments={}), rows.take(np.arange(400) >= 360))).rows_needed
    assert asked == 10 * asked_alone


def test_the_direction_is_the_metric_s(make):
    good, noise = make.rows(), make.rows()
    noise = Rows(y=good.y, p=np.random.default_rng(1).random(1000))
    rule = {"metric": "caliber_roc_auc", "versus": "champion", "max_regression": 0.01}
    assert duel(make, rule, noise, good).verdict == "fail"
    assert duel(make, rule, good, noise).verdict == "pass"


def test_a_side_without_the_metric_is_named(make, rows):
    one_class = Rows(y=np.ones(20, dtype=int), p=np.full(20, 0.9))
    rule = {"metric": "caliber_roc_auc", "versus": "champion", "max_regression": 0.01}
    assert "of the candidate: roc_auc needs both classes" in duel(make, rule, one_class, one_class).reasons[0]

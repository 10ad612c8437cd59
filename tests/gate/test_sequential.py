import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_caliber.evidence import ModelIdentity, Rows
from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.gate import PairedRows, SequentialComparison, decide
from mlflow_caliber.gate._comparison import score_differences
from mlflow_caliber.metrics import compare_models

MODEL = ModelIdentity(digest="sha256:" + "a" * 64, uri="models:/churn/2")
CHAMPION = ModelIdentity(digest="sha256:" + "b" * 64, uri="models:/churn/1")
RULE = {"metric": "caliber_brier", "versus": "champion", "max_regression": 0.002, "sequential": True}
differences = st.lists(st.floats(-1, 1), max_size=30)


def digest(k):
    return f"sha256:{k:064x}"


# --- the test itself -------------------------------------------------------------------------------------------------


def test_the_wealth_is_the_mean_of_the_gamblers():
    """By hand: two rows, d = -.5 and .25, margin .1, bound 1."""
    stakes = (0.05, 0.1, 0.2, 0.4, 0.8, 0.95, 0.95)
    test = SequentialComparison(margin=0.1).update([-0.5, 0.25])
    gains = [(0.1 + 0.5) / 1.1, (0.1 - 0.25) / 1.1]
    assert test.e_value == pytest.approx(sum(math.prod(1 + s * g for g in gains) for s in stakes) / 7)
    assert test.e_value_against == pytest.approx(sum(math.prod(1 - s * g for g in gains) for s in stakes) / 7)
    assert test.n == 2


@given(d=differences, margin=st.floats(-0.9, 0.9), at=st.integers(0, 30))
def test_batches_are_worth_what_their_rows_are(d, margin, at):
    whole = SequentialComparison(margin=margin).update(d)
    parts = SequentialComparison(margin=margin).update(d[:at]).update(d[at:])
    assert parts.n == whole.n
    assert parts.e_value == pytest.approx(whole.e_value, rel=1e-9)


@given(margin=st.floats(-0.9, 0.9), bound=st.sampled_from([1.0, 2.0, 4.6]))
def test_no_bet_pays_on_average_at_the_margin(margin, bound):
    """Whatever two values average to the margin: the mean wealth after a row is 1 for both gamblers."""
    m = margin * bound
    share = (bound - m) / (2 * bound)  # of -bound; the rest is +bound
    lost, won = (SequentialComparison(margin=m, bound=bound).update([d]) for d in (-bound, bound))
    assert share * lost.e_value + (1 - share) * won.e_value == pytest.approx(1.0)
    assert share * lost.e_value_against + (1 - share) * won.e_value_against == pytest.approx(1.0)


@given(d=differences, margin=st.floats(-0.9, 0.9))
def test_the_state_survives_json(d, margin):
    test = SequentialComparison(margin=margin, confidence=0.9).update(d)
    again = SequentialComparison.from_dict(json.loads(json.dumps(test.to_dict())))
    assert again == test
    assert again.update([0.1]) == test.update([0.1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format_version": 2}, "'format_version' must be 1, got 2"),
        ({"n": -1}, "'n' must be a whole number of at least 0"),
        ({"against_worse": [0.0]}, "'against_worse' must be a list of 7 numbers"),
        ({"margin": 2.0}, "margin must lie within the bound of the differences, got 2 for 1"),
        ({"note": ""}, "must hold only"),
    ],
)
def test_the_state_is_read_strictly(change, sentence):
    with pytest.raises(StateError, match=sentence):
        SequentialComparison.from_dict(SequentialComparison(margin=0.0).to_dict() | change)


@pytest.mark.parametrize("wrong", [[1.1], [math.nan], [[0.1]]])
def test_a_difference_must_be_one_that_a_bet_can_bear(wrong):
    with pytest.raises(InvalidInputError, match="must be one number a row, within 1 of zero"):
        SequentialComparison(margin=0.0).update(wrong)


def test_no_row_decides_nothing():
    test = SequentialComparison(margin=0.0)
    assert (test.verdict, test.e_value, test.rows_needed) == ("inconclusive", pytest.approx(1.0), None)


def test_much_better_passes_much_worse_fails_and_the_rows_it_asks_for_decide():
    rng = np.random.default_rng(0)
    d = rng.normal(-0.05, 0.1, 5000).clip(-1, 1)
    few = SequentialComparison(margin=0.002).update(d[:50])
    assert few.verdict == "inconclusive"
    assert 50 < few.rows_needed < 1000
    assert SequentialComparison(margin=0.002).update(d[: 3 * few.rows_needed]).verdict == "pass"
    assert SequentialComparison(margin=0.002).update(-d).verdict == "fail"
    assert SequentialComparison(margin=0.002).update(-d).rows_needed is None


def test_looking_at_every_row_of_a_model_at_the_margin_rarely_passes():
    """A quick form of the simulation: 300 streams of 600 rows, looked at 30 times each."""
    rng = np.random.default_rng(4)
    passed = 0
    for _ in range(300):
        test = SequentialComparison(margin=0.05)
        for batch in np.where(rng.random((30, 20)) < 0.525, 1.0, -1.0):  # mean .05
            test = test.update(batch)
            if test.verdict == "pass":
                passed += 1
                break
    assert passed / 300 <= 0.07


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("key", ["brier", "log_loss"])
def test_the_differences_are_those_of_the_scores(key, classes):
    rng = np.random.default_rng(1)
    y = rng.integers(0, classes, 200)
    p, q = (rng.dirichlet([3.0] * classes, 200) * 0.9 + 0.1 / classes for _ in range(2))
    p, q = (p[:, 1], q[:, 1]) if classes == 2 else (p, q)
    d = score_differences(key, Rows(y=y, p=p), Rows(y=y, p=q))
    assert d.mean() == pytest.approx(compare_models(y, q, p, metric=key).difference)


def test_a_certain_error_costs_a_hundredth_in_log_loss():
    y = np.array([1])
    d = score_differences("log_loss", Rows(y=y, p=np.array([0.0])), Rows(y=y, p=np.array([1.0])))
    assert d.tolist() == pytest.approx([math.log(100)])


# --- as a rule -------------------------------------------------------------------------------------------------------


def days(make, n_days, n=400, *, temperature=1.0, champion=0.6):
    """The same outcomes judged by both: the candidate's temperature is 1 where it is calibrated."""
    ours = [make.rows(n, seed=day, temperature=temperature) for day in range(n_days)]
    theirs = [make.rows(n, seed=day, temperature=champion) for day in range(n_days)]
    return [PairedRows(digest(day), *pair) for day, pair in enumerate(zip(ours, theirs, strict=True))]


def judged(make, rows, history, **given):
    decision = decide(
        make.policy(RULE), make.evidence(rows, MODEL), make.evidence(rows, CHAMPION), history=lambda: history, **given
    )
    return decision.rules[0]


def test_evidence_adds_up_over_data_sets(make, rows):
    history = days(make, 12)
    wealth = [judged(make, rows, history[:n]).sequential["e_value"] for n in (1, 6, 12)]
    assert wealth == sorted(wealth)
    first, last = judged(make, rows, history[:1]), judged(make, rows, history)
    assert (first.verdict, last.verdict) == ("inconclusive", "pass")
    assert first.rows_needed > 400
    assert last.sequential["n"] == 4800
    assert last.sequential["data"] == [digest(day) for day in range(12)]
    assert "(20 decides; 4800 paired rows of 12 data sets, valid however often it is looked at)" in last.sentence


def test_a_worse_model_fails(make, rows):
    assert judged(make, rows, days(make, 12, temperature=0.4, champion=1.0)).verdict == "fail"


def test_a_data_set_counts_once(make, rows):
    (pair,) = days(make, 1)
    assert judged(make, rows, [pair, pair]).sequential == judged(make, rows, [pair]).sequential


def longer(pair, more, *, front=False):
    """The data set of a day with those of another put to it."""
    order = (more, pair) if front else (pair, more)
    sides = ([getattr(part, side) for part in order] for side in ("candidate", "champion"))
    joined = (Rows(y=np.concatenate([r.y for r in s]), p=np.concatenate([r.p for r in s])) for s in sides)
    return PairedRows(digest(99), *joined)


@pytest.mark.parametrize("front", [False, True])
def test_a_data_set_that_only_grew_is_refused(make, rows, front):
    first, second = days(make, 2)
    outcome = judged(make, rows, [first, longer(first, second, front=front)])
    assert outcome.verdict == "inconclusive"
    assert "holds the rows of 000000000000 again, and each may count once" in outcome.sentence


def test_weights_are_refused(make, rows):
    (pair,) = days(make, 1)
    weighted = pair._replace(candidate=make.rows(400, weight=np.ones(400)))
    assert "takes no sample weights" in judged(make, rows, [weighted]).sentence


def test_a_champion_that_was_never_evaluated_on_the_same_data_leaves_it_open(make, rows):
    decision = decide(make.policy(RULE), make.evidence(rows, MODEL), no_evidence="champion is new", history=lambda: ())
    assert decision.verdict == "inconclusive"
    assert "got no value: champion is new." in decision.reasons[0]


def test_older_data_of_both_are_enough(make, rows):
    decision = decide(
        make.policy(RULE), make.evidence(rows, MODEL), no_evidence="not on this", history=lambda: days(make, 12)
    )
    assert decision.verdict == "pass"


def test_without_a_champion_there_is_nothing_to_be_compared_with(make, rows):
    assert decide(make.policy(RULE), make.evidence(rows, MODEL)).verdict == "pass"


def test_without_a_history_it_is_open(make, rows):
    evidence = make.evidence(rows, MODEL)
    assert "needs every data set on which both" in decide(make.policy(RULE), evidence, evidence).reasons[0]

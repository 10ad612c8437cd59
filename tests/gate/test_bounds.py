"""Bounds that are held against intervals, and bounds in one segment."""

import numpy as np
import pytest
from scipy import stats

from mlflow_caliber.evidence import ModelIdentity, Rows
from mlflow_caliber.gate import decide
from mlflow_caliber.gate._estimate import estimate
from mlflow_caliber.gate.policy import WITH_INTERVAL
from mlflow_caliber.metrics import expected_calibration_error, expected_calibration_error_upper
from mlflow_caliber.report import reliability_report

MODEL = ModelIdentity(digest="sha256:" + "a" * 64, uri="models:/churn/2")
ECE = {"metric": "caliber_ece", "max": 0.05, "confidence": 0.95}


def judge(make, rows, rule):
    (outcome,) = decide(make.policy(rule), make.evidence(rows, MODEL), candidate_rows=lambda: rows).rules
    return outcome


def named(rows, **segments):
    return Rows(y=rows.y, p=rows.p, segments={name: np.asarray(values) for name, values in segments.items()})


# --- the calibration error -------------------------------------------------------------------------------------------


def test_the_upper_bound_is_the_published_one(make):
    rows = make.rows(700, seed=3)
    outcome = judge(make, rows, ECE)
    assert outcome.interval[1] == pytest.approx(expected_calibration_error_upper(rows.y, rows.p))
    assert outcome.got.startswith(f"{expected_calibration_error(rows.y, rows.p):.6g}, between ")
    assert "(one-sided 0.95 bounds; 700 rows)" in outcome.sentence


@pytest.mark.parametrize(
    ("n", "temperature", "verdict"), [(6000, 1.0, "pass"), (6000, 0.5, "fail"), (300, 1.0, "inconclusive")]
)
def test_three_verdicts(make, n, temperature, verdict):
    outcome = judge(make, make.rows(n, temperature=temperature), ECE)
    assert outcome.verdict == verdict
    assert (outcome.rows_needed is not None) is (verdict == "inconclusive")


def test_the_rows_that_it_asks_for_decide(make):
    asked = judge(make, make.rows(300), ECE)
    assert f"About {asked.rows_needed} rows would decide." in asked.sentence
    assert judge(make, make.rows(2 * asked.rows_needed), ECE).verdict == "pass"


def test_the_bins_are_the_gate_s_and_not_the_evaluation_s(make):
    """With one bin, a model that is always wrong about both halves looks perfect."""
    y, p = np.tile([0, 1], 1000), np.tile([0.9, 0.1], 1000)
    rows = Rows(y=y, p=p)
    evidence = make.evidence(rows, MODEL)
    report = reliability_report(y, p, n_bins=1).to_dict()
    assert report["metrics"]["ece"] < 1e-9
    lenient = type(evidence)(model=MODEL, data=evidence.data, report=report)
    policy = make.policy(ECE)
    assert decide(policy, lenient, candidate_rows=lambda: rows).verdict == "fail"


def test_of_many_classes_the_predicted_one_is_judged():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.5] * 4, 5000)
    y = np.array([rng.choice(4, p=row) for row in p])
    rows = Rows(y=y, p=p)
    report = reliability_report(y, p)
    found = estimate("ece", rows, report, 0.95)
    assert found.value == pytest.approx(report.metrics["ece"])
    assert found.high == pytest.approx(report.metrics["ece_upper"])


# --- other metrics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", WITH_INTERVAL)
def test_every_metric_with_an_interval_has_one_at_any_level(make, key):
    rows = make.rows(800, seed=1)
    report = reliability_report(rows.y, rows.p)
    narrow, wide = (estimate(key, rows, report, level) for level in (0.7, 0.99))
    assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high
    assert wide.value == report.metrics[key]


@pytest.mark.parametrize("key", ["roc_auc", "brier", "coverage"])
def test_a_calibrated_model_is_ranked_by_what_came_before_calibration(make, key):
    plain = make.rows(800, seed=1)
    rows = Rows(y=plain.y, p=np.round(plain.p, 1), raw=plain.p)  # ties
    report = reliability_report(rows.y, rows.p, raw=rows.raw, confidence=0.8)
    found = estimate(key, rows, report, 0.9)
    assert (found.value, found.low, found.high) == (report.metrics[key], *report.intervals[key])


def test_a_mean_has_its_standard_error(make):
    rows = make.rows(2000)
    squares = (rows.p - rows.y) ** 2
    outcome = judge(make, rows, {"metric": "caliber_brier", "max": 0.2, "confidence": 0.9})
    half = stats.t.ppf(0.9, 1999) * squares.std(ddof=1) / np.sqrt(2000)
    assert outcome.interval == pytest.approx((squares.mean() - half, squares.mean() + half), rel=1e-3)


@pytest.mark.parametrize(
    ("bound", "verdict"),
    [
        ({"min": 0.7}, "pass"),
        ({"min": 0.9}, "fail"),
        ({"max": 0.7}, "fail"),
        ({"min": 0.5, "max": 0.95}, "pass"),
        ({"min": 0.5, "max": 0.75}, "fail"),
        ({"min": 0.8215}, "inconclusive"),
    ],
)
def test_both_ends_are_held(make, bound, verdict):
    outcome = judge(make, make.rows(4000), {"metric": "caliber_roc_auc", "confidence": 0.95, **bound})
    assert outcome.verdict == verdict, outcome.sentence


def test_a_metric_that_the_rows_do_not_allow(make):
    rows = Rows(y=np.ones(60, dtype=int), p=np.full(60, 0.9))
    outcome = judge(make, rows, {"metric": "caliber_roc_auc", "min": 0.5, "confidence": 0.95})
    assert outcome.verdict == "inconclusive"
    assert "got no value: roc_auc needs both classes" in outcome.sentence


def test_without_rows_there_is_no_interval(make, rows):
    (outcome,) = decide(make.policy(ECE), make.evidence(rows, MODEL)).rules
    assert outcome.verdict == "inconclusive"
    assert "a bound with a confidence needs the rows behind the evidence" in outcome.sentence


def test_a_rule_on_the_value_shows_the_report_s_interval(make, rows):
    outcome = judge(make, rows, {"metric": "caliber_brier", "max": 0.3})
    assert outcome.interval[0] < float(outcome.got) < outcome.interval[1]


# --- segments --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regions(make):
    """South is miscalibrated, isle is tiny."""
    parts = [make.rows(3000, seed=1), make.rows(1500, seed=2, temperature=0.35), make.rows(20, seed=3)]
    y, p = (np.concatenate([getattr(part, name) for part in parts]) for name in ("y", "p"))
    return named(Rows(y=y, p=p), region=np.repeat(["north", "south", "isle"], [3000, 1500, 20]))


def test_the_worst_segment_fails_beyond_its_noise(make, regions):
    outcome = judge(make, regions, ECE | {"segment": "worst"})
    assert outcome.verdict == "fail"
    assert "caliber_ece in the worst segment must be at most 0.05" in outcome.sentence
    assert "(one-sided 0.95 bounds, 0.975 each for 2 segments; region = south, 1500 rows)" in outcome.sentence


def test_bounds_of_segments_hold_at_once(make, regions):
    south = regions.take(regions.segments["region"] == "south")
    alone = judge(make, south, ECE | {"confidence": 0.975})
    among = judge(make, regions, ECE | {"segment": "worst"})
    assert among.interval == pytest.approx(alone.interval)


@pytest.mark.parametrize(("value", "verdict"), [("north", "pass"), ("south", "fail")])
@pytest.mark.parametrize("confidence", [{}, {"confidence": 0.95}])
def test_one_segment_can_be_named(make, regions, value, verdict, confidence):
    rule = {"metric": "caliber_ece", "max": 0.06, "segment": f"region={value}", **confidence}
    outcome = judge(make, regions, rule)
    assert outcome.verdict == verdict
    assert f"caliber_ece in region = {value} must be" in outcome.sentence
    assert f"region = {value}, " in outcome.got + outcome.sentence


@pytest.mark.parametrize("confidence", [{}, {"confidence": 0.95}])
@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        ("region=isle", "the segment must have at least 30 rows, got 20"),
        ("region=west", "the evaluation has no segment region = west"),
        ("city=north", "the evaluation has no segment city = north"),
    ],
)
def test_a_segment_that_cannot_be_judged(make, regions, segment, reason, confidence):
    outcome = judge(make, regions, {"metric": "caliber_ece", "max": 0.06, "segment": segment, **confidence})
    assert outcome.verdict == "inconclusive"
    assert reason in outcome.sentence


def test_a_segment_without_the_metric_leaves_it_open_unless_another_fails(make):
    good, blank = make.rows(2000), Rows(y=np.zeros(50, dtype=int), p=np.full(50, 0.1))
    both = Rows(y=np.concatenate([good.y, blank.y]), p=np.concatenate([good.p, blank.p]))
    rows = named(both, part=np.repeat(["good", "blank"], [2000, 50]))
    rule = {"metric": "caliber_roc_auc", "segment": "worst", "confidence": 0.95}
    assert "of part = blank: roc_auc needs both classes" in judge(make, rows, rule | {"min": 0.5}).sentence
    assert judge(make, rows, rule | {"min": 0.99}).verdict == "fail"


def test_a_missing_value_is_a_segment(make):
    rows = named(make.rows(2000), region=np.array([None, "north"] * 1000, dtype=object))
    outcome = judge(make, rows, ECE | {"max": 0.9, "segment": "region=(missing)"})
    assert outcome.verdict == "pass"
    assert "region = (missing), 1000 rows" in outcome.sentence


def test_the_rows_that_a_segment_asks_for_are_counted_in_total(make):
    rows = named(make.rows(4000), region=np.repeat(["large", "small"], [3700, 300]))
    rule = ECE | {"segment": "worst"}
    asked = judge(make, rows, rule)
    assert asked.verdict == "inconclusive"
    assert asked.rows_needed > 4000
    n = 2 * asked.rows_needed
    small = round(n * 300 / 4000)
    more = named(make.rows(n, seed=8), region=np.repeat(["large", "small"], [n - small, small]))
    assert judge(make, more, rule).verdict == "pass"

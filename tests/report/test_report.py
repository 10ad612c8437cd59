"""The numbers of a report are those of the metric functions, on the rows it says."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from mlflow_caliber import metrics
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.report import HISTOGRAM_BINS, reliability_report

MULTICLASS_ONLY = {"classwise_ece", "classwise_ece_max"}
# Of a whole evaluation only, not of its segments; and of these, what counts Kish's effective rows.
WHOLE_ONLY = {"ece_l2_debiased", "smooth_ece", "spiegelhalter_z", "calibration_p"} | MULTICLASS_ONLY
UNCERTAIN = {"ece_l2_debiased", "spiegelhalter_z", "calibration_p"}
BINARY_KEYS = set(metrics.METRICS) - {"drift_share"} - MULTICLASS_ONLY
SCORES = {"brier", "log_loss", "mcb", "dsc", "unc", "roc_auc"}
SELECTIVE = {"aurc", "e_aurc", "augrc", "coverage", "selective_risk", "abstain_rate", "accuracy"}
INTERVAL_KEYS = {"ece", "prevalence"} | SCORES | SELECTIVE


def test_binary_metrics_are_the_metric_functions(binary_rows, binary_report):
    y, p = binary_rows["y"], binary_rows["proba"]
    confidence, correct = np.maximum(p, 1 - p), (p > 0.5) == y
    decomposition = metrics.brier_decomposition(y, p)
    answered, null = confidence >= 0.7, metrics.calibration_error_null(p)
    assert binary_report.metrics == {
        "ece": metrics.expected_calibration_error(y, p),
        "ece_upper": metrics.expected_calibration_error_upper(y, p),
        "ece_null_mean": null.mean,
        "ece_null_p95": null.p95,
        "ece_l2_debiased": metrics.expected_calibration_error(y, p, norm="l2", debias=True),
        "smooth_ece": metrics.smooth_calibration_error(y, p),
        "spiegelhalter_z": metrics.spiegelhalter_test(y, p).statistic,
        "calibration_p": metrics.calibration_score_test(y, p).p_value,
        "brier": metrics.brier_score(y, p),
        "log_loss": metrics.log_loss(y, p),
        "mcb": decomposition.miscalibration,
        "dsc": decomposition.discrimination,
        "unc": decomposition.uncertainty,
        "roc_auc": metrics.roc_auc(y, binary_rows["raw"]),
        "aurc": metrics.aurc(confidence, correct),
        "e_aurc": metrics.e_aurc(confidence, correct),
        "augrc": metrics.augrc(confidence, correct),
        "coverage": answered.mean(),
        "selective_risk": pytest.approx((~correct[answered]).mean(), abs=1e-12),
        "abstain_rate": (~answered).mean(),
        "accuracy": correct.mean(),
        "prevalence": y.mean(),
    }
    assert set(binary_report.metrics) == BINARY_KEYS
    assert binary_report.not_computed == {}


def test_binary_metrics_agree_with_scikit_learn(binary_rows, binary_report):
    y, p = binary_rows["y"], binary_rows["proba"]
    assert binary_report.metrics["brier"] == pytest.approx(brier_score_loss(y, p))
    assert binary_report.metrics["log_loss"] == pytest.approx(log_loss(y, p))
    assert binary_report.metrics["accuracy"] == pytest.approx(accuracy_score(y, p > 0.5))
    assert binary_report.metrics["roc_auc"] == pytest.approx(roc_auc_score(y, binary_rows["raw"]))


def test_curve_histogram_and_risk_coverage(binary_rows, binary_report):
    y, p = binary_rows["y"], binary_rows["proba"]
    assert binary_report.curve == metrics.reliability_curve(y, p)
    assert binary_report.histogram == tuple(np.histogram(p, HISTOGRAM_BINS, (0, 1))[0])
    assert len(binary_report.risk_coverage) <= 200
    assert binary_report.risk_coverage.risk[-1] == pytest.approx(1 - binary_report.metrics["accuracy"])


def test_raw_is_the_report_before_calibration(binary_rows, binary_report):
    rows = binary_rows
    before = reliability_report(
        rows["y"],
        rows["raw"],
        classes=binary_report.classes,
        policy=AbstainPolicy(0.7),
        segments={"region": rows["region"], "rare": rows["rare"]},
    )
    assert binary_report.raw == before
    assert binary_report.metrics["ece"] < before.metrics["ece"]
    assert binary_report.metrics["roc_auc"] == before.metrics["roc_auc"]


def test_auc_is_of_the_raw_score_though_the_calibrated_one_is_tied():
    y, raw = [0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]
    assert reliability_report(y, [0.5] * 4).metrics["roc_auc"] == 0.5
    report = reliability_report(y, [0.5] * 4, raw=raw, segments={"all": ["x"] * 4})
    assert report.metrics["roc_auc"] == report.segments[0].metrics["roc_auc"] == 1.0


def test_exactly_one_half_is_predicted_negative():
    report = reliability_report([0, 1], [0.5, 0.5])
    assert report.metrics["accuracy"] == 0.5
    assert reliability_report([0], [0.5]).metrics["accuracy"] == 1.0


def test_multiclass_metrics_are_the_metric_functions(digits_rows, digits_report):
    y, proba, raw = digits_rows
    correct, confidence = proba.argmax(1) == y, proba.max(1)
    decomposition = metrics.multiclass_brier_decomposition(y, proba)
    expected = {
        "ece": metrics.top_label_calibration_error(y, proba),
        "ece_upper": metrics.expected_calibration_error_upper(correct, confidence),
        "ece_null_p95": metrics.calibration_error_null(confidence).p95,
        "smooth_ece": metrics.smooth_calibration_error(correct, confidence),
        "classwise_ece": metrics.classwise_calibration_error(y, proba).mean(),
        "classwise_ece_max": metrics.classwise_calibration_error(y, proba).max(),
        "brier": metrics.multiclass_brier_score(y, proba),
        "log_loss": metrics.multiclass_log_loss(y, proba),
        "mcb": decomposition.miscalibration,
        "dsc": decomposition.discrimination,
        "unc": decomposition.uncertainty,
        "roc_auc": metrics.multiclass_roc_auc(y, raw),
        "aurc": metrics.aurc(confidence, correct),
        "accuracy": correct.mean(),
        "coverage": (confidence >= 0.6).mean(),
    }
    assert {key: digits_report.metrics[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    assert set(digits_report.metrics) == BINARY_KEYS - {"prevalence"} | MULTICLASS_ONLY
    assert digits_report.metrics["roc_auc"] == pytest.approx(roc_auc_score(y, raw, multi_class="ovr"))
    assert digits_report.curve == metrics.reliability_curve(correct, confidence)


def test_multiclass_per_class(digits_rows, digits_report):
    y, proba, _ = digits_rows
    assert list(digits_report.per_class) == list(digits_report.classes)
    errors = [values["ece"] for values in digits_report.per_class.values()]
    assert errors == pytest.approx(metrics.classwise_calibration_error(y, proba))
    assert [values["n"] for values in digits_report.per_class.values()] == np.bincount(y).tolist()
    assert sum(values["prevalence"] for values in digits_report.per_class.values()) == pytest.approx(1.0)


def test_two_columns_are_binary(binary_rows):
    y, p = binary_rows["y"], binary_rows["proba"]
    report = reliability_report(y, np.column_stack([1 - p, p]))
    assert report.kind == "binary"
    assert report.metrics == pytest.approx(reliability_report(y, p).metrics)


def test_segments_are_reports_of_their_rows(binary_rows, binary_report):
    assert sum(s.n for s in binary_report.segments if s.column == "region") == 2000
    segment = next(s for s in binary_report.segments if s.value == "r03")
    mask = binary_rows["region"] == "r03"
    alone = reliability_report(
        binary_rows["y"][mask], binary_rows["proba"][mask], raw=binary_rows["raw"][mask], policy=AbstainPolicy(0.7)
    )
    assert segment.n == mask.sum()
    assert segment.metrics == {key: value for key, value in alone.metrics.items() if key not in WHOLE_ONLY}
    assert segment.curve == alone.curve


def test_one_class_slice_says_why():
    report = reliability_report([0, 0, 1], [0.1, 0.3, 0.9], segments={"site": ["a", "a", "b"]})
    first = report.segments[0]
    assert first.not_computed == {"roc_auc": "roc_auc needs both classes, got only class 0 in 2 rows."}
    assert set(first.metrics) == BINARY_KEYS - WHOLE_ONLY - {"roc_auc"}


def test_multiclass_slice_without_a_class_says_why(digits_report):
    # pen = y % 3, so each pen misses six or seven of the ten digits.
    assert digits_report.segments[0].not_computed == {
        "roc_auc": "roc_auc needs a row of every class, got none of 7 of the 10 classes."
    }


def test_policy_that_withholds_everything():
    report = reliability_report([0, 1], [0.2, 0.7], policy=AbstainPolicy(0.95))
    assert report.metrics["coverage"] == 0.0
    assert report.metrics["abstain_rate"] == 1.0
    assert report.not_computed == {"selective_risk": "selective_risk needs an answered row, got 2 rows, all withheld."}


def test_without_a_policy_every_row_is_answered(binary_rows):
    report = reliability_report(binary_rows["y"], binary_rows["proba"])
    assert (report.policy, report.metrics["coverage"]) == (None, 1.0)
    assert report.metrics["selective_risk"] == pytest.approx(1 - report.metrics["accuracy"])


def test_segment_values_are_text_and_missing_ones_a_segment():
    frame = pd.DataFrame({"age": pd.array([30, None, 41, 30], dtype="Int64"), "vip": [True, False, True, None]})
    report = reliability_report([0, 1, 1, 0], [0.2, 0.6, 0.7, 0.4], segments=frame)
    assert [(s.column, s.value, s.n) for s in report.segments] == [
        ("age", "(missing)", 1),
        ("age", "30", 2),
        ("age", "41", 1),
        ("vip", "(missing)", 1),
        ("vip", "False", 1),
        ("vip", "True", 2),
    ]


def test_worst_segment_knows_the_direction(binary_report):
    large = [s for s in binary_report.segments if s.n >= 30]
    assert binary_report.worst_segment("ece").metrics["ece"] == max(s.metrics["ece"] for s in large)
    assert binary_report.worst_segment("roc_auc").metrics["roc_auc"] == min(s.metrics["roc_auc"] for s in large)
    assert binary_report.worst_segment("ece", min_rows=10**6) is None
    assert binary_report.worst_segment("brier", min_rows=1).n >= 1


def test_worst_segment_refuses_what_has_no_direction(binary_report):
    with pytest.raises(InvalidInputError, match=r"better or worse, got 'prevalence'"):
        binary_report.worst_segment("prevalence")
    with pytest.raises(InvalidInputError, match=r"key must be one of .* Did you mean 'brier'"):
        binary_report.worst_segment("briar")


def test_zero_weights_leave_rows_out(binary_rows):
    y, p, region = (binary_rows[k] for k in ("y", "proba", "region"))
    weight = np.arange(2000) % 2
    weighted = reliability_report(y, p, sample_weight=weight, segments={"region": region})
    assert weighted == reliability_report(y[1::2], p[1::2], segments={"region": region[1::2]})
    assert not weighted.weighted


def test_weights_reach_every_metric(binary_rows):
    report = reliability_report(binary_rows["y"], binary_rows["proba"], sample_weight=1 + np.arange(2000) % 3)
    assert report.weighted
    assert report.not_computed == {}
    assert set(report.intervals) == INTERVAL_KEYS


def test_equal_weights_are_no_weights(binary_rows):
    y, p = binary_rows["y"], binary_rows["proba"]
    assert reliability_report(y, p, sample_weight=np.full(2000, 2.5)) == reliability_report(y, p)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 3)), min_size=2, max_size=30).filter(
        lambda rows: any(w for *_, w in rows)
    )
)
def test_weights_act_as_repeated_rows(rows):
    y, p, weight = (np.array(column) for column in zip(*rows, strict=True))
    weighted = reliability_report(y, p / 20, sample_weight=weight, policy=AbstainPolicy(0.8)).metrics
    repeated = reliability_report(np.repeat(y, weight), np.repeat(p, weight) / 20, policy=AbstainPolicy(0.8)).metrics
    # What measures uncertainty counts Kish's effective rows: repeating rows adds some, weights do not.
    # And the smooth error has a background of a ten-thousandth of a mean row.
    shared = weighted.keys() - {"ece_upper", "ece_null_mean", "ece_null_p95", "smooth_ece", *UNCERTAIN}
    if len(set(weight[weight > 0])) == 1:  # equal weights are none, and the areas depend on the number of rows
        shared -= {"aurc", "e_aurc", "augrc"}
    assert {key: weighted[key] for key in shared} == pytest.approx({key: repeated[key] for key in shared}, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=30),
    threshold=st.floats(0, 1),
)
def test_every_metric_is_finite_or_explained(rows, threshold):
    y, p, site = zip(*rows, strict=True)
    report = reliability_report(y, p, policy=AbstainPolicy(threshold), segments={"site": site})
    for part in (report, *report.segments):
        assert set(part.metrics) | set(part.not_computed) == BINARY_KEYS - (set() if part is report else WHOLE_ONLY)
        assert not set(part.metrics) & set(part.not_computed)
        assert all(math.isfinite(value) for value in part.metrics.values())
    assert_intervals_hold(report)


def assert_intervals_hold(report):
    assert set(report.intervals) == INTERVAL_KEYS & set(report.metrics)
    for key, (low, high) in report.intervals.items():
        assert low <= report.metrics[key] <= high, key
        assert math.isfinite(low)
        assert math.isfinite(high)


@pytest.mark.parametrize("name", ["binary_report", "digits_report"])
def test_every_headline_metric_has_an_interval(name, request):
    report = request.getfixturevalue(name)
    assert_intervals_hold(report)
    assert_intervals_hold(report.raw)
    widths = {key: interval.high - interval.low for key, interval in report.intervals.items()}
    assert all(0.0 < width < 0.2 for width in widths.values()), widths


def test_intervals_narrow_with_rows_and_widen_with_the_level(binary_rows):
    y, p = binary_rows["y"], binary_rows["proba"]

    def width(report, key):
        return report.intervals[key].high - report.intervals[key].low

    few, many = reliability_report(y[:200], p[:200]), reliability_report(y, p)
    surer = reliability_report(y, p, confidence=0.99)
    for key in INTERVAL_KEYS:
        assert width(few, key) > width(many, key)
        assert width(surer, key) > width(many, key)


def test_change_is_the_paired_interval(binary_rows, binary_report, digits_report):
    y, p, raw = binary_rows["y"], binary_rows["proba"], binary_rows["raw"]
    assert binary_report.change["brier"] == metrics.compare_models(y, raw, p, metric="brier").interval
    for key, interval in binary_report.change.items():
        assert interval.low <= binary_report.metrics[key] - binary_report.raw.metrics[key] <= interval.high < 0.0
    assert set(binary_report.change) == {"ece", "brier", "log_loss"}
    assert set(digits_report.change) == {"brier", "log_loss"}
    assert binary_report.raw.change == {}


def test_change_is_about_the_bins_of_the_report(binary_rows):
    y, p, raw = binary_rows["y"], binary_rows["proba"], binary_rows["raw"]
    how = {"n_bins": 4, "strategy": "uniform"}
    change = reliability_report(y, p, raw=raw, **how).change["ece"]
    assert change == metrics.compare_models(y, raw, p, metric="ece", **how).interval
    assert change != metrics.compare_models(y, raw, p, metric="ece").interval


def test_histogram_has_the_edges_that_are_written():
    p = np.arange(101) / 100
    counts = reliability_report(np.arange(101) % 2, p).histogram
    assert counts == (*[1] * 99, 2)  # one score a part; the last part holds 1 as well


def test_same_seed_same_report(binary_rows):
    y, p = binary_rows["y"][:300], binary_rows["proba"][:300]
    one, again, other = (reliability_report(y, p, random_state=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.metrics["ece"] == other.metrics["ece"]
    assert one.intervals["ece"] != other.intervals["ece"]


def test_corp_curve_is_the_recalibration_map(binary_rows, binary_report):
    corp = binary_report.corp
    assert corp == metrics.corp_curve(binary_rows["y"], binary_rows["proba"]).downsample(200)
    inside = (corp.band_low <= corp.recalibrated) & (corp.recalibrated <= corp.band_high)
    assert inside.mean() > 0.9  # these probabilities are true ones
    raw = binary_report.raw.corp
    assert ((raw.band_low <= raw.recalibrated) & (raw.recalibrated <= raw.band_high)).mean() < 0.7


def test_segment_thresholds_go_by_the_policys_segment(binary_rows):
    policy = AbstainPolicy(0.6, segment_thresholds={"tiny": 1.0})
    report = reliability_report(
        binary_rows["y"], binary_rows["proba"], policy=policy, policy_segment=binary_rows["rare"]
    )
    confidence = np.maximum(binary_rows["proba"], 1 - binary_rows["proba"])
    answered = (confidence >= 0.6) & (binary_rows["rare"] != "tiny")
    assert report.metrics["coverage"] == answered.mean()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"confidence": 95}, r"confidence must be a number strictly between 0 and 1, got 95"),
        ({"policy_segment": ["a"]}, r"policy_segment must have one value a row, got 1 values for 2 rows"),
        ({"raw": [0.1]}, r"raw must have the shape of y_proba, got \(1,\) for \(2,\)"),
        ({"classes": ["a"]}, r"classes must name the 2 classes of the probabilities, got 1"),
        ({"classes": [1, "1"]}, r"classes must be distinct as text, got 1, 1"),
        ({"segments": {"site": ["a"]}}, r"segments\['site'\] must have one value a row, got 1 values for 2 rows"),
        ({"segments": {"site": "ab"}}, r"segments\['site'\] must have one value a row, got a str"),
        ({"sample_weight": [0, 0]}, r"sample_weight must hold at least one positive value"),
        ({"n_bins": 0}, r"n_bins must be .* got 0"),
        ({"strategy": "kmeans"}, r"strategy must be one of .* got 'kmeans'"),
    ],
)
def test_bad_arguments(arguments, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        reliability_report([0, 1], [0.2, 0.7], **arguments)


def test_segment_column_with_too_many_values():
    n = 1001
    with pytest.raises(InvalidInputError, match=r"segments\['id'\] must have at most 1000 distinct values, got 1001"):
        reliability_report(np.arange(n) % 2, np.full(n, 0.5), segments={"id": range(n)})


def test_length_mismatch_and_range():
    with pytest.raises(InvalidInputError, match=r"y_true has 1, y_proba has 2"):
        reliability_report([1], [0.2, 0.7])
    with pytest.raises(InvalidInputError, match=r"raw must lie in \[0, 1\], got a maximum of 1.5"):
        reliability_report([0, 1], [0.2, 0.7], raw=[0.1, 1.5])


def test_str_and_repr(binary_report):
    text = str(binary_report)
    assert text.startswith("Reliability of 2,000 binary predictions\n")
    low, high = binary_report.intervals["ece"]
    assert (
        f"{binary_report.raw.metrics['ece']:.4f}   {binary_report.metrics['ece']:.4f}   {low:.4f} to {high:.4f}" in text
    )
    assert f"an ECE up to {binary_report.metrics['ece_null_p95']:.4f} in 19 of 20 samples" in text
    assert "Worst segment by ece: region = " in text
    assert repr(binary_report).startswith("ReliabilityReport(kind='binary', n=2000, ece=")


def test_notebook_table_escapes(binary_rows):
    segments = {"<b>": ["<script>"] * 2000}
    html = reliability_report(binary_rows["y"], binary_rows["proba"], segments=segments)._repr_html_()
    assert "<caption>Reliability of 2,000 binary predictions</caption>" in html
    assert "&lt;b&gt; = &lt;script&gt;" in html
    assert "<script" not in html
    assert html.count("<svg") == html.count("</svg>") == 1

"""A report of merged statistics is the report of their rows."""

from __future__ import annotations

import numpy as np
import pytest

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import ScoreStatistics, roc_auc
from mlflow_caliber.report import ReliabilityReport, reliability_report, report_from_statistics


def in_chunks(y: np.ndarray, p: np.ndarray, weight: np.ndarray | None = None) -> ScoreStatistics:
    parts = np.array_split(np.arange(y.size), 7)
    return sum(
        ScoreStatistics.from_rows(y[part], p[part], sample_weight=None if weight is None else weight[part])
        for part in parts
    )


TWO = ScoreStatistics.from_rows([0, 1], [0.1, 0.9])


@pytest.fixture(scope="module")
def both(binary_rows):
    """The report of the rows, and that of their statistics."""
    y, p, raw, rare = (binary_rows[name] for name in ("y", "proba", "raw", "rare"))
    settings = {"classes": ["stays", "leaves"], "policy": AbstainPolicy(0.7)}
    parts, raw_parts = (
        {value: ScoreStatistics.from_rows(y[rare == value], score[rare == value]) for value in ("tiny", "rest")}
        for score in (p, raw)
    )
    columns = {"segments": {"rare": parts}, "raw_segments": {"rare": raw_parts}}
    merged = report_from_statistics(in_chunks(y, p), raw=in_chunks(y, raw), **columns, **settings)
    return reliability_report(y, p, raw=raw, segments={"rare": rare}, **settings), merged


def test_numbers_are_those_of_the_rows(both):
    rows, merged = both
    assert merged.exact
    assert merged.metrics.keys() == rows.metrics.keys()
    random = {"ece_null_mean", "ece_null_p95"}  # drawn in another order
    for ours, theirs in ((merged, rows), (merged.raw, rows.raw)):
        for key, value in theirs.metrics.items():
            assert ours.metrics[key] == pytest.approx(value, rel=0.15 if key in random else 1e-9, abs=1e-12), key
    assert (merged.n, merged.weighted, merged.classes) == (rows.n, rows.weighted, rows.classes)
    assert merged.histogram == rows.histogram
    np.testing.assert_allclose(merged.curve.mean_observed, rows.curve.mean_observed)
    np.testing.assert_allclose(merged.risk_coverage.risk, rows.risk_coverage.risk)


def test_intervals_are_those_of_the_rows(both):
    rows, merged = both
    assert merged.intervals.keys() == rows.intervals.keys()
    for key, interval in rows.intervals.items():
        width = interval.high - interval.low
        assert merged.intervals[key] == pytest.approx(interval, abs=0.2 * width), key
        assert merged.intervals[key].low <= merged.metrics[key] <= merged.intervals[key].high


def test_segments(both):
    rows, merged = both
    assert [(part.column, part.value, part.n) for part in merged.segments] == [
        ("rare", "rest", 1995),
        ("rare", "tiny", 5),
    ]
    for ours, theirs in zip(merged.segments, rows.segments, strict=True):
        assert ours.metrics.keys() == theirs.metrics.keys()
        for key in ("ece", "roc_auc"):
            assert ours.metrics.get(key) == pytest.approx(theirs.metrics.get(key), abs=1e-12), key


def test_auc_is_that_of_the_raw_score(binary_rows):
    y, p, raw = binary_rows["y"], np.round(binary_rows["proba"], 1), binary_rows["raw"]  # the calibrator made ties
    merged = report_from_statistics(in_chunks(y, p), raw=in_chunks(y, raw))
    assert merged.metrics["roc_auc"] == pytest.approx(roc_auc(y, raw), abs=1e-12)
    assert merged.metrics["roc_auc"] > roc_auc(y, p) + 1e-4
    assert merged.intervals["roc_auc"] == merged.raw.intervals["roc_auc"]


def test_reads_back(both):
    assert ReliabilityReport.from_dict(both[1].to_dict()) == both[1]


def test_many_scores_are_rounded_and_the_report_says_so():
    rng = np.random.default_rng(5)
    p = rng.beta(0.8, 2.0, 60_000)
    y = (rng.random(60_000) < p**1.2).astype(int)
    rows, merged = reliability_report(y, p), report_from_statistics(in_chunks(y, p))
    assert not merged.exact
    for key in ("ece", "brier", "log_loss", "mcb", "dsc", "roc_auc", "aurc", "e_aurc", "augrc", "accuracy"):
        assert merged.metrics[key] == pytest.approx(rows.metrics[key], abs=2e-4), key


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"policy": AbstainPolicy(0.5, segment_thresholds={"a": 0.9})}, "policy must have one threshold"),
        ({"raw": ScoreStatistics.from_rows([0, 1, 1], [0.1, 0.2, 0.9])}, "raw must be of the same 2 rows, got 3"),
        ({"raw": TWO, "segments": {"k": {"a": TWO}}}, "raw_segments must hold the rows of segments"),
        ({"segments": {"k": {"a": TWO}}, "raw_segments": {"k": {"a": TWO}}}, "raw_segments must hold the rows of"),
        ({"classes": ["a", "b", "c"]}, "classes must name the 2 classes"),
        ({"confidence": 2}, "confidence must be a number strictly between 0 and 1"),
    ],
)
def test_bad_arguments(arguments, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        report_from_statistics(ScoreStatistics.from_rows([0, 1], [0.2, 0.7]), **arguments)


def test_nothing_seen_is_refused():
    with pytest.raises(InvalidInputError, match="must have seen a row"):
        report_from_statistics(ScoreStatistics())

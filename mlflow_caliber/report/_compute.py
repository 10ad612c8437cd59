"""Computes a report: rows are checked once, then every metric reads the same checked rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlflow_caliber import metrics
from mlflow_caliber._validation import FloatArray, check_class_names, check_unit_interval
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.report._measure import Settings, change_of, intervals_of, measure, measure_slice
from mlflow_caliber.report._rows import Rows, Slices, check_rows, check_segments
from mlflow_caliber.report._state import HISTOGRAM_BINS
from mlflow_caliber.report._values import ReliabilityReport, SegmentReport

MAX_CURVE_POINTS = 200


def reliability_report(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    raw: ArrayLike | None = None,
    classes: Sequence[Any] | None = None,
    policy: AbstainPolicy | None = None,
    policy_segment: ArrayLike | None = None,
    segments: Mapping[str, ArrayLike] | pd.DataFrame | None = None,
    sample_weight: ArrayLike | None = None,
    n_bins: int = 10,
    strategy: Literal["quantile", "uniform"] = "quantile",
    confidence: float = 0.95,
    random_state: int = 0,
) -> ReliabilityReport:
    """Measure how far class probabilities can be relied on, and how far the measurement can.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        What happened: 0 or 1, or with more than two classes the index of the class, 0 to K - 1.
    y_proba : array-like of shape (n,) or (n, K)
        Probability of class 1, or of every class (rows sum to 1). Two columns are read as binary: column 1 is class 1.
    raw : array-like of the shape of ``y_proba``, optional
        The probabilities before calibration. They get a report of their own (``report.raw``), and the AUC is computed
        on them: ties made by a calibrator such as isotonic regression say nothing about the ranking of the model.
    classes : sequence, optional
        Names in the order of the probabilities; by default the indices. Of two, the second is the positive one.
    policy : AbstainPolicy, optional
        Decides which rows are answered, by its thresholds on the confidence. Without a policy every row is answered.
    policy_segment : array-like of shape (n,), optional
        The segment of each row that the policy's ``segment_thresholds`` go by; without it its ``threshold`` rules.
    segments : mapping of str to array-like of shape (n,), or DataFrame, optional
        Columns to slice the rows by, one report per value. At most 1000 distinct values a column.
    sample_weight : array-like of shape (n,), optional
        Rows count in this proportion; rows of weight 0 are left out and equal weights are none.
    n_bins : int, default=10
        Bins of the calibration error and of the curve.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of equal mass or of equal width (``ece_upper`` is always about equal mass).
    confidence : float, default=0.95
        Level of the intervals, in (0, 1); ``ece_upper`` is always a 95 % bound.
    random_state : int, default=0
        Seed of the resampling behind some intervals, the noise floor and the band of the CORP curve. The metrics
        themselves are deterministic.

    Returns
    -------
    ReliabilityReport
        With two classes, calibration is about the probability of class 1, the prediction is class 1 if and only if
        that exceeds 1/2, and the confidence is max(p, 1 - p). With more, calibration is about the confidence in the
        predicted (most probable) class: the top-label error. A metric that cannot be computed on these rows is never
        NaN: it is absent from ``metrics`` and its reason stands in ``not_computed``.

    Raises
    ------
    InvalidInputError
        If arrays are empty, not finite, out of range or of different lengths, or a segment column has too many values.

    Examples
    --------
    >>> report = reliability_report([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], n_bins=2)
    >>> report.metrics["roc_auc"]
    0.75
    >>> report.intervals["accuracy"]  # four rows prove little
    Interval(low=0.194, high=0.994)
    >>> sliced = reliability_report([0, 1], [0.2, 0.7], segments={"region": ["north", "south"]})
    >>> sliced.segments[0].not_computed["roc_auc"]
    'roc_auc needs both classes, got only class 0 in 1 rows.'
    """
    rows, kept = check_rows(y_true, y_proba, raw, sample_weight, policy_segment)
    slices = check_segments({} if segments is None else segments, kept)
    level = check_unit_interval(confidence, "confidence", open_ends=True)
    settings = Settings(check_class_names(classes, rows.n_classes), n_bins, strategy, policy, level, random_state)
    after = _report(rows, slices, settings)
    if raw is None:
        return after
    before = _report(replace(rows, proba=rows.ranking), slices, settings)
    return replace(after, raw=before, change=change_of(rows, settings))


def _report(rows: Rows, slices: Slices, settings: Settings) -> ReliabilityReport:
    outcome, probability = rows.event
    values, not_computed = measure(rows, settings)
    weighted: dict[str, Any] = {"sample_weight": rows.weight}
    coverage = metrics.risk_coverage_curve(rows.confidence, rows.correct, **weighted)
    return ReliabilityReport(
        kind="binary" if rows.binary else "multiclass",
        n=rows.y.size,
        weighted=rows.weight is not None,
        classes=settings.classes,
        n_bins=settings.n_bins,
        strategy=settings.strategy,
        metrics=values,
        not_computed=not_computed,
        intervals=intervals_of(rows, settings, values),
        confidence=settings.confidence,
        change={},
        curve=_curve(rows, settings),
        corp=metrics.corp_curve(outcome, probability, **settings.sampling, **weighted).downsample(MAX_CURVE_POINTS),
        histogram=_histogram(probability),
        risk_coverage=coverage.downsample(MAX_CURVE_POINTS),
        per_class={} if rows.binary else _per_class(rows, settings),
        segments=tuple(_segments(rows, slices, settings)),
        policy=None if settings.policy is None else settings.policy.to_dict(),
    )


def _histogram(probability: FloatArray) -> tuple[int, ...]:
    # Not bins=100 with a range: the edges would be linspace's, whose .57 lies above .57.
    counts = np.histogram(probability, bins=np.arange(HISTOGRAM_BINS + 1) / HISTOGRAM_BINS)[0]
    return tuple(counts.tolist())


def _curve(rows: Rows, settings: Settings) -> metrics.ReliabilityCurve:
    return metrics.reliability_curve(
        *rows.event, sample_weight=rows.weight, confidence=settings.confidence, **settings.binning
    )


def _per_class(rows: Rows, settings: Settings) -> dict[str, dict[str, float]]:
    errors = metrics.classwise_calibration_error(rows.y, rows.proba, sample_weight=rows.weight, **settings.binning)
    shares = np.bincount(rows.y, weights=rows.weight, minlength=rows.n_classes)
    counts = np.bincount(rows.y, minlength=rows.n_classes)
    return {
        label: {"ece": float(errors[k]), "prevalence": float(shares[k] / shares.sum()), "n": int(counts[k])}
        for k, label in enumerate(settings.classes)
    }


def _segments(rows: Rows, slices: Slices, settings: Settings) -> Iterator[SegmentReport]:
    for column, names in slices.items():
        values = sorted(set(names))
        position = {value: code for code, value in enumerate(values)}
        # By Python's equality: pandas takes strings of dtype object for equal that differ behind a NUL.
        codes = np.fromiter(map(position.__getitem__, names), np.intp, len(names))
        for code, value in enumerate(values):
            part = rows.take(np.flatnonzero(codes == code))
            found = measure_slice(part, settings)
            yield SegmentReport(column, str(value), part.y.size, *found, _curve(part, settings))

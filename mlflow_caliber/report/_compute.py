"""Computes a report: rows are checked once, then every metric reads the same checked rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber import metrics
from mlflow_caliber._validation import (
    FloatArray,
    check_binary_labels,
    check_class_names,
    check_column,
    check_label_indices,
    check_probability_matrix,
    check_same_length,
    check_scores,
    check_weights,
)
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.report._state import HISTOGRAM_BINS
from mlflow_caliber.report._values import ReliabilityReport, SegmentReport

MAX_CURVE_POINTS = 200
MAX_SEGMENTS_PER_COLUMN = 1000
MISSING = "(missing)"

_Slices = dict[str, NDArray[np.object_]]
_Tasks = dict[tuple[str, ...], Callable[[], Any]]

_BINARY = (metrics.brier_score, metrics.log_loss, metrics.brier_decomposition)
_MULTICLASS = (metrics.multiclass_brier_score, metrics.multiclass_log_loss, metrics.multiclass_brier_decomposition)


def reliability_report(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    raw: ArrayLike | None = None,
    classes: Sequence[Any] | None = None,
    policy: AbstainPolicy | None = None,
    segments: Mapping[str, ArrayLike] | pd.DataFrame | None = None,
    sample_weight: ArrayLike | None = None,
    n_bins: int = 10,
    strategy: Literal["quantile", "uniform"] = "quantile",
    random_state: int = 0,
) -> ReliabilityReport:
    """Measure how far class probabilities can be relied on.

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
        Decides which rows are answered, by its one ``threshold`` on the confidence (thresholds per segment are not
        applied). Without a policy every row is answered.
    segments : mapping of str to array-like of shape (n,), or DataFrame, optional
        Columns to slice the rows by, one report per value. At most 1000 distinct values a column.
    sample_weight : array-like of shape (n,), optional
        Rows count in this proportion; rows of weight 0 are left out and equal weights are none. The risk-coverage
        curve counts every row once; under weights that differ, the areas under it (``aurc``, ``e_aurc``, ``augrc``)
        are not computed.
    n_bins : int, default=10
        Bins of the calibration error and of the curve.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of equal mass or of equal width (``ece_upper`` is always about equal mass).
    random_state : int, default=0
        Seed of whatever is drawn at random. Every number of today's report is deterministic.

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
    >>> sliced = reliability_report([0, 1], [0.2, 0.7], segments={"region": ["north", "south"]})
    >>> sliced.segments[0].not_computed["roc_auc"]
    'roc_auc needs both classes, got only class 0 in 1 rows.'
    """
    rows, kept = _check_rows(y_true, y_proba, raw, sample_weight)
    names = check_class_names(classes, rows.n_classes)
    slices = _check_segments({} if segments is None else segments, kept)
    settings = _Settings(n_bins, strategy, policy)
    after = _report(rows, names, slices, settings)
    if raw is None:
        return after
    return replace(after, raw=_report(replace(rows, proba=rows.ranking), names, slices, settings))


@dataclass(frozen=True)
class _Settings:
    n_bins: int
    strategy: Literal["quantile", "uniform"]
    policy: AbstainPolicy | None


@dataclass(frozen=True)
class _Rows:
    """Checked rows; ``ranking`` holds the probabilities that the AUC is computed on."""

    y: NDArray[Any]
    proba: FloatArray
    ranking: FloatArray
    weight: FloatArray | None

    @property
    def binary(self) -> bool:
        return self.proba.ndim == 1

    @property
    def n_classes(self) -> int:
        return 2 if self.binary else self.proba.shape[1]

    @property
    def confidence(self) -> FloatArray:
        top: FloatArray = np.maximum(self.proba, 1.0 - self.proba) if self.binary else self.proba.max(axis=1)
        return top

    @property
    def correct(self) -> FloatArray:
        guess = self.proba > 0.5 if self.binary else self.proba.argmax(axis=1)
        return np.asarray(guess == self.y, dtype=np.float64)

    @property
    def event(self) -> tuple[FloatArray, FloatArray]:
        """What calibration is about: the outcome of one event per row and its stated probability."""
        return (self.y, self.proba) if self.binary else (self.correct, self.confidence)

    def take(self, index: NDArray[Any]) -> _Rows:
        weight = None if self.weight is None else self.weight[index]
        return _Rows(self.y[index], self.proba[index], self.ranking[index], weight)


def _check_rows(
    y_true: ArrayLike, y_proba: ArrayLike, raw: ArrayLike | None, sample_weight: ArrayLike | None
) -> tuple[_Rows, NDArray[np.bool_]]:
    """The rows that count, and which of the given ones they are."""
    proba = _check_proba(y_proba, "y_proba")
    ranking = proba if raw is None else _check_proba(raw, "raw")
    if ranking.shape != proba.shape:
        raise InvalidInputError(f"raw must have the shape of y_proba, got {ranking.shape} for {proba.shape}.")
    y = check_binary_labels(y_true) if proba.ndim == 1 else check_label_indices(y_true, proba.shape[1])
    n = check_same_length(y_true=y, y_proba=proba)
    weight = check_weights(sample_weight, n)
    kept = np.ones(n, dtype=bool) if weight is None else weight > 0.0
    if weight is not None and np.ptp(weight[kept]) == 0.0:
        weight = None  # weights are relative, so equal ones say nothing
    return _Rows(y, proba, ranking, weight).take(kept), kept


def _check_proba(proba: ArrayLike, name: str) -> FloatArray:
    if np.ndim(proba) == 1:
        return check_scores(proba, name)
    matrix = check_probability_matrix(proba, name)
    return np.ascontiguousarray(matrix[:, 1]) if matrix.shape[1] == 2 else matrix


def _check_segments(segments: Mapping[str, ArrayLike] | pd.DataFrame, kept: NDArray[np.bool_]) -> _Slices:
    """Per column the name of each kept row's segment."""
    slices = {}
    for column, values in segments.items():
        names = _segment_names(check_column(values, f"segments[{column!r}]", kept.size)[kept])
        n_distinct = len(set(names))
        if n_distinct > MAX_SEGMENTS_PER_COLUMN:
            raise InvalidInputError(
                f"segments[{column!r}] must have at most {MAX_SEGMENTS_PER_COLUMN} distinct values, got {n_distinct}: "
                "cut it into ranges or groups first."
            )
        slices[str(column)] = names
    return slices


def _segment_names(values: NDArray[np.object_]) -> NDArray[np.object_]:
    names = np.array([str(value) for value in values], dtype=object)
    names[pd.isna(values)] = MISSING
    return names


def _report(rows: _Rows, classes: tuple[str, ...], slices: _Slices, settings: _Settings) -> ReliabilityReport:
    outcome, probability = rows.event
    values, not_computed = _measure(rows, settings)
    binning: dict[str, Any] = {"n_bins": settings.n_bins, "strategy": settings.strategy}
    return ReliabilityReport(
        kind="binary" if rows.binary else "multiclass",
        n=rows.y.size,
        weighted=rows.weight is not None,
        classes=classes,
        n_bins=settings.n_bins,
        strategy=settings.strategy,
        metrics=values,
        not_computed=not_computed,
        curve=metrics.reliability_curve(outcome, probability, sample_weight=rows.weight, **binning),
        histogram=tuple(np.histogram(probability, bins=HISTOGRAM_BINS, range=(0.0, 1.0))[0].tolist()),
        risk_coverage=metrics.risk_coverage_curve(rows.confidence, rows.correct).downsample(MAX_CURVE_POINTS),
        per_class={} if rows.binary else _per_class(rows, classes, binning),
        segments=tuple(_segments(rows, slices, settings)),
        policy=None if settings.policy is None else settings.policy.to_dict(),
    )


def _per_class(rows: _Rows, classes: tuple[str, ...], binning: dict[str, Any]) -> dict[str, dict[str, float]]:
    errors = metrics.classwise_calibration_error(rows.y, rows.proba, sample_weight=rows.weight, **binning)
    return {
        label: {"ece": float(errors[k]), "prevalence": _mean(rows.y == k, rows.weight), "n": int((rows.y == k).sum())}
        for k, label in enumerate(classes)
    }


def _segments(rows: _Rows, slices: _Slices, settings: _Settings) -> Iterator[SegmentReport]:
    for column, names in slices.items():
        values = sorted(set(names))
        position = {value: code for code, value in enumerate(values)}
        # By Python's equality: pandas takes strings of dtype object for equal that differ behind a NUL.
        codes = np.fromiter(map(position.__getitem__, names), np.intp, len(names))
        for code, value in enumerate(values):
            part = rows.take(np.flatnonzero(codes == code))
            yield SegmentReport(column, str(value), part.y.size, *_measure(part, settings))


def _measure(rows: _Rows, settings: _Settings) -> tuple[dict[str, float], dict[str, str]]:
    """Every metric that these rows allow, and for each other one why not."""
    values: dict[str, float] = {}
    not_computed: dict[str, str] = {}
    for keys, compute in {**_calibration(rows, settings), **_scores(rows), **_selective(rows, settings)}.items():
        try:
            result = compute()
        except InvalidInputError as error:
            not_computed.update(dict.fromkeys(keys, str(error)))
        else:
            values.update(zip(keys, map(float, np.atleast_1d(result)), strict=True))
    return values, not_computed


def _calibration(rows: _Rows, settings: _Settings) -> _Tasks:
    about = partial(partial, n_bins=settings.n_bins, sample_weight=rows.weight)
    return {
        ("ece",): about(metrics.expected_calibration_error, *rows.event, strategy=settings.strategy),
        ("ece_upper",): about(metrics.expected_calibration_error_upper, *rows.event),
    }


def _scores(rows: _Rows) -> _Tasks:
    brier, log_loss, decomposition = _BINARY if rows.binary else _MULTICLASS
    return {
        ("brier",): partial(brier, rows.y, rows.proba, sample_weight=rows.weight),
        ("log_loss",): partial(log_loss, rows.y, rows.proba, sample_weight=rows.weight),
        ("mcb", "dsc", "unc"): partial(decomposition, rows.y, rows.proba, sample_weight=rows.weight),
        ("roc_auc",): partial(_auc, rows),
    }


def _selective(rows: _Rows, settings: _Settings) -> _Tasks:
    correct, mean = rows.correct, partial(_mean, weight=rows.weight)
    answered = np.ones(correct.size, bool) if settings.policy is None else ~settings.policy.apply(rows.confidence)
    tasks: _Tasks = {
        ("aurc",): partial(_area, metrics.aurc, rows),
        ("e_aurc",): partial(_area, metrics.e_aurc, rows),
        ("augrc",): partial(_area, metrics.augrc, rows),
        ("coverage",): partial(mean, answered),
        ("selective_risk",): partial(_selective_risk, answered, correct, rows.weight),
        ("abstain_rate",): partial(mean, ~answered),
        ("accuracy",): partial(mean, correct),
    }
    return {**tasks, ("prevalence",): partial(mean, rows.y)} if rows.binary else tasks


def _auc(rows: _Rows) -> float:
    if rows.binary:
        return metrics.roc_auc(rows.y, rows.ranking, sample_weight=rows.weight)
    absent = rows.n_classes - np.unique(rows.y).size
    if absent:
        raise OneClassError(
            f"roc_auc needs a row of every class, got none of {absent} of the {rows.n_classes} classes."
        )
    return metrics.multiclass_roc_auc(rows.y, rows.ranking, sample_weight=rows.weight)


def _area(area: Callable[[FloatArray, FloatArray], float], rows: _Rows) -> float:
    if rows.weight is not None:
        raise InvalidInputError(f"{area.__name__} needs rows that count once each, got rows of different weights.")
    return area(rows.confidence, rows.correct)


def _selective_risk(answered: NDArray[np.bool_], correct: FloatArray, weight: FloatArray | None) -> float:
    if not answered.any():
        raise InvalidInputError(f"selective_risk needs an answered row, got {answered.size} rows, all withheld.")
    return _mean(1.0 - correct[answered], None if weight is None else weight[answered])


def _mean(values: NDArray[Any], weight: FloatArray | None) -> float:
    return float(np.average(values, weights=weight))

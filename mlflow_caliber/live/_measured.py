"""From a sample of labelled rows to the numbers of a report, as plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mlflow_caliber.live._tallies import Floats, Ints
from mlflow_caliber.metrics import Interval, ReliabilityCurve, ScoreStatistics

__all__ = [
    "ECE_RESAMPLES",
    "Grouped",
    "Sample",
    "auc_of",
    "bins_of",
    "corp_of",
    "full_side",
    "quick_side",
    "risk_coverage_of",
]

_HALF = int(ScoreStatistics.cell_of([0.5])[0])
_POINTS = 200
ECE_RESAMPLES = 100
_QUICK = (
    *("ece", "ece_upper", "ece_l2_debiased", "calibration_p"),
    *("brier", "log_loss", "mcb", "dsc", "unc", "aurc", "e_aurc", "augrc", "accuracy", "prevalence"),
)
_QUICK_INTERVALS = ("ece", "accuracy", "prevalence")


@dataclass(frozen=True)
class Grouped:
    """The labelled rows of one kind, in groups of neighbouring cells, by increasing score.

    Attributes
    ----------
    first, last : ndarray of shape (m,)
        The cells of each group.
    sums : ndarray of shape (2, 3, m)
        By stratum: rows, positives, and the sum of the probabilities.
    losses : ndarray of shape (2, 2)
        By stratum: the sums of squared error and log loss.
    """

    first: Ints
    last: Ints
    sums: Floats
    losses: Floats

    def is_like(self, other: Grouped) -> bool:
        """Whether these are the same rows with the same probabilities."""
        return np.array_equal(self.losses, other.losses) and np.array_equal(self.sums, other.sums)

    def statistics(self, weights: Sequence[float]) -> ScoreStatistics:
        """The statistics when a row of each stratum weighs so much."""
        weight = np.array(weights)
        rows, positive, predicted = self.sums.sum(axis=0) if (weight == 1.0).all() else _of_rows(self.sums, weight)
        given: dict[str, Floats] = {}
        total = rows
        if not (weight == 1.0).all():
            total = weight @ self.sums[:, 0]
            given = {
                "weight": total,
                "weight_sq": weight**2 @ self.sums[:, 0],
                "positive_sq": weight**2 @ self.sums[:, 1],
            }
        cell = self.first.copy()
        mixed = self.first != self.last
        if mixed.any():
            mean = np.clip(predicted[mixed] / total[mixed], 0.0, 1.0)
            cell[mixed] = np.clip(ScoreStatistics.cell_of(mean), self.first[mixed], self.last[mixed])
        # (A sum from which rows were taken back may be a rounding below zero.)
        squared_error, log_loss = np.maximum(weight @ self.losses, 0.0)
        return ScoreStatistics.from_cells(
            cell,
            rows=rows,
            positive=positive,
            predicted=predicted,
            squared_error=[squared_error],
            log_loss=[log_loss],
            **given,
        )


@dataclass(frozen=True)
class Sample:
    """The labelled rows of a window, by kind, and what a row of each stratum weighs.

    ``n`` are labelled rows by stratum; ``notes`` are sentences about what they do not speak for.
    """

    rows: dict[str, Grouped]
    weights: tuple[float, float]
    n: tuple[int, int]
    n_predictions: int
    n_abstained: int
    top_label: bool
    notes: tuple[str, ...] = field(default=())

    @property
    def n_labelled(self) -> int:
        """Rows."""
        return sum(self.n)

    @cached_property
    def served(self) -> ScoreStatistics:
        """Of what was served."""
        return self.rows["served"].statistics(self._weights)

    @cached_property
    def shipped(self) -> ScoreStatistics:
        """Of the shipped calibrator, on the same rows; the very same as of what was served when it was served."""
        same = self.rows["base"].is_like(self.rows["served"])
        return self.served if same else self.rows["base"].statistics(self._weights)

    @cached_property
    def raw(self) -> ScoreStatistics:
        """Of the model itself, on the same rows."""
        same = self.rows["raw"].is_like(self.rows["base"])
        return self.shipped if same else self.rows["raw"].statistics(self._weights)

    @property
    def answered_wrong(self) -> int:
        """How many of the labelled rows that were answered were answered wrongly."""
        served = self.rows["served"]
        rows, positive, _ = served.sums[0]
        if self.top_label:
            return round(float((rows - positive).sum()))
        # The answer is the positive class if and only if its probability exceeds 1/2.
        said_yes = served.first > _HALF
        return round(float(np.where(said_yes, rows - positive, positive).sum()))

    @property
    def _weights(self) -> tuple[float, float]:
        weigh_alike = len({w for w, n in zip(self.weights, self.n, strict=True) if n}) < 2
        return (1.0, 1.0) if weigh_alike else self.weights


def quick_side(statistics: ScoreStatistics, *, top_label: bool) -> tuple[dict[str, float], dict[str, str], Any]:
    """Metrics, why others are missing, and intervals: what takes a few milliseconds, however many rows there are."""
    found = statistics.measure(top_label=top_label, only=_QUICK)
    spread = statistics.intervals(top_label=top_label, only=_QUICK_INTERVALS, n_resamples=ECE_RESAMPLES)
    return found.metrics, found.not_computed, _intervals(spread, found.metrics)


def full_side(statistics: ScoreStatistics, *, top_label: bool) -> tuple[dict[str, float], dict[str, str], Any]:
    """The same with all metrics and intervals: what takes a fifth of a second."""
    found = statistics.measure(top_label=top_label)
    return found.metrics, found.not_computed, _intervals(statistics.intervals(top_label=top_label), found.metrics)


def bins_of(statistics: ScoreStatistics) -> list[dict[str, Any]]:
    """The reliability curve: ten bins of about equal mass, each with Wilson's interval of what was observed."""
    curve = statistics.reliability_curve()
    return [_bin(curve, k) for k in range(len(curve))]


def corp_of(statistics: ScoreStatistics) -> list[dict[str, float]]:
    """The reliability curve without bins."""
    curve = statistics.corp_curve().downsample(_POINTS // 2)
    columns = (curve.probability, curve.recalibrated, curve.band_low, curve.band_high, curve.weight)
    names = ("predicted", "observed", "band_low", "band_high", "n")
    return _points(names, columns)


def risk_coverage_of(statistics: ScoreStatistics, *, top_label: bool, threshold: float | None) -> dict[str, Any]:
    """The error rate against the share of answers given, and where the policy's threshold lies on it."""
    curve = statistics.risk_coverage_curve(top_label=top_label).downsample(_POINTS)
    points = _points(("coverage", "risk", "threshold"), (curve.coverage, curve.risk, curve.threshold))
    if threshold is None:
        return {"points": points, "policy": None}
    at = statistics.measure(top_label=top_label, threshold=threshold, only=("coverage", "selective_risk")).metrics
    policy = {"threshold": threshold, "coverage": at["coverage"], "risk": at.get("selective_risk")}
    return {"points": points, "policy": policy}


def auc_of(raw: ScoreStatistics) -> tuple[float | None, list[float] | None, str]:
    """The AUC of the model itself, which no calibrator is to change; its interval, or why there is none."""
    found = raw.measure(only=("roc_auc",))
    if "roc_auc" not in found.metrics:
        return None, None, found.not_computed["roc_auc"]
    low, high = raw.intervals(only=("roc_auc",))["roc_auc"]
    return found.metrics["roc_auc"], [low, high], ""


def _of_rows(sums: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Rows as they are, positives and probabilities weighted."""
    return sums[:, 0].sum(axis=0), weight @ sums[:, 1], weight @ sums[:, 2]


def _intervals(found: dict[str, Interval], metrics: dict[str, float]) -> dict[str, list[float]]:
    return {key: [low, high] for key, (low, high) in found.items() if key in metrics}


def _bin(curve: ReliabilityCurve, k: int) -> dict[str, Any]:
    return {
        "low": float(curve.lower_edge[k]),
        "high": float(curve.upper_edge[k]),
        "n": int(curve.count[k]),
        "predicted": float(curve.mean_predicted[k]),
        "observed": float(curve.mean_observed[k]),
        "observed_low": float(curve.interval_low[k]),
        "observed_high": float(curve.interval_high[k]),
    }


def _points(names: Sequence[str], columns: Sequence[Floats]) -> list[dict[str, float]]:
    rounded = [np.round(column, 6).tolist() for column in columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*rounded, strict=True)]

"""A metric of some rows with its sampling error, held against a bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from mlflow_caliber import metrics
from mlflow_caliber._cells import bins_of
from mlflow_caliber._validation import FloatArray, check_counted_labels
from mlflow_caliber.evidence import Rows, report_like
from mlflow_caliber.gate._outcome import Verdict
from mlflow_caliber.gate.policy import Bound
from mlflow_caliber.report import ReliabilityReport

_BINS = 10  # of the calibration error: not the evaluation's, which could choose one bin and look perfect
_MOST_ROWS = 10**9


@dataclass(frozen=True)
class Estimate:
    """A value, and the two one-sided bounds of it; ``centre`` is the value without what noise adds to it."""

    value: float
    centre: float
    low: float
    high: float

    def verdict(self, rule: Bound) -> Verdict:
        """Pass if the bounds are inside the range, fail if they are both outside on one side."""
        least, most = _ends(rule)
        if least <= self.low and self.high <= most:
            return "pass"
        return "fail" if self.low > most or self.high < least else "inconclusive"

    def rows_factor(self, rule: Bound) -> float | None:
        """By how much more rows would decide, the interval shrinking as one over the root of their number."""
        least, most = _ends(rule)
        above, below = self.high - self.centre, self.centre - self.low
        if self.centre > most:
            ends = [(below, self.centre - most)]
        elif self.centre < least:
            ends = [(above, least - self.centre)]
        else:
            ends = [(above, most - self.centre), (below, self.centre - least)]
        if any(distance <= 0.0 for _, distance in ends):
            return None
        return max((reach / distance) ** 2 for reach, distance in ends)


def rows_needed(n: int, factors: list[float | None]) -> int | None:
    """So many rows in total; None where no number of them is in sight."""
    known = [factor for factor in factors if factor is not None and n * factor <= _MOST_ROWS]
    return max(math.ceil(n * max(known)), n + 1) if factors and len(known) == len(factors) else None


def estimate(key: str, rows: Rows, like: ReliabilityReport, confidence: float) -> Estimate | str:
    """The metric of these rows, or why there is none; each bound is one-sided, of the given confidence."""
    if key == "ece":
        return _calibration_error(rows, confidence)
    report = report_like(like, _ranked(key, rows), confidence=2.0 * confidence - 1.0)
    if key not in report.metrics or key not in report.intervals:
        return report.not_computed.get(key, "the evaluation does not hold it")
    low, high = report.intervals[key]
    return Estimate(report.metrics[key], report.metrics[key], low, high)


def _ranked(key: str, rows: Rows) -> Rows:
    """As little as the metric is made of: the ranking before calibration, or the probabilities after it."""
    return replace(rows, p=rows.p if rows.raw is None or key != "roc_auc" else rows.raw, raw=None, segments={})


def _ends(rule: Bound) -> tuple[float, float]:
    return (-math.inf if rule.min is None else rule.min), (math.inf if rule.max is None else rule.max)


def _calibration_error(rows: Rows, confidence: float) -> Estimate:
    """The plug-in error and its bounds; it never lies below the truth on average, so the upper one needs no more.

    From the lower bound is taken, besides, what a calibrated model of this size would show.
    """
    outcome, p = _event(rows)
    bins = bins_of(*check_counted_labels(outcome, p, rows.weight), _BINS, "quantile")
    shrunk = (bins.effective_rows * bins.mean_observed + 1.0) / (bins.effective_rows + 2.0)
    variance = shrunk * (1.0 - shrunk) / bins.effective_rows
    error = float(bins.share @ np.abs(bins.mean_predicted - bins.mean_observed))
    noise = float(bins.share @ np.sqrt(2.0 * variance / np.pi))
    reach = float(special.ndtri(confidence)) * math.sqrt(float(bins.share**2 @ variance))
    debiased = metrics.expected_calibration_error(outcome, p, n_bins=_BINS, debias=True, sample_weight=rows.weight)
    return Estimate(
        value=error, centre=max(debiased, 0.0), low=max(error - noise - reach, 0.0), high=min(error + reach, 1.0)
    )


def _event(rows: Rows) -> tuple[FloatArray, FloatArray]:
    """What calibration is about: of more than two classes, whether the predicted one is right."""
    if rows.p.ndim == 1:
        return np.asarray(rows.y, dtype=np.float64), rows.p
    return np.asarray(rows.p.argmax(axis=1) == rows.y, dtype=np.float64), np.asarray(rows.p.max(axis=1))

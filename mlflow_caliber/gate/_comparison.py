"""Two models on the same rows: the paired difference of a proper score, with its confidence bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.evidence import Rows
from mlflow_caliber.exceptions import EvidenceError


@dataclass(frozen=True)
class PairedDifference:
    """
    The mean of score(candidate) - score(champion) over the rows; below zero the candidate is better.

    Parameters
    ----------
    mean : float
        The (weighted) mean difference.
    standard_error : float
        Of the mean.
    n : int
        The number of rows that have a weight.
    confidence : float
        Of each bound on its own.

    Examples
    --------
    >>> difference = PairedDifference(mean=0.001, standard_error=0.002, n=1000, confidence=0.95)
    >>> round(difference.upper, 5), difference.rows_to_decide(0.002)
    (0.00429, 10823)
    """

    mean: float
    standard_error: float
    n: int
    confidence: float

    @property
    def lower(self) -> float:
        """The one-sided lower bound."""
        return self.mean - self._reach

    @property
    def upper(self) -> float:
        """The one-sided upper bound."""
        return self.mean + self._reach

    @property
    def _reach(self) -> float:
        return NormalDist().inv_cdf(self.confidence) * self.standard_error

    def rows_to_decide(self, margin: float) -> int | None:
        """The rows after which a bound would reach the margin if the mean stayed; None if it lies on the margin."""
        distance = abs(margin - self.mean)
        return None if distance == 0.0 else math.ceil(self.n * (self._reach / distance) ** 2)


def paired_difference(metric: str, candidate: Rows, champion: Rows, confidence: float) -> PairedDifference:
    """
    Compare two models row by row in one of :data:`ROW_SCORES`.

    The bounds are normal: mean ± z(confidence) · SE with SE² = n/(n-1) · Σ w²(d - d̄)² / (Σ w)², n the rows that have
    a weight, which for equal weights is the usual s²/n.

    Raises
    ------
    EvidenceError
        If the rows of the two are not the same, or if there are fewer than two.
    """
    _check_same_rows(candidate, champion)
    difference = ROW_SCORES[metric](candidate) - ROW_SCORES[metric](champion)
    weight = np.ones(difference.size) if candidate.weight is None else candidate.weight
    n = int((weight > 0.0).sum())
    if n < 2:
        raise EvidenceError(f"A paired comparison must have at least two rows with a weight, got {n}.")
    mean = float(np.average(difference, weights=weight))
    spread = float((weight**2 * (difference - mean) ** 2).sum()) * n / (n - 1)
    return PairedDifference(mean, math.sqrt(spread) / float(weight.sum()), n, confidence)


def _check_same_rows(candidate: Rows, champion: Rows) -> None:
    if candidate.p.shape != champion.p.shape or not np.array_equal(candidate.y, champion.y):
        raise EvidenceError(
            "A paired comparison must have the same rows and classes on both sides, "
            f"got probabilities of shape {candidate.p.shape} and {champion.p.shape}, or labels that differ."
        )


def _brier(rows: Rows) -> FloatArray:
    if rows.p.ndim == 1:
        return np.asarray((rows.p - rows.y) ** 2)
    return np.asarray(((rows.p - np.eye(rows.p.shape[1])[rows.y]) ** 2).sum(axis=1))


def _log_loss(rows: Rows) -> FloatArray:
    proba = np.column_stack((1.0 - rows.p, rows.p)) if rows.p.ndim == 1 else rows.p
    chosen = proba[np.arange(len(rows.y)), rows.y]
    # Clipped as in metrics.log_loss, so that one certain and wrong row is dear but not infinite.
    return np.asarray(-np.log(np.maximum(chosen, np.finfo(np.float64).eps)))


ROW_SCORES: Mapping[str, Callable[[Rows], FloatArray]] = {"brier": _brier, "log_loss": _log_loss}
"""The proper scores that are a mean over rows, so that two models can be compared in pairs."""

"""Rows summed into cells: tie groups (rows of one score) and, of those or of single rows, bins.

What depends on the order of scores reads tie groups, never single rows: so no metric can depend on the order of rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray

__all__ = ["Bins", "Cells", "bins_of", "single_rows", "tie_groups"]

# A tie group's middle that is meant to lie on a bin boundary must not fall below it by the rounding of a running sum.
_BOUNDARY_TOLERANCE = 1e-9
_TINY = np.finfo(np.float64).tiny


class Cells(NamedTuple):
    """Per cell: its score, rows, and the sums of weights, of squared weights and of the weights of positives."""

    value: FloatArray
    rows: FloatArray
    weight: FloatArray
    weight_sq: FloatArray
    positive: FloatArray


def single_rows(y: FloatArray, scores: FloatArray, weights: FloatArray | None) -> Cells:
    """Each row of positive weight as its own cell, in the order given."""
    if weights is None:
        ones = np.ones_like(y)
        return Cells(scores, ones, ones, ones, y)
    # Relative weights: their squares do not overflow, and no metric depends on their scale.
    relative = weights / weights.max()
    kept = relative > 0.0
    w = relative[kept]
    return Cells(scores[kept], np.ones_like(w), w, w * w, w * y[kept])


def tie_groups(y: FloatArray, scores: FloatArray, weights: FloatArray | None = None) -> Cells:
    """The rows of each distinct score as one cell, by increasing score."""
    if weights is None and scores.min() >= 0.0 and scores.max() <= 1.0:
        return _packed_tie_groups(y, scores)
    rows = single_rows(y, scores, weights)
    order = np.argsort(rows.value, kind="stable")
    ordered = rows.value[order]
    starts = _starts(ordered)
    sums = (np.add.reduceat(column[order], starts) for column in rows[1:])
    return Cells(ordered[starts], *sums)


def _packed_tie_groups(y: FloatArray, scores: FloatArray) -> Cells:
    # The two top bits of a float64 in [0, 1] are clear and its bits sort as it does: shifted by one they leave room
    # for the label, and sorting these integers is several times faster than argsort. (+ 0.0 makes -0.0 a plain zero.)
    keys = (scores + 0.0).view(np.int64) << 1 | y.astype(np.int64)
    keys.sort()
    bits = keys >> 1
    starts = _starts(bits)
    rows = np.diff(starts, append=bits.size).astype(np.float64)
    positive = np.add.reduceat(keys & 1, starts).astype(np.float64)
    return Cells(bits[starts].view(np.float64), rows, rows, rows, positive)


def _starts(ordered: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.intp]:
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))


class Bins(NamedTuple):
    """The non-empty bins, by increasing score; ``effective_rows`` is Kish's (sum w)^2 / sum w^2.

    ``weight`` is relative to the greatest weight of a row.
    """

    lower_edge: FloatArray
    upper_edge: FloatArray
    rows: FloatArray
    weight: FloatArray
    effective_rows: FloatArray
    mean_predicted: FloatArray
    mean_observed: FloatArray

    @property
    def share(self) -> FloatArray:
        total: np.float64 = self.weight.sum()
        return self.weight / total


def bins_of(y: FloatArray, p: FloatArray, weights: FloatArray | None, n_bins: int, strategy: str) -> Bins:
    """Bins of equal width (``uniform``) or of about equal weight that split no ties (``quantile``)."""
    if strategy == "uniform":
        cells = single_rows(y, p, weights)
        # Not linspace: its 3/10, 6/10 and 7/10 lie above .3, .6 and .7, which would then fall one bin low.
        edges = np.arange(n_bins + 1) / n_bins
        index = np.minimum(np.searchsorted(edges, cells.value, side="right") - 1, n_bins - 1)
        return _summed(cells, index, edges[:-1], edges[1:])
    cells = tie_groups(y, p, weights)
    index = _equal_mass_index(cells.weight, n_bins)
    starts = _starts(index)
    lower, upper = np.zeros(n_bins), np.zeros(n_bins)
    lower[index[starts]] = cells.value[starts]
    upper[index[starts]] = cells.value[np.append(starts[1:], index.size) - 1]
    return _summed(cells, index, lower, upper)


def _equal_mass_index(weight: FloatArray, n_bins: int) -> NDArray[np.intp]:
    """The bin of each tie group: the one that holds the middle of its weight."""
    ends = np.cumsum(weight)
    middle = (ends - weight / 2.0) / ends[-1]
    index: NDArray[np.intp] = np.floor(middle * n_bins + _BOUNDARY_TOLERANCE).astype(np.intp)
    return np.minimum(index, n_bins - 1, dtype=np.intp)


def _summed(cells: Cells, index: NDArray[np.intp], lower: FloatArray, upper: FloatArray) -> Bins:
    columns = (cells.rows, cells.weight, cells.weight_sq, cells.positive, cells.weight * cells.value)
    sums = np.stack([np.bincount(index, weights=column, minlength=lower.size) for column in columns])
    full = sums[0] > 0.0
    rows, weight, weight_sq, positive, predicted = sums[:, full]
    return Bins(
        lower_edge=lower[full],
        upper_edge=upper[full],
        rows=rows,
        weight=weight,
        # Cauchy-Schwarz puts it in [1, rows]; squares too small for a float must not push it out.
        effective_rows=np.clip(weight * (weight / np.maximum(weight_sq, _TINY)), 1.0, rows),
        mean_predicted=predicted / weight,
        mean_observed=positive / weight,
    )

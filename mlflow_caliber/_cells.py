"""Rows summed into cells: tie groups (rows of one score) and bins.

What depends on the order of scores reads tie groups or bins, never single rows: so no metric can depend on the order
of rows. Rows are read a chunk at a time: what a chunk writes stays in the processor's cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray, row_chunks

__all__ = [
    "BinSums",
    "Bins",
    "Cells",
    "Rows",
    "bin_sums",
    "bin_sums_of_cells",
    "bins_of",
    "equal_mass_starts",
    "equal_width_gaps",
    "sorted_keys",
    "tie_groups",
    "weighted_rows",
]

# From this many rows on, equal-mass bins sort only the rows near their boundaries.
_MANY_ROWS = 1 << 15
# Cells of a first, coarse count of the scores. They are equally wide in the root of the score: in rare-event data
# nearly all scores are small.
_GRID = 1 << 12

# A tie group's middle that is meant to lie on a bin boundary must not fall below it by the rounding of a running sum.
_BOUNDARY_TOLERANCE = 1e-9
_TINY = np.finfo(np.float64).tiny


class Rows(NamedTuple):
    """Labels, scores and relative weights (in (0, 1], their greatest is 1), one value a row."""

    y: NDArray[Any]
    score: FloatArray
    weight: FloatArray | None

    def take(self, which: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Rows:
        return Rows(self.y[which], self.score[which], None if self.weight is None else self.weight[which])


def weighted_rows(y: NDArray[Any], scores: FloatArray, weights: FloatArray | None) -> Rows:
    """The rows that carry weight."""
    if weights is None:
        return Rows(y, scores, None)
    # Relative weights: their squares do not overflow, and no metric depends on their scale.
    relative = weights / weights.max()
    rows, kept = Rows(y, scores, relative), relative > 0.0
    return rows if kept.all() else rows.take(kept)


class Cells(NamedTuple):
    """Per cell: its score, rows, and the sums of weights and of squared weights: of all rows, then of the positives.

    Weights are relative to the greatest weight of a row.
    """

    value: FloatArray
    rows: FloatArray
    weight: FloatArray
    weight_sq: FloatArray
    positive: FloatArray
    positive_sq: FloatArray


def tie_groups(y: NDArray[Any], scores: FloatArray, weights: FloatArray | None = None) -> Cells:
    """The rows of each distinct score as one cell, by increasing score."""
    return _grouped(weighted_rows(y, scores, weights))


def _grouped(rows: Rows) -> Cells:
    y, scores, w = rows
    if w is None and scores.min() >= 0.0 and scores.max() <= 1.0:
        return _packed_tie_groups(y, scores)
    order = np.argsort(scores)
    value, y = scores[order], y[order].astype(np.float64)
    starts = _starts(value)
    count = _runs(starts, value.size).astype(np.float64)
    if w is None:
        return _unweighted(value[starts], count, np.add.reduceat(y, starts))
    w = w[order]
    sums = (np.add.reduceat(column, starts) for column in (w, w * w, w * y, w * w * y))
    return Cells(value[starts], count, *sums)


def sorted_keys(y: NDArray[Any], scores: FloatArray) -> NDArray[np.int64]:
    """Scores in [0, 1] and labels as one integer each, by increasing score and then label."""
    # The two top bits of a float64 in [0, 1] are clear and its bits sort as it does: shifted by one they leave room
    # for the label, and sorting these integers is several times faster than argsort. (The shift drops -0.0's sign.)
    keys = np.empty(scores.size, dtype=np.int64)
    for part in row_chunks(scores.size):
        keys[part] = scores[part].view(np.int64) << 1 | y[part].astype(np.int64)
    keys.sort()
    return keys


def _packed_tie_groups(y: NDArray[Any], scores: FloatArray) -> Cells:
    keys = sorted_keys(y, scores)
    value = (keys >> 1).view(np.float64)
    keys &= 1
    starts = _starts(value)
    if starts.size == value.size:
        return _unweighted(value, np.ones_like(value), keys.astype(np.float64))
    count, positive = _runs(starts, value.size), np.add.reduceat(keys, starts)
    return _unweighted(value[starts], count.astype(np.float64), positive.astype(np.float64))


def _unweighted(value: FloatArray, rows: FloatArray, positive: FloatArray) -> Cells:
    return Cells(value, rows, rows, rows, positive, positive)


def _starts(ordered: FloatArray | NDArray[np.intp]) -> NDArray[np.intp]:
    """Where runs of equal values begin."""
    new = np.empty(ordered.size, dtype=bool)
    new[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return np.flatnonzero(new)


def _runs(starts: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """How long they are."""
    return np.append(starts[1:], n) - starts


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


class BinSums(NamedTuple):
    """The non-empty bins, by increasing score: their rows, and five sums for each label, 0 and 1.

    With `w` the weight of a row (relative to the greatest) and `p` its score: the sums of w, w^2, wp, w^2 p and
    w^2 p^2, each of shape (b, 2). Every binned metric and its sampling error follow from them.
    """

    lower_edge: FloatArray
    upper_edge: FloatArray
    rows: FloatArray
    weight: FloatArray
    weight_sq: FloatArray
    predicted: FloatArray
    predicted_w2: FloatArray
    predicted_sq_w2: FloatArray

    @property
    def bins(self) -> Bins:
        """What is left when the labels are not told apart."""
        return _merged(*self[:6])


class _Binned(NamedTuple):
    """Ends and rows of each bin and, per bin and label, the first three or all five sums, shape (k, b, 2)."""

    lower: FloatArray
    upper: FloatArray
    rows: FloatArray
    sums: FloatArray


def bins_of(y: NDArray[Any], p: FloatArray, weights: FloatArray | None, n_bins: int, strategy: str) -> Bins:
    """Bins of equal width (``uniform``) or of about equal weight that split no ties (``quantile``)."""
    lower, upper, rows, sums = _BINNINGS[strategy](weighted_rows(y, p, weights), n_bins, 3)
    return _merged(lower, upper, rows, *sums[:3])


def bin_sums(y: NDArray[Any], p: FloatArray, weights: FloatArray | None, n_bins: int, strategy: str) -> BinSums:
    """The same bins, with what their sampling error needs."""
    lower, upper, rows, sums = _BINNINGS[strategy](weighted_rows(y, p, weights), n_bins, 5)
    return BinSums(lower, upper, rows, *sums)


def bin_sums_of_cells(cells: Cells, n_bins: int, strategy: str) -> BinSums:
    """The bins of rows that are cells already, by increasing score; a cell is never split."""
    if strategy == "quantile":
        _, (lower, upper, rows, sums) = _cut(cells, _bin_at(_middles(cells.weight), cells.weight.sum(), n_bins))
        return BinSums(lower, upper, rows, *sums)
    edges = _equal_edges(n_bins)
    index = np.minimum(np.searchsorted(edges, cells.value, side="right") - 1, n_bins - 1)
    number, (_, _, rows, sums) = _cut(cells, index)
    return BinSums(edges[number], edges[number + 1], rows, *sums)


def equal_width_gaps(
    chunks: Iterable[tuple[NDArray[Any], FloatArray, FloatArray | None]], n_bins: int
) -> tuple[FloatArray, float]:
    """The sum of w (p - y) over each bin of equal width, and the weight of all rows: one quick look at each row."""
    bin_of = _equal_width_index(n_bins)
    gaps, total = np.zeros(n_bins + 1), 0.0
    for y, p, w in chunks:
        gap = p - y
        gaps += np.bincount(bin_of(p), gap if w is None else w * gap, n_bins + 1)
        total += y.size if w is None else float(w.sum())
    return gaps[:-1] + np.append(np.zeros(n_bins - 1), gaps[-1]), total


def _equal_width(rows: Rows, n_bins: int, n_sums: int) -> _Binned:
    count, sums = _sums_by_label(rows, _equal_width_index(n_bins), n_bins + 1, n_sums)
    count[-2] += count[-1]
    sums[:, -2] += sums[:, -1]
    full = np.flatnonzero(count[:-1])
    edges = _equal_edges(n_bins)
    return _Binned(edges[full], edges[full + 1], count[full], sums[:, full])


def _equal_edges(n_bins: int) -> FloatArray:
    # Not linspace: its 3/10, 6/10 and 7/10 lie above .3, .6 and .7, which would then fall one bin low.
    edges: FloatArray = np.arange(n_bins + 1) / n_bins
    return edges


def _equal_width_index(n_bins: int) -> Callable[[FloatArray], NDArray[np.intp]]:
    """From scores to bins [edge, next edge); so a score of 1 stands beyond the last bin, which takes it in."""
    strays = _strays(_equal_edges(n_bins))

    def bin_of(p: FloatArray) -> NDArray[np.intp]:
        index = (p * n_bins).astype(np.intp)
        for score, right in strays:
            hits = p == score
            if hits.any():  # hardly ever, and writing through a mask takes three times as long as this look
                index[hits] = right
        return index

    return bin_of


def _strays(edges: FloatArray) -> list[tuple[float, int]]:
    """The scores whose bin is not the whole part of score * n_bins, with the bin they belong to.

    An edge and its product are each rounded by half a unit in the last place: so the product is right for all scores
    but, at most, an edge itself or the float just below it.
    """
    doubtful = np.concatenate((edges, np.nextafter(edges[1:], 0.0)))
    right = np.searchsorted(edges, doubtful, side="right") - 1
    wrong = (doubtful * (edges.size - 1)).astype(np.intp) != right
    return list(zip(doubtful[wrong].tolist(), right[wrong].tolist(), strict=True))


def _equal_mass(rows: Rows, n_bins: int, n_sums: int) -> _Binned:
    if rows.score.size >= _MANY_ROWS:
        return _equal_mass_of_many(rows, n_bins, n_sums)
    groups = _grouped(rows)
    return _cut(groups, _bin_at(_middles(groups.weight), groups.weight.sum(), n_bins))[1]


def _equal_mass_of_many(rows: Rows, n_bins: int, n_sums: int) -> _Binned:
    """A coarse count of the scores first: only rows near a boundary between bins must be sorted to find their bin."""
    count, sums = _sums_by_label(rows, _grid_cell, _GRID + 1, n_sums)
    filled = np.flatnonzero(count)
    count, sums = count[filled], sums[:, filled]
    ends = np.cumsum(sums[0].sum(axis=1))
    before = np.concatenate(([0.0], ends[:-1]))
    first, last = _bin_at(before, ends[-1], n_bins), _bin_at(ends, ends[-1], n_bins)
    near = _near_boundaries(first != last)

    groups = _grouped(_rows_of_cells(rows, filled[near]))
    cell = np.searchsorted(filled, _grid_cell(groups.value))
    index = _bin_at(before[cell] + _middles(groups.weight, cell), ends[-1], n_bins)
    number, binned = _cut(groups, index)
    binned = binned._replace(sums=binned.sums[:n_sums])

    # Each bin begins with a group, so that it is there to take the cells that lie in it as a whole.
    settled = np.searchsorted(number, first[~near])
    np.add.at(binned.rows, settled, count[~near])
    np.add.at(binned.sums.swapaxes(0, 1), settled, sums[:, ~near].swapaxes(0, 1))
    return binned


def _grid_cell(p: FloatArray) -> NDArray[np.intp]:
    root = np.sqrt(p)
    root *= _GRID
    return root.astype(np.intp)


def _near_boundaries(meets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells in which two bins meet, and those beside them, which hold a bin's least and greatest score."""
    near = meets.copy()
    near[1:] |= meets[:-1]
    near[:-1] |= meets[1:]
    near[[0, -1]] = True
    return near


def _rows_of_cells(rows: Rows, cells: NDArray[np.intp]) -> Rows:
    wanted = np.zeros(_GRID + 1, dtype=bool)
    wanted[cells] = True
    kept = np.empty(rows.score.size, dtype=bool)
    for part in row_chunks(rows.score.size):
        kept[part] = wanted[_grid_cell(rows.score[part])]
    return rows.take(np.flatnonzero(kept))


def equal_mass_starts(weight: FloatArray, n_bins: int) -> NDArray[np.intp]:
    """Where the bins of about equal weight begin, in cells of these weights that are not to be split."""
    return _starts(_bin_at(_middles(weight), weight.sum(), n_bins))


def _bin_at(middle: FloatArray, total: np.float64, n_bins: int) -> FloatArray:
    """The equal-mass bin of what has the middle of its weight there."""
    return np.minimum(np.floor(middle / total * n_bins + _BOUNDARY_TOLERANCE), n_bins - 1.0)


def _middles(weight: FloatArray, block: NDArray[np.intp] | None = None) -> FloatArray:
    """The running weight up to the middle of each, from the beginning or from that of its block."""
    ends = np.cumsum(weight)
    middle = ends - weight / 2.0
    if block is None:
        return middle
    starts = _starts(block)
    return middle - np.repeat(ends[starts] - weight[starts], _runs(starts, block.size))


_Index = TypeVar("_Index", FloatArray, NDArray[np.intp])


def _cut(cells: Cells, index: _Index) -> tuple[_Index, _Binned]:
    """Cells put together by their non-decreasing index: the index of each bin, and the bin."""
    starts = _starts(index)
    upper = cells.value[np.append(starts[1:], index.size) - 1]
    sums = np.stack([np.add.reduceat(column, starts) for column in _columns_by_label(cells)]).reshape(5, 2, -1)
    rows = np.add.reduceat(cells.rows, starts)
    return index[starts], _Binned(cells.value[starts], upper, rows, sums.transpose(0, 2, 1))


def _columns_by_label(cells: Cells) -> Iterator[FloatArray]:
    """The columns behind the five sums, of label 0 and of label 1 in turn."""
    by_label = (cells.weight - cells.positive, cells.positive), (cells.weight_sq - cells.positive_sq, cells.positive_sq)
    (w, w2), p = by_label, cells.value
    return itertools.chain(w, w2, (x * p for x in w), (x * p for x in w2), (x * p * p for x in w2))


_BINNINGS = {"uniform": _equal_width, "quantile": _equal_mass}


def _sums_by_label(
    rows: Rows, cell_of: Callable[[FloatArray], NDArray[np.intp]], n_cells: int, n_sums: int
) -> tuple[FloatArray, FloatArray]:
    """Rows of each cell, and per cell and label the first ``n_sums`` sums of :class:`BinSums`: (k, n_cells, 2)."""
    total = np.zeros(())
    for part in row_chunks(rows.score.size):
        y, p, w = rows.take(part)
        key = cell_of(p)
        key += key
        key += y.astype(np.intp, copy=False)
        total = total + np.stack([np.bincount(key, column, 2 * n_cells) for column in _columns(p, w, n_sums)])
    by_label = total.reshape(-1, n_cells, 2)
    # Without weights rows = w = w^2 and wp = w^2 p.
    sums = by_label[1:] if rows.weight is not None else by_label[[0, 0, 1, 1, 2][:n_sums]]
    return by_label[0].sum(axis=1), sums


def _columns(p: FloatArray, w: FloatArray | None, n_sums: int) -> list[FloatArray | None]:
    if w is None:
        return [None, p] if n_sums == 3 else [None, p, p * p]
    wp, w2 = w * p, w * w
    return [None, w, w2, wp] if n_sums == 3 else [None, w, w2, wp, w2 * p, wp * wp]


def _merged(
    lower: FloatArray,
    upper: FloatArray,
    rows: FloatArray,
    weight: FloatArray,
    weight_sq: FloatArray,
    predicted: FloatArray,
) -> Bins:
    """Bins in which the labels are not told apart."""
    total = weight.sum(axis=1)
    return Bins(
        lower_edge=lower,
        upper_edge=upper,
        rows=rows,
        weight=total,
        # Cauchy-Schwarz puts it in [1, rows]; squares too small for a float must not push it out.
        effective_rows=np.clip(total * (total / np.maximum(weight_sq.sum(axis=1), _TINY)), 1.0, rows),
        mean_predicted=predicted.sum(axis=1) / total,
        mean_observed=weight[:, 1] / total,
    )

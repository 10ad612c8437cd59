"""Pooled adjacent violators: the least-squares non-decreasing fit to rows in any order, as its pools.

Isotonic calibration is this fit; the CORP decomposition of a score and its reliability curve are read off it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from mlflow_caliber._validation import FloatArray, IntArray, row_chunks

__all__ = ["Locator", "Pools", "mean_scores", "pool"]

# Closer scores count as tied, as in scikit-learn.
_TIE = 1e-15
# Closer values are one pool, which rounding in the running means has kept apart.
_SAME = 1e-12
# Rows from which on a table of cells pays, the rows that it wants for each cell, and its greatest size.
_MANY, _ROWS_A_CELL, _MOST_CELLS = 1 << 12, 4, 1 << 16


class Pools(NamedTuple):
    """The pools by increasing score: scores of the first and the last row, mean label (the fit) and weight."""

    first: FloatArray
    last: FloatArray
    value: FloatArray
    weight: FloatArray


def pool(scores: FloatArray, y: FloatArray | IntArray, weights: FloatArray | None = None) -> Pools:
    """Pool checked rows: scores in [0, 1]; labels 0 and 1, or with weights (> 0) also floats between them.

    References
    ----------
    Ayer, M., Brunk, H., Ewing, G., Reid, W., Silverman, E. (1955). An empirical distribution function for sampling
    with incomplete information. Annals of Mathematical Statistics 26(4).

    Examples
    --------
    >>> import numpy as np
    >>> pools = pool(np.array([0.1, 0.3, 0.4, 0.6, 0.8]), np.array([0, 1, 0, 1, 1]))
    >>> pools.value
    array([0. , 0.5, 1. ])
    >>> pools.first, pools.last
    (array([0.1, 0.3, 0.6]), array([0.1, 0.4, 0.8]))
    """
    if weights is None or y.dtype != np.float64:
        pools = _pool_binary(scores, y.astype(np.int64, copy=False), weights)
        if pools is not None:
            return pools
    return _pool_ties(scores, y, np.ones_like(scores) if weights is None else weights)


def mean_scores(pools: Pools, scores: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """The mean score of each pool, from the rows that were pooled.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.array([0.1, 0.3, 0.4, 0.6, 0.8])
    >>> mean_scores(pool(scores, np.array([0, 1, 0, 1, 1])), scores)
    array([0.1 , 0.35, 0.7 ])
    """
    count, n_pools = Locator(pools.first, scores.size), pools.first.size
    total = np.zeros(n_pools)
    for part in row_chunks(scores.size):
        mass = scores[part] if weights is None else weights[part] * scores[part]
        total += np.bincount(count(scores[part]) - 1, weights=mass, minlength=n_pools)
    # Rounding must not carry a mean beyond what it is the mean of.
    return np.clip(total / pools.weight, pools.first, pools.last)


class Locator:
    """For scores in [0, 1], how many of the increasing knots lie at or below each.

    ``n`` is how many scores it will be asked for: many are worth a table of equal cells. Most cells hold no knot, so
    that their scores share one answer. Knots and scores get their cells by the same monotone arithmetic: whatever it
    rounds, a knot of a lower cell is a lower number.
    """

    def __init__(self, knots: FloatArray, n: int) -> None:
        self._knots = knots
        self._scale = float(min(n // _ROWS_A_CELL, _MOST_CELLS)) if n >= _MANY else 0.0
        if self._scale:
            held = np.bincount(self._cells(knots), minlength=int(self._scale) + 1)
            lower = np.cumsum(held) - held
            self._table = np.where(held == 0, lower, ~lower)  # negative: there is more to find out
            self._next = np.append(knots, np.inf)

    def __call__(self, scores: FloatArray) -> NDArray[np.intp]:
        """One count for each score."""
        if not self._scale:
            return np.searchsorted(self._knots, scores, side="right")
        below = self._table.take(self._cells(scores))
        unsure = np.flatnonzero(below < 0)
        if unsure.size:
            below[unsure] = self._counted_on(scores[unsure], ~below[unsure])
        return below

    def _counted_on(self, scores: FloatArray, below: NDArray[np.intp]) -> NDArray[np.intp]:
        """From the knots of lower cells on. Few cells hold more than two knots; a search settles those."""
        more = scores >= self._next.take(below)
        for _ in range(2):
            if not more.any():
                return below
            below += more
            more = scores >= self._next.take(below)
        below[more] = np.searchsorted(self._knots, scores[more], side="right")
        return below

    def _cells(self, scores: FloatArray) -> NDArray[np.intp]:
        return (scores * self._scale).astype(np.intp)


def _pool_binary(scores: FloatArray, y: IntArray, weights: FloatArray | None) -> Pools | None:
    """Rows of labels 0 and 1; None where the ends of the pools depend on nearly tied scores."""
    keys, weights = _in_order(scores, y, weights)
    starts, mass, positive = _units((keys.astype(np.int8) & 1).view(np.bool_), weights)
    heads = _heads(positive, mass)
    starts = starts[heads]
    first, last = _scores_of(keys[starts]), _scores_of(keys[np.append(starts[1:], keys.size) - 1])
    close = np.searchsorted(keys, _keys_of(np.maximum(last - 2.0 * _TIE, 0.0)) - 1)
    if np.any(first[1:] - last[:-1] < _TIE) or np.any(_scores_of(keys[close]) < last):
        return None
    return _pools(first, last, np.add.reduceat(positive, heads), np.add.reduceat(mass, heads))


def _in_order(scores: FloatArray, y: IntArray, weights: FloatArray | None) -> tuple[IntArray, FloatArray | None]:
    """Scores and labels as one number each, by increasing score, and the weights; of tied scores the ones come first.

    So a zero is never followed by a one inside a tie: no pool can begin there, and nobody has to look for ties.
    """
    keys = np.empty(scores.size, dtype=np.int64)
    for part in row_chunks(scores.size):
        np.subtract(_keys_of(scores[part]), y[part], out=keys[part])
    if weights is None:
        keys.sort()
        return keys, None
    order = np.argsort(keys)
    return keys[order], weights[order]


def _keys_of(scores: FloatArray) -> IntArray:
    # The two top bits of a float64 in [0, 1] are clear and its bits sort as it does: shifted by one they leave room
    # for the label, and sorting these integers is several times faster than argsort. (The shift drops -0.0's sign.)
    return scores.view(np.int64) << 1


def _scores_of(keys: IntArray) -> FloatArray:
    return ((keys + 1) >> 1).view(np.float64)


def _units(
    one: NDArray[np.bool_], weights: FloatArray | None
) -> tuple[IntArray, FloatArray | IntArray, FloatArray | IntArray]:
    """Runs of ones, each with the run of zeros behind it: where each starts, its weight and that of its ones.

    A pool can begin only where a zero is followed by a one: it contains such units whole, and there are far fewer of
    them than rows.
    """
    turn = np.zeros(one.size, dtype=np.bool_)
    np.not_equal(one[1:], one[:-1], out=turn[1:])
    # The first run of ones and the last run of zeros may be empty, so that runs of both kinds take turns throughout.
    before, after = [0] if one[0] else [0, 0], [one.size, one.size] if one[-1] else [one.size]
    bounds = np.concatenate((before, np.flatnonzero(turn), after))
    starts = bounds[:-1:2]
    if weights is None:
        return starts, bounds[2::2] - starts, bounds[1::2] - starts
    return starts, np.add.reduceat(weights, starts), np.add.reduceat(weights * one, starts)


def _pool_ties(scores: FloatArray, y: FloatArray | IntArray, weights: FloatArray) -> Pools:
    """Rows of any labels, tied scores merged first."""
    order = np.argsort(scores)
    x, y, weights = scores[order] + 0.0, y[order], weights[order]
    starts = _tie_starts(x)
    x, mass, positive = x[starts], np.add.reduceat(weights, starts), np.add.reduceat(weights * y, starts)
    heads = _heads(positive, mass)
    ends = np.append(heads[1:], x.size)
    return _pools(x[heads], x[ends - 1], np.add.reduceat(positive, heads), np.add.reduceat(mass, heads))


def _tie_starts(x: FloatArray) -> NDArray[np.intp]:
    """Where ties begin in sorted scores: at the first score that is too far from the one which began the last tie."""
    begins = np.append(True, np.diff(x) >= _TIE)
    while True:
        starts = np.flatnonzero(begins)
        span = x[np.append(starts[1:], x.size) - 1] - x[starts]
        if span.max() < _TIE:
            return starts
        far = x - x[starts][np.cumsum(begins) - 1] >= _TIE  # the end of a chain of close scores
        begins[1:] |= far[1:] & ~far[:-1]


def _heads(positive: FloatArray | IntArray, weight: FloatArray | IntArray) -> NDArray[np.intp]:
    """Which units begin a pool."""
    fit = isotonic_regression(positive / weight, weights=weight)
    heads = fit.blocks[:-1]
    rises: NDArray[np.bool_] = np.append(True, np.diff(fit.x[heads]) > _SAME)
    return np.asarray(heads[rises], dtype=np.intp)


def _pools(
    first: FloatArray, last: FloatArray, positive: FloatArray | IntArray, weight: FloatArray | IntArray
) -> Pools:
    value = np.maximum.accumulate(positive / weight)
    return Pools(first, last, np.minimum(value, 1.0), weight.astype(np.float64))

"""How far two empirical distribution functions lie apart: what Kolmogorov-Smirnov and Wasserstein read.

F is the share of reference values up to a point, G that of the current ones. Both samples come in ascending order, so
that nothing here sorts again: the largest gap needs few binary searches, the area only the two orders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.drift._columns import group_ends

Ranks = NDArray[np.intp]

#: Cells of equal mass; at either end ranks that halve are added, because heavy tails put most of an area there.
_POOL_CELLS = 64


class Pool(NamedTuple):
    """Both samples together, in cells: what the null distribution of an area is drawn from.

    Cell k is (edges[k - 1], edges[k]]; the first and the last are open. ``spread`` is the standard deviation inside a
    cell where it matters, and elsewhere 0.
    """

    counts: Ranks
    means: FloatArray
    edges: FloatArray
    spread: FloatArray


class Gap(Protocol):
    """F - G, of rows or of a ladder.

    Attributes
    ----------
    sizes : (int, int)
        Reference and current values, none missing.
    sd : float
        Standard deviation of the reference; 0 for a constant and where there is none (infinite values, overflow).
    ks : float or None
        The largest |F - G|; None without a point at which the two could differ.
    area, shift : float or None
        Integrals of |F - G| and of F - G, which is current mean - reference mean; None where there are none.
    """

    @property
    def sizes(self) -> tuple[int, int]: ...
    @property
    def sd(self) -> float: ...
    @property
    def ks(self) -> float | None: ...
    @property
    def area(self) -> float | None: ...
    @property
    def shift(self) -> float | None: ...
    def ranks(self) -> Ranks | None:
        """How many pooled values lie up to each point at which ``ks`` looks; None when it looks everywhere."""

    def pool(self) -> Pool:
        """Both samples in cells; only where there is an area."""


@dataclass(frozen=True)
class RowGap:
    """The exact gap of two ascending arrays, neither empty."""

    reference: FloatArray
    current: FloatArray

    @property
    def sizes(self) -> tuple[int, int]:
        """Reference and current values."""
        return self.reference.size, self.current.size

    @cached_property
    def sd(self) -> float:
        """Standard deviation of the reference."""
        return standard_deviation(self.reference)

    @cached_property
    def ks(self) -> float:
        """The largest |F - G|."""
        return largest_gap(*self._by_size)

    @cached_property
    def area(self) -> float | None:
        """The integral of |F - G|."""
        return finite_or_none(area_between(*self._by_size))

    @cached_property
    def shift(self) -> float | None:
        """Current mean - reference mean."""
        with np.errstate(over="ignore", invalid="ignore"):
            return finite_or_none(float(self.current.mean() - self.reference.mean()))

    def ranks(self) -> Ranks | None:
        """Pooled ranks of few distinct values."""
        if group_ends(self.reference).size > _POOL_CELLS:
            return None
        ends = group_ends(self._points())
        return None if ends.size > _POOL_CELLS else ends[:-1] + 1

    def pool(self) -> Pool:
        """Cells down to single rows in the tails; ties stay together."""
        points = self._points()
        ends = group_ends(points)
        if ends.size > _POOL_CELLS:
            ranks = spread_ranks(points.size, _POOL_CELLS, 1)
            ends = ends[np.unique(np.append(np.searchsorted(ends, ranks - 1), ends.size - 1))]
        origin = points[points.size // 2]
        counts = np.diff(ends, prepend=-1)
        sums = np.diff(np.cumsum(points - origin)[ends], prepend=0.0)
        return Pool(counts, origin + sums / counts, points[ends[:-1]], np.zeros(ends.size))

    @property
    def _by_size(self) -> tuple[FloatArray, FloatArray]:
        one, other = self.reference, self.current
        return (one, other) if one.size <= other.size else (other, one)

    def _points(self) -> FloatArray:
        return np.sort(np.concatenate([self.reference, self.current]))


def largest_gap(short: FloatArray, long: FloatArray) -> float:
    """The largest difference of the distribution functions of two ascending arrays, exact.

    It lies at a value of either array, so the shorter one's will do. They are looked at in blocks: inside, the gap
    exceeds what it is at the block's ends by no more than the block's share of the values, and few blocks can matter.
    """
    n, block = short.size, max(1, math.isqrt(short.size) // 8)
    starts = np.arange(0, n, block)
    above, below = _gaps_at(starts, short, long)
    best = max(above.max(), below.max())
    ceiling = np.maximum(above + (block - 1) / n, np.append(below[1:], 0.0) + block / n)
    inside = (starts[ceiling > best, None] + np.arange(block)).ravel()
    return float(max(best, *(gaps.max(initial=0.0) for gaps in _gaps_at(inside[inside < n], short, long))))


def _gaps_at(rows: Ranks, short: FloatArray, long: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For each of these values of the shorter array: its share up to it - the other's; the other's below it - its."""
    values, n, m = short[rows], short.size, long.size
    above = (rows + 1) / n - np.searchsorted(long, values, side="right") / m
    below = np.searchsorted(long, values, side="left") / m - rows / n
    return above, below


def area_between(short: FloatArray, long: FloatArray) -> float:
    """The integral of the absolute difference of two distribution functions; the same as that of their inverses.

    The inverses are steps: the longer array's of width 1/m, the shorter one's of 1/n. Each step of the longer one is
    held against the value of the other at its left end; where the other jumps inside the step, the rest is put right.
    """
    n, m = short.size, long.size
    with np.errstate(over="ignore", invalid="ignore"):
        if n == m:
            return float(np.abs(short - long).mean())
        jumps = np.arange(1, n)
        after = -(-jumps * m // n)  # the first step that begins at the jump or later
        whole = np.abs(np.repeat(short, np.diff(after, prepend=0, append=m)) - long).mean()
        late = np.abs(short[1:] - long[after - 1]) - np.abs(short[:-1] - long[after - 1])
        return float(whole + late @ (after * n - jumps * m) / (n * m))


def finite_or_none(value: float) -> float | None:
    """The number, if it is one."""
    return value if math.isfinite(value) else None


def standard_deviation(values: FloatArray) -> float:
    """That of an ascending array: exactly 0 for a constant, which rounding would hide, and for what has none."""
    if values[0] == values[-1]:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        centred = values - values.mean()
        sd = math.sqrt(centred @ centred / values.size)
    return sd if math.isfinite(sd) else 0.0


def spread_ranks(n: int, cells: int, least: int) -> Ranks:
    """Ranks in 1 .. n - 1 at which to cut: ``cells`` of equal mass, and halving tails that end in ``least`` rows."""
    tail = least * 2 ** np.arange((n // (2 * cells * least)).bit_length())
    middle = np.arange(1, cells) * n // cells
    ranks = np.unique(np.concatenate([tail, middle, n - tail]))
    return ranks[(ranks >= least) & (ranks <= n - least)]

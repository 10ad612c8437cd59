"""What a profile keeps of a column's distribution function: some sixty cells with their counts and means."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.drift._columns import group_ends
from mlflow_caliber.drift._gap import Pool, Ranks, finite_or_none, spread_ranks, standard_deviation
from mlflow_caliber.drift._state import list_of, number, read_counts, read_edges
from mlflow_caliber.exceptions import StateError

_CELLS = 50
#: A cell of fewer rows would tell too much about each of them.
_MIN_CELL = 5
#: Means are kept to 1e-5 of a standard deviation: shorter in JSON, and far below what any test sees.
_MEAN_DIGITS = 5


@dataclass(frozen=True)
class Moments:
    """What areas need beside edges and counts, in the column's unit.

    The mean of each cell, the standard deviations inside the first and the last cell, and that of the whole.
    """

    means: tuple[float, ...]
    spread: tuple[float, float]
    sd: float


@dataclass(frozen=True)
class Ladder:
    """Cells (-inf, e1], (e1, e2], ..., (ek, inf) of the reference values, with edges and counts.

    ``moments`` is None for a constant and for what has none: infinite values, overflow.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    moments: Moments | None

    @classmethod
    def of(cls, values: FloatArray) -> Ladder:
        """The ladder of an ascending array that is not empty."""
        ends = group_ends(values)
        ranks = spread_ranks(values.size, max(1, min(_CELLS, values.size // _MIN_CELL)), _MIN_CELL)
        kept = _apart(ends_at(ends, ranks), values.size)
        edges = edges_after(values, kept, short=True)
        at = _cuts(values, edges)
        return cls(edges, tuple(np.diff(at).tolist()), _moments(values, at))

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last edge; of a ladder without edges 0, which is as good a point as any."""
        return (self.edges[0], self.edges[-1]) if self.edges else (0.0, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state."""
        state: dict[str, Any] = {"edges": list(self.edges), "counts": list(self.counts)}
        if self.moments is None:
            return state
        return state | {
            "means": list(self.moments.means),
            "spread": list(self.moments.spread),
            "sd": self.moments.sd,
        }


@dataclass(frozen=True)
class LadderSums:
    """Current values in the cells of a ladder, added up; whatever order and parts they came in.

    ``counts`` and ``sums`` have one entry a cell, ``sums`` of the distances from the ladder's first edge; ``squares``
    are the sums of squared distances in the first and the last cell, from the first and the last edge.
    """

    counts: Ranks
    sums: FloatArray
    squares: FloatArray

    @classmethod
    def of(cls, ladder: Ladder, values: FloatArray) -> LadderSums:
        """The sums of an ascending array."""
        cuts = _cuts(values, ladder.edges)
        first, last = ladder.ends
        with np.errstate(over="ignore", invalid="ignore"):
            squares = [np.square(values[: cuts[1]] - first).sum(), np.square(values[cuts[-2] :] - last).sum()]
            return cls(np.diff(cuts), _sums(values - first, cuts), np.array(squares))

    def plus(self, other: LadderSums) -> LadderSums:
        """The values of both."""
        with np.errstate(over="ignore", invalid="ignore"):
            return LadderSums(self.counts + other.counts, self.sums + other.sums, self.squares + other.squares)

    def around(self, ladder: Ladder, cell: int, centre: float) -> float:
        """The sum of squared distances from a point, in the first cell (0) or the last (-1)."""
        n, edge = float(self.counts[cell]), ladder.ends[cell]
        distance = float(self.sums[cell]) - n * (edge - ladder.ends[0])
        return max(0.0, float(self.squares[cell]) - 2.0 * (centre - edge) * distance + n * (centre - edge) ** 2)


@dataclass(frozen=True)
class LadderGap(ABC):
    """The gap between a ladder and current values, of which there is one at least.

    It is seen at the edges, and its area as what the cells' counts and means leave: never more than the exact ones.
    """

    ladder: Ladder

    @property
    @abstractmethod
    def _counts(self) -> Ranks:
        """Current values by cell."""

    @property
    @abstractmethod
    def _distances(self) -> FloatArray:
        """The sum of their distances from the ladder's first edge, by cell."""

    @abstractmethod
    def _squares(self, cell: int, centre: float) -> float:
        """The sum of squared distances from a point in the first or the last cell."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Reference and current values."""
        return sum(self.ladder.counts), int(self._counts.sum())

    @property
    def sd(self) -> float:
        """Standard deviation of the reference."""
        return 0.0 if self.ladder.moments is None else self.ladder.moments.sd

    @cached_property
    def ks(self) -> float | None:
        r"""The largest \|F - G\| at an edge."""
        return float(np.abs(self._heights).max()) if self._heights.size else None

    @cached_property
    def area(self) -> float | None:
        r"""The integral of \|F - G\|, where what cancels inside a cell is missing."""
        return None if self._areas is None else finite_or_none(float(np.abs(self._areas).sum()))

    @cached_property
    def shift(self) -> float | None:
        """Current mean - reference mean."""
        return None if self._areas is None else finite_or_none(float(self._areas.sum()))

    def ranks(self) -> Ranks:
        """Pooled ranks of the edges."""
        return np.cumsum(self.ladder.counts)[:-1] + np.cumsum(self._counts)[:-1]

    def pool(self) -> Pool:
        """Both sides in the ladder's cells."""
        assert self.ladder.moments is not None
        origin, before, now = self.ladder.edges[0], np.array(self.ladder.counts), self._counts
        sums = before * (np.array(self.ladder.moments.means) - origin) + self._distances
        means = origin + sums / np.maximum(before + now, 1)
        spread = np.zeros(means.size)
        for cell in (0, -1):
            spread[cell] = self._spread(self.ladder.moments, cell, means[cell])
        return Pool(before + now, means, np.array(self.ladder.edges), spread)

    def _spread(self, moments: Moments, cell: int, centre: float) -> float:
        """Standard deviation of both sides in the first or the last cell."""
        n = self.ladder.counts[cell]
        before = moments.spread[cell] ** 2 + (moments.means[cell] - centre) ** 2
        return math.sqrt((n * before + self._squares(cell, centre)) / max(1, n + int(self._counts[cell])))

    @cached_property
    def _heights(self) -> FloatArray:
        n, m = self.sizes
        now = np.cumsum(self._counts)[:-1]
        return np.asarray(np.cumsum(self.ladder.counts)[:-1] / n - now / m, dtype=np.float64)

    @cached_property
    def _areas(self) -> FloatArray | None:
        """Integrals of F - G over the cells: exact from counts and means, however the rows lie inside."""
        if self.ladder.moments is None or not self.ladder.edges:
            return None
        (n, m), counts, origin = self.sizes, np.array(self.ladder.counts), self.ladder.edges[0]
        means, edges = np.array(self.ladder.moments.means) - origin, np.array(self.ladder.edges) - origin
        low, high = np.insert(edges, 0, edges[0]), np.append(edges, edges[-1])
        with np.errstate(over="ignore", invalid="ignore"):
            now = self._counts * high - self._distances
            between = np.insert(self._heights, 0, 0.0) * (high - low)
            return np.asarray(between + counts * (high - means) / n - now / m, dtype=np.float64)


@dataclass(frozen=True)
class ValuesGap(LadderGap):
    """The gap to an ascending array."""

    current: FloatArray

    @cached_property
    def _cuts(self) -> Ranks:
        return _cuts(self.current, self.ladder.edges)

    @cached_property
    def _counts(self) -> Ranks:
        return np.diff(self._cuts)

    @cached_property
    def _distances(self) -> FloatArray:
        with np.errstate(over="ignore", invalid="ignore"):
            return _sums(self.current - self.ladder.ends[0], self._cuts)

    def _squares(self, cell: int, centre: float) -> float:
        rows = self.current[: self._cuts[1]] if cell == 0 else self.current[self._cuts[-2] :]
        return float(np.square(rows - centre).sum())


@dataclass(frozen=True)
class SumsGap(LadderGap):
    """The gap to values of which only the sums are at hand."""

    current: LadderSums

    @property
    def _counts(self) -> Ranks:
        return self.current.counts

    @property
    def _distances(self) -> FloatArray:
        return self.current.sums

    def _squares(self, cell: int, centre: float) -> float:
        return self.current.around(self.ladder, cell, centre)


def read_ladder(state: Mapping[str, Any], n: int, where: str) -> Ladder:
    """The ladder of ``n`` values from its JSON, every number checked; raises StateError with a sentence."""
    edges = read_edges(state, where)
    counts = read_counts(state, len(edges) + 1, n, where)
    if "sd" not in state:
        return Ladder(edges, counts, None)
    means, spread = (tuple(map(float, list_of(state, key, (int, float), where))) for key in ("means", "spread"))
    if len(means) != len(counts) or not np.isfinite(means).all():
        raise StateError(f"{where} must have {len(counts)} finite means, one a cell, got {list(means)}.")
    if len(spread) != 2 or not all(0.0 <= one < math.inf for one in spread):
        raise StateError(f"{where} must have two finite spreads of at least 0, got {list(spread)}.")
    return Ladder(edges, counts, Moments(means, (spread[0], spread[1]), number(state, "sd", where)))


def ends_at(ends: Ranks, ranks: Ranks) -> Ranks:
    """The last row of the value at each rank; before the largest value, behind which there is nothing to cut off."""
    return ends[np.unique(np.minimum(np.searchsorted(ends, ranks - 1), ends.size - 2))] if ends.size > 1 else ends[:0]


def edges_after(values: FloatArray, ends: Ranks, *, short: bool = False) -> tuple[float, ...]:
    """Edges half way behind the given rows of an ascending array, each the last of its value.

    Copies of either value in float32 then stay on their side. Next to an infinity there is no half way, and no edge.
    With ``short``, the edge is the shortest decimal in the middle half of the way.
    """
    between = _short_between if short else _between
    pairs = zip(values[ends].tolist(), values[ends + 1].tolist(), strict=True)
    return tuple(between(low, high) for low, high in pairs if math.isfinite(low) and math.isfinite(high))


def _between(low: float, high: float) -> float:
    return min(low / 2 + high / 2, math.nextafter(high, low))


def _short_between(low: float, high: float) -> float:
    middle, width = _between(low, high), high - low
    if not 1e-300 < width < math.inf:
        return middle
    short = round(middle, math.ceil(-math.log10(width / 2)))
    return short if low < short < high else middle


def cell_counts(values: FloatArray, edges: tuple[float, ...]) -> Ranks:
    """Rows of an ascending array by cell."""
    return np.diff(_cuts(values, edges))


def _apart(ends: Ranks, n: int) -> Ranks:
    """Those that leave no cell of too few rows."""
    kept = [-1]
    for end in ends.tolist():
        if end - kept[-1] >= _MIN_CELL and n - 1 - end >= _MIN_CELL:
            kept.append(end)
    return np.array(kept[1:], dtype=np.intp)


def _cuts(values: FloatArray, edges: tuple[float, ...]) -> Ranks:
    """Where the cells begin and end in an ascending array: one more than there are cells."""
    inner = np.searchsorted(values, np.array(edges), side="right")
    return np.concatenate([[0], inner, [values.size]])


def _sums(values: FloatArray, at: Ranks) -> FloatArray:
    return np.diff(np.insert(np.cumsum(values), 0, 0.0)[at])


def _moments(values: FloatArray, at: Ranks) -> Moments | None:
    sd = standard_deviation(values)
    if sd == 0.0:
        return None
    origin = values[values.size // 2]
    digits = _MEAN_DIGITS - math.floor(math.log10(sd))
    means = origin + _sums(values - origin, at) / np.diff(at)
    spread = (values[: at[1]].std(), values[at[-2] :].std())
    return Moments(
        means=tuple(round(mean, digits) for mean in means.tolist()),
        spread=(float(f"{spread[0]:.4g}"), float(f"{spread[1]:.4g}")),
        sd=sd,
    )

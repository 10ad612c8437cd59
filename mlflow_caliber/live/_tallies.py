"""Sums over rows, to be added and taken back: by cell of the fine grid, and coarse ones by hour, day or segment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber.metrics import ScoreStatistics

__all__ = [
    "KINDS",
    "N_BINS",
    "N_BLOCKS",
    "N_CELLS",
    "SHAPE",
    "SOURCES",
    "STRATA",
    "CellTally",
    "Changes",
    "CoarseRow",
    "CoarseTable",
    "Floats",
    "Ints",
    "Journal",
    "Tally",
    "losses_of",
    "renumbered",
    "tally_of",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KINDS = ("served", "base", "raw")
"""Whose probability: what was served, what the shipped calibrator said, what the model itself said."""
STRATA = ("answered", "abstained")
SOURCES = ("observed", "review", "audit")
N_BINS = 20
N_CELLS = int(ScoreStatistics.cell_of([1.0])[0]) + 1
SHAPE = (len(STRATA), len(SOURCES), len(KINDS), 2)
N_BLOCKS = len(STRATA) * len(SOURCES) * len(KINDS)
_LEAST = np.finfo(np.float64).eps  # as the log loss of :mod:`mlflow_caliber.metrics` has it
_PER_KIND = 2 + 3 * N_BINS
_BIN_ENDS = ScoreStatistics.cell_of([k / N_BINS for k in range(1, N_BINS)])
_MOST_NEW = 10_000


class Changes(NamedTuple):
    """Labelled rows that come (``sign`` 1) or are taken back (-1), the last axis over rows.

    ``p`` and ``cell`` (of the grid) have a row for each kind; ``loss`` has, for each kind, squared error and log loss.
    ``seq`` is the entry of the log that brought the change.
    """

    day: Ints
    hour: Ints
    stratum: Ints
    source: Ints
    segment: Ints
    y: Floats
    sign: Floats
    p: Floats
    cell: Ints
    loss: Floats
    seq: Ints

    def take(self, which: NDArray[np.bool_] | Ints) -> Changes:
        """Some of them."""
        if which.dtype == np.bool_ and which.all():
            return self
        return Changes._make(column[..., which] for column in self)

    def renumbered(self, new: Mapping[int, int]) -> Changes:
        """With other numbers for the segments."""
        return self._replace(segment=renumbered(self.segment, new))

    def weights(self, kind: int) -> tuple[Floats, Floats, Floats]:
        """What they add to rows, positives, and the sum of probabilities."""
        return self.sign, self.sign * self.y, self.sign * self.p[kind]


def renumbered(segment: Ints, new: Mapping[int, int]) -> Ints:
    """The numbers of segments, by other numbers for them."""
    found = segment.copy()
    for number, other in new.items():
        found[segment == number] = other
    return found


def losses_of(p: Floats, y: Floats) -> Floats:
    """Squared error and log loss of each row, as the second of three axes."""
    surprise = -np.log(np.maximum(np.abs(1.0 - y - p), _LEAST))
    return np.stack([(p - y) ** 2, surprise], axis=1)


@dataclass(frozen=True)
class CellTally:
    """Labelled rows by stratum, source, kind and cell of the grid; never changed in place.

    Attributes
    ----------
    place : ndarray of shape (m,)
        ``((stratum * 3 + source) * 3 + kind) * N_CELLS + cell``, increasing.
    sums : ndarray of shape (3, m)
        How many, how many positive, and the sum of the probabilities.
    losses : ndarray of shape (2, 3, 3, 2)
        By stratum, source and kind: the sums of squared error and log loss.
    """

    place: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    sums: Floats = field(default_factory=lambda: np.empty((3, 0)))
    losses: Floats = field(default_factory=lambda: np.zeros(SHAPE))

    @property
    def n(self) -> int:
        """Labelled rows; each is there once for every kind."""
        return round(float(self.sums[0].sum()) / len(KINDS))

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.place.nbytes + self.sums.nbytes + self.losses.nbytes

    def blocks(self) -> Iterator[tuple[tuple[int, int, int], Ints, Floats]]:
        """Stratum, source and kind, and the cells and sums of each that there is."""
        ends = np.searchsorted(self.place, np.arange(N_BLOCKS + 1) * N_CELLS)
        for block in np.flatnonzero(np.diff(ends)).tolist():
            here = slice(ends[block], ends[block + 1])
            rest, kind = divmod(block, len(KINDS))
            cells = self.place[here].astype(np.int64) - block * N_CELLS
            yield (*divmod(rest, len(SOURCES)), kind), cells, self.sums[:, here]

    def plus_rows(self, rows: Changes) -> CellTally:
        """With these rows added or taken back."""
        group = rows.stratum * len(SOURCES) + rows.source
        place = [(group * len(KINDS) + kind) * N_CELLS + cell for kind, cell in enumerate(rows.cell)]
        sums = np.concatenate([np.stack(rows.weights(kind)) for kind in range(len(KINDS))], axis=1)
        losses = np.zeros(SHAPE)
        np.add.at(losses, (rows.stratum, rows.source), np.moveaxis(rows.loss * rows.sign, -1, 0))
        return self.plus(CellTally(np.concatenate(place).astype(np.int32), sums, losses))

    def plus(self, other: CellTally) -> CellTally:
        """The rows of both; ``other`` may name a place more than once.

        Rows that are taken back may come before the rows themselves: a place is forgotten when nothing is left of it.
        """
        place, where = np.unique(np.append(self.place, other.place), return_inverse=True)
        columns = np.concatenate([self.sums, other.sums], axis=1)
        sums = np.array([np.bincount(where, column, place.size) for column in columns], dtype=np.float64)
        there = (sums[:2] != 0.0).any(axis=0)
        return CellTally(place[there], sums[:, there], self.losses + other.losses)


def tally_of(*statistics: ScoreStatistics) -> CellTally:
    """The cells of statistics that somebody else has kept, one a kind: as answered, and observed."""
    tally = CellTally()
    for kind, each in enumerate(statistics):
        if each.n == 0:
            continue
        cells, state = each.cells(), each.to_dict()
        sums = np.stack([cells.rows, cells.positive, cells.rows * cells.value])
        losses = np.zeros(SHAPE)
        losses[0, 0, kind] = state["squared_error"], state["log_loss"]
        place = kind * N_CELLS + ScoreStatistics.cell_of(cells.value)
        tally = tally.plus(CellTally(place.astype(np.int32), sums, losses))
    return tally


class Tally:
    """The predictions of some time: how many in each stratum, of them scorable, and the labelled ones by cell.

    Parameters
    ----------
    n, scorable : ndarray of shape (2,)
        Predictions by stratum.
    cells : CellTally
        Labelled rows.
    """

    def __init__(self, n: Ints | None = None, scorable: Ints | None = None, cells: CellTally | None = None) -> None:
        self.n = np.zeros(2, dtype=np.int64) if n is None else n
        self.scorable = np.zeros(2, dtype=np.int64) if scorable is None else scorable
        self._cells = CellTally() if cells is None else cells
        self._new: list[Changes] = []
        self._n_new = 0

    @property
    def cells(self) -> CellTally:
        """The labelled rows."""
        if self._new:
            rows = Changes._make(np.concatenate(column, axis=-1) for column in zip(*self._new, strict=True))
            self._new, self._n_new = [], 0
            self._cells = self._cells.plus_rows(rows)
        return self._cells

    def add(self, rows: Changes) -> None:
        """Add or take back labelled rows."""
        if not rows.day.size:
            return
        # Many at once are merged with the cells in the time that a few take.
        self._new.append(rows)
        self._n_new += rows.day.size
        if self._n_new > _MOST_NEW:
            _ = self.cells

    def merge(self, other: Tally) -> None:
        """Add those of another time."""
        self.n, self.scorable = self.n + other.n, self.scorable + other.scorable
        self._cells = self.cells.plus(other.cells)

    @property
    def nbytes(self) -> int:
        """About what it takes in memory."""
        return self._cells.nbytes + 200 * self._n_new


class Journal:
    """The last changes, for sums that others keep of the same rows."""

    def __init__(self) -> None:
        self.end = 0
        self._changes: deque[Changes] = deque()
        self._n_rows = 0

    def add(self, rows: Changes) -> None:
        """The next changes; of all that were ever added the last few thousand rows are kept."""
        self.end += 1
        self._changes.append(rows)
        self._n_rows += rows.day.size
        while self._n_rows > _MOST_NEW:
            self._n_rows -= self._changes.popleft().day.size

    def since(self, place: int) -> list[Changes] | None:
        """What came after so many; None when that is not kept any more."""
        n = self.end - place
        return list(self._changes)[len(self._changes) - n :] if 0 <= n <= len(self._changes) else None


class CoarseRow(NamedTuple):
    """What a row of a coarse table says: predictions, and the labelled ones in bins of equal width."""

    n_predictions: int
    n_abstained: int
    n: int
    losses: Floats
    bins: Floats

    @property
    def ece(self) -> float | None:
        """Mean gap of the bins."""
        return float(np.abs(self.bins[2] - self.bins[1]).sum() / self.n) if self.n else None

    def mean(self, column: int) -> float | None:
        """Mean of a column of the bins."""
        return float(self.bins[column].sum() / self.n) if self.n else None

    def mean_loss(self, which: int) -> float | None:
        """Mean squared error (0) or log loss (1)."""
        return max(0.0, float(self.losses[which] / self.n)) if self.n else None


class CoarseTable:
    """One row of plain sums a key (an hour, a day, a segment on a day), for the first ``n_kinds`` kinds."""

    def __init__(self, n_kinds: int, rows: dict[int, Floats] | None = None) -> None:
        self.n_kinds = n_kinds
        self.rows: dict[int, Floats] = {} if rows is None else rows

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return 2 + self.n_kinds * _PER_KIND

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return 8 * self.width * len(self.rows)

    def count(self, key: Ints, n: Ints, withheld: Ints) -> None:
        """Count predictions, and how many of them were withheld."""
        keys, place = np.unique(key, return_inverse=True)
        said, held = np.bincount(place, n, keys.size), np.bincount(place, withheld, keys.size)
        for one, *both in zip(keys.tolist(), said, held, strict=True):
            self._row(one)[:2] += both

    def add(self, key: Ints, rows: Changes) -> None:
        """Add or take back labelled rows."""
        keys, place = np.unique(key, return_inverse=True)
        sums = np.zeros((keys.size, self.width))
        for kind in range(self.n_kinds):
            base, p = 2 + kind * _PER_KIND, rows.p[kind]
            column = np.minimum((p * N_BINS).astype(np.int64), N_BINS - 1)
            for k, values in enumerate(rows.loss[kind] * rows.sign):
                sums[:, base + k] += np.bincount(place, values, keys.size)
            for k, values in enumerate(rows.weights(kind)):
                np.add.at(sums, (place, base + 2 + k * N_BINS + column), values)
        for one, row in zip(keys.tolist(), sums, strict=True):
            self._row(one)[:] += row

    def set(self, key: int, tally: Tally) -> None:
        """The row that all of a tally makes: every edge of a bin is one of the grid."""
        row = np.zeros(self.width)
        row[:2] = tally.n.sum(), tally.n[1]
        for kind in range(self.n_kinds):
            row[2 + kind * _PER_KIND :][:2] = tally.cells.losses[:, :, kind].sum(axis=(0, 1))
        for (_, _, kind), cells, sums in tally.cells.blocks():
            if kind < self.n_kinds:
                bins = row[4 + kind * _PER_KIND :][: 3 * N_BINS].reshape(3, N_BINS)
                column = np.searchsorted(_BIN_ENDS, cells, side="right")
                bins += [np.bincount(column, values, N_BINS) for values in sums]
        self.rows[key] = row

    def drop_before(self, key: int) -> None:
        """Forget the rows of lesser keys."""
        for old in [each for each in self.rows if each < key]:
            del self.rows[old]

    def read(self, keys: Iterable[int], kind: int = 0) -> CoarseRow:
        """The sum of some rows."""
        total = np.zeros(self.width)
        for key in keys:
            total += self.rows[key]
        own = total[2 + kind * _PER_KIND : 2 + (kind + 1) * _PER_KIND]
        bins = own[2:].reshape(3, N_BINS)
        return CoarseRow(int(total[0]), int(total[1]), round(float(bins[0].sum())), own[:2], bins)

    def _row(self, key: int) -> Floats:
        if key not in self.rows:
            self.rows[key] = np.zeros(self.width)
        return self.rows[key]

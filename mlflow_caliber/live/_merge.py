"""Runs into the rows of the rollups: by hour, day and month, of all predictions and of each segment."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlflow_caliber.live._news import ALL, Counted, Delta, delta_from_bytes
from mlflow_caliber.live._rollups import row_of, tally_from_bytes
from mlflow_caliber.live._tallies import Changes, Ints, Tally
from mlflow_caliber.store import LEVELS, RollupHead, RollupRow, RollupRun, Stream, start_of

__all__ = ["merge_if_due", "merge_runs"]

# A row is read and written again for each merge: many changes at once cost each of them little.
_MOST_RUNS, _MOST_CHANGES = 256, 200_000
_AT_ONCE = 64


def merge_if_due(stream: Stream) -> None:
    """Merge the runs of a stream when there are many."""
    runs, changes = stream.unmerged()
    if runs >= _MOST_RUNS or changes >= _MOST_CHANGES:
        merge_runs(stream)


def merge_runs(stream: Stream) -> bool:
    """Merge the runs of a stream into its rollups; False if there are none, or somebody has done it meanwhile.

    Nobody waits for the sums: they are made before the transaction that keeps them.
    """
    with stream.rollups() as view:
        head, runs = view.head, view.runs
    if not runs:
        return False
    return stream.merge_rollups(head.merges, list(_merged(stream, head, runs)), runs[-1].position)


def _merged(stream: Stream, head: RollupHead, runs: tuple[RollupRun, ...]) -> Iterator[RollupRow]:
    delta = _as_one([delta_from_bytes(run.content) for run in runs])
    kept_from = {"hour": head.hours_from, "day": head.days_from, "month": 0}
    for segment in (ALL, *delta.names.values()):
        own = delta.of(segment)
        for level in LEVELS:
            yield from _of_level(stream, segment, level, own, kept_from[level])


def _as_one(deltas: list[Delta]) -> Delta:
    """One delta, with numbers of its own for the segments."""
    names = sorted({name for delta in deltas for name in delta.names.values()})
    counted, changes = [], []
    for delta in deltas:
        new = {number: names.index(name) for number, name in delta.names.items()}
        counted.append(delta.counted.renumbered(new))
        changes.append(delta.changes.renumbered(new))
    return Delta(
        dict(enumerate(names)),
        Counted._make(np.concatenate(column) for column in zip(*counted, strict=True)),
        Changes._make(np.concatenate(column, axis=-1) for column in zip(*changes, strict=True)),
    )


def _of_level(stream: Stream, segment: str, level: str, delta: Delta, kept_from: int) -> Iterator[RollupRow]:
    """The rows of one level that the delta changes, as they are with it."""
    said, told = _Spans(level, delta.counted.hour), _Spans(level, delta.changes.hour)
    starts = np.union1d(said.starts, told.starts)
    starts = starts[starts >= kept_from].tolist()
    for first in range(0, len(starts), _AT_ONCE):
        some = starts[first : first + _AT_ONCE]
        before = stream.rollup_rows(segment, level, some)
        for start in some:
            tally = tally_from_bytes(before[start].content) if start in before else Tally()
            counted = delta.counted.take(said.of(start))
            tally.n = tally.n + counted.by_stratum()
            tally.scorable = tally.scorable + counted.by_stratum(scorable=True)
            tally.add(delta.changes.take(told.of(start)))
            yield row_of(segment, level, start, tally)


class _Spans:
    """Which rows lie in which hour, day or month."""

    def __init__(self, level: str, hour: Ints) -> None:
        hours, place = np.unique(hour, return_inverse=True)
        start = np.array([start_of(level, each * 3_600) for each in hours.tolist()], dtype=np.int64)[place.ravel()]
        self._order = np.argsort(start, kind="stable")
        self._sorted = start[self._order]
        self.starts = np.unique(start)

    def of(self, start: int) -> Ints:
        """The places of the rows of one."""
        first, last = np.searchsorted(self._sorted, [start, start + 1])
        return self._order[first:last]

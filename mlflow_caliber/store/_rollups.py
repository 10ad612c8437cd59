"""Rollups: what the log adds up to by hour, day and month (UTC, by ``recorded_at`` of the prediction), kept for long.

What is new is kept as a run, in the transaction that keeps the summary; many runs are merged into the rows at once.
Rows and runs together say what the entries up to the head's position add up to, each entry exactly once. What their
contents are is the business of whoever adds up; here they are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_caliber._validation import check_choice
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._checks import check_time
from mlflow_caliber.store._database import insert_if_absent
from mlflow_caliber.store._record import chunks
from mlflow_caliber.store._schema import history, rollup_heads, rollup_runs, rollups, streams

__all__ = [
    "LEVELS",
    "NewRollups",
    "NewRun",
    "RollupHead",
    "RollupRow",
    "RollupRun",
    "RollupView",
    "RollupsPart",
    "start_of",
]

LEVELS = ("hour", "day", "month")
_SECONDS = {"hour": 3_600, "day": 86_400}
_NO_YEAR_LATER = 253_402_300_799  # the last second that the calendar has


class RollupHead(NamedTuple):
    """How far the rollups go, how often runs were merged into them, and from when on there are hours and days.

    ``about`` is the class that the probabilities are about, None for the predicted one. ``pruned`` predictions are in
    them whose rows were deleted; ``compacted`` ones are in :meth:`Stream.history` instead. ``gaps`` entries in all were
    deleted from the log.
    """

    position: int
    merges: int
    hours_from: int
    days_from: int
    pruned: int
    gaps: int
    about: str | None
    compacted: int


class RollupRow(NamedTuple):
    """One row: of all predictions (``segment`` is empty) or of some, in the hour, day or month that begins then."""

    segment: str
    level: str
    start: int
    answered: int
    abstained: int
    scorable_answered: int
    scorable_abstained: int
    labelled: int
    content: bytes


class RollupRun(NamedTuple):
    """What entries up to a position add, and how much that is."""

    position: int
    predictions: int
    changes: int
    content: bytes


class NewRun(NamedTuple):
    """What is to be kept as a run."""

    predictions: int
    changes: int
    content: bytes


class NewRollups(NamedTuple):
    """What is new since a position, for whoever keeps it together with a summary.

    ``compacted`` is what of :attr:`RollupHead.compacted` is in the summary, and ``run`` what the entries behind a
    position add, which is ``since`` or a later one. With ``anew``, what was kept before is wrong, and forgotten.
    """

    since: int
    about: str | None
    compacted: int
    run: Callable[[int], NewRun | None]
    anew: bool = False

    def fits(self, head: RollupHead, position: int) -> bool:
        """Whether it goes on where the rollups end, and is about the same."""
        is_same = head.compacted == self.compacted and (not head.position or head.about == self.about)
        return is_same and self.since <= head.position <= position


class RollupView:
    """The rollups of a stream at one moment, as long as the transaction lasts that reads them.

    Attributes
    ----------
    head : RollupHead
        How far they go.
    """

    def __init__(self, connection: Connection, stream_id: int, head: RollupHead) -> None:
        self._connection, self._stream_id, self.head = connection, stream_id, head

    @cached_property
    def runs(self) -> tuple[RollupRun, ...]:
        """What is not merged into the rows yet, in order."""
        query = _OF_RUNS.where(rollup_runs.c.stream_id == self._stream_id).order_by(rollup_runs.c.position)
        return tuple(RollupRun(*row) for row in self._connection.execute(query))

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """The segments that have rows, as the rows name them; all predictions together are the empty one."""
        here = (rollups.c.stream_id == self._stream_id) & (rollups.c.level == "month")
        query = sa.select(rollups.c.segment).distinct().where(here).order_by(rollups.c.segment)
        return tuple(self._connection.execute(query).scalars())

    def widened(self, since: float | None, until: float | None) -> tuple[int | None, int | None]:
        """The least span around the given one that there is: of hours, where they are gone of days, or of months."""
        low = None if since is None else _widened(check_time(since, "since"), self.head, up=False)
        return low, None if until is None else _widened(check_time(until, "until"), self.head, up=True)

    def cover(self, since: int | None, until: int | None, segment: str = "") -> Iterator[RollupRow]:
        """The fewest rows that add up to such a span."""
        for level, spans in _cover(since or 0, _NO_YEAR_LATER if until is None else until).items():
            for low, high in spans:
                yield from self.rows(level, low, high, segment)

    def rows(self, level: str, since: int = 0, until: int = _NO_YEAR_LATER, segment: str = "") -> Iterator[RollupRow]:
        """The rows of one level that begin in such a span, the oldest first."""
        query = _OF_ROWS.where(
            *(rollups.c.stream_id == self._stream_id, rollups.c.segment == segment, rollups.c.level == level),
            *(rollups.c.start >= since, rollups.c.start < until),
        )
        # A few at a time: a year of days is larger than what has to be in memory at once.
        for row in self._connection.execute(query.order_by(rollups.c.start)).yield_per(16):
            yield RollupRow(*row)


_HISTORY = sa.select(sa.func.coalesce(sa.func.sum(history.c.n), 0)).where(
    history.c.stream_id == sa.bindparam("stream_id")
)
_HEAD = sa.select(rollup_heads, _HISTORY.scalar_subquery().label("compacted")).where(
    rollup_heads.c.stream_id == sa.bindparam("stream_id")
)


class RollupsPart(StreamBase):
    """The rollups of the stream."""

    def rollup_head(self) -> RollupHead:
        """How far they go: nowhere, as long as nobody has added up.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").stream("churn", "1").rollup_head().position
        0
        """
        with self._database.read() as connection:
            return self._head(connection)

    @contextmanager
    def rollups(self) -> Iterator[RollupView]:
        """All rollups, as they were at one moment.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> stream = open_store("sqlite://").stream("churn", "1")
        >>> with stream.rollups() as view:
        ...     view.widened(4_000.0, 8_000.0), list(view.cover(3_600, 10_800)), view.runs
        ((3600, 10800), [], ())
        """
        with self._database.read() as connection:
            yield RollupView(connection, self._id, self._head(connection))

    def rollup_rows(self, segment: str, level: str, starts: Iterable[int]) -> dict[int, RollupRow]:
        """The rows of one level and segment that begin then, as far as they are there."""
        here = (rollups.c.stream_id == self._id) & (rollups.c.segment == segment) & (rollups.c.level == level)
        found: dict[int, RollupRow] = {}
        with self._database.read() as connection:
            for some in chunks(starts):
                rows = connection.execute(_OF_ROWS.where(here, rollups.c.start.in_(some)))
                found |= {row.start: RollupRow(*row) for row in rows}
        return found

    def unmerged(self) -> tuple[int, int]:
        """How many runs wait to be merged, and how many changes are in them."""
        counted = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(rollup_runs.c.changes), 0))
        with self._database.read() as connection:
            n, changes = connection.execute(counted.where(rollup_runs.c.stream_id == self._id)).one()
        return int(n), int(changes)

    def merge_rollups(self, merges: int, rows: Iterable[RollupRow], position: int) -> bool:
        """Replace rows by others that have the runs up to a position in them, and forget these runs.

        Parameters
        ----------
        merges : int
            As the head had it when the rows were read. If somebody has merged since, nothing is done.
        rows : iterable of RollupRow
            Whole rows, not what is added to them.
        position : int
            Of the last run.

        Returns
        -------
        bool
            Whether it was done.
        """
        key = (rollups.c.segment, rollups.c.level, rollups.c.start)
        with self._database.write() as connection:
            head = self._locked_head(connection)
            if head.merges != merges:
                return False
            for some in chunks(rows):
                keys = [row[:3] for row in some]
                old = (rollups.c.stream_id == self._id) & sa.tuple_(*key).in_(keys)
                connection.execute(sa.delete(rollups).where(old))
                connection.execute(sa.insert(rollups), [{"stream_id": self._id, **row._asdict()} for row in some])
            merged = (rollup_runs.c.stream_id == self._id) & (rollup_runs.c.position <= position)
            connection.execute(sa.delete(rollup_runs).where(merged))
            self._set_head(connection, merges=merges + 1)
        return True

    def thin_rollups(self, level: str, before: float) -> int:
        """Forget the hours of days, or the days of months, that ended before that time: the coarser rows have them.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> stream = open_store("sqlite://").stream("churn", "1")
        >>> stream.thin_rollups("hour", 200_000.0), stream.rollup_head().hours_from
        (0, 172800)
        """
        check_choice(level, "level", LEVELS[:2])
        end = start_of(LEVELS[LEVELS.index(level) + 1], int(check_time(before, "before")))
        column = "hours_from" if level == "hour" else "days_from"
        with self._database.write() as connection:
            head = self._locked_head(connection)
            if end <= getattr(head, column):
                return 0
            finer = rollups.c.level.in_(LEVELS[: LEVELS.index(level) + 1])
            old = (rollups.c.stream_id == self._id) & finer & (rollups.c.start < end)
            gone = connection.execute(sa.delete(rollups).where(old)).rowcount
            # Whoever is merging has read rows that are gone now.
            both = {"hours_from": max(head.hours_from, end), column: end, "merges": head.merges + 1}
            self._set_head(connection, **both)
        return int(gone)

    def _add_run(self, connection: Connection, position: int, new: NewRollups) -> bool:
        """Add what is new behind the head, and move it; False, and nothing, where that does not fit what is kept."""
        head = self._locked_head(connection)
        if new.anew:
            query = sa.select(streams.c.positive).where(streams.c.id == self._id)
            if head.pruned or connection.execute(query).scalar_one() != new.about:
                return False  # rows were pruned meanwhile, or classes named, of which its maker knows nothing yet
            for table in (rollups, rollup_runs):
                connection.execute(sa.delete(table).where(table.c.stream_id == self._id))
            head = head._replace(position=0, hours_from=0, days_from=0, pruned=0)
        elif not new.fits(head, position):
            return False
        run = new.run(head.position) if position > head.position else None
        if run is not None:
            values = {"stream_id": self._id, "position": position, **run._asdict()}
            connection.execute(sa.insert(rollup_runs).values(values))
        merges = head.merges + int(new.anew)
        kept = head._replace(position=position, merges=merges, about=new.about)._asdict()
        self._set_head(connection, **{name: kept[name] for name in RollupHead._fields[:-1]})
        return True

    def _head(self, connection: Connection) -> RollupHead:
        row = connection.execute(_HEAD, {"stream_id": self._id}).mappings().first()
        if row is not None:
            return RollupHead(**{name: row[name] for name in RollupHead._fields[:-1]}, compacted=int(row["compacted"]))
        compacted = connection.execute(_HISTORY, {"stream_id": self._id}).scalar_one()
        return RollupHead(0, 0, 0, 0, 0, 0, None, int(compacted))

    def _locked_head(self, connection: Connection) -> RollupHead:
        nothing = dict.fromkeys(RollupHead._fields[:-2], 0)
        insert_if_absent(connection, rollup_heads, {"stream_id": self._id, **nothing})
        here = rollup_heads.c.stream_id == self._id
        connection.execute(sa.select(rollup_heads.c.position).where(here).with_for_update())
        return self._head(connection)

    def _set_head(self, connection: Connection, **values: Any) -> None:
        here = rollup_heads.c.stream_id == self._id
        connection.execute(sa.update(rollup_heads).where(here).values(values))


_OF_ROWS = sa.select(*(rollups.c[name] for name in RollupRow._fields))
_OF_RUNS = sa.select(*(rollup_runs.c[name] for name in RollupRun._fields))


def start_of(level: str, at: int) -> int:
    """When the hour, day or month of that second begins.

    Examples
    --------
    >>> start_of("hour", 4_000), start_of("day", 100_000), start_of("month", 3_000_000)
    (3600, 86400, 2678400)
    """
    if level != "month":
        return at - at % _SECONDS[level]
    day = datetime.fromtimestamp(at, UTC)
    return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp())


def _end_of(level: str, at: int) -> int:
    """When the one ends that has that second in it, or ends with it."""
    start = start_of(level, at)
    if start == at:
        return at
    if level != "month":
        return start + _SECONDS[level]
    later = start + 32 * 86_400
    return _NO_YEAR_LATER if later > _NO_YEAR_LATER else start_of("month", later)


def _widened(at: float, head: RollupHead, *, up: bool) -> int:
    """The next bound that there is; where only months are known, a bound of months."""
    # (A bound on the edge of what is kept is one in both worlds.)
    level = "hour" if at >= head.hours_from else "day" if at >= head.days_from else "month"
    whole = int(at) + (up and at > int(at))
    return min(_end_of(level, whole), _NO_YEAR_LATER) if up else start_of(level, whole)


def _cover(since: int, until: int) -> dict[str, list[tuple[int, int]]]:
    """Spans of months, days and hours that are the given one: months in the middle, hours at the ends."""
    spans: dict[str, list[tuple[int, int]]] = {level: [] for level in reversed(LEVELS)}
    ends = [(since, until)]
    for level, of_level in spans.items():
        rest: list[tuple[int, int]] = []
        for low, high in ends:
            first = _end_of(level, low)
            last = high if high == _NO_YEAR_LATER else start_of(level, high)
            if first < last:
                of_level.append((first, last))
                rest += [(low, first), (last, high)]
            else:
                rest.append((low, high))
        ends = [span for span in rest if span[0] < span[1]]
    return spans

"""Whether a store is whole: what the database says of itself, and what must hold between its tables."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber.store._database import Database
from mlflow_caliber.store._schema import (
    history,
    learners,
    outcomes,
    predictions,
    revisions,
    rollup_heads,
    rollup_runs,
    rollups,
    streams,
    summaries,
)

__all__ = ["IntegrityPart"]

# Clocks of several machines differ by seconds; by hours one of them was wrong.
_AHEAD = 1.0
_FUTURE = (
    "Its last entry was recorded {:,.0f} hours from now: a clock was wrong, and all that comes before that time is "
    "recorded at that time."
)


class IntegrityPart:
    """The examination of a store."""

    _database: Database

    def faults(self) -> tuple[str, ...]:
        """What is wrong with the store, in sentences; nothing changes. It reads every log, which takes a while.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").faults()
        ()
        """
        with self._database.read() as connection:
            found = list(_of_sqlite(connection)) if self._database.is_sqlite else []
            now = self._database.now(connection)
            for stream in connection.execute(sa.select(streams).order_by(streams.c.id)).mappings():
                ahead = (stream["last_recorded_at"] - now) / 3_600.0
                if ahead > _AHEAD:
                    found.append(f"{stream['model']}/{stream['version']}: {_FUTURE.format(ahead)}")
                found += [f"{stream['model']}/{stream['version']}: {each}" for each in _of_stream(connection, stream)]
        return tuple(found)


def _of_sqlite(connection: Connection) -> Iterator[str]:
    for (said,) in connection.exec_driver_sql("PRAGMA integrity_check(20)"):
        if said != "ok":
            yield f"SQLite finds the file damaged: {said}."
    orphans = {(row[0], row[2]) for row in connection.exec_driver_sql("PRAGMA foreign_key_check")}
    for table, parent in sorted(orphans):
        yield f"{table} must refer to rows of {parent} that are there, and some do not."


def _of_stream(connection: Connection, stream: RowMapping) -> Iterator[str]:
    end = stream["next_seq"] - 1
    yield from _of_log(connection, stream["id"], end)
    positions = {
        "the learner's position": learners.c.position,
        "the learner's settled": learners.c.settled,
        "a revision's position": revisions.c.position,
        "a summary's position": summaries.c.position,
        "the rollups' position": rollup_heads.c.position,
        "a rollup run's position": rollup_runs.c.position,
    }
    for name, column in positions.items():
        here = column.table.c.stream_id == stream["id"]
        position = connection.execute(sa.select(sa.func.max(column)).where(here)).scalar()
        if position is not None and not 0 <= position <= end:
            yield f"{name} must be in the log, which ends at {end}, got {position}."
    yield from _of_rollups(connection, stream["id"])
    numbers = sa.select(revisions.c.number).where(revisions.c.stream_id == stream["id"])
    known = {0, None, *connection.execute(numbers).scalars()}
    for name in ("current_revision", "pinned_revision"):
        if stream[name] not in known:
            yield f"{name} must be a revision that is there, got {stream[name]}."


def _of_log(connection: Connection, stream_id: int, end: int) -> Iterator[str]:
    """Numbers are handed out once and without gaps; only compaction takes some away."""
    both = sa.union_all(
        sa.select(predictions.c.seq).where(predictions.c.stream_id == stream_id),
        sa.select(outcomes.c.seq).where(outcomes.c.stream_id == stream_id),
    ).subquery()
    seq = both.c.seq
    counted = sa.select(sa.func.count(), sa.func.count(seq.distinct()), sa.func.min(seq), sa.func.max(seq))
    n, distinct, first, last = connection.execute(counted).one()
    if n == 0:
        return
    if n != distinct:
        yield f"Each number of the log must be there once, and {n - distinct} are there twice."
    if first < 1 or last > end:
        yield f"The log must have the numbers 1 to {end}, got {first} to {last}."
    compacted = connection.execute(sa.select(sa.func.sum(history.c.n)).where(history.c.stream_id == stream_id)).scalar()
    gaps = connection.execute(sa.select(rollup_heads.c.gaps).where(rollup_heads.c.stream_id == stream_id)).scalar() or 0
    if not compacted and distinct + gaps < end:
        missing = end - distinct - gaps
        yield f"The log must have no gaps, and {missing} of its {end} numbers are missing."


def _of_rollups(connection: Connection, stream_id: int) -> Iterator[str]:
    """Hours add up to days, days to months, and months with the runs to the rows of the log and what was pruned."""
    head = connection.execute(sa.select(rollup_heads).where(rollup_heads.c.stream_id == stream_id)).mappings().first()
    if head is None:
        return
    for finer, coarser, since in (("hour", "day", head["hours_from"]), ("day", "month", head["days_from"])):
        got, wanted = (_rolled_up(connection, stream_id, level, since) for level in (finer, coarser))
        if got != wanted:
            yield f"The rollups by {finer} must add up to those by {coarser}, {wanted} rows, got {got}."
    counted = sa.select(sa.func.count()).where(
        predictions.c.stream_id == stream_id, predictions.c.seq <= head["position"]
    )
    logged = int(connection.execute(counted).scalar_one()) + head["pruned"]
    waiting = sa.select(sa.func.coalesce(sa.func.sum(rollup_runs.c.predictions), 0))
    found = int(connection.execute(waiting.where(rollup_runs.c.stream_id == stream_id)).scalar_one())
    found += _rolled_up(connection, stream_id, "month", 0)[0]
    if found != logged:
        yield f"The rollups must have the {logged} predictions of the log and those that were pruned, got {found}."


def _rolled_up(connection: Connection, stream_id: int, level: str, since: int) -> tuple[int, int]:
    """The predictions and the labelled rows of a level."""
    n = sa.func.sum(rollups.c.answered + rollups.c.abstained), sa.func.sum(rollups.c.labelled)
    here = (rollups.c.stream_id == stream_id) & (rollups.c.segment == "") & (rollups.c.level == level)
    row = connection.execute(sa.select(*n).where(here, rollups.c.start >= since)).one()
    return int(row[0] or 0), int(row[1] or 0)

"""Days that were added up elsewhere become part of a stream's history, each load exactly once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_caliber._validation import check_count
from mlflow_caliber.exceptions import ConflictError, InvalidInputError
from mlflow_caliber.store._checks import check_name
from mlflow_caliber.store._history import HistoryDay
from mlflow_caliber.store._record import locked_stream
from mlflow_caliber.store._rollups import RollupsPart, start_of
from mlflow_caliber.store._schema import audit, history, predictions, rollups

__all__ = ["AddedHistory", "BackfillPart"]

_ACTION = "history.add"
_SCORES = ("raw", "base", "served")
_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class AddedHistory:
    """What became of a load: its days and predictions, and whether it was new (else nothing was changed)."""

    source: str
    days: int
    predictions: int
    is_new: bool


class BackfillPart(RollupsPart):
    """What is older than the store."""

    def add_history(
        self, days: Iterable[HistoryDay], *, source: str, overlap: bool = False, actor: str = "backfill"
    ) -> AddedHistory:
        """Add days that were added up elsewhere to :meth:`history`, all in one transaction.

        The audit trail remembers every load by its ``source``: the same load again changes nothing, and says so.

        Parameters
        ----------
        days : iterable of HistoryDay
            One for each UTC day.
        source : str
            The name of the load, such as the path and version of a table.
        overlap : bool, default=False
            Whether days may be added of which the store has predictions already, in the log, in rollups or in the
            history; of a month whose days were thinned out, any day. Only whoever loads knows that these are others.
        actor : str
            Who loads, for the audit trail.

        Returns
        -------
        AddedHistory
            How much the load holds, and whether it was new.

        Raises
        ------
        ConflictError
            If the source was loaded before with other rows, or the store has predictions of one of the days.
        InvalidInputError
            For days that cannot be: not a date, twice, or counts that do not fit each other.

        Examples
        --------
        >>> from mlflow_caliber.metrics import ScoreStatistics
        >>> from mlflow_caliber.store import HistoryDay, open_store
        >>> stream = open_store("sqlite://").stream("churn", "1", classes=[0, 1])
        >>> sums = ScoreStatistics.from_rows([0, 1], [0.2, 0.7])
        >>> day = HistoryDay(day="2025-03-01", n=3, unlabelled=1, raw=sums, base=sums, served=sums)
        >>> stream.add_history([day], source="lake/2025").is_new, stream.add_history([day], source="lake/2025").is_new
        (True, False)
        >>> [each.n for each in stream.history()]
        [3]
        """
        source, actor = check_name(source, "source", 2_000), check_name(actor, "actor")
        load = sorted((_checked(day) for day in days), key=lambda day: day.day)
        twice = [day.day for day, following in pairwise(load) if day.day == following.day]
        if twice or not load:
            raise InvalidInputError(
                f"days must be one or more, each once, got {f'{twice[0]} twice' if load else 'none'}."
            )
        n = sum(day.n for day in load)
        detail = {
            "source": source,
            "days": len(load),
            "predictions": sum(day.n for day in load),
            "digest": _digest(load),
        }
        added = AddedHistory(source=source, days=len(load), predictions=n, is_new=True)
        with self._database.write() as connection:
            locked_stream(connection, self._id)
            before = self._loaded(connection, source)
            if before is not None:
                if before["digest"] != detail["digest"]:
                    raise ConflictError(
                        f"source {source!r} was loaded before with {before['predictions']} predictions of "
                        f"{before['days']} days, now came {added.predictions} others of {added.days} days: name it "
                        "otherwise."
                    )
                return AddedHistory(source=source, days=added.days, predictions=added.predictions, is_new=False)
            if not overlap:
                self._refuse_overlap(connection, load)
            for day in load:
                self._add_day(connection, day)
            self._audit(connection, actor, _ACTION, detail)
        return added

    def _loaded(self, connection: Connection, source: str) -> Mapping[str, Any] | None:
        """What the audit trail says of a load."""
        loads = sa.select(audit.c.detail).where(audit.c.subject == self.subject, audit.c.action == _ACTION)
        return next((each for each in connection.execute(loads).scalars() if each["source"] == source), None)

    def _refuse_overlap(self, connection: Connection, load: list[HistoryDay]) -> None:
        days_from = self._head(connection).days_from
        for day in load:
            where = self._place_of(connection, day.day, days_from)
            if where is not None:
                raise ConflictError(
                    f"days must be new to the store, got {day.day}, and {where} has predictions of {self.subject}: "
                    "leave the day out, or say overlap=True if these are others."
                )

    def _place_of(self, connection: Connection, day: str, days_from: int) -> str | None:
        """Where the store has predictions of a day; of a month that has no days any more all are taken."""
        start = int(_start(day).timestamp())
        of_day = (rollups.c.level.in_(("hour", "day")), rollups.c.start >= start, rollups.c.start < start + _DAY)
        of_month = (rollups.c.level == "month", rollups.c.start == start_of("month", start))
        said = (predictions.c.predicted_at >= start, predictions.c.predicted_at < start + _DAY)
        places: dict[str, tuple[sa.Table, tuple[sa.ColumnElement[bool], ...]]] = {
            "the history": (history, (history.c.day == day,)),
            "the log": (predictions, said),
            "a rollup": (rollups, of_day),
            "the rollup of its month": (rollups, of_month if start < days_from else ()),
        }
        for where, (table, here) in places.items():
            query = sa.select(sa.literal(1)).where(table.c.stream_id == self._id, *here).limit(1)
            if here and connection.execute(query).first() is not None:
                return where
        return None

    def _add_day(self, connection: Connection, day: HistoryDay) -> None:
        from mlflow_caliber.metrics import ScoreStatistics  # whoever only records does without it

        this = (history.c.stream_id == self._id) & (history.c.day == day.day)
        before = connection.execute(sa.select(history).where(this)).mappings().first()
        sums = {name: getattr(day, name) for name in _SCORES}
        values: dict[str, Any] = {"n": day.n, "unlabelled": day.unlabelled}
        if before is None:
            state = {name: each.to_dict() for name, each in sums.items()}
            connection.execute(sa.insert(history).values(stream_id=self._id, day=day.day, statistics=state, **values))
            return
        joined = {name: ScoreStatistics.from_dict(before["statistics"][name]) + each for name, each in sums.items()}
        values = {name: before[name] + value for name, value in values.items()}
        values["statistics"] = {name: each.to_dict() for name, each in joined.items()}
        connection.execute(sa.update(history).where(this).values(values))


def _checked(day: HistoryDay) -> HistoryDay:
    try:
        known = _start(day.day).strftime("%Y-%m-%d") == day.day
    except (TypeError, ValueError):
        known = False
    if not known:
        raise InvalidInputError(f"day must be a date such as 2025-03-01, got {day.day!r:.40}.")
    check_count(day.n, "n")
    labelled = day.n - check_count(day.unlabelled, "unlabelled", minimum=0)
    for name in _SCORES:
        found = getattr(day, name).n
        if found != labelled:
            raise InvalidInputError(f"{name} of {day.day} must be of its {labelled} labelled predictions, got {found}.")
    return day


def _start(day: str) -> datetime:
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)


def _digest(load: list[HistoryDay]) -> str:
    """Of what is counted: sums may differ by their rounding when a cluster adds them up again."""
    counted = []
    for day in load:
        scores = [getattr(day, name).to_dict() for name in _SCORES]
        of_scores = [[cells[name] for name in ("exact", "key", "rows", "positive")] for cells in scores]
        counted.append([day.day, day.n, day.unlabelled, of_scores])
    return hashlib.sha256(json.dumps(counted).encode()).hexdigest()

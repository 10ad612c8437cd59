"""What is wrong with a stream right now: one open alarm for each kind and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber._validation import check_choice, check_count
from mlflow_caliber.exceptions import InvalidInputError, NotFoundError
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._checks import check_json, check_name, check_stored_text, check_time
from mlflow_caliber.store._record import locked_stream
from mlflow_caliber.store._schema import alarms

__all__ = ["SEVERITIES", "Alarm", "AlarmsPart"]

SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Something that somebody should know, from ``opened_at`` until ``resolved_at``."""

    id: int
    kind: str
    key: str
    severity: str
    sentence: str
    evidence: Any
    opened_at: float
    last_seen_at: float
    resolved_at: float | None
    notified_at: float | None


class AlarmsPart(StreamBase):
    """The alarms of the stream. Times are the store's unless given."""

    def raise_alarm(
        self, kind: str, key: str, severity: str, sentence: str, evidence: Mapping[str, Any], now: float | None = None
    ) -> Alarm:
        """Open an alarm; while one of this kind and key is open, it is that one, seen again and told anew.

        Parameters
        ----------
        kind, key : str
            What sort of trouble ("calibration"), and where ("segment=eu").
        severity : {"info", "warning", "critical"}
            How bad it is.
        sentence : str
            What a person should read.
        evidence : mapping
            The numbers behind it, as plain JSON values.
        now : float, optional
            When it was seen.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> stream = open_store("sqlite://").stream("churn", "1")
        >>> alarm = stream.raise_alarm("calibration", "all", "warning", "ECE is 0.09.", {"ece": 0.09}, now=10.0)
        >>> again = stream.raise_alarm("calibration", "all", "critical", "ECE is 0.12.", {"ece": 0.12}, now=20.0)
        >>> again.id == alarm.id, again.opened_at, again.last_seen_at
        (True, 10.0, 20.0)
        >>> stream.resolve_alarm("calibration", "all"), stream.open_alarms()
        (True, ())
        """
        told = {
            "severity": check_choice(severity, "severity", SEVERITIES),
            "sentence": check_stored_text(sentence, "sentence"),
            "evidence": check_json(evidence, "evidence"),
        }
        is_open = self._open(check_name(kind, "kind"), check_name(key, "key"))
        with self._database.write() as connection:
            locked_stream(connection, self._id)
            told["last_seen_at"] = seen = self._when(connection, now)
            if not connection.execute(sa.update(alarms).where(is_open).values(told)).rowcount:
                place = {"stream_id": self._id, "kind": kind, "key": key, "opened_at": seen}
                connection.execute(sa.insert(alarms).values(place | told))
            return _alarm(connection.execute(sa.select(alarms).where(is_open)).mappings().one())

    def resolve_alarm(self, kind: str, key: str, now: float | None = None) -> bool:
        """Close the alarm; whether there was one."""
        is_open = self._open(check_name(kind, "kind"), check_name(key, "key"))
        with self._database.write() as connection:
            closed = sa.update(alarms).where(is_open).values(resolved_at=self._when(connection, now))
            return bool(connection.execute(closed).rowcount)

    def mark_notified(self, alarm_id: int, now: float | None = None) -> None:
        """Note that somebody was told of the alarm."""
        this = (alarms.c.stream_id == self._id) & (alarms.c.id == alarm_id)
        with self._database.write() as connection:
            noted = sa.update(alarms).where(this).values(notified_at=self._when(connection, now))
            if not connection.execute(noted).rowcount:
                raise InvalidInputError(f"{self.subject} has no alarm {alarm_id!r}.")

    def open_alarms(self) -> tuple[Alarm, ...]:
        """The alarms that are not resolved, the oldest first."""
        query = sa.select(alarms).where(alarms.c.stream_id == self._id, alarms.c.resolved_at.is_(None))
        with self._database.read() as connection:
            return tuple(_alarm(row) for row in connection.execute(query.order_by(alarms.c.id)).mappings())

    def last_alarms(self, limit: int = 200) -> tuple[Alarm, ...]:
        """The last alarms, resolved or not, the newest first.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").stream("churn", "1").last_alarms()
        ()
        """
        query = sa.select(alarms).where(alarms.c.stream_id == self._id).order_by(alarms.c.id.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(check_count(limit, "limit"))).mappings()
            return tuple(_alarm(row) for row in rows)

    def close_alarm(self, alarm_id: int, actor: str) -> Alarm:
        """Resolve an alarm as a person's decision, which the audit trail keeps; one that is resolved stays so.

        Raises
        ------
        NotFoundError
            If the stream has no such alarm.
        """
        this = (alarms.c.stream_id == self._id) & (alarms.c.id == alarm_id)
        with self._database.write() as connection:
            locked_stream(connection, self._id)
            alarm = connection.execute(sa.select(alarms).where(this)).mappings().first()
            if alarm is None:
                raise NotFoundError(f"{self.subject} has no alarm {alarm_id!r}.")
            if alarm["resolved_at"] is None:
                connection.execute(sa.update(alarms).where(this).values(resolved_at=self._database.now(connection)))
                what = {name: alarm[name] for name in ("id", "kind", "key", "severity")}
                self._audit(connection, actor, "resolve_alarm", what)
            return _alarm(connection.execute(sa.select(alarms).where(this)).mappings().one())

    def _open(self, kind: str, key: str) -> sa.ColumnElement[bool]:
        named = (alarms.c.stream_id == self._id) & (alarms.c.kind == kind) & (alarms.c.key == key)
        return named & alarms.c.resolved_at.is_(None)

    def _when(self, connection: Connection, now: float | None) -> float:
        return self._database.now(connection) if now is None else check_time(now, "now")


def _alarm(row: RowMapping) -> Alarm:
    return Alarm(**{name: row[name] for name in row if name != "stream_id"})

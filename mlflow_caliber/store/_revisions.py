"""What was learned from a stream, numbered, and which of it is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber._validation import check_count
from mlflow_caliber.exceptions import InvalidInputError, NotFoundError
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._checks import check_json, check_name, check_stored_text, shown
from mlflow_caliber.store._record import locked_stream
from mlflow_caliber.store._schema import revisions, streams

__all__ = ["NewRevision", "Revision", "RevisionsPart", "add_revision"]

SHIPPED = 0
_LAST = 2**31 - 1  # what the column can hold


@dataclass(frozen=True, kw_only=True)
class NewRevision:
    """A map to be served: ``revision`` is the digest of ``map``, which is JSON, learned from ``n_learned`` outcomes."""

    revision: str
    map: Mapping[str, Any]
    n_learned: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A map as it is kept: number 1, 2, 3, ... of its stream, learned up to ``position`` of the log."""

    number: int
    revision: str
    created_at: float
    position: int
    n_learned: int
    map: Any
    metrics: Any
    note: str


def add_revision(connection: Connection, stream_id: int, new: NewRevision, position: int, now: float) -> Revision:
    """Number the revision and make it the current one; the stream is locked by the caller."""
    last = sa.select(sa.func.max(revisions.c.number)).where(revisions.c.stream_id == stream_id)
    revision = Revision(
        number=(connection.execute(last).scalar() or 0) + 1,
        revision=check_name(new.revision, "revision"),
        created_at=now,
        position=position,
        n_learned=check_count(new.n_learned, "n_learned", minimum=0),
        map=check_json(new.map, "map"),
        metrics=check_json(new.metrics, "metrics"),
        note=check_stored_text(new.note, "note"),
    )
    connection.execute(sa.insert(revisions).values(stream_id=stream_id, **vars(revision)))
    _set(connection, stream_id, current_revision=revision.number)
    return revision


class RevisionsPart(StreamBase):
    """Serving one revision or another. Number 0 is the calibrator that the model was shipped with."""

    def revisions(self) -> tuple[Revision, ...]:
        """All revisions, the oldest first."""
        query = sa.select(revisions).where(revisions.c.stream_id == self._id).order_by(revisions.c.number)
        with self._database.read() as connection:
            return tuple(_revision(row) for row in connection.execute(query).mappings())

    def revision(self, number: int) -> Revision:
        """The revision of that number."""
        with self._database.read() as connection:
            return self._found(connection, number)

    def last_revisions(self, limit: int = 200) -> tuple[Revision, ...]:
        """The last revisions, the newest first, without their maps: there may be thousands.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").stream("churn", "1").last_revisions()
        ()
        """
        columns = [column for column in revisions.c if column.name not in {"stream_id", "map"}]
        query = sa.select(*columns).where(revisions.c.stream_id == self._id).order_by(revisions.c.number.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(check_count(limit, "limit"))).mappings()
            return tuple(Revision(**row, map=None) for row in rows)

    def current(self) -> Revision | None:
        """The revision to be served: the pinned one, or else the newest; None for the shipped calibrator."""
        with self._database.read() as connection:
            number = self._served_now(connection)
            return None if number == SHIPPED else self._found(connection, number)

    def current_number(self) -> int | None:
        """The number of :meth:`current`, without its map: for those who ask often."""
        with self._database.read() as connection:
            return self._served_now(connection) or None

    def pin(self, number: int, actor: str) -> None:
        """Serve this revision, whatever is learned; 0 is the shipped calibrator."""
        with self._database.write() as connection:
            before = _served(locked_stream(connection, self._id))
            self._pin(connection, check_count(number, "number", minimum=SHIPPED), actor, "pin", before)

    def unpin(self, actor: str) -> None:
        """Serve the newest revision again, and those that come."""
        with self._database.write() as connection:
            before = _served(locked_stream(connection, self._id))
            _set(connection, self._id, pinned_revision=None)
            self._audit(connection, actor, "unpin", {"before": before})

    def undo(self, actor: str) -> Revision | None:
        """Serve the revision before the one that is served, and pin it; before the first is the shipped calibrator.

        Returns
        -------
        Revision or None
            What is served now; None for the shipped calibrator.

        Raises
        ------
        InvalidInputError
            If the shipped calibrator is served: nothing was before it.
        """
        with self._database.write() as connection:
            before = _served(locked_stream(connection, self._id))
            if before == SHIPPED:
                raise InvalidInputError(f"There is nothing to undo: {self.subject} serves its shipped calibrator.")
            self._pin(connection, before - 1, actor, "undo", before)
            return None if before - 1 == SHIPPED else self._found(connection, before - 1)

    def _served_now(self, connection: Connection) -> int:
        row = connection.execute(sa.select(streams).where(streams.c.id == self._id)).mappings().one()
        return _served(dict(row))

    def _pin(self, connection: Connection, number: int, actor: str, action: str, before: int) -> None:
        if number != SHIPPED:
            self._found(connection, number)
        _set(connection, self._id, pinned_revision=number)
        self._audit(connection, actor, action, {"before": before, "now": number})

    def _found(self, connection: Connection, number: int) -> Revision:
        wanted = (revisions.c.stream_id == self._id) & (revisions.c.number == number)
        exists = 0 <= number <= _LAST
        row = connection.execute(sa.select(revisions).where(wanted)).mappings().first() if exists else None
        if row is None:
            raise NotFoundError(f"{self.subject} has no revision {shown(number)}.")
        return _revision(row)


def _served(stream: Mapping[str, Any]) -> int:
    pinned = stream["pinned_revision"]
    return int((stream["current_revision"] or SHIPPED) if pinned is None else pinned)


def _set(connection: Connection, stream_id: int, **values: Any) -> None:
    connection.execute(sa.update(streams).where(streams.c.id == stream_id).values(values))


def _revision(row: RowMapping) -> Revision:
    return Revision(**{name: row[name] for name in row if name != "stream_id"})

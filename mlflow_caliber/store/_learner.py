"""Who learns from a stream: one at a time, by a lease that runs out, with an epoch that stops whoever was late."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber._validation import check_count, check_number
from mlflow_caliber.exceptions import InvalidInputError, LeaseLostError
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._checks import check_name, check_stored_text
from mlflow_caliber.store._database import Database, insert_if_absent
from mlflow_caliber.store._record import locked_stream
from mlflow_caliber.store._revisions import NewRevision, Revision, add_revision
from mlflow_caliber.store._schema import learners

__all__ = ["Learner", "LearnerPart", "Lease"]

_LONGEST = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Learner:
    """How far a stream has been learned, and what was learned; ``state`` is the learner's own.

    Up to ``position`` the log was read. Up to ``settled`` it is done with as well: learned or given up.
    """

    holder: str | None
    epoch: int
    lease_expires_at: float
    position: int
    settled: int | None
    state: bytes | None
    state_format: str
    updated_at: float


@dataclass
class Lease:
    """The right to learn from a stream until ``expires_at``, got from :meth:`Stream.lease`.

    A lease that has run out still holds until somebody else takes it; then every act raises
    :class:`~mlflow_caliber.exceptions.LeaseLostError` and writes nothing.
    """

    holder: str
    epoch: int
    expires_at: float
    _seconds: float = field(repr=False)
    _stream_id: int = field(repr=False)
    _database: Database = field(repr=False)

    def renew(self) -> None:
        """Hold it for as long again, from now."""
        with self._database.write() as connection:
            self._mine(connection)
            expires_at = self._database.now(connection) + self._seconds
            _update(connection, self._stream_id, lease_expires_at=expires_at)
        self.expires_at = expires_at

    def release(self) -> None:
        """Let others have it at once; nothing happens if they have it already."""
        with self._database.write() as connection:
            if self._held(_locked_learner(connection, self._stream_id)):
                _update(connection, self._stream_id, holder=None, lease_expires_at=0.0)

    def checkpoint(
        self,
        position: int,
        state: bytes,
        revision: NewRevision | None = None,
        *,
        state_format: str = "",
        settled: int | None = None,
    ) -> Revision | None:
        """Keep what was learned up to ``position``, and publish a revision with it, in one transaction.

        Parameters
        ----------
        position : int
            The last entry of the log that was learned. It never goes back.
        state : bytes
            What the learner needs to go on from there.
        revision : NewRevision, optional
            The map to be served from now on.
        state_format : str
            What the bytes are.
        settled : int, optional
            The entry up to which all is learned or given up: :meth:`Stream.compact` takes no row behind it. By default
            what it was; before it is told, nothing is compacted.

        Returns
        -------
        Revision or None
            The revision as it is kept, with its number.

        Raises
        ------
        LeaseLostError
            If somebody else has the lease.
        InvalidInputError
            If the position goes back, or lies behind the end of the log; if settled lies behind the position.
        """
        if not isinstance(state, bytes):
            raise InvalidInputError(f"state must be bytes, got a {type(state).__name__}.")
        position = check_count(position, "position", minimum=0)
        if settled is not None and check_count(settled, "settled", minimum=0) > position:
            raise InvalidInputError(f"settled must be at most the position, {position}, got {settled}.")
        with self._database.write() as connection:
            learner = self._mine(connection)
            stream = locked_stream(connection, self._stream_id)
            if not learner["position"] <= position < stream["next_seq"]:
                raise InvalidInputError(
                    f"position must lie between the last one, {learner['position']}, and the end of the log, "
                    f"{stream['next_seq'] - 1}, got {position}."
                )
            now = self._database.now(connection)
            kept: dict[str, Any] = {"state": state, "state_format": check_stored_text(state_format, "state_format")}
            if settled is not None:
                kept["settled"] = int(settled)
            _update(connection, self._stream_id, position=position, updated_at=now, **kept)
            return None if revision is None else add_revision(connection, self._stream_id, revision, position, now)

    def _held(self, learner: RowMapping) -> bool:
        return bool(learner["holder"] == self.holder and learner["epoch"] == self.epoch)

    def _mine(self, connection: Connection) -> RowMapping:
        learner = _locked_learner(connection, self._stream_id)
        if self._held(learner):
            return learner
        holder = learner["holder"]
        now = "nobody" if holder is None else repr(holder)
        raise LeaseLostError(
            f"The lease of {self.holder!r} (epoch {self.epoch}) is lost: {now} has it, in epoch {learner['epoch']}."
        )


class LearnerPart(StreamBase):
    """Learning from the stream."""

    def lease(self, holder: str, seconds: float) -> Lease | None:
        """The right to learn from this stream, for so many seconds; None while somebody else has it.

        Parameters
        ----------
        holder : str
            Who asks; it must name one process. The same holder gets its lease again, longer, in the same epoch.
        seconds : float
            Up to a day. On PostgreSQL the server's clock counts.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> stream = open_store("sqlite://").stream("churn", "1")
        >>> lease = stream.lease("worker-1", 30)
        >>> stream.lease("worker-2", 30) is None
        True
        >>> lease.release()
        >>> stream.lease("worker-2", 30).epoch
        2
        """
        holder = check_name(holder, "holder")
        seconds = check_number(seconds, "seconds")
        if not 0.0 < seconds <= _LONGEST:
            raise InvalidInputError(f"seconds must be above 0 and at most {_LONGEST:g}, got {seconds:g}.")
        with self._database.write() as connection:
            insert_if_absent(connection, learners, _nobody(self._id))
            learner = _locked_learner(connection, self._id)
            now = self._database.now(connection)
            taken = learner["holder"] not in {None, holder}
            if taken and now < learner["lease_expires_at"]:
                return None
            epoch = learner["epoch"] + (learner["holder"] != holder)
            expires_at = now + seconds
            _update(connection, self._id, holder=holder, epoch=epoch, lease_expires_at=expires_at)
        return Lease(holder, epoch, expires_at, seconds, self._id, self._database)

    def learner(self) -> Learner | None:
        """How far the stream has been learned; None if nobody has ever had a lease."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(learners).where(learners.c.stream_id == self._id)).mappings().first()
        return None if row is None else Learner(**{name: row[name] for name in row if name != "stream_id"})


def _nobody(stream_id: int) -> dict[str, Any]:
    zeros = {"epoch": 0, "lease_expires_at": 0.0, "position": 0, "updated_at": 0.0}
    return {"stream_id": stream_id, "state_format": "", **zeros}


def _locked_learner(connection: Connection, stream_id: int) -> RowMapping:
    query = sa.select(learners).where(learners.c.stream_id == stream_id).with_for_update()
    return connection.execute(query).mappings().one()


def _update(connection: Connection, stream_id: int, **values: Any) -> None:
    connection.execute(sa.update(learners).where(learners.c.stream_id == stream_id).values(values))

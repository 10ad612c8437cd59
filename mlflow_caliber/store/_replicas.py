"""Who serves a stream's model, and how they are."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from mlflow_caliber._validation import check_count
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._checks import check_name, check_stored_text
from mlflow_caliber.store._schema import replicas

__all__ = ["Replica", "ReplicasPart"]

_FORGOTTEN_AFTER = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A serving process as it last said: the revision it answers with, predictions it dropped, what troubles it."""

    name: str
    revision: str
    dropped: int
    trouble: str
    seen_at: float


class ReplicasPart(StreamBase):
    """The serving processes."""

    def report_replica(self, name: str, revision: str, dropped: int, trouble: str) -> None:
        """Say how a serving process is; those that were silent for a day are forgotten.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> stream = open_store("sqlite://").stream("churn", "1")
        >>> stream.report_replica("host:1", "3f2a", 0, "")
        >>> [(replica.name, replica.revision) for replica in stream.replicas()]
        [('host:1', '3f2a')]
        """
        told = {
            "name": check_name(name, "name"),
            "revision": check_stored_text(revision, "revision"),
            "dropped": check_count(dropped, "dropped", minimum=0),
            "trouble": check_stored_text(trouble, "trouble"),
        }
        here = replicas.c.stream_id == self._id
        with self._database.write() as connection:
            now = self._database.now(connection)
            gone = (replicas.c.name == name) | (replicas.c.seen_at < now - _FORGOTTEN_AFTER)
            connection.execute(sa.delete(replicas).where(here & gone))
            connection.execute(sa.insert(replicas).values(stream_id=self._id, seen_at=now, **told))

    def replicas(self) -> tuple[Replica, ...]:
        """The serving processes of the last day, by name."""
        columns = [column for column in replicas.c if column.name != "stream_id"]
        query = sa.select(*columns).where(replicas.c.stream_id == self._id).order_by(replicas.c.name)
        with self._database.read() as connection:
            return tuple(Replica(**row) for row in connection.execute(query).mappings())

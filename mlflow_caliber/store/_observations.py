"""What was last seen of a stream, kept for those who ask: to look is slow, to read what was seen is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._checks import check_json, check_time
from mlflow_caliber.store._database import insert_if_absent
from mlflow_caliber.store._schema import observations

__all__ = ["ObservationsPart"]


class ObservationsPart(StreamBase):
    """The last observation of the stream."""

    def save_observation(self, content: Mapping[str, Any], at: float) -> None:
        """Keep what was seen, unless somebody has seen it later.

        Parameters
        ----------
        content : mapping
            Plain JSON values.
        at : float
            When it was seen, in seconds since 1970.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> stream = open_store("sqlite://").stream("churn", "1")
        >>> stream.save_observation({"n": 2}, at=20.0)
        >>> stream.save_observation({"n": 1}, at=10.0)
        >>> stream.observation()
        (20.0, {'n': 2})
        """
        row = {"at": check_time(at, "at"), "content": check_json(content, "content")}
        here = observations.c.stream_id == self._id
        with self._database.write() as connection:
            insert_if_absent(connection, observations, {"stream_id": self._id, **row})
            connection.execute(sa.update(observations).where(here, observations.c.at <= row["at"]).values(row))

    def observed_at(self) -> float | None:
        """When somebody last looked, without what they saw."""
        with self._database.read() as connection:
            return connection.execute(sa.select(observations.c.at).where(observations.c.stream_id == self._id)).scalar()

    def observation(self) -> tuple[float, dict[str, Any]] | None:
        """What was last seen and when; None before anybody has looked."""
        query = sa.select(observations.c.at, observations.c.content).where(observations.c.stream_id == self._id)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else (float(row.at), dict(row.content))

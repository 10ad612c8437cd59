"""What every part of a stream works on, and the audit trail that its acts leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_caliber.store._checks import check_json, check_name
from mlflow_caliber.store._database import Database
from mlflow_caliber.store._schema import audit

__all__ = ["AuditEntry", "StreamBase", "write_audit"]


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """Who did what to what, and when; later acts have larger numbers."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    detail: Any


class StreamBase:
    """A model version's place in the store."""

    def __init__(
        self,
        database: Database,
        stream_id: int,
        model: str,
        version: str,
        classes: tuple[str, ...] | None,
        positive: str | None,
        created_at: float,
    ) -> None:
        self._database = database
        self._id = stream_id
        self.model = model
        self.version = version
        self.classes = classes
        self.positive = positive
        self.created_at = created_at

    def __repr__(self) -> str:
        return f"Stream(model={self.model!r}, version={self.version!r})"

    @property
    def id(self) -> int:
        """The stream's number in its store."""
        return self._id

    @property
    def subject(self) -> str:
        """How the audit trail names the stream."""
        return f"{self.model}/{self.version}"

    def _audit(self, connection: Connection, actor: str, action: str, detail: Mapping[str, Any]) -> None:
        write_audit(connection, self._database.now(connection), actor, action, self.subject, detail)


def write_audit(
    connection: Connection, at: float, actor: str, action: str, subject: str, detail: Mapping[str, Any]
) -> None:
    """Add to the trail; nothing changes or deletes what is there."""
    row = {
        "at": at,
        "actor": check_name(actor, "actor"),
        "action": check_name(action, "action"),
        "subject": check_name(subject, "subject", 2_000),
        "detail": check_json(detail, "detail"),
    }
    connection.execute(sa.insert(audit).values(row))

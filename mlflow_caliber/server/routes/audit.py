"""Who did what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from mlflow_caliber.server._access import Caller, allow
from mlflow_caliber.server._service import Served, Service
from mlflow_caliber.store import AuditEntry

router = APIRouter(tags=["access"])

_AT_ONCE = 1_000
_ABOUT_TOKENS = {"create_token", "revoke_token", "open_session"}


class Act(BaseModel):
    """Somebody did something."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    detail: Any


class Trail(BaseModel):
    """The last acts, the newest first; ``next`` is what to give as ``before`` for older ones."""

    entries: list[Act]
    next: int | None


@router.get("/audit", response_model=Trail, summary="Who did what")
def audit(
    caller: Annotated[Caller, Depends(allow("view"))],
    service: Served,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> Trail:
    """The last acts on the models that the caller sees."""
    found = _last(caller, service, limit, before)
    following = found[-1].id if len(found) == limit else None
    return Trail(entries=[Act(**vars(entry)) for entry in found], next=following)


def _last(caller: Caller, service: Service, limit: int, before: int | None) -> list[AuditEntry]:
    if caller.models is None:
        return list(service.store.audit_trail(limit, before=before))
    streams = service.store.streams()
    # A model may be called "token", or begin like another's name: only the whole subject says whose it is.
    others = {stream.subject for stream in streams if not caller.sees(stream.model)}
    mine = {stream.subject for stream in streams if caller.sees(stream.model)} - others
    found: list[AuditEntry] = []
    while len(found) < limit:
        part = service.store.audit_trail(_AT_ONCE, before=before, models=caller.models)
        found += [entry for entry in part if entry.subject in mine and entry.action not in _ABOUT_TOKENS]
        if len(part) < _AT_ONCE:
            break
        before = part[-1].id
    return found[:limit]

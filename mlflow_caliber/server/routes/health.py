"""For whoever keeps the service running."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Response
from pydantic import BaseModel

from mlflow_caliber.exceptions import StoreError
from mlflow_caliber.server._access import Caller, allow
from mlflow_caliber.server._errors import problem
from mlflow_caliber.server._service import Served

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """Well."""

    status: str


@router.get("/healthz", response_model=Health, summary="Whether the process lives")
async def healthz() -> Health:
    """Whether the process lives; it says nothing of the store."""
    return Health(status="ok")


@router.get("/readyz", response_model=Health, summary="Whether requests can be answered")
def readyz(service: Served) -> Response | Health:
    """Whether requests can be answered: the store answers, and the service does not end."""
    try:
        service.store.ends()
    except StoreError:
        return problem(503, "The store does not answer.")
    return Health(status="ok")


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
def metrics(caller: Annotated[Caller, Depends(allow("view"))], service: Served) -> Response:
    """All metrics, as Prometheus reads them.

    Its ``authorization`` holds a token with the role view, which is for all models: the metrics name them.
    """
    if caller.models is not None:
        raise HTTPException(403, "The metrics name all models, and the token is for some.")
    alarms, reviews, positions = {"critical": 0, "warning": 0, "info": 0}, 0, {}
    try:
        ends = service.store.ends()
        positions = {(each.model, each.version): ends.get(each.id, 0) for each in service.store.streams()}
        for waits in service.store.attention().values():
            reviews += waits.reviews
            for severity, n in waits.alarms.items():
                alarms[severity] += n
        service.metrics.store(True, alarms, reviews, positions)
    except StoreError:
        service.metrics.store(False, {}, 0, {})
    return Response(service.metrics.text(), media_type="text/plain; version=1.0.0; charset=utf-8")

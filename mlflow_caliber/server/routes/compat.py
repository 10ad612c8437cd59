"""The addresses and fields of the Caliber app, so that its clients go on working.

A prediction's number is made of the stream's and of its place in the log; a sample's id is the prediction's id.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, cast

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from mlflow_caliber.exceptions import ConflictError, InvalidInputError, NotFoundError
from mlflow_caliber.server._access import Caller, allow
from mlflow_caliber.server._express import json_answer
from mlflow_caliber.server._live import Frame, Viewer
from mlflow_caliber.server._messages import APP_PREDICTION_BODY
from mlflow_caliber.server._service import Served, Service, service_of
from mlflow_caliber.server._top_label import calibration_of, risk_coverage_of
from mlflow_caliber.server.routes.ingest import read_json
from mlflow_caliber.server.routes.live import admitted, serve_viewer
from mlflow_caliber.store import (
    LOW_CONFIDENCE,
    STAGES,
    Alarm,
    Outcome,
    Prediction,
    Said,
    Stream,
    StreamSettings,
    message_from_app,
    prediction_from_message,
)

router = APIRouter(tags=["Caliber app"])

_LOG = 32  # bits of a prediction's number that are its place in the log
_LISTED, _ALARMS = 200, 100
_KEYS = {"model_version_id", "sample_id", "predicted_label", "confidence", "uncertainty", "ground_truth"}
_UNCERTAINTY = "uncertainty"

Viewing = Annotated[Caller, Depends(allow("view"))]
_ingesting = allow("ingest")
Number = Annotated[int | None, Query(alias="model_version_id", ge=0, le=2**53)]


class ModelVersionIn(BaseModel):
    """A model version to make known."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "MedProbCLIP", "version": "v1.2.0"}]})

    name: str = Field(min_length=1, max_length=200)
    version: str = Field(min_length=1, max_length=200)
    parent_id: int | None = None
    stage: str = Field("staging", max_length=200)
    abstain_threshold: float = Field(0.7, ge=0.0, le=1.0)


class ModelVersionOut(BaseModel):
    """A model version; without a threshold of its own, nothing is withheld: 0."""

    name: str
    version: str
    parent_id: int | None
    stage: str
    abstain_threshold: float
    id: int
    created_at: str


class PredictionOut(BaseModel):
    """A prediction: "auto", waiting for "review", or "resolved", without a truth when nobody could judge it."""

    id: int
    model_version_id: int
    sample_id: str
    predicted_label: str
    confidence: float
    uncertainty: float
    ground_truth: str | None
    correct: bool | None
    status: str
    created_at: str


class ReviewIn(BaseModel):
    """What a reviewer says it is."""

    ground_truth: str = Field(min_length=1, max_length=200)


class CalibrationOut(BaseModel):
    """Expected calibration error of the confidence; null when nothing is labelled."""

    ece: float | None
    n_labeled: int
    bins: list[dict[str, Any]]


class RiskCoverageOut(BaseModel):
    """Area under the risk-coverage curve, ties averaged; null when nothing is labelled."""

    aurc: float | None
    points: list[dict[str, float]]


class DriftAlertOut(BaseModel):
    """An open drift alarm."""

    id: int
    model_version_id: int
    feature: str
    drift_score: float | None
    threshold: float | None
    severity: str
    created_at: str


class Health(BaseModel):
    """Well."""

    status: str


@router.get("/health", response_model=Health, summary="Whether the process lives")
async def health() -> Health:
    """Whether the process lives."""
    return Health(status="ok")


@router.get("/api/models", response_model=list[ModelVersionOut], summary="Model versions")
def models(caller: Viewing, service: Served) -> list[ModelVersionOut]:
    """All model versions that the caller sees."""
    streams = service.store.streams()
    return [_version_out(stream, streams) for stream in streams if caller.sees(stream.model)]


@router.post("/api/models", response_model=ModelVersionOut, summary="Make a model version known")
def create_model(
    body: ModelVersionIn, caller: Annotated[Caller, Depends(allow("ingest"))], service: Served
) -> ModelVersionOut:
    """Make a model version known; again, it must be the same."""
    parent = None
    if not caller.sees(body.name):
        raise NotFoundError(f"There is no model {body.name[:80]!r} here.")
    if body.parent_id is not None:
        parent = _parent(_by_number(service, caller, body.parent_id), body.name)
    told = StreamSettings(abstain_threshold=body.abstain_threshold, stage=body.stage, parent_version=parent)
    known = service.store.find_stream(body.name, body.version)
    if known is not None and known.settings() != told:
        raise ConflictError(f"{known.subject} is known with another stage, parent or threshold.")
    stream = known or service.store.stream(body.name, body.version)
    if known is None:
        stream.change_settings(told, caller.name)
        service.forget()
    return _version_out(stream, service.store.streams())


@router.post(
    "/api/predictions",
    response_model=PredictionOut,
    openapi_extra={"requestBody": APP_PREDICTION_BODY},
    summary="Record a prediction",
)
async def ingest(request: Request) -> Response:
    """Record a prediction, and its truth if it is known; the threshold of its version is applied."""
    service, caller = service_of(request), await _ingesting(request)
    told = read_json(await request.body(), request)
    if not isinstance(told, dict) or told.keys() - _KEYS:
        raise InvalidInputError(f"A prediction must be a JSON object of {', '.join(sorted(_KEYS))}.")
    stream = await _numbered(service, caller, told.get("model_version_id"))
    said, happened = _events(told, stream, service.clock())
    receipt = await service.ingest.record(stream, [said if happened is None else (said, happened)])
    if receipt.refused:
        first = receipt.refused[0]
        raise (ConflictError if first.kind == "conflict" else InvalidInputError)(first.sentence)
    n = 1 if receipt.recorded else 0
    service.metrics.took("prediction", recorded=n, duplicates=1 - n, refused=0)
    seq = receipt.seqs[0]
    if seq is None:  # known already
        found = await run_sync(stream.prediction, said.prediction_id)
        if found is not None:
            return json_answer(_shown(stream, found))
    abstained = said.prediction_id in receipt.withheld
    reason = LOW_CONFIDENCE if abstained else ""
    recorded = Said(
        seq=seq or 0,
        recorded_at=service.clock(),
        prediction=_replaced(said, abstained=abstained, reason=reason),
        outcome=happened,
        stage="review" if abstained else "auto" if happened is None else "resolved",
    )
    return json_answer(_shown(stream, recorded))


@router.get("/api/predictions", response_model=list[PredictionOut], summary="The newest predictions")
def predictions(caller: Viewing, service: Served, number: Number = None, status: str | None = None) -> Response:
    """The newest 200, of one version or of all, with one status or with any."""
    if status is not None and status not in STAGES:
        raise InvalidInputError(f"status must be one of {', '.join(STAGES)}, got {status[:80]!r}.")
    rows = [
        (said.recorded_at, _shown(stream, said))
        for stream in _streams(service, caller, number)
        for said in stream.predictions(_LISTED, stage=status)
    ]
    rows.sort(key=lambda each: (each[0], each[1]["id"]), reverse=True)
    return JSONResponse([row for _, row in rows[:_LISTED]])


@router.get("/api/review-queue", response_model=list[PredictionOut], summary="Cases for a person")
def review_queue(caller: Viewing, service: Served, number: Number = None) -> Response:
    """What waits for a person."""
    return predictions(caller, service, number, "review")


@router.post("/api/review/{prediction_id}", response_model=PredictionOut, summary="Resolve a case")
def resolve(
    prediction_id: Annotated[int, Field(ge=0, le=2**63 - 1)],
    body: ReviewIn,
    caller: Annotated[Caller, Depends(allow("review"))],
    service: Served,
) -> Response:
    """Say what is true of a case. Who comes second with another answer is told so."""
    stream = _by_number(service, caller, prediction_id >> _LOG)
    seq = prediction_id & ((1 << _LOG) - 1)
    found = stream.predictions(1, after=max(seq - 1, 0), before=seq + 1)
    if not found:
        raise NotFoundError(f"There is no prediction {prediction_id}.")
    identity = found[0].prediction.prediction_id
    review = stream.review(identity)
    if review.status == "done":
        if review.outcome != body.ground_truth:
            raise ConflictError(f"The case is decided already, by {review.reviewer}: {review.outcome}.")
    else:
        stream.decide_review(identity, body.ground_truth, caller.name)
    said = stream.prediction(identity) or found[0]
    return JSONResponse(_shown(stream, said))


@router.get("/api/calibration", response_model=CalibrationOut, summary="Calibration of the confidence")
def calibration(caller: Viewing, service: Served, number: Number = None) -> Response:
    """Ten bins of equal width of the confidence, over all labelled predictions."""
    return JSONResponse(calibration_of(service.reports, _streams(service, caller, number)))


@router.get("/api/risk-coverage", response_model=RiskCoverageOut, summary="Risk-coverage curve")
def risk_coverage(caller: Viewing, service: Served, number: Number = None) -> Response:
    """At most 200 points, over all labelled predictions."""
    return JSONResponse(risk_coverage_of(service.reports, _streams(service, caller, number)))


@router.get("/api/drift-alerts", response_model=list[DriftAlertOut], summary="Drift alarms")
def drift_alerts(caller: Viewing, service: Served, number: Number = None) -> list[DriftAlertOut]:
    """Open drift alarms, the newest first; the monitor raises them from what it measures."""
    found = [
        _alert_out(stream, alarm)
        for stream in _streams(service, caller, number)
        for alarm in stream.open_alarms()
        if alarm.kind == "drift"
    ]
    return sorted(found, key=lambda alert: -alert.id)[:_ALARMS]


@router.websocket("/ws/live")
async def live(socket: WebSocket) -> None:
    """One message for each prediction that is shown: the newest twenty of each stream, twice a second."""
    caller = await admitted(socket)
    if caller is not None:
        viewer = Viewer(wants=lambda stream: caller.sees(stream.model), write=_texts, group=("app", caller.models))
        await serve_viewer(socket, caller, viewer)


def _texts(_: float, frames: list[Frame]) -> list[str]:
    messages = []
    for frame in frames:
        for said in frame.tail.newest:
            row = _shown(frame.stream, said)
            told = {key: row[key] for key in ("id", "model_version_id", "confidence", "uncertainty", "status")}
            messages.append(json.dumps({"type": "prediction", **told, "ts": row["created_at"]}))
    return messages


def _events(told: dict[str, Any], stream: Stream, now: float) -> tuple[Prediction, Outcome | None]:
    said, *happened = prediction_from_message(message_from_app(told), stream, now)
    return cast("Prediction", said), cast("Outcome", happened[0]) if happened else None


def _replaced(said: Prediction, **values: Any) -> Prediction:
    return Prediction(**{**vars(said), **values})


def _shown(stream: Stream, said: Said) -> dict[str, Any]:
    prediction, outcome = said.prediction, said.outcome
    truth = None if outcome is None else str(outcome.outcome)
    uncertainty = (prediction.features or {}).get(_UNCERTAINTY)
    return {
        "id": stream.id << _LOG | said.seq,
        "model_version_id": stream.id,
        "sample_id": prediction.prediction_id,
        "predicted_label": str(prediction.prediction),
        "confidence": prediction.confidence,
        _UNCERTAINTY: float(uncertainty) if isinstance(uncertainty, int | float) else 0.0,
        "ground_truth": truth,
        "correct": None if truth is None else truth == str(prediction.prediction),
        "status": said.stage,
        "created_at": _iso(said.recorded_at),
    }


def _alert_out(stream: Stream, alarm: Alarm) -> DriftAlertOut:
    return DriftAlertOut(
        id=alarm.id,
        model_version_id=stream.id,
        feature=alarm.key,
        drift_score=alarm.evidence.get("score"),
        threshold=alarm.evidence.get("threshold"),
        severity=alarm.severity,
        created_at=_iso(alarm.opened_at),
    )


def _parent(found: Stream, model: str) -> str:
    """The version that the new one comes from."""
    if found.model != model:
        raise InvalidInputError(f"parent_id must name a version of {model!r}, got one of {found.model!r}.")
    return found.version


def _version_out(stream: Stream, streams: tuple[Stream, ...]) -> ModelVersionOut:
    settings = stream.settings()
    parents = (each.id for each in streams if (each.model, each.version) == (stream.model, settings.parent_version))
    return ModelVersionOut(
        name=stream.model,
        version=stream.version,
        parent_id=next(parents, None),
        stage=settings.stage or "staging",
        abstain_threshold=settings.abstain_threshold or 0.0,
        id=stream.id,
        created_at=_iso(stream.created_at),
    )


async def _numbered(service: Service, caller: Caller, number: Any) -> Stream:
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidInputError(f"model_version_id must be a whole number, got {str(number)[:80]}.")
    if service.numbers.known(number) is None:
        return await run_sync(_by_number, service, caller, number)
    return _by_number(service, caller, number)


def _by_number(service: Service, caller: Caller, number: int) -> Stream:
    found = service.numbers.get(number)
    if found is None or not caller.sees(found.model):
        raise NotFoundError(f"There is no model version {number}.")
    return found


def _streams(service: Service, caller: Caller, number: int | None) -> list[Stream]:
    if number is not None:
        return [_by_number(service, caller, number)]
    return [stream for stream in service.store.streams() if caller.sees(stream.model)]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()

"""Predictions and outcomes come in: one, many, or as a stream of lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.server._access import caller_of, check_still, stream_for
from mlflow_caliber.server._errors import problem
from mlflow_caliber.server._express import json_answer
from mlflow_caliber.server._messages import OUTCOME_BODY, PREDICTION_BODY
from mlflow_caliber.server._service import Served, Service, service_of
from mlflow_caliber.store import (
    LOW_CONFIDENCE,
    Item,
    Outcome,
    Prediction,
    Receipt,
    Refusal,
    Stream,
    json_from_bytes,
    outcome_from_message,
    prediction_from_message,
)

router = APIRouter(tags=["ingest"])

MOST = 10_000
# Of a stream of lines: so many in one commit, unless so many bytes come first; and so long a line.
_LINES, _BYTES, _LONGEST_LINE = 1_000, 4_000_000, 4_000_000
_MOST_REFUSED = 1_000

Events = list[Prediction | Outcome]
Reader = Callable[[Any, Stream, float], Events]
_ingesting = stream_for("ingest")
Ingesting = Annotated[Stream, Depends(_ingesting)]


class RefusedRow(BaseModel):
    """A row that was not taken, counted from 0, and why."""

    index: int
    prediction_id: str
    kind: str
    sentence: str


class Decided(BaseModel):
    """Whether a prediction goes to a person."""

    prediction_id: str
    abstained: bool
    reason: str


class Taken(BaseModel):
    """What became of what was sent: it is on disk."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "recorded": 1,
                    "duplicates": 0,
                    "corrections": 0,
                    "refused": [],
                    "predictions": [{"prediction_id": "a", "abstained": True, "reason": "low_confidence"}],
                }
            ]
        }
    )

    recorded: int = Field(description="Events that were new.")
    duplicates: int = Field(description="Events that were known already.")
    corrections: int = Field(description="New outcomes that replace another.")
    refused: list[RefusedRow]
    predictions: list[Decided] = Field(description="Of a single prediction: whether it goes to a person.")


class TakenLines(Taken):
    """What became of a stream of lines; at most 1000 refused ones are listed."""

    lines: int
    n_refused: int


_ANSWER: dict[int | str, dict[str, Any]] = {200: {"model": Taken}}


@router.post(
    "/models/{model}/versions/{version}/predictions",
    responses=_ANSWER,
    openapi_extra={"requestBody": PREDICTION_BODY},
    summary="Record predictions",
)
async def predictions(request: Request, model: str, version: str) -> Response:
    """Record one prediction, or an array of at most 10,000.

    Sent again they are counted as duplicates. Of an array, rows that cannot be taken are named and the rest is
    recorded; when none can be taken, the answer is an error.
    """
    return await _take(request, prediction_from_message, "prediction")


@router.post(
    "/models/{model}/versions/{version}/outcomes",
    responses=_ANSWER,
    openapi_extra={"requestBody": OUTCOME_BODY},
    summary="Record outcomes",
)
async def outcomes(request: Request, model: str, version: str) -> Response:
    """Record one outcome, or an array of at most 10,000. Outcomes may come before their predictions."""
    return await _take(request, outcome_from_message, "outcome")


@router.post(
    "/models/{model}/versions/{version}/events",
    response_model=TakenLines,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/x-ndjson": {
                    "schema": {"type": "string"},
                    "example": '{"kind": "prediction", "prediction_id": "a", "probability": 0.8}\n'
                    '{"kind": "outcome", "prediction_id": "a", "outcome": "yes"}\n',
                }
            },
        }
    },
    summary="Record a stream of JSON lines",
)
async def events(request: Request, stream: Ingesting, service: Served) -> TakenLines:
    """Record lines of any number: ``{"kind": "prediction", ...}`` or ``{"kind": "outcome", ...}``.

    They are recorded a thousand at a time, or fewer long ones, while they come. A stream that breaks off, or whose
    token is revoked meanwhile, has recorded a part from its beginning, and may be sent again.
    """
    caller = await caller_of(request)
    total, lines, n_refused = Receipt(), 0, 0
    refused: list[dict[str, Any]] = []
    async for chunk in _chunks(request):
        await check_still(request, caller)
        receipt, problems = await _record(service, stream, chunk, _event, "line")
        total += receipt
        n_refused += len(problems)
        refused += [{**each, "index": each["index"] + lines} for each in problems][: _MOST_REFUSED - len(refused)]
        lines += len(chunk)
    return TakenLines(
        recorded=total.recorded,
        duplicates=total.duplicates,
        corrections=total.corrections,
        refused=[RefusedRow(**each) for each in refused],
        predictions=[],
        lines=lines,
        n_refused=n_refused,
    )


async def _take(request: Request, read: Reader, kind: str) -> Response:
    # Asked for here, and not as FastAPI's dependencies: these would take as long as all the rest of a short request.
    service, stream = service_of(request), await _ingesting(request, **request.path_params)
    body = read_json(await request.body(), request)
    rows = body if isinstance(body, list) else [body]
    if not rows or len(rows) > MOST:
        raise InvalidInputError(f"An array must hold 1 to {MOST} {kind}s, got {len(rows)}.")
    receipt, refused = await _record(service, stream, rows, read, kind)
    if refused and not receipt.recorded and not receipt.duplicates:
        first = refused[0]
        more = "" if len(refused) == 1 else f" (The first of {len(refused)} rows, none of which can be taken.)"
        return problem(409 if first["kind"] == "conflict" else 422, first["sentence"] + more)
    single = kind == "prediction" and body is not rows
    return json_answer(
        {
            "recorded": receipt.recorded,
            "duplicates": receipt.duplicates,
            "corrections": receipt.corrections,
            "refused": refused,
            "predictions": [decided(receipt, body["prediction_id"], body)] if single else [],
        }
    )


async def _record(
    service: Service, stream: Stream, rows: Sequence[Any], read: Reader, kind: str
) -> tuple[Receipt, list[dict[str, Any]]]:
    """Read the rows and record what can be read; what became of it, and the rows that cannot be taken."""
    taken: list[Item] = []
    places: list[int] = []
    refused: list[dict[str, Any]] = []
    now = service.clock()
    for i, row in enumerate(rows):
        try:
            found = read(row, stream, now)
        except InvalidInputError as error:
            identity = row.get("prediction_id", "") if isinstance(row, dict) else ""
            refused.append(_refused(i, Refusal(kind, str(identity)[:200], str(error))))
            continue
        if isinstance(row, dict) and "prediction_id" not in row:
            row["prediction_id"] = found[0].prediction_id  # what the answer has to name
        taken.append(tuple(found))
        places += [i] * len(found)
    receipt = await service.ingest.record(stream, taken) if taken else Receipt()
    refused += [_refused(places[each.index or 0], each) for each in receipt.refused]
    refused.sort(key=lambda each: each["index"])
    service.metrics.took(
        kind, recorded=receipt.recorded, duplicates=receipt.duplicates, refused=len({each["index"] for each in refused})
    )
    return receipt, refused


def _refused(index: int, refusal: Refusal) -> dict[str, Any]:
    told = {"prediction_id": refusal.prediction_id, "kind": refusal.kind, "sentence": refusal.sentence}
    return {"index": index, **told}


def decided(receipt: Receipt, prediction_id: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a single prediction goes to a person: as it came, or as the stream's threshold says."""
    abstained = prediction_id in receipt.withheld
    told = message.get("reason", "") if message.get("abstained") is not None else LOW_CONFIDENCE
    return {"prediction_id": prediction_id, "abstained": abstained, "reason": told if abstained else ""}


def read_json(body: bytes, request: Request) -> Any:
    """The body as JSON, and nothing that merely looks like it."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise HTTPException(415, f"The body must be application/json, got {kind[:80]}.")
    return json_from_bytes(body, "The body")


def _event(line: Any, stream: Stream, now: float) -> Events:
    told = json_from_bytes(line, "The line")
    kind = told.pop("kind", None) if isinstance(told, dict) else None
    if kind == "prediction":
        return prediction_from_message(told, stream, now)
    if kind == "outcome":
        return outcome_from_message(told, stream, now)
    raise InvalidInputError('The line must be a JSON object with "kind", which is "prediction" or "outcome".')


async def _chunks(request: Request) -> AsyncIterator[list[bytes]]:
    """The lines that are not empty, some at a time, whatever the pieces they come in."""
    rest, lines, size = b"", [], 0
    async for piece in request.stream():
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise HTTPException(413, f"A line must have at most {_LONGEST_LINE} bytes.")
        for line in filter(bytes.strip, whole):
            lines.append(line)
            size += len(line)
            if len(lines) == _LINES or size >= _BYTES:
                yield lines
                lines, size = [], 0
    if rest.strip():
        lines.append(rest)
    if lines:
        yield lines

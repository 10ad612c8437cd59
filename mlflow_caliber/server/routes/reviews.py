"""The review queue: look, take a case, decide it, see what that did."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, HTTPException, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from mlflow_caliber.exceptions import NotFoundError
from mlflow_caliber.server._access import Caller, allow, stream_for
from mlflow_caliber.server._cases import effect_of, interval_of, rule_of, runner_up
from mlflow_caliber.server._label_studio import import_annotations, task_of
from mlflow_caliber.server._service import Served, Service
from mlflow_caliber.store import Review, Stream, StreamSettings, review_queue

router = APIRouter(tags=["reviews"])

OF_VERSION = "/models/{model}/versions/{version}/reviews"
Looking = Annotated[Caller, Depends(allow("view"))]
Reviewing = Annotated[Caller, Depends(allow("review"))]
Seen = Annotated[Stream, Depends(stream_for("view"))]
Reviewed = Annotated[Stream, Depends(stream_for("review"))]
PredictionId = Annotated[str, Path(min_length=1, max_length=200, description="Which prediction the case is about.")]
Label = Annotated[str, Field(min_length=1, max_length=200)] | int | float | bool


class RunnerUp(BaseModel):
    """The class that comes next."""

    label: str
    probability: float


class ReviewOut(BaseModel):
    """A case: what was served, why it came, who is at it, and what was decided."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "churn",
                    "version": "3",
                    "prediction_id": "a",
                    "status": "open",
                    "origin": "abstained",
                    "reason": "low_confidence",
                    "rule": "The confidence 0.600 was below the threshold at the time (now 0.8).",
                    "confidence": 0.6,
                    "prediction": "yes",
                    "probability": 0.6,
                    "runner_up": {"label": "no", "probability": 0.4},
                    "interval": [0.51, 0.66],
                    "segment": "eu",
                    "features": {"age": 44},
                    "classes": ["no", "yes"],
                    "created_at": 1767225600.0,
                    "claimed_by": None,
                    "lease_expires_at": None,
                    "n_answers": 0,
                    "answers_wanted": 1,
                    "disputed": False,
                    "escalated": False,
                    "expected_cost": 0.4,
                    "outcome": None,
                    "reviewer": None,
                    "note": None,
                    "decided_at": None,
                }
            ]
        }
    )

    model: str
    version: str
    prediction_id: str
    status: Literal["open", "claimed", "done", "declined"]
    origin: str = Field(description='"abstained", or "audit" for one that was drawn at random.')
    reason: str
    rule: str = Field(description="Why it came, in a sentence.")
    confidence: float | None = Field(description="Null when the model had no score: nothing is less certain.")
    prediction: str
    probability: float
    runner_up: RunnerUp | None
    interval: tuple[float, float] | None = Field(
        description="How often what was said with about this probability came true; told of single cases only."
    )
    segment: str | None
    features: dict[str, Any] | None = Field(description="For reviewers only.")
    classes: list[str] | None
    created_at: float
    claimed_by: str | None
    lease_expires_at: float | None
    n_answers: int
    answers_wanted: int
    disputed: bool
    escalated: bool
    expected_cost: float | None
    outcome: str | None
    reviewer: str | None
    note: str | None
    decided_at: float | None


class Today(BaseModel):
    """The day (UTC): how many cases were decided, and how many can still be claimed; null without a capacity."""

    decided: int
    capacity: int | None
    left: int | None


class Queue(BaseModel):
    """The first cases, how many wait in all, and the day."""

    reviews: list[ReviewOut]
    waiting: int
    today: Today


class Decision(BaseModel):
    """What a reviewer says."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"answer": "confirm"}, {"answer": "correct", "label": "no", "note": "called"}]},
    )

    answer: Literal["confirm", "correct", "cant_judge", "escalate"]
    label: Label | None = Field(None, description="What is right, when the answer is to correct.")
    note: str = Field("", max_length=2_000, description="Needed to escalate.")
    correction: bool = Field(False, description="Whether to change what others have decided.")


class Quality(BaseModel):
    """How well what was served is calibrated."""

    ece: float | None
    log_loss: float | None


class Effect(BaseModel):
    """What the answer did."""

    recorded: bool
    sentence: str
    n_labelled_before: int
    n_labelled_after: int
    metrics_before: Quality
    metrics_after: Quality


class Decided(BaseModel):
    """The case after the answer, and what the answer did."""

    review: ReviewOut
    effect: Effect


class Task(BaseModel):
    """A task as Label Studio imports it."""

    data: dict[str, Any]
    predictions: list[dict[str, Any]]
    meta: dict[str, Any]


class RefusedTask(BaseModel):
    """A task, or an annotation of it, that was not taken."""

    index: int
    sentence: str


class ImportOut(BaseModel):
    """How many answers were taken, how many were known, and what was not taken."""

    decided: int
    skipped: int
    refused: list[RefusedTask]


@router.get("/reviews", response_model=Queue, summary="The queue")
def queue(
    caller: Looking,
    service: Served,
    model: Annotated[str | None, Query(max_length=200)] = None,
    version: Annotated[str | None, Query(max_length=200)] = None,
    order: Literal["uncertain", "oldest", "cost"] | None = None,
    status: Literal["waiting", "mine", "escalated", "done"] = "waiting",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Queue:
    """The cases of the models that the caller sees, the most pressing first."""
    streams = {
        (stream.model, stream.version): stream
        for stream in service.store.streams()
        if caller.sees(stream.model)
        and (model is None or stream.model == model)
        and (version is None or stream.version == version)
    }
    if not streams and (model is not None or version is not None):
        raise NotFoundError(f"There is no version {version or 'any'!r:.80} of a model {model or 'any'!r:.80} here.")
    found = review_queue(list(streams.values()), status=status, order=order, reviewer=caller.name, limit=limit)
    settings = {key: streams[key].settings() for key in {(each.model, each.version) for each in found.reviews}}
    return Queue(
        reviews=[
            _out(each, streams[each.model, each.version], settings[each.model, each.version], caller)
            for each in found.reviews
        ],
        waiting=found.waiting,
        today=Today(decided=found.decided, capacity=found.capacity, left=found.left),
    )


@router.get(f"{OF_VERSION}/label-studio", response_model=list[Task], summary="Cases as tasks of Label Studio")
def export_tasks(
    stream: Reviewed, caller: Reviewing, limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000
) -> list[Task]:
    """The cases that wait, in Label Studio's JSON format."""
    settings = stream.settings()
    found = review_queue([stream], reviewer=caller.name, limit=limit)
    return [Task(**task_of(review, rule_of(review, settings))) for review in found.reviews]


@router.post(f"{OF_VERSION}/label-studio", response_model=ImportOut, summary="Annotations of Label Studio as answers")
def import_tasks(
    stream: Reviewed,
    caller: Reviewing,
    service: Served,
    tasks: Annotated[list[dict[str, Any]], Body(max_length=10_000, description="Label Studio's JSON export.")],
    correction: Annotated[bool, Query(description="Whether to change what stands decided.")] = False,
) -> ImportOut:
    """Take annotations as answers of their annotators. Importing a file again changes nothing.

    A file says by itself who annotated: where several reviewers must agree, only an admin may import one, and what
    stands decided is left as it is unless the caller asks for a ``correction``.
    """
    if stream.settings().review.answers > 1 and not caller.may("admin"):
        raise HTTPException(403, "Several reviewers must agree here, so only an admin may bring answers of others.")
    found = import_annotations(stream, tasks, caller.name, correction=correction)
    if found.decided:
        detail = {"taken": found.decided, "skipped": found.skipped, "refused": len(found.refused)}
        service.store.audit(caller.name, "import_reviews", stream.subject, detail)
    refused = [RefusedTask(index=index, sentence=sentence) for index, sentence in found.refused]
    return ImportOut(decided=found.decided, skipped=found.skipped, refused=refused)


@router.post(f"{OF_VERSION}/{{prediction_id:path}}/claim", response_model=ReviewOut, summary="Take a case")
def claim(stream: Reviewed, caller: Reviewing, service: Served, prediction_id: PredictionId) -> ReviewOut:
    """Take a case for the time of a lease, or renew it. 409 says who has it, or that the day's cases are used up."""
    review = stream.claim_review(prediction_id, caller.name)
    return _out(review, stream, stream.settings(), caller, service)


@router.post(f"{OF_VERSION}/{{prediction_id:path}}/release", response_model=ReviewOut, summary="Give a case back")
def release(stream: Reviewed, caller: Reviewing, service: Served, prediction_id: PredictionId) -> ReviewOut:
    """Give a case back to the others."""
    review = stream.release_review(prediction_id, caller.name)
    return _out(review, stream, stream.settings(), caller, service)


@router.post(f"{OF_VERSION}/{{prediction_id:path}}/decide", response_model=Decided, summary="Answer a case")
def decide(
    stream: Reviewed, caller: Reviewing, service: Served, prediction_id: PredictionId, body: Decision
) -> Decided:
    """Say what is right, and see what it did. 409 says who has the case, or who has decided it."""
    before = service.reports.headline(stream)
    answered = stream.answer_review(
        prediction_id, caller.name, body.answer, body.label, body.note, correction=body.correction
    )
    after = service.reports.headline(stream) if answered.recorded else before
    effect = Effect(
        recorded=answered.recorded,
        sentence=effect_of(answered, stream),
        n_labelled_before=before["n_labelled"],
        n_labelled_after=after["n_labelled"],
        metrics_before=Quality(ece=before["ece"], log_loss=before["log_loss"]),
        metrics_after=Quality(ece=after["ece"], log_loss=after["log_loss"]),
    )
    return Decided(review=_out(answered.review, stream, stream.settings(), caller, service), effect=effect)


@router.get(f"{OF_VERSION}/{{prediction_id:path}}", response_model=ReviewOut, summary="A case")
def review(stream: Seen, caller: Looking, service: Served, prediction_id: PredictionId) -> ReviewOut:
    """One case, with how often predictions like it came true."""
    return _out(stream.review(prediction_id), stream, stream.settings(), caller, service)


def _out(
    found: Review, stream: Stream, settings: StreamSettings, caller: Caller, service: Service | None = None
) -> ReviewOut:
    """The case as the caller may see it; with the service, also with its interval."""
    values = {name: getattr(found, name) for name in ReviewOut.model_fields if hasattr(found, name)}
    values["features"] = found.features if caller.may("review") else None
    next_best = runner_up(found, stream.classes)
    return ReviewOut(
        **values,
        rule=rule_of(found, settings),
        runner_up=None if next_best is None else RunnerUp(label=next_best[0], probability=next_best[1]),
        interval=None if service is None else _interval(found, stream, service),
        classes=None if stream.classes is None else list(stream.classes),
    )


def _interval(found: Review, stream: Stream, service: Service) -> tuple[float, float] | None:
    report = service.reports.report(stream, window="all", labels="all", detail="quick")
    return interval_of(found, report["reliability"]["served"])

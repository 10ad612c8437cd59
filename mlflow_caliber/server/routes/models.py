"""The streams themselves: made, set up, and looked at prediction by prediction."""

from __future__ import annotations

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from mlflow_caliber.exceptions import NotFoundError
from mlflow_caliber.server._access import Caller, allow, stream_for
from mlflow_caliber.server._service import Served, Service
from mlflow_caliber.store import Said, Stream, StreamSettings

router = APIRouter(tags=["models"])

Label = Annotated[str, Field(min_length=1, max_length=200)] | int | float | bool


class ReviewRules(BaseModel):
    """How cases are reviewed; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    order: str | None = Field(None, description='"uncertain", "oldest" or "cost".')
    answers: int | None = Field(None, description="So many reviewers must agree, 1 to 9.")
    capacity_per_day: int | None = Field(None, le=1_000_000_000)
    lease_minutes: float | None = None
    audit_share: float | None = Field(None, description="The share of answered predictions that is reviewed too.")
    costs: dict[str, float] | None = Field(None, description="What it costs to miss a label.")


class SettingsChange(BaseModel):
    """Settings to change; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"abstain_threshold": 0.8, "review": {"answers": 2}}]},
    )

    abstain_threshold: float | None = None
    stage: str | None = None
    parent_version: str | None = None
    review: ReviewRules | None = None


class StreamIn(BaseModel):
    """A model version."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"classes": ["no", "yes"], "settings": {"abstain_threshold": 0.8}}]},
    )

    classes: list[Label] | None = Field(None, description="In the order of the probabilities; two at least.")
    positive: Label | None = Field(None, description="Of two classes, the one whose probability is told; the second.")
    settings: SettingsChange | None = None


class ReviewSettingsOut(BaseModel):
    """How cases are reviewed."""

    order: str
    answers: int
    capacity_per_day: int | None
    lease_minutes: float
    audit_share: float
    costs: dict[str, float]


class SettingsOut(BaseModel):
    """What a version is told to do."""

    abstain_threshold: float | None
    stage: str
    parent_version: str | None
    review: ReviewSettingsOut


class StreamOut(BaseModel):
    """A model version and its settings."""

    model: str
    version: str
    classes: list[str] | None
    positive: str | None
    settings: SettingsOut


class PredictionOut(BaseModel):
    """A prediction as it was recorded, and the outcome that holds."""

    seq: int
    recorded_at: float
    prediction_id: str
    predicted_at: float
    raw_probability: float
    base_probability: float
    probability: float
    prediction: str
    confidence: float
    abstained: bool
    reason: str
    segment: str | None
    calibrator_revision: str
    probabilities: list[float] | None
    features: dict[str, Any] | None
    outcome: str | None
    observed_at: float | None
    source: str | None


class PredictionsOut(BaseModel):
    """The newest predictions; ``next`` is what to give as ``before`` for older ones."""

    predictions: list[PredictionOut]
    next: int | None


@router.put("/models/{model}/versions/{version}", response_model=StreamOut, summary="Make a model version known")
async def put_stream(
    model: str,
    version: str,
    body: StreamIn,
    caller: Annotated[Caller, Depends(allow("ingest"))],
    service: Served,
) -> StreamOut:
    """Make a model version known, so that its predictions can come. Doing it again changes nothing.

    Settings given here are set when the version is new; later only an admin may change them.
    """
    if not caller.sees(model):
        raise NotFoundError(f"There is no model {model[:80]!r} here.")
    return await run_sync(_put, service, caller, model, version, body)


def _put(service: Service, caller: Caller, model: str, version: str, body: StreamIn) -> StreamOut:
    is_new = service.store.find_stream(model, version) is None
    wanted = None
    if body.settings is not None:
        before = StreamSettings() if is_new else service.store.stream(model, version).settings()
        wanted = _changed(before, body.settings)
        if not is_new and wanted != before and not caller.may("admin"):
            raise HTTPException(403, "The role admin is needed to change the settings of a version that is known.")
    stream = service.store.stream(model, version, body.classes, body.positive)
    if wanted is not None:
        stream.change_settings(wanted, caller.name)
    service.forget()
    return _stream_out(stream)


@router.get("/models/{model}/versions/{version}/settings", response_model=SettingsOut, summary="Settings of a version")
def get_settings(stream: Annotated[Stream, Depends(stream_for("view"))]) -> SettingsOut:
    """What the version is told to do."""
    return _settings_out(stream)


@router.patch("/models/{model}/versions/{version}/settings", response_model=SettingsOut, summary="Change settings")
def patch_settings(
    body: SettingsChange,
    stream: Annotated[Stream, Depends(stream_for("admin"))],
    caller: Annotated[Caller, Depends(allow("admin"))],
) -> SettingsOut:
    """Change settings; the next prediction that comes obeys them. The audit trail has who did, and what was before."""
    stream.change_settings(_changed(stream.settings(), body), caller.name)
    return _settings_out(stream)


@router.get(
    "/models/{model}/versions/{version}/predictions", response_model=PredictionsOut, summary="The newest predictions"
)
def get_predictions(
    stream: Annotated[Stream, Depends(stream_for("view"))],
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    abstained: bool | None = None,
    labelled: bool | None = None,
    segment: Annotated[str | None, Query(max_length=2_000, pattern=r"^[^\x00]*$")] = None,
) -> PredictionsOut:
    """The newest predictions, the newest first."""
    found = stream.predictions(limit, before=before, abstained=abstained, labelled=labelled, segment=segment)
    following = found[-1].seq if len(found) == limit else None
    return PredictionsOut(predictions=[_prediction_out(said) for said in found], next=following)


def _changed(before: StreamSettings, change: SettingsChange) -> StreamSettings:
    told = change.model_dump(exclude_unset=True)
    review = told.pop("review", None) or {}
    content = before.to_dict()
    defaults = StreamSettings().to_dict()
    for part, changes, ordinary in ((content, told, defaults), (content["review"], review, defaults["review"])):
        for key, value in changes.items():
            part[key] = ordinary[key] if value is None else value
    return StreamSettings.from_dict(content)


def _stream_out(stream: Stream) -> StreamOut:
    classes = None if stream.classes is None else list(stream.classes)
    return StreamOut(
        model=stream.model,
        version=stream.version,
        classes=classes,
        positive=stream.positive,
        settings=_settings_out(stream),
    )


def _settings_out(stream: Stream) -> SettingsOut:
    return SettingsOut.model_validate(stream.settings().to_dict())


def _prediction_out(said: Said) -> PredictionOut:
    happened: dict[str, Any] = {"outcome": None, "observed_at": None, "source": None}
    if said.outcome is not None:
        happened = {name: getattr(said.outcome, name) for name in happened}
    return PredictionOut(seq=said.seq, recorded_at=said.recorded_at, **vars(said.prediction), **happened)

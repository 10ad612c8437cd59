"""How the model versions are: all at a glance, and one in detail."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from mlflow_caliber.live import MANY_UNREAD
from mlflow_caliber.server._access import Caller, allow, stream_for
from mlflow_caliber.server._service import Served
from mlflow_caliber.server.routes.models import SettingsOut
from mlflow_caliber.store import Stream

router = APIRouter(tags=["reports"])

State = Literal["calibrated", "recalibrating", "drifting", "needs_retraining", "investigate", "silent", "waiting"]


class AlarmCounts(BaseModel):
    """Open alarms by severity."""

    critical: int
    warning: int
    info: int


class Overview(BaseModel):
    """A model version at a glance; the figures are about all that was recorded."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "churn",
                    "version": "3",
                    "stage": "production",
                    "abstain_threshold": 0.8,
                    "classes": ["stays", "leaves"],
                    "positive": "leaves",
                    "kind": "binary",
                    "state": "calibrated",
                    "sentence": "What is said fits what happens: the mean gap is 0.9% (0.0% to 1.4%) of 521 outcomes.",
                    "n_predictions": 6020,
                    "n_labelled": 521,
                    "abstain_rate": 0.12,
                    "last_prediction_at": 1763800000.0,
                    "last_outcome_at": 1763799000.0,
                    "ece": 0.009,
                    "ece_low": 0.0,
                    "ece_high": 0.014,
                    "log_loss": 0.31,
                    "log_loss_shipped": 0.34,
                    "open_reviews": 7,
                    "alarms": {"critical": 0, "warning": 1, "info": 0},
                    "revision": 4,
                }
            ]
        }
    )

    model: str
    version: str
    stage: str
    abstain_threshold: float | None
    classes: list[str] | None
    positive: str | None
    kind: Literal["binary", "top_label"]
    state: State
    sentence: str
    n_predictions: int
    n_labelled: int
    abstain_rate: float | None
    last_prediction_at: float | None
    last_outcome_at: float | None
    ece: float | None
    ece_low: float | None
    ece_high: float | None
    log_loss: float | None
    log_loss_shipped: float | None
    open_reviews: int
    alarms: AlarmCounts
    revision: int = Field(
        description="The number of the published revision that is to be served; 0 is the shipped calibrator."
    )


class Overviews(BaseModel):
    """All that the caller sees."""

    models: list[Overview]


class ServedOut(BaseModel):
    """The revision that is to be served; number 0 is the shipped calibrator."""

    number: int
    revision: str
    pinned: bool
    published_at: float | None
    n_learned: int


class AlarmStateOut(BaseModel):
    """A calibration alarm of the worker."""

    raised: bool
    log_e_value: float | None
    n_seen: int


class LearningOut(BaseModel):
    """How far the worker has learned; as the monitor last saw it."""

    holder: str | None
    position: int
    unread: int = Field(le=MANY_UNREAD, description=f"Entries behind it; {MANY_UNREAD} stands for so many or more.")
    lag_seconds: float
    n_waiting: int
    excess: float | None
    learned: int
    late: int
    expired: int
    corrected: int
    unmatched: int
    base: AlarmStateOut | None
    served: AlarmStateOut | None
    trouble: str


class AgeOut(BaseModel):
    """Predictions of at least that age, and how many of them are labelled."""

    days: float
    n: int
    labelled: int


class MaturityOut(BaseModel):
    """How far outcomes have come in; as the monitor last saw it."""

    predictions: int
    labelled: int
    waiting: int
    median_delay: float | None
    settled_before: float | None
    ages: list[AgeOut]


class VerdictOut(BaseModel):
    """The diagnosis; as the monitor last saw it."""

    verdict: str | None
    sentence: str
    note: str
    evidence: dict[str, Any] | None


class ReplicaOut(BaseModel):
    """A serving process as it last said."""

    name: str
    revision: str
    dropped: int
    trouble: str
    seen_at: float


class Detail(Overview):
    """A model version, and what was last seen of it."""

    settings: SettingsOut
    served: ServedOut
    learning: LearningOut | None
    maturity: MaturityOut | None
    diagnosis: VerdictOut | None
    advice: str = Field(description="What to do, where the sentence does not say so.")
    replicas: list[ReplicaOut]
    observed_at: float | None


@router.get("/models", response_model=Overviews, summary="All model versions at a glance")
def list_models(caller: Annotated[Caller, Depends(allow("view"))], service: Served) -> Overviews:
    """Every model version that the caller sees, with its state in a word and a sentence."""
    seen = [stream for stream in service.store.streams() if caller.sees(stream.model)]
    return Overviews(models=[Overview.model_validate(service.reports.overview(stream)) for stream in seen])


@router.get("/models/{model}/versions/{version}", response_model=Detail, summary="A model version")
def get_model(stream: Annotated[Stream, Depends(stream_for("view"))], service: Served) -> Detail:
    """The version's state, what to do about it, what is served, and what the monitor last saw."""
    overview = service.reports.overview(stream)
    observed = stream.observation()
    seen = {} if observed is None else observed[1]
    window = seen.get("window", {})
    return Detail.model_validate(
        {
            **overview,
            "settings": stream.settings().to_dict(),
            "served": served_of(stream),
            "learning": seen.get("learning"),
            "maturity": window.get("maturity"),
            "diagnosis": None if observed is None else verdict_of(window),
            "replicas": [vars(replica) for replica in stream.replicas()],
            "observed_at": None if observed is None else observed[0],
        }
    )


def served_of(stream: Stream) -> dict[str, Any]:
    """What is served now."""
    figures = stream.figures()
    revision = None if figures.revision == 0 else stream.revision(figures.revision)
    return {
        "number": figures.revision,
        "revision": "" if revision is None else revision.revision,
        "pinned": figures.pinned,
        "published_at": None if revision is None else revision.created_at,
        "n_learned": 0 if revision is None else revision.n_learned,
    }


def verdict_of(window: dict[str, Any]) -> dict[str, Any]:
    """The diagnosis of a window as it was observed, or the sentence that says why there is none."""
    found, note = window.get("diagnosis"), window.get("diagnosis_note", "")
    if found is None:
        return {"verdict": None, "sentence": note, "note": note, "evidence": None}
    return {"verdict": found["verdict"], "sentence": found["sentence"], "note": note, "evidence": found["evidence"]}

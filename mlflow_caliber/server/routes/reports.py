"""How far a model version can be relied on, how that went, and what is served: read off sums, never off the log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from mlflow_caliber.server._access import Caller, allow, stream_for
from mlflow_caliber.server._lineage import Lineage, lineage_of
from mlflow_caliber.server._service import Served
from mlflow_caliber.server.routes.overview import verdict_of
from mlflow_caliber.store import Alarm, Revision, Stream

router = APIRouter(tags=["reports"])

OF_VERSION = "/models/{model}/versions/{version}"
_MOST_ALARMS = _MOST_REVISIONS = 200
_LARGEST = 2**31 - 1
_LAST_SECOND = 253_402_300_799.0

Seen = Annotated[Stream, Depends(stream_for("view"))]
Governed = Annotated[Stream, Depends(stream_for("admin"))]
Admin = Annotated[Caller, Depends(allow("admin"))]
Window = Literal["1d", "7d", "30d", "all"]
LongWindow = Literal["1d", "7d", "30d", "90d", "365d", "all"]
Time = Annotated[float | None, Query(ge=0.0, le=_LAST_SECOND)]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class WindowOut(BaseModel):
    """From when on and before when, as it was widened to what there is; null for no bound."""

    name: LongWindow | Literal["range"]
    since: float | None
    until: float | None


class AsOf(BaseModel):
    """Up to which entry of the log the numbers go, when that was recorded, and how many entries are not in them yet."""

    seq: int
    at: float | None
    behind: int


class Bin(BaseModel):
    """Predictions of about one probability, and how often they came true, with Wilson's interval."""

    low: float
    high: float
    n: int
    predicted: float
    observed: float
    observed_low: float
    observed_high: float


class CorpPoint(BaseModel):
    """A point of the curve without bins; the band is where it would lie if the probabilities were right."""

    predicted: float
    observed: float
    band_low: float
    band_high: float
    n: float


class RiskPoint(BaseModel):
    """The error rate of the answers given, when so many are given."""

    coverage: float
    risk: float
    threshold: float


class PolicyPoint(BaseModel):
    """Where the stream's threshold lies on the curve; without a risk when it lets nothing through."""

    threshold: float
    coverage: float
    risk: float | None


class RiskCoverage(BaseModel):
    """The curve of what was served, in at most 200 points."""

    points: list[RiskPoint]
    policy: PolicyPoint | None


class Metrics(BaseModel):
    """By key; of the shipped calibrator on the same rows, null when there are none."""

    served: dict[str, float]
    shipped: dict[str, float] | None


class Intervals(BaseModel):
    """95 % intervals by key."""

    served: dict[str, Pair]
    shipped: dict[str, Pair]


class Reliability(BaseModel):
    """Up to ten bins of about equal mass."""

    served: list[Bin]
    shipped: list[Bin]


class Corp(BaseModel):
    """The curves without bins."""

    served: list[CorpPoint]
    shipped: list[CorpPoint]


class ReportOut(BaseModel):
    """How far what was served can be relied on, next to the shipped calibrator."""

    model: str
    version: str
    window: WindowOut
    segment: str | None
    labels: Literal["all", "observed", "review", "audit"]
    detail: Literal["quick", "full"]
    kind: Literal["binary", "top_label"]
    as_of: AsOf
    n: int = Field(description="Labelled rows.")
    n_predictions: int
    n_abstained: int
    note: str = Field(description="What the numbers do not speak for; empty when nothing has to be said.")
    metrics: Metrics
    intervals: Intervals
    not_computed: dict[str, str] = Field(description="For each metric that is missing, why.")
    reliability: Reliability
    corp: Corp | None
    risk_coverage: RiskCoverage


class TimePoint(BaseModel):
    """An hour or a day; ECE in 20 bins of equal width, of the labelled rows as they are."""

    at: float
    n: int
    n_predictions: int
    n_abstained: int
    ece: float | None
    ece_shipped: float | None
    log_loss: float | None
    log_loss_shipped: float | None
    brier: float | None


class RevisionMark(BaseModel):
    """When a revision was published."""

    number: int
    revision: str
    created_at: float
    n_learned: int


class AlarmMark(BaseModel):
    """From when to when an alarm was open."""

    kind: str
    key: str
    severity: str
    sentence: str
    opened_at: float
    resolved_at: float | None


class TimelineOut(BaseModel):
    """How the numbers went."""

    by: Literal["hour", "day"]
    points: list[TimePoint]
    revisions: list[RevisionMark]
    alarms: list[AlarmMark]


class SegmentOut(BaseModel):
    """One segment; ECE in 20 bins of equal width."""

    segment: str
    n: int
    n_predictions: int
    abstain_rate: float | None
    predicted: float | None
    observed: float | None
    ece: float | None
    ece_low: float | None
    ece_high: float | None
    log_loss: float | None


class SegmentsOut(BaseModel):
    """The segments, the largest first."""

    segments: list[SegmentOut]
    note: str


class DriftColumn(BaseModel):
    """How far a feature or a score is from the model's reference."""

    column: str
    method: str
    statistic: float
    threshold: float
    drifted: bool
    p_value: float | None
    note: str


class DriftOut(BaseModel):
    """Drift as the monitor last saw it; ``note`` says why there is none."""

    at: float | None
    note: str
    share: float | None
    columns: list[DriftColumn]


class DiagnosisOut(BaseModel):
    """The diagnosis as the monitor last saw it."""

    at: float | None
    verdict: str | None
    sentence: str
    note: str
    evidence: dict[str, Any] | None


class AlarmOut(BaseModel):
    """Something that somebody should know."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 3,
                    "kind": "drift",
                    "key": "score:1",
                    "severity": "warning",
                    "sentence": "The scores have drifted from the model's reference: psi is 0.31, wanted below 0.25.",
                    "evidence": {"score": 0.31, "threshold": 0.25},
                    "opened_at": 1763800000.0,
                    "last_seen_at": 1763803600.0,
                    "resolved_at": None,
                }
            ]
        }
    )

    id: int
    kind: str
    key: str
    severity: Literal["critical", "warning", "info"]
    sentence: str
    evidence: dict[str, Any]
    opened_at: float
    last_seen_at: float
    resolved_at: float | None


class AlarmsOut(BaseModel):
    """Alarms, the newest first."""

    alarms: list[AlarmOut]


class RevisionOut(BaseModel):
    """A map that was published."""

    number: int
    revision: str
    created_at: float
    n_learned: int
    note: str
    metrics: dict[str, Any]


class RevisionsOut(BaseModel):
    """The last 200 revisions, the newest first; ``current`` is served, 0 is the shipped calibrator."""

    current: int
    pinned: bool
    revisions: list[RevisionOut]


class LineageNode(BaseModel):
    """A version, and the one that it was made from."""

    version: str
    parent_version: str | None
    stage: str
    aliases: list[str]
    gate_status: str | None
    calibrator_revision: str | None
    created_at: float | None
    here: bool


class LineageOut(BaseModel):
    """The versions of the model, the oldest first."""

    nodes: list[LineageNode]
    note: str


@router.get(f"{OF_VERSION}/report", response_model=ReportOut, summary="How far it can be relied on")
def get_report(
    stream: Seen,
    service: Served,
    window: LongWindow = "all",
    labels: Literal["all", "observed", "review", "audit"] = "all",
    detail: Literal["quick", "full"] = "quick",
    since: Time = None,
    until: Time = None,
    segment: Annotated[str | None, Query(max_length=2_000)] = None,
) -> JSONResponse:
    """Metrics, curves and intervals of what was served and of the shipped calibrator.

    A window begins at the UTC midnight so many days back. With `labels=all`, answered and withheld predictions count by
    their shares, however many of each are labelled. `detail=full` may be a few seconds old; `as_of` says of when it is.

    Instead of a window, `since` and `until` (seconds since 1970) name any span of time. It is widened to full hours,
    and to days or months where hours are not kept any more: `window` says to what, and `note` why. Such a report, and
    one of a `segment`, may be a few seconds old.
    """
    # Plain values of our own: to check each of them again would take longer than to compute them.
    found = service.reports.report(stream, window, labels, detail, since=since, until=until, segment=segment)
    return JSONResponse(found)


@router.get(f"{OF_VERSION}/timeline", response_model=TimelineOut, summary="How the numbers went")
def get_timeline(
    stream: Seen,
    service: Served,
    by: Literal["hour", "day"] = "day",
    last: Annotated[int, Query(ge=1, le=800)] = 90,
) -> TimelineOut:
    """The last 14 days by hour, or the last two years by day, with the revisions and alarms of that time."""
    return TimelineOut.model_validate(service.reports.timeline(stream, by, last))


@router.get(f"{OF_VERSION}/segments", response_model=SegmentsOut, summary="The segments next to each other")
def get_segments(stream: Seen, service: Served, window: Window = "all") -> SegmentsOut:
    """How far each segment can be relied on."""
    return SegmentsOut.model_validate(service.reports.segments(stream, window))


@router.get(f"{OF_VERSION}/drift", response_model=DriftOut, summary="Drift, column by column")
def get_drift(stream: Seen) -> DriftOut:
    """How far features and scores are from the model's reference, as the monitor last saw it."""
    observed = stream.observation()
    if observed is None:
        return DriftOut(at=None, note=_NOT_SEEN, share=None, columns=[])
    window = observed[1]["window"]
    found = window["drift"] or {"share": None, "columns": []}
    columns = [DriftColumn.model_validate(column) for column in found["columns"]]
    return DriftOut(at=observed[0], note=window["drift_note"], share=found["share"], columns=columns)


@router.get(f"{OF_VERSION}/diagnosis", response_model=DiagnosisOut, summary="What to do about it")
def get_diagnosis(stream: Seen) -> DiagnosisOut:
    """Whether a new calibrator, a new model or neither is called for, as the monitor last saw it."""
    observed = stream.observation()
    if observed is None:
        return DiagnosisOut(at=None, verdict=None, sentence=_NOT_SEEN, note=_NOT_SEEN, evidence=None)
    return DiagnosisOut(at=observed[0], **verdict_of(observed[1]["window"]))


@router.get(f"{OF_VERSION}/alarms", response_model=AlarmsOut, summary="Alarms")
def get_alarms(stream: Seen, state: Literal["open", "all"] = "open") -> AlarmsOut:
    """The alarms that are open, or the last 200."""
    found = stream.open_alarms()[::-1] if state == "open" else stream.last_alarms(_MOST_ALARMS)
    return AlarmsOut(alarms=[_alarm_out(alarm) for alarm in found])


@router.post(f"{OF_VERSION}/alarms/{{alarm_id}}/resolve", response_model=AlarmOut, summary="Resolve an alarm")
def resolve_alarm(stream: Governed, caller: Admin, alarm_id: Annotated[int, Path(ge=1, le=_LARGEST)]) -> AlarmOut:
    """Close an alarm; while its cause lasts, the monitor opens another. The audit trail has who did."""
    return _alarm_out(stream.close_alarm(alarm_id, caller.name))


@router.get(f"{OF_VERSION}/revisions", response_model=RevisionsOut, summary="Revisions")
def get_revisions(stream: Seen) -> RevisionsOut:
    """What was published, and which of it is served."""
    return _revisions_out(stream)


@router.post(f"{OF_VERSION}/revisions/unpin", response_model=RevisionsOut, summary="Serve the newest revision again")
def unpin(stream: Governed, caller: Admin) -> RevisionsOut:
    """Serve the newest revision, and those that come. The audit trail has who did."""
    stream.unpin(caller.name)
    return _revisions_out(stream)


@router.post(f"{OF_VERSION}/revisions/{{number}}/pin", response_model=RevisionsOut, summary="Serve this revision")
def pin(stream: Governed, caller: Admin, number: Annotated[int, Path(ge=0, le=_LARGEST)]) -> RevisionsOut:
    """Serve this revision, whatever is learned; 0 is the shipped calibrator. The audit trail has who did."""
    stream.pin(number, caller.name)
    return _revisions_out(stream)


@router.get(f"{OF_VERSION}/lineage", response_model=LineageOut, summary="Which version was made from which")
def get_lineage(stream: Seen, lineage: Annotated[Lineage, Depends(lineage_of)]) -> LineageOut:
    """The versions of the model, from MLflow's registry where the service has one, with the gate's verdicts."""
    return LineageOut.model_validate(lineage.of(stream))


_NOT_SEEN = "Nobody has looked yet: let `mlflow-caliber worker` run."


def _alarm_out(alarm: Alarm) -> AlarmOut:
    return AlarmOut.model_validate({name: getattr(alarm, name) for name in AlarmOut.model_fields})


def _revisions_out(stream: Stream) -> RevisionsOut:
    figures = stream.figures()
    revisions = [_revision_out(revision) for revision in stream.last_revisions(_MOST_REVISIONS)]
    return RevisionsOut(current=figures.revision, pinned=figures.pinned, revisions=revisions)


def _revision_out(revision: Revision) -> RevisionOut:
    return RevisionOut.model_validate({name: getattr(revision, name) for name in RevisionOut.model_fields})

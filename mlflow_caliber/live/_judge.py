"""From what was seen to what somebody should know: sentences that say what was wanted, what came and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow_caliber._odds import one_in
from mlflow_caliber.live._observation import AlarmState, Learning, Observation, ReplicaState
from mlflow_caliber.live._observe import MANY_UNREAD
from mlflow_caliber.live._settings import MonitorSettings

__all__ = ["MONITORED_KINDS", "SHIPPED_IS_OFF", "Finding", "is_undecided", "judge"]

MONITORED_KINDS = ("calibration", "diagnosis", "drift", "dropped", "lag", "learner", "replica", "silence")
"""The kinds of alarms that the monitor raises and resolves; others, such as ``harm``, belong to others."""

SHIPPED_IS_OFF = "The shipped calibrator does not fit the outcomes any more"
"""How the sentence of the alarm ``shipped`` begins; it goes on behind a colon."""

_DAY = 86_400.0
_SURE = math.log(20.0)
# The alarm has already paid for being read after every outcome; the window only has to agree.
_AGREES = 0.05
_SHOWN = 5
# Drift this many times beyond what is wanted is critical.
_FAR = 1.5
# What the store takes.
_LONGEST_KEY, _LONGEST_SENTENCE = 200, 2_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that somebody should know: what :meth:`Stream.raise_alarm` takes."""

    kind: str
    key: str
    severity: str
    sentence: str
    evidence: dict[str, Any] = field(default_factory=dict)


def judge(seen: Observation, settings: MonitorSettings | None = None) -> list[Finding]:
    """Everything that is wrong, by the settings.

    Parameters
    ----------
    seen : Observation
        What :func:`observe` gave.
    settings : MonitorSettings, optional
        What is too much, too long and too far.

    Returns
    -------
    list of Finding
        Of the kinds :data:`MONITORED_KINDS`, each kind and key once.
    """
    settings = settings or MonitorSettings()
    found = [
        *_calibration(seen),
        *_diagnosis(seen),
        *_drift(seen, settings),
        *_silence(seen, settings),
        *_learner(seen, settings),
        *_replicas(seen, settings),
    ]
    return [replace(each, key=each.key[:_LONGEST_KEY], sentence=each.sentence[:_LONGEST_SENTENCE]) for each in found]


def is_undecided(seen: Observation, kind: str, key: str) -> bool:
    """Whether there was too little to see: an alarm of that kind and key that is open stays open."""
    if kind == "calibration":
        return _says_nothing(seen)
    if kind in {"diagnosis", "drift"}:
        return getattr(seen.window, kind) is None
    return (kind, key) == ("silence", "replicas") and not seen.replicas  # a silent process is forgotten after a day


# --- what the outcomes say --------------------------------------------------------------------------------------------


def _calibration(seen: Observation) -> Iterator[Finding]:
    learning, report = seen.learning, seen.window.report
    if _says_nothing(seen) or learning is None or learning.base is None or learning.served is None:
        return
    number = seen.served.number
    p_served = None if report is None else report.metrics.get("calibration_p")
    if _is_off(learning.served, p_served):
        todo = "Find out what has changed in the data or in how outcomes are made, before the answers are used."
        if seen.served.pinned:
            todo = f"Revision {number} is pinned, and what was learned since is not served: unpin it."
        sentence = f"What is served does not fit the outcomes: {_evidence(learning.served, p_served)}. {todo}"
        yield _of_alarm("served", "critical", sentence, learning, p_served)
    p_base = None if report is None or report.raw is None else report.raw.metrics.get("calibration_p")
    if _is_off(learning.base, p_base):
        todo = "Recalibrate the model (`mlflow-caliber revision save` makes a version of what was learned)."
        sentence = f"{SHIPPED_IS_OFF}: {_evidence(learning.base, p_base)}. {todo}"
        yield _of_alarm("shipped", "warning", sentence, learning, p_base)


def _says_nothing(seen: Observation) -> bool:
    """Whether nothing was learned, or there is nothing in the window: an old e-value alone may be out of date."""
    return seen.learning is None or seen.learning.base is None or seen.window.maturity.labelled == 0


def _is_off(alarm: AlarmState, p: float | None) -> bool:
    return alarm.raised and (p is None or p < _AGREES)


def _evidence(alarm: AlarmState, p: float | None) -> str:
    said = f"{alarm.n_seen} of them speak against it"
    if alarm.log_e_value >= _SURE:
        said += f" more surely than {one_in(alarm.log_e_value)}, and 1 in 20 is enough"
    return said if p is None else f"{said}; the latest agree"


def _of_alarm(key: str, severity: str, sentence: str, learning: Learning, p: float | None) -> Finding:
    alarm = learning.served if key == "served" else learning.base
    evidence = {"log_e_value": None if alarm is None else alarm.log_e_value, "p": p, "excess": learning.excess}
    return Finding(kind="calibration", key=key, severity=severity, sentence=sentence, evidence=evidence)


def _diagnosis(seen: Observation) -> Iterator[Finding]:
    found = seen.window.diagnosis
    if found is None or found.verdict == "none":
        return
    sentence = f"{found.sentence} Compared with {seen.window.diagnosis_note}"
    severity = "warning" if found.verdict == "recalibrate" else "critical"
    yield Finding(
        kind="diagnosis", key=found.verdict, severity=severity, sentence=sentence, evidence=found.to_dict()["evidence"]
    )


def _drift(seen: Observation, settings: MonitorSettings) -> Iterator[Finding]:
    report = seen.window.drift
    if report is None:
        return
    for column in report.columns:
        if column.column.startswith("score:") and column.drifted:
            sentence = (
                f"The scores have drifted from the model's reference: {column.method} is {column.statistic:.3g}, "
                f"wanted below {column.threshold:.3g}. {column.note} Investigate the data; retrain if the change is to "
                "stay."
            )
            evidence = {
                "score": column.statistic,
                "threshold": column.threshold,
                "statistics": column.statistics,
                "p_value": column.p_value,
            }
            severity = _severity(column.statistic, column.threshold)
            yield Finding(kind="drift", key=column.column, severity=severity, sentence=sentence, evidence=evidence)
    features = [column for column in report.columns if not column.column.startswith("score:")]
    drifted = [column for column in features if column.drifted]
    if drifted and len(drifted) >= settings.drift_share * len(features):
        names = ", ".join(column.column for column in sorted(drifted, key=lambda c: -c.jensen_shannon)[:_SHOWN])
        have, are = ("has", "is") if len(drifted) == 1 else ("have", "are")
        sentence = (
            f"{len(drifted)} of {len(features)} features {have} drifted from the model's reference, and less than "
            f"{settings.drift_share:.0%} were wanted; the furthest {are} {names}. Investigate where they come from; "
            "retrain if the change is to stay."
        )
        evidence = {
            "score": len(drifted) / len(features),
            "threshold": settings.drift_share,
            "drifted": [column.column for column in drifted],
            "features": len(features),
        }
        severity = _severity(len(drifted), settings.drift_share * len(features))
        yield Finding(kind="drift", key="features", severity=severity, sentence=sentence, evidence=evidence)


def _severity(value: float, wanted_below: float) -> str:
    return "critical" if value >= _FAR * wanted_below else "warning"


# --- who says nothing -------------------------------------------------------------------------------------------------


def _silence(seen: Observation, settings: MonitorSettings) -> Iterator[Finding]:
    limits = {
        "predictions": (
            seen.counts.last_prediction_at,
            settings.silence_predictions_days,
            "whether the model is asked",
        ),
        "outcomes": (seen.counts.last_outcome_at, settings.silence_outcomes_days, "what delivers them"),
    }
    for what, (last, days, check) in limits.items():
        since = seen.first_at if last is None else last
        if since is None or seen.at - since <= days * _DAY:
            continue
        ever = "since the stream began" if last is None else "since the last one"
        sentence = (
            f"No {what} for {_time(seen.at - since)} ({ever}), wanted one every {_time(days * _DAY)} at least. "
            f"Investigate {check}."
        )
        evidence = {"seconds": seen.at - since, "allowed": days * _DAY}
        yield Finding(kind="silence", key=what, severity="warning", sentence=sentence, evidence=evidence)


def _learner(seen: Observation, settings: MonitorSettings) -> Iterator[Finding]:
    learning = seen.learning
    if learning is None:
        waited = 0.0 if seen.first_at is None else seen.at - seen.first_at
        if seen.is_learned and waited > settings.lag_minutes * 60.0:
            sentence = f"Nobody has ever learned from this stream, which began {_time(waited)} ago. {_START}"
            yield Finding(
                kind="lag", key="learner", severity="warning", sentence=sentence, evidence={"seconds": waited}
            )
        return
    if learning.trouble:
        sentence = f"What was learned cannot be read, so nothing is learned any more. {learning.trouble}"
        yield Finding(kind="learner", key="state", severity="critical", sentence=sentence)
    behind = learning.holder is None or learning.unread >= MANY_UNREAD
    if behind and learning.lag_seconds > settings.lag_minutes * 60.0:
        yield _lag(learning, settings)


_START = "Start `mlflow-caliber worker`."


def _lag(learning: Learning, settings: MonitorSettings) -> Finding:
    many = f"{learning.unread - 1} entries or more" if learning.unread >= MANY_UNREAD else f"{learning.unread} entries"
    who = "nobody learns" if learning.holder is None else f"{learning.holder} falls behind"
    sentence = (
        f"{many} wait to be learned, the oldest for {_time(learning.lag_seconds)} (wanted within "
        f"{_time(settings.lag_minutes * 60.0)}), and {who}. "
        f"{_START if learning.holder is None else 'Investigate what slows the worker or the store.'}"
    )
    evidence = {"unread": learning.unread, "seconds": learning.lag_seconds, "holder": learning.holder}
    severity = "critical" if learning.holder is None else "warning"
    return Finding(kind="lag", key="learner", severity=severity, sentence=sentence, evidence=evidence)


def _replicas(seen: Observation, settings: MonitorSettings) -> Iterator[Finding]:
    if seen.replicas and all(replica.silent for replica in seen.replicas):
        last = max(replica.seen_at for replica in seen.replicas)
        sentence = (
            f"None of {len(seen.replicas)} serving processes has reported for {_time(seen.at - last)}, wanted one "
            f"within {_time(settings.silence_replicas_minutes * 60.0)}. Investigate whether they run and reach the "
            "store."
        )
        evidence = {"seconds": seen.at - last}
        yield Finding(kind="silence", key="replicas", severity="warning", sentence=sentence, evidence=evidence)
    for replica in seen.replicas:
        yield from _replica(replica, seen)


def _replica(replica: ReplicaState, seen: Observation) -> Iterator[Finding]:
    if replica.dropped:
        sentence = (
            f"{replica.name} has answered {replica.dropped} predictions without recording them, wanted none: its spool "
            "was full. Their outcomes teach nothing. Investigate why it cannot reach the store."
        )
        evidence = {"dropped": replica.dropped}
        yield Finding(kind="dropped", key=replica.name, severity="critical", sentence=sentence, evidence=evidence)
    if replica.silent:
        return
    troubles = [replica.trouble.rstrip(".")] if replica.trouble else []
    if replica.stale:
        troubles.append(f"it answers with revision {replica.revision}, wanted {seen.served.revision}")
    if troubles:
        sentence = f"{replica.name} is in trouble: {'; '.join(troubles)}. Investigate that process."
        revisions = {"revision": replica.revision, "wanted": seen.served.revision}
        yield Finding(kind="replica", key=replica.name, severity="warning", sentence=sentence, evidence=revisions)


def _time(seconds: float) -> str:
    for unit, size in (("day", _DAY), ("hour", 3_600.0), ("minute", 60.0)):
        if seconds >= size:
            n = f"{seconds / size:.3g}"
            return f"{n} {unit}{'' if n == '1' else 's'}"
    return f"{seconds:.0f} seconds"

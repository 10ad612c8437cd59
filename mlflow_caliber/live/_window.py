"""The rows of a window as numbers: a report, drift, a diagnosis, and how far outcomes have come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_caliber.diagnosis import Diagnosis, diagnose
from mlflow_caliber.drift import DriftReport, drift_from_profile
from mlflow_caliber.exceptions import CaliberError, InvalidInputError
from mlflow_caliber.live._observation import AgeGroup, Maturity, Window
from mlflow_caliber.live._settings import MonitorSettings
from mlflow_caliber.metrics import Outcomes
from mlflow_caliber.report import ReliabilityReport, reliability_report
from mlflow_caliber.store import Stream

__all__ = ["look_at_window"]

_DAY = 86_400.0
_AGES = (0.0, 1.0 / 24.0, 1.0, 3.0, 7.0, 30.0)
# Outcomes have settled among rows that are older than this quantile of the delays.
_SETTLED = 0.95
_MOST_SEGMENTS = 50
# The monitor asks again and again, on windows that overlap: at the usual 5 % it would cry wolf every few weeks.
_ALPHA = 0.001


def look_at_window(
    stream: Stream, settings: MonitorSettings, profile: Mapping[str, Any] | None, profile_note: str, now: float
) -> Window:
    """Everything that the rows of the window say."""
    since = max(0.0, now - settings.window_days * _DAY)
    rows = _scorable(stream.rows(since=since, limit=settings.max_rows))
    maturity = _maturity(rows, now)
    settled = _settled(rows, maturity)
    report, report_note = _report(stream, settled, settings)
    drift, drift_note = _drift(stream, rows, profile, profile_note, settings)
    diagnosis, diagnosis_note = _diagnosis(stream, settled, since, settings)
    return Window(
        since=since,
        maturity=maturity,
        report=report,
        report_note=report_note,
        drift=drift,
        drift_note=drift_note,
        diagnosis=diagnosis,
        diagnosis_note=diagnosis_note,
    )


def _scorable(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["reason"] != "unscorable_row"]


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["outcome"].notna()]


# --- maturity ---------------------------------------------------------------------------------------------------------


def _maturity(rows: pd.DataFrame, now: float) -> Maturity:
    known = _labelled(rows)
    ages = (now - rows["recorded_at"].to_numpy(dtype=np.float64)) / _DAY
    group = np.maximum(np.searchsorted(_AGES, ages, side="right") - 1, 0)
    of_known = group[rows["outcome"].notna().to_numpy()]
    delays = np.maximum(_floats(known, "observed_at") - _floats(known, "predicted_at"), 0.0)
    return Maturity(
        predictions=len(rows),
        labelled=len(known),
        ages=tuple(
            AgeGroup(days=days, n=int((group == k).sum()), labelled=int((of_known == k).sum()))
            for k, days in enumerate(_AGES)
            if (group == k).any()
        ),
        median_delay=float(np.median(delays)) if len(known) else None,
        settled_before=now - float(np.quantile(delays, _SETTLED)) if len(known) else None,
    )


def _settled(rows: pd.DataFrame, maturity: Maturity) -> pd.DataFrame:
    if maturity.settled_before is None:
        return rows[:0]
    return _labelled(rows[rows["recorded_at"] <= maturity.settled_before])


# --- the report -------------------------------------------------------------------------------------------------------


def _report(stream: Stream, rows: pd.DataFrame, settings: MonitorSettings) -> tuple[ReliabilityReport | None, str]:
    if len(rows) < settings.min_rows:
        return None, _too_few(len(rows), settings, "a report")
    try:
        y, served = _outcomes(stream, rows, "probability")
        base = _floats(rows, "base_probability") if served.ndim == 1 else None
        found = reliability_report(y, served, raw=base, classes=_classes(stream), segments=_segments(rows))
    except CaliberError as error:
        return None, f"There is no report: {error}"
    return found, ""


def _too_few(n: int, settings: MonitorSettings, what: str) -> str:
    return (
        f"There is no {what.removeprefix('a ')}: {n} predictions of the last {settings.window_days:g} days have "
        f"settled outcomes, and {settings.min_rows} are needed."
    )


def _outcomes(stream: Stream, rows: pd.DataFrame, column: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """What happened, and the probabilities: of the positive class, else of every class."""
    if stream.positive is not None:
        return (rows["outcome"] == stream.positive).to_numpy(dtype=np.int64), _floats(rows, column)
    if stream.classes is None or rows["probabilities"].isna().any():
        raise InvalidInputError(
            f"{stream.subject} must have two classes, or the probabilities of all of them with every prediction."
        )
    index = {label: k for k, label in enumerate(stream.classes)}
    return rows["outcome"].map(index).to_numpy(dtype=np.int64), np.array(rows["probabilities"].tolist(), dtype=float)


def _classes(stream: Stream) -> tuple[str, ...] | None:
    """The names in the order of the report, the positive one of two last."""
    if stream.positive is None or stream.classes is None:
        return stream.classes
    return (*(label for label in stream.classes if label != stream.positive), stream.positive)


def _segments(rows: pd.DataFrame) -> dict[str, Any] | None:
    several = 0 < rows["segment"].nunique() <= _MOST_SEGMENTS
    return {"segment": rows["segment"].to_numpy()} if several else None


# --- drift ------------------------------------------------------------------------------------------------------------


def _drift(
    stream: Stream, rows: pd.DataFrame, profile: Mapping[str, Any] | None, note: str, settings: MonitorSettings
) -> tuple[DriftReport | None, str]:
    if profile is None:
        return None, note or "Drift is not known: no reference profile was given."
    if len(rows) < settings.min_rows:
        sentence = f"Drift is not known: the window holds {len(rows)} predictions, and {settings.min_rows} are needed."
        return None, sentence
    frame = _profiled(stream, rows)
    known = {str(column.get("column")) for column in profile.get("columns", ())}
    shared = [name for name in frame.columns if name in known]
    if not shared:
        return None, "Drift is not known: the model's reference has none of the recorded features and scores."
    try:
        return drift_from_profile(profile, frame, columns=shared, alpha=_ALPHA), ""
    except CaliberError as error:
        return None, f"Drift is not known: {error}"


def _profiled(stream: Stream, rows: pd.DataFrame) -> pd.DataFrame:
    """Features and raw scores under the names that a model's profile has; rows without features only if all are."""
    with_features = rows[rows["features"].notna()]
    if not with_features.empty:
        rows = with_features
        frame = pd.DataFrame(rows["features"].tolist(), index=rows.index).rename(columns=str)
    else:
        frame = pd.DataFrame(index=rows.index)
    if stream.positive is not None:
        frame = frame.assign(**{f"score:{stream.positive}": _floats(rows, "raw_probability")})
    return frame


# --- the diagnosis ----------------------------------------------------------------------------------------------------


def _diagnosis(
    stream: Stream, rows: pd.DataFrame, since: float, settings: MonitorSettings
) -> tuple[Diagnosis | None, str]:
    """Against the oldest rows that there are: a live stream has no rows of the evaluation before its release."""
    if len(rows) < settings.min_rows:
        return None, _too_few(len(rows), settings, "a diagnosis")
    before, now, note = _two_sides(stream, rows, since, settings)
    try:
        return diagnose(_side(stream, before), _side(stream, now), alpha=_ALPHA, auc_alpha=_ALPHA), note
    except CaliberError as error:
        return None, f"There is no diagnosis against {note} {error}"


def _two_sides(
    stream: Stream, rows: pd.DataFrame, since: float, settings: MonitorSettings
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    first = stream.log(limit=1)[0].recorded_at
    if first < since:
        until = min(first + settings.window_days * _DAY, since)
        before = _labelled(_scorable(stream.rows(since=first, until=until, limit=settings.max_rows)))
        if len(before) >= settings.min_rows:
            return before, rows, f"the first {(until - first) / _DAY:.3g} days of the stream."
    half = len(rows) // 2
    return rows[:half], rows[half:], "the older half of the window, for lack of older rows."


def _side(stream: Stream, rows: pd.DataFrame) -> Outcomes:
    y, served = _outcomes(stream, rows, "probability")
    return Outcomes(y, served, raw=_floats(rows, "raw_probability") if served.ndim == 1 else None)


def _floats(rows: pd.DataFrame, column: str) -> NDArray[np.float64]:
    return rows[column].to_numpy(dtype=np.float64)

"""How a stream is, in a word and a sentence: alarms and intervals decide, never a number by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlflow_caliber.live._judge import SHIPPED_IS_OFF
from mlflow_caliber.live._settings import MonitorSettings
from mlflow_caliber.store import SEVERITIES, Alarm, Stream

__all__ = ["STATES", "advice_of", "overview_of"]

STATES = (
    *("silent", "needs_retraining", "investigate", "drifting", "recalibrating", "calibrated"),
    "waiting",
)
_DAY = 86_400.0
# The page is looked at again and again: at the usual 5 % it would cry wolf every few weeks.
_ALPHA = 0.001
# Of very many outcomes any gap is no chance; one that is surely below a hundredth is nobody's trouble.
_SMALL = 0.01
_INVESTIGATED = {("diagnosis", "investigate"), ("calibration", "served")}
_RECALIBRATED = {("diagnosis", "recalibrate"), ("calibration", "shipped")}
_ADVICE = {
    "silent": "Check whether the model is asked, and whether what it says and what happens reach this service.",
    "needs_retraining": "Retrain the model: recalibration alone cannot mend how it ranks.",
    "investigate": "Find out what has changed in the data or in how outcomes are made, before the answers are used.",
    "drifting": "Look at the columns that have drifted; retrain if the change is to stay.",
    "recalibrating": "Serve the corrected probabilities, and save the revision as a new version to have it approved.",
    "calibrated": "Nothing needs to be done.",
    "waiting": "Send outcomes, and let `mlflow-caliber worker` run: more of both is needed to say how it is.",
}


def overview_of(
    stream: Stream,
    report: Mapping[str, Any],
    of_week: Callable[[], Mapping[str, Any]],
    last: tuple[float | None, float | None],
    settings: MonitorSettings,
    now: float,
) -> dict[str, Any]:
    """The stream's row of the overview.

    Parameters
    ----------
    stream : Stream
        Which.
    report : mapping
        The quick report of all there is.
    of_week : callable
        Gives that of the last week, which decides where no alarm does.
    last : pair of float or None
        When the last prediction and the last outcome were recorded.
    settings : MonitorSettings
        How long it may be silent, and how many rows decide anything.
    now : float
        Seconds since 1970.
    """
    told, figures, alarms = stream.settings(), stream.figures(), stream.open_alarms()
    served, shipped = report["metrics"]["served"], report["metrics"]["shipped"] or {}
    low, high = report["intervals"]["served"].get("ece", (None, None))
    seen = None if report["n"] < settings.min_rows else stream.observed_at()
    known = _state(alarms, report, last[0], figures.revision, settings, now, is_watched=seen is not None)
    state, sentence = known or _without_alarm(report, of_week(), settings)
    return {
        "model": stream.model,
        "version": stream.version,
        "stage": told.stage,
        "abstain_threshold": told.abstain_threshold,
        "classes": None if stream.classes is None else list(stream.classes),
        "positive": stream.positive,
        "kind": report["kind"],
        "state": state,
        "sentence": sentence,
        # An alarm says by itself what to do.
        "advice": "" if any(sentence.endswith(_beyond(alarm)) for alarm in alarms) else advice_of(state),
        "n_predictions": report["n_predictions"],
        "n_labelled": report["n"],
        "abstain_rate": served.get("abstain_rate"),
        "last_prediction_at": last[0],
        "last_outcome_at": last[1],
        "ece": served.get("ece"),
        "ece_low": low,
        "ece_high": high,
        "log_loss": served.get("log_loss"),
        "log_loss_shipped": shipped.get("log_loss"),
        "open_reviews": figures.open_reviews,
        "alarms": {name: sum(alarm.severity == name for alarm in alarms) for name in reversed(SEVERITIES)},
        "revision": figures.revision,
    }


def advice_of(state: str) -> str:
    """What to do about a stream in that state.

    Examples
    --------
    >>> advice_of("calibrated")
    'Nothing needs to be done.'
    """
    return _ADVICE[state]


def _state(
    alarms: Sequence[Alarm],
    report: Mapping[str, Any],
    last: float | None,
    revision: int,
    settings: MonitorSettings,
    now: float,
    *,
    is_watched: bool,
) -> tuple[str, str] | None:
    """The worst that is known, and it in a sentence; None where only the numbers can say."""
    if last is not None and now - last > settings.silence_predictions_days * _DAY:
        return "silent", f"No prediction for {(now - last) / _DAY:.3g} days."
    for state, of_it in _by_state(alarms):
        if of_it:
            return state, _sentence(state, of_it, revision)
    n = report["n"]
    if n < settings.min_rows:
        return "waiting", f"Too little is known: {n} outcomes, and {settings.min_rows} are needed."
    if not is_watched:
        return "waiting", f"{n} outcomes are known, and nobody has looked at them yet."
    return None


def _without_alarm(report: Mapping[str, Any], of_week: Mapping[str, Any], settings: MonitorSettings) -> tuple[str, str]:
    """The state where nobody has raised an alarm: alarms need time, and of more than two classes nobody raises them."""
    recent, when = (of_week, " of the last week") if of_week["n"] >= settings.min_rows else (report, "")
    served, (low, high) = recent["metrics"]["served"], recent["intervals"]["served"]["ece"]
    gap = f"the mean gap is {served['ece']:.1%} ({low:.1%} to {high:.1%}) over {recent['n']} outcomes{when}"
    p = served.get("calibration_p")
    if p is None or p >= _ALPHA or low <= _SMALL:
        return "calibrated", f"What is said fits what happens: {gap}."
    if report["kind"] == "top_label":
        return "investigate", f"What is said does not fit what happens: {gap}, far more than chance would make."
    return "waiting", f"There is no alarm yet, but {gap}, more than chance would make."


def _by_state(alarms: Sequence[Alarm]) -> list[tuple[str, list[Alarm]]]:
    """The open alarms by the state that they stand for, the worst first."""
    return [
        ("silent", [alarm for alarm in alarms if alarm.kind == "silence"]),
        ("needs_retraining", [a for a in alarms if (a.kind, a.key) == ("diagnosis", "recalibrate_and_retrain")]),
        ("investigate", [a for a in alarms if a.kind == "harm" or (a.kind, a.key) in _INVESTIGATED]),
        ("drifting", [alarm for alarm in alarms if alarm.kind == "drift"]),
        ("recalibrating", [alarm for alarm in alarms if (alarm.kind, alarm.key) in _RECALIBRATED]),
    ]


def _sentence(state: str, alarms: Sequence[Alarm], revision: int) -> str:
    first = max(alarms, key=lambda alarm: (SEVERITIES.index(alarm.severity), -alarm.id))
    if state != "recalibrating":
        return first.sentence
    cover = f"revision {revision} is published to correct it" if revision else "nothing corrects it yet"
    rest = _beyond(first)
    return f"{SHIPPED_IS_OFF}, and {cover}{rest if rest.startswith(':') else f'. {rest}'}"


def _beyond(alarm: Alarm) -> str:
    """What an alarm says beyond that the shipped calibrator is off."""
    return alarm.sentence.removeprefix(SHIPPED_IS_OFF)

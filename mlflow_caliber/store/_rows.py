"""Events as rows of the tables, and back: every value is checked on the way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from mlflow_caliber._validation import check_choice, check_flag
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._checks import (
    check_json,
    check_name,
    check_score,
    check_stored_text,
    check_time,
    label_text,
    safe_repr,
    shown,
)
from mlflow_caliber.store._values import Outcome, Prediction

__all__ = [
    "OUTCOME_FIELDS",
    "PREDICTION_FIELDS",
    "UNSCORABLE",
    "WAITED_FOR",
    "as_outcome",
    "as_prediction",
    "checked_row",
    "harmless",
    "kept_content",
    "kept_id",
    "review_row",
]

# The columns have the fields' names.
PREDICTION_FIELDS = tuple(field.name for field in fields(Prediction))
OUTCOME_FIELDS = tuple(field.name for field in fields(Outcome))
SOURCES = ("observed", "review", "audit")
UNSCORABLE = "unscorable_row"
"""The reason of a prediction that rests on no score: its probability is that of the most frequent class."""
WAITED_FOR = 7 * 86_400.0
"""A case that has waited so many seconds longer is as urgent as one of which nothing is known."""
_KEPT = 1_000
_ORDINARY_PREDICTION = Prediction(
    prediction_id="a",
    predicted_at=0.0,
    raw_probability=0.5,
    base_probability=0.5,
    probability=0.5,
    prediction="a",
    confidence=0.5,
)
_ORDINARY_OUTCOME = Outcome(prediction_id="a", outcome="a", observed_at=0.0)


def checked_row(event: Prediction | Outcome, classes: Sequence[str] | None = None) -> dict[str, Any]:
    """The columns of an event; without classes, of one that some stream would take.

    Raises
    ------
    InvalidInputError
        For the first value that cannot be stored, of whatever kind it is.

    Examples
    --------
    >>> checked_row(Outcome(prediction_id="a", outcome=True, observed_at=60))
    {'prediction_id': 'a', 'outcome': '1', 'observed_at': 60.0, 'source': 'observed'}
    """
    try:
        return _prediction_row(event, classes) if isinstance(event, Prediction) else _outcome_row(event, classes)
    except InvalidInputError:
        raise
    except Exception as error:  # one bad row must never cost the others
        raise InvalidInputError(_unreadable(event)) from error


def _prediction_row(event: Prediction, classes: Sequence[str] | None) -> dict[str, Any]:
    return {
        "prediction_id": check_name(event.prediction_id, "prediction_id"),
        "predicted_at": None if event.predicted_at is None else check_time(event.predicted_at, "predicted_at"),
        "raw_probability": check_score(event.raw_probability, "raw_probability"),
        "base_probability": check_score(event.base_probability, "base_probability"),
        "probability": check_score(event.probability, "probability"),
        "prediction": label_text(event.prediction, classes, "prediction"),
        "confidence": check_score(event.confidence, "confidence"),
        "abstained": None if event.abstained is None else check_flag(event.abstained, "abstained"),
        "reason": check_stored_text(event.reason, "reason"),
        "segment": None if event.segment is None else check_stored_text(event.segment, "segment"),
        "calibrator_revision": check_stored_text(event.calibrator_revision, "calibrator_revision"),
        "probabilities": _probabilities(event.probabilities, classes),
        "features": _features(event.features),
    }


def _outcome_row(event: Outcome, classes: Sequence[str] | None) -> dict[str, Any]:
    return {
        "prediction_id": check_name(event.prediction_id, "prediction_id"),
        "outcome": label_text(event.outcome, classes, "outcome"),
        "observed_at": check_time(event.observed_at, "observed_at"),
        "source": check_choice(event.source, "source", SOURCES),
    }


def review_row(row: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The case of a recorded prediction that a person should see."""
    known = 0.0 if row["reason"] == UNSCORABLE else row["confidence"]
    return {
        "stream_id": row["stream_id"],
        "prediction_id": row["prediction_id"],
        "status": "open",
        "reason": row["reason"],
        "created_at": now,
        "confidence": row["confidence"],
        "origin": "abstained" if row["abstained"] else "audit",
        "queue_place": known + now / WAITED_FOR,
    }


def as_prediction(row: Mapping[str, Any]) -> Prediction:
    """The prediction of a row of the table."""
    values = {name: row[name] for name in PREDICTION_FIELDS}
    probabilities = values["probabilities"]
    return Prediction(**{**values, "probabilities": None if probabilities is None else tuple(probabilities)})


def as_outcome(row: Mapping[str, Any]) -> Outcome:
    """The outcome of a row of the table."""
    return Outcome(**{name: row[name] for name in OUTCOME_FIELDS})


def kept_id(value: Any) -> str:
    """An id of any kind as a text that can be stored."""
    return harmless(value if isinstance(value, str) else safe_repr(value))


def _unreadable(event: Prediction | Outcome) -> str:
    """What to say of an event whose row could not even be checked: which of its values is to blame."""
    for name in PREDICTION_FIELDS if isinstance(event, Prediction) else OUTCOME_FIELDS:
        value = getattr(event, name)
        try:
            if isinstance(event, Prediction):
                _prediction_row(replace(_ORDINARY_PREDICTION, **{name: value}), None)
            else:
                _outcome_row(replace(_ORDINARY_OUTCOME, **{name: value}), None)
        except InvalidInputError:
            continue
        except Exception:  # this is the one
            return f"{name} must be a value that can be stored, got {shown(value)}."
    return f"The {type(event).__name__.lower()} must hold values that can be stored."


def kept_content(event: Prediction | Outcome) -> dict[str, Any]:
    """A refused event as JSON that can be stored, whatever came."""
    return {name: _kept_safely(value) for name, value in vars(event).items()}


def _kept_safely(value: Any) -> Any:
    try:
        return _kept(value)
    except Exception:  # one bad value must never cost the others
        return harmless(safe_repr(value))


def _kept(value: Any) -> Any:
    if isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, (str, bytes))):
        try:
            content = check_json(value, "content")
        except InvalidInputError:
            return harmless(safe_repr(value))
        return content if len(repr(content)) <= _KEPT else harmless(repr(content))
    if value is None or isinstance(value, (bool, int)):
        return value if value is None or abs(value) < 1 << 53 else harmless(safe_repr(value))
    if isinstance(value, float):
        return value if -1e308 < value < 1e308 else repr(value)
    return harmless(value if isinstance(value, str) else safe_repr(value))


def harmless(text: str) -> str:
    """A text that can be stored, cut."""
    return text[:_KEPT].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _probabilities(values: Any, classes: Sequence[str] | None) -> list[float] | None:
    if values is None:
        return None
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
        raise InvalidInputError(f"probabilities must be a list of numbers, got {shown(values)}.")
    if getattr(values, "ndim", 1) != 1:
        raise InvalidInputError(f"probabilities must be a list of numbers, got {shown(values)}.")
    numbers = [check_score(value, "each of probabilities") for value in values]
    if classes is not None and len(numbers) != len(classes):
        raise InvalidInputError(f"probabilities must have one number a class, {len(classes)}, got {len(numbers)}.")
    if abs(sum(numbers) - 1.0) > 1e-3:
        raise InvalidInputError(f"probabilities must sum to 1, got {sum(numbers):.6g}.")
    return numbers


def _features(values: Any) -> Any:
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise InvalidInputError(f"features must map names to values, got {shown(values)}.")
    return check_json(values, "features")

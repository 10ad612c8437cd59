"""Predictions and outcomes as they come from outside: JSON objects, of which most values may be left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_caliber._ids import new_prediction_ids
from mlflow_caliber._validation import check_known_keys
from mlflow_caliber.exceptions import ConfigError, InvalidInputError
from mlflow_caliber.store._checks import label_text, shown
from mlflow_caliber.store._rows import OUTCOME_FIELDS, PREDICTION_FIELDS
from mlflow_caliber.store._stream import Stream
from mlflow_caliber.store._values import Outcome, Prediction

__all__ = ["OUTCOME_KEYS", "PREDICTION_KEYS", "message_from_app", "outcome_from_message", "prediction_from_message"]

OUTCOME_KEYS = frozenset(OUTCOME_FIELDS)
# A prediction may bring its outcome along.
PREDICTION_KEYS = frozenset({*PREDICTION_FIELDS, "outcome", "observed_at", "source"})
_AGREE = 1e-3


def prediction_from_message(message: Any, stream: Stream, now: float) -> list[Prediction | Outcome]:
    """The prediction, and the outcome if the message brings one.

    Left out, the time is that of recording, the id is a new one, ``raw_probability`` is ``base_probability``, which is
    ``probability``; of ``probability`` and ``confidence`` one is enough, and with two classes ``prediction`` follows
    from the probability. Without ``abstained`` the stream's threshold decides.

    Raises
    ------
    InvalidInputError
        If it is no JSON object, a key is not known, too little is said, or probability and confidence disagree.

    Examples
    --------
    >>> from mlflow_caliber.store import open_store
    >>> stream = open_store("sqlite://").stream("churn", "1", classes=["no", "yes"])
    >>> said, happened = prediction_from_message({"probability": 0.8, "outcome": "no"}, stream, now=60.0)
    >>> said.prediction, said.confidence, happened.outcome
    ('yes', 0.8, 'no')
    """
    told = _object(message, PREDICTION_KEYS, "a prediction")
    probability, prediction, confidence = _answer(told, stream)
    base = told.get("base_probability", probability)
    identity = told["prediction_id"] if "prediction_id" in told else new_prediction_ids(1)[0]
    said = Prediction(
        prediction_id=identity,
        predicted_at=told.get("predicted_at"),
        raw_probability=told.get("raw_probability", base),
        base_probability=base,
        probability=probability,
        prediction=prediction,
        confidence=confidence,
        abstained=told.get("abstained"),
        reason=told.get("reason", ""),
        segment=told.get("segment"),
        calibrator_revision=told.get("calibrator_revision", ""),
        probabilities=told.get("probabilities"),
        features=told.get("features"),
    )
    if told.get("outcome") is None:
        return [said]
    when = told.get("observed_at", now)
    return [said, Outcome(prediction_id=identity, outcome=told["outcome"], observed_at=when, source=_source(told))]


def outcome_from_message(message: Any, stream: Stream, now: float) -> list[Prediction | Outcome]:
    """The outcome; left out, the time is now and the source "observed".

    Examples
    --------
    >>> from mlflow_caliber.store import open_store
    >>> stream = open_store("sqlite://").stream("churn", "1")
    >>> outcome_from_message({"prediction_id": "a", "outcome": 1}, stream, now=60.0)[0].observed_at
    60.0
    """
    told = _object(message, OUTCOME_KEYS, "an outcome")
    for key in ("prediction_id", "outcome"):
        if told.get(key) is None:
            raise InvalidInputError(f"An outcome must have {key}, which is missing.")
    when = told.get("observed_at", now)
    identity, happened = told["prediction_id"], told["outcome"]
    return [Outcome(prediction_id=identity, outcome=happened, observed_at=when, source=_source(told))]


def message_from_app(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the Caliber app says of a prediction, as :func:`prediction_from_message` reads it.

    Raises
    ------
    InvalidInputError
        If ``sample_id``, ``predicted_label`` or ``confidence`` is missing, or ``uncertainty`` is negative or no number.

    Examples
    --------
    >>> told = message_from_app({"sample_id": "a", "predicted_label": "pos", "confidence": 0.8, "ground_truth": "neg"})
    >>> told["prediction_id"], told["prediction"], told["outcome"]
    ('a', 'pos', 'neg')
    """
    for key in ("sample_id", "predicted_label", "confidence"):
        if told.get(key) is None:
            raise InvalidInputError(f"{key} is missing.")
    uncertainty = told.get("uncertainty")
    if uncertainty is not None and not (_is_number(uncertainty) and 0.0 <= uncertainty < math.inf):
        raise InvalidInputError(f"uncertainty must be a number of at least 0, got {str(uncertainty)[:80]}.")
    return {
        "prediction_id": told["sample_id"],
        "prediction": told["predicted_label"],
        "confidence": told["confidence"],
        "features": None if uncertainty is None else {"uncertainty": uncertainty},
        "outcome": told.get("ground_truth"),
    }


def _source(told: Mapping[str, Any]) -> Any:
    return told.get("source", "observed")


def _object(message: Any, known: frozenset[str], what: str) -> Mapping[str, Any]:
    if not isinstance(message, dict):
        raise InvalidInputError(f"{what.capitalize()} must be a JSON object, got {shown(message)}.")
    if not message.keys() <= known:
        try:
            check_known_keys(message, sorted(known), what.capitalize())
        except ConfigError as error:
            raise InvalidInputError(str(error)) from error
    return message


def _answer(told: Mapping[str, Any], stream: Stream) -> tuple[Any, Any, Any]:
    """Probability, label and confidence, of which one may follow from the others."""
    probability, prediction, confidence = (told.get(key) for key in ("probability", "prediction", "confidence"))
    if probability is None and confidence is None:
        raise InvalidInputError("A prediction must have probability or confidence, and both are missing.")
    binary = stream.positive is not None
    if prediction is None:
        if not binary or probability is None:
            raise InvalidInputError("A prediction must have prediction, the predicted label, which is missing.")
        prediction = stream.positive if _at_least_half(probability) else _other(stream)
    positive = not binary or _is(prediction, stream.positive)
    if confidence is None:
        confidence = _turned(probability, positive)
    elif probability is None:
        probability = _turned(confidence, positive)
    else:
        _check_agree(confidence, _turned(probability, positive))
    if stream.classes is not None:
        _check_agree(confidence, _of_label(prediction, told.get("probabilities"), stream.classes))
    return probability, prediction, confidence


def _other(stream: Stream) -> Any:
    return next(name for name in stream.classes or () if name != stream.positive)


def _is(label: Any, name: str | None) -> bool:
    """Whether a label spells the class; what is no label at all is told by the store."""
    if isinstance(label, str):
        return label == name
    try:
        return str(label) == name or float(label) == float(name or "")
    except (TypeError, ValueError, OverflowError):
        return bool(label is True and name in {"True", "true"}) or bool(label is False and name in {"False", "false"})


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


def _at_least_half(value: Any) -> bool:
    return _is_number(value) and value >= 0.5


def _turned(value: Any, same: bool) -> Any:
    """The value for the other class, where it is one that can be turned."""
    return value if same or not (_is_number(value) and 0.0 <= value <= 1.0) else 1.0 - value


def _of_label(label: Any, probabilities: Any, classes: Sequence[str]) -> Any:
    """The label's own among the probabilities; None where they are not told, or not one a class."""
    if not isinstance(probabilities, list) or len(probabilities) != len(classes):
        return None
    return probabilities[classes.index(label_text(label, classes, "prediction"))]


def _check_agree(confidence: Any, probability: Any) -> None:
    """The confidence is the probability of the predicted label, unless one is no probability: the store tells that."""
    numbers = _is_number(confidence) and _is_number(probability)
    if numbers and 0.0 <= confidence <= 1.0 and 0.0 <= probability <= 1.0 and abs(confidence - probability) > _AGREE:
        raise InvalidInputError(
            f"confidence must be the probability of the predicted label, {probability:.6g}, got {confidence:.6g}."
        )

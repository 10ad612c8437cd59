"""The bodies of predictions and outcomes for the OpenAPI document; the store is what checks them."""

from __future__ import annotations

from typing import Any

__all__ = ["APP_PREDICTION_BODY", "OUTCOME_BODY", "PREDICTION_BODY"]

_LABEL: dict[str, Any] = {
    "anyOf": [{"type": "string", "minLength": 1, "maxLength": 200}, {"type": "number"}, {"type": "boolean"}]
}
_PROBABILITY: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_TIME: dict[str, Any] = {"type": "number", "minimum": 0, "description": "Seconds since 1970 (UTC); by default now."}
_ID: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 200}
_SOURCE: dict[str, Any] = {"type": "string", "enum": ["observed", "review", "audit"], "default": "observed"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _text(longest: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": longest}


_PREDICTION: dict[str, Any] = {
    "type": "object",
    "title": "PredictionMessage",
    "additionalProperties": False,
    "properties": {
        "prediction_id": {**_ID, "description": "Names the prediction; made when it is left out."},
        "predicted_at": _TIME,
        "prediction": {**_or_null(_LABEL), "description": "The predicted label."},
        "probability": {
            **_or_null(_PROBABILITY),
            "description": "Served: of the positive class; of the predicted one with more than two classes.",
        },
        "confidence": {**_or_null(_PROBABILITY), "description": "The probability of the predicted label."},
        "base_probability": {**_PROBABILITY, "description": "Of the calibrator that the model was shipped with."},
        "raw_probability": {**_PROBABILITY, "description": "Of the model itself."},
        "abstained": {**_or_null({"type": "boolean"}), "description": "By default the stream's threshold decides."},
        "reason": _text(2_000),
        "segment": _or_null(_text(2_000)),
        "calibrator_revision": _text(2_000),
        "probabilities": _or_null({"type": "array", "items": _PROBABILITY}),
        "features": _or_null({"type": "object"}),
        "outcome": {**_or_null(_LABEL), "description": "What happened, if it is known already."},
        "observed_at": _TIME,
        "source": _SOURCE,
    },
    "anyOf": [{"required": ["probability"]}, {"required": ["confidence"]}],
}
_OUTCOME: dict[str, Any] = {
    "type": "object",
    "title": "OutcomeMessage",
    "additionalProperties": False,
    "required": ["prediction_id", "outcome"],
    "properties": {"prediction_id": _ID, "outcome": _LABEL, "observed_at": _TIME, "source": _SOURCE},
}


def _body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    many = {"type": "array", "items": schema, "minItems": 1, "maxItems": 10_000}
    examples = {"one": {"value": example}, "many": {"value": [example]}}
    return {
        "required": True,
        "content": {"application/json": {"schema": {"oneOf": [schema, many]}, "examples": examples}},
    }


PREDICTION_BODY = _body(
    _PREDICTION,
    {"prediction_id": "a", "prediction": "yes", "probability": 0.8, "segment": "eu", "features": {"age": 44}},
)
OUTCOME_BODY = _body(_OUTCOME, {"prediction_id": "a", "outcome": "no", "observed_at": 1767225600.0})
APP_PREDICTION_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "title": "CaliberAppPrediction",
                "additionalProperties": False,
                "required": ["model_version_id", "sample_id", "predicted_label", "confidence"],
                "properties": {
                    "model_version_id": {"type": "integer"},
                    "sample_id": _ID,
                    "predicted_label": _LABEL,
                    "confidence": _PROBABILITY,
                    "uncertainty": _or_null({"type": "number", "minimum": 0}),
                    "ground_truth": _or_null(_LABEL),
                },
            },
            "examples": {
                "one": {
                    "value": {
                        "model_version_id": 1,
                        "sample_id": "live-1",
                        "predicted_label": "pos",
                        "confidence": 0.83,
                        "uncertainty": 0.17,
                        "ground_truth": "pos",
                    }
                }
            },
        }
    },
}

"""One message of Kafka as a prediction or an outcome, by the reader that REST uses too."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store import json_from_bytes, message_from_app

__all__ = [
    "LONGEST",
    "Letter",
    "Message",
    "as_events",
    "from_app",
    "headers_of",
    "id_of",
    "is_from_app",
    "json_object",
    "time_of",
]

LONGEST = 1_000_000
"""Bytes of a message that are read at most; Kafka's own default limit is about the same."""

_APP = ("model_version_id", "sample_id", "predicted_label", "confidence", "uncertainty", "ground_truth")


class Message(Protocol):
    """As much of confluent-kafka's message as is used."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...
    def timestamp(self) -> tuple[int, int]: ...


class Letter(NamedTuple):
    """A message that cannot be taken, and why."""

    message: Message
    sentence: str


def headers_of(message: Message) -> list[tuple[str, bytes | None]] | None:
    """The headers; None where the client cannot give them back, as their names are no UTF-8."""
    try:
        return message.headers() or []
    except (SystemError, UnicodeDecodeError):
        return None


def json_object(message: Message) -> dict[str, Any]:
    """The JSON object that the message is.

    Raises
    ------
    InvalidInputError
        If it is empty, too long, no UTF-8, no JSON or no object.
    """
    value = message.value()
    if value is None:
        raise InvalidInputError("A message must be a JSON object, got none (a tombstone).")
    if len(value) > LONGEST:
        raise InvalidInputError(f"A message must have at most {LONGEST} bytes, got {len(value)}.")
    told = json_from_bytes(value, "A message")
    if not isinstance(told, dict):
        raise InvalidInputError(f"A message must be a JSON object, got a {_KINDS.get(type(told), 'number')}.")
    return told


def id_of(message: Message) -> str:
    """The id of a prediction whose message brings none: the same each time that the message is read.

    A UUID of version 8 (RFC 9562): the time of the message in front, so that ids sort by it, and then a digest of its
    place. The time belongs to the place: a topic that was deleted and made again has the same offsets.
    """
    milliseconds = max(message.timestamp()[1], 0)
    place = f"{message.topic()}/{message.partition()}/{message.offset()}/{milliseconds}"
    digest = blake2b(place.encode(), digest_size=10).hexdigest()
    head = f"{milliseconds & (1 << 48) - 1:012x}"
    return f"{head[:8]}-{head[8:]}-8{digest[:3]}-a{digest[4:7]}-{digest[7:19]}"


def time_of(message: Message) -> float | None:
    """When the message was written, in seconds since 1970; None if the broker does not say."""
    kind, milliseconds = message.timestamp()
    return milliseconds / 1000.0 if kind and milliseconds >= 0 else None


def as_events(told: dict[str, Any], message: Message) -> tuple[str, dict[str, Any]]:
    """The kind of a message and what the store's reader takes, with the id and the time that the message implies."""
    kind = told.pop("kind", None)
    if kind not in ("prediction", "outcome"):
        raise InvalidInputError('A message must have "kind", which is "prediction" or "outcome".')
    if kind == "prediction":
        if "prediction_id" not in told:
            told["prediction_id"] = id_of(message)
        if told.get("predicted_at") is None:
            told["predicted_at"] = time_of(message)
    return kind, told


def from_app(told: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The number of the model version and the prediction of a message of the Caliber app."""
    if not told.keys() <= set(_APP):
        raise InvalidInputError(f"A message of the Caliber app must be a JSON object of {', '.join(_APP)}.")
    if told.get("model_version_id") is None:
        raise InvalidInputError("model_version_id is missing.")
    number = told["model_version_id"]
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidInputError(f"model_version_id must be a whole number, got {str(number)[:80]}.")
    return number, {"kind": "prediction", **message_from_app(told)}


def is_from_app(told: Mapping[str, Any]) -> bool:
    """Whether it is a message as the Caliber app writes them."""
    return "model_version_id" in told or "sample_id" in told


_KINDS = {list: "list", str: "text", bool: "truth value", type(None): "null"}

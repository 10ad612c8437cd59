"""What is sent and what comes back of it: rows with ids and times of their own, and JSON that everybody reads."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from mlflow_caliber._ids import new_prediction_ids
from mlflow_caliber.exceptions import InvalidInputError

__all__ = ["Recorded", "as_json", "chunks", "recorded", "with_id", "with_kind", "with_time"]


@dataclass(frozen=True)
class Recorded:
    """What became of what was sent: it is on disk when this is returned.

    ``recorded`` were new (``corrections`` of them are outcomes that replace another), ``duplicates`` were known;
    ``refused`` says of each row that was not taken where it stood and why. ``predictions`` tells of a single
    prediction whether it goes to a person. ``prediction_ids`` are in the order of what was sent.
    """

    recorded: int = 0
    duplicates: int = 0
    corrections: int = 0
    refused: tuple[Mapping[str, Any], ...] = ()
    predictions: tuple[Mapping[str, Any], ...] = ()
    prediction_ids: tuple[str, ...] = field(default=(), repr=False)

    def __add__(self, other: Recorded) -> Recorded:
        return Recorded(
            self.recorded + other.recorded,
            self.duplicates + other.duplicates,
            self.corrections + other.corrections,
            self.refused + other.refused,
            self.predictions + other.predictions,
            self.prediction_ids + other.prediction_ids,
        )


def with_id(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """With an id: sent again, it is the same prediction.

    One that has an id is left as it is. A time that is not told is not compared, so its sender may repeat it too.
    """
    if prediction.get("prediction_id") is not None:
        return dict(prediction)
    return {"predicted_at": time.time(), **prediction, "prediction_id": new_prediction_ids(1)[0]}


def with_time(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """With a time of its own, which stays the same when it is sent again."""
    told = {"observed_at": time.time(), **outcome}
    if told.get("prediction_id") is None:
        raise InvalidInputError("An outcome must have prediction_id, which is missing.")
    return told


def with_kind(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event of a stream, as a prediction or as an outcome."""
    kind = event.get("kind")
    if kind not in {"prediction", "outcome"}:
        raise InvalidInputError(f"kind must be one of prediction, outcome, got {kind!r:.80}.")
    return with_id(event) if kind == "prediction" else with_time(event)


def chunks(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """The rows, so many at a time."""
    source = iter(rows)
    while chunk := list(islice(source, size)):
        yield chunk


def as_json(value: Any) -> bytes:
    """The value as JSON; what is missing in a table, a number that is none, becomes null."""
    try:
        return _dumped(value)
    except ValueError:
        pass  # a number that is not finite: rare, and cheaper to mend than to look for
    except (TypeError, RecursionError) as error:
        raise InvalidInputError(f"What is sent must be plain JSON values: {error}.") from error
    try:
        return _dumped(_finite(value))
    except (TypeError, RecursionError, ValueError) as error:
        raise InvalidInputError(f"What is sent must be plain JSON values: {error}.") from error


def _dumped(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, default=_plain).encode()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy's
        return _finite(value.tolist())
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def recorded(answer: Mapping[str, Any], ids: tuple[str, ...], before: int) -> Recorded:
    """The service's answer about rows before which ``before`` others were sent."""
    refused = tuple(
        {**each, "index": each["index"] + before} if isinstance(each.get("index"), int) else each
        for each in answer.get("refused", [])
    )
    return Recorded(
        answer["recorded"],
        answer["duplicates"],
        answer["corrections"],
        refused,
        tuple(answer.get("predictions") or ()),
        ids,
    )

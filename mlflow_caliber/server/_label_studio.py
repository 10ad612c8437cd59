"""Cases as Label Studio's tasks, and its annotations as answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store import Review, ReviewAnswer, Stream

__all__ = ["Imported", "import_annotations", "task_of"]

# The names of the tags in the labeling configuration: see docs/user-guide/review.md.
_CHOICES, _TEXT = "label", "case"
_PREFIX = "label-studio:"
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")


@dataclass
class Imported:
    """What became of the annotations of a file: ``refused`` has the place of the task and a sentence."""

    decided: int = 0
    skipped: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Annotation:
    reviewer: str
    label: str | None
    at: float | None


def task_of(review: Review, rule: str) -> dict[str, Any]:
    """A case as a task to import into Label Studio, with the prediction as a pre-annotation."""
    place = {"prediction_id": review.prediction_id, "model": review.model, "version": review.version}
    said = {
        "id": "served",
        "from_name": _CHOICES,
        "to_name": _TEXT,
        "type": "choices",
        "value": {"choices": [review.prediction]},
    }
    prediction: dict[str, Any] = {"model_version": f"{review.model}/{review.version}", "result": [said]}
    if review.confidence is not None:
        prediction["score"] = review.confidence
    features = review.features or {}
    lines = [f"{name}: {_spelled(value)}" for name, value in features.items()]
    # Some versions of Label Studio lose `meta` on the way, and none loses `data`.
    data = {"text": "\n".join(lines) or review.prediction_id, "rule": rule, **place}
    return {"data": data, "predictions": [prediction], "meta": place}


def import_annotations(stream: Stream, tasks: Sequence[Any], caller: str, *, correction: bool = False) -> Imported:
    """Take the annotations of exported tasks as answers. What is known already, or older, is skipped.

    ``caller`` is who brings them, and ``correction`` whether to change what stands decided.
    """
    imported = Imported()
    for index, task in enumerate(tasks):
        try:
            prediction_id, annotations = _read(task, stream)
        except InvalidInputError as error:
            imported.refused.append((index, str(error)))
            continue
        for content in annotations:  # one bad annotation never costs the others
            try:
                taken = _answer(stream, prediction_id, _annotation(content), caller, correction=correction)
            except InvalidInputError as error:
                imported.refused.append((index, str(error)))
                continue
            imported.decided += taken
            imported.skipped += not taken
    return imported


def _answer(stream: Stream, prediction_id: str, annotation: _Annotation, caller: str, *, correction: bool) -> bool:
    review = stream.review(prediction_id)
    known = next((each for each in stream.review_answers(prediction_id) if each.reviewer == annotation.reviewer), None)
    if known is not None and (_says(known, annotation) or (annotation.at is not None and annotation.at <= known.at)):
        return False
    agrees = annotation.label == review.outcome or (annotation.label is None and known is None)
    if review.status == "done" and agrees:
        return False
    answer = "cant_judge" if annotation.label is None else "correct"
    if annotation.label == review.prediction:
        answer = "confirm"
    stream.answer_review(
        prediction_id,
        annotation.reviewer,
        answer,
        annotation.label,
        at=annotation.at,
        correction=correction,
        brought_by=caller,
    )
    return True


def _says(known: ReviewAnswer, annotation: _Annotation) -> bool:
    if annotation.label is None:
        return known.answer == "cant_judge"
    return known.label == annotation.label


def _read(task: Any, stream: Stream) -> tuple[str, Iterator[Any]]:
    """The prediction that a task is about, and its annotations."""
    if not isinstance(task, Mapping):
        raise InvalidInputError(f"Each task must be a JSON object, got {task!r:.80}.")
    meta, data = task.get("meta"), task.get("data")
    place = {**(data if isinstance(data, Mapping) else {}), **(meta if isinstance(meta, Mapping) else {})}
    prediction_id = place.get("prediction_id")
    if not isinstance(prediction_id, str):
        raise InvalidInputError(f"data or meta of a task must name its prediction_id, got {prediction_id!r:.80}.")
    named = (place.get("model", stream.model), place.get("version", stream.version))
    if named != (stream.model, stream.version):
        raise InvalidInputError(f"The task must be about {stream.subject}, got one about {named!r:.80}.")
    annotations = task.get("annotations")
    if not isinstance(annotations, list):
        raise InvalidInputError(f"annotations must be a list, got {annotations!r:.80}.")
    return prediction_id, iter(annotations)


def _annotation(content: Any) -> _Annotation:
    if not isinstance(content, Mapping):
        raise InvalidInputError(f"Each annotation must be a JSON object, got {content!r:.80}.")
    reviewer = _PREFIX + _who(content.get("completed_by"))
    at = _when(content.get("updated_at") or content.get("created_at"))
    cancelled = content.get("was_cancelled")
    if cancelled is not None and not isinstance(cancelled, bool):
        raise InvalidInputError(f"was_cancelled must be true or false, got {cancelled!r:.80}.")
    if cancelled:
        return _Annotation(reviewer, None, at)
    result = content.get("result")
    values = [each.get("value") for each in result if _is_choice(each)] if isinstance(result, list) else []
    chosen = [label for value in values if isinstance(value, Mapping) for label in _listed(value.get("choices"))]
    if len(chosen) != 1 or not isinstance(chosen[0], str):
        raise InvalidInputError(f"An annotation must choose one {_CHOICES!r}, got {chosen!r:.80}.")
    return _Annotation(reviewer, chosen[0], at)


def _who(completed_by: Any) -> str:
    """Label Studio names a person by a number, or by all it knows of them."""
    who = completed_by
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("id")
    if isinstance(who, bool) or not isinstance(who, (int, str)) or who == "":
        raise InvalidInputError(f"completed_by must say who annotated, got {completed_by!r:.80}.")
    return str(who)


def _when(text: Any) -> float | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text) if _TIME.match(text) else None
    except (TypeError, ValueError):
        at = None
    if at is None:
        raise InvalidInputError(f"updated_at must be a time such as 2026-01-31T12:00:00Z, got {text!r:.80}.")
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _is_choice(region: Any) -> bool:
    return isinstance(region, Mapping) and region.get("type") == "choices" and region.get("from_name") == _CHOICES


def _listed(choices: Any) -> list[Any]:
    return choices if isinstance(choices, list) else []


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)

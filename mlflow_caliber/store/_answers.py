"""What reviewers said of a case, and what it comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_caliber._validation import check_choice
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._checks import check_name, check_stored_text, label_text, shown
from mlflow_caliber.store._schema import review_answers

__all__ = ["ANSWERS", "ReviewAnswer", "answers_of", "checked_answer", "keep_answer", "verdict"]

ANSWERS = ("confirm", "correct", "cant_judge", "escalate")


@dataclass(frozen=True, kw_only=True)
class ReviewAnswer:
    """What one reviewer says of a case; ``label`` is what came true, unless the reviewer cannot tell."""

    reviewer: str
    answer: str
    label: str | None
    note: str
    at: float

    def says_the_same(self, other: ReviewAnswer | None) -> bool:
        """Whether the other says so, too, at whatever time."""
        return other is not None and (self.answer, self.label) == (other.answer, other.label)


def checked_answer(given: ReviewAnswer, classes: tuple[str, ...] | None, prediction: str, about: str) -> ReviewAnswer:
    """The answer as it is stored, its label as the classes spell it."""
    reviewer, note = check_name(given.reviewer, "reviewer"), check_stored_text(given.note, "note")
    answer, label = check_choice(given.answer, "answer", ANSWERS), given.label
    if answer in {"cant_judge", "escalate"} and label is not None:
        raise InvalidInputError(f"label must be left out when the answer is {answer!r}, got {shown(label)}.")
    if answer == "escalate" and not note.strip():
        raise InvalidInputError(f"note must say why {about} is escalated, got an empty one.")
    if answer == "correct" and label is None:
        raise InvalidInputError("label must say what is right when the answer is 'correct', got none.")
    if label is not None:
        label = label_text(label, classes, "label")
    if answer == "correct" and label == prediction:
        raise InvalidInputError(f"label must differ from the prediction {shown(prediction)}: 'confirm' agrees with it.")
    if answer == "confirm":
        if label not in (None, prediction):
            raise InvalidInputError(f"'confirm' agrees with the prediction {shown(prediction)}, got {shown(label)}.")
        label = prediction
    return ReviewAnswer(reviewer=reviewer, answer=answer, label=label, note=note, at=given.at)


def answers_of(connection: Connection, stream_id: int, prediction_id: str) -> tuple[ReviewAnswer, ...]:
    """All answers to the case, the oldest first."""
    names = [review_answers.c[name] for name in ("reviewer", "answer", "label", "note", "at")]
    query = sa.select(*names).where(_of_case(stream_id, prediction_id))
    rows = connection.execute(query.order_by(review_answers.c.at, review_answers.c.reviewer)).mappings()
    return tuple(ReviewAnswer(**row) for row in rows)


def keep_answer(connection: Connection, stream_id: int, prediction_id: str, answer: ReviewAnswer) -> None:
    """Keep the answer, in the place of the reviewer's former one."""
    own = _of_case(stream_id, prediction_id) & (review_answers.c.reviewer == answer.reviewer)
    connection.execute(sa.delete(review_answers).where(own))
    row = {"stream_id": stream_id, "prediction_id": prediction_id, **vars(answer)}
    connection.execute(sa.insert(review_answers).values(row))


def verdict(answers: Iterable[ReviewAnswer], wanted: int, last: ReviewAnswer) -> tuple[str, str | None]:
    """What the answers come to by the last one: "done" and the label, "declined", or "open" as long as too few agree.

    Only who says so decides so, and nothing is decided while something else was said as often.
    """
    said = list(answers)
    labels = Counter(each.label for each in said if each.label is not None)
    if last.answer == "cant_judge":
        n = sum(each.answer == "cant_judge" for each in said)
        return ("declined" if n >= wanted and n > max(labels.values(), default=0) else "open"), None
    others = max((n for label, n in labels.items() if label != last.label), default=0)
    if last.label is not None and labels[last.label] >= wanted and labels[last.label] > others:
        return "done", last.label
    return "open", None


def _of_case(stream_id: int, prediction_id: str) -> sa.ColumnElement[bool]:
    return (review_answers.c.stream_id == stream_id) & (review_answers.c.prediction_id == prediction_id)

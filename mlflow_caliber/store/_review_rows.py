"""A case that a person should see, as it is read: what was served, who is at it, and whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._rows import UNSCORABLE, WAITED_FOR
from mlflow_caliber.store._schema import predictions, review_answers, reviews
from mlflow_caliber.store._settings import ReviewSettings

__all__ = [
    "Review",
    "begun_cases",
    "decided_cases",
    "escalated_cases",
    "find_reviews",
    "held_by",
    "held_cases",
    "touched_cases",
    "turn",
    "undecided_cases",
    "untouched_cases",
]

_CLAIM = ("claimed_by", "claimed_at", "lease_expires_at")
_OF_REVIEW = tuple(column.name for column in reviews.columns if column.name not in {"stream_id", "queue_place"})
_OF_PREDICTION = ("prediction", "probability", "probabilities", "segment", "features")


@dataclass(frozen=True, kw_only=True)
class Review:
    """A case for a person.

    ``status`` is "open", "claimed", "done" or "declined" (nobody could judge it); ``origin`` says whether the
    prediction was withheld ("abstained") or drawn at random ("audit"). A ``confidence`` of None means that there was
    no score. ``expected_cost`` is what an error would cost times its probability. ``outcome`` is what the reviewers
    decided, ``note`` what was said of it, or why it was passed on.
    """

    model: str
    version: str
    prediction_id: str
    status: str
    origin: str
    reason: str
    created_at: float
    claimed_by: str | None
    claimed_at: float | None
    lease_expires_at: float | None
    decided_at: float | None
    reviewer: str | None
    outcome: str | None
    note: str | None
    n_answers: int
    answers_wanted: int
    disputed: bool
    escalated: bool
    confidence: float | None
    expected_cost: float | None
    prediction: str
    probability: float
    probabilities: tuple[float, ...] | None
    segment: str | None
    features: Mapping[str, Any] | None

    @property
    def is_decided(self) -> bool:
        """Whether nobody is waited for."""
        return self.status in {"done", "declined"}


# In the table a case is "open" as long as nobody has touched it, and then "claimed" until it is decided, whether or not
# somebody is at it: the many that are open are alike for everybody, and only the few others must be looked at.


def untouched_cases() -> sa.ColumnElement[bool]:
    """Those that are as they were recorded, and can be offered to everybody."""
    return reviews.c.status == "open"


def undecided_cases() -> sa.ColumnElement[bool]:
    """Those that wait for somebody, whoever is at them."""
    return reviews.c.status.in_(["open", "claimed"])


def begun_cases(now: float) -> sa.ColumnElement[bool]:
    """Those that somebody is at, or has answered, disputed or passed on, and that are not decided."""
    is_begun = (reviews.c.n_answers > 0) | reviews.c.disputed | reviews.c.escalated
    return held_cases(now) | ((reviews.c.status == "claimed") & is_begun)


def decided_cases() -> sa.ColumnElement[bool]:
    """Those that nobody is waited for."""
    return reviews.c.status.in_(["done", "declined"])


def held_cases(now: float) -> sa.ColumnElement[bool]:
    """Those that somebody is at."""
    return (reviews.c.status == "claimed") & (sa.func.coalesce(reviews.c.lease_expires_at, 0.0) > now)


def held_by(reviewer: str, now: float) -> sa.ColumnElement[bool]:
    """Those that the reviewer is at."""
    return held_cases(now) & (reviews.c.claimed_by == reviewer)


def escalated_cases() -> sa.ColumnElement[bool]:
    """Those that somebody passed on."""
    return (reviews.c.status == "claimed") & reviews.c.escalated


def touched_cases(reviewer: str | None, now: float) -> sa.ColumnElement[bool]:
    """Of those that were touched, the ones to offer to the reviewer: nobody is at them, and not answered by them."""
    free = (reviews.c.status == "claimed") & (sa.func.coalesce(reviews.c.lease_expires_at, 0.0) <= now)
    answers = review_answers.c
    own = (answers.stream_id == reviews.c.stream_id) & (answers.prediction_id == reviews.c.prediction_id)
    answered = sa.exists().where(own, answers.reviewer == (reviewer or "")).correlate(reviews)
    return free & ~reviews.c.escalated & ~answered


def find_reviews(
    connection: Connection,
    stream: StreamBase,
    settings: ReviewSettings,
    wanted: sa.ColumnElement[bool],
    *,
    now: float,
    by: Sequence[sa.ColumnElement[Any]] = (),
    limit: int | None = None,
) -> list[Review]:
    """The stream's wanted cases, by default the oldest first, found among the reviews alone."""
    by = by or (reviews.c.created_at, reviews.c.prediction_id)
    some = sa.select(reviews).where(reviews.c.stream_id == stream._id, wanted).order_by(*by).limit(limit).subquery()
    same = (predictions.c.stream_id == some.c.stream_id) & (predictions.c.prediction_id == some.c.prediction_id)
    columns = [*(some.c[name] for name in _OF_REVIEW), *(predictions.c[name] for name in _OF_PREDICTION)]
    rows = connection.execute(sa.select(*columns).join(predictions, same)).mappings()
    return [_review(row, stream, settings, now) for row in rows]


def _review(row: RowMapping, stream: StreamBase, settings: ReviewSettings, now: float) -> Review:
    """The case of a row; a claim that has run out is none."""
    values: dict[str, Any] = {name: row[name] for name in (*_OF_REVIEW, *_OF_PREDICTION)}
    if values["status"] == "claimed" and (values["lease_expires_at"] or 0.0) <= now:
        values |= {"status": "open", **dict.fromkeys(_CLAIM)}
    if values["reason"] == UNSCORABLE:
        values["confidence"] = None
    if values["probabilities"] is not None:
        values["probabilities"] = tuple(values["probabilities"])
    values |= {"model": stream.model, "version": stream.version, "answers_wanted": settings.answers}
    values["expected_cost"] = _expected_cost(values, stream.classes, settings.costs)
    return Review(**values)


def turn(review: Review, order: str, settings: ReviewSettings) -> tuple[bool, float, str]:
    """What comes first is smallest: disputes, then by the order's own measure; all grow more urgent while they wait."""
    aged = review.created_at / WAITED_FOR
    if order == "uncertain":
        place = (review.confidence or 0.0) + aged
    elif order == "cost":
        highest = max([1.0, *settings.costs.values()])
        share = 1.0 if review.expected_cost is None else review.expected_cost / highest
        place = 1.0 - share + aged
    else:
        place = -(review.decided_at or 0.0) if order == "decided" else review.created_at
    return (not (review.disputed and not review.is_decided), place, review.prediction_id)


def _expected_cost(
    values: Mapping[str, Any], classes: Sequence[str] | None, costs: Mapping[str, float]
) -> float | None:
    """The probability of an error times what it costs, by the probabilities of the other classes."""
    if values["confidence"] is None:
        return None
    others = [name for name in classes or () if name != values["prediction"]]
    if not others:
        return float(1.0 - values["confidence"])
    given = dict(zip(classes or (), values["probabilities"] or (), strict=False))
    weights = [given.get(name, 0.0) for name in others]
    if sum(weights) <= 0.0:  # not told: all others alike
        weights = [1.0] * len(others)
    dear = sum(weight * costs.get(name, 1.0) for weight, name in zip(weights, others, strict=True))
    return float((1.0 - values["confidence"]) * dear / sum(weights))

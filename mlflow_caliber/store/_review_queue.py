"""The queue: which cases come next, over any number of streams, and how many the day still holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_caliber._validation import check_choice, check_count
from mlflow_caliber.store._checks import check_name
from mlflow_caliber.store._review_rows import (
    Review,
    decided_cases,
    escalated_cases,
    find_reviews,
    held_by,
    held_cases,
    touched_cases,
    turn,
    untouched_cases,
)
from mlflow_caliber.store._reviews import count_cases, decided_today
from mlflow_caliber.store._schema import reviews
from mlflow_caliber.store._schema import settings as settings_table
from mlflow_caliber.store._schema import streams as streams_table
from mlflow_caliber.store._settings import REVIEW_ORDERS, ReviewSettings, StreamSettings
from mlflow_caliber.store._stream import Stream

__all__ = ["REVIEW_LISTS", "ReviewQueue", "review_queue"]

REVIEW_LISTS = ("waiting", "mine", "escalated", "done")


@dataclass(frozen=True, kw_only=True)
class ReviewQueue:
    """The first cases, how many wait in all, and the day (UTC): ``left`` can still be claimed."""

    reviews: tuple[Review, ...] = ()
    waiting: int = 0
    decided: int = 0
    capacity: int | None = None
    left: int | None = None


def review_queue(
    streams: Sequence[Stream],
    *,
    status: str = "waiting",
    order: str | None = None,
    reviewer: str | None = None,
    limit: int = 50,
) -> ReviewQueue:
    """The cases of some streams of one store, the most pressing first.

    Parameters
    ----------
    streams : sequence of Stream
        Whose cases.
    status : {"waiting", "mine", "escalated", "done"}
        Those that nobody is at, that the reviewer holds, that somebody passed on, or that are decided.
    order : {"uncertain", "oldest", "cost"}, optional
        By default as the streams are set, when they agree, else "uncertain".
    reviewer : str, optional
        Who asks: what they have answered does not wait for them.
    limit : int
        How many cases.

    Examples
    --------
    >>> from mlflow_caliber.store import Prediction, open_store
    >>> stream = open_store("sqlite://").stream("churn", "1", classes=["no", "yes"])
    >>> _ = stream.record_predictions([Prediction(
    ...     prediction_id=name, predicted_at=0.0, raw_probability=p, base_probability=p, probability=p,
    ...     prediction="yes", confidence=p, abstained=True) for name, p in (("a", 0.8), ("b", 0.6))])
    >>> [review.prediction_id for review in review_queue([stream]).reviews]
    ['b', 'a']
    """
    check_choice(status, "status", REVIEW_LISTS)
    limit = check_count(limit, "limit")
    if order is not None:
        check_choice(order, "order", REVIEW_ORDERS)
    if reviewer is not None:
        check_name(reviewer, "reviewer")
    if not streams:
        return ReviewQueue()
    database = streams[0]._database
    with database.read() as connection:
        told = _settings(connection, streams)
        order = order or _common_order(list(told.values()))
        asked = _Asked(connection, database.now(connection), reviewer, order, limit)
        with_cases = _with_cases(connection, streams)
        found = [
            (turn(review, "decided" if status == "done" else order, told[stream._id]), review)
            for stream in with_cases
            for review in asked.cases(stream, told[stream._id], status)
        ]
        found.sort(key=lambda pair: (pair[0], pair[1].model, pair[1].version))
        held = {stream._id: count_cases(connection, stream._id, held_cases(asked.now)) for stream in with_cases}
        decided = decided_today(connection, [stream.subject for stream in streams], asked.now)
        return ReviewQueue(
            reviews=tuple(review for _, review in found[:limit]),
            waiting=sum(asked.waiting(stream) for stream in with_cases),
            decided=sum(decided.values()),
            **_bounds(streams, told, decided, held),
        )


@dataclass(frozen=True)
class _Asked:
    """What was asked for, in one transaction."""

    connection: Connection
    now: float
    reviewer: str | None
    order: str
    limit: int

    def cases(self, stream: Stream, settings: ReviewSettings, status: str) -> list[Review]:
        """At least the first ``limit`` cases of the stream, in any order."""
        if status == "done":
            return self._find(stream, settings, decided_cases(), [reviews.c.decided_at.desc()])
        place = reviews.c.created_at if self.order == "oldest" else reviews.c.queue_place
        by = [reviews.c.disputed.desc(), place, reviews.c.prediction_id]
        if status == "mine":
            return self._find(stream, settings, held_by(self.reviewer or "", self.now), by)
        if status == "escalated":
            return self._find(stream, settings, escalated_cases(), by)
        touched = touched_cases(self.reviewer, self.now)
        if self.order == "cost":
            return [*self._find(stream, settings, touched, by, None), *self._dearest(stream, settings)]
        untouched = self._find(stream, settings, untouched_cases(), [place, reviews.c.prediction_id])
        return [*self._find(stream, settings, touched, by), *untouched]

    def waiting(self, stream: Stream) -> int:
        """How many cases can be offered."""
        wanted = (untouched_cases(), touched_cases(self.reviewer, self.now))
        return sum(count_cases(self.connection, stream._id, each) for each in wanted)

    def _find(
        self,
        stream: Stream,
        settings: ReviewSettings,
        wanted: sa.ColumnElement[bool],
        by: Sequence[sa.ColumnElement[Any]],
        limit: int | None = 0,
    ) -> list[Review]:
        most = self.limit if limit == 0 else limit
        return find_reviews(self.connection, stream, settings, wanted, now=self.now, by=by, limit=most)

    def _dearest(self, stream: Stream, settings: ReviewSettings) -> list[Review]:
        """No case is dearer than it is uncertain, so that only the most uncertain ones need be looked at."""
        take = 3 * self.limit
        while True:
            by = [reviews.c.queue_place, reviews.c.prediction_id]
            found = self._find(stream, settings, untouched_cases(), by, take)
            ranked = sorted(found, key=lambda review: turn(review, "cost", settings))[: self.limit]
            if len(found) < take or turn(ranked[-1], "cost", settings) <= turn(found[-1], "uncertain", settings):
                return ranked
            take *= 2


def _common_order(told: Sequence[ReviewSettings]) -> str:
    orders = {each.order for each in told}
    return orders.pop() if len(orders) == 1 else "uncertain"


def _with_cases(connection: Connection, streams: Sequence[Stream]) -> list[Stream]:
    """The streams that have any case at all: most of many have none."""
    any_case = sa.exists().where(reviews.c.stream_id == streams_table.c.id)
    of_these = streams_table.c.id.in_([stream._id for stream in streams])
    ids = set(connection.execute(sa.select(streams_table.c.id).where(of_these, any_case)).scalars())
    return [stream for stream in streams if stream._id in ids]


def _bounds(
    streams: Sequence[Stream],
    told: Mapping[int, ReviewSettings],
    decided: Mapping[str, int],
    held: Mapping[int, int],
) -> dict[str, int | None]:
    """What can be handed out today, and what is left of it, where all streams have a capacity."""
    capacity, left = 0, 0
    for stream in streams:
        most = told[stream._id].capacity_per_day
        if most is None:
            return {"capacity": None, "left": None}
        capacity += most
        left += max(0, most - decided.get(stream.subject, 0) - held.get(stream._id, 0))
    return {"capacity": capacity, "left": left}


def _settings(connection: Connection, streams: Sequence[Stream]) -> dict[int, ReviewSettings]:
    """The review settings of each stream, by its number."""
    told = {stream._id: ReviewSettings() for stream in streams}
    query = sa.select(settings_table.c.stream_id, settings_table.c.content)
    for stream_id, content in connection.execute(query.where(settings_table.c.stream_id.in_(list(told)))):
        told[stream_id] = StreamSettings.from_dict(content).review
    return told

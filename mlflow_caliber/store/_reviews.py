"""Predictions that a person must decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber._validation import check_count
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._checks import check_name, check_stored_text, label_text, shown
from mlflow_caliber.store._record import locked_stream, record
from mlflow_caliber.store._schema import reviews
from mlflow_caliber.store._values import Outcome

__all__ = ["Review", "ReviewsPart"]


@dataclass(frozen=True, kw_only=True)
class Review:
    """A prediction that abstained; ``status`` is "open", "claimed" or "done"."""

    prediction_id: str
    status: str
    reason: str
    created_at: float
    claimed_by: str | None
    claimed_at: float | None
    decided_at: float | None
    reviewer: str | None
    outcome: str | None
    note: str | None


class ReviewsPart(StreamBase):
    """The reviews of the stream."""

    def open_reviews(self, limit: int = 100) -> tuple[Review, ...]:
        """Those that are not done, claimed ones included; the oldest first."""
        waiting = (reviews.c.stream_id == self._id) & reviews.c.status.in_(["open", "claimed"])
        query = sa.select(reviews).where(waiting).order_by(reviews.c.created_at, reviews.c.prediction_id)
        with self._database.read() as connection:
            rows = connection.execute(query.limit(check_count(limit, "limit"))).mappings()
            return tuple(_review(row) for row in rows)

    def claim_review(self, prediction_id: str, reviewer: str) -> Review:
        """Say that somebody is at it; refused when somebody else is, or has decided."""
        check_name(reviewer, "reviewer")
        with self._database.write() as connection:
            review = self._free(connection, prediction_id, reviewer)
            if review.status == "done":
                raise InvalidInputError(f"The review of {shown(prediction_id)} is done, by {shown(review.reviewer)}.")
            claimed = {"status": "claimed", "claimed_by": reviewer, "claimed_at": self._database.now(connection)}
            return self._update(connection, prediction_id, claimed)

    def decide_review(self, prediction_id: str, outcome: Any, reviewer: str, note: str = "") -> Review:
        """Close the review and record the outcome, source "review", in one transaction. Deciding again corrects.

        Examples
        --------
        >>> from mlflow_caliber.store import Prediction, open_store
        >>> stream = open_store("sqlite://").stream("churn", "1", classes=["no", "yes"])
        >>> _ = stream.record_predictions([Prediction(
        ...     prediction_id="a", predicted_at=0.0, raw_probability=0.5, base_probability=0.5, probability=0.5,
        ...     prediction="yes", confidence=0.5, abstained=True, reason="low confidence")])
        >>> stream.decide_review("a", "no", "mia").status
        'done'
        >>> stream.log(after=1)[0].event.source
        'review'
        """
        check_name(reviewer, "reviewer")
        check_stored_text(note, "note")
        with self._database.write() as connection:
            self._free(connection, prediction_id, reviewer)
            label = label_text(outcome, locked_stream(connection, self._id)["classes"], "outcome")
            now = self._database.now(connection)
            event = Outcome(prediction_id=prediction_id, outcome=label, observed_at=now, source="review")
            record(connection, self._id, [event], now)
            decided = {"reviewer": reviewer, "outcome": label, "note": note, "decided_at": now}
            review = self._update(connection, prediction_id, {"status": "done", **decided})
            self._audit(connection, reviewer, "decide_review", {"prediction_id": prediction_id, "outcome": label})
            return review

    def _free(self, connection: Connection, prediction_id: str, reviewer: str) -> Review:
        locked_stream(connection, self._id)
        row = connection.execute(sa.select(reviews).where(self._one(prediction_id))).mappings().first()
        if row is None:
            raise InvalidInputError(f"{self.subject} has no review of {shown(prediction_id)}.")
        if row["status"] == "claimed" and row["claimed_by"] != reviewer:
            raise InvalidInputError(f"The review of {shown(prediction_id)} is claimed by {shown(row['claimed_by'])}.")
        return _review(row)

    def _update(self, connection: Connection, prediction_id: str, values: dict[str, Any]) -> Review:
        connection.execute(sa.update(reviews).where(self._one(prediction_id)).values(values))
        return _review(connection.execute(sa.select(reviews).where(self._one(prediction_id))).mappings().one())

    def _one(self, prediction_id: str) -> sa.ColumnElement[bool]:
        wanted = check_name(prediction_id, "prediction_id")
        return (reviews.c.stream_id == self._id) & (reviews.c.prediction_id == wanted)


def _review(row: RowMapping) -> Review:
    return Review(**{name: row[name] for name in row if name != "stream_id"})

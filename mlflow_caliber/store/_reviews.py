"""The reviews of a stream: who is at a case, what they answer, and the outcome that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber._validation import check_count
from mlflow_caliber.exceptions import ConflictError, NotFoundError
from mlflow_caliber.store._answers import ReviewAnswer, answers_of, checked_answer, keep_answer, verdict
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._checks import check_name, check_time, label_text, shown
from mlflow_caliber.store._record import locked_stream, record
from mlflow_caliber.store._review_rows import Review, find_reviews, held_cases, undecided_cases
from mlflow_caliber.store._schema import audit, outcomes, reviews
from mlflow_caliber.store._settings import ReviewSettings, StreamSettings, settings_of
from mlflow_caliber.store._values import Outcome

__all__ = ["Answered", "ReviewsPart", "count_cases", "decided_today"]

# The acts of whoever gave the answer that decided a case, and of whoever changed what was decided.
_DECIDED, _CORRECTED = "decide_review", "correct_review"
_DAY = 86_400.0

# Touched, but nobody is at it: see _review_rows.
_FREE = {"status": "claimed", "claimed_by": None, "claimed_at": None, "lease_expires_at": None}


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What became of an answer.

    ``recorded`` says whether an outcome was added to the log, ``known`` is the outcome that was known before, if any.
    """

    review: Review
    recorded: bool = False
    known: Outcome | None = None


class ReviewsPart(StreamBase):
    """The reviews of the stream."""

    def open_reviews(self, limit: int = 100) -> tuple[Review, ...]:
        """Those that are not decided, claimed ones included; the oldest first. :func:`review_queue` knows the rest."""
        limit = check_count(limit, "limit")
        with self._database.read() as connection:
            now, settings = self._database.now(connection), settings_of(connection, self._id).review
            return tuple(find_reviews(connection, self, settings, undecided_cases(), now=now, limit=limit))

    def review(self, prediction_id: str) -> Review:
        """The review of a prediction.

        Raises
        ------
        NotFoundError
            If the prediction is not known, or nobody need see it.
        """
        with self._database.read() as connection:
            settings = settings_of(connection, self._id).review
            return self._one_review(connection, prediction_id, settings, self._database.now(connection))

    def review_answers(self, prediction_id: str) -> tuple[ReviewAnswer, ...]:
        """What the reviewers said of a case, the oldest answer first."""
        with self._database.read() as connection:
            return answers_of(connection, self._id, check_name(prediction_id, "prediction_id"))

    def claim_review(self, prediction_id: str, reviewer: str) -> Review:
        """Take a case for the time of a lease; whoever holds it renews the lease.

        Raises
        ------
        ConflictError
            If somebody else holds the case, it is decided, the reviewer has answered, or the day's cases are all
            handed out.

        Examples
        --------
        >>> from mlflow_caliber.store import Prediction, open_store
        >>> stream = open_store("sqlite://").stream("churn", "1", classes=["no", "yes"])
        >>> _ = stream.record_predictions([Prediction(
        ...     prediction_id="a", predicted_at=0.0, raw_probability=0.5, base_probability=0.5, probability=0.5,
        ...     prediction="yes", confidence=0.5, abstained=True, reason="low_confidence")])
        >>> stream.claim_review("a", "mia").claimed_by
        'mia'
        >>> stream.claim_review("a", "max")
        Traceback (most recent call last):
        mlflow_caliber.exceptions.ConflictError: The review of 'a' is claimed by 'mia'.
        """
        check_name(reviewer, "reviewer")
        with self._database.write() as connection:
            settings, now = self._lock(connection)
            review = self._one_review(connection, prediction_id, settings, now)
            _check_not_held(review, reviewer)
            if review.is_decided:
                raise ConflictError(_decided(review))
            if any(each.reviewer == reviewer for each in answers_of(connection, self._id, prediction_id)):
                raise ConflictError(f"{shown(reviewer)} has answered the review of {shown(prediction_id)}.")
            if review.status != "claimed" and not (review.disputed or review.escalated):
                self._check_capacity(connection, settings, now)
            since = now if review.claimed_at is None else review.claimed_at
            claim = {"claimed_by": reviewer, "claimed_at": since}
            until = now + 60.0 * settings.lease_minutes
            self._set(connection, prediction_id, {"status": "claimed", **claim, "lease_expires_at": until})
            return self._one_review(connection, prediction_id, settings, now)

    def release_review(self, prediction_id: str, reviewer: str) -> Review:
        """Give a claimed case back; nothing happens when it is not claimed."""
        check_name(reviewer, "reviewer")
        with self._database.write() as connection:
            settings, now = self._lock(connection)
            review = self._one_review(connection, prediction_id, settings, now)
            _check_not_held(review, reviewer)
            if review.status == "claimed":
                self._set(connection, prediction_id, _FREE)
            return self._one_review(connection, prediction_id, settings, now)

    def answer_review(
        self,
        prediction_id: str,
        reviewer: str,
        answer: str,
        label: Any = None,
        note: str = "",
        *,
        at: float | None = None,
        correction: bool = False,
    ) -> Answered:
        """Say what is right. When enough reviewers agree, the outcome is recorded in the same transaction.

        Parameters
        ----------
        prediction_id, reviewer : str
            Which case, and who answers; the reviewer's former answer is replaced.
        answer : {"confirm", "correct", "cant_judge", "escalate"}
            The prediction is right, the ``label`` is right, nobody could tell, or somebody else should.
        label : label, optional
            What is right, when it is not the prediction.
        note : str
            Needed to escalate.
        at : float, optional
            When the answer was given, in seconds since 1970; now unless it was given elsewhere.
        correction : bool
            Whether to change what others have decided; who took part may do it anyway.

        Raises
        ------
        ConflictError
            If somebody else holds the case, or others have decided it.

        Examples
        --------
        >>> from mlflow_caliber.store import Prediction, open_store
        >>> stream = open_store("sqlite://").stream("churn", "1", classes=["no", "yes"])
        >>> _ = stream.record_predictions([Prediction(
        ...     prediction_id="a", predicted_at=0.0, raw_probability=0.5, base_probability=0.5, probability=0.5,
        ...     prediction="yes", confidence=0.5, abstained=True, reason="low_confidence")])
        >>> stream.answer_review("a", "mia", "correct", "no").review.status
        'done'
        >>> stream.log(after=1)[0].event.source
        'review'
        """
        check_name(reviewer, "reviewer")
        at = None if at is None else check_time(at, "at")
        with self._database.write() as connection:
            settings, now = self._lock(connection)
            review = self._one_review(connection, prediction_id, settings, now)
            given = ReviewAnswer(
                reviewer=reviewer, answer=answer, label=label, note=note, at=now if at is None else min(at, now)
            )
            said = checked_answer(given, self._classes(connection), review.prediction, f"{shown(prediction_id)}")
            if review.status == "done":
                return self._correct(connection, review, said, settings, now, anyway=correction)
            _check_not_held(review, reviewer)
            return self._take(connection, review, said, settings, now)

    def decide_review(
        self, prediction_id: str, outcome: Any, reviewer: str, note: str = "", *, correction: bool = False
    ) -> Review:
        """:meth:`answer_review` by the label that is right: it confirms or corrects the prediction."""
        label = label_text(outcome, self.classes, "outcome")
        answer = "confirm" if label == self.review(prediction_id).prediction else "correct"
        return self.answer_review(prediction_id, reviewer, answer, label, note, correction=correction).review

    def _take(
        self, connection: Connection, review: Review, said: ReviewAnswer, settings: ReviewSettings, now: float
    ) -> Answered:
        keep_answer(connection, self._id, review.prediction_id, said)
        answers = answers_of(connection, self._id, review.prediction_id)
        status, label = verdict(answers, settings.answers)
        values: dict[str, Any] = {
            **_FREE,
            "status": "claimed" if status == "open" else status,
            "n_answers": len(answers),
            "disputed": len({each.label for each in answers} - {None}) > 1,
            "escalated": any(each.answer == "escalate" for each in answers),
        }
        if said.answer == "escalate":
            values["note"] = said.note
        if status != "open":
            values |= {"reviewer": said.reviewer, "outcome": label, "note": said.note, "decided_at": now}
        self._set(connection, review.prediction_id, values)
        self._note(connection, review, said, "answer_review" if status == "open" else _DECIDED)
        if label is None:
            return Answered(review=self._one_review(connection, review.prediction_id, settings, now))
        return self._tell(connection, review, label, settings, said.at, now)

    def _correct(
        self,
        connection: Connection,
        review: Review,
        said: ReviewAnswer,
        settings: ReviewSettings,
        now: float,
        *,
        anyway: bool,
    ) -> Answered:
        answers = answers_of(connection, self._id, review.prediction_id)
        own = next((each for each in answers if each.reviewer == said.reviewer), None)
        took_part = own is not None or review.reviewer == said.reviewer
        if said.says_the_same(own) or (took_part and said.label == review.outcome):
            return Answered(review=review)
        if said.label is None or not (took_part or anyway):
            raise ConflictError(_decided(review))
        keep_answer(connection, self._id, review.prediction_id, said)
        decided = {"reviewer": said.reviewer, "outcome": said.label, "note": said.note, "decided_at": now}
        self._set(connection, review.prediction_id, {**decided, "n_answers": len(answers) + (own is None)})
        self._note(connection, review, said, _CORRECTED)
        return self._tell(connection, review, said.label, settings, said.at, now)

    def _tell(
        self, connection: Connection, review: Review, label: str, settings: ReviewSettings, at: float, now: float
    ) -> Answered:
        """Record the outcome: what a person decided replaces what was observed meanwhile, as any later outcome does."""
        of_case = (outcomes.c.stream_id == self._id) & (outcomes.c.prediction_id == review.prediction_id)
        query = sa.select(outcomes).where(of_case).order_by(outcomes.c.seq.desc()).limit(1)
        row = connection.execute(query).mappings().first()
        source = "audit" if review.origin == "audit" else "review"
        event = Outcome(prediction_id=review.prediction_id, outcome=label, observed_at=at, source=source)
        receipt = record(connection, self._id, [event], now)
        return Answered(
            review=self._one_review(connection, review.prediction_id, settings, now),
            recorded=receipt.recorded > 0,
            known=None if row is None else _outcome(row),
        )

    def _check_capacity(self, connection: Connection, settings: ReviewSettings, now: float) -> None:
        if settings.capacity_per_day is None:
            return
        decided = decided_today(connection, [self.subject], now).get(self.subject, 0)
        held = count_cases(connection, self._id, held_cases(now))
        if decided + held >= settings.capacity_per_day:
            raise ConflictError(
                f"{self.subject} has a capacity of {settings.capacity_per_day} cases a day (UTC), "
                f"and today {decided} are decided and {held} are being looked at."
            )

    def _lock(self, connection: Connection) -> tuple[ReviewSettings, float]:
        told = locked_stream(connection, self._id)["settings"]
        settings = StreamSettings() if told is None else StreamSettings.from_dict(told)
        return settings.review, self._database.now(connection)

    def _classes(self, connection: Connection) -> tuple[str, ...] | None:
        """The classes as they are now: a stream may be given them after it was opened."""
        names = locked_stream(connection, self._id)["classes"]
        return None if names is None else tuple(names)

    def _one_review(self, connection: Connection, prediction_id: str, settings: ReviewSettings, now: float) -> Review:
        this = reviews.c.prediction_id == check_name(prediction_id, "prediction_id")
        found = find_reviews(connection, self, settings, this, now=now)
        if not found:
            raise NotFoundError(f"{self.subject} has no review of {shown(prediction_id)}.")
        return found[0]

    def _set(self, connection: Connection, prediction_id: str, values: Mapping[str, Any]) -> None:
        this = (reviews.c.stream_id == self._id) & (reviews.c.prediction_id == prediction_id)
        connection.execute(sa.update(reviews).where(this).values(values))

    def _note(self, connection: Connection, review: Review, said: ReviewAnswer, action: str) -> None:
        detail = {"prediction_id": review.prediction_id, "answer": said.answer, "label": said.label}
        if action == _CORRECTED:
            detail["before"] = review.outcome
        self._audit(connection, said.reviewer, action, detail)


def count_cases(connection: Connection, stream_id: int, wanted: sa.ColumnElement[bool]) -> int:
    """How many cases of the stream are wanted."""
    query = sa.select(sa.func.count()).select_from(reviews).where(reviews.c.stream_id == stream_id, wanted)
    return int(connection.execute(query).scalar_one())


def decided_today(connection: Connection, subjects: Sequence[str], now: float) -> dict[str, int]:
    """How many cases of each subject were decided since midnight (UTC), by the audit trail; those without are left out.

    A correction gives a case another ``decided_at``, and takes nothing of the day's capacity.
    """
    today = (audit.c.action == _DECIDED) & (audit.c.at >= now - now % _DAY)
    query = sa.select(audit.c.subject, sa.func.count()).where(audit.c.subject.in_(subjects), today)
    return dict(tuple(row) for row in connection.execute(query.group_by(audit.c.subject)))


def _check_not_held(review: Review, reviewer: str) -> None:
    if review.status == "claimed" and review.claimed_by != reviewer:
        raise ConflictError(f"The review of {shown(review.prediction_id)} is claimed by {shown(review.claimed_by)}.")


def _decided(review: Review) -> str:
    if review.status == "declined":
        return f"The review of {shown(review.prediction_id)} is closed: nobody could judge it."
    return f"The review of {shown(review.prediction_id)} is done, by {shown(review.reviewer)}."


def _outcome(row: RowMapping) -> Outcome:
    names = ("prediction_id", "outcome", "observed_at", "source")
    return Outcome(**{name: row[name] for name in names})

"""The reviews of a stream: who is at a case, what they answer, and the outcome that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_caliber._validation import check_count
from mlflow_caliber.exceptions import ConflictError, NotFoundError
from mlflow_caliber.store._answers import ReviewAnswer, answers_of, checked_answer, keep_answer, verdict
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._checks import check_name, check_time, label_text, shown
from mlflow_caliber.store._record import locked_stream, record
from mlflow_caliber.store._review_rows import Review, find_reviews, held_cases, undecided_cases
from mlflow_caliber.store._rows import as_outcome
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

    ``label`` is what was said to be right, if anything; ``recorded`` says whether an outcome was added to the log, and
    ``known`` is the outcome that was known before, if any.
    """

    review: Review
    label: str | None = None
    recorded: bool = False
    known: Outcome | None = None


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """The circumstances of an answer."""

    settings: ReviewSettings
    now: float
    correction: bool
    brought_by: str | None


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
        brought_by: str | None = None,
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
        brought_by : str, optional
            Who brings the answer in the reviewer's name. The audit trail names them, and only a ``correction`` of
            theirs changes what is decided.

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
        if brought_by is not None:
            check_name(brought_by, "brought_by")
        at = None if at is None else check_time(at, "at")
        with self._database.write() as connection:
            settings, now = self._lock(connection)
            review = self._one_review(connection, prediction_id, settings, now)
            given = ReviewAnswer(
                reviewer=reviewer, answer=answer, label=label, note=note, at=now if at is None else min(at, now)
            )
            said = checked_answer(given, self._classes(connection), review.prediction, f"{shown(prediction_id)}")
            turn = _Turn(settings=settings, now=now, correction=correction, brought_by=brought_by)
            if review.status == "done":
                return self._correct(connection, review, said, turn)
            _check_not_held(review, reviewer)
            return self._take(connection, review, said, turn)

    def decide_review(
        self, prediction_id: str, outcome: Any, reviewer: str, note: str = "", *, correction: bool = False
    ) -> Review:
        """:meth:`answer_review` by the label that is right: it confirms or corrects the prediction."""
        label = label_text(outcome, self.classes, "outcome")
        answer = "confirm" if label == self.review(prediction_id).prediction else "correct"
        return self.answer_review(prediction_id, reviewer, answer, label, note, correction=correction).review

    def _take(self, connection: Connection, review: Review, said: ReviewAnswer, turn: _Turn) -> Answered:
        before = answers_of(connection, self._id, review.prediction_id)
        own = next((each for each in before if each.reviewer == said.reviewer), None)
        answers = [*(each for each in before if each is not own), said]
        status, label = verdict(answers, turn.settings.answers, said)
        if status == "open" and review.is_decided:
            status = review.status  # what is closed stays so until enough agree
        is_decided_now = status not in {"open", review.status}
        if own is not None and said.says_the_same(own) and said.note in {"", own.note} and not is_decided_now:
            return Answered(review=review, label=said.label)
        keep_answer(connection, self._id, review.prediction_id, said)
        values: dict[str, Any] = {
            **_FREE,
            "status": "claimed" if status == "open" else status,
            "n_answers": len(answers),
            "disputed": len({each.label for each in answers} - {None}) > 1,
            "escalated": any(each.answer == "escalate" for each in answers),
        }
        if said.answer == "escalate":
            values["note"] = said.note
        if is_decided_now:
            values |= {"reviewer": said.reviewer, "outcome": label, "note": said.note, "decided_at": turn.now}
        self._set(connection, review.prediction_id, values)
        # A case takes of the day's capacity once, also when somebody knows after all.
        decides = _CORRECTED if review.is_decided else _DECIDED
        self._note(connection, review, said, decides if is_decided_now else "answer_review", turn)
        if label is None:
            now_is = self._one_review(connection, review.prediction_id, turn.settings, turn.now)
            return Answered(review=now_is, label=said.label)
        return self._tell(connection, review, said, turn)

    def _correct(self, connection: Connection, review: Review, said: ReviewAnswer, turn: _Turn) -> Answered:
        answers = answers_of(connection, self._id, review.prediction_id)
        own = next((each for each in answers if each.reviewer == said.reviewer), None)
        took_part = own is not None or review.reviewer == said.reviewer
        known = self._in_force(connection, review.prediction_id)
        # What was observed since may have overruled the decision: then saying it again restores it.
        stands = said.label == review.outcome and (known is None or known.outcome == review.outcome)
        is_known = said.says_the_same(own) and said.label != review.outcome
        if is_known or (stands and (took_part or turn.correction)):
            return Answered(review=review, label=said.label)
        if said.label is None:
            raise ConflictError(_decided(review))
        if not (turn.correction or (took_part and turn.brought_by is None)):
            raise ConflictError(f"{_decided(review)} Only a correction changes it.")
        keep_answer(connection, self._id, review.prediction_id, said)
        decided = {"reviewer": said.reviewer, "outcome": said.label, "note": said.note, "decided_at": turn.now}
        self._set(connection, review.prediction_id, {**decided, "n_answers": len(answers) + (own is None)})
        self._note(connection, review, said, _CORRECTED, turn, before=known)
        return self._tell(connection, review, said, turn)

    def _tell(self, connection: Connection, review: Review, said: ReviewAnswer, turn: _Turn) -> Answered:
        """Record the outcome: what a person decided replaces what was observed meanwhile, as any later outcome does."""
        known = self._in_force(connection, review.prediction_id)
        source = "audit" if review.origin == "audit" else "review"
        event = Outcome(prediction_id=review.prediction_id, outcome=said.label, observed_at=said.at, source=source)
        receipt = record(connection, self._id, [event], turn.now)
        return Answered(
            review=self._one_review(connection, review.prediction_id, turn.settings, turn.now),
            label=said.label,
            recorded=receipt.recorded > 0,
            known=known,
        )

    def _in_force(self, connection: Connection, prediction_id: str) -> Outcome | None:
        """The outcome that holds, whoever told it."""
        of_case = (outcomes.c.stream_id == self._id) & (outcomes.c.prediction_id == prediction_id)
        query = sa.select(outcomes).where(of_case).order_by(outcomes.c.seq.desc()).limit(1)
        row = connection.execute(query).mappings().first()
        return None if row is None else as_outcome(dict(row))

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

    def _note(
        self,
        connection: Connection,
        review: Review,
        said: ReviewAnswer,
        action: str,
        turn: _Turn,
        before: Outcome | None = None,
    ) -> None:
        detail = {"prediction_id": review.prediction_id, "answer": said.answer, "label": said.label}
        if action == _CORRECTED:
            detail["before"] = review.outcome if before is None else before.outcome
        if turn.brought_by is not None:
            detail["brought_by"] = turn.brought_by
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

"""Old rows are deleted: rollups have them, or they become statistics of their day."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber._validation import check_count
from mlflow_caliber.store._checks import check_time
from mlflow_caliber.store._record import chunks, locked_stream
from mlflow_caliber.store._review_rows import begun_cases
from mlflow_caliber.store._rollups import RollupHead, RollupsPart
from mlflow_caliber.store._schema import history, learners, outcomes, predictions, review_answers, reviews

if TYPE_CHECKING:
    from mlflow_caliber.metrics import ScoreStatistics

__all__ = ["HistoryDay", "HistoryPart"]

# Whose probability, and in which column it is.
_SCORES = {"raw": "raw_probability", "base": "base_probability", "served": "probability"}
# A day's statistics stay below some 100 kB of JSON; days add up to any number of rows.
_EXACT_UP_TO = 1_000


@dataclass(frozen=True, kw_only=True)
class HistoryDay:
    """The compacted predictions of one day (UTC, by ``predicted_at``): ``n`` in all, ``unlabelled`` without outcome.

    ``raw``, ``base`` and ``served`` are the statistics of the labelled ones, which merge with those of other days.
    With two classes they are about the positive class, else about the predicted one and whether it was right.
    """

    day: str
    n: int
    unlabelled: int
    raw: ScoreStatistics
    base: ScoreStatistics
    served: ScoreStatistics


class HistoryPart(RollupsPart):
    """Retention."""

    def compact(self, before: float, *, batch: int = 5_000) -> int:
        """Delete predictions recorded before that time, and their outcomes; what they add up to stays.

        Where somebody adds up (``live.Reports``), it is in :meth:`rollups`, and only what is in them is deleted.
        Else it becomes :meth:`history`. Which days had predictions :meth:`add_history` sees in merged rollups only, so
        that ``live.prune_rows`` merges them first.

        Where somebody learns, nothing is taken that the learner is not done with (``settled`` of its last
        :meth:`Lease.checkpoint`): it may have read a prediction and wait for the outcome. A prediction stays while it,
        or an outcome of it, is younger or not settled, and while somebody is at its review or has begun it. Outcomes of
        that age without a prediction are deleted, and so are the reviews of deleted predictions, also those that nobody
        has touched. Ids that are gone are no longer known: sent again, they are recorded again.

        Parameters
        ----------
        before : float
            Seconds since 1970, compared with ``recorded_at``.
        batch : int
            Rows in one transaction.

        Returns
        -------
        int
            How many predictions were compacted.

        Examples
        --------
        >>> from mlflow_caliber.store import Outcome, Prediction, open_store
        >>> stream = open_store("sqlite://", clock=lambda: 1000.0).stream("churn", "1", classes=[0, 1])
        >>> said = Prediction(prediction_id="a", predicted_at=0.0, raw_probability=0.9, base_probability=0.8,
        ...                   probability=0.8, prediction=1, confidence=0.8)
        >>> _ = stream.record([said, Outcome(prediction_id="a", outcome=1, observed_at=60.0)])
        >>> stream.compact(before=2000.0), stream.counts().predictions
        (1, 0)
        >>> stream.history()[0].day, stream.history()[0].served.n
        ('1970-01-01', 1)
        """
        before, batch = check_time(before, "before"), check_count(batch, "batch")
        compacted, after = 0, 0
        while True:
            begun = time.monotonic()
            with self._database.write() as connection:
                positive = locked_stream(connection, self._id)["positive"]
                rolled_up = self._locked_head(connection)
                if rolled_up.position and rolled_up.about != positive:
                    return compacted  # the rollups are of other classes, and will be made anew from the rows
                done = self._done_with(connection, rolled_up)
                old = self._old_predictions(connection, before, done, after, batch)
                gone = self._settled(connection, old, before, done)
                if not rolled_up.position:
                    self._add_to_history(connection, gone)
                gaps = self._delete(connection, [row for row, _ in gone])
                is_last = len(old) < batch
                gaps += self._delete_orphans(connection, before, done) if is_last else 0
                pruned = rolled_up.pruned + (len(gone) if rolled_up.position else 0)
                self._set_head(connection, pruned=pruned, gaps=rolled_up.gaps + gaps)
                compacted += len(gone)
                if is_last:
                    return compacted
                after = old[-1]["seq"]
            # As long for others: SQLite has no queue, and whoever waits would find the lock taken again.
            time.sleep(time.monotonic() - begun)

    def history(self, since: str | None = None, until: str | None = None) -> tuple[HistoryDay, ...]:
        """The compacted days, the oldest first: none of their rows is in the log, and none in the rollups.

        Parameters
        ----------
        since, until : str, optional
            Only days from the one on, and before the other.
        """
        query = sa.select(history).where(history.c.stream_id == self._id).order_by(history.c.day)
        if since is not None:
            query = query.where(history.c.day >= since)
        if until is not None:
            query = query.where(history.c.day < until)
        with self._database.read() as connection:
            return tuple(_day(row) for row in connection.execute(query).mappings())

    def _done_with(self, connection: Connection, rolled_up: RollupHead) -> int | None:
        """Up to where everybody is done with the log; None where nobody reads it.

        A learner that has not said is done with nothing.
        """
        query = sa.select(learners.c.settled).where(learners.c.stream_id == self._id)
        row = connection.execute(query).first()
        ends = [] if row is None else [row.settled or 0]
        ends += [rolled_up.position] if rolled_up.position else []
        return min(ends, default=None)

    def _old_predictions(
        self, connection: Connection, before: float, done: int | None, after: int, limit: int
    ) -> Sequence[RowMapping]:
        names = ("seq", "prediction_id", "predicted_at", "prediction", *_SCORES.values())
        old = [predictions.c.stream_id == self._id, predictions.c.seq > after, predictions.c.recorded_at < before]
        if done is not None:
            old.append(predictions.c.seq <= done)
        query = sa.select(*(predictions.c[name] for name in names)).where(*old)
        return connection.execute(query.order_by(predictions.c.seq).limit(limit)).mappings().all()

    def _settled(
        self, connection: Connection, rows: Sequence[RowMapping], before: float, done: int | None
    ) -> list[tuple[RowMapping, str | None]]:
        """The predictions of which nothing is young, unlearned or in somebody's hands, with their last outcomes."""
        last: dict[str, str] = {}
        busy: set[str] = set()
        for ids in chunks(row["prediction_id"] for row in rows):
            of_these = (outcomes.c.stream_id == self._id) & outcomes.c.prediction_id.in_(ids)
            found = connection.execute(sa.select(outcomes).where(of_these)).mappings()
            for row in sorted(found, key=lambda row: row["seq"]):
                last[row["prediction_id"]] = row["outcome"]
                if row["recorded_at"] >= before or (done is not None and row["seq"] > done):
                    busy.add(row["prediction_id"])
            here = (reviews.c.stream_id == self._id) & reviews.c.prediction_id.in_(ids)
            begun = sa.select(reviews.c.prediction_id).where(here, begun_cases(self._database.now(connection)))
            busy.update(connection.execute(begun).scalars())
        return [(row, last.get(row["prediction_id"])) for row in rows if row["prediction_id"] not in busy]

    def _add_to_history(self, connection: Connection, rows: Iterable[tuple[RowMapping, str | None]]) -> None:
        days: dict[str, list[tuple[RowMapping, str | None]]] = {}
        for row, outcome in rows:
            day = datetime.fromtimestamp(row["predicted_at"], UTC).strftime("%Y-%m-%d")
            days.setdefault(day, []).append((row, outcome))
        for day, of_day in days.items():
            this = (history.c.stream_id == self._id) & (history.c.day == day)
            before = connection.execute(sa.select(history).where(this)).mappings().first()
            labelled = [(row, outcome) for row, outcome in of_day if outcome is not None]
            values = {
                "n": len(of_day) + (before["n"] if before else 0),
                "unlabelled": len(of_day) - len(labelled) + (before["unlabelled"] if before else 0),
                "statistics": self._statistics(labelled, before["statistics"] if before else None),
            }
            if before:
                connection.execute(sa.update(history).where(this).values(values))
            else:
                connection.execute(sa.insert(history).values(stream_id=self._id, day=day, **values))

    def _statistics(
        self, rows: Sequence[tuple[RowMapping, str]], before: Mapping[str, Any] | None
    ) -> dict[str, dict[str, Any]]:
        from mlflow_caliber.metrics import ScoreStatistics  # whoever only records does without it

        happened = [outcome == (self.positive or row["prediction"]) for row, outcome in rows]
        summed = {}
        for name, column in _SCORES.items():
            new = ScoreStatistics(exact_up_to=_EXACT_UP_TO).update(happened, [row[column] for row, _ in rows])
            summed[name] = (new + ScoreStatistics.from_dict(before[name]) if before else new).to_dict()
        return summed

    def _delete(self, connection: Connection, rows: Sequence[RowMapping]) -> int:
        """Delete predictions and what hangs on them; how many entries of the log that were."""
        entries = 0
        for ids in chunks(row["prediction_id"] for row in rows):
            for table in (predictions, outcomes, reviews, review_answers):
                gone = (table.c.stream_id == self._id) & table.c.prediction_id.in_(ids)
                deleted = connection.execute(sa.delete(table).where(gone)).rowcount
                entries += deleted if table in (predictions, outcomes) else 0
        return entries

    def _delete_orphans(self, connection: Connection, before: float, done: int | None) -> int:
        same = (predictions.c.stream_id == self._id) & (predictions.c.prediction_id == outcomes.c.prediction_id)
        orphans = [outcomes.c.stream_id == self._id, outcomes.c.recorded_at < before, ~sa.exists().where(same)]
        if done is not None:
            orphans.append(outcomes.c.seq <= done)
        return connection.execute(sa.delete(outcomes).where(*orphans)).rowcount


def _day(row: RowMapping) -> HistoryDay:
    from mlflow_caliber.metrics import ScoreStatistics

    statistics = {name: ScoreStatistics.from_dict(row["statistics"][name]) for name in _SCORES}
    return HistoryDay(day=row["day"], n=row["n"], unlabelled=row["unlabelled"], **statistics)

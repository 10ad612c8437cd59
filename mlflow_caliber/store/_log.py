"""The log of a stream: written in batches, read in order or as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_caliber._validation import check_count
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._record import record
from mlflow_caliber.store._rows import OUTCOME_FIELDS, PREDICTION_FIELDS, as_outcome, as_prediction
from mlflow_caliber.store._schema import history, outcomes, predictions, refused, rollup_heads, streams
from mlflow_caliber.store._values import LogEntry, Outcome, Prediction, Receipt, Refusal, StreamCounts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ROW_COLUMNS", "LogPart", "check_kinds", "last_outcome"]

ROW_COLUMNS = (
    *(predictions.c[name] for name in ("seq", "recorded_at", *PREDICTION_FIELDS)),
    *(outcomes.c[name] for name in ("outcome", "observed_at", "source")),
)


class LogPart(StreamBase):
    """Recording and reading."""

    def record(self, events: Sequence[Prediction | Outcome]) -> Receipt:
        """Append predictions and outcomes in the order given, in one transaction; :meth:`Store.record` takes several.

        Parameters
        ----------
        events : sequence of Prediction and Outcome
            What was recorded before is counted and left alone; what cannot be taken is refused alone, the rest is
            recorded.

        Returns
        -------
        Receipt
            Once it is returned, the rows are on disk.

        Raises
        ------
        StoreError
            If the database is away or busy: nothing of the batch was recorded, and it can be sent again.

        Examples
        --------
        >>> from mlflow_caliber.store import Outcome, Prediction, open_store
        >>> stream = open_store("sqlite://").stream("churn", "1", classes=[0, 1])
        >>> said = Prediction(prediction_id="a", predicted_at=0.0, raw_probability=0.9, base_probability=0.8,
        ...                   probability=0.8, prediction=1, confidence=0.8)
        >>> stream.record([said, Outcome(prediction_id="a", outcome=True, observed_at=60.0)]).recorded
        2
        >>> stream.record([said]).duplicates
        1
        >>> stream.record([Outcome(prediction_id="a", outcome="maybe", observed_at=60.0)]).refused[0].sentence
        "outcome must be one of the classes '0', '1', got 'maybe'."
        """
        return self._record(events, (Prediction, Outcome))

    def record_predictions(self, rows: Sequence[Prediction]) -> Receipt:
        """:meth:`record`, for predictions.

        An id that is known with the same content is a duplicate; with another content it is refused as a conflict,
        and what was recorded first stays. Predictions that abstain enter the reviews.
        """
        return self._record(rows, (Prediction,))

    def record_outcomes(self, rows: Sequence[Outcome]) -> Receipt:
        """:meth:`record`, for outcomes.

        The outcome that is known already is a duplicate, and so is any that was told before in every word; another is
        a correction, and the last one holds. The prediction may come later.
        """
        return self._record(rows, (Outcome,))

    def log(self, after: int = 0, limit: int = 1_000) -> list[LogEntry]:
        """The first ``limit`` entries behind ``after``, in order.

        Whoever has read up to some number has seen all there will ever be up to it.

        Examples
        --------
        >>> from mlflow_caliber.store import Outcome, open_store
        >>> stream = open_store("sqlite://").stream("churn", "1")
        >>> happened = Outcome(prediction_id="a", outcome=1, observed_at=60.0)
        >>> _ = stream.record_outcomes([happened])
        >>> [(entry.seq, entry.event.outcome) for entry in stream.log()]
        [(1, '1')]
        """
        after = check_count(after, "after", minimum=0)
        limit = check_count(limit, "limit")
        with self._database.read() as connection:
            said = self._entries(connection, predictions, after, limit)
            happened = self._entries(connection, outcomes, after, limit)
        entries = [LogEntry(row["seq"], row["recorded_at"], as_prediction(row)) for row in said]
        entries += [
            LogEntry(row["seq"], row["recorded_at"], as_outcome(row), row["known"], row["correction"])
            for row in happened
        ]
        return sorted(entries, key=lambda entry: entry.seq)[:limit]

    def log_end(self) -> int:
        """The number of the last entry; 0 when there is none.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").stream("churn", "1").log_end()
        0
        """
        query = sa.select(streams.c.next_seq).where(streams.c.id == self._id)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one()) - 1

    def rows(self, since: float | None = None, until: float | None = None, limit: int | None = None) -> pd.DataFrame:
        """Predictions with their last outcomes, as a table.

        Parameters
        ----------
        since, until : float, optional
            Recorded at or after the one, and before the other.
        limit : int, optional
            Only the last so many.

        Returns
        -------
        pandas.DataFrame
            ``seq``, ``recorded_at``, the fields of :class:`Prediction`, then ``outcome``, ``observed_at`` and
            ``source``, which are missing where nothing is known yet; in the log's order.
        """
        import pandas as pd  # whoever only records does without it

        wanted = [predictions.c.stream_id == self._id]
        if since is not None:
            wanted.append(predictions.c.recorded_at >= since)
        if until is not None:
            wanted.append(predictions.c.recorded_at < until)
        query = sa.select(*ROW_COLUMNS).select_from(predictions.outerjoin(outcomes, last_outcome())).where(*wanted)
        if limit is not None:
            query = query.limit(check_count(limit, "limit"))
        with self._database.read() as connection:
            found = [tuple(row) for row in connection.execute(query.order_by(predictions.c.seq.desc()))]
        names = [column.name for column in ROW_COLUMNS]
        table = pd.DataFrame(found[::-1], columns=names, dtype=object)
        return table.astype({column.name: _DTYPES.get(str(column.type), "object") for column in ROW_COLUMNS})

    def counts(self) -> StreamCounts:
        """How much the stream holds; reads all of it.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").stream("churn", "1").counts().predictions
        0
        """
        said, happened = predictions.alias(), outcomes.alias()
        same = (said.c.stream_id == happened.c.stream_id) & (said.c.prediction_id == happened.c.prediction_id)
        of_said, of_happened = said.c.stream_id == self._id, happened.c.stream_id == self._id
        known = sa.exists().where(same)
        counted = {
            "predictions": _count(said, of_said),
            "outcomes": _count(happened, of_happened),
            "unmatched": _count(happened, of_happened, ~known.correlate(happened)),
            "unlabelled": _count(said, of_said, ~known.correlate(said)),
            "refused": _count(refused, refused.c.stream_id == self._id),
        }
        ids = sa.select(sa.func.count(happened.c.prediction_id.distinct())).where(of_happened).scalar_subquery()
        compacted = sa.select(sa.func.coalesce(sa.func.sum(history.c.n), 0)).where(history.c.stream_id == self._id)
        pruned = sa.select(sa.func.coalesce(sa.func.sum(rollup_heads.c.pruned), 0))
        pruned = pruned.where(rollup_heads.c.stream_id == self._id)
        last_said = sa.select(sa.func.max(said.c.recorded_at)).where(of_said).scalar_subquery()
        last_happened = (
            sa.select(happened.c.recorded_at).where(of_happened).order_by(happened.c.seq.desc()).limit(1)
        ).scalar_subquery()
        query = sa.select(
            *(count.label(name) for name, count in counted.items()),
            (counted["outcomes"] - ids).label("corrections"),
            (compacted.scalar_subquery() + pruned.scalar_subquery()).label("compacted"),
            last_said.label("last_prediction_at"),
            last_happened.label("last_outcome_at"),
        )
        with self._database.read() as connection:
            row = dict(connection.execute(query).mappings().one())
        return StreamCounts(**{**row, "compacted": int(row["compacted"])})

    def refusals(self, limit: int = 100) -> tuple[tuple[Refusal, Any], ...]:
        """The last rows that were not taken, each with its content as it came; the newest first.

        Examples
        --------
        >>> from mlflow_caliber.store import Outcome, open_store
        >>> stream = open_store("sqlite://").stream("churn", "1")
        >>> _ = stream.record_outcomes([Outcome(prediction_id="", outcome=1, observed_at=60.0)])
        >>> stream.refusals()[0][0].sentence
        'prediction_id must not be empty.'
        """
        query = sa.select(refused).where(refused.c.stream_id == self._id).order_by(refused.c.id.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(check_count(limit, "limit"))).mappings().all()
        return tuple((Refusal(row["kind"], row["prediction_id"], row["sentence"]), row["content"]) for row in rows)

    def _record(self, events: Sequence[Any], kinds: tuple[type, ...]) -> Receipt:
        check_kinds(events, kinds)
        if not events:
            return Receipt()
        with self._database.write() as connection:
            return record(connection, self._id, events, self._database.now(connection))

    def _entries(self, connection: Connection, table: sa.Table, after: int, limit: int) -> Sequence[Any]:
        fields = PREDICTION_FIELDS if table is predictions else (*OUTCOME_FIELDS, "known", "correction")
        query = sa.select(*(table.c[name] for name in ("seq", "recorded_at", *fields)))
        behind = (table.c.stream_id == self._id) & (table.c.seq > after)
        return connection.execute(query.where(behind).order_by(table.c.seq).limit(limit)).mappings().all()


def check_kinds(events: Iterable[Any], kinds: tuple[type, ...] = (Prediction, Outcome)) -> None:
    """Refuse what is no event."""
    for event in events:
        if isinstance(event, tuple):
            check_kinds(event, kinds)
        elif not isinstance(event, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise InvalidInputError(f"Each row must be a {wanted}, got a {type(event).__name__}.")


_DTYPES = {"BIGINT": "int64", "DOUBLE": "float64", "BOOLEAN": "bool"}


def last_outcome() -> sa.ColumnElement[bool]:
    """Joins to a prediction the outcome that holds."""
    later = outcomes.alias()
    same = (later.c.stream_id == predictions.c.stream_id) & (later.c.prediction_id == predictions.c.prediction_id)
    last = sa.select(sa.func.max(later.c.seq)).where(same).correlate(predictions).scalar_subquery()
    return (outcomes.c.stream_id == predictions.c.stream_id) & (outcomes.c.seq == last)


def _count(table: Any, *where: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(*where).scalar_subquery()

"""Writing to a stream's log: one lock, one sequence, every row exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._checks import shown
from mlflow_caliber.store._rows import (
    PREDICTION_FIELDS,
    harmless,
    kept_content,
    kept_id,
    outcome_row,
    prediction_row,
    unreadable,
)
from mlflow_caliber.store._schema import outcomes, predictions, refused, reviews, streams
from mlflow_caliber.store._values import Outcome, Prediction, Receipt, Refusal

__all__ = ["chunks", "locked_stream", "record"]

_CHUNK = 1_000


def record(connection: Connection, stream_id: int, events: Sequence[Prediction | Outcome], now: float) -> Receipt:
    """Append the events that are new, in their order; the transaction is the caller's."""
    stream = locked_stream(connection, stream_id)
    batch = _Batch(connection, stream, now)
    batch.take(events)
    return batch.write()


def locked_stream(connection: Connection, stream_id: int) -> RowMapping:
    """The stream's row, ours until the transaction ends (SQLite: the whole database is)."""
    query = sa.select(streams).where(streams.c.id == stream_id).with_for_update()
    return connection.execute(query).mappings().one()


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values in lists that are short enough for one statement."""
    listed = list(values)
    return (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))


class _Batch:
    """Events on their way into the log of a locked stream."""

    def __init__(self, connection: Connection, stream: RowMapping, now: float) -> None:
        self._connection = connection
        self._stream_id: int = stream["id"]
        self._classes: list[str] | None = stream["classes"]
        self._first_seq = self._next_seq = int(stream["next_seq"])
        # A clock that was set back must not reorder the log.
        self._now = max(now, stream["last_recorded_at"])
        self._predictions: list[dict[str, Any]] = []
        self._outcomes: list[dict[str, Any]] = []
        self._refused: list[dict[str, Any]] = []
        self._refusals: list[Refusal] = []
        self._duplicates = self._corrections = 0

    def take(self, events: Sequence[Prediction | Outcome]) -> None:
        """Sort the events into new, known and refused."""
        rows = [(event, row) for event in events if (row := self._checked(event)) is not None]
        known = self._known_predictions(row["prediction_id"] for event, row in rows if isinstance(event, Prediction))
        outcome_ids = [row["prediction_id"] for event, row in rows if isinstance(event, Outcome)]
        told, said = self._known_outcomes(outcome_ids), self._recorded(outcome_ids)
        for event, row in rows:
            if isinstance(event, Prediction):
                self._take_prediction(event, row, known)
            else:
                row["known"] = row["prediction_id"] in known or row["prediction_id"] in said
                self._take_outcome(row, told)

    def write(self) -> Receipt:
        """Write what is new, and what was refused."""
        waiting = [
            {
                "stream_id": self._stream_id,
                "prediction_id": row["prediction_id"],
                "status": "open",
                "reason": row["reason"],
                "created_at": self._now,
            }
            for row in self._predictions
            if row["abstained"]
        ]
        pairs = ((predictions, self._predictions), (outcomes, self._outcomes), (reviews, waiting))
        for table, rows in (*pairs, (refused, self._refused)):
            if rows:
                self._connection.execute(sa.insert(table), rows)
        if self._next_seq > self._first_seq:
            values = {"next_seq": self._next_seq, "last_recorded_at": self._now}
            self._connection.execute(sa.update(streams).where(streams.c.id == self._stream_id).values(values))
        recorded = self._next_seq - self._first_seq
        return Receipt(recorded, self._duplicates, self._corrections, tuple(self._refusals))

    def _checked(self, event: Prediction | Outcome) -> dict[str, Any] | None:
        try:
            if isinstance(event, Prediction):
                return prediction_row(event, self._classes)
            return outcome_row(event, self._classes)
        except InvalidInputError as error:
            sentence = str(error)
        except Exception:  # one bad row must never cost the others
            sentence = unreadable(event)
        self._refuse("prediction" if isinstance(event, Prediction) else "outcome", event, sentence)
        return None

    def _take_prediction(self, event: Prediction, row: dict[str, Any], known: dict[str, dict[str, Any]]) -> None:
        before = known.setdefault(row["prediction_id"], row)
        if before is row:
            self._predictions.append(self._numbered(row))
            return
        differing = [name for name in PREDICTION_FIELDS if before[name] != row[name]]
        if not differing:
            self._duplicates += 1
            return
        what = differing[0]
        sentence = (
            f"A prediction with the id {shown(row['prediction_id'])} was recorded with another {what}: "
            f"{shown(before[what])}, now came {shown(row[what])}."
        )
        self._refuse("conflict", event, sentence)

    def _take_outcome(self, row: dict[str, Any], told: dict[str, list[tuple[Any, ...]]]) -> None:
        earlier = told.setdefault(row["prediction_id"], [])
        telling = (row["outcome"], row["observed_at"], row["source"])
        # What was told before in every word is a message that comes again, not one that takes a correction back.
        if earlier and (earlier[-1][0] == row["outcome"] or telling in earlier):
            self._duplicates += 1
            return
        self._corrections += bool(earlier)
        earlier.append(telling)
        self._outcomes.append(self._numbered({**row, "correction": len(earlier) > 1}))

    def _numbered(self, row: dict[str, Any]) -> dict[str, Any]:
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        return {**row, "stream_id": self._stream_id, "seq": seq, "recorded_at": self._now}

    def _refuse(self, kind: str, event: Prediction | Outcome, sentence: str) -> None:
        refusal = Refusal(kind, kept_id(event.prediction_id), harmless(sentence))
        self._refusals.append(refusal)
        content = kept_content(event)
        place = {"stream_id": self._stream_id, "recorded_at": self._now, "content": content}
        self._refused.append({**vars(refusal), **place})

    def _known_predictions(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        columns = [predictions.c[name] for name in PREDICTION_FIELDS]
        return {row["prediction_id"]: dict(row) for row in self._found(predictions, columns, ids)}

    def _recorded(self, ids: Iterable[str]) -> set[str]:
        return {row["prediction_id"] for row in self._found(predictions, [predictions.c.prediction_id], ids)}

    def _known_outcomes(self, ids: Iterable[str]) -> dict[str, list[tuple[Any, ...]]]:
        columns = [outcomes.c[name] for name in ("seq", "prediction_id", "outcome", "observed_at", "source")]
        told: dict[str, list[tuple[Any, ...]]] = {}
        # Sorted here: asked to do it, SQLite walks the whole log in its order instead of looking the ids up.
        for row in sorted(self._found(outcomes, columns, ids), key=lambda row: row["seq"]):
            told.setdefault(row["prediction_id"], []).append((row["outcome"], row["observed_at"], row["source"]))
        return told

    def _found(self, table: sa.Table, columns: list[sa.Column[Any]], ids: Iterable[str]) -> Iterator[RowMapping]:
        for some in chunks(set(ids)):
            of_these = (table.c.stream_id == self._stream_id) & table.c.prediction_id.in_(some)
            yield from self._connection.execute(sa.select(*columns).where(of_these)).mappings()

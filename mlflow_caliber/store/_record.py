"""Writing to a stream's log: one lock, one sequence, every row exactly once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._checks import shown
from mlflow_caliber.store._prepared import Insert, Prepared, ids_among
from mlflow_caliber.store._rows import (
    OUTCOME_FIELDS,
    PREDICTION_FIELDS,
    SOURCES,
    checked_row,
    harmless,
    kept_content,
    kept_id,
    review_row,
)
from mlflow_caliber.store._schema import outcomes, predictions, refused, reviews, settings, streams
from mlflow_caliber.store._values import Outcome, Prediction, Receipt, Refusal

__all__ = ["LOW_CONFIDENCE", "Item", "chunks", "locked_stream", "record", "record_parts"]

Item = Prediction | Outcome | tuple[Prediction | Outcome, ...]
"""An event, or several that are taken together or not at all."""

LOW_CONFIDENCE = "low_confidence"
"""The reason of a prediction that the stream's threshold withholds."""

_CHUNK = 1_000


_LOCKED = tuple(streams.c.keys())
_LOCK = Prepared(
    sa.select(streams, settings.c.content)
    .select_from(streams.outerjoin(settings, settings.c.stream_id == streams.c.id))
    .where(streams.c.id == sa.bindparam("stream_id"))
    # Whoever writes a row that refers to the stream need not wait, and so never stands in a circle with one that does.
    .with_for_update(of=streams, key_share=True)
)
_ADVANCE = Prepared(
    sa.update(streams)
    .where(streams.c.id == sa.bindparam("this"))
    .values(next_seq=sa.bindparam("next"), last_recorded_at=sa.bindparam("now"))
)
_RECORDED = ids_among(predictions, ["prediction_id"])
_TOLD = ids_among(outcomes, ["seq", "prediction_id", "outcome", "observed_at", "source"])
_SAID = sa.select(*(predictions.c[name] for name in PREDICTION_FIELDS)).where(
    predictions.c.stream_id == sa.bindparam("stream_id"),
    predictions.c.prediction_id.in_(sa.bindparam("ids", expanding=True)),
)
_ENTRY = ("stream_id", "seq", "recorded_at")
_REVIEW = ("stream_id", "prediction_id", "status", "reason", "created_at", "confidence", "origin", "queue_place")
_REFUSED = ("stream_id", "recorded_at", "kind", "prediction_id", "content", "sentence")
_CARE = {source: k for k, source in enumerate(SOURCES)}
_INTO = {
    predictions: Insert(predictions, (*_ENTRY, *PREDICTION_FIELDS)),
    outcomes: Insert(outcomes, (*_ENTRY, *OUTCOME_FIELDS, "known", "correction")),
    reviews: Insert(reviews, _REVIEW),
    refused: Insert(refused, _REFUSED),
}


def record(connection: Connection, stream_id: int, events: Sequence[Prediction | Outcome], now: float) -> Receipt:
    """Append the events that are new, in their order; the transaction is the caller's."""
    return record_parts(connection, stream_id, [events], now)[0]


def record_parts(
    connection: Connection, stream_id: int, parts: Sequence[Sequence[Item]], now: float, *, keep_refused: bool = True
) -> list[Receipt]:
    """:meth:`record` for the parts one after the other, each with a receipt of its own."""
    batch = _Batch(connection, locked_stream(connection, stream_id), now)
    events: list[Prediction | Outcome] = []
    units: list[int] = []
    ends = [0]
    for part in parts:
        for item in part:
            together = item if isinstance(item, tuple) else (item,)
            units += [len(units)] * len(together)
            events += together
        ends.append(len(events))
    batch.take(events, units)
    batch.write(keep_refused=keep_refused)
    return [batch.receipt(start, end) for start, end in pairwise(ends)]


def locked_stream(connection: Connection, stream_id: int) -> dict[str, Any]:
    """The stream's row and settings, ours until the transaction ends (SQLite: the whole database is)."""
    (row,) = _LOCK.run(connection, stream_id=stream_id)
    stream = dict(zip((*_LOCKED, "settings"), row, strict=True))
    for name in ("classes", "settings"):
        if isinstance(stream[name], str):  # SQLite gives JSON as text
            stream[name] = json.loads(stream[name])
    return stream


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values in lists that are short enough for one statement."""
    listed = list(values)
    return (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))


class _Became(Enum):
    RECORDED = auto()
    LEFT = auto()  # because what it came with was refused
    CORRECTION = auto()
    DUPLICATE = auto()


class _Batch:
    """Events on their way into the log of a locked stream."""

    def __init__(self, connection: Connection, stream: Mapping[str, Any], now: float) -> None:
        self._connection = connection
        self._stream_id: int = stream["id"]
        self._classes: list[str] | None = stream["classes"]
        told: Mapping[str, Any] = stream["settings"] or {}
        self._threshold: float | None = told.get("abstain_threshold")
        self._audit_share: float = told.get("review", {}).get("audit_share", 0.0)
        self._first_seq = self._next_seq = int(stream["next_seq"])
        # A clock that was set back must not reorder the log; what a prediction says of itself is by the clock as it is.
        self._clock, self._now = now, max(now, stream["last_recorded_at"])
        self._predictions: list[dict[str, Any]] = []
        self._outcomes: list[dict[str, Any]] = []
        self._refused: list[dict[str, Any]] = []
        # By their place: what became of each event, the numbers of new entries, the ids of what is withheld.
        self._became: list[_Became | Refusal] = []
        self._units: Sequence[int] = ()
        self._spoiled: set[int] = set()
        self._seqs: dict[int, int] = {}
        self._withheld: dict[int, str] = {}

    def take(self, events: Sequence[Prediction | Outcome], units: Sequence[int]) -> None:
        """Sort the events into new, known and refused; of a unit all are taken, or none."""
        self._became, self._units = [_Became.DUPLICATE] * len(events), units
        rows = [(i, event, row) for i, event in enumerate(events) if (row := self._checked(i, event)) is not None]
        said = [row["prediction_id"] for _, event, row in rows if isinstance(event, Prediction)]
        outcome_ids = [row["prediction_id"] for _, event, row in rows if isinstance(event, Outcome)]
        known = self._known_predictions(said)
        told, recorded = self._known_outcomes(outcome_ids), self._recorded(outcome_ids)
        for i, event, row in rows:
            if units[i] in self._spoiled:
                self._became[i] = _Became.LEFT
            elif isinstance(event, Prediction):
                self._take_prediction(i, event, row, known)
            else:
                row["known"] = row["prediction_id"] in known or row["prediction_id"] in recorded
                self._take_outcome(i, row, told)

    def write(self, *, keep_refused: bool) -> None:
        """Write what is new, and what was refused."""
        for table, rows in (
            (predictions, self._predictions),
            (outcomes, self._outcomes),
            (reviews, self._reviews()),
            (refused, self._refused if keep_refused else []),
        ):
            if rows:
                _INTO[table].run(self._connection, rows)
        if self._next_seq > self._first_seq:
            _ADVANCE.run(self._connection, this=self._stream_id, next=self._next_seq, now=self._now)

    def receipt(self, start: int, end: int) -> Receipt:
        """What became of the events from the one place to before the other."""
        became = self._became[start:end]
        refusals = tuple(replace(each, index=i) for i, each in enumerate(became) if isinstance(each, Refusal))
        corrections, duplicates = became.count(_Became.CORRECTION), became.count(_Became.DUPLICATE)
        recorded = corrections + became.count(_Became.RECORDED)
        withheld = tuple(self._withheld[i] for i in range(start, end) if i in self._withheld) if self._withheld else ()
        seqs = tuple(self._seqs.get(i) for i in range(start, end))
        return Receipt(recorded, duplicates, corrections, refusals, withheld, seqs)

    def _reviews(self) -> list[dict[str, Any]]:
        """The predictions that a person should see: what was withheld, and a random share of what was answered."""
        drawn = self._drawn([row["prediction_id"] for row in self._predictions if not row["abstained"]])
        return [
            review_row(row, self._now) for row in self._predictions if row["abstained"] or row["prediction_id"] in drawn
        ]

    def _drawn(self, ids: Sequence[str]) -> set[str]:
        if self._audit_share == 0.0 or not ids:
            return set()
        from mlflow_caliber.abstain import AbstainPolicy  # whoever draws none does without it

        chosen = AbstainPolicy(0.0, audit_share=self._audit_share).audit(ids)
        return {each for each, is_chosen in zip(ids, chosen, strict=True) if is_chosen}

    def _checked(self, index: int, event: Prediction | Outcome) -> dict[str, Any] | None:
        try:
            return checked_row(event, self._classes)
        except InvalidInputError as error:
            self._refuse("prediction" if isinstance(event, Prediction) else "outcome", event, str(error), index)
        return None

    def _take_prediction(
        self, index: int, event: Prediction, row: dict[str, Any], known: dict[str, dict[str, Any]]
    ) -> None:
        before = known.setdefault(row["prediction_id"], row)
        self._complete(row, before)
        if before["abstained"]:
            self._withheld[index] = row["prediction_id"]
        if before is row:
            self._predictions.append(self._numbered(index, row))
            self._became[index] = _Became.RECORDED
            return
        differing = [name for name in PREDICTION_FIELDS if before[name] != row[name]]
        if not differing:
            return
        what = differing[0]
        sentence = (
            f"A prediction with the id {shown(row['prediction_id'])} was recorded with another {what}: "
            f"{shown(before[what])}, now came {shown(row[what])}."
        )
        self._refuse("conflict", event, sentence, index)

    def _complete(self, row: dict[str, Any], before: dict[str, Any]) -> None:
        """Fill in what a prediction left open: as when it was recorded, else by the clock and the threshold."""
        is_new = before is row
        if row["predicted_at"] is None:
            row["predicted_at"] = self._clock if is_new else before["predicted_at"]
        if row["abstained"] is None and is_new:
            withheld = self._threshold is not None and row["confidence"] < self._threshold
            row |= {"abstained": withheld, "reason": LOW_CONFIDENCE if withheld else ""}
        elif row["abstained"] is None:
            row |= {"abstained": before["abstained"], "reason": before["reason"]}

    def _take_outcome(self, index: int, row: dict[str, Any], told: dict[str, list[tuple[Any, ...]]]) -> None:
        earlier = told.setdefault(row["prediction_id"], [])
        telling = (row["outcome"], row["observed_at"], row["source"])
        # What was told before in every word is a message that comes again, and takes no correction back. The same
        # label is news from somebody who looked more closely: a sample of audits needs those that agree.
        agrees = bool(earlier) and earlier[-1][0] == row["outcome"]
        if telling in earlier or (agrees and _CARE[row["source"]] <= max(_CARE[source] for *_, source in earlier)):
            return
        self._became[index] = _Became.CORRECTION if earlier else _Became.RECORDED
        earlier.append(telling)
        row["correction"] = len(earlier) > 1
        self._outcomes.append(self._numbered(index, row))

    def _numbered(self, index: int, row: dict[str, Any]) -> dict[str, Any]:
        self._seqs[index] = seq = self._next_seq
        self._next_seq += 1
        row["stream_id"], row["seq"], row["recorded_at"] = self._stream_id, seq, self._now
        return row

    def _refuse(self, kind: str, event: Prediction | Outcome, sentence: str, index: int) -> None:
        refusal = Refusal(kind, kept_id(event.prediction_id), harmless(sentence))
        self._became[index] = refusal
        self._spoiled.add(self._units[index])
        place = {"stream_id": self._stream_id, "recorded_at": self._now, "content": kept_content(event)}
        what = {"kind": kind, "prediction_id": refusal.prediction_id, "sentence": refusal.sentence}
        self._refused.append({**what, **place})

    def _known_predictions(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        known: dict[str, dict[str, Any]] = {}
        for some in chunks(self._recorded(ids)):
            rows = self._connection.execute(_SAID, {"stream_id": self._stream_id, "ids": some}).mappings()
            known |= {row["prediction_id"]: dict(row) for row in rows}
        return known

    def _recorded(self, ids: Sequence[str]) -> set[str]:
        return {row[0] for row in _RECORDED.run(self._connection, self._stream_id, ids)}

    def _known_outcomes(self, ids: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
        told: dict[str, list[tuple[Any, ...]]] = {}
        # Sorted here: asked to do it, SQLite walks the whole log in its order instead of looking the ids up.
        for _, prediction_id, *telling in sorted(_TOLD.run(self._connection, self._stream_id, ids)):
            told.setdefault(prediction_id, []).append(tuple(telling))
        return told

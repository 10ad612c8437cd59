"""What the log adds up to, kept in parts, and the few columns of the log that are added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from mlflow_caliber._validation import check_count
from mlflow_caliber.store._checks import check_name
from mlflow_caliber.store._database import insert_if_absent
from mlflow_caliber.store._record import chunks
from mlflow_caliber.store._rollups import NewRollups, RollupsPart
from mlflow_caliber.store._schema import outcomes, predictions, reviews, streams, summaries

__all__ = ["Figures", "SaidRow", "SummariesPart", "ToldRow"]

_HEAD = "head"
_LARGEST = 2**62


class SaidRow(NamedTuple):
    """The columns of a prediction that are added up."""

    seq: int
    recorded_at: float
    prediction_id: str
    raw: float
    base: float
    served: float
    prediction: str
    abstained: bool
    reason: str
    segment: str | None


class ToldRow(NamedTuple):
    """The columns of an outcome that are added up."""

    seq: int
    recorded_at: float
    prediction_id: str
    outcome: str
    source: str
    known: bool
    correction: bool


class Figures(NamedTuple):
    """What of a stream is read at a glance."""

    log_end: int
    revision: int
    pinned: bool
    open_reviews: int


_SAID = tuple(
    predictions.c[name]
    for name in (
        *("seq", "recorded_at", "prediction_id", "raw_probability", "base_probability", "probability"),
        *("prediction", "abstained", "reason", "segment"),
    )
)
_TOLD = tuple(outcomes.c[name] for name in ToldRow._fields)


def _behind(table: sa.Table, columns: Iterable[sa.Column[Any]]) -> sa.Select[Any]:
    here = (table.c.stream_id == sa.bindparam("stream_id")) & (table.c.seq > sa.bindparam("after"))
    up_to = table.c.seq <= sa.bindparam("until")
    return sa.select(*columns).where(here, up_to).order_by(table.c.seq).limit(sa.bindparam("limit"))


def _named(table: sa.Table, columns: Iterable[sa.Column[Any]]) -> sa.Select[Any]:
    of_these = table.c.prediction_id.in_(sa.bindparam("ids", expanding=True))
    return sa.select(*columns).where(table.c.stream_id == sa.bindparam("stream_id"), of_these)


# Made once: they are asked in every request.
_NEW_SAID, _NEW_TOLD = _behind(predictions, _SAID), _behind(outcomes, _TOLD)
_FIND_SAID, _FIND_TOLD = _named(predictions, _SAID), _named(outcomes, _TOLD)
_POSITION = sa.select(summaries.c.position).where(
    summaries.c.stream_id == sa.bindparam("stream_id"), summaries.c.part == _HEAD
)
_OPEN_REVIEWS = (
    sa.select(sa.func.count())
    .select_from(reviews)
    .where(reviews.c.stream_id == streams.c.id, reviews.c.status.in_(("open", "claimed")))
    .scalar_subquery()
)
_FIGURES = sa.select(
    streams.c.next_seq, streams.c.current_revision, streams.c.pinned_revision, _OPEN_REVIEWS.label("open_reviews")
).where(streams.c.id == sa.bindparam("stream_id"))


class SummariesPart(RollupsPart):
    """The summary of the stream: it follows from the log, and is kept so that nobody has to read the log again."""

    def summary_rows(self, after: int, limit: int) -> list[SaidRow | ToldRow]:
        """The next entries of the log behind ``after``, in order, with the columns that are added up.

        Parameters
        ----------
        after : int
            Where to begin.
        limit : int
            So many at most; fewer where old ones were compacted away, and none only at the end of the log.

        Examples
        --------
        >>> from mlflow_caliber.store import Outcome, open_store
        >>> stream = open_store("sqlite://").stream("churn", "1")
        >>> _ = stream.record_outcomes([Outcome(prediction_id="a", outcome=1, observed_at=60.0)])
        >>> [(row.seq, row.outcome) for row in stream.summary_rows(0, 10)]
        [(1, '1')]
        """
        asked = {"stream_id": self._id, "after": after, "limit": check_count(limit, "limit")}
        found: list[SaidRow | ToldRow] = []
        with self._database.read() as connection:
            # Mostly the next numbers are all there: so nothing is read that belongs behind the last one.
            for until in (after + limit, _LARGEST):
                if not found:
                    found += map(SaidRow._make, connection.execute(_NEW_SAID, {**asked, "until": until}))
                    found += map(ToldRow._make, connection.execute(_NEW_TOLD, {**asked, "until": until}))
        return sorted(found, key=attrgetter("seq"))[:limit]

    def said(self, ids: Iterable[str]) -> dict[str, SaidRow]:
        """The predictions of these ids that the log has."""
        return {row.prediction_id: row for row in (SaidRow(*each) for each in self._rows_of(_FIND_SAID, ids))}

    def told(self, ids: Iterable[str]) -> dict[str, list[ToldRow]]:
        """All outcomes of these ids that the log has, in its order."""
        found: dict[str, list[ToldRow]] = {}
        for row in sorted((ToldRow(*each) for each in self._rows_of(_FIND_TOLD, ids)), key=attrgetter("seq")):
            found.setdefault(row.prediction_id, []).append(row)
        return found

    def waiting(self, position: int, limit: int) -> list[str]:
        """The ids of outcomes up to a position whose predictions are not among the entries up to there."""
        same = (predictions.c.stream_id == self._id) & (predictions.c.prediction_id == outcomes.c.prediction_id)
        query = (
            sa.select(outcomes.c.prediction_id)
            .distinct()
            .where(
                *(outcomes.c.stream_id == self._id, outcomes.c.seq <= position, ~outcomes.c.known),
                ~sa.exists().where(same, predictions.c.seq <= position),
            )
        )
        with self._database.read() as connection:
            return list(connection.execute(query.limit(limit)).scalars())

    def last_times(self, position: int) -> tuple[float | None, float | None]:
        """When the last prediction and the last outcome up to a position were recorded, of those that are there."""
        with self._database.read() as connection:
            said, told = (
                connection.execute(
                    sa.select(table.c.recorded_at)
                    .where(table.c.stream_id == self._id, table.c.seq <= position)
                    .order_by(table.c.seq.desc())
                    .limit(1)
                ).scalar()
                for table in (predictions, outcomes)
            )
        return said, told

    def figures(self) -> Figures:
        """The end of the log, the revision that is served, and how many cases wait for a person.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").stream("churn", "1").figures()
        Figures(log_end=0, revision=0, pinned=False, open_reviews=0)
        """
        with self._database.read() as connection:
            row = connection.execute(_FIGURES, {"stream_id": self._id}).one()
        pinned = row.pinned_revision is not None
        revision = row.pinned_revision if pinned else row.current_revision or 0
        return Figures(int(row.next_seq) - 1, int(revision), pinned, int(row.open_reviews))

    def summary_position(self) -> int | None:
        """Up to where the log is in the summary that is kept; None when there is none."""
        with self._database.read() as connection:
            return connection.execute(_POSITION, {"stream_id": self._id}).scalar()

    def summary(self) -> tuple[int, dict[str, bytes]] | None:
        """The summary that is kept: its position, and its parts by name; None when there is none."""
        query = sa.select(summaries).where(summaries.c.stream_id == self._id)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        parts = {row["part"]: bytes(row["content"]) for row in rows}
        position = next((int(row["position"]) for row in rows if row["part"] == _HEAD), None)
        return None if position is None else (position, parts)

    def save_summary(
        self,
        position: int,
        parts: Mapping[str, bytes],
        gone: Iterable[str] = (),
        *,
        whole: bool = False,
        rollups: NewRollups | None = None,
    ) -> bool:
        """Keep the parts that have changed, in one transaction, unless what is kept is as new.

        Parameters
        ----------
        position : int
            The entry of the log up to which they go.
        parts : mapping of name to bytes
            One of them is ``head``.
        gone : iterable of str
            Parts that are no more.
        whole : bool
            Whether these are all parts, which replace whatever is there and cannot be read, however new it is.
        rollups : NewRollups, optional
            What is added to the rollups in the same transaction.

        Returns
        -------
        bool
            Whether they were kept: not if what is kept is as new, or if the rollups are not what they are added to.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> stream = open_store("sqlite://").stream("churn", "1")
        >>> stream.save_summary(5, {"head": b"five"}), stream.save_summary(4, {"head": b"four"})
        (True, False)
        >>> stream.summary()
        (5, {'head': b'five'})
        """
        position = check_count(position, "position", minimum=0)
        here = summaries.c.stream_id == self._id
        rows = [
            {"stream_id": self._id, "part": check_name(name, "part"), "position": position, "content": content}
            for name, content in parts.items()
            if name != _HEAD
        ]
        is_head = here & (summaries.c.part == _HEAD)
        with self._database.write() as connection:
            nothing = {"stream_id": self._id, "part": _HEAD, "position": -1, "content": b""}
            insert_if_absent(connection, summaries, nothing)
            # Whoever saves at the same time waits here; so the row of the head stays, and is written over.
            kept = connection.execute(sa.select(summaries.c.position).where(is_head).with_for_update()).scalar_one()
            if kept >= position and not whole:
                return False
            if rollups is not None and not self._add_run(connection, position, rollups):
                return False
            others = here & (summaries.c.part != _HEAD)
            old = others if whole else others & summaries.c.part.in_([*parts, *gone])
            connection.execute(sa.delete(summaries).where(old))
            connection.execute(sa.update(summaries).where(is_head).values(position=position, content=parts[_HEAD]))
            if rows:
                connection.execute(sa.insert(summaries), rows)
        return True

    def _rows_of(self, query: sa.Select[Any], ids: Iterable[str]) -> list[Any]:
        wanted = list(ids)
        if not wanted:
            return []
        with self._database.read() as connection:
            return [
                row
                for some in chunks(wanted)
                for row in connection.execute(query, {"stream_id": self._id, "ids": some}).all()
            ]

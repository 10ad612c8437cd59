"""The newest predictions, and what came since somebody last looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mlflow_caliber._validation import check_choice, check_count
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._log import ROW_COLUMNS, last_outcome
from mlflow_caliber.store._review_rows import undecided_cases
from mlflow_caliber.store._rows import as_prediction
from mlflow_caliber.store._schema import outcomes, predictions, reviews
from mlflow_caliber.store._values import Outcome, Prediction

__all__ = ["STAGES", "ListingPart", "Said", "Tail"]

STAGES = ("auto", "review", "resolved")


@dataclass(frozen=True, kw_only=True)
class Said:
    """A prediction in the log, and the outcome that holds, if one is known.

    ``stage`` is "review" while a person has to decide what was withheld, and then "resolved", by an outcome or because
    nobody could judge it; what waits for nobody is "auto" until its outcome is known.
    """

    seq: int
    recorded_at: float
    prediction: Prediction
    outcome: Outcome | None
    stage: str


@dataclass(frozen=True, kw_only=True)
class Tail:
    """What stands behind a place in the log: counts, the last entry, and the newest predictions, the newest last."""

    seq: int
    n_predictions: int
    n_outcomes: int
    n_abstained: int
    newest: tuple[Said, ...]


class ListingPart(StreamBase):
    """Looking at single predictions."""

    def predictions(
        self,
        limit: int = 100,
        *,
        before: int | None = None,
        after: int | None = None,
        abstained: bool | None = None,
        labelled: bool | None = None,
        segment: str | None = None,
        stage: str | None = None,
    ) -> tuple[Said, ...]:
        """The newest predictions, the newest first.

        Parameters
        ----------
        limit : int
            So many at most.
        before, after : int, optional
            Only entries of the log in front of, or behind, that number.
        abstained, labelled : bool, optional
            Only those that were, or were not, withheld; whose outcome is, or is not, known.
        segment : str, optional
            Only those of that segment.
        stage : {"auto", "review", "resolved"}, optional
            Only those that are so far, see :class:`Said`.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").stream("churn", "1").predictions()
        ()
        """
        wanted = [predictions.c.stream_id == self._id]
        if before is not None:
            wanted.append(predictions.c.seq < check_count(before, "before", minimum=0))
        if after is not None:
            wanted.append(predictions.c.seq > check_count(after, "after", minimum=0))
        if abstained is not None:
            wanted.append(predictions.c.abstained == abstained)
        if segment is not None:
            wanted.append(predictions.c.segment == segment)
        if labelled is not None:
            wanted.append(_is_labelled() if labelled else ~_is_labelled())
        limit = check_count(limit, "limit")
        if stage == "review":
            wanted = [wanted[0], predictions.c.seq.in_(_newest_undecided(self._id, wanted, limit))]
        elif stage is not None:
            wanted.append(_stage() == check_choice(stage, "stage", STAGES))
        query = _listed().where(*wanted).order_by(predictions.c.seq.desc()).limit(limit)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(_said(row) for row in rows)

    def prediction(self, prediction_id: str) -> Said | None:
        """The prediction with that id, if there is one."""
        this = (predictions.c.stream_id == self._id) & (predictions.c.prediction_id == prediction_id)
        with self._database.read() as connection:
            row = connection.execute(_listed().where(this)).mappings().first()
        return None if row is None else _said(row)

    def tail(self, after: int, limit: int = 20) -> Tail:
        """What stands behind ``after``; of the predictions only the newest ``limit``.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").stream("churn", "1").tail(0).seq
        0
        """
        with self._database.read() as connection:
            counts = connection.execute(_TAIL, {"stream_id": self._id, "after": after}).one()
        newest = self.predictions(limit, after=after)[::-1] if counts.said else ()
        return Tail(
            seq=after + counts.said + counts.happened,
            n_predictions=counts.said,
            n_outcomes=counts.happened,
            n_abstained=counts.withheld,
            newest=newest,
        )


def _behind(table: Any) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.stream_id == sa.bindparam("stream_id"), table.c.seq > sa.bindparam("after"))


def _number(table: Any, *where: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(_behind(table), *where).scalar_subquery()


# The log is dense: as many entries as there are behind a place, so far has it moved on.
_TAIL = sa.select(
    _number(predictions).label("said"),
    _number(outcomes).label("happened"),
    _number(predictions, predictions.c.abstained).label("withheld"),
)


def _listed() -> sa.Select[Any]:
    joined = predictions.outerjoin(outcomes, last_outcome())
    return sa.select(*ROW_COLUMNS, _stage().label("stage")).select_from(joined)


def _stage() -> sa.ColumnElement[str]:
    waits, declined = _has_case(undecided_cases()), _has_case(reviews.c.status == "declined")
    return sa.case((waits, "review"), (_is_labelled() | declined, "resolved"), else_="auto")


def _newest_undecided(stream_id: int, wanted: Sequence[sa.ColumnElement[bool]], limit: int) -> sa.Select[Any]:
    undecided = sa.select(reviews.c.prediction_id).where(reviews.c.stream_id == stream_id, undecided_cases())
    waits = predictions.c.abstained, predictions.c.prediction_id.in_(undecided)
    # Not in the order of the index: cases that wait are few of many, and are found by their ids.
    found = sa.select(predictions.c.seq).where(*wanted, *waits).order_by((predictions.c.seq + 0).desc())
    return found.limit(limit).correlate(None)


def _has_case(wanted: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Whether it was withheld and has such a case: what is drawn at random for an audit was served like any other."""
    same = (reviews.c.stream_id == predictions.c.stream_id) & (reviews.c.prediction_id == predictions.c.prediction_id)
    return sa.and_(predictions.c.abstained, sa.exists().where(same, wanted).correlate(predictions))


def _is_labelled() -> sa.ColumnElement[bool]:
    same = (outcomes.c.stream_id == predictions.c.stream_id) & (outcomes.c.prediction_id == predictions.c.prediction_id)
    labelled: sa.ColumnElement[bool] = sa.exists().where(same).correlate(predictions)
    return labelled


def _said(row: sa.RowMapping) -> Said:
    happened = None
    if row["outcome"] is not None:
        told = {name: row[name] for name in ("prediction_id", "outcome", "observed_at", "source")}
        happened = Outcome(**told)
    prediction, told = as_prediction(dict(row)), {name: row[name] for name in ("seq", "recorded_at", "stage")}
    return Said(prediction=prediction, outcome=happened, **told)

"""What a stream's log adds up to: a pure function of its entries, like the learner.

However the log is cut into batches, and however often whoever reads it is stopped and begins again from what was
saved, the counts are the same, and the sums but for the rounding of the last digit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from mlflow_caliber.live._news import NO_SEGMENT, OTHER, OTHERS, Counted, News, short_name
from mlflow_caliber.live._rollups import tally_of_day
from mlflow_caliber.live._tallies import SOURCES, Changes, CoarseTable, Ints, Journal, Tally, losses_of
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.store import HistoryDay, SaidRow, ToldRow

__all__ = [
    "DATES",
    "DAYS",
    "HOURS",
    "MOST_EARLY",
    "OLDER",
    "Lookup",
    "StreamSummary",
    "segment_key",
    "short_id",
    "split_segment_key",
]

DAYS, HOURS, DATES = 31, 14 * 24, 730
OLDER = -1
MOST_EARLY = 20_000
_PER_SEGMENT = 1 << 32
_SOURCE = {name: k for k, name in enumerate(SOURCES)}


class _Labelled(NamedTuple):
    """A prediction and its label, which comes (1.0) or is taken back (-1.0) by the entry of that number.

    The source is the most careful one that has told a label so far. A sample of audits must not lose the cases where an
    audit agreed with what was known, nor those where it was overruled later: the rest would all be disagreements.
    """

    said: SaidRow
    told: ToldRow
    source: int
    sign: float
    seq: int


class Lookup(Protocol):
    """Where entries of the log are found by the id of their prediction: a stream."""

    def said(self, ids: Iterable[str]) -> dict[str, SaidRow]:
        """The predictions."""

    def told(self, ids: Iterable[str]) -> dict[str, list[ToldRow]]:
        """The outcomes, in the log's order."""


class StreamSummary:
    """The sums of one stream up to :attr:`position`.

    Parameters
    ----------
    positive : str or None
        Of two classes, the one that the probabilities are about; None where they are about the predicted class.

    Attributes
    ----------
    days : dict of int to Tally
        By UTC day of ``recorded_at`` (in days since 1970): the last 31 that the log has; what is older is in ``older``.
    hours, dates : CoarseTable
        The last 14 days by hour and the last two years by day, of what was served and of the shipped calibrator.
    segments : CoarseTable
        Of what was served, by segment and day: see :func:`segment_key`.
    journal : Journal
        The last changes of the labelled rows.
    news : News
        What is not in the stream's rollups yet.
    compacted : int
        How many predictions of the stream's history are in it.
    changed, gone : set of str
        The parts that are not as they were saved, and those that are no more.
    """

    def __init__(self, positive: str | None) -> None:
        self.positive = positive
        self.position = 0
        self.at: float | None = None
        self.last_prediction_at: float | None = None
        self.last_outcome_at: float | None = None
        self.days: dict[int, Tally] = {}
        self.older = Tally()
        self.hours, self.dates, self.segments = CoarseTable(2), CoarseTable(2), CoarseTable(1)
        self.journal = Journal()
        self.names: dict[str, int] = {}
        self.early: set[int] = set()
        self.early_overflowed = False
        self.compacted = 0
        self.news = News()
        self.changed: set[str] = {"head", "older", "hours", "dates", "segments"}
        self.gone: set[str] = set()
        self._folded: int | None = None

    @property
    def newest_day(self) -> int:
        """The last day that the log has."""
        return max(self.days, default=0)

    @property
    def top_label(self) -> bool:
        """Whether the probabilities are those of the predicted class."""
        return self.positive is None

    @property
    def nbytes(self) -> int:
        """About what it takes in memory."""
        tables = sum(table.nbytes for table in (self.hours, self.dates, self.segments))
        return tables + sum(day.nbytes for day in (self.older, *self.days.values())) + 100 * len(self.early)

    def advance(self, entries: Sequence[SaidRow | ToldRow], lookup: Lookup) -> None:
        """Take the next entries of the log, in order; those that were taken before are passed over."""
        entries = [entry for entry in entries if entry.seq > self.position]
        if not entries:
            return
        labelled = self._labelled(entries, lookup)
        said = [entry for entry in entries if isinstance(entry, SaidRow)]
        if said:
            self._count(said)
            self.last_prediction_at = said[-1].recorded_at
        if labelled:
            self._add(labelled)
        for entry in reversed(entries):
            if isinstance(entry, ToldRow):
                self.last_outcome_at = entry.recorded_at
                break
        self.fold()
        self.position, self.at = entries[-1].seq, entries[-1].recorded_at
        self.changed.add("head")

    def begin_with(self, history: Iterable[HistoryDay]) -> None:
        """Add compacted days: all as answered and observed, as their statistics say no more."""
        for day in history:
            self.compacted += day.n
            self.older.merge(tally_of_day(day))

    # --- which rows come and go ---------------------------------------------------------------------------------------

    def _labelled(self, entries: Sequence[SaidRow | ToldRow], lookup: Lookup) -> list[_Labelled]:
        """The labels that these entries bring and take back, each with its prediction."""
        told = [entry for entry in entries if isinstance(entry, ToldRow)]
        early = self.early | {short_id(entry.prediction_id) for entry in told if not entry.known}
        waited_for = [
            entry.prediction_id
            for entry in entries
            if isinstance(entry, SaidRow) and (self.early_overflowed or short_id(entry.prediction_id) in early)
        ]
        corrected = {entry.prediction_id for entry in told if entry.correction}
        labels = lookup.told(corrected.union(waited_for))
        here = {entry.prediction_id for entry in entries if isinstance(entry, SaidRow)}
        rows = lookup.said({entry.prediction_id for entry in told if entry.known} - here)
        changes: list[_Labelled] = []
        for entry in entries:
            if isinstance(entry, SaidRow):
                rows[entry.prediction_id] = entry
                earlier = _before(labels.get(entry.prediction_id, ()), entry.seq)
                self.early.discard(short_id(entry.prediction_id))
                if earlier:
                    changes.append(_Labelled(entry, earlier[-1], _source(earlier), 1.0, entry.seq))
                continue
            row = rows.get(entry.prediction_id)
            if row is None or row.seq > entry.seq:
                self._wait(entry.prediction_id)
                continue
            earlier = _before(labels.get(entry.prediction_id, ()), entry.seq) if entry.correction else []
            if earlier:
                changes.append(_Labelled(row, earlier[-1], _source(earlier), -1.0, entry.seq))
            changes.append(_Labelled(row, entry, _source([*earlier, entry]), 1.0, entry.seq))
        return [change for change in changes if _is_scorable(change.said)]

    def _wait(self, prediction_id: str) -> None:
        """Remember an outcome without a prediction; when there are too many, every prediction is looked up."""
        if len(self.early) >= MOST_EARLY:
            self.early_overflowed = True
            self.early.clear()
        if not self.early_overflowed:
            self.early.add(short_id(prediction_id))

    # --- where they are added -----------------------------------------------------------------------------------------

    def _count(self, said: Sequence[SaidRow]) -> None:
        at = np.array([row.recorded_at for row in said])
        self.count(
            Counted(
                seq=np.array([row.seq for row in said], dtype=np.int64),
                hour=np.floor_divide(at, 3_600.0).astype(np.int64),
                segment=np.array([self._segment(row.segment, is_new=True) for row in said], dtype=np.int64),
                stratum=np.array([row.abstained for row in said], dtype=np.int64),
                scorable=np.array([_is_scorable(row) for row in said], dtype=np.int64),
                n=np.ones(len(said), dtype=np.int64),
            )
        )

    def count(self, said: Counted) -> None:
        """Count predictions."""
        day, withheld = said.hour // 24, said.n * said.stratum
        for each in np.unique(day).tolist():
            tally, here = self._day(each), said.take(day == each)
            tally.n = tally.n + here.by_stratum()
            tally.scorable = tally.scorable + here.by_stratum(scorable=True)
        self.hours.count(said.hour, said.n, withheld)
        self.dates.count(day, said.n, withheld)
        named = said.segment != NO_SEGMENT
        if named.any():
            keys = segment_key(said.segment[named], self._young(day[named]))
            self.segments.count(keys, said.n[named], withheld[named])
        self.news.count(said)
        self.changed |= {"hours", "dates", "segments"}

    def _add(self, labelled: Sequence[_Labelled]) -> None:
        self.add(self._as_changes(labelled))

    def add(self, rows: Changes) -> None:
        """Add labelled rows, or take them back."""
        for day in np.unique(rows.day).tolist():
            self._day(day).add(rows.take(rows.day == day))
        self.hours.add(rows.hour, rows)
        self.dates.add(rows.day, rows)
        named = rows.segment != NO_SEGMENT
        if named.any():
            own = rows.take(named)
            self.segments.add(segment_key(own.segment, self._young(own.day)), own)
        self.journal.add(rows)
        self.news.add(rows)
        self.changed |= {"hours", "dates", "segments"}

    def _as_changes(self, labelled: Sequence[_Labelled]) -> Changes:
        said = [each.said for each in labelled]
        at = np.array([row.recorded_at for row in said])
        p = np.array([(row.served, row.base, row.raw) for row in said], dtype=np.float64).T.copy()
        y = np.array([each.told.outcome == (self.positive or each.said.prediction) for each in labelled], dtype=float)
        return Changes(
            day=np.floor_divide(at, 86_400.0).astype(np.int64),
            hour=np.floor_divide(at, 3_600.0).astype(np.int64),
            stratum=np.array([row.abstained for row in said], dtype=np.int64),
            source=np.array([each.source for each in labelled], dtype=np.int64),
            segment=np.array([self._segment(row.segment) for row in said], dtype=np.int64),
            y=y,
            sign=np.array([each.sign for each in labelled]),
            p=p,
            cell=ScoreStatistics.cell_of(p.ravel()).reshape(p.shape),
            loss=losses_of(p, y),
            seq=np.array([each.seq for each in labelled], dtype=np.int64),
        )

    def _segment(self, name: str | None, *, is_new: bool = False) -> int:
        if name is None:
            return NO_SEGMENT
        number = self.names.get(name)
        if number is not None:
            return number
        name = short_name(name)
        if is_new and len(self.names) < OTHER and name != OTHERS:
            self.names.setdefault(name, len(self.names))
        return self.names.get(name, OTHER)

    def _day(self, day: int) -> Tally:
        if day not in self.days and day <= self.newest_day - DAYS:
            self.changed.add("older")
            return self.older
        self.changed.add(f"day:{day}")
        self.gone.discard(f"day:{day}")
        return self.days.setdefault(day, Tally())

    def _young(self, day: Ints) -> Ints:
        newest = self.newest_day
        return np.where(day > newest - DAYS, day, OLDER)

    def fold(self) -> None:
        """What has become old joins the older; what is too old for the timeline is forgotten."""
        newest = self.newest_day
        self.hours.drop_before((newest + 1) * 24 - HOURS)
        self.dates.drop_before(newest + 1 - DATES)
        if self._folded == newest:
            return
        self._folded = newest
        for day in sorted(each for each in self.days if each <= newest - DAYS):
            self.older.merge(self.days.pop(day))
            self.changed = (self.changed | {"older"}) - {f"day:{day}"}
            self.gone.add(f"day:{day}")
        for key in list(self.segments.rows):
            segment, day = split_segment_key(key)
            if OLDER < day <= newest - DAYS:
                row = self.segments.rows.pop(key)
                older = int(segment_key(np.array(segment), np.array(OLDER)))
                self.segments.rows[older] = self.segments.rows.get(older, 0.0) + row


def segment_key(segment: Ints, day: Ints) -> Ints:
    """The key of a segment on a day, :data:`OLDER` for all days before."""
    return segment * _PER_SEGMENT + day + 1


def split_segment_key(key: int) -> tuple[int, int]:
    """The segment and the day of a key."""
    segment, day = divmod(key, _PER_SEGMENT)
    return segment, day - 1


def short_id(prediction_id: str) -> int:
    """A number for an id. That two ids have the same one costs a look into the log, and nothing else."""
    return int.from_bytes(hashlib.blake2b(prediction_id.encode(), digest_size=8).digest(), "little")


def _before(labels: Sequence[ToldRow], seq: int) -> list[ToldRow]:
    return [label for label in labels if label.seq < seq]


def _source(labels: Sequence[ToldRow]) -> int:
    return max(_SOURCE[label.source] for label in labels)


def _is_scorable(row: SaidRow) -> bool:
    return row.reason != "unscorable_row"

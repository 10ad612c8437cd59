"""Reports about any span of time, or one segment: a few rows of the rollups, and what is not in them yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from mlflow_caliber._ahead import ahead
from mlflow_caliber._validation import check_number
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.live._measured import Sample
from mlflow_caliber.live._news import ALL, Delta, delta_from_bytes, segment_name
from mlflow_caliber.live._rollups import tally_from_bytes, tally_of_day
from mlflow_caliber.live._sums import LabelledSums
from mlflow_caliber.live._tallies import Tally
from mlflow_caliber.store import Stream

__all__ = ["Range", "RangeSample", "check_range", "sample_of_range"]

_HOUR = 3_600
_DAYS = "The range was widened to whole days or months: there are no hours of that time any more."
_HISTORY = "Days that were compacted before there were rollups count whole, as answered and observed."
_NO_SEGMENTS = "Days that were compacted before there were rollups have no segments, and are left out."


class Range(NamedTuple):
    """What is asked about: from ``since`` on, before ``until``, one segment or all (None)."""

    since: float | None = None
    until: float | None = None
    segment: str | None = None


class RangeSample(NamedTuple):
    """The labelled rows of a range, the bounds that it was widened to, and the last entry that is in it."""

    sample: Sample
    since: float | None
    until: float | None
    position: int
    notes: tuple[str, ...]


# The last second that a date can name.
_LAST_DATE = 253_402_300_799


def check_range(since: Any, until: Any, segment: Any) -> Range:
    """A range whose end is behind its beginning."""
    low, high = (
        None if value is None else check_number(value, name) for name, value in (("since", since), ("until", until))
    )
    if low is not None and high is not None and not low < high:
        raise InvalidInputError(f"until must be behind since, got since {low:.15g} and until {high:.15g}.")
    if segment is not None and not isinstance(segment, str):
        raise InvalidInputError(f"segment must be the name of a segment, got {segment!r:.40}.")
    if segment is not None and ("\0" in segment or segment != segment.encode(errors="replace").decode()):
        raise InvalidInputError(f"segment must be a text that a database can hold, got {segment!r:.40}.")
    return Range(low, high, segment)


def sample_of_range(
    stream: Stream,
    wanted: Range,
    news: Delta,
    labels: str,
    thresholds: Sequence[float],
    **how: Any,
) -> RangeSample:
    """The labelled rows of a range: of the rollups, and of the news behind them."""
    sums, said, scorable = LabelledSums(labels), np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    segment = segment_name(wanted.segment)
    with stream.rollups() as view:
        low, high = view.widened(wanted.since, wanted.until)
        # (To unpack takes as long as to add up.)
        for tally in ahead(tally_from_bytes(row.content) for row in view.cover(low, high, segment)):
            sums.add(tally)
            said, scorable = said + tally.n, scorable + tally.scorable
        head = view.head
        deltas = [*(delta_from_bytes(run.content) for run in view.runs), news.behind(head.position)]
    for delta in deltas:
        own = _within(delta.of(segment), low, high)
        sums.take(own.changes)
        said, scorable = said + own.counted.by_stratum(), scorable + own.counted.by_stratum(scorable=True)
    notes: tuple[str, ...] = (_DAYS,) if _is_wide(wanted.since, low) or _is_wide(wanted.until, high) else ()
    if head.compacted:
        days = list(_history(stream, low, high)) if segment == ALL else []
        for tally in days:
            sums.add(tally)
            said, scorable = said + tally.n, scorable + tally.scorable
        notes += (_HISTORY,) * bool(days) + (_NO_SEGMENTS,) * (segment != ALL)
    sample = sums.sample(said, scorable, thresholds, top_label=stream.positive is None, **how)
    return RangeSample(sample, low, high, head.position, notes)


def _within(delta: Delta, low: int | None, high: int | None) -> Delta:
    first = -np.inf if low is None else low // _HOUR
    end = np.inf if high is None else high / _HOUR
    counted, changes = delta.counted, delta.changes
    return delta._replace(
        counted=counted.take((counted.hour >= first) & (counted.hour < end)),
        changes=changes.take((changes.hour >= first) & (changes.hour < end)),
    )


def _is_wide(asked: float | None, got: int | None) -> bool:
    return asked is not None and got is not None and abs(asked - got) >= _HOUR


def _history(stream: Stream, low: int | None, high: int | None) -> Iterator[Tally]:
    """The compacted days that have a part in the span."""
    since = None if low is None else _date(low)
    # (A day that begins before the end has a part in it.)
    until = None if high is None else _date(min(high + 86_399, _LAST_DATE))
    for day in stream.history(since, until):
        yield tally_of_day(day)


def _date(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")

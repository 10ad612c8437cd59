"""A summary from the rollups: where none was saved that can be read, and rows of the log may have been pruned."""

from __future__ import annotations

import numpy as np

from mlflow_caliber.live._news import ALL, OTHER, News, delta_from_bytes, own_name, segment_numbers
from mlflow_caliber.live._rollups import tally_from_bytes
from mlflow_caliber.live._summary import DATES, DAYS, HOURS, MOST_EARLY, OLDER, StreamSummary, segment_key, short_id
from mlflow_caliber.live._tallies import Tally
from mlflow_caliber.store import RollupView, Stream

__all__ = ["summary_of_rollups"]

_DAY, _HOUR = 86_400, 3_600


def summary_of_rollups(stream: Stream) -> StreamSummary:
    """The summary up to where the rollups go, with the compacted days that are not in them."""
    summary = StreamSummary(stream.positive)
    with stream.rollups() as view:
        _read_rows(summary, view)
        for run in view.runs:
            delta = delta_from_bytes(run.content)
            numbers = _numbered(summary, tuple(delta.names.values()))
            new = {number: numbers[name] for number, name in delta.names.items()}
            summary.count(delta.counted.renumbered(new))
            summary.add(delta.changes.renumbered(new))
            summary.fold()
        summary.position = view.head.position
        compacted = view.head.compacted
    if compacted:
        summary.begin_with(stream.history())
    summary.news = News(summary.position)
    if summary.position:
        _read_ends(summary, stream)
    return summary


def _read_rows(summary: StreamSummary, view: RollupView) -> None:
    newest = max((row.start for row in view.rows("day")), default=None)
    # (The days of a stream that was silent for long may be gone.)
    first = None if newest is None else max(newest - (DAYS - 1) * _DAY, view.head.days_from)
    for row in view.cover(None, first):
        summary.older.merge(tally_from_bytes(row.content))
    if newest is None or first is None:
        return
    for row in view.rows("day", newest - (DATES - 1) * _DAY):
        tally = tally_from_bytes(row.content)
        summary.dates.set(row.start // _DAY, tally)
        if row.start >= first:
            summary.days[row.start // _DAY] = tally
    for row in view.rows("hour", newest + _DAY - HOURS * _HOUR):
        summary.hours.set(row.start // _HOUR, tally_from_bytes(row.content))
    for name, number in _numbered(summary, view.segments).items():
        _read_segment(summary, view, name, number, first)


def _read_segment(summary: StreamSummary, view: RollupView, name: str, number: int, first: int) -> None:
    older = Tally()
    for row in view.cover(None, first, name):
        older.merge(tally_from_bytes(row.content))
    if older.n.any():
        summary.segments.set(int(segment_key(np.array(number), np.array(OLDER))), older)
    for row in view.rows("day", first, segment=name):
        key = segment_key(np.array(number), np.array(row.start // _DAY))
        summary.segments.set(int(key), tally_from_bytes(row.content))


def _numbered(summary: StreamSummary, keys: tuple[str, ...]) -> dict[str, int]:
    """The numbers of these segments in the summary, which learns their names."""
    numbers = segment_numbers(keys)
    for key, number in numbers.items():
        if key != ALL and number != OTHER:
            numbers[key] = summary.names.setdefault(own_name(key), len(summary.names))
    return numbers


def _read_ends(summary: StreamSummary, stream: Stream) -> None:
    """What the log alone knows."""
    times = stream.last_times(summary.position)
    summary.last_prediction_at, summary.last_outcome_at = times
    summary.at = max((at for at in times if at is not None), default=None)
    waiting = stream.waiting(summary.position, MOST_EARLY + 1)
    summary.early_overflowed = len(waiting) > MOST_EARLY
    summary.early = set() if summary.early_overflowed else {short_id(each) for each in waiting}

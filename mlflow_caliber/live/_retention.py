"""How long the store keeps what: rows, then hours, then days. Months stay."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

from mlflow_caliber.config import check_section
from mlflow_caliber.exceptions import CaliberError, StateError, StoreError
from mlflow_caliber.live._followed import Followed
from mlflow_caliber.live._merge import merge_runs
from mlflow_caliber.live._news import delta_from_bytes
from mlflow_caliber.live._rollups import tally_from_bytes
from mlflow_caliber.store import LEVELS, Store, Stream, start_of

__all__ = ["Retained", "RetentionPolicy", "prune_rows", "retain", "run_retention"]

_DAY = 86_400.0
# Rows in one transaction: whoever records waits for no more than these.
_BATCH = 500
_EVERY = 3_600.0
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """How long the store keeps what: the section ``retention`` of ``caliber.yaml``. None is for ever.

    Parameters
    ----------
    raw_days : float, optional
        Predictions and outcomes are deleted after so many days; what they add up to stays.
    hourly_days : float, optional
        Rollups by hour are kept so long, at least 14 days; behind that there are days.
    daily_days : float, optional
        Rollups by day are kept so long, at least 62 days; behind that there are months.

    Raises
    ------
    ConfigError
        For a value out of range.

    Examples
    --------
    >>> RetentionPolicy(raw_days=90).is_empty, RetentionPolicy().is_empty
    (False, True)
    >>> RetentionPolicy(hourly_days=1)
    Traceback (most recent call last):
    mlflow_caliber.exceptions.ConfigError: retention.hourly_days must be a number at least 14, got 1.
    """

    raw_days: float | None = None
    hourly_days: float | None = None
    daily_days: float | None = None

    def __post_init__(self) -> None:
        check_section("retention", {name: days for name, days in asdict(self).items() if days is not None})

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> Self:
        """The policy of a section."""
        return cls(**check_section("retention", section))

    @property
    def is_empty(self) -> bool:
        """Whether everything is kept."""
        return self == RetentionPolicy()


class Retained(NamedTuple):
    """How many predictions were compacted, and how many rollups were dropped because coarser ones have them."""

    compacted: int
    rollups: int


def retain(streams: Sequence[Stream], policy: RetentionPolicy, now: float) -> Retained:
    """Delete what is older than the policy keeps it, in small steps.

    Examples
    --------
    >>> from mlflow_caliber.store import open_store
    >>> store = open_store("sqlite://")
    >>> retain([store.stream("churn", "1")], RetentionPolicy(raw_days=30, hourly_days=90), 1.7e9)
    Retained(compacted=0, rollups=0)
    """
    compacted = rollups = 0
    for stream in streams:
        if policy.raw_days is not None:
            compacted += prune_rows(stream, max(0.0, now - policy.raw_days * _DAY))
        for level, days in (("hour", policy.hourly_days), ("day", policy.daily_days)):
            if days is not None:
                rollups += stream.thin_rollups(level, max(0.0, now - days * _DAY))
    return Retained(compacted, rollups)


def prune_rows(stream: Stream, before: float) -> int:
    """Delete predictions recorded before that time, in small steps, after what they add up to is kept.

    Parameters
    ----------
    stream : Stream
        Of which.
    before : float
        Seconds since 1970.

    Returns
    -------
    int
        How many were deleted; see :meth:`mlflow_caliber.store.Stream.compact` for which stay.

    Raises
    ------
    StateError
        If what rows of that age add up to is damaged, and can no longer be made anew.

    Examples
    --------
    >>> from mlflow_caliber.store import open_store
    >>> prune_rows(open_store("sqlite://").stream("churn", "1"), 1.7e9)
    0
    """
    _add_up(stream, before)
    if _oldest(stream, before) is not None:
        _merge(stream)
    return stream.compact(before, batch=_BATCH)


def _add_up(stream: Stream, before: float) -> None:
    """Add up what is older, where nobody has, or what there is cannot be read: sums are all that is left afterwards."""
    head = stream.rollup_head()
    waiting = stream.summary_rows(head.position, 1)
    damage = _damage(stream, before)
    is_other = head.position > 0 and head.about != stream.positive
    if is_other or damage or (waiting and waiting[0].recorded_at < before):
        followed = Followed.of(stream)
        if damage and not followed.anew:
            with followed.lock:
                followed.begin_anew(damage)
        while followed.follow(stream.log_end()):
            pass
        followed.save_if_due(now=True)


def _oldest(stream: Stream, before: float) -> float | None:
    """When the oldest entry of the log was recorded; None, where it is not of that age."""
    oldest = stream.summary_rows(0, 1)
    return oldest[0].recorded_at if oldest and oldest[0].recorded_at < before else None


def _merge(stream: Stream) -> None:
    """Merge all runs: once rows are gone, only the rows of the rollups say which days had predictions."""
    while stream.unmerged()[0] and not merge_runs(stream):  # others merge, too
        pass


def _damage(stream: Stream, before: float) -> StateError | None:
    """What is wrong with the rollups of the time whose rows are to go; nothing, where there are no such rows."""
    oldest = _oldest(stream, before)
    if oldest is None:
        return None
    try:
        with stream.rollups() as view:
            for level, segment in itertools.product(LEVELS, view.segments):
                first = start_of(level, int(oldest))
                for row in view.rows(level, first, math.ceil(before), segment):
                    tally_from_bytes(row.content)
            for run in view.runs:
                delta_from_bytes(run.content)
    except StateError as error:
        return error
    return None


def run_retention(
    store: Store, policy: RetentionPolicy, stop: threading.Event, clock: Callable[[], float] = time.time
) -> None:
    """Apply the policy once an hour, until told to stop."""
    while not policy.is_empty:
        for stream in _streams(store):
            try:
                found = retain([stream], policy, clock())
            except CaliberError as error:
                _logger.warning("Nothing of %s is pruned for now: %s", stream.subject, error)
                continue
            if any(found):
                _logger.info("Pruned %s: %d predictions, %d rollups.", stream.subject, *found)
        if stop.wait(_EVERY):
            return


def _streams(store: Store) -> Sequence[Stream]:
    try:
        return store.streams()
    except StoreError as error:
        _logger.warning("Nothing is pruned for now: %s", error)
        return ()

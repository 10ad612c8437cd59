"""One stream's summary in this process: kept up with the log, and saved for others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow_caliber.exceptions import CaliberError, ConflictError, StateError
from mlflow_caliber.live._merge import merge_if_due
from mlflow_caliber.live._news import run_of
from mlflow_caliber.live._rebuild import summary_of_rollups
from mlflow_caliber.live._summary import StreamSummary
from mlflow_caliber.live._summary_state import summary_from_parts, summary_to_parts
from mlflow_caliber.store import NewRollups, SaidRow, Stream, ToldRow

__all__ = ["A_FEW", "MOST_AT_ONCE", "Followed"]

MOST_AT_ONCE = 20_000
"""Entries of the log that a request takes when nobody follows the log: about half a second."""
A_FEW = 2_000
"""Entries that are taken while others wait."""
_SAVE_EVERY_ENTRIES, _SAVE_EVERY_SECONDS = 20_000, 10.0
_MOST_ANSWERS = 32
_MOST_NEWS = 100_000
_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Followed:
    """A summary, and how far it has been saved.

    With :attr:`is_broken`, what is saved cannot be read, with :attr:`anew` the rollups are wrong too.
    Whoever reads or changes the summary holds :attr:`lock`, and never waits for another lock or a writer meanwhile.
    """

    stream: Stream
    summary: StreamSummary
    saved_position: int
    is_broken: bool = False
    anew: bool = False
    behind: int = 0
    saved_at: float = field(default_factory=time.monotonic)
    lock: threading.RLock = field(default_factory=threading.RLock)
    computing: threading.Lock = field(default_factory=threading.Lock)
    saving: threading.Lock = field(default_factory=threading.Lock)
    answers: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stream: Stream) -> Followed:
        """The summary that was saved, or an empty one that has to read the log from the beginning."""
        followed = cls(stream, StreamSummary(stream.positive), -1)
        followed.load()
        return followed

    def advance(self, log_end: int, limit: int) -> int:
        """Take the next entries of the log; how many were taken. The lock is held."""
        self._begin_anew_if_other(log_end)
        if log_end > self.summary.position + limit:
            self._catch_up()
        before = self.summary.position
        rows, gaps = self._next(before, log_end, limit)
        if self._are_gone(rows, before, log_end):
            self.load()
            before = self.summary.position
            rows, gaps = self._next(before, log_end, limit)
        self._take(rows, gaps)
        self.behind = max(0, log_end - self.summary.position)
        return self.summary.position - before

    def follow(self, log_end: int) -> int:
        """The same for whoever has time: the log is read before others are kept from the summary."""
        with self.lock:
            self._begin_anew_if_other(log_end)
            if log_end > self.summary.position + MOST_AT_ONCE:
                self._catch_up()
            before = self.summary.position
        rows, gaps = self._next(before, log_end, A_FEW)
        with self.lock:
            if self._are_gone(rows, before, log_end):
                self.load()
            elif self.summary.position == before:
                self._take(rows, gaps)
            self.behind = max(0, log_end - self.summary.position)
            return self.summary.position - before

    def begin_anew(self, damage: StateError) -> None:
        """Read the log again from its beginning, because the rollups cannot be read. The lock is held.

        Raises
        ------
        StateError
            Where rows were pruned: the rollups alone knew what they added up to.
        """
        if self.stream.rollup_head().pruned:
            raise StateError(
                f"The rollups of {self.stream.subject} are damaged, and rows that they have counted were pruned: only "
                f"a backup of the store has these numbers. {damage}"
            ) from damage
        _logger.warning("The rollups of %s are made anew from the log. %s", self.stream.subject, damage)
        self._start_over()

    def keep(self, key: Any, answer: Any) -> None:
        """Keep an answer for whoever asks the same."""
        with self.lock:
            if len(self.answers) >= _MOST_ANSWERS:
                self.answers.clear()
            self.answers[key] = answer

    def is_saved_up_to(self, log_end: int) -> bool:
        """Whether there is nothing to take and nothing to save."""
        return self.summary.position == self.saved_position == log_end

    @property
    def is_full(self) -> bool:
        """Whether so much is not saved that it should be, also where nobody follows."""
        return len(self.summary.news) > _MOST_NEWS

    def save_if_due(self, *, now: bool = False) -> bool:
        """Save what is new, unless that was done lately. The lock is not held: a writer may have to wait long."""
        with self.saving:
            with self.lock:
                if not self._is_due(now):
                    return False
                summary, is_broken = self.summary, self.is_broken
                position, rollups = summary.position, self._new_rollups()
                parts = summary_to_parts(summary, whole=is_broken or self.saved_position < 0)
                changed, gone = summary.changed, summary.gone
                summary.changed, summary.gone = set(), set()
            try:
                kept = self.stream.save_summary(position, parts, gone, whole=is_broken, rollups=rollups)
            except BaseException:
                with self.lock:
                    summary.changed |= changed
                    summary.gone |= gone - {f"day:{day}" for day in summary.days}
                    self.saved_at = time.monotonic()
                raise
            with self.lock:
                self.saved_at = time.monotonic()
                if self.summary is summary:
                    self._saved(position, rollups, kept=kept)
            if kept:
                self._merge_if_due()
            return kept

    def _merge_if_due(self) -> None:
        try:
            self._merge()
        except CaliberError as error:  # what is not merged is read as it is
            _logger.warning("The rollups of %s are not merged for now: %s", self.stream.subject, error)

    def _merge(self) -> None:
        try:
            merge_if_due(self.stream)
        except StateError as damage:
            with self.lock:
                self.begin_anew(damage)

    def _new_rollups(self) -> NewRollups:
        summary = self.summary
        delta = summary.news.delta(summary.names)
        return NewRollups(
            since=0 if self.anew else summary.news.since,
            about=summary.positive,
            compacted=summary.compacted,
            run=lambda position: run_of(delta.behind(position)),
            anew=self.anew,
        )

    def _saved(self, position: int, rollups: NewRollups, *, kept: bool) -> None:
        """Forget what is saved; if it was not kept, somebody else has saved the same or more, or something else."""
        if not kept:
            head = self.stream.rollup_head()
            is_same = (head.about, head.compacted) == (rollups.about, rollups.compacted) and not rollups.anew
            if not is_same or head.position < position:
                self.load()
                return
        self.saved_position, self.is_broken, self.anew = position, False, False
        self.summary.news.forget(position)

    def _is_due(self, now: bool) -> bool:
        new = self.summary.position - self.saved_position
        if new <= 0 and not self.is_broken:
            return False
        waited = time.monotonic() - self.saved_at
        return now or new >= _SAVE_EVERY_ENTRIES or waited >= _SAVE_EVERY_SECONDS

    def _begin_anew_if_other(self, log_end: int) -> None:
        """Classes may be named after the first predictions, and an older copy of the store may be put in place."""
        # (Somebody may have taken newer entries since the end of the log was looked up.)
        is_other = log_end < self.summary.position and self.stream.log_end() < self.summary.position
        if self.summary.positive != self.stream.positive or is_other:
            self.load()

    def _next(self, before: int, log_end: int, limit: int) -> tuple[Sequence[SaidRow | ToldRow], int]:
        """The next entries, and how many had been deleted from the log before they were read."""
        if log_end <= before:
            return [], 0
        gaps = self.stream.rollup_head().gaps
        return self.stream.summary_rows(before, limit), gaps

    def _take(self, rows: Sequence[SaidRow | ToldRow], gaps: int) -> None:
        """Add up entries; where what they look up in the log was pruned meanwhile, go by what was saved instead."""
        before = self.summary.position
        self.summary.advance(rows, self.stream)
        is_pruned = rows and not self.anew and self.stream.rollup_head().gaps != gaps
        if is_pruned and list(self.stream.summary_rows(before, len(rows))) != list(rows):
            self.load()

    def _are_gone(self, rows: Sequence[SaidRow | ToldRow], before: int, log_end: int) -> bool:
        """Whether entries behind ``before`` were added up by somebody and pruned, so that they cannot be read here."""
        n = (rows[-1].seq if rows else max(log_end, before)) - before
        return n != len(rows) and not self.anew and self.stream.rollup_head().position > before

    def _catch_up(self) -> None:
        """Take over what another process has saved, if that is further than this one is."""
        position = self.stream.summary_position()
        if position is not None and position > self.summary.position and not self.anew:
            self.load()

    def load(self) -> None:
        """The summary that was saved; if it cannot be read, or does not fit the rollups, the one that they make."""
        self.answers.clear()
        head, saved = self.stream.rollup_head(), self.stream.summary()
        # (What the head says was said before the end of the log is looked up.)
        is_wrong = head.position and (head.about != self.stream.positive or head.position > self.stream.log_end())
        if is_wrong:
            if head.pruned:  # rows are only pruned where the rollups are of the log's own classes
                raise ConflictError(f"The classes of {self.stream.subject} were named meanwhile: look it up again.")
            self._start_over()
            return
        self.is_broken, self.anew, self.saved_position = saved is not None, False, -1
        try:
            if saved is not None:
                self.summary = summary_from_parts(saved[1], self.stream.positive)
                if (saved[0], self.summary.compacted) == (head.position, head.compacted):
                    self.is_broken, self.saved_position = False, saved[0]
                    return
        except StateError as error:
            _logger.warning("The summary of %s is made anew from the log. %s", self.stream.subject, error)
        try:
            self.summary = summary_of_rollups(self.stream)
        except StateError as damage:
            self.begin_anew(damage)

    def _start_over(self) -> None:
        """An empty summary, that will take the place of what was saved, and the rollups' too."""
        self.answers.clear()
        self.is_broken, self.anew, self.saved_position = True, True, -1
        self.summary = StreamSummary(self.stream.positive)
        self.summary.begin_with(self.stream.history())

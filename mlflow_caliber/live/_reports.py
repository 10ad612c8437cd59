"""Reports that take the same time however long the log is: read off the summaries that a follower keeps."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mlflow_caliber._validation import check_choice
from mlflow_caliber.exceptions import CaliberError, StateError, StoreError
from mlflow_caliber.live import _followed
from mlflow_caliber.live._content import content_of
from mlflow_caliber.live._followed import Followed
from mlflow_caliber.live._measured import Sample
from mlflow_caliber.live._news import OTHER
from mlflow_caliber.live._overview import overview_of
from mlflow_caliber.live._ranges import Range, check_range, sample_of_range
from mlflow_caliber.live._segments import segments_of, timeline_of
from mlflow_caliber.live._settings import MonitorSettings
from mlflow_caliber.live._summary import StreamSummary
from mlflow_caliber.live._sums import WindowSums, check_labels
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.store import Store, Stream

__all__ = ["DETAILS", "WINDOWS", "Reports"]

WINDOWS = {"1d": 1, "7d": 7, "30d": 30, "all": None}
LONG_WINDOWS = {"90d": 90, "365d": 365}
DETAILS = ("quick", "full")
_DAY = 86_400
# What takes long may be this old: a full report says as of when it is.
_BELIEVED = 5.0
# Sums of a window over the whole grid, some five megabytes each.
_MOST_SUMS = 24
_AMONG_OTHERS = "Nothing goes by this name; the first fifty segments have rows of their own, and the rest is (other)."
_MOST_MARKS = 200
_logger = logging.getLogger(__name__)


class Reports:
    """Reports about the streams of a store. Threads may share it; other processes may have their own.

    Parameters
    ----------
    store : Store
        Where the streams are.
    clock : callable
        Seconds since 1970.
    monitor : MonitorSettings, optional
        How long a stream may be silent.
    max_streams : int, default=200
        So many summaries are kept in memory,
    max_bytes : int, default=512 MB
        and together not more than this.

    Examples
    --------
    >>> from mlflow_caliber.store import open_store
    >>> store = open_store("sqlite://")
    >>> stream = store.stream("churn", "1", classes=[0, 1])
    >>> Reports(store).report(stream)["n"]
    0
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        monitor: MonitorSettings | None = None,
        *,
        max_streams: int = 200,
        max_bytes: int = 1 << 29,
    ) -> None:
        self.store = store
        self.clock = clock
        self.monitor = monitor or MonitorSettings()
        self._max_streams, self._max_bytes = max_streams, max_bytes
        self._followed: OrderedDict[tuple[str, str], Followed] = OrderedDict()
        self._sums: OrderedDict[tuple[Any, ...], WindowSums] = OrderedDict()
        self._lock = threading.Lock()
        self._is_followed = False

    # --- what is asked ------------------------------------------------------------------------------------------------

    def report(
        self,
        stream: Stream,
        window: str = "all",
        labels: str = "all",
        detail: str = "quick",
        *,
        since: float | None = None,
        until: float | None = None,
        segment: str | None = None,
    ) -> dict[str, Any]:
        """How far what was served can be relied on, next to the shipped calibrator.

        Parameters
        ----------
        stream : Stream
            Of which.
        window : {"1d", "7d", "30d", "90d", "365d", "all"}
            Predictions recorded since the UTC midnight that is so many days back, or all.
        labels : {"all", "observed", "review", "audit"}
            All outcomes, weighted so that answered and withheld predictions count by their shares; or those of one
            source as they are.
        detail : {"quick", "full"}
            Whether intervals of all metrics, and curves without bins, are wanted too.
        since, until : float, optional
            Instead of a window: predictions recorded from the one on and before the other, in seconds since 1970. They
            are widened to full hours, or to days and months where hours are not kept; the answer says to what.
        segment : str, optional
            Only predictions of this segment; ``(other)`` are those behind the first fifty.

        Returns
        -------
        dict
            Plain JSON values; ``as_of`` says up to which entry of the log.

        Raises
        ------
        InvalidInputError
            For another window, source or detail, and for a range that ends before it begins.
        StateError
            If the rollups that a range needs are damaged, and rows that they have counted were pruned.
        """
        check_choice(window, "window", (*WINDOWS, *LONG_WINDOWS))
        check_labels(labels)
        check_choice(detail, "detail", DETAILS)
        wanted = check_range(since, until, segment)
        if wanted.since is not None or wanted.until is not None:
            check_choice(window, "window of a report with since or until", ("all",))
        threshold = stream.settings().abstain_threshold
        told = {"model": stream.model, "version": stream.version, "labels": labels, "detail": detail}
        if wanted == Range() and window in WINDOWS:
            return self._of_window(stream, window, labels, threshold, told)
        try:
            return self._of_range(stream, window, wanted, labels, threshold, told)
        except StateError as damage:
            followed = self._of(stream)
            with followed.lock:
                followed.begin_anew(damage)
            return self._of_range(stream, window, wanted, labels, threshold, told)

    def _of_window(
        self, stream: Stream, window: str, labels: str, threshold: float | None, told: dict[str, Any]
    ) -> dict[str, Any]:
        """A report off the sums in memory."""
        since, full = self._since(window), told["detail"] == "full"
        key = ("report", window, labels, told["detail"])
        with self._fresh(stream) as followed:
            position = (followed.summary.position, since, threshold, followed.behind)
            known = followed.answers.get(key)
            if known is not None and (known[0] == position or (full and _is_recent(known))):
                return dict(known[2])
            as_of = _as_of(followed)
            sample = self._sample(followed, since, labels, threshold, exact=full)
        start = None if since is None else float(since * _DAY)
        span = {"name": window, "since": start, "until": None}
        head = {**told, "as_of": as_of, "window": span, "segment": None}
        note = _of_shares(stream, sample, start, labels)
        if not full:
            answer = {**head, **_with_note(content_of(sample, threshold, full=False), note)}
        else:
            with followed.computing:
                known = followed.answers.get(key)
                if known is not None and _is_recent(known):
                    return dict(known[2])
                answer = {**head, **_with_note(content_of(sample, threshold, full=True), note)}
                followed.keep(key, (position, time.monotonic(), answer))
        followed.keep(key, (position, time.monotonic(), answer))
        return dict(answer)

    def _of_range(
        self, stream: Stream, window: str, wanted: Range, labels: str, threshold: float | None, told: dict[str, Any]
    ) -> dict[str, Any]:
        """A report off the rollups, and what is not in them yet; it may be a few seconds old."""
        since = self._since(window)
        if since is not None:
            wanted = wanted._replace(since=float(since * _DAY))
        key, full = ("range", window, wanted, labels, told["detail"]), told["detail"] == "full"
        with self._fresh(stream) as followed:
            known = followed.answers.get(key)
            if known is not None and known[0] == threshold and _is_recent(known):
                return dict(known[2])
            names = followed.summary.names
            news, as_of = followed.summary.news.delta(names), _as_of(followed)
            anew, begun = followed.anew, followed.summary.news.since
        if anew:
            followed.save_if_due(now=True)
        with followed.computing:
            how = {"most_groups": None} if full else {}
            found = sample_of_range(stream, wanted, news, labels, () if threshold is None else (threshold,), **how)
            note = _of_shares(stream, found.sample, found.since, labels)
            content = _with_note(content_of(found.sample, threshold, full=full), note)
        if found.position < begun:  # somebody makes the rollups anew, and is not as far again
            with followed.lock:
                followed.load()
            return self._of_range(stream, window, wanted, labels, threshold, told)
        as_of["seq"] = max(as_of["seq"], found.position)
        is_named = wanted.until is None and (window != "all" or wanted.since is None)
        span = {"name": window if is_named else "range", "since": found.since, "until": found.until}
        is_among_others = wanted.segment is not None and content["n_predictions"] == 0 and len(names) >= OTHER
        notes = [*found.notes, _AMONG_OTHERS * is_among_others, content["note"]]
        answer = {
            **told,
            "as_of": as_of,
            "window": span,
            "segment": wanted.segment,
            **content,
            "note": " ".join(filter(None, notes)),
        }
        followed.keep(key, (threshold, time.monotonic(), answer))
        return dict(answer)

    def timeline(self, stream: Stream, by: str = "day", last: int = 90) -> dict[str, Any]:
        """How the numbers went, hour by hour or day by day, with what was published and what was alarming.

        Parameters
        ----------
        stream : Stream
            Of which.
        by : {"hour", "day"}
            The last 14 days by hour, or the last two years by day.
        last : int
            So many points at most.
        """
        check_choice(by, "by", ("hour", "day"))
        with self._fresh(stream) as followed:
            points = timeline_of(followed.summary, by, last)
        since = points[0]["at"] if points else None
        return {"by": by, "points": points, **_marks(stream, since)}

    def segments(self, stream: Stream, window: str = "all") -> dict[str, Any]:
        """The segments next to each other, the largest first."""
        since, key = self._since(check_choice(window, "window", tuple(WINDOWS))), ("segments", window)
        with self._fresh(stream) as followed:
            position = (followed.summary.position, since)
            known = followed.answers.get(key)
            if known is None or (known[0] != position and not _is_recent(known)):
                known = (position, time.monotonic(), segments_of(followed.summary, since))
                followed.keep(key, known)
            return dict(known[2])

    def headline(self, stream: Stream) -> dict[str, Any]:
        """Three numbers: how many outcomes are known, and ECE and log loss of what was served.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> store = open_store("sqlite://")
        >>> Reports(store).headline(store.stream("churn", "1", classes=[0, 1]))
        {'n_labelled': 0, 'ece': None, 'log_loss': None}
        """
        with self._fresh(stream) as followed:
            sample = self._sample(followed, None, "all")
        if not sample.n_labelled:
            return {"n_labelled": 0, "ece": None, "log_loss": None}
        found = sample.served.measure(top_label=sample.top_label, only=("ece", "log_loss")).metrics
        return {"n_labelled": sample.n_labelled, "ece": found["ece"], "log_loss": found.get("log_loss")}

    def labelled(self, stream: Stream) -> ScoreStatistics:
        """All labelled rows as they are, without weights: statistics of what was served."""
        with self._fresh(stream) as followed:
            sample = self._sample(followed, None, "all")
        return replace(sample, weights=(1.0, 1.0)).served if sample.n_labelled else ScoreStatistics()

    def overview(self, stream: Stream) -> dict[str, Any]:
        """One row for one stream: how it is, in a word, a sentence and a few numbers about all there is."""
        report = self.report(stream)
        with self._fresh(stream) as followed:
            last = (followed.summary.last_prediction_at, followed.summary.last_outcome_at)
        return overview_of(stream, report, lambda: self.report(stream, "7d"), last, self.monitor, self.clock())

    def summary(self, stream: Stream) -> StreamSummary:
        """The sums of the stream, brought up to date; to be read, not changed."""
        with self._fresh(stream) as followed:
            return followed.summary

    # --- keeping up ---------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event, poll: float = 1.0) -> None:
        """Follow all streams and save what they add up to, until told to stop."""
        self._is_followed = True
        while not stop.is_set():
            try:
                new = self.turn()
            except StoreError as error:
                _logger.warning("Waiting for the store: %s", error)
                new = 0
            if not new:
                stop.wait(poll)
        self._is_followed = False
        self.save()

    def turn(self) -> int:
        """Take what is new in all streams, some thousand entries each; how many entries were taken."""
        total = 0
        for stream in self.store.streams():
            try:
                total += self._follow(stream)
            except StoreError:
                raise
            except Exception as error:  # of one stream: the others must go on
                _logger.error("%s is not summed up: %s", stream.subject, error, exc_info=True)
        return total

    def save(self) -> None:
        """Save what is not saved yet."""
        for followed in list(self._followed.values()):
            self._save(followed, now=True)

    def _save(self, followed: Followed, *, now: bool) -> None:
        try:
            followed.save_if_due(now=now)
        except CaliberError as error:
            _logger.warning("The summary of %s was not saved: %s", followed.stream.subject, error)

    def _follow(self, stream: Stream) -> int:
        log_end = stream.log_end()
        known = self._followed.get((stream.model, stream.version))
        if known is None and (stream.summary_position() or 0) >= log_end:
            return 0  # somebody has done it, and nobody asks here
        if known is not None and known.is_saved_up_to(log_end):
            return 0
        followed = self._of(stream)
        followed.stream = stream
        taken = followed.follow(log_end)
        followed.save_if_due()
        return taken

    @contextmanager
    def _fresh(self, stream: Stream) -> Iterator[Followed]:
        """The stream's summary with the newest entries in it, ours as long as the context lasts."""
        followed, log_end = self._of(stream), stream.log_end()
        with followed.lock:
            followed.stream = stream
            followed.advance(log_end, _followed.A_FEW if self._is_followed else _followed.MOST_AT_ONCE)
            yield followed
        if followed.is_full:
            self._save(followed, now=False)

    def _of(self, stream: Stream) -> Followed:
        key = (stream.model, stream.version)
        with self._lock:
            found = self._followed.get(key)
            if found is not None:
                self._followed.move_to_end(key)
                return found
        loaded = Followed.of(stream)
        with self._lock:
            found = self._followed.setdefault(key, loaded)
            self._make_room()
            return found

    def _make_room(self) -> None:
        """Forget the summaries that nobody has asked for the longest; what they knew is in the log."""
        while len(self._followed) > 1:
            total = sum(each.summary.nbytes for each in self._followed.values())
            if len(self._followed) <= self._max_streams and total <= self._max_bytes:
                return
            self._followed.popitem(last=False)

    def _sample(
        self,
        followed: Followed,
        since: int | None,
        labels: str,
        threshold: float | None = None,
        *,
        exact: bool = False,
    ) -> Sample:
        """The labelled rows of a window; what is held is the lock of the stream's summary."""
        key = (followed, since, labels)
        with self._lock:
            sums = self._sums.pop(key, None) or WindowSums(since, labels)
            self._sums[key] = sums
            while len(self._sums) > _MOST_SUMS:
                self._sums.popitem(last=False)
        thresholds = () if threshold is None else (threshold,)
        return sums.sample(followed.summary, thresholds, **({"most_groups": None} if exact else {}))

    def _since(self, window: str) -> int | None:
        """The first UTC day of a window."""
        days = {**WINDOWS, **LONG_WINDOWS}[window]
        return None if days is None else int(self.clock() // _DAY) - days


def _is_recent(known: tuple[Any, float, dict[str, Any]]) -> bool:
    return time.monotonic() - known[1] < _BELIEVED


def _of_shares(stream: Stream, sample: Sample, since: float | None, labels: str) -> str:
    """What to know of audits that stand for different shares of the predictions."""
    if labels != "all" or sample.n_labelled in (0, sample.n_predictions):
        return ""
    at = stream.audit_share_changed_at()
    if at is None or (since is not None and since >= at):
        return ""
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))
    return (
        f"The share of answers that is audited was changed at {when} UTC: only a report since then weighs them fairly."
    )


def _with_note(content: dict[str, Any], note: str) -> dict[str, Any]:
    return {**content, "note": " ".join(filter(None, [content["note"], note]))}


def _as_of(followed: Followed) -> dict[str, Any]:
    return {"seq": followed.summary.position, "at": followed.summary.at, "behind": followed.behind}


def _marks(stream: Stream, since: float | None) -> dict[str, Any]:
    """The revisions and alarms of a timeline."""
    revisions = [
        {name: getattr(each, name) for name in ("number", "revision", "created_at", "n_learned")}
        for each in stream.last_revisions(_MOST_MARKS)
        if since is None or each.created_at >= since
    ]
    names = ("kind", "key", "severity", "sentence", "opened_at", "resolved_at")
    alarms = [{name: getattr(each, name) for name in names} for each in stream.last_alarms(_MOST_MARKS)]
    return {"revisions": revisions, "alarms": alarms}

"""Notices on their way: each to every sink, in order, tried again until it is taken."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_caliber.exceptions import StoreError
from mlflow_caliber.live._alerts import DeliveryError, Notice, Sink
from mlflow_caliber.store import Stream

__all__ = ["Outbox"]

_MOST = 1_000
_logger = logging.getLogger(__name__)


@dataclass
class _Entry:
    notice: Notice
    stream: Stream
    missing: list[Sink]


class Outbox:
    """Notices that not every sink has taken.

    Parameters
    ----------
    sinks : sequence of Sink
        Who is told. Without any, nobody is, and no alarm is noted as told.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)
        self._entries: list[_Entry] = []

    def add(self, notice: Notice, stream: Stream) -> None:
        """Take a notice, unless it is waiting already. What has no room now comes again at the next turn."""
        waiting = {entry.notice.id for entry in self._entries}
        if self._sinks and notice.id not in waiting and len(self._entries) < _MOST:
            self._entries.append(_Entry(notice, stream, list(self._sinks)))

    def deliver(self, now: float) -> None:
        """Send what is waiting. Whoever fails is left alone until the next time; the others are not held up."""
        for sink in self._sinks:
            self._deliver_to(sink, now)
        self._entries = [entry for entry in self._entries if entry.missing or not _noted(entry, now)]

    def _deliver_to(self, sink: Sink, now: float) -> None:
        for entry in self._entries:
            if sink not in entry.missing:
                continue
            try:
                sink.send(entry.notice, now)
            except Exception as error:  # a sink may be anybody's, and none may stop the monitor
                why = str(error) if isinstance(error, DeliveryError) else f"{type(error).__name__}."
                _logger.warning("%s could not tell of an alarm and tries again: %s", type(sink).__name__, why)
                return
            entry.missing.remove(sink)


def _noted(entry: _Entry, now: float) -> bool:
    if entry.notice.event == "resolved":
        return True
    try:
        entry.stream.mark_notified(entry.notice.alarm.id, now)
    except StoreError as error:
        _logger.warning("The store could not note that an alarm was told: %s", error)
        return False
    return True

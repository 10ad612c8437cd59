"""The monitor: it looks at every stream, keeps the alarms of the store true, and tells of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mlflow_caliber.exceptions import CaliberError
from mlflow_caliber.live._alerts import Notice, Sink
from mlflow_caliber.live._judge import MONITORED_KINDS, Finding, is_undecided, judge
from mlflow_caliber.live._observation import Observation
from mlflow_caliber.live._observe import observe
from mlflow_caliber.live._outbox import Outbox
from mlflow_caliber.live._profiles import ModelProfiles, Reference
from mlflow_caliber.live._settings import MonitorSettings
from mlflow_caliber.store import Alarm, Store, Stream

__all__ = ["Monitor"]

# Looking may take this share of the time at most.
_SHARE = 0.1
_DAY = 86_400.0
_logger = logging.getLogger(__name__)


class Monitor:
    """Watches the streams of a store.

    An alarm is opened when its cause is first seen, and resolved when it was not seen for a while; each opening,
    each reminder and each end is told once to every sink. What was told is noted in the store, so that a restart tells
    nothing twice. A version that is silent because another one of its model is asked instead is no alarm. Alarms of
    other kinds, such as the worker's ``harm``, are told and left alone.

    Parameters
    ----------
    store : Store
        Where the streams are.
    settings : MonitorSettings, optional
        When it is satisfied.
    sinks : sequence of Sink
        Who is told.
    name : str, optional
        The worker's: then streams that another worker learns from are left to the monitor beside it.
    references : callable, optional
        Gives the drift profile of a stream's model at a time; by default it is read from MLflow's registry.

    Examples
    --------
    >>> from mlflow_caliber.live import LogSink, Monitor
    >>> from mlflow_caliber.store import open_store
    >>> store = open_store("sqlite://", clock=lambda: 0.0)
    >>> stream = store.stream("churn", "1", classes=[0, 1])
    >>> stream.report_replica("host:1", "3f2a", 7, "")
    >>> Monitor(store, sinks=[LogSink()]).turn(now=60.0)
    >>> [(alarm.kind, alarm.key, alarm.notified_at) for alarm in stream.open_alarms()]
    [('dropped', 'host:1', 60.0)]
    """

    def __init__(
        self,
        store: Store,
        settings: MonitorSettings | None = None,
        sinks: Sequence[Sink] = (),
        *,
        name: str | None = None,
        references: Callable[[Stream, float], Reference] | None = None,
    ) -> None:
        self.store = store
        self.settings = settings or MonitorSettings()
        self._outbox = Outbox(sinks)
        self._name = name
        self._references = references or ModelProfiles()
        self._open: dict[tuple[str, str], dict[int, Alarm]] = {}

    def run(self, stop: threading.Event) -> None:
        """Look now and then, until told to stop."""
        pause = self.settings.monitor_every_seconds
        while not stop.wait(pause):
            start = time.monotonic()
            self.turn()
            pause = max(self.settings.monitor_every_seconds, (time.monotonic() - start) / _SHARE)

    def turn(self, now: float | None = None) -> None:
        """Look at every stream once, and tell what there is to tell; never fails.

        Parameters
        ----------
        now : float, optional
            Seconds since 1970; by default this machine's clock.
        """
        now = time.time() if now is None else now
        try:
            streams = self.store.streams()
        except CaliberError as error:
            _logger.warning("Not monitored: %s", error)
            streams = ()
        for stream in streams:
            try:
                self._watch(stream, now)
            except Exception as error:  # one stream must not keep the others from being watched
                why = str(error) if isinstance(error, CaliberError) else f"{type(error).__name__}."
                _logger.error("%s was not monitored: %s", stream.subject, why)
        self._outbox.deliver(now)

    def _watch(self, stream: Stream, now: float) -> None:
        if not self._is_ours(stream, now):
            return
        before = {alarm.id: alarm for alarm in stream.open_alarms()}
        before |= self._open.get((stream.model, stream.version), {})
        profile, note = self._references(stream, now)
        seen = observe(stream, settings=self.settings, reference=profile, reference_note=note, now=now)
        self._update_alarms(stream, seen)
        after = {alarm.id: alarm for alarm in stream.open_alarms()}
        self._open[stream.model, stream.version] = after
        for alarm in before.values():
            if alarm.id not in after:
                self._tell("resolved", stream, replace(alarm, resolved_at=now))
        for alarm in after.values():
            self._tell_if_due(stream, alarm, now)
        stream.save_observation(_kept(seen), at=now)

    def _is_ours(self, stream: Stream, now: float) -> bool:
        learner = None if self._name is None else stream.learner()
        return learner is None or learner.holder in {None, self._name} or learner.lease_expires_at <= now

    def _update_alarms(self, stream: Stream, seen: Observation) -> None:
        found = self._findings(stream, seen)
        for each in found:
            stream.raise_alarm(each.kind, each.key, each.severity, each.sentence, each.evidence, now=seen.at)
        named = {(each.kind, each.key) for each in found}
        for alarm in stream.open_alarms():
            decided = alarm.kind in MONITORED_KINDS and not is_undecided(seen, alarm.kind, alarm.key)
            gone = seen.at - alarm.last_seen_at >= self.settings.resolve_after_minutes * 60.0
            if decided and gone and (alarm.kind, alarm.key) not in named:
                stream.resolve_alarm(alarm.kind, alarm.key, now=seen.at)

    def _findings(self, stream: Stream, seen: Observation) -> list[Finding]:
        found = judge(seen, self.settings)
        if any(each.kind == "silence" for each in found) and self._is_superseded(stream, seen.at):
            return [each for each in found if each.kind != "silence"]
        return found

    def _is_superseded(self, stream: Stream, now: float) -> bool:
        """Whether another version of the model is asked instead: then nobody waits for this one."""
        since = now - self.settings.silence_predictions_days * _DAY
        others = (each for each in self.store.streams() if each.model == stream.model)
        return any(len(each.rows(since=max(0.0, since), limit=1)) for each in others if each.version != stream.version)

    def _tell_if_due(self, stream: Stream, alarm: Alarm, now: float) -> None:
        if alarm.notified_at is None:
            self._tell("opened", stream, alarm)
        elif now - alarm.notified_at >= self.settings.cooldown_hours * 3_600.0:
            self._tell("reminder", stream, alarm)

    def _tell(self, event: str, stream: Stream, alarm: Alarm) -> None:
        self._outbox.add(Notice(event=event, model=stream.model, version=stream.version, alarm=alarm), stream)


def _kept(seen: Observation) -> dict[str, Any]:
    """What of an observation is kept for those who ask: all but the report, which they have from newer rows."""
    content = seen.to_dict()
    content["window"]["report"] = None
    return content

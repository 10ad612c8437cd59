"""A look at one stream: everything is read, nothing is written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.live._learner import StreamLearner
from mlflow_caliber.live._observation import AlarmState, Learning, Observation, ReplicaState, Served
from mlflow_caliber.live._settings import MonitorSettings
from mlflow_caliber.live._window import look_at_window
from mlflow_caliber.online import CalibrationAlarm
from mlflow_caliber.store import Learner, Replica, Revision, Stream

__all__ = ["MANY_UNREAD", "observe"]

MANY_UNREAD = 2_001
"""More entries than a worker takes at once: whoever is so far behind is slow, and does not merely wait to save."""

_TIME_TO_FOLLOW = 60.0


def observe(
    stream: Stream,
    *,
    settings: MonitorSettings | None = None,
    reference: Mapping[str, Any] | None = None,
    reference_note: str = "",
    now: float | None = None,
) -> Observation:
    """See how a stream is: what is served, how far it can be relied on, what is learned, who serves and who is silent.

    Parameters
    ----------
    stream : Stream
        Which.
    settings : MonitorSettings, optional
        The window, and what counts as silent.
    reference : mapping, optional
        The model's own profile (:func:`~mlflow_caliber.drift.feature_profile`); without it there is no drift.
    reference_note : str
        Why there is no reference, as a sentence.
    now : float, optional
        Seconds since 1970, by the store's clock; by default this machine's.

    Returns
    -------
    Observation

    Raises
    ------
    StoreError
        If the store does not answer.

    Examples
    --------
    >>> from mlflow_caliber.store import open_store
    >>> seen = observe(open_store("sqlite://").stream("churn", "1", classes=[0, 1]), now=0.0)
    >>> seen.window.report_note
    'There is no report: 0 predictions of the last 7 days have settled outcomes, and 100 are needed.'
    """
    settings = settings or MonitorSettings()
    now = time.time() if now is None else now
    first = stream.log(limit=1)
    current = stream.current()
    return Observation(
        model=stream.model,
        version=stream.version,
        at=now,
        is_learned=stream.positive is not None,
        first_at=first[0].recorded_at if first else None,
        counts=stream.counts(),
        served=_served(stream, current),
        window=look_at_window(stream, settings, reference, reference_note, now),
        learning=_learning(stream, stream.learner(), now),
        replicas=tuple(_replica(replica, current, settings, now) for replica in stream.replicas()),
    )


def _served(stream: Stream, current: Revision | None) -> Served:
    if current is None:
        return Served(number=0, revision="", pinned=_exists(stream, 1), published_at=None, n_learned=0)
    return Served(
        number=current.number,
        revision=current.revision,
        pinned=_exists(stream, current.number + 1),
        published_at=current.created_at,
        n_learned=current.n_learned,
    )


def _exists(stream: Stream, number: int) -> bool:
    """Whether there is a revision of that number; one newer than the served one means that this is pinned."""
    try:
        stream.revision(number)
    except InvalidInputError:
        return False
    return True


def _learning(stream: Stream, learner: Learner | None, now: float) -> Learning | None:
    if learner is None:
        return None
    unread = stream.log(after=learner.position, limit=MANY_UNREAD)
    how_far: dict[str, Any] = {
        "holder": learner.holder if now < learner.lease_expires_at else None,
        "position": learner.position,
        "unread": len(unread),
        "lag_seconds": max(0.0, now - unread[0].recorded_at) if unread else 0.0,
    }
    if learner.state is None:
        return Learning(**how_far)
    try:
        state = StreamLearner.from_bytes(learner.state)
    except StateError as error:
        return Learning(**how_far, trouble=str(error))
    return Learning(
        **how_far,
        n_waiting=state.n_waiting,
        excess=state.excess,
        base=_alarm(state.base_alarm),
        served=_alarm(state.served_alarm),
        **asdict(state.counts),
    )


def _alarm(alarm: CalibrationAlarm) -> AlarmState:
    # Not `raised`, which stays: what was mended should not be complained of for ever.
    raised = alarm.n_seen > 0 and (alarm.e_value >= 1.0 / alarm.alpha or alarm.cusum >= alarm.run_length)
    return AlarmState(raised=raised, log_e_value=alarm.log_e_value, n_seen=alarm.n_seen)


def _replica(replica: Replica, current: Revision | None, settings: MonitorSettings, now: float) -> ReplicaState:
    """How a serving process is. What digest the shipped calibrator has is not known here, so nothing is stale to it."""
    other = current is not None and replica.revision != current.revision
    had_time = current is not None and replica.seen_at > current.created_at + _TIME_TO_FOLLOW
    silent = now - replica.seen_at > settings.silence_replicas_minutes * 60.0
    return ReplicaState(**vars(replica), silent=silent, stale=other and had_time and not silent)

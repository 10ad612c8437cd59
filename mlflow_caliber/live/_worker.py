"""The worker: it learns from the log of each stream, alone, and publishes what it learned.

It may be killed at any time. What it knows and how far it has read are written in one transaction, together with what
it publishes; whoever comes next goes on from there and arrives at the same state.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlflow_caliber._validation import check_at_least, check_count
from mlflow_caliber.exceptions import LeaseLostError, StateError, StoreError
from mlflow_caliber.live._learner import Observed, Predicted, StreamLearner
from mlflow_caliber.store import Lease, LogEntry, NewRevision, Prediction, Store, Stream

__all__ = ["Worker", "WorkerSettings", "readable"]

_DAY = 86_400.0
_BATCH = 2_000
_STATE_FORMAT = "caliber-learner/1"
# Writing the state down may take this share of the time at most; what is read again after a kill is bounded by it.
_CHECKPOINT_SHARE = 0.05
_CHEAP = 0.25  # seconds; what costs less is written down with every revision
_ACTOR = "worker"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """When a worker publishes, and what it promises.

    Parameters
    ----------
    every_outcomes : int, default=100
        A revision is published once so many outcomes have been learned since the last one,
    every_seconds : float, default=60
        or once so much time has passed and there is anything new.
    horizon : float, default=30 days
        Seconds after which an outcome is not waited for any more.
    max_harm : float, default=25
        Nats that serving may have cost against the shipped model, over all learned outcomes. Beyond it the shipped
        calibrator is pinned and the alarm ``harm`` raised; only a person lets go of it.
    lease : float, default=30
        Seconds after which another worker may take over from one that is silent.

    Raises
    ------
    InvalidInputError
        For a value out of range.
    """

    every_outcomes: int = 100
    every_seconds: float = 60.0
    horizon: float = 30.0 * _DAY
    max_harm: float = 25.0
    lease: float = 30.0

    def __post_init__(self) -> None:
        check_count(self.every_outcomes, "every_outcomes")
        for name in ("every_seconds", "horizon", "max_harm"):
            check_at_least(getattr(self, name), name, 0.0)
        check_at_least(self.lease, "lease", 1.0)


@dataclass
class _Job:
    """A stream that is ours to learn from."""

    stream: Stream
    lease: Lease
    learner: StreamLearner
    n_published: int
    published_at: float
    renewed_at: float
    saved_position: int
    saved_at: float = -float("inf")
    cost_of_saving: float = 0.0


class Worker:
    """Learns from every stream of a store that nobody else is learning from.

    Parameters
    ----------
    store : Store
        Where the logs are.
    settings : WorkerSettings, optional
        When to publish.
    name : str, optional
        Who holds the leases; by default host, process and a random part.
    """

    def __init__(self, store: Store, settings: WorkerSettings | None = None, name: str | None = None) -> None:
        self.store = store
        self.settings = settings or WorkerSettings()
        self.name = name or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._jobs: dict[tuple[str, str], _Job] = {}
        # Left alone until this worker is started again.
        self._broken: set[tuple[str, str]] = set()

    def run(self, stop: threading.Event, poll: float = 1.0) -> int:
        """Work until told to stop, then let go of the leases. A store that is away is waited for.

        Returns
        -------
        int
            Entries of logs that were read.
        """
        total = 0
        while not stop.is_set():
            try:
                new = self.turn()
            except StoreError as error:
                _logger.warning("Waiting for the store: %s", error)
                self._jobs.clear()  # what was not written down is read again
                new = 0
            total += new
            if not new:
                stop.wait(poll)
        self.close()
        return total

    def turn(self) -> int:
        """Learn what is new, once around all streams.

        Returns
        -------
        int
            Entries of logs that were read; 0 when there was nothing to do.
        """
        return sum(self._learn(stream) for stream in self.store.streams() if _is_binary(stream))

    def close(self) -> None:
        """Write down what is known and let others have the leases."""
        for job in self._jobs.values():
            try:
                self._save(job, None)
                job.lease.release()
            except StoreError as error:
                _logger.warning("Left a lease to run out: %s", error)
        self._jobs.clear()

    def _learn(self, stream: Stream) -> int:
        key = (stream.model, stream.version)
        if key in self._broken:
            return 0
        try:
            job = self._jobs.get(key) or self._begin(stream)
            if job is None:
                return 0
            self._jobs[key] = job
            return self._go_on(job)
        except LeaseLostError as error:
            _logger.warning("%s", error)
            self._jobs.pop(key, None)
        except StoreError:
            raise
        except Exception as error:  # of one stream: the others must go on, and nothing is written over
            _logger.error("%s/%s cannot be learned: %s", *key, error, exc_info=not isinstance(error, StateError))
            self._jobs.pop(key, None)
            self._broken.add(key)
        return 0

    def _begin(self, stream: Stream) -> _Job | None:
        lease = stream.lease(self.name, self.settings.lease)
        if lease is None:
            return None
        try:
            learner = self._learner(stream)
        except StateError:
            lease.release()
            raise
        _logger.info("Learning %s/%s from entry %d on.", stream.model, stream.version, learner.position + 1)
        newest = stream.revisions()[-1:]
        published = newest[0].n_learned if newest else 0
        now = time.monotonic()
        return _Job(stream, lease, learner, published, now, renewed_at=now, saved_position=learner.position)

    def _learner(self, stream: Stream) -> StreamLearner:
        known = stream.learner()
        if known is None or known.state is None:
            return StreamLearner(horizon=self.settings.horizon)
        if known.state_format != _STATE_FORMAT:
            raise StateError(f"its state must be of the format {_STATE_FORMAT}, got {known.state_format!r}.")
        learner = StreamLearner.from_bytes(known.state)
        learner.horizon = self.settings.horizon
        return learner

    def _go_on(self, job: _Job) -> int:
        entries = job.stream.log(after=job.learner.position, limit=_BATCH)
        if entries:
            job.learner.take(readable(job.stream, entries), upto=entries[-1].seq)
        revision = self._due(job)
        if revision is not None or (job.learner.position > job.saved_position and _may_save(job)):
            self._save(job, revision)
        if time.monotonic() - job.renewed_at > self.settings.lease / 3.0:
            job.lease.renew()
            job.renewed_at = time.monotonic()
        self._stop_harm(job)
        return len(entries)

    def _due(self, job: _Job) -> NewRevision | None:
        """What is to be published now."""
        learner = job.learner
        new = learner.counts.learned - job.n_published
        waited = time.monotonic() - job.published_at
        if job.cost_of_saving > _CHEAP and not _may_save(job):
            return None
        if new < self.settings.every_outcomes and not (new > 0 and waited >= self.settings.every_seconds):
            return None
        content = learner.recalibrator.snapshot().to_dict()
        return NewRevision(
            revision=_digest(content),
            map=content,
            n_learned=learner.counts.learned,
            metrics={"excess": learner.excess, "base_e_value_log": learner.base_alarm.log_e_value},
        )

    def _save(self, job: _Job, revision: NewRevision | None) -> None:
        start = time.monotonic()
        learner = job.learner
        state = learner.to_bytes()
        job.lease.checkpoint(learner.position, state, revision, state_format=_STATE_FORMAT, settled=learner.settled)
        job.saved_at, job.saved_position = time.monotonic(), job.learner.position
        job.cost_of_saving = job.saved_at - start
        if revision is not None:
            job.n_published, job.published_at = revision.n_learned, job.saved_at
            _logger.info("Published revision %s after %d outcomes.", revision.revision, revision.n_learned)

    def _stop_harm(self, job: _Job) -> None:
        """Serve the shipped calibrator again once the recalibrated one has cost too much."""
        learner = job.learner
        harm = learner.excess - learner.forgiven
        if harm <= self.settings.max_harm:
            return
        sentence = (
            f"Recalibration has cost {harm:.1f} nats against the shipped model, of {self.settings.max_harm:g} allowed, "
            f"over {learner.counts.learned} outcomes: the shipped calibrator is pinned. Find out what has changed in "
            "the data or in how outcomes are made, before it is unpinned."
        )
        # In this order: whoever is killed in between does it again.
        job.stream.pin(0, _ACTOR)
        job.stream.raise_alarm("harm", "served", "critical", sentence, {"excess": learner.excess})
        learner.forgiven = learner.excess
        self._save(job, None)
        _logger.error("%s", sentence)


def _may_save(job: _Job) -> bool:
    return time.monotonic() - job.saved_at > job.cost_of_saving / _CHECKPOINT_SHARE


def _is_binary(stream: Stream) -> bool:
    return stream.classes is not None and len(stream.classes) == 2 and stream.positive is not None


def readable(stream: Stream, entries: Sequence[LogEntry]) -> Iterator[Predicted | Observed]:
    """The entries that teach something. Rows that the model could not score do not."""
    for entry in entries:
        event = entry.event
        if not isinstance(event, Prediction):
            y = int(event.outcome == stream.positive)
            yield Observed(entry.seq, entry.recorded_at, event.prediction_id, y, entry.known, entry.correction)
        elif event.reason != "unscorable_row":
            base, served = event.base_probability, event.probability
            yield Predicted(entry.seq, entry.recorded_at, event.prediction_id, base, served, event.segment)


def _digest(content: object) -> str:
    """Twelve hex digits of a map: equal maps are one revision."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]

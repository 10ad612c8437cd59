"""What is going on, told to whoever looks: the log is read a few times a second, whatever process wrote it.

All viewers of the same streams get the same bytes, made once. Each has a short queue of its own: whoever reads too
slowly misses frames and is told how many, and nobody waits for them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlflow_caliber.exceptions import CaliberError
from mlflow_caliber.store import Attention, Said, Store, Stream, Tail

__all__ = ["Broadcaster", "Frame", "Viewer", "frame_text"]

_EVERY, _AT_LEAST_EVERY = 0.5, 1.0
# What changes seldom is looked up seldom.
_STATE_EVERY = 2.0
_QUEUED = 8
# So many texts are sent at a time: with many viewers of single predictions, each is shown fewer of the newest.
_SENDS = 400
_SAMPLE = 20
_logger = logging.getLogger(__name__)


class State(NamedTuple):
    """What waits for somebody, and what is served."""

    open_alarms: int = 0
    newest_alarm: int = 0
    open_reviews: int = 0
    revision: int = 0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What is new of one stream."""

    stream: Stream
    tail: Tail
    rate: float
    state: State

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "model": self.stream.model,
            "version": self.stream.version,
            "seq": self.tail.seq,
            "n_predictions": self.tail.n_predictions,
            "n_outcomes": self.tail.n_outcomes,
            "n_abstained": self.tail.n_abstained,
            "rate": round(self.rate, 3),
            "sample": [_sampled(said) for said in self.tail.newest],
            **self.state._asdict(),
        }


@dataclass(eq=False)
class Viewer:
    """One WebSocket: what it may and wants to see, and the texts that wait for it."""

    wants: Callable[[Stream], bool]
    write: Callable[[float, list[Frame]], list[str]]
    group: Any
    queue: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(_QUEUED))
    missed: int = 0

    def offer(self, texts: Iterable[str]) -> int:
        """Queue the texts; how many had no room."""
        dropped = 0
        for text in texts:
            try:
                self.queue.put_nowait(text)
            except asyncio.QueueFull:
                dropped += 1
        self.missed += dropped
        return dropped


def frame_text(at: float, frames: list[Frame]) -> list[str]:
    """The message of our own pages and clients."""
    return [json.dumps({"type": "frame", "at": at, "streams": [frame.to_dict() for frame in frames]})]


class Broadcaster:
    """Reads the logs that somebody looks at, and tells everybody who does.

    Parameters
    ----------
    store : Store
        Where the logs are.
    dropped : callable, optional
        Told how many frames could not be queued.
    """

    def __init__(self, store: Store, dropped: Callable[[int], None] | None = None) -> None:
        self._store = store
        self._dropped = dropped or (lambda n: None)
        self._viewers: set[Viewer] = set()
        self._woken = asyncio.Event()
        self._seen: dict[int, int] = {}
        self._streams: tuple[Stream, ...] = ()
        self._state: dict[int, State] = {}
        self._told: dict[int, State] = {}
        self._state_at = -float("inf")

    def add(self, viewer: Viewer) -> None:
        """From now on it is told."""
        self._viewers.add(viewer)
        self._woken.set()

    def remove(self, viewer: Viewer) -> None:
        """It is told no more."""
        self._viewers.discard(viewer)

    async def run(self) -> None:
        """Go on until cancelled. A store that is away is waited for, and the heartbeat stops meanwhile."""
        last, told = time.monotonic(), -float("inf")
        while True:
            if not self._viewers:
                self._woken.clear()
                self._seen.clear()
                await self._woken.wait()
            now = time.monotonic()
            try:
                frames = await asyncio.to_thread(self._look, list(self._viewers), now - last)
            except CaliberError as error:
                _logger.warning("Nothing to tell: %s", error)
            else:
                if frames or now - told >= _AT_LEAST_EVERY:
                    self._tell(frames)
                    told = now
            last = now
            await asyncio.sleep(_EVERY)

    def _look(self, viewers: list[Viewer], seconds: float) -> list[Frame]:
        """What is new of the streams that anybody wants."""
        ends = self._store.ends()
        if time.monotonic() - self._state_at > _STATE_EVERY or ends.keys() != {each.id for each in self._streams}:
            self._look_up_state(viewers)
        frames = []
        for stream in self._streams:
            if not any(viewer.wants(stream) for viewer in viewers):
                continue
            frame = self._news(stream, ends.get(stream.id, 0), seconds)
            if frame is not None:
                frames.append(frame)
        return frames

    def _news(self, stream: Stream, end: int, seconds: float) -> Frame | None:
        """A frame of the stream, if there is anything new of it: entries, alarms, cases, a revision."""
        before, state = self._seen.setdefault(stream.id, end), self._state.get(stream.id, State())
        if end <= before and self._told.setdefault(stream.id, state) == state:
            return None
        tail = stream.tail(before, _SAMPLE)
        self._seen[stream.id], self._told[stream.id] = tail.seq, state
        rate = (tail.n_predictions + tail.n_outcomes) / max(seconds, _EVERY)
        return Frame(stream=stream, tail=tail, rate=rate, state=state)

    def _look_up_state(self, viewers: list[Viewer]) -> None:
        self._streams, attention = self._store.streams(), self._store.attention()
        self._state_at = time.monotonic()
        for stream in self._streams:
            if any(viewer.wants(stream) for viewer in viewers):
                current, waits = stream.current(), attention.get(stream.id, Attention())
                revision = 0 if current is None else current.number
                self._state[stream.id] = State(sum(waits.alarms.values()), waits.newest_alarm, waits.reviews, revision)

    def _tell(self, frames: list[Frame]) -> None:
        at = time.time()
        texts: dict[Any, list[str]] = {}
        most = max(1, _SENDS // len(self._viewers)) if self._viewers else 1
        dropped = 0
        for viewer in list(self._viewers):
            if viewer.group not in texts:
                texts[viewer.group] = viewer.write(at, [frame for frame in frames if viewer.wants(frame.stream)])
            dropped += viewer.offer(texts[viewer.group][-most:])
        if dropped:
            self._dropped(dropped)


def _sampled(said: Said) -> dict[str, Any]:
    names = ("prediction_id", "confidence", "prediction", "abstained", "predicted_at")
    return {name: getattr(said.prediction, name) for name in names}

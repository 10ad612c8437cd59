"""The loop: a batch in, what it asks for done, what it leaves written, and only then its offsets committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Protocol, TypeVar

from mlflow_caliber.exceptions import SchemaVersionError, ServiceError, StoreError
from mlflow_caliber.kafka._clients import Clients
from mlflow_caliber.kafka._forward import Forwarder, dead_letter
from mlflow_caliber.kafka._messages import Letter, Message
from mlflow_caliber.kafka._settings import KafkaSettings
from mlflow_caliber.kafka._source import Place, Source, place_of
from mlflow_caliber.kafka._tally import Tally

if TYPE_CHECKING:
    from mlflow_caliber.kafka._record import Handled

__all__ = ["Handler", "Loop"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class Handler(Protocol):
    """What is done with a batch."""

    def __call__(self, messages: Sequence[Message], tally: Tally) -> Handled:
        """Do it; a :class:`StoreError` or :class:`ServiceError` is tried again."""

    def close(self) -> None:
        """Let go of what it holds."""


class Loop:
    """Reads, handles, writes and commits until told to stop.

    Parameters
    ----------
    settings : KafkaSettings
        Where messages come from.
    handle : Handler
        What is done with them.
    output : str, optional
        The topic of what the handler gives back.
    """

    def __init__(self, settings: KafkaSettings, handle: Handler, output: str | None = None) -> None:
        self.tally = Tally()
        self._settings, self._handle, self._output = settings, handle, output
        self._clients = Clients(settings)
        self._forwarders: list[Forwarder] = []
        self._reported = time.monotonic()

    def run(self, stop: Event) -> Tally:
        """Until told to stop; the batch in hand is finished, or left to the next one if that cannot be."""
        topics = [self._settings.dead_topic, *([self._output] if self._output else [])]
        partitions = self._clients.wait_for_topics(topics, stop)
        if not partitions:
            return self.tally
        group = self._settings.group
        self._forwarders = [
            Forwarder(self._clients, topic, partitions[topic], group, cuts=topic != self._output) for topic in topics
        ]
        source = Source(self._settings, self._clients, self.tally, self._moved)
        try:
            while not stop.is_set():
                source.fill()
                if source.hand:
                    self._carry(source, stop)
                else:
                    source.commit_behind()
                self._report(source)
            self.tally.lag = source.lag()
        finally:
            source.close()
            for forwarder in self._forwarders:
                forwarder.close()
            self._handle.close()
        return self.tally

    def _carry(self, source: Source, stop: Event) -> None:
        """Carry the hand through; what is not ours any more on the way is left out."""
        first = source.first_offsets()
        handled = self._insist(lambda: self._handle(source.hand, self.tally), source, stop)
        if handled is None:
            return
        if handled.letters or handled.outgoing:
            write = partial(self._write, handled, first, source)
            if self._insist(write, source, stop) is None:
                return
        source.commit()

    def _write(self, handled: Handled, first: dict[Place, int], source: Source) -> bool:
        """Write frames and dead letters; a frame that its topic does not take becomes a dead letter too."""
        ours, letters = source.places(), list(handled.letters)
        if self._output:
            frames = [each for each in handled.outgoing if place_of(each.message) in ours]
            written = self._forwarders[1].write(frames, first, source.confirm)
            self.tally.scored += written.n
            self.tally.forwarded_before += len(frames) - written.n - len(written.too_large)
            for each in written.too_large:
                size = len(each.value or b"")
                letters.append(Letter(each.message, f"Its frame of {size} bytes is too large for {self._output}."))
        # In the order of the source, which ends the search for what was written before.
        mine = sorted((each for each in letters if place_of(each.message) in ours), key=_order)
        n = self._forwarders[0].write([dead_letter(each) for each in mine], first, source.confirm).n
        self.tally.dead_letters += n
        self.tally.forwarded_before += len(mine) - n
        return True

    def _insist(self, act: Callable[[], Answer], source: Source, stop: Event) -> Answer | None:
        """Do it, and again while the store or Kafka is away; None if it was still to be done when told to stop."""
        pause, away = _FIRST_PAUSE, False
        while source.hand:
            try:
                done = act()
            except SchemaVersionError:
                raise
            except (StoreError, ServiceError) as error:
                if not away:
                    self.tally.outages += 1
                    _logger.warning("%s Nothing is lost: reading goes on when it answers.", error)
                away = True
                if stop.is_set():
                    _logger.warning("Stopped before the last batch was done; it will be read again.")
                    source.hand = []
                    break
                source.idle(pause)
                pause = min(2.0 * pause, _LONGEST_PAUSE)
                continue
            if away:
                _logger.info("It answers again.")
            return done
        return None

    def _moved(self, places: Iterable[Place]) -> None:
        for forwarder in self._forwarders:
            forwarder.forget(places)

    def _report(self, source: Source) -> None:
        now = time.monotonic()
        if now - self._reported >= self._settings.lag_every:
            self._reported = now
            self.tally.lag = source.lag()
            _logger.info("%s", self.tally.sentence())


def _order(letter: Letter) -> tuple[int, int]:
    return letter.message.partition(), letter.message.offset()

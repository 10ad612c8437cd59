"""Where messages come from: one member of a consumer group, with one batch in hand at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from mlflow_caliber.exceptions import ServiceError
from mlflow_caliber.kafka._clients import Clients, confluent_kafka, no_answer
from mlflow_caliber.kafka._messages import Message, headers_of
from mlflow_caliber.kafka._pace import Pace
from mlflow_caliber.kafka._settings import KafkaSettings
from mlflow_caliber.kafka._tally import Tally

__all__ = ["Place", "Source", "place_of"]

Place = tuple[str, int]
"""Topic and partition."""

# Seconds that a batch gathers: what a message waits at most when few come.
_GATHERING = 0.1
# A batch is over when its messages have so many bytes; they are asked for in portions, whose size nobody knows before.
_MOST_BYTES, _PORTION = 64 << 20, 200
_MOST_AHEAD = 50
_logger = logging.getLogger(__name__)


class Source:
    """Messages of a topic, shared with the other members of the group.

    ``hand`` is the batch that is being carried through; nothing more is read until :meth:`commit`. Partitions that go
    to another member take their messages out of the hand: whoever has them now reads them again.

    Parameters
    ----------
    settings : KafkaSettings
        Topic, group and size of a batch.
    clients : Clients
        What makes the consumer.
    tally : Tally
        Counts rebalances.
    moved : callable
        Told of the partitions that come or go.
    """

    def __init__(
        self, settings: KafkaSettings, clients: Clients, tally: Tally, moved: Callable[[Iterable[Place]], None]
    ) -> None:
        self.hand: list[Message] = []
        self._ahead: list[Message] = []
        self._behind: dict[Place, int] = {}  # offsets that could not be committed yet
        self._settings, self._clients, self._tally, self._moved = settings, clients, tally, moved
        self._library = confluent_kafka()
        self._consumer = clients.consumer()
        self._said = ""
        self._pace, self._filled_at = Pace(settings.batch, settings.properties), 0.0
        self._consumer.subscribe(
            [settings.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def fill(self) -> None:
        """Take the next batch into the hand: what is there, or nothing after a moment."""
        if self._ahead:
            n = self._pace.size
            self.hand, self._ahead = self._ahead[:n], self._ahead[n:]
        else:
            self.hand = self._read(self._pace.size, _GATHERING)
        self._filled_at = time.monotonic()

    def first_offsets(self) -> dict[Place, int]:
        """Of each partition in the hand, the first offset: what was not committed when the hand was filled."""
        first: dict[Place, int] = {}
        for message in self.hand:
            first.setdefault(place_of(message), message.offset())
        return first

    def places(self) -> set[Place]:
        """Whose messages the hand still holds."""
        return {place_of(each) for each in self.hand}

    def confirm(self) -> bool:
        """Ask the group whether the hand is still ours, by committing what is committed already.

        A process that was frozen does not know that others have its partitions; it would write dead letters that they
        write too.

        Raises
        ------
        ServiceError
            If it is not, or Kafka does not answer.
        """
        self._commit(self.first_offsets())
        return True

    def commit(self) -> None:
        """Commit the hand, and empty it. What cannot be committed now is committed with the next batch."""
        for message in self.hand:
            self._behind[place_of(message)] = message.offset() + 1
        self._tally.messages += len(self.hand)
        self._pace.took(len(self.hand), time.monotonic() - self._filled_at)
        self.hand = []
        self.commit_behind()

    def commit_behind(self) -> None:
        """Commit what could not be committed before."""
        if not self._behind:
            return
        try:
            self._commit(self._behind)
            self._behind = {}
        except ServiceError as error:
            self._say(f"{error} The rows are stored; the offsets are committed later.")

    def idle(self, seconds: float) -> None:
        """Stay a member of the group for so long, while the store or Kafka is away.

        One message at most is read, and kept for later or put back: asking is what keeps us in the group, and tells us
        of partitions that come and go. (Partitions that are paused while they come are never read again when they are
        resumed.)
        """
        end = time.monotonic() + seconds
        for each in self._read(1, seconds):
            if len(self._ahead) < _MOST_AHEAD:
                self._ahead.append(each)
            else:
                self._consumer.seek(self._library.TopicPartition(*place_of(each), each.offset()))
        time.sleep(max(0.0, end - time.monotonic()))

    def lag(self) -> int:
        """How many messages wait in our partitions, as far as Kafka has told."""
        waiting = 0
        for each in self._consumer.position(self._consumer.assignment()):
            _, high = self._consumer.get_watermark_offsets(each, cached=True)
            if each.offset >= 0:
                waiting += max(high - each.offset, 0)
        return waiting

    def close(self) -> None:
        """Commit what is still to commit, and leave the group."""
        self.hand = []
        self.commit_behind()
        self._consumer.close()

    def _read(self, most: int, seconds: float) -> list[Message]:
        found: list[Message] = []
        size, end = 0, time.monotonic() + seconds
        while len(found) < most and size < _MOST_BYTES:
            portion = self._consumer.consume(min(most - len(found), _PORTION), max(0.0, end - time.monotonic()))
            for each in portion:
                error = each.error()
                if error is None:
                    found.append(each)
                    size += _size_of(each)
                elif error.fatal():  # this member can do nothing more; what is not committed is read by the next one
                    raise no_answer(f"Kafka has shut this member out: {self._clients.error_sentence(error)}.")
                else:
                    self._say(f"Kafka: {self._clients.error_sentence(error)}.")
            if time.monotonic() >= end or not portion:
                break
        return found

    def _commit(self, offsets: dict[Place, int]) -> None:
        if not offsets:
            return
        asked = [self._library.TopicPartition(*place, offset) for place, offset in offsets.items()]
        try:
            answered = self._consumer.commit(offsets=asked, asynchronous=False)
            errors = [each.error for each in answered or () if each.error is not None]
        except self._library.KafkaException as error:
            errors = [error.args[0]]
        if not errors:
            return
        # Also where others have the partitions by now: the rebalance that follows takes them out of our hands, and a
        # partition that it leaves to us is committed afterwards.
        raise no_answer(f"Kafka did not take the offsets: {self._clients.error_sentence(errors[0])}.")

    def _on_assign(self, _: Any, partitions: Any) -> None:
        self._tally.rebalances += 1
        self._moved([(each.topic, each.partition) for each in partitions])
        _logger.info("Partitions that are ours now: %s.", _listed(partitions))

    def _on_revoke(self, _: Any, partitions: Any) -> None:
        self._tally.rebalances += 1
        self.commit_behind()
        self._drop([(each.topic, each.partition) for each in partitions])
        _logger.info("Partitions that go to others: %s.", _listed(partitions))

    def _on_lost(self, _: Any, partitions: Any) -> None:
        self._tally.rebalances += 1
        self._pace.lost()
        self._drop([(each.topic, each.partition) for each in partitions])
        _logger.warning("Partitions that others have already: %s.", _listed(partitions))

    def _drop(self, places: Iterable[Place]) -> None:
        gone = set(places)
        self.hand = [each for each in self.hand if place_of(each) not in gone]
        self._ahead = [each for each in self._ahead if place_of(each) not in gone]
        for place in gone:
            self._behind.pop(place, None)
        self._moved(gone)

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            _logger.warning("%s", sentence)
        self._said = sentence


def place_of(message: Message) -> Place:
    """Topic and partition of a message."""
    return message.topic(), message.partition()


def _size_of(message: Message) -> int:
    parts = (message.value(), message.key(), *(value for _, value in headers_of(message) or ()))
    return sum(len(part) for part in parts if part)


def _listed(partitions: Any) -> str:
    return ", ".join(str(each.partition) for each in partitions) or "none"

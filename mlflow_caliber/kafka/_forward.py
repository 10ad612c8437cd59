"""What is written for a message, once: its dead letter, or its prediction frame.

Kafka's transactions would tie what is written to the offsets. They hold only for readers that ask for committed
messages, need the transaction log of the broker, and an id for each member that survives its restarts. Here what is
written says which message it is for; whoever takes over a partition reads the end of the topic and writes the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mlflow_caliber.kafka._clients import Clients, confluent_kafka, no_answer
from mlflow_caliber.kafka._messages import Letter, Message, headers_of
from mlflow_caliber.kafka._source import Place, place_of

__all__ = ["Forwarder", "Outgoing", "dead_letter"]

_FLUSH = 30.0
# So many messages are read back first, and so many times more when they do not reach back far enough.
_WINDOW, _WIDER = 5_000, 8
# Where a broker does not tell the end of a partition right, what is there was read when nothing more comes for so long,
# and all was seen that the broker says there is. Silence before that is a broker that is slow.
_QUIET, _ASKING = 2.0, 10.0
_logger = logging.getLogger(__name__)


class Outgoing(NamedTuple):
    """What is to be written for a message."""

    message: Message
    value: bytes | None
    headers: list[tuple[str, Any]]
    bare: bool = False
    """Whether the key is left out, which with the value and the message's own headers is too large."""


class Written(NamedTuple):
    """How many were written, and what the topic does not take because it is too large."""

    n: int
    too_large: list[Outgoing]


_Origin = tuple[int, int]
# Offset, and the time that tells a message of this topic from one of a topic that had its name before.


def _origin_of(message: Message) -> _Origin:
    return message.offset(), message.timestamp()[1]


def dead_letter(letter: Letter) -> Outgoing:
    """A message as it came, and in its headers why it cannot be taken."""
    message, came = letter.message, headers_of(letter.message)
    if came is None:
        kept: list[tuple[str, Any]] = [("caliber.left_out", b"headers whose names are no UTF-8")]
    else:  # A dead letter that was sent again, and is one again, has the new reason only.
        kept = [each for each in came if not each[0].startswith("caliber.")]
    return Outgoing(message, message.value(), [*kept, ("caliber.reason", letter.sentence.encode(errors="replace"))])


class Forwarder:
    """Writes to one topic, for each message once.

    What is written goes to the partition with the number of the source's (modulo how many there are) and is in the
    source's order: so the first one that is older than what is asked for ends the search.

    Parameters
    ----------
    clients : Clients
        What makes the producer, and the reader of what is there.
    topic : str
        Where to.
    partitions : int
        How many the topic has.
    group : str
        Whose messages these are: another group writes its own.
    cuts : bool
        Whether what is too large is written without its value, or all that it brought.
    """

    def __init__(self, clients: Clients, topic: str, partitions: int, group: str, *, cuts: bool = True) -> None:
        self._clients, self._topic, self._partitions, self._group = clients, topic, partitions, group
        self._cuts = cuts
        self._library = confluent_kafka()
        self._producer = clients.producer()
        self._written: dict[Place, set[_Origin]] = {}

    def forget(self, places: Iterable[Place]) -> None:
        """Partitions came or went: what was written for them is looked up again."""
        for place in places:
            self._written.pop(place, None)

    def write(self, outgoing: Sequence[Outgoing], first: Mapping[Place, int], confirm: Callable[[], object]) -> Written:
        """Write what is not there yet, and return how many that were once all of it is delivered.

        Parameters
        ----------
        outgoing : sequence of Outgoing
            In the order of the messages.
        first : mapping
            Of each partition, the first offset that was not committed.
        confirm : callable
            Asks the group whether the messages are still ours, which it raises an error about. It is asked last: to
            look up what is there takes long enough for others to have the partitions.

        Raises
        ------
        ServiceError
            If Kafka did not take all of it; to be tried again.
        """
        todo = []
        for each in outgoing:
            place = place_of(each.message)
            if place not in self._written:
                self._written[place] = self._look_up(place, first[place])
            if _origin_of(each.message) not in self._written[place]:
                todo.append(each)
        for place, start in first.items():  # what is committed is not asked for again
            if place in self._written:
                self._written[place] = {origin for origin in self._written[place] if origin[0] >= start}
        failed: list[tuple[Outgoing, Any]] = []
        if todo:
            confirm()
        for each in todo:
            self._produce(each, failed)
        if self._producer.flush(_FLUSH):
            # Purged, so that what is tried again is not written twice; what is in flight may be, and is looked up.
            self._producer.purge()
            self._producer.flush(1.0)
            self._written.clear()
            raise no_answer(f"Kafka did not take what was written to {self._topic} within {_FLUSH:g} s.")
        too_large = [each for each, error in failed if not self._cuts and self._is_too_large(error)]
        for each, error in failed:
            if each not in too_large:
                self._settle(each, error)
        return Written(len(todo) - len(too_large), too_large)

    def close(self) -> None:
        """End the producer; all was delivered when it was written."""
        self._producer.flush(1.0)

    def _produce(self, each: Outgoing, failed: list[tuple[Outgoing, Any]]) -> None:
        message = each.message
        place = place_of(message)

        def delivered(error: Any, _: Any) -> None:
            if error is not None:
                failed.append((each, error))
            elif place in self._written:
                self._written[place].add(_origin_of(message))

        headers = [*each.headers, *self._origin(message)]
        to = message.partition() % self._partitions
        while True:
            try:
                key = None if each.bare else message.key()
                self._producer.produce(
                    self._topic, each.value, key, partition=to, headers=headers, on_delivery=delivered
                )
                break
            except BufferError:  # its queue is full
                self._producer.poll(0.1)
            except self._library.KafkaException as error:
                failed.append((each, error.args[0]))
                break
        self._producer.poll(0)

    def _settle(self, each: Outgoing, error: Any) -> None:
        """What is too large for the topic goes there without its value, or without key and headers too."""
        sentence = self._clients.error_sentence(error)
        if error.fatal():  # this producer can do nothing more
            self._producer = self._clients.producer()
        if not self._is_too_large(error) or each.bare:
            raise no_answer(f"Kafka did not take what was written to {self._topic}: {sentence}.")
        size = len(each.value or b"")
        cut = ("caliber.left_out", f"{size} bytes, too large for this topic".encode())
        if each.value is not None:
            smaller = each._replace(value=None, headers=[*each.headers, cut])
        else:
            told = [header for header in each.headers if header[0].startswith("caliber.")]
            everything = ("caliber.left_out", b"value, key and headers, too large for this topic")
            smaller = each._replace(headers=[*told, everything], bare=True)
        failed: list[tuple[Outgoing, Any]] = []
        self._produce(smaller, failed)
        if self._producer.flush(_FLUSH):
            raise no_answer(f"Kafka did not take what was written to {self._topic}: {sentence}.")
        for again, reason in failed:
            self._settle(again, reason)

    def _is_too_large(self, error: Any) -> bool:
        return bool(error.code() == self._library.KafkaError.MSG_SIZE_TOO_LARGE)

    def _origin(self, message: Message) -> list[tuple[str, bytes]]:
        told = {
            "group": self._group,
            "topic": message.topic(),
            "partition": message.partition(),
            "offset": message.offset(),
            "timestamp": message.timestamp()[1],
        }
        return [(f"caliber.{name}", str(value).encode()) for name, value in told.items()]

    def _look_up(self, place: Place, first: int) -> set[_Origin]:
        """The messages from ``first`` on of a source's partition for which something was written before."""
        library = self._library
        reader = self._clients.consumer(**{"enable.partition.eof": True, "fetch.wait.max.ms": 10})
        partition = library.TopicPartition(self._topic, place[1] % self._partitions)
        try:
            low, high = reader.get_watermark_offsets(partition, timeout=_ASKING)
            window = _WINDOW
            while True:
                partition.offset = max(low, high - window)
                origins = self._read_back(reader, partition, place, high)
                if partition.offset <= low or min((offset for offset, _ in origins), default=first) < first:
                    break
                window *= _WIDER
        except library.KafkaException as error:
            sentence = self._clients.error_sentence(error)
            raise no_answer(f"Kafka did not give back what was written to {self._topic}: {sentence}.") from None
        finally:
            reader.close()
        found = {origin for origin in origins if origin[0] >= first}
        if found:
            _logger.info("%s of partition %s were written to %s before.", len(found), place[1], self._topic)
        return found

    def _read_back(self, reader: Any, partition: Any, place: Place, high: int) -> list[_Origin]:
        reader.assign([partition])
        found: list[_Origin] = []
        seen, heard = partition.offset, time.monotonic()
        while time.monotonic() < heard + (_QUIET if seen >= high else _ASKING):
            for each in reader.consume(_WINDOW, 0.05):
                if each.error() is None:
                    seen, heard = each.offset() + 1, time.monotonic()
                    found += self._told(each, place)
                elif each.error().code() == self._library.KafkaError._PARTITION_EOF:
                    return found
        if seen < high:
            raise no_answer(f"Kafka did not give back what was written to {self._topic} within {_ASKING:g} s.")
        return found

    def _told(self, record: Message, place: Place) -> list[_Origin]:
        """Which message of the source's partition a record is for, if it is for one; anybody may write to a topic."""
        headers = dict(headers_of(record) or [])
        try:
            wanted = {"caliber.group": self._group, "caliber.topic": place[0], "caliber.partition": str(place[1])}
            if any(headers.get(name) != value.encode() for name, value in wanted.items()):
                return []
            return [(int(headers["caliber.offset"] or b""), int(headers["caliber.timestamp"] or b""))]
        except (KeyError, TypeError, ValueError):
            return []

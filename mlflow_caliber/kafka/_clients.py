"""Clients of Kafka: made from the settings, with librdkafka's words in the log and its faults as sentences."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event
from typing import Any

from mlflow_caliber.exceptions import ConfigError, OptionalDependencyError, ServiceError
from mlflow_caliber.kafka._settings import KafkaSettings, hidden

__all__ = ["Clients", "confluent_kafka"]

_ASKING = 2.0
_logger = logging.getLogger(__name__)
_library = logging.getLogger(f"{__name__}.librdkafka")
# It warns of every consumer's property that a producer is given, and both are given all.
_library.addFilter(lambda record: "CONFWARN" not in record.getMessage())


def confluent_kafka() -> Any:
    """The library, or the sentence that says how to get it."""
    try:
        import confluent_kafka
    except ModuleNotFoundError as error:
        raise OptionalDependencyError("Kafka needs confluent-kafka: pip install 'mlflow-caliber[kafka]'.") from error
    return confluent_kafka


class Clients:
    """Makes clients, and waits for what they need at the start.

    Parameters
    ----------
    settings : KafkaSettings
        Where to, and how.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._library = confluent_kafka()
        self._refused = ""
        self._said, self._said_code = "", None

    def consumer(self, **more: Any) -> Any:
        """A consumer that commits nothing by itself."""
        ours = {"group.id": self._settings.group, "enable.auto.commit": False}
        return self._made(self._library.Consumer, {"auto.offset.reset": "earliest"}, {**ours, **more})

    def producer(self) -> Any:
        """A producer that keeps the order and writes nothing twice by trying again."""
        # Larger than what is read: a dead letter is the message and our headers.
        return self._made(self._library.Producer, {"message.max.bytes": 8_000_000}, {"enable.idempotence": True})

    def wait_for_topics(self, made: list[str], stop: Event) -> dict[str, int]:
        """Wait until the topic that is read is there, make the others where they are missing, and count partitions.

        Raises
        ------
        ConfigError
            If Kafka does not answer for so long as is waited at the start, refuses the credentials, or has no such
            topic.
        """
        client = self._made(self._library.Producer, {}, {})
        found = self._until_there(client, stop)
        if not found:
            return {}
        for name in made:
            if name not in found:
                self._make(client, name, found[self._settings.topic])
                found[name] = found[self._settings.topic]
        return found

    def error_sentence(self, error: Any) -> str:
        """What librdkafka says, without secrets."""
        told = error.args[0] if isinstance(error, self._library.KafkaException) else error
        text = told.str() if isinstance(told, self._library.KafkaError) else str(told)
        return hidden(text, self._settings.properties).rstrip(".")

    def _made(self, kind: Callable[..., Any], defaults: dict[str, Any], ours: dict[str, Any]) -> Any:
        given = {"bootstrap.servers": self._settings.bootstrap, "socket.timeout.ms": 10_000, **defaults}
        try:
            return kind({**given, **self._settings.properties, **ours, "error_cb": self._on_error}, logger=_library)
        except (self._library.KafkaException, TypeError, ValueError) as error:
            raise ConfigError(f"Kafka's properties cannot be used: {self.error_sentence(error)}.") from None

    def _on_error(self, error: Any) -> None:
        sentence = self.error_sentence(error)
        if error.code() == self._library.KafkaError._AUTHENTICATION:
            self._refused = sentence
        if error.code() != self._said_code:  # the words differ each time by some milliseconds
            _logger.warning("Kafka: %s.", sentence)
        self._said, self._said_code = sentence, error.code()

    def _until_there(self, client: Any, stop: Event) -> dict[str, int]:
        """The topics and how many partitions they have; empty when told to stop meanwhile."""
        place, topic = self._settings.bootstrap, self._settings.topic
        end = time.monotonic() + self._settings.starting
        while not stop.is_set():
            try:
                topics = client.list_topics(timeout=_ASKING).topics
                why = f"Kafka at {place} has no topic {topic!r}: make it first"
                if topic in topics and topics[topic].error is None:
                    return {name: len(each.partitions) for name, each in topics.items()}
            except self._library.KafkaException as error:
                client.poll(0)  # brings the errors behind it
                why = f"Kafka at {place} does not answer: {self._said or self.error_sentence(error)}"
            if self._refused:
                raise ConfigError(f"Kafka at {place} refuses the credentials: {self._refused}.")
            if time.monotonic() >= end:
                raise ConfigError(f"{why}.")
            stop.wait(0.2)
        return {}

    def _make(self, client: Any, name: str, partitions: int) -> None:
        """Make a topic with as many partitions as the one that is read."""
        from confluent_kafka import admin

        maker, why = self._made(admin.AdminClient, {}, {}), ""
        for replicas in (-1, 1):  # the broker's own default; old ones know none
            new = admin.NewTopic(name, partitions, replicas)  # type: ignore[attr-defined]
            try:
                maker.create_topics([new], request_timeout=10.0)[name].result(15.0)
            except self._library.KafkaException as error:
                if error.args[0].code() == self._library.KafkaError.TOPIC_ALREADY_EXISTS:
                    return
                why = self.error_sentence(error)
            else:
                _logger.info("Made the topic %s with %s partitions.", name, partitions)
                return
        raise ConfigError(f"The topic {name!r} is missing and cannot be made: {why}. Make it first.")


def no_answer(sentence: str) -> ServiceError:
    """The error of a Kafka that did not take or give what was asked for; another try may help."""
    return ServiceError(None, sentence)

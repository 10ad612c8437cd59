"""Simulated events into a topic of Kafka, where it is installed and answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlflow_caliber.exceptions import ServiceError
from mlflow_caliber.kafka._clients import confluent_kafka

__all__ = ["kafka_sender"]

_TIMEOUT = 5.0


def kafka_sender(
    bootstrap: str, topic: str, model: str, version: str
) -> Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]]:
    """A function that writes events to the topic, keyed by their prediction ids, and returns once they are there.

    Raises
    ------
    OptionalDependencyError
        If confluent-kafka is not installed.
    ServiceError
        If Kafka does not answer.

    Examples
    --------
    >>> send = kafka_sender("kafka:9092", "inference-events", "churn", "1")  # doctest: +SKIP
    >>> send([{"kind": "prediction", "prediction_id": "a", "probability": 0.8}])  # doctest: +SKIP
    ()
    """
    library = confluent_kafka()
    producer = library.Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 20})
    try:
        producer.list_topics(timeout=_TIMEOUT)
    except library.KafkaException as error:
        raise ServiceError(None, f"Kafka at {bootstrap} does not answer.") from error

    def send(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        lost: list[Mapping[str, Any]] = []

        def delivered(error: object, _: object) -> None:
            if error is not None:
                lost.append({"sentence": f"Kafka did not take it: {error}."})

        for message in messages:
            value = json.dumps({"model": model, "version": version, **message}).encode()
            producer.produce(topic, value, key=str(message["prediction_id"]).encode(), on_delivery=delivered)
        if producer.flush(_TIMEOUT * 6) or lost:
            raise ServiceError(None, f"Kafka at {bootstrap} did not take all events.")
        return ()

    return send

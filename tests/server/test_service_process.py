"""The process as it is run: killed, ended, with several workers, and without its database."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid

import psycopg
import pytest

from live_service import API, LiveService
from mlflow_caliber.live import Reports
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.store import Prediction, open_store

pytestmark = pytest.mark.system

BASE = f"{API}/models/churn/versions/1"


def told(prediction_id, i):
    """A prediction that comes with its outcome."""
    return {"prediction_id": prediction_id, "probability": 0.5 + i % 10 / 20, "outcome": "yes" if i % 3 else "no"}


class Sender(threading.Thread):
    """Sends singles, batches or lines until told to stop, and remembers what was acknowledged."""

    def __init__(self, server, kind, name):
        super().__init__(daemon=True)
        self.server, self.kind, self.name_ = server, kind, name
        self.sent, self.acknowledged, self.stopped, self.wrong = [], [], threading.Event(), []

    def run(self):
        k = 0
        while not self.stopped.is_set():
            ids = [f"{self.name_}-{k}-{i}" for i in range(1 if self.kind == "single" else 30)]
            self.sent += ids
            k += 1
            try:
                answer = self._send([told(each, i) for i, each in enumerate(ids)])
            except Exception:  # the server was killed: what is not acknowledged may be there or not
                time.sleep(0.02)
                continue
            if answer.status == 200 and answer.json["recorded"] == 2 * len(ids):
                self.acknowledged += ids
            elif answer.status != 503:
                self.wrong.append(answer.text[:200])

    def _send(self, rows):
        if self.kind == "lines":
            lines = [json.dumps({"kind": "prediction", **row}) for row in rows]
            told = {"Content-Type": "application/x-ndjson"}
            return self.server.ask(f"{BASE}/events", data="\n".join(lines).encode(), headers=told)
        return self.server.ask(f"{BASE}/predictions", rows[0] if self.kind == "single" else rows)


def traffic(server, n=4):
    kinds = ["single", "batch", "lines", "single"]
    senders = [Sender(server, kinds[i % 4], uuid.uuid4().hex[:8]) for i in range(n)]
    for sender in senders:
        sender.start()
    return senders


def finish(senders):
    for sender in senders:
        sender.stopped.set()
    for sender in senders:
        sender.join(70)
        assert not sender.is_alive()
        assert sender.wrong == []
    return {each for sender in senders for each in sender.acknowledged}, {
        each for sender in senders for each in sender.sent
    }


def check_accounts(uri, acknowledged, sent):
    """Each acknowledged event is there once, and nothing that nobody sent; the sums are those of the rows."""
    with open_store(uri) as store:
        stream = store.find_stream("churn", "1")
        ids = [
            entry.event.prediction_id for entry in stream.log(limit=10_000_000) if isinstance(entry.event, Prediction)
        ]
        assert len(ids) == len(set(ids))
        assert acknowledged <= set(ids) <= sent
        rows = stream.rows()
        expected = ScoreStatistics().update(rows["outcome"] == "yes", rows["probability"])
        reports = Reports(store)
        while reports.turn():  # one request alone takes only so many entries
            pass
        report = reports.report(stream, "all", "all", "quick")
        assert report["n"] == len(rows) == report["n_predictions"] == len(ids)
        assert report["metrics"]["served"]["log_loss"] == pytest.approx(expected.metrics()["log_loss"])
    return len(ids)


def kill_rounds(tmp_path, rounds):
    uri, chance = f"sqlite:///{tmp_path}/caliber.db", random.Random(5)
    acknowledged, sent = set(), set()
    with LiveService(uri, tmp_path / "log") as server:
        assert server.ask(BASE, {"classes": ["no", "yes"]}, method="PUT").status == 200
        for k in range(rounds):
            senders = traffic(server)
            time.sleep(chance.uniform(0.1, 0.8))
            server.stop(signal.SIGKILL)
            known, tried = finish(senders)
            acknowledged |= known
            sent |= tried
            with sqlite3.connect(tmp_path / "caliber.db") as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()
            if k + 1 < rounds:
                server.start()
    assert acknowledged
    check_accounts(uri, acknowledged, sent)


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    kill_rounds(tmp_path, 1)


@pytest.mark.slow
def test_what_was_acknowledged_survives_many_kills(tmp_path):
    kill_rounds(tmp_path, int(os.environ.get("CALIBER_KILLS", "100")))


def test_told_to_end_it_answers_first(tmp_path):
    uri = f"sqlite:///{tmp_path}/caliber.db"
    with LiveService(uri, tmp_path / "log") as server:
        server.ask(BASE, {"classes": ["no", "yes"]}, method="PUT")
        senders = traffic(server)
        time.sleep(1.0)
        start = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - start < 25.0
        acknowledged, sent = finish(senders)
    assert acknowledged
    check_accounts(uri, acknowledged, sent)


def test_a_service_that_cannot_start_ends(tmp_path):
    uri = f"sqlite:///{tmp_path}/nowhere/caliber.db"
    code = f"from mlflow_caliber.server import *; serve(ServerSettings(store_uri={uri!r}, port=0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert "The service cannot start: The store at" in done.stderr
    assert "ServiceError: The service could not start" in done.stderr


def two_workers(uri, tmp_path):
    with LiveService(uri, tmp_path / "log", "--workers", "2") as server:
        server.ask(BASE, {"classes": ["no", "yes"]}, method="PUT")
        time.sleep(2.5)  # the other worker remembers for two seconds that there is no such version
        senders = traffic(server)
        time.sleep(2.0)
        acknowledged, sent = finish(senders)
        assert acknowledged == sent
        n = check_accounts(uri, acknowledged, sent)
        lines = server.ask("/metrics").text.splitlines()
        counted = [
            float(line.split()[-1]) for line in lines if line.startswith("caliber_events_total") and "recorded" in line
        ]
        assert sum(counted) == 2 * n
        assert server.stop() == 0


@pytest.mark.slow
def test_two_workers_on_sqlite(tmp_path):
    two_workers(f"sqlite:///{tmp_path}/caliber.db", tmp_path)


@pytest.mark.slow
def test_two_workers_on_postgres(tmp_path, postgres):
    name = f"live_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    two_workers(postgres(name), tmp_path)


@pytest.mark.slow
def test_without_its_database_it_says_so_and_recovers(tmp_path):
    uri = f"sqlite:///{tmp_path}/caliber.db"
    with LiveService(uri, tmp_path / "log") as server:
        server.ask(BASE, {"classes": ["no", "yes"]}, method="PUT")
        one = {"prediction_id": "a", "probability": 0.9}
        lock = sqlite3.connect(tmp_path / "caliber.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        try:
            busy = server.ask(f"{BASE}/predictions", one)
            assert (busy.status, busy.headers["content-type"]) == (503, "application/problem+json")
            assert busy.json["detail"] == "The store is away or busy. Nothing was done; send it again."
            assert "caliber.db" not in busy.text
            assert server.ask("/healthz", token=None).status == 200
        finally:
            lock.execute("ROLLBACK")
            lock.close()
        assert server.ask(f"{BASE}/predictions", one).json["recorded"] == 1
        assert server.ask("/readyz", token=None).status == 200

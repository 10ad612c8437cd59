"""The live loop as real processes that die at the worst moment: nothing is lost, nothing is learned twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mlflow_caliber
from faults import Postgres
from live_processes import Server, Traffic, until, worker
from mlflow_caliber.live import StreamLearner
from mlflow_caliber.live._worker import readable
from mlflow_caliber.store import Outcome, Prediction, open_store

MODEL = "live-late"
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes to kill in /proc"),
]


@pytest.fixture(scope="module")
def registered(isolated):
    """A model with two classes and two segments in the registry."""
    from sklearn.linear_model import LogisticRegression

    import mlflow_caliber as caliber

    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.normal(40.0, 10.0, 1000), "region": rng.choice(["north", "south"], 1000)})
    y = np.where(rng.random(1000) < 1.0 / (1.0 + np.exp(-0.2 * (X["age"] - 40.0))), "yes", "no")
    base = LogisticRegression().fit(X[["age"]][:500], y[:500])
    caliber.log_model(
        base,
        name="late",
        calibrator="sigmoid",
        calibration_data=(X[500:], y[500:]),
        segment_column="region",
        registered_model_name=MODEL,
    )
    return f"models:/{MODEL}/1"


class Sqlite:
    """A file that some other program holds for a while."""

    def __init__(self, folder, patch):
        self.uri = f"sqlite:///{folder}/caliber.db"

    def hurt(self):
        with sqlite3.connect(self.uri.removeprefix("sqlite:///"), timeout=30.0, isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(3.0)
            other.execute("ROLLBACK")

    def close(self):
        pass


class KilledPostgres(Postgres):
    """A server that is killed and started again."""

    def __init__(self, folder, patch):
        super().__init__(patch)

    def hurt(self):
        self.kill()


@pytest.fixture(params=[Sqlite, KilledPostgres], ids=["sqlite", "postgres"])
def database(request, tmp_path, monkeypatch):
    database = request.param(tmp_path, monkeypatch)
    yield database
    database.close()


@pytest.mark.parametrize(
    ("rows", "batch"), [pytest.param(600, 5, id="short"), pytest.param(20_000, 20, id="long", marks=pytest.mark.slow)]
)
def test_whatever_dies_nothing_is_lost_and_nothing_is_learned_twice(registered, database, tmp_path, rows, batch):
    place = {"MLFLOW_CALIBER_STORE_URI": database.uri, "MLFLOW_CALIBER_SPOOL_DIR": str(tmp_path / "spool")}
    open_store(database.uri).close()
    server = Server(registered, tmp_path / "server.log", place)
    learner = worker(database.uri, tmp_path / "worker.log")
    try:
        server.wait()
        until(lambda: len(server.serving()) == 2, 60, "both serving processes run")
        traffic = Traffic(server, database.uri, MODEL, rows=rows, batch=batch)
        traffic.start()
        until(lambda: len(traffic.told) > rows // 5, 600, "traffic flows")
        learner.kill()
        until(lambda: len(traffic.told) > rows * 2 // 5, 600, "traffic flows without a learner")
        learner = worker(database.uri, tmp_path / "worker.log")
        os.kill(server.serving()[0], signal.SIGKILL)
        until(lambda: len(traffic.told) > rows * 3 // 5, 600, "traffic flows with one serving process")
        database.hurt()
        traffic.join(600)
        stream = open_store(database.uri).stream(MODEL, "1")
        until(lambda: stream.learner().position == stream.log_end(), 120, "all is learned")
        until(lambda: len(server.serving()) == 2, 60, "the server has replaced its process")
        _check_nothing_lost(stream, traffic)
        _check_learned_once(stream)
        learner.stop()  # or it might publish another one meanwhile
        _check_one_revision(server, stream, mlflow_caliber.load_model(registered).revision)
    finally:
        learner.stop()
        server.stop()


def _entries(stream):
    after = 0
    while entries := stream.log(after, 5000):
        yield from entries
        after = entries[-1].seq


def _check_nothing_lost(stream, traffic):
    entries = list(_entries(stream))
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    predicted = [entry.event for entry in entries if isinstance(entry.event, Prediction)]
    told = [entry.event for entry in entries if isinstance(entry.event, Outcome)]
    kept = {each.prediction_id: each for each in predicted}
    assert len(kept) == len(predicted)
    assert kept.keys() >= traffic.predicted.keys()
    for key, answer in traffic.predicted.items():
        assert (kept[key].probability, kept[key].prediction) == (answer["probability"], answer["prediction"])
    assert {each.prediction_id: each.outcome for each in told} == traffic.told
    assert len(told) == len(traffic.told)


def _check_learned_once(stream):
    entries = list(_entries(stream))
    kept = StreamLearner.from_bytes(stream.learner().state)
    again = StreamLearner(horizon=kept.horizon)
    again.take(readable(stream, entries), upto=entries[-1].seq)
    assert kept.to_bytes() == again.to_bytes()
    # An outage may delay outcomes beyond the recalibrator's patience: those are counted as late, and none is missing.
    assert kept.counts.learned + kept.counts.late == sum(isinstance(entry.event, Outcome) for entry in entries)
    assert kept.counts.learned > 0


def _check_one_revision(server, stream, shipped):
    """When another revision is to be served, every serving process answers with it within five seconds."""
    newest = stream.current().revision
    until(lambda: len(_alive(stream)) == 2, 30, "both serving processes have found the store again")
    stream.pin(0, "test")
    _served_everywhere(server, stream, shipped)
    stream.unpin("test")
    _served_everywhere(server, stream, newest)


def _alive(stream):
    return [replica for replica in stream.replicas() if time.time() - replica.seen_at < 4.0]


def _served_everywhere(server, stream, wanted):
    def everywhere():
        return [replica.revision for replica in _alive(stream)] == [wanted, wanted]

    assert until(everywhere, 20, f"all serve {wanted}") < 5.0
    answers = {server.ask([[40.0, "north"]], ["age", "region"])[0]["calibrator_revision"] for _ in range(20)}
    assert answers == {wanted}

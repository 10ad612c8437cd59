"""What becomes of the alarms, and who is told."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from live_streams import DAY, fill, hold_lease, learn, look, said
from mlflow_caliber.exceptions import StoreError
from mlflow_caliber.flavor import log_model
from mlflow_caliber.live import (
    MONITORED_KINDS,
    ModelProfiles,
    Monitor,
    Reference,
)


class Told:
    """A sink that remembers."""

    def __init__(self):
        self.notices = []

    def send(self, notice, now):
        self.notices.append(notice)

    def take(self):
        said = [(notice.event, notice.alarm.kind, notice.alarm.key) for notice in self.notices]
        self.notices.clear()
        return said


def watching(store, sink, **given):
    return Monitor(store, sinks=[sink], references=lambda stream, now: Reference(None), **given)


def test_an_alarm_from_its_beginning_to_its_end(store, stream, clock):
    sink = Told()
    monitor = watching(store, sink)
    stream.report_replica("host:1", "", 0, "The disk is full.")
    now = clock.now + 10.0
    monitor.turn(now)
    assert sink.take() == [("opened", "replica", "host:1")]
    monitor.turn(now + 60.0)
    watching(store, sink).turn(now + 120.0)  # another process, which knows only the store
    assert sink.take() == []
    clock.now += 25 * 3_600.0
    stream.report_replica("host:1", "", 0, "The disk is full.")
    monitor.turn(clock.now)
    assert sink.take() == [("reminder", "replica", "host:1")]
    clock.now += 60.0
    stream.report_replica("host:1", "", 0, "")
    monitor.turn(clock.now)
    assert sink.take() == []  # it may come back
    monitor.turn(clock.now + 290.0)
    assert len(stream.open_alarms()) == 1
    clock.now += 600.0
    stream.report_replica("host:1", "", 0, "")
    monitor.turn(clock.now)
    assert sink.take() == [("resolved", "replica", "host:1")]
    assert stream.open_alarms() == ()
    monitor.turn(clock.now + 1.0)
    assert sink.take() == []


def test_the_worker_s_alarm_is_told_and_left_alone(store, stream, clock):
    sink = Told()
    monitor = watching(store, sink)
    stream.raise_alarm("harm", "served", "critical", "It has cost too much.", {}, now=clock.now)
    assert "harm" not in MONITORED_KINDS
    monitor.turn(clock.now)
    monitor.turn(clock.now + 3_600.0)
    assert sink.take() == [("opened", "harm", "served")]
    stream.resolve_alarm("harm", "served")
    monitor.turn(clock.now + 3_700.0)
    assert sink.take() == [("resolved", "harm", "served")]


def test_without_evidence_nothing_is_resolved(store, stream, clock):
    monitor = watching(store, Told())
    fill(stream, clock, 1_500, days=7.0)
    fill(stream, clock, 1_500, days=6.0, truth=lambda p: p / (p + 3.0 * (1.0 - p)), prefix="b", seed=1)
    learn(store)
    monitor.turn(clock.now + 3_600.0)
    before = {alarm.kind for alarm in stream.open_alarms()}
    assert {"calibration", "diagnosis"} <= before
    monitor.turn(clock.now + 20 * DAY)  # the window is empty now
    assert {"calibration", "diagnosis"} <= {alarm.kind for alarm in stream.open_alarms()}


def test_a_version_that_another_one_replaced_may_be_silent(store, stream, clock):
    sink = Told()
    monitor = watching(store, sink)
    hold_lease(stream)
    stream.record([said("a", 0.4, clock.now)])
    monitor.turn(clock.now + 1.5 * DAY)
    assert sink.take() == [("opened", "silence", "predictions"), ("opened", "lag", "learner")]
    clock.now += 1.5 * DAY
    store.stream("other", "1", classes=[0, 1]).record([said("a", 0.4, clock.now)])
    monitor.turn(clock.now + 700.0)
    assert sink.take() == []
    store.stream("churn", "2", classes=[0, 1]).record([said("a", 0.4, clock.now)])
    monitor.turn(clock.now + 1_400.0)
    assert ("resolved", "silence", "predictions") in sink.take()


def test_processes_that_are_forgotten_have_not_come_back(store, stream, clock):
    sink = Told()
    monitor = watching(store, sink)
    stream.report_replica("host:1", "", 0, "")
    monitor.turn(clock.now + 3_600.0)
    assert sink.take() == [("opened", "silence", "replicas")]
    with store._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM replicas")
    monitor.turn(clock.now + 7_200.0)
    assert [alarm.key for alarm in stream.open_alarms()] == ["replicas"]


def test_a_stream_that_another_worker_learns_is_its_monitor_s(store, stream, clock):
    sink = Told()
    stream.report_replica("host:1", "", 1, "")
    lease = stream.lease("other", 30.0)
    monitor = watching(store, sink, name="me")
    monitor.turn(clock.now + 1.0)
    assert sink.take() == []
    monitor.turn(clock.now + 31.0)  # the other is gone
    assert sink.take() == [("opened", "dropped", "host:1")]
    lease.release()


def test_one_stream_that_fails_does_not_keep_the_others(store, stream, clock, caplog):
    other = store.stream("churn", "2", classes=[0, 1])
    other.report_replica("host:1", "", 1, "")

    def references(stream, now):
        if stream.version == "1":
            raise ZeroDivisionError("secret rows")
        return Reference(None)

    sink = Told()
    Monitor(store, sinks=[sink], references=references).turn(clock.now)
    assert sink.take() == [("opened", "dropped", "host:1")]
    assert "churn/1 was not monitored: ZeroDivisionError." in caplog.text
    assert "secret" not in caplog.text


def test_a_store_that_is_away_stops_nothing(store, caplog, monkeypatch):
    def away():
        raise StoreError("The store is away.")

    monkeypatch.setattr(store, "streams", away)
    Monitor(store).turn(0.0)
    assert "Not monitored: The store is away." in caplog.text


def test_running_ends_when_told_to(store, stream):
    class Stop:
        def __init__(self):
            self.waits = []

        def wait(self, seconds):
            self.waits.append(seconds)
            return len(self.waits) > 2

    stop = Stop()
    watching(store, Told()).run(stop)
    assert len(stop.waits) == 3
    assert stop.waits[0] == 60.0


def test_the_reference_is_what_the_model_was_saved_with(store, clock, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.normal(40.0, 10.0, 600), "income": rng.lognormal(1.0, 0.5, 600)})
    y = (rng.random(600) < 1.0 / (1.0 + np.exp(-0.1 * (X["age"] - 40.0)))).astype(int)
    base = LogisticRegression().fit(X[:300], y[:300])
    info = log_model(base, "model", calibration_data=(X[300:], y[300:]))
    stream = store.stream(info.model_id, "0", classes=[0, 1])
    raw = base.predict_proba(X)[:, 1]
    for k in range(300, 600):
        clock.now += 60.0
        stream.record([said(str(k), float(raw[k]), clock.now, features=X.iloc[k].to_dict())])
    reference, note = ModelProfiles()(stream, clock.now)
    assert note == ""
    drift = look(stream, clock, reference=reference).window.drift
    assert ({column.column for column in drift.columns}, drift.drifted) == ({"age", "income", "score:1"}, ())
    # Nobody says where models are: they are found where MLflow looks by itself, and no store is made for that.
    for name in ("tracking", "registry"):
        monkeypatch.delenv(f"MLFLOW_{name.upper()}_URI", raising=False)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.setattr("mlflow.tracking._model_registry.utils._registry_uri", None)
    assert ModelProfiles()(stream, clock.now) == (reference, "")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert ModelProfiles()(stream, clock.now).note.endswith("registry, by --tracking-uri or MLFLOW_TRACKING_URI.")
    assert os.listdir() == []


def test_a_model_that_is_not_in_the_registry(stream):
    profiles = ModelProfiles()
    note = profiles(stream, 0.0).note
    assert note.startswith("Drift is not known: models:/churn/1 could not be loaded (")
    assert "Register the model under that name" in note
    assert profiles(stream, 60.0) is profiles(stream, 0.0)

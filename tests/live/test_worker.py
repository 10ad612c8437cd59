"""The worker: one learner a stream, revisions when they are due, and nothing lost or learned twice."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mlflow_caliber.exceptions import InvalidInputError, StoreError
from mlflow_caliber.live import StreamLearner, Worker, WorkerSettings
from mlflow_caliber.live._worker import readable
from mlflow_caliber.online import SnapshotMap
from mlflow_caliber.store import Outcome, Prediction


@pytest.fixture
def stream(store):
    return store.stream("churn", "1", classes=["no", "yes"])


def feed(stream, n, *, start=0, truth=lambda p: p**2, served=lambda p: p, seed=0):
    """So many predictions with their outcomes."""
    rng = np.random.default_rng([seed, start])
    events = []
    for k, p in enumerate(rng.random(n).tolist(), start=start):
        said = {"raw_probability": p, "base_probability": p, "probability": served(p)}
        answer = {"prediction": "yes" if p > 0.5 else "no", "confidence": max(p, 1.0 - p)}
        events.append(Prediction(prediction_id=f"id{k}", predicted_at=float(k), **said, **answer))
        y = "yes" if rng.random() < truth(p) else "no"
        events.append(Outcome(prediction_id=f"id{k}", outcome=y, observed_at=float(k)))
    stream.record(events)


def learner_of(stream):
    return StreamLearner.from_bytes(stream.learner().state)


def replayed(stream):
    learner = StreamLearner(horizon=learner_of(stream).horizon)
    entries = stream.log(0, 100_000)
    learner.take(readable(stream, entries), upto=entries[-1].seq)
    return learner


def test_it_publishes_every_so_many_outcomes(store, stream):
    worker = Worker(store, WorkerSettings(every_outcomes=100, every_seconds=1e6))
    feed(stream, 90)
    assert worker.turn() == 180
    assert stream.current() is None
    feed(stream, 20, start=90)
    worker.turn()
    revision = stream.current()
    assert (revision.number, revision.n_learned, revision.position) == (1, 110, 220)
    served = SnapshotMap.from_dict(revision.map).predict([0.2, 0.5, 0.9])
    exact = [learner_of(stream).recalibrator.predict(p) for p in (0.2, 0.5, 0.9)]
    np.testing.assert_allclose(served, exact, atol=1e-3)


def test_it_publishes_what_is_new_after_a_time(store, stream):
    worker = Worker(store, WorkerSettings(every_outcomes=1000, every_seconds=0.0))
    feed(stream, 5)
    worker.turn()
    assert stream.current().n_learned == 5
    worker.turn()
    assert stream.current().number == 1  # nothing is new


def test_what_it_keeps_is_what_one_pass_over_the_log_gives(store, stream):
    for k in range(4):  # a new worker each time, as after a kill
        feed(stream, 50, start=50 * k)
        worker = Worker(store, WorkerSettings(every_outcomes=30), name=f"worker-{k}")
        worker.turn()
        worker.close()
    assert learner_of(stream).to_bytes() == replayed(stream).to_bytes()


def test_two_workers_never_learn_the_same_stream(store, stream, clock):
    one, two = (Worker(store, WorkerSettings(every_outcomes=10, lease=30.0), name=name) for name in ("one", "two"))
    feed(stream, 20)
    assert (one.turn(), two.turn()) == (40, 0)
    clock.now += 31.0  # "one" was silent
    feed(stream, 20, start=20)
    assert two.turn() == 40
    feed(stream, 20, start=40)
    assert one.turn() == 0  # it reads on, finds at its checkpoint that the lease is lost, and drops what it read
    assert stream.learner().holder == "two"
    assert two.turn() == 40
    assert learner_of(stream).to_bytes() == replayed(stream).to_bytes()


def test_a_worker_that_leaves_lets_others_in_at_once(store, stream):
    one, two = Worker(store, name="one"), Worker(store, name="two")
    feed(stream, 5)
    one.turn()
    one.close()
    feed(stream, 5, start=5)
    assert two.turn() == 10


def test_state_that_cannot_be_read_is_left_alone(store, stream, caplog):
    lease = stream.lease("other", 1.0)
    feed(stream, 5)
    lease.checkpoint(2, b"nonsense", state_format="caliber-learner/1")
    lease.release()
    assert Worker(store).turn() == 0
    assert "churn/1 cannot be learned: A learner's saved state cannot be read" in caplog.text
    assert stream.learner().state == b"nonsense"
    assert stream.lease("third", 1.0) is not None  # and it is not held


def test_state_of_another_version_is_left_alone(store, stream, caplog):
    lease = stream.lease("other", 1.0)
    lease.checkpoint(0, b"", state_format="caliber-learner/9")
    lease.release()
    feed(stream, 5)
    assert Worker(store).turn() == 0
    assert "must be of the format caliber-learner/1, got 'caliber-learner/9'" in caplog.text


def test_more_classes_are_recorded_and_not_learned(store):
    many = store.stream("digits", "1", classes=["a", "b", "c"])
    store.stream("unknown", "1")
    many.record_outcomes([Outcome(prediction_id="x", outcome="a", observed_at=0.0)])
    assert Worker(store).turn() == 0


def test_harm_pins_the_shipped_calibrator_once(store, stream):
    worker = Worker(store, WorkerSettings(every_outcomes=50, max_harm=5.0))
    feed(stream, 100, truth=lambda p: p, served=lambda p: 0.5 * p)
    worker.turn()
    assert stream.current() is None
    assert stream.revisions()  # learning goes on
    (alarm,) = (alarm for alarm in stream.open_alarms() if alarm.kind == "harm")
    assert alarm.severity == "critical"
    assert "nats against the shipped model, of 5 allowed, over 100 outcomes: the shipped calibrator is pinned" in (
        alarm.sentence
    )
    stream.unpin("risk officer")
    worker.turn()
    assert stream.current() is not None  # it was told; only new harm counts
    assert [entry.action for entry in store.audit_trail(5)].count("pin") == 1


def test_a_store_that_is_away_is_waited_for(store, stream, monkeypatch, caplog):
    worker, stop, calls = Worker(store), threading.Event(), []

    def away(self, after, limit):
        calls.append(after)
        if len(calls) == 2:
            stop.set()
        raise StoreError("The store cannot be reached.")

    feed(stream, 5)
    monkeypatch.setattr(type(stream), "log", away)
    assert worker.run(stop, poll=0.01) == 0
    assert len(calls) == 2
    assert "Waiting for the store: The store cannot be reached." in caplog.text


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"every_outcomes": 0}, "every_outcomes"),
        ({"every_seconds": -1.0}, "every_seconds"),
        ({"horizon": float("nan")}, "horizon"),
        ({"lease": 0.5}, "lease"),
    ],
)
def test_settings_that_make_no_sense(settings, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        WorkerSettings(**settings)


def test_a_pin_for_harm_survives_a_fault_in_the_middle(store, stream, monkeypatch):
    feed(stream, 100, truth=lambda p: p, served=lambda p: 0.5 * p)
    settings, pin = WorkerSettings(every_outcomes=50, max_harm=5.0), type(stream).pin

    def busy(self, number, actor):
        raise StoreError("The store is busy.")

    monkeypatch.setattr(type(stream), "pin", busy)
    with pytest.raises(StoreError):
        Worker(store, settings, name="w").turn()
    monkeypatch.setattr(type(stream), "pin", pin)
    Worker(store, settings, name="w").turn()
    assert stream.current() is None
    assert [alarm.kind for alarm in stream.open_alarms()] == ["harm"]


def test_what_breaks_one_stream_does_not_stop_the_others(store, stream, monkeypatch, caplog):
    other = store.stream("other", "1", classes=["no", "yes"])
    feed(stream, 5)
    feed(other, 5)
    take = StreamLearner.take

    def broken(self, entries, upto=None):
        if not caplog.records:
            raise RuntimeError("a fault of ours")
        take(self, entries, upto)

    monkeypatch.setattr(StreamLearner, "take", broken)
    worker = Worker(store, WorkerSettings(every_outcomes=1))
    assert worker.turn() == 10
    assert "churn/1 cannot be learned: a fault of ours" in caplog.text
    assert other.learner().position == 10
    assert worker.turn() == 0


def test_what_waits_is_not_compacted(store, stream):
    worker = Worker(store, WorkerSettings(every_outcomes=1))
    feed(stream, 3)
    lonely = {
        "raw_probability": 0.5,
        "base_probability": 0.5,
        "probability": 0.5,
        "prediction": "no",
        "confidence": 0.5,
    }
    stream.record_predictions([Prediction(prediction_id="lonely", predicted_at=0.0, **lonely)])
    feed(stream, 3, start=3)
    worker.turn()
    worker.close()
    assert stream.compact(1e10) == 3
    stream.record_outcomes([Outcome(prediction_id="lonely", outcome="no", observed_at=9.0)])
    worker = Worker(store, WorkerSettings(every_outcomes=1))
    worker.turn()
    worker.close()
    assert learner_of(stream).counts.learned == 7
    assert stream.compact(1e10) == 4


def test_a_longer_horizon_holds_at_once(store, stream):
    feed(stream, 2)
    for horizon in (100.0, 5.0):
        worker = Worker(store, WorkerSettings(horizon=horizon))
        feed(stream, 2, start=int(horizon))
        worker.turn()
        worker.close()
        assert learner_of(stream).horizon == horizon

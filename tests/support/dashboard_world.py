"""A store for the dashboard: two models, a week of their lives, what was learned from it, and cases that wait."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from live_streams import DAY, Clock
from mlflow_caliber.drift import feature_profile
from mlflow_caliber.live import Monitor, Worker, WorkerSettings
from mlflow_caliber.store import Outcome, Prediction, ReviewSettings, StreamSettings, open_store

CLASSES = ("stays", "leaves")
WAITING = 30
_A_DAY = 240
_DAYS = 6


def build(uri):
    """Fill the store; the last event is half a minute old."""
    clock = Clock(time.time() - _DAYS * DAY - 60.0)
    with open_store(uri, clock=clock) as store:
        streams = _streams(store)
        worker = Worker(store, WorkerSettings(every_outcomes=_A_DAY, every_seconds=1e9), name="w")
        for day in range(_DAYS):
            clock.now += DAY
            for seed, stream in enumerate(streams):
                _live_a_day(stream, clock.now, day, np.random.default_rng(10 * seed + day))
            while worker.turn():
                pass
        worker.close()
        clock.now += 30.0
        streams[0].record([_withheld(k, clock.now) for k in range(WAITING)])
        streams[0].report_replica("host:1", "", 0, "")
        Monitor(store, references=lambda *_: (_reference(), "")).turn(clock.now)
        streams[1].raise_alarm("harm", "all", "critical", "To serve this costs more than it gives.", {"nats": 30.0})


def _streams(store):
    first = store.stream("churn", "1", classes=CLASSES, positive="leaves")
    second = store.stream("churn", "2", classes=CLASSES, positive="leaves")
    other = store.stream("fraud", "7", classes=CLASSES, positive="leaves")
    review = ReviewSettings(capacity_per_day=500, lease_minutes=20)
    first.change_settings(StreamSettings(abstain_threshold=0.6, stage="production", review=review), "test")
    second.change_settings(StreamSettings(abstain_threshold=0.6, stage="candidate", parent_version="1"), "test")
    return first, second, other


def _live_a_day(stream, now, day, rng):
    """The day that ends now: what is served is what happens, and churn's model is too sure of itself and drifts."""
    is_churn = stream.model == "churn"
    p = rng.uniform(0.05, 0.95, _A_DAY)
    served = 0.5 + 0.6 * (p - 0.5) if is_churn else p
    happens = rng.random(_A_DAY) < served
    events = []
    for k, y in enumerate(happens):
        at, name = now - DAY + k * DAY / _A_DAY, f"d{day}-{k}"
        features = {"age": 20.0 + 50.0 * rng.random() + 4.0 * day * is_churn, "tenure": float(k % 60)}
        events.append(said(name, p[k], at, served[k], segment="north" if k % 3 else "south", features=features))
        events.append(Outcome(prediction_id=name, outcome=CLASSES[int(y)], observed_at=min(now, at + 3_600.0)))
    stream.record(events)


def _withheld(k, at):
    features = {"age": 30.0 + k, "tenure": 12.0, "plan": "basic"}
    p = 0.5 + (k - WAITING / 2) / 400
    return said(f"case-{k:02d}", p, at, abstained=True, reason="low_confidence", segment="north", features=features)


def said(name, p, at, served=None, **more):
    """A prediction; unless told otherwise, it was served as the model made it."""
    served = float(p if served is None else served)
    return Prediction(
        prediction_id=name,
        predicted_at=at,
        raw_probability=float(p),
        base_probability=float(p),
        probability=served,
        prediction=CLASSES[served >= 0.5],
        confidence=max(served, 1.0 - served),
        **more,
    )


def _reference():
    rng = np.random.default_rng(1)
    columns = {"age": rng.uniform(20, 70, 2_000), "tenure": rng.integers(0, 60, 2_000).astype(float)}
    return feature_profile(pd.DataFrame({**columns, "score:1": rng.uniform(0.05, 0.95, 2_000)}))

"""Streams of predictions and outcomes for tests of what watches them: real stores, invented days."""

import numpy as np
import pandas as pd

from mlflow_caliber.drift import feature_profile
from mlflow_caliber.live import MonitorSettings, Worker, WorkerSettings, judge, observe
from mlflow_caliber.store import Outcome, Prediction

DAY = 86_400.0
START = 1_700_000_000.0
SETTINGS = MonitorSettings()
REFERENCE = feature_profile(pd.DataFrame({"score:1": np.random.default_rng(9).uniform(0.05, 0.95, 3_000)}))


class Clock:
    """A clock that a test sets."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now


def said(prediction_id, p, at, *, served=None, **changed):
    served = p if served is None else served
    ordinary = {
        "predicted_at": at,
        "raw_probability": p,
        "base_probability": p,
        "probability": served,
        "prediction": int(served >= 0.5),
        "confidence": max(served, 1.0 - served),
    }
    return Prediction(prediction_id=prediction_id, **{**ordinary, **changed})


def fill(stream, clock, n, *, days=4.0, truth=lambda p: p, scores=None, seed=0, prefix="a", outcomes=True, **changed):
    """Record n predictions over so many days, each with its outcome an hour later; the clock moves along."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 0.95, n) if scores is None else scores(rng, n)
    y = rng.random(n) < truth(p)
    step, start = days * DAY / 20, clock.now
    for k, part in enumerate(np.array_split(np.arange(n), 20), start=1):
        clock.now = start + k * step
        at = clock.now
        events = [said(f"{prefix}{i}", float(p[i]), at, **changed) for i in part]
        if outcomes:
            events += [Outcome(prediction_id=f"{prefix}{i}", outcome=int(y[i]), observed_at=at + 3_600) for i in part]
        stream.record(events)


def learn(store, **settings):
    """Let a worker learn all there is; it keeps its lease."""
    worker = Worker(store, WorkerSettings(**{"every_outcomes": 100_000, "every_seconds": 1e9, **settings}), name="w")
    while worker.turn():
        pass
    worker.close()
    return worker


def look(stream, clock, **given):
    """The observation an hour later, when all outcomes have settled."""
    return observe(stream, settings=SETTINGS, now=clock.now + 3_600.0, **given)


def found(seen, settings=SETTINGS):
    return {(each.kind, each.key): each for each in judge(seen, settings)}


def hold_lease(stream):
    """Somebody learns, and is up to date as far as anybody can tell."""
    return stream.lease("w", DAY)

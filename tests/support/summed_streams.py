"""Logs of every kind for tests of what is summed up from them, and the numbers that their rows give."""

import numpy as np
import pytest
from hypothesis import strategies as st

from mlflow_caliber.live import Reports
from mlflow_caliber.report import reliability_report
from mlflow_caliber.store import Outcome, Prediction

SOURCES = ("observed", "review", "audit")


def said(prediction_id, p, *, base=None, served=None, **changed):
    served, base = p if served is None else served, p if base is None else base
    ordinary = {
        "predicted_at": 0.0,
        "raw_probability": p,
        "base_probability": base,
        "probability": served,
        "prediction": int(served >= 0.5),
        "confidence": max(served, 1.0 - served),
    }
    return Prediction(prediction_id=prediction_id, **{**ordinary, **changed})


def happened(prediction_id, y, source="observed", at=0.0):
    return Outcome(prediction_id=prediction_id, outcome=int(y), observed_at=at, source=source)


_scores = st.integers(0, 1000).map(lambda k: k / 1000)  # with three decimals nothing is rounded
_predictions = st.builds(
    lambda k, p, base, served, held, segment, scorable: said(
        f"id{k}",
        p,
        base=base,
        served=served,
        abstained=held or not scorable,
        reason="" if scorable else "unscorable_row",
        segment=segment,
    ),
    st.integers(0, 25),
    _scores,
    _scores,
    _scores,
    st.booleans(),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([True, True, True, False]),
)
_outcomes = st.builds(
    happened, st.integers(0, 30).map("id{}".format), st.booleans(), st.sampled_from(SOURCES), st.integers(0, 3)
)
events = st.lists(st.one_of(_predictions, _outcomes, _outcomes), min_size=1, max_size=120)
"""Predictions, outcomes before and after them, corrections, duplicates, conflicts and strangers."""


def labelled_rows(rows, sources=None, source=None):
    """The rows of the log that count; of a source, those whose label it has told before any that look more closely."""
    known = rows["outcome"].notna() & (rows["reason"] != "unscorable_row")
    return rows[known if source is None else known & (rows["prediction_id"].map(sources) == source)]


def sources_of(stream):
    """By prediction, who of those that have told a label looked most closely: audits before reviews."""
    found = {}
    for entry in stream.log(limit=100_000):
        if isinstance(entry.event, Outcome):
            before = found.get(entry.event.prediction_id, "observed")
            found[entry.event.prediction_id] = max(before, entry.event.source, key=SOURCES.index)
    return found


def report_of(stream, rows, weight=None):
    """The report of these rows."""
    y = (rows["outcome"] == stream.positive).to_numpy(dtype=int)
    raw, base, served = (rows[f"{name}probability"].to_numpy() for name in ("raw_", "base_", ""))
    return (
        reliability_report(y, served, raw=raw, sample_weight=weight),
        reliability_report(y, base, sample_weight=weight),
    )


def fair_weights(every, rows):
    """What a labelled row weighs, so that answered and withheld rows count by their shares of the predictions.

    Their mean is one: AURC is a mean over ranks, and a row of weight 2 takes two of them.
    """
    every = every[every["reason"] != "unscorable_row"]
    weight = np.ones(len(rows))
    held = rows["abstained"].to_numpy(dtype=bool)
    for is_held in (False, True):
        n = (held == is_held).sum()
        if n:
            weight[held == is_held] = (every["abstained"] == is_held).sum() / n
    return weight / weight.mean() if len(rows) else weight


def record(stream, name, n):
    """Predictions that are right every other time."""
    for k in range(n):
        stream.record([said(f"{name}{k}", 0.7), happened(f"{name}{k}", k % 2)])


def with_damaged_summary(store, stream, clock):
    """Reports of somebody who finds a summary that cannot be read."""
    position, parts = stream.summary()
    stream.save_summary(position, {**parts, "older": b"rubbish"}, whole=True)
    return Reports(store, clock)


def close(metrics):
    """The same numbers, but for rounding."""
    return {side: None if values is None else pytest.approx(values, abs=1e-9) for side, values in metrics.items()}

"""What is learned from a log: the same bits however it is read, and nothing twice."""

from __future__ import annotations

import itertools
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.live import Observed, Predicted, StreamLearner
from mlflow_caliber.online import HedgedRecalibrator

HOUR = 3600.0


def a_log(n=300, seed=0, missing=0.1):
    """Predictions and their outcomes, mixed: late ones, missing ones, early ones, corrections, segments."""
    rng = np.random.default_rng(seed)
    said, happened = [], []
    for k in range(n):
        p = float(rng.random())
        at = float(k)
        said.append((at, "p", f"id{k}", p, float(np.clip(p * 0.9, 0, 1)), ["north", "south", None][k % 3]))
        if rng.random() > missing:
            delay = rng.choice([-3.0, 0.5, 20.0, 400.0], p=[0.05, 0.55, 0.3, 0.1])
            happened.append((at + delay, "o", f"id{k}", int(rng.random() < p**1.5), False))
            if rng.random() < 0.05:
                happened.append((at + delay + 30.0, "o", f"id{k}", int(rng.random() < 0.5), True))
    entries, known, last = [], set(), 0.0
    for seq, event in enumerate(sorted([*said, *happened], key=lambda event: event[0]), start=1):
        last = max(last, event[0])
        if event[1] == "p":
            known.add(event[2])
            entries.append(Predicted(seq, last, *event[2:]))
        else:
            entries.append(Observed(seq, last, event[2], event[3], event[2] in known, event[4]))
    return entries


LOG, SHORT = a_log(), a_log(80, seed=1)


def learned(entries, horizon=HOUR):
    learner = StreamLearner(horizon=horizon)
    learner.take(entries)
    return learner


@given(st.lists(st.integers(0, len(SHORT)), max_size=4), st.integers(0, 4))
def test_batches_and_restarts_change_no_bit(cuts, restart):
    whole = learned(SHORT, horizon=100.0)
    learner = StreamLearner(horizon=100.0)
    bounds = [0, *sorted(cuts), len(SHORT)]
    for k, (start, end) in enumerate(itertools.pairwise(bounds)):
        learner.take(SHORT[start:end])
        if k == restart:
            learner = StreamLearner.from_bytes(learner.to_bytes())
    assert learner.to_bytes() == whole.to_bytes()


def test_it_learns_what_the_recalibrator_alone_would():
    rng = np.random.default_rng(3)
    recalibrator, learner, log = HedgedRecalibrator(), StreamLearner(horizon=HOUR), []
    for k, p in enumerate(rng.random(400)):
        y = int(rng.random() < p**2)
        recalibrator.update(recalibrator.forecast(p), y)
        log += [Predicted(2 * k + 1, float(k), str(k), p, p), Observed(2 * k + 2, float(k), str(k), y)]
    learner.take(log)
    assert learner.recalibrator.to_dict() == recalibrator.to_dict()
    assert learner.counts.learned == 400
    assert learner.excess == 0.0  # what was served was the shipped model
    assert learner.base_alarm.raised


def test_each_alarm_reads_its_own_probability():
    rng, log = np.random.default_rng(4), []
    for k, p in enumerate(rng.random(400)):
        y = int(rng.random() < p**2)  # the shipped model is wrong, what was served was right
        log += [Predicted(2 * k + 1, float(k), str(k), p, p**2), Observed(2 * k + 2, float(k), str(k), y)]
    learner = learned(log)
    assert learner.base_alarm.raised
    assert not learner.served_alarm.raised


def test_every_outcome_is_accounted_for():
    learner = learned(LOG, horizon=100.0)
    outcomes = [entry for entry in LOG if isinstance(entry, Observed)]
    counts = learner.counts
    assert counts.corrected == sum(entry.correction for entry in outcomes)
    waiting_with_outcome = len(outcomes) - counts.corrected - counts.learned - counts.late - counts.unmatched
    assert 0 <= waiting_with_outcome <= learner.n_waiting
    assert counts.expired > 0
    assert counts.late > 0


def test_an_outcome_that_comes_first_is_learned_when_its_prediction_comes():
    learner = learned([Observed(1, 0.0, "a", 1, known=False), Predicted(2, 1.0, "a", 0.7, 0.7)])
    assert learner.counts.learned == 1


def test_a_correction_before_the_prediction_wins():
    entries = [
        Observed(1, 0.0, "a", 1, known=False),
        Observed(2, 0.5, "a", 0, known=False, correction=True),
        Predicted(3, 1.0, "a", 0.7, 0.7),
    ]
    assert learned(entries).losses.base == pytest.approx(-np.log(0.3))


def test_a_correction_after_learning_is_counted_and_teaches_nothing():
    entries = [Predicted(1, 0.0, "a", 0.7, 0.7), Observed(2, 1.0, "a", 1)]
    before = learned(entries).recalibrator.to_dict()
    after = learned([*entries, Observed(3, 2.0, "a", 0, correction=True)])
    assert after.recalibrator.to_dict() == before
    assert after.counts.corrected == 1


def test_the_horizon_ends_waiting_by_the_clock_of_the_log():
    waiting = [Predicted(1, 0.0, "never", 0.5, 0.5), Predicted(2, 1.0, "b", 0.7, 0.7), Observed(3, 2.0, "b", 1)]
    assert learned(waiting).counts.learned == 0  # the first may still come
    later = learned([*waiting, Predicted(4, HOUR + 1.5, "c", 0.7, 0.7)])
    assert (later.counts.learned, later.counts.expired, later.n_waiting) == (1, 1, 1)
    late = learned([*waiting, Predicted(4, HOUR + 1.5, "c", 0.7, 0.7), Observed(5, HOUR + 2.0, "never", 1)])
    assert late.counts.late == 1


def test_an_outcome_without_a_prediction_is_forgotten_after_the_horizon():
    entries = [Observed(1, 0.0, "ghost", 1, known=False), Predicted(2, HOUR + 1.0, "a", 0.5, 0.5)]
    assert learned(entries).counts.unmatched == 1


def test_what_was_learned_is_not_learned_again():
    learner = learned(LOG[:10])
    with pytest.raises(InvalidInputError, match="Entries must come after position 10, got 10"):
        learner.take(LOG[9:])


def test_what_was_served_is_what_is_accounted():
    entries = []
    for k in range(200):
        entries += [Predicted(2 * k + 1, float(k), str(k), 0.5, 0.01), Observed(2 * k + 2, float(k), str(k), 1)]
    assert learned(entries).excess == pytest.approx(200 * (np.log(0.5) - np.log(0.01)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: b"nonsense", "cannot be read"),
        (lambda state: zlib.compress(b"{}"), "cannot be read"),
        (lambda state: _changed(state, format_version=2), "format_version 1, got 2"),
        (lambda state: _changed(state, recalibrator={}), "must hold 'name'"),
        (lambda state: _changed(state, waiting=[[1]]), "cannot be read"),
    ],
)
def test_broken_states_are_refused(change, sentence):
    with pytest.raises(StateError, match=sentence):
        StreamLearner.from_bytes(change(learned(LOG[:50]).to_bytes()))


def _changed(state, **values):
    return zlib.compress(json.dumps({**json.loads(zlib.decompress(state)), **values}).encode())


def test_what_is_given_up_is_not_carried_along(monkeypatch):
    from mlflow_caliber.live import _learner

    monkeypatch.setattr(_learner, "_REMEMBERED", 100)
    entries = [Predicted(1, 0.0, "first", 0.5, 0.5), Observed(2, 0.0, "first", 1)]
    entries += [Predicted(k, 0.0, f"id{k}", 0.5, 0.5) for k in range(3, 1500)]
    entries += [Observed(1500, 0.0, "id1499", 1), Predicted(1501, 0.0, "last", 0.5, 0.5)]
    learner = learned(entries)
    assert learner.n_waiting <= learner.recalibrator.n_outstanding + 100 < 700
    assert learner.counts.expired + learner.n_waiting == 1498
    assert learner.settled == 2 + learner.counts.expired


def test_the_same_prediction_again_is_not_learned_twice():
    entries = [
        Predicted(1, 0.0, "a", 0.7, 0.7),
        Predicted(2, 0.0, "a", 0.7, 0.7),
        Observed(3, 0.0, "a", 1),
        Observed(4, 0.0, "a", 1),
    ]
    learner = learned(entries)
    assert (learner.counts.learned, learner.n_waiting, learner.settled) == (1, 0, 4)

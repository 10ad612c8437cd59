"""The calibration alarm: golden value, fair bets, memory, manners. Rates: tests/simulations/test_online_alarm.py."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.online import CalibrationAlarm


def fed(p, y, **params):
    alarm = CalibrationAlarm(**params)
    for score, outcome in zip(p, y, strict=True):
        alarm.update(score, outcome)
    return alarm


def test_golden_value():
    z = np.array([2, 1, -1, 0.5, 3, -2, 0, 1.5, -0.5, 2.5])
    alarm = fed(1 / (1 + np.exp(-z)), [0, 1, 0, 0, 0, 0, 1, 0, 1, 0])
    assert alarm.log_e_value == pytest.approx(2.042063747, abs=1e-8)
    assert alarm.e_value == pytest.approx(math.exp(2.042063747), rel=1e-8)
    assert not alarm.raised
    assert alarm.n_seen == 10


@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(0, 1)), max_size=30),
    st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 1.0, 1e-12, 1 - 1e-12])),
)
def test_the_bet_is_fair(past, p):
    """Whatever came before, the evidence is not expected to grow where p is right."""
    gains = []
    for y in (0, 1):
        alarm = fed(*zip(*past, strict=True)) if past else CalibrationAlarm()
        before = alarm.log_e_value
        alarm.update(p, y)
        gains.append(math.exp(alarm.log_e_value - before))
    assert (1 - p) * gains[0] + p * gains[1] <= 1 + 1e-9


def test_it_is_raised_by_drift_and_stays_raised():
    rng = np.random.default_rng(0)
    p = rng.random(600)
    alarm = fed(p, rng.random(600) < p**2)
    assert alarm.raised
    assert alarm.cusum_raised
    assert alarm.e_value > 1e4
    for score in rng.random(3000):
        alarm.update(score, rng.random() < score)
    assert alarm.raised
    alarm.restart()
    assert not alarm.raised
    assert not alarm.cusum_raised
    assert (alarm.e_value, alarm.cusum, alarm.n_seen) == (1.0, 1.0, 0)


def test_a_good_past_does_not_delay_the_cusum():
    rng = np.random.default_rng(4)
    p = rng.random(5000)
    alarm = fed(p, rng.random(5000) < p)
    assert alarm.log_e_value < 0.0
    assert not alarm.raised
    steps = 0
    while not alarm.cusum_raised and steps < 500:
        steps += 1
        score = rng.random()
        alarm.update(score, rng.random() < 0.6 * score)
    assert steps < 300


def test_what_was_called_impossible_is_overwhelming_evidence():
    alarm = fed([0.0] * 60, [1] * 60)
    assert alarm.e_value > 1e100
    assert fed([0.0] * 5000, [1] * 5000).e_value == math.inf
    assert fed([0.0, 1.0] * 500, [0, 1] * 500).e_value <= 1.0


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_going_on_from_saved_state_gives_the_same_bits(seed, cut):
    rng = np.random.default_rng(seed)
    p, y = rng.random(60), rng.integers(0, 2, 60)
    alarm = CalibrationAlarm.from_dict(json.loads(json.dumps(fed(p[:cut], y[:cut], alpha=0.01).to_dict())))
    for score, outcome in zip(p[cut:], y[cut:], strict=True):
        alarm.update(score, outcome)
    assert alarm.to_dict() == fed(p, y, alpha=0.01).to_dict()


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"alpha": 0}, "alpha must be a number strictly between 0 and 1, got 0"),
        ({"alpha": 1.0}, "alpha must be a number strictly between 0 and 1, got 1"),
        ({"alpha": 5e-324}, r"alpha must be a number in \[1e-09, 1 - 1e-09\], got 5e-324"),
        ({"alpha": 1 - 1e-12}, r"alpha must be a number in \[1e-09, 1 - 1e-09\], got 0.999"),
        ({"alpha": 10**400}, "alpha must be a number strictly between 0 and 1, got one beyond all floats"),
        ({"run_length": 0.5}, "run_length must be a finite number of at least 1, got 0.5"),
    ],
)
def test_parameters_that_make_no_sense(params, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        CalibrationAlarm(**params)


@pytest.mark.parametrize("alpha", [1e-9, 1 - 1e-9])
def test_the_ends_can_be_saved(alpha):
    assert CalibrationAlarm.from_dict(json.loads(json.dumps(CalibrationAlarm(alpha).to_dict()))).alpha == alpha


def test_input_and_state_that_do_not_fit():
    alarm = CalibrationAlarm()
    with pytest.raises(InvalidInputError, match=r"p must be a number in \[0, 1\], got one beyond all floats"):
        alarm.update(10**400, 1)
    with pytest.raises(InvalidInputError, match=r"p must be a number in \[0, 1\], got nan"):
        alarm.update(float("nan"), 1)
    with pytest.raises(InvalidInputError, match="y must be 0 or 1, got 2"):
        alarm.update(0.5, 2)
    state = alarm.to_dict()
    state["state"]["weights"] = [1.0]
    with pytest.raises(StateError, match="'weights' must be a list of 171 numbers"):
        CalibrationAlarm.from_dict(state)

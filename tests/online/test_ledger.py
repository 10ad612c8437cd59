"""Outcomes that come late, out of order, twice or never: the same for every recalibrator."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.online import HedgedRecalibrator, backtest


def test_outcomes_are_learned_in_the_order_of_their_forecasts(recalibrator):
    forecasts = [recalibrator.forecast(p) for p in (0.1, 0.2, 0.3, 0.4)]
    assert recalibrator.update(forecasts[2], 1) == []
    assert recalibrator.update(forecasts[1], 0) == []
    assert recalibrator.update(forecasts[0], 1) == [(forecasts[0], 1), (forecasts[1], 0), (forecasts[2], 1)]
    assert (recalibrator.n_issued, recalibrator.n_outstanding, recalibrator.n_learned) == (4, 1, 3)


def test_whatever_the_order_of_arrival_the_state_is_the_same(recalibrator):
    rng = np.random.default_rng(0)
    kind, outcomes = type(recalibrator), rng.integers(0, 2, 30).tolist()
    states = []
    for order in (range(30), rng.permutation(30)):
        one = kind()
        forecasts = [one.forecast(p) for p in np.linspace(0, 1, 30)]
        first, *rest = order if order[0] == 0 else [0, *(k for k in order if k)]
        for k in [*rest, first]:  # the oldest comes last, so that all are learned at one moment
            one.update(forecasts[k], outcomes[k])
        states.append(one.to_dict()["state"])
    assert states[0] == states[1] | {"ledger": states[0]["ledger"]}


def test_a_forecast_given_up_lets_the_others_go(recalibrator):
    first, second = recalibrator.forecast(0.1), recalibrator.forecast(0.2)
    assert recalibrator.update(second, 1) == []
    assert recalibrator.expire(first) == [(second, 1)]
    assert recalibrator.n_learned == 1
    assert recalibrator.n_outstanding == 0


def test_the_outcome_of_an_expired_forecast_is_taken_once_and_not_learned(recalibrator):
    first = recalibrator.forecast(0.1)
    recalibrator.expire(first)
    assert recalibrator.update(first, 1) == []
    assert recalibrator.n_learned == 0
    with pytest.raises(InvalidInputError, match="must get its outcome once and in time, got number 0"):
        recalibrator.update(first, 1)


def test_it_does_not_wait_forever_for_one_that_never_comes(recalibrator):
    lost = recalibrator.forecast(0.5)
    for _ in range(600):
        recalibrator.update(recalibrator.forecast(0.5), 1)
    assert recalibrator.n_learned == 600
    assert recalibrator.n_outstanding == 0
    assert recalibrator.update(lost, 0) == []


def test_it_forgets_the_oldest_of_too_many_that_expired(recalibrator, monkeypatch):
    monkeypatch.setattr("mlflow_caliber.online._ledger._REMEMBERED", 3)
    forecasts = [recalibrator.forecast(0.5) for _ in range(5)]
    for forecast in forecasts:
        recalibrator.expire(forecast)
    assert recalibrator.to_dict()["state"]["ledger"]["expired"] == [2, 3, 4]
    with pytest.raises(InvalidInputError, match="got number 1, which has been learned, marked, or given up"):
        recalibrator.update(forecasts[1], 1)


def test_it_waits_longer_where_outcomes_take_longer(recalibrator):
    """All come 900 late, which is beyond the first horizon."""
    p = np.full(3000, 0.5)
    end = backtest(recalibrator, p, p > 1, delay=900).recalibrator
    assert end.n_learned == 2100


def test_rare_late_outcomes_are_given_up_at_first_and_then_waited_for():
    rng = np.random.default_rng(0)
    y = (rng.random(6000) < 0.1).astype(int)
    end = backtest(HedgedRecalibrator(), np.full(6000, 0.1), y, delay=np.where(y == 1, 700, 0)).recalibrator
    assert end.n_learned > 4000
    assert end.predict(0.1) == pytest.approx(0.1, abs=0.02)


def test_an_outcome_must_belong_to_a_forecast_and_come_once(recalibrator):
    first, second = recalibrator.forecast(0.1), recalibrator.forecast(0.2)
    recalibrator.update(second, 1)
    with pytest.raises(InvalidInputError, match="must get its outcome once and in time, got number 1"):
        recalibrator.update(second, 1)  # waits for the first one
    recalibrator.update(first, 0)
    for old in (first, second):
        with pytest.raises(InvalidInputError, match="once and in time"):
            recalibrator.update(old, 1)
        with pytest.raises(InvalidInputError, match="once and in time"):
            recalibrator.expire(old)
    with pytest.raises(InvalidInputError, match="must be one that was issued here, got number 2 of 2"):
        recalibrator.update(dataclasses.replace(first, number=2), 1)
    third = recalibrator.forecast(0.3)
    with pytest.raises(InvalidInputError, match="Forecast 2 must come back as it was issued"):
        recalibrator.update(dataclasses.replace(third, segment="north"), 1)
    recalibrator.expire(third)
    with pytest.raises(InvalidInputError, match="must expire only once"):
        recalibrator.expire(third)


@pytest.mark.parametrize("y", [2, -1, 0.5, "1", None, float("nan"), [1]])
def test_an_outcome_is_0_or_1(recalibrator, y):
    with pytest.raises(InvalidInputError, match="y must be 0 or 1, got"):
        recalibrator.update(recalibrator.forecast(0.5), y)
    assert recalibrator.n_outstanding == 1


@pytest.mark.parametrize("p", [1.5, -0.1, float("nan"), None, "0.5", True])
def test_a_score_is_a_probability(recalibrator, p):
    for call in (recalibrator.predict, recalibrator.forecast):
        with pytest.raises(InvalidInputError, match=r"p must be a number in \[0, 1\], got"):
            call(p)
    assert recalibrator.n_issued == 0


def test_a_segment_is_one_name(recalibrator):
    with pytest.raises(InvalidInputError, match="segment must be one name"):
        recalibrator.predict(0.5, ["a", "b"])


def test_it_says_which_forecasts_still_wait(recalibrator):
    first, second, third = (recalibrator.forecast(p) for p in (0.1, 0.2, 0.3))
    recalibrator.update(second, 1)
    recalibrator.expire(third)
    assert [recalibrator.awaits(one) for one in (first, second, third)] == [True, False, False]
    recalibrator.update(first, 1)
    assert not recalibrator.awaits(first)


def test_what_waits_is_saved_too(recalibrator):
    first, second, third = (recalibrator.forecast(p, "north") for p in (0.1, 0.2, 0.3))
    recalibrator.update(third, 1)
    again = type(recalibrator).from_dict(json.loads(json.dumps(recalibrator.to_dict())))
    assert again.to_dict() == recalibrator.to_dict()
    again.expire(second)
    again = type(recalibrator).from_dict(json.loads(json.dumps(again.to_dict())))
    assert again.update(first, 0) == [(first, 0), (third, 1)]
    assert again.update(second, 0) == []

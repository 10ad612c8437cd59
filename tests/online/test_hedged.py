"""The hedged recalibrator: its bound, its shape, its memory, its manners."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.online import HedgedForecast, HedgedRecalibrator, backtest

PI = 0.1
LN = math.log(1.0 / PI)
# Rounding of sums of thousands of terms.
ROUNDING = 1e-6
PROBABILITIES = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 1.0, 0.5, 1e-12, 1.0 - 1e-12, 1e-300]))


def loss(p, y):
    return -math.log(max(p if y else 1.0 - p, 1e-9))


def against(play, n=1500, seed=3, segment=None):
    """The worst and the last excess over the raw scores, of a stream that chooses outcomes after seeing the answers."""
    rng = np.random.default_rng(seed)
    hedged, excess, worst = HedgedRecalibrator(PI), 0.0, 0.0
    for t in range(n):
        p = float(rng.random())
        forecast = hedged.forecast(p, segment)
        y = play(t, p, forecast.served)
        hedged.update(forecast, y)
        excess += loss(forecast.served, y) - loss(p, y)
        worst = max(worst, excess)
    assert hedged.excess_loss == pytest.approx(excess, abs=ROUNDING)
    assert hedged.excess_bound == pytest.approx(LN)
    return worst


ADVERSARIES = {
    "against what was served": lambda t, p, served: int(served < 0.5),
    "against the raw score": lambda t, p, served: int(p < 0.5),
    "alternating": lambda t, p, served: t % 2,
    "against, then with": lambda t, p, served: int((p < 0.5) == (t < 700)),
    "with the raw score where it was changed": lambda t, p, served: int(p > served),
    "calibrated at first": lambda t, p, served: int(p > served) if t > 400 else int((t * 0.618) % 1 < p**3),
}


@pytest.mark.parametrize("segment", [None, "north"])
@pytest.mark.parametrize("adversary", ADVERSARIES)
def test_no_adversary_costs_more_than_the_bound(adversary, segment):
    assert against(ADVERSARIES[adversary], segment=segment) <= LN + ROUNDING


@given(
    st.lists(st.tuples(PROBABILITIES, st.integers(0, 1), st.sampled_from([None, "a", "b"])), min_size=1, max_size=120),
    st.sampled_from([1, 40]),
)
def test_no_sequence_costs_more_than_the_bound(rows, times):
    hedged, excess = HedgedRecalibrator(PI), 0.0
    for p, y, segment in rows * times if len(rows) < 10 else rows:
        forecast = hedged.forecast(p, segment)
        hedged.update(forecast, y)
        excess += loss(forecast.served, y) - loss(p, y)
        assert excess <= LN + ROUNDING


@given(
    st.lists(st.tuples(PROBABILITIES, st.integers(0, 1), st.integers(-1, 20)), min_size=1, max_size=150),
    st.floats(0.01, 0.9),
)
def test_late_outcomes_cost_no_more_than_their_slots_allow(rows, passive_share):
    p, y, delay = (list(column) for column in zip(*rows, strict=True))
    end = backtest(HedgedRecalibrator(passive_share), p, y, delay=delay).recalibrator
    slots = len(end.to_dict()["state"]["odds"])
    assert end.excess_bound == pytest.approx(math.log(1 / passive_share) + (slots - 1) * math.log(10 / passive_share))
    assert end.excess_loss <= end.excess_bound + ROUNDING


def test_the_answer_is_nearly_as_good_as_the_recalibrated_one():
    rng = np.random.default_rng(0)
    hedged, excess = HedgedRecalibrator(PI), 0.0
    for p in rng.random(800):
        forecast, y = hedged.forecast(p), int(rng.random() < 0.3 * p)
        hedged.update(forecast, y)
        excess += loss(forecast.served, y) - loss(forecast.active, y)
        assert excess <= -math.log(1.0 - PI) + ROUNDING


@pytest.mark.parametrize("segment", [None, "north", "south", "never seen"])
def test_the_map_never_decreases(trained, segment):
    grid = np.concatenate((np.linspace(0, 1, 1500), 10.0 ** -np.arange(1, 13), 1 - 10.0 ** -np.arange(1, 13)))
    answers = [trained.predict(p, segment) for p in np.sort(grid)]
    assert np.diff(answers).min() >= -1e-15
    assert 0.0 < min(answers) < max(answers) < 1.0


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_the_map_never_decreases_on_any_data(seed):
    rng = np.random.default_rng(seed)
    hedged = HedgedRecalibrator(PI)
    for p in rng.beta(*rng.uniform(0.1, 3, 2), 200):
        hedged.update(hedged.forecast(p, rng.choice(["a", "b"])), int(rng.random() < 0.5 + 0.5 * np.sin(9 * p)))
        if rng.random() < 0.02:
            answers = [hedged.predict(x, "a") for x in np.linspace(0, 1, 200)]
            assert np.diff(answers).min() >= -1e-15


def test_it_starts_as_the_raw_score_nearly_and_stays_where_that_is_right():
    rng = np.random.default_rng(1)
    hedged = HedgedRecalibrator()
    assert [hedged.predict(p) for p in (0.1, 0.5, 0.9)] == pytest.approx([0.1, 0.5, 0.9], abs=0.03)
    p = rng.random(3000)
    end = backtest(hedged, p, rng.random(3000) < p).recalibrator
    assert [end.predict(p) for p in (0.1, 0.5, 0.9)] == pytest.approx([0.1, 0.5, 0.9], abs=0.03)
    experts = {name: weight for name, weight in end.weights.items() if name != "passive"}
    assert max(experts, key=experts.get) == "identity"
    assert sum(experts.values()) == pytest.approx(1.0)


def test_a_segment_starts_as_the_pooled_answer_and_leaves_it():
    rng = np.random.default_rng(2)
    hedged = HedgedRecalibrator()
    for _ in range(1500):
        p, segment = rng.random(), rng.choice(["high", "low"])
        truth = p**0.5 if segment == "high" else p**2
        hedged.update(hedged.forecast(p, segment), int(rng.random() < truth))
    assert hedged.predict(0.5, "new") == pytest.approx(hedged.predict(0.5), abs=0.02)
    assert hedged.predict(0.5, "high") == pytest.approx(0.71, abs=0.08)
    assert hedged.predict(0.5, "low") == pytest.approx(0.25, abs=0.08)
    assert set(hedged.segment_weights()) == {"high", "low"}
    assert sum(hedged.segment_weights()["low"].values()) == pytest.approx(1.0)


def test_segments_are_read_as_text_and_missing_ones_are_none(trained):
    assert trained.forecast(0.5, 7).segment == "7"
    assert trained.forecast(0.5, float("nan")).segment is None
    assert trained.predict(0.5, float("nan")) == trained.predict(0.5)


def test_predicting_changes_nothing_and_says_what_will_be_served(trained):
    before = trained.to_dict()
    answer = trained.predict(0.3, "north")
    assert trained.to_dict() == before
    assert trained.forecast(0.3, "north").served == answer


def as_json(value):
    return json.loads(json.dumps(value, allow_nan=False))


@given(st.integers(0, 2**32 - 1), st.integers(0, 150))
@settings(max_examples=25)
def test_going_on_from_saved_state_gives_the_same_bits(seed, cut):
    rng = np.random.default_rng(seed)
    n = 150
    p, y = np.round(rng.random(n), rng.integers(1, 17)), rng.integers(0, 2, n).tolist()
    segments = rng.choice(np.array([None, "a", "b"], dtype=object), n)
    due = np.arange(n) + rng.integers(-3, 15, n) * rng.integers(0, 2, n)

    def run(interrupted):
        hedged, forecasts, served = HedgedRecalibrator(), [], []
        for t in range(n):
            if interrupted and t == cut:
                hedged = HedgedRecalibrator.from_dict(as_json(hedged.to_dict()))
                forecasts = [HedgedForecast.from_dict(as_json(forecast.to_dict())) for forecast in forecasts]
            forecasts.append(hedged.forecast(p[t], segments[t]))
            served.append(forecasts[t].served)
            for known in np.flatnonzero((due == t) & (np.arange(n) <= t)):
                hedged.update(forecasts[known], y[known])
        return served, hedged.to_dict()

    assert run(interrupted=True) == run(interrupted=False)


def test_state_survives_the_isotonic_window():
    rng = np.random.default_rng(3)
    p = rng.random(2300)
    y = (rng.random(2300) < p**2).astype(int)
    whole = backtest(HedgedRecalibrator(), p, y)
    first = backtest(HedgedRecalibrator(), p[:2171], y[:2171]).recalibrator
    again = backtest(HedgedRecalibrator.from_dict(as_json(first.to_dict())), p[2171:], y[2171:])
    assert again.recalibrator.to_dict() == whole.recalibrator.to_dict()
    np.testing.assert_array_equal(again.served, whole.served[2171:])


def spoiled(state, path, value):
    """A copy with one place changed, or removed."""
    copy = as_json(state)
    *way, last = path
    inner = copy
    for key in way:
        inner = inner[key]
    if value is KeyError:
        del inner[last]
    else:
        inner[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (["name"], "rolling", "'name' must be 'hedged', got 'rolling'"),
        (["format_version"], 2, "'format_version' must be 1 .a newer mlflow-caliber"),
        (["params", "passive_share"], 1.5, r"'passive_share' must be a number in \[1e-09, 1\], got 1.5"),
        (["params", "extra"], 1, r"must hold only \['passive_share'\], got also \['extra'\]"),
        (["state", "odds"], KeyError, "must hold 'odds', which is missing"),
        (["state", "free"], [7], "'free' must be the slots that no outstanding forecast occupies"),
        (["state", "pooled", "weights"], [1.0], "'weights' must be a list of 7 numbers"),
        (["state", "pooled", "grids", 3], float("nan"), "'grids' must be a finite number"),
        (["state", "pooled", "isotonic", "outcomes", 0], 2, "an outcome 0 or 1 for each of at most 2000 scores"),
        (["state", "pooled", "isotonic", "x", 0], 1.0, "increasing knots"),
        (["state", "segments", "north", "weights"], "all", "'weights' must be a list, got 'all'"),
        (["state", "ledger", "outstanding", 0], [3], "increasing number, segment, served, slot"),
        (["state", "ledger", "outstanding", 0, 1], 3, "segments are texts or null"),
        (["state", "ledger", "outstanding", 0, 2], 3.0, "increasing number, segment, served, slot"),
        (["state", "ledger", "marked"], [[0, None, 1]], "a list of outstanding number, forecast, outcome"),
        (["state", "ledger", "issued"], True, "a whole number of at least 0, got True"),
        (["state"], [], "must be an object with named values, got a list"),
    ],
)
def test_state_that_does_not_fit_is_refused(trained, path, value, sentence):
    with pytest.raises(StateError, match=sentence):
        HedgedRecalibrator.from_dict(spoiled(trained.to_dict(), path, value))


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (["score"], 2.0, r"'score' must be a number in \[0, 1\], got 2.0"),
        (["segment"], 5, "'segment' must be a text or null, got 5"),
        (["experts"], [0.5], "'experts' must be a list of 7 numbers"),
        (["late"], -1, "'late' must be a whole number of at least 0"),
        (["more"], -1, r"must hold only .* got also \['more'\]"),
    ],
)
def test_a_forecast_that_does_not_fit_is_refused(trained, path, value, sentence):
    forecast = trained.forecast(0.4, "north")
    assert HedgedForecast.from_dict(as_json(forecast.to_dict())) == forecast
    with pytest.raises(StateError, match=sentence):
        HedgedForecast.from_dict(spoiled(forecast.to_dict(), path, value))


@pytest.mark.parametrize("share", [0.0, 1.0, -1, "half", True, float("nan")])
def test_a_passive_share_that_is_none(share):
    with pytest.raises(InvalidInputError, match="passive_share must be a number strictly between 0 and 1"):
        HedgedRecalibrator(share)


@pytest.mark.parametrize("share", [5e-324, 1e-12, 1 - 1e-12])
def test_a_passive_share_that_is_too_near_to_none_or_all(share):
    with pytest.raises(InvalidInputError, match=r"passive_share must be a number in \[1e-09, 1 - 1e-09\]"):
        HedgedRecalibrator(share)


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_the_ends_of_the_passive_share_can_be_saved(share):
    assert HedgedRecalibrator.from_dict(as_json(HedgedRecalibrator(share).to_dict())).passive_share == share


def test_what_is_no_score_and_no_forecast():
    hedged = HedgedRecalibrator()
    for act in (hedged.forecast, hedged.predict):
        with pytest.raises(InvalidInputError, match=r"p must be a number in \[0, 1\], got one beyond all floats"):
            act(10**400)
    for act in (hedged.awaits, hedged.expire, lambda forecast: hedged.update(forecast, 1)):
        with pytest.raises(InvalidInputError, match=r"forecast must be what forecast\(\) returned, got a NoneType"):
            act(None)
    with pytest.raises(InvalidInputError, match="got one beyond all floats"):
        hedged.snapshot().predict([10**400])
    assert hedged.n_issued == 0

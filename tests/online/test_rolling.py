"""The rolling recalibrator: windows, fits, segments, memory, manners."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlflow_caliber.calibrators import make_calibrator
from mlflow_caliber.exceptions import CaliberError, InvalidInputError, StateError
from mlflow_caliber.online import Forecast, RollingRecalibrator, backtest


def test_it_is_the_calibrator_of_the_last_window():
    rng = np.random.default_rng(0)
    p, y = rng.random(330), rng.integers(0, 2, 330)
    end = backtest(RollingRecalibrator(window=100, refit_every=10, clip=0.05), p, y).recalibrator
    fit = make_calibrator("isotonic").fit(p[-100:], y[-100:])
    grid = np.linspace(0, 1, 40)
    assert [end.predict(x) for x in grid] == np.clip(fit.predict(grid), 0.05, 0.95).tolist()


def test_it_serves_raw_scores_at_first_and_fits_again_on_schedule():
    rng = np.random.default_rng(0)
    rolling, maps = RollingRecalibrator(min_samples=30, refit_every=7), []
    for t in range(60):
        if t < 30:
            assert rolling.predict(0.123) == 0.123
        rolling.update(rolling.forecast(rng.random()), t % 2)
        maps.append(json.dumps(rolling.to_dict()["state"]["fitted"]))
    changes = [t + 1 for t in range(1, 60) if maps[t] != maps[t - 1]]
    assert changes == [30, 37, 44, 51, 58]


def test_a_window_of_one_class_keeps_the_last_map():
    rng = np.random.default_rng(0)
    rolling = RollingRecalibrator(window=40, min_samples=20)
    for p in rng.random(40):
        rolling.update(rolling.forecast(p), 1)
    assert rolling.predict(0.2) == 0.2
    for t, p in enumerate(rng.random(40)):
        rolling.update(rolling.forecast(p), t % 2)
    answer = rolling.predict(0.2)
    assert answer != 0.2
    for p in rng.random(200):
        rolling.update(rolling.forecast(p), 0)
    assert 0.01 <= rolling.predict(0.2) <= answer


def test_segments_have_their_own_maps_where_the_calibrator_has():
    rng = np.random.default_rng(1)
    p, segment = rng.random(800), rng.choice(["high", "low"], 800)
    y = rng.random(800) < np.where(segment == "high", p**0.5, p**2)
    end = backtest(RollingRecalibrator("segmented"), p, y, segments=segment).recalibrator
    assert end.predict(0.5, "high") > end.predict(0.5) > end.predict(0.5, "low")
    assert end.predict(0.5, "new") == end.predict(0.5)
    flat = backtest(RollingRecalibrator("isotonic"), p, y, segments=segment).recalibrator
    assert flat.predict(0.5, "high") == flat.predict(0.5, "low")


@pytest.mark.parametrize("calibrator", ["isotonic", "sigmoid", "segmented", "venn_abers", "auto"])
@pytest.mark.parametrize("cut", [0, 17, 55, 63, 100])
def test_going_on_from_saved_state_gives_the_same_bits(calibrator, cut):
    rng = np.random.default_rng(cut)
    p, y, segments = rng.random(120), rng.integers(0, 2, 120), rng.choice(["a", "b"], 120)
    delay = rng.integers(-1, 9, 120)

    def run(cut):
        rolling, forecasts = RollingRecalibrator(calibrator, window=60), []
        for t in range(120):
            if t == cut:
                rolling = RollingRecalibrator.from_dict(json.loads(json.dumps(rolling.to_dict())))
                forecasts = [Forecast.from_dict(json.loads(json.dumps(one.to_dict()))) for one in forecasts]
            forecasts.append(rolling.forecast(p[t], segments[t]))
            for known in np.flatnonzero((np.arange(120) + delay == t) & (np.arange(120) <= t)):
                if delay[known] >= 0:
                    rolling.update(forecasts[known], int(y[known]))
        return [one.served for one in forecasts], rolling.to_dict()

    assert run(cut) == run(None)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"calibrator": "isotonc"}, "Did you mean 'isotonic'?"),
        ({"calibrator_params": {"prior": 1}}, "unknown key 'prior'"),
        ({"window": 1}, "window must be a whole number >= 2, got 1"),
        ({"window": 20}, "min_samples must be at most window = 20, got 50"),
        ({"refit_every": 0}, "refit_every must be a whole number >= 1, got 0"),
        ({"clip": 0.5}, "clip must be below 0.5, got 0.5"),
        ({"clip": -1}, "clip must be a number in"),
    ],
)
def test_parameters_that_make_no_sense(params, sentence):
    with pytest.raises(CaliberError, match=sentence):
        RollingRecalibrator(**params)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("params", {"window": "many"}, "params: window must be a whole number"),
        ("params", {"speed": 3}, "params: .*unexpected keyword argument 'speed'"),
        ("outcomes", [1], "'outcomes' must be an outcome and a segment for each of at most 500 scores"),
        ("fitted", {"name": "pickle"}, "Saved calibrator"),
    ],
)
def test_state_that_does_not_fit_is_refused(place, value, sentence):
    state = RollingRecalibrator().to_dict()
    (state if place == "params" else state["state"])[place] = value
    with pytest.raises(StateError, match=sentence):
        RollingRecalibrator.from_dict(state)


def test_the_parameters_of_the_calibrator_are_passed_on():
    rolling = RollingRecalibrator("centered_isotonic", calibrator_params={"clip_ends": True})
    again = RollingRecalibrator.from_dict(rolling.to_dict())
    assert again.to_dict() == rolling.to_dict()
    p, wrong = np.linspace(0, 1, 60), RollingRecalibrator("centered_isotonic", calibrator_params={"clip_ends": 3})
    with pytest.raises(InvalidInputError, match="clip_ends must be True or False"):
        backtest(wrong, p, p > 0.5)


def test_what_is_no_score_and_no_forecast_is_refused():
    rolling = RollingRecalibrator()
    for act in (rolling.predict, rolling.forecast):
        with pytest.raises(InvalidInputError, match="beyond all floats"):
            act(10**400)
    for act in (rolling.awaits, rolling.expire, lambda forecast: rolling.update(forecast, 1)):
        with pytest.raises(InvalidInputError, match=r"forecast must be what forecast\(\) returned, got a NoneType"):
            act(None)

"""The expected calibration error, its debiased forms and upper bound, and the reliability curve."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve

from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.metrics import (
    ReliabilityCurve,
    expected_calibration_error,
    expected_calibration_error_upper,
    reliability_curve,
)


def calibrated(n, seed):
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return (rng.random(n) < p).astype(int), p


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_certain_and_wrong_is_the_worst(strategy):
    """A half-open last bin would drop p = 1 and call this perfect."""
    assert expected_calibration_error([0] * 5, [1.0] * 5, strategy=strategy) == 1.0
    assert expected_calibration_error([1] * 5, [0.0] * 5, strategy=strategy) == 1.0


def test_ties_stay_in_one_bin():
    y, p = [0, 1] * 10, [0.5] * 20
    assert expected_calibration_error(y, p) == 0.0
    assert len(reliability_curve(y, p)) == 1


def test_a_large_tie_group_takes_no_neighbours():
    """Half of all rows at .2: their bin holds the middle of the group, the rows around it keep their own bins."""
    p = np.concatenate([np.full(50, 0.2), np.linspace(0.3, 0.9, 50)])
    curve = reliability_curve(np.zeros(100), p, n_bins=10)
    assert curve.count.tolist() == [50, 10, 10, 10, 10, 10]


def test_negative_zero_is_zero():
    curve = reliability_curve([0, 1, 1], [-0.0, 0.0, 1.0], n_bins=2)
    assert curve.count.tolist() == [2, 1]


def test_plug_in_is_biased_and_the_debiased_square_is_not():
    """A calibrated model of 100 rows shows an error near .1; Kumar, Liang and Ma's square is near 0 on average."""
    draws = [calibrated(100, seed) for seed in range(300)]
    plug_in = np.array([expected_calibration_error(*draw) for draw in draws])
    debiased_l1 = np.array([expected_calibration_error(*draw, debias=True) for draw in draws])
    root = np.array([expected_calibration_error(*draw, norm="l2", debias=True) for draw in draws])
    squares = root * np.abs(root)
    assert plug_in.mean() == pytest.approx(0.10, abs=0.01)
    assert debiased_l1.mean() < plug_in.mean() - 0.01
    assert abs(squares.mean()) < 3 * squares.std() / np.sqrt(300)
    assert squares.min() < 0 < squares.max()


def test_debiased_l1_is_the_resampling_it_stands_for():
    y, p = calibrated(400, 7)
    curve = reliability_curve(y, p, n_bins=5)
    gap = curve.mean_predicted - curve.mean_observed
    sd = np.sqrt(curve.mean_observed * (1 - curve.mean_observed) / curve.count)
    noisy = stats.foldnorm.mean(np.abs(gap) / sd, scale=sd)
    expected = 2 * np.mean(np.abs(gap)) - np.mean(noisy)
    assert expected_calibration_error(y, p, n_bins=5, debias=True) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_debias_leaves_bins_of_one_row_alone(norm):
    y, p = [0, 1, 1], [0.1, 0.5, 0.8]
    plain = expected_calibration_error(y, p, n_bins=3, norm=norm)
    assert expected_calibration_error(y, p, n_bins=3, norm=norm, debias=True) == pytest.approx(plain)


def test_upper_bound_shrinks_with_rows_and_grows_with_certainty():
    y, p = calibrated(500, 3)
    once = expected_calibration_error_upper(y, p)
    assert expected_calibration_error_upper(np.tile(y, 20), np.tile(p, 20)) < once
    assert expected_calibration_error_upper(y, p, alpha=0.01) > once
    assert expected_calibration_error_upper(y, p, alpha=0.5) == pytest.approx(expected_calibration_error(y, p))


def test_upper_bound_does_not_take_weight_for_evidence():
    """One row of weight 1,000 beside 999 of weight 1 is worth about four rows, not two thousand."""
    y, p = calibrated(1000, 5)
    weights = np.ones(1000)
    weights[0] = 1000.0
    assert expected_calibration_error_upper(y, p, n_bins=1, sample_weight=weights) > 0.3


def test_upper_bound_is_above_the_truth_as_often_as_it_says():
    """p says u, the truth is u/2 + .25: gaps of both signs, true binned error .125 (nearly: bins of ten per cent)."""
    rng = np.random.default_rng(11)
    misses = 0
    for _ in range(300):
        p = rng.random(1000)
        y = rng.random(1000) < 0.25 + p / 2
        misses += expected_calibration_error_upper(y, p) < 0.125
    assert misses <= 0.05 * 300


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_curve_agrees_with_scikit_learn(strategy):
    y, p = calibrated(1000, 1)
    observed, predicted = calibration_curve(y, p, n_bins=10, strategy=strategy)
    curve = reliability_curve(y, p, strategy=strategy)
    np.testing.assert_allclose(curve.mean_observed, observed, rtol=1e-12)
    np.testing.assert_allclose(curve.mean_predicted, predicted, rtol=1e-12)


def test_curve_gives_the_error():
    y, p = calibrated(700, 2)
    curve = reliability_curve(y, p, n_bins=8)
    gap = np.average(np.abs(curve.mean_predicted - curve.mean_observed), weights=curve.weight)
    assert expected_calibration_error(y, p, n_bins=8) == pytest.approx(gap, rel=1e-12)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_intervals_are_wilsons(confidence):
    y, p = calibrated(60, 4)
    curve = reliability_curve(y, p, n_bins=6, confidence=confidence)
    for observed, n, low, high in zip(
        curve.mean_observed, curve.count, curve.interval_low, curve.interval_high, strict=True
    ):
        wilson = stats.binomtest(round(observed * n), int(n)).proportion_ci(confidence, method="wilson")
        assert (low, high) == pytest.approx((wilson.low, wilson.high), abs=1e-12)


def test_intervals_hold_their_frequency_even_at_the_ends():
    curve = reliability_curve([0] * 5 + [1] * 5, [0.1] * 5 + [0.9] * 5, n_bins=2)
    assert curve.interval_low[0] == 0.0
    assert curve.interval_high[1] == 1.0


def test_weighted_intervals_count_effective_rows():
    y, p = [0, 1, 1, 0], [0.5] * 4
    even = reliability_curve(y, p, sample_weight=[3.0] * 4)
    plain = reliability_curve(y, p)
    assert even.interval_low == pytest.approx(plain.interval_low)
    assert even.weight.tolist() == [12.0]
    uneven = reliability_curve(y, p, sample_weight=[9.0, 9.0, 1.0, 1.0])
    assert uneven.interval_low[0] < plain.interval_low[0]


def test_empty_bins_and_rows_without_weight_are_left_out():
    curve = reliability_curve([0, 1, 1], [0.05, 0.95, 0.5], strategy="uniform", sample_weight=[1, 1, 0])
    assert curve.lower_edge.tolist() == [0.0, 0.9]
    assert curve.upper_edge.tolist() == [0.1, 1.0]
    assert curve.count.tolist() == [1, 1]


def test_quantile_edges_are_probabilities_that_occur():
    curve = reliability_curve([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], n_bins=2)
    assert curve.lower_edge.tolist() == [0.1, 0.6]
    assert curve.upper_edge.tolist() == [0.2, 0.9]


def test_curve_survives_json():
    curve = reliability_curve(*calibrated(300, 6))
    again = ReliabilityCurve.from_dict(json.loads(json.dumps(curve.to_dict())))
    assert again == curve
    assert again.count.dtype == np.int64
    assert curve != reliability_curve(*calibrated(300, 8))
    assert curve != "a curve"


def test_curve_cannot_be_changed():
    curve = reliability_curve([0, 1], [0.2, 0.8])
    with pytest.raises(ValueError, match="read-only"):
        curve.weight[0] = 7.0


def without(state, key):
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: without(state, "weight"), r"must have the fields .*, got none named 'weight'\."),
        (lambda state: state | {"weigth": [1.0]}, r"unknown key 'weigth'\. Did you mean 'weight'\?"),
        (lambda state: state | {"weight": [1.0]}, r"Arrays must have the same length: .*weight has 1"),
        (lambda state: state | {"weight": [1.0, float("nan")]}, r"ReliabilityCurve\.weight must be finite"),
        (lambda state: state | {"weight": "heavy"}, r"ReliabilityCurve\.weight must be numbers"),
        (lambda state: [state], r"must be read from a mapping, got a list\."),
    ],
)
def test_curve_refuses_what_it_did_not_write(change, sentence):
    state = reliability_curve([0, 1], [0.2, 0.8]).to_dict()
    with pytest.raises(StateError, match=sentence):
        ReliabilityCurve.from_dict(change(state))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_bins": 0}, r"n_bins must be a whole number >= 1, got 0\."),
        ({"n_bins": 2.5}, r"n_bins must be a whole number >= 1, got 2\.5\."),
        ({"n_bins": True}, r"n_bins must be a whole number >= 1, got True\."),
        ({"strategy": "quantiles"}, r"strategy must be one of quantile, uniform, got 'quantiles'\. Did you mean"),
        ({"norm": "l3"}, r"norm must be one of l1, l2, max, got 'l3'\."),
        ({"norm": "max", "debias": True}, r"debias must be False with norm='max'"),
    ],
)
def test_bad_options_get_a_sentence(options, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        expected_calibration_error([0, 1], [0.4, 0.6], **options)


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan"), "high"])
def test_levels_lie_between_zero_and_one(level):
    with pytest.raises(InvalidInputError, match="alpha must be a number strictly between 0 and 1"):
        expected_calibration_error_upper([0, 1], [0.4, 0.6], alpha=level)
    with pytest.raises(InvalidInputError, match="confidence must be a number strictly between 0 and 1"):
        reliability_curve([0, 1], [0.4, 0.6], confidence=level)

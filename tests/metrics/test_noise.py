"""The interval of the calibration error and its noise floor. How often they cover: tests/simulations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber._cells import bin_sums
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import (
    NullError,
    calibration_error_null,
    expected_calibration_error,
    expected_calibration_error_interval,
)
from mlflow_caliber.metrics._noise import _resampled_errors, drawn_positives
from scored_rows import ROWS, columns, sample


def naive_bootstrap(y, p, w, n_bins, strategy, n_resamples):
    """Rows drawn with replacement, one resample after the other; bins stay where they are."""
    rng = np.random.default_rng(1)
    edges = bin_sums(y, p, w, n_bins, strategy).lower_edge
    bins = np.searchsorted(edges, p, side="right") - 1
    errors = []
    for _ in range(n_resamples):
        rows = rng.integers(0, y.size, y.size)
        gaps = np.bincount(bins[rows], (w * (p - y))[rows], minlength=edges.size)
        errors.append(np.abs(gaps).sum() / w[rows].sum())
    return np.array(errors)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("truth", [lambda p: p, lambda p: 0.15 + 0.7 * p])
@pytest.mark.parametrize("weighted", [False, True])
def test_resamples_are_those_of_rows(strategy, truth, weighted):
    y, p = sample(1000, 3, truth)
    w = np.random.default_rng(2).choice([1.0, 2.0, 5.0], 1000) if weighted else np.ones(1000)
    drawn = _resampled_errors(bin_sums(y, p, w, 10, strategy), 20_000, np.random.default_rng(0))
    naive = naive_bootstrap(y, p, w, 10, strategy, 10_000)
    levels = [0.025, 0.25, 0.5, 0.75, 0.975]
    # A spread of .01: frequencies shrunk toward one half make up most of the difference.
    np.testing.assert_allclose(np.quantile(drawn, levels), np.quantile(naive, levels), atol=1.2e-3)
    assert drawn.std() == pytest.approx(naive.std(), rel=0.05)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, strategy=st.sampled_from(["uniform", "quantile"]), confidence=st.sampled_from([0.05, 0.5, 0.95]))
def test_interval_holds_the_error(rows, strategy, confidence):
    y, p, w = columns(rows)
    options = {"strategy": strategy, "sample_weight": w}
    low, high = expected_calibration_error_interval(y, p, confidence=confidence, n_resamples=60, **options)
    error = expected_calibration_error(y, p, **options)
    assert 0 <= low <= error + 1e-12
    assert error - 1e-12 <= high <= 1


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_interval_of_a_calibrated_model_begins_at_zero(strategy):
    lows = [expected_calibration_error_interval(*sample(800, seed), strategy=strategy).low for seed in range(40)]
    assert np.count_nonzero(lows) <= 4  # 2.5 % of them, at the level .95


def test_interval_of_a_bad_model_does_not():
    """The truth is u/2 + .25, the error .125 whatever the bins."""
    for seed in range(20):
        low, high = expected_calibration_error_interval(*sample(4000, seed, lambda p: 0.25 + p / 2))
        assert 0.08 < low < high < 0.17


def test_a_bin_without_positives_is_not_known_to_be_free_of_them():
    """None in 400 rows that say .02: a frequency of 3/400, a gap of .0125, is not excluded (its chance is .05)."""
    y, p = np.zeros(400), np.linspace(0.01, 0.03, 400)
    low, high = expected_calibration_error_interval(y, p, n_bins=1)
    assert 0 < low < 0.0155 < 0.02 < high


def test_interval_narrows_with_rows_and_widens_with_the_level():
    y, p = sample(500, 3, lambda p: p**2)
    width = np.ptp(expected_calibration_error_interval(y, p))
    assert np.ptp(expected_calibration_error_interval(np.tile(y, 9), np.tile(p, 9))) < 0.5 * width
    assert np.ptp(expected_calibration_error_interval(y, p, confidence=0.5)) < 0.7 * width


def test_weight_is_not_taken_for_evidence():
    y, p = sample(500, 4)
    plain = expected_calibration_error_interval(y, p)
    assert expected_calibration_error_interval(y, p, sample_weight=np.full(500, 7.0)) == pytest.approx(plain)
    uneven = np.where(np.arange(500) % 10, 1.0, 30.0)
    assert np.ptp(expected_calibration_error_interval(y, p, sample_weight=uneven)) > 1.5 * np.ptp(plain)


def test_seeds_say_which_numbers():
    y, p = sample(300, 5)
    first = expected_calibration_error_interval(y, p, random_state=1)
    assert expected_calibration_error_interval(y, p, random_state=1) == first
    assert expected_calibration_error_interval(y, p, random_state=2) != first
    assert calibration_error_null(p, random_state=1) == calibration_error_null(p, random_state=1)


def naive_null(p, w, n_bins, strategy, n_resamples):
    """The error of labels drawn from the probabilities, one set after the other."""
    rng = np.random.default_rng(9)
    errors = [
        expected_calibration_error(rng.random(p.size) < p, p, n_bins=n_bins, strategy=strategy, sample_weight=w)
        for _ in range(n_resamples)
    ]
    return np.mean(errors), np.quantile(errors, 0.95)


NULLS = {
    "few rows": (lambda rng: rng.random(60), 10),
    "many rows": (lambda rng: rng.random(3000), 10),
    "rare events": (lambda rng: rng.beta(0.3, 100, 3000), 10),
    "wide bins": (lambda rng: rng.beta(0.5, 0.5, 900), 2),
    "few in a bin": (lambda rng: np.append(rng.beta(0.5, 100, 900), rng.random(20)), 15),
    "ties and ends": (lambda rng: rng.integers(0, 5, 1200) / 4, 10),
}


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("draw", "n_bins"), NULLS.values(), ids=NULLS.keys())
def test_null_is_what_drawn_labels_show(draw, n_bins, weighted, strategy):
    rng = np.random.default_rng(6)
    p = draw(rng)
    w = rng.choice([1.0, 3.0], p.size) if weighted else None
    null = calibration_error_null(p, n_bins=n_bins, strategy=strategy, sample_weight=w, n_resamples=4000)
    mean, p95 = naive_null(p, w, n_bins, strategy, 1500)
    # Unequal weights of less than one positive a bin have no equal rows: there the floor is a little high.
    assert null.mean == pytest.approx(mean, rel=0.1 if weighted else 0.04)
    assert null.p95 == pytest.approx(p95, rel=0.1 if weighted else 0.06)


def test_null_of_certain_probabilities_is_zero():
    assert calibration_error_null([0.0, 1.0, 1.0]) == NullError(0.0, 0.0)
    assert calibration_error_null(np.repeat([0.0, 1.0], 400)) == NullError(0.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(
    p=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    w=st.lists(st.floats(0, 1e300), min_size=30, max_size=30).filter(lambda w: w[0] > 0),
)
def test_null_is_finite_for_any_weights(p, w):
    for resamples in (50, 20_000):
        null = calibration_error_null(p, n_resamples=resamples, sample_weight=w[: len(p)])
        assert 0 <= null.mean <= 1
        assert 0 <= null.p95 <= 1


def test_positives_of_equal_rows_are_binomial():
    p, n, w = 0.3, 12, 0.5
    moments = np.array([[n * w * p], [n * w * w * p], [n * (w * p) ** 2]])
    drawn = drawn_positives(moments, 200_000, np.random.default_rng(0))[:, 0]
    assert set(np.unique(drawn)) <= {w * k for k in range(n + 1)}
    assert drawn.mean() == pytest.approx(n * w * p, rel=0.01)
    assert drawn.var() == pytest.approx(n * w * w * p * (1 - p), rel=0.01)


def test_positives_of_unequal_rows_have_their_mean_and_variance():
    p, w = np.linspace(0, 1, 400), np.linspace(0.1, 1, 400)
    moments = np.array([[w @ p], [w * w @ p], [w * w @ p**2]])
    drawn = drawn_positives(moments, 200_000, np.random.default_rng(0))[:, 0]
    assert drawn.mean() == pytest.approx(w @ p, rel=0.005)
    assert drawn.var() == pytest.approx(w * w @ (p * (1 - p)), rel=0.02)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_resamples": 49}, r"n_resamples must be a whole number >= 50, got 49\."),
        ({"n_bins": 0}, r"n_bins must be a whole number >= 1, got 0\."),
        ({"strategy": "width"}, r"strategy must be one of quantile, uniform, got 'width'\."),
        ({"sample_weight": [0.0, 0.0]}, r"sample_weight must hold at least one positive value"),
    ],
)
def test_bad_options_get_a_sentence(options, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        expected_calibration_error_interval([0, 1], [0.4, 0.6], **options)
    with pytest.raises(InvalidInputError, match=sentence):
        calibration_error_null([0.4, 0.6], **options)


def test_bad_level_gets_a_sentence():
    with pytest.raises(InvalidInputError, match="confidence must be a number strictly between 0 and 1, got 1"):
        expected_calibration_error_interval([0, 1], [0.4, 0.6], confidence=1)


def test_calibrated_models_are_not_told_that_they_err():
    """The low end is 0 wherever chance alone explains the error; a correction of the bias alone would leave more."""
    above_zero = 0
    for seed in range(60):
        y, p = sample(1000, seed)
        low, _ = expected_calibration_error_interval(y, p, n_resamples=200)
        above_zero += low > 0.0
        null = calibration_error_null(p)
        assert low == 0.0 or expected_calibration_error(y, p) > null.p95
    assert above_zero <= 3

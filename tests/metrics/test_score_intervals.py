"""Intervals of proper scores and of the parts of the Brier score. How often they cover: tests/simulations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import (
    brier_decomposition,
    brier_score,
    log_loss,
    multiclass_brier_decomposition,
    multiclass_brier_score,
    multiclass_log_loss,
    multiclass_score_intervals,
    proportion_interval,
    score_intervals,
)
from scored_rows import ROWS, sample

KEYS = ["brier", "log_loss", "mcb", "dsc", "unc"]


def classes(n, seed, n_classes=3):
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.ones(n_classes), n)
    y = np.array([rng.choice(n_classes, p=row) for row in proba])
    return y, proba


def values_of(y, p, w):
    scores = (metric(y, p, sample_weight=w) for metric in (brier_score, log_loss))
    return [*scores, *brier_decomposition(y, p, sample_weight=w)]


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, confidence=st.sampled_from([0.5, 0.95]))
def test_intervals_hold_their_metric_and_stay_in_its_range(rows, confidence):
    y, p, w = (np.array(column) for column in zip(*rows, strict=True))
    p = p.astype(float)
    intervals = score_intervals(y, p, sample_weight=w, confidence=confidence)
    assert sorted(intervals) == sorted(KEYS)
    for key, value, most in zip(KEYS, values_of(y, p, w), [1, 36.05, 1, 0.25, 0.25], strict=True):
        low, high = intervals[key]
        assert 0 <= low <= value + 1e-15
        assert value - 1e-15 <= high <= most


@pytest.mark.parametrize("seed", range(3))
def test_intervals_of_means_are_students(seed):
    """Apart from two rows in the variance, one of each label."""
    y, p = sample(3000, seed, lambda p: p**2)
    intervals = score_intervals(y, p)
    for key, losses in {"brier": (p - y) ** 2, "log_loss": -np.log(np.where(y == 1, p, 1 - p))}.items():
        student = stats.ttest_1samp(losses, 0.0).confidence_interval(0.95)
        assert intervals[key] == pytest.approx((student.low, student.high), abs=0.01 * (student.high - student.low))


def test_intervals_have_the_bootstraps_width():
    """mcb and dsc, whose regression is held fixed here, are refitted in each resample there."""
    y, p = sample(2000, 5, lambda p: 0.25 + p / 2)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(300):
        rows = rng.integers(0, 2000, 2000)
        draws.append(values_of(y[rows], p[rows], None))
    expected = np.std(draws, axis=0) * 2 * stats.norm.ppf(0.975)
    width = {key: np.ptp(interval) for key, interval in score_intervals(y, p).items()}
    for key, spread in zip(KEYS[:4], expected, strict=False):
        assert 0.8 * spread < width[key] < 1.6 * spread


def test_uncertainty_is_that_of_the_prevalence():
    for positives in (3, 50, 97):
        y = np.repeat([1, 0], [positives, 100 - positives])
        ends = np.array(proportion_interval(positives, 100))
        low, high = score_intervals(y, np.full(100, 0.5))["unc"]
        assert low == pytest.approx((ends * (1 - ends)).min())
        assert high == pytest.approx(0.25 if ends[0] < 0.5 < ends[1] else (ends * (1 - ends)).max())


def test_calibrated_models_may_have_no_miscalibration_and_others_may_not():
    assert score_intervals(*sample(1000, 1))["mcb"].low == 0.0
    assert score_intervals(*sample(1000, 1, lambda p: 0.25 + p / 2))["mcb"].low > 0.005


def test_certain_and_right_so_far_is_not_perfect_for_ever():
    y = np.repeat([0, 1], 50)
    intervals = score_intervals(y, y.astype(float))
    assert intervals["brier"].low == 0.0
    assert intervals["brier"].high > 0.005


def test_one_row_tells_nothing():
    for weights in (None, [4.0]):
        intervals = score_intervals([1], [0.4], sample_weight=weights)
        assert intervals["brier"] == (0.0, 1.0)
        assert intervals["dsc"] == (0.0, 0.25)
    assert multiclass_score_intervals([0], [[0.2, 0.3, 0.5]])["brier"] == (0.0, 2.0)


def test_weight_is_not_taken_for_evidence():
    y, p = sample(500, 4)
    plain = score_intervals(y, p)
    for key, interval in score_intervals(y, p, sample_weight=np.full(500, 7.0)).items():
        assert interval == pytest.approx(plain[key], abs=1e-9)
    uneven = score_intervals(y, p, sample_weight=np.where(np.arange(500) % 10, 1.0, 30.0))
    assert all(np.ptp(uneven[key]) > 1.5 * np.ptp(plain[key]) for key in ("brier", "log_loss", "dsc"))


def test_rows_without_weight_are_not_there():
    y, p = sample(300, 6)
    w = (np.arange(300) % 3 > 0).astype(float)
    there = w > 0
    weighted, plain = score_intervals(y, p, sample_weight=w), score_intervals(y[there], p[there])
    for key in KEYS:
        assert weighted[key] == pytest.approx(plain[key], abs=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_multiclass_intervals_hold_their_metric(weighted):
    for seed in range(5):
        y, proba = classes(200, seed)
        w = np.random.default_rng(seed).integers(0, 3, 200).astype(float) if weighted else None
        intervals = multiclass_score_intervals(y, proba, sample_weight=w)
        parts = multiclass_brier_decomposition(y, proba, sample_weight=w)
        losses = (f(y, proba, sample_weight=w) for f in (multiclass_brier_score, multiclass_log_loss))
        for key, value in zip(KEYS, [*losses, *parts], strict=True):
            assert 0 <= intervals[key].low <= value <= intervals[key].high


def test_two_classes_are_twice_the_binary_score():
    y, p = sample(2000, 8, lambda p: p**2)
    binary = score_intervals(y, p)
    both = multiclass_score_intervals(y, np.column_stack([1 - p, p]))
    assert both["log_loss"] == pytest.approx(binary["log_loss"], rel=1e-6)
    for key in ("brier", "dsc"):
        assert both[key] == pytest.approx((2 * binary[key].low, 2 * binary[key].high), rel=0.05)


def test_even_classes_keep_an_uncertain_uncertainty():
    """The first-order error of the uncertainty is 0 there; that of second order is of the order 1/n."""
    y = np.repeat([0, 1, 2], 30)
    low, high = multiclass_score_intervals(y, np.full((90, 3), 1 / 3))["unc"]
    assert 0.6 < low < 2 / 3 - 0.005
    assert high == pytest.approx(2 / 3)


def test_seed_says_which_labels():
    y, p = sample(300, 9, lambda p: 0.25 + p / 2)
    assert score_intervals(y, p, random_state=2) == score_intervals(y, p, random_state=2)
    assert score_intervals(y, p, random_state=2)["mcb"] != score_intervals(y, p, random_state=3)["mcb"]


def test_bad_input_gets_a_sentence():
    with pytest.raises(InvalidInputError, match="confidence must be a number strictly between 0 and 1, got 0"):
        score_intervals([0, 1], [0.4, 0.6], confidence=0.0)
    with pytest.raises(InvalidInputError, match="y_true must hold class indices 0 to 2"):
        multiclass_score_intervals([3], [[0.2, 0.3, 0.5]])
    with pytest.raises(InvalidInputError, match="same length: y_true has 2, y_proba has 1"):
        multiclass_score_intervals([0, 1], [[0.2, 0.3, 0.5]])

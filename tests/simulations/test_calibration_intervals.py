"""How often intervals cover, noise floors hold and the gate's bound passes, on fresh random numbers."""

import numpy as np
import pytest
from scipy import optimize
from scipy.special import expit

from mlflow_caliber.metrics import (
    calibration_error_null,
    expected_calibration_error,
    expected_calibration_error_interval,
    expected_calibration_error_upper,
    score_intervals,
)

pytestmark = pytest.mark.slow

REPLICATES = 200
# Two standard errors below what is claimed.
AT_LEAST = 0.95 - 2 * np.sqrt(0.95 * 0.05 / REPLICATES)


TYPICAL = -0.1 + 1.35 * np.random.default_rng(97).standard_normal(200_000)
# The slope at which the mean gap is .05; "shift" changes sign at .9; "drift" is off by .21.
SLOPE = optimize.brentq(lambda a: np.abs(expit(a * TYPICAL) - expit(TYPICAL)).mean() - 0.05, 0.3, 1.0)

TRUTHS = {
    "calibrated": expit,
    "slope": lambda z: expit(SLOPE * z),
    "shift": lambda z: np.clip(expit(z) - 0.0525 * np.sign(0.9 - expit(z)), 0, 1),
    "drift": lambda z: expit(0.42643 * z - 0.98085),
}


def scores(rng, n):
    return -0.1 + 1.35 * rng.standard_normal(n)


def labels(rng, truth):
    return (rng.random(truth.size) < truth).astype(int)


def error_in_bins(name, strategy):
    """The error that no sampling noise is part of: the true probability stands for the label."""
    z = scores(np.random.default_rng(99), 400_000)
    p, q = expit(z), TRUTHS[name](z)
    edges = np.arange(10) / 10 if strategy == "uniform" else np.quantile(p, np.arange(10) / 10)
    bins = np.maximum(np.searchsorted(edges, p, side="right") - 1, 0)
    return np.abs(np.bincount(bins, p - q)).sum() / p.size


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
@pytest.mark.parametrize("n", [200, 1000, 5000])
@pytest.mark.parametrize("name", TRUTHS)
def test_interval_of_the_error_covers(name, n, strategy):
    rng = np.random.default_rng(n)
    truth = 0.0 if name == "calibrated" else error_in_bins(name, strategy)
    held = 0
    for seed in range(REPLICATES):
        z = scores(rng, n)
        y = labels(rng, TRUTHS[name](z))
        low, high = expected_calibration_error_interval(y, expit(z), strategy=strategy, random_state=seed)
        held += low <= truth <= high
    assert held >= AT_LEAST * REPLICATES


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
@pytest.mark.parametrize("n", [100, 1000, 5000])
def test_noise_floor_holds_calibrated_models(n, strategy):
    rng = np.random.default_rng(n)
    below = 0
    for seed in range(REPLICATES):
        p = expit(scores(rng, n))
        floor = calibration_error_null(p, strategy=strategy, random_state=seed)
        below += expected_calibration_error(labels(rng, p), p, strategy=strategy) <= floor.p95
    assert below >= AT_LEAST * REPLICATES


def share_of_passes(name, n, limit=0.05):
    rng = np.random.default_rng(n)
    passes = 0
    for _ in range(REPLICATES):
        z = scores(rng, n)
        passes += expected_calibration_error_upper(labels(rng, TRUTHS[name](z)), expit(z)) <= limit
    return passes / REPLICATES


def test_bound_seldom_passes_a_model_at_the_limit():
    assert share_of_passes("slope", 5000) <= 0.07


def test_bound_passes_a_calibrated_model():
    assert share_of_passes("calibrated", 2000) >= 0.9


def true_scores(name):
    z = scores(np.random.default_rng(98), 400_000)
    p, q = expit(z), TRUTHS[name](z)
    noise, uncertainty = np.mean(q * (1 - q)), q.mean() * (1 - q.mean())
    return {
        "brier": np.mean((p - q) ** 2) + noise,
        "log_loss": -np.mean(q * np.log(p) + (1 - q) * np.log1p(-p)),
        "mcb": np.mean((p - q) ** 2),
        "dsc": uncertainty - noise,
        "unc": uncertainty,
    }


@pytest.mark.parametrize("n", [200, 1000, 5000])
@pytest.mark.parametrize("name", ["calibrated", "slope", "drift"])
def test_intervals_of_scores_cover(name, n):
    rng = np.random.default_rng(n)
    truth = true_scores(name)
    held = dict.fromkeys(truth, 0)
    for seed in range(REPLICATES):
        z = scores(rng, n)
        intervals = score_intervals(labels(rng, TRUTHS[name](z)), expit(z), random_state=seed)
        for key, (low, high) in intervals.items():
            held[key] += low <= truth[key] <= high
    assert min(held.values()) >= (AT_LEAST - 0.02) * REPLICATES

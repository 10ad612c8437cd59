"""The default: little to lose where the scores are right, most of the gain where they are not."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from mlflow_caliber.calibrators import AutoCalibrator, IsotonicCalibrator
from mlflow_caliber.calibrators._auto import _fold_masses


def kinked(z):
    p = expit(z)
    return np.interp(p, [0.0, 0.3, 0.85, 1.0], [0.0, 0.3, 0.44, 0.53])


TRUTHS = {
    "calibrated": expit,
    "slope": lambda z: expit(0.6 * z - 0.3),
    "tilt": lambda z: expit(0.42643 * z - 0.98085),
    "kink": kinked,
}


def excess_log_loss(truth, n, repetitions, make=AutoCalibrator):
    """Mean of KL(truth || prediction) in thousandths of a nat, on scores sigma(z), z ~ N(-0.1, 1.35^2)."""
    rng = np.random.default_rng(20)
    z_new = rng.normal(-0.1, 1.35, 5000)
    q, p_new, total = truth(z_new), expit(z_new), 0.0
    for _ in range(repetitions):
        z = rng.normal(-0.1, 1.35, n)
        p = np.clip(make().fit(expit(z), rng.random(n) < truth(z)).predict(p_new), 1e-9, 1 - 1e-9)
        total += np.mean(q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p)))
    return 1e3 * total / repetitions


@pytest.mark.parametrize(("truth", "limit"), [("calibrated", 3.0), ("slope", 12.0), ("tilt", 9.0), ("kink", 14.0)])
def test_excess_log_loss_on_two_hundred_rows(truth, limit):
    """Raw scores lose 0, 30, 155 and 123."""
    assert excess_log_loss(TRUTHS[truth], 200, 12) < limit


def test_isotonic_costs_more_on_two_hundred_calibrated_rows():
    assert excess_log_loss(expit, 200, 12, IsotonicCalibrator) > 20.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("truth", "n", "limit"),
    [
        ("calibrated", 50, 9.0),
        ("calibrated", 200, 2.5),
        ("calibrated", 500, 1.0),
        ("slope", 50, 30.0),
        ("slope", 200, 9.0),
        ("slope", 500, 5.0),
        ("tilt", 50, 30.0),
        ("tilt", 200, 9.0),
        ("tilt", 500, 5.0),
        ("kink", 50, 30.0),
        ("kink", 200, 11.0),
        ("kink", 500, 5.5),
    ],
)
def test_excess_log_loss(truth, n, limit):
    assert excess_log_loss(TRUTHS[truth], n, 60) < limit


@pytest.mark.parametrize("n", [30, 300, 5000])
@pytest.mark.parametrize("shift", [0.0, 4.0], ids=["balanced", "rare positives"])
def test_auc_of_continuous_scores_stays(n, shift):
    rng = np.random.default_rng(n)
    z = rng.normal(-shift, 1.5, n)
    y = rng.random(n) < expit(0.5 * z + shift / 3)
    fitted = AutoCalibrator().fit(expit(z), y)
    fresh = expit(rng.normal(-shift, 1.5, 2000))
    outcome = rng.random(2000) < fresh
    assert np.unique(fitted.predict(fresh)).size == 2000
    assert roc_auc_score(outcome, fitted.predict(fresh)) == roc_auc_score(outcome, fresh)


def test_weights_name_the_candidates_and_sum_to_one(thousand):
    fitted = AutoCalibrator().fit(*thousand)
    assert list(fitted.weights_) == list(fitted.calibrators_) == ["identity", "sigmoid", "beta", "centered_isotonic"]
    assert sum(fitted.weights_.values()) == pytest.approx(1.0, abs=1e-12)
    grid = np.linspace(0, 1, 50)
    average = sum(w * fitted.calibrators_[name].predict(grid) for name, w in fitted.weights_.items())
    assert_allclose(fitted.predict(grid), average, atol=1e-15)


def test_identity_leads_on_calibrated_scores_and_vanishes_on_wrong_ones():
    rng = np.random.default_rng(3)
    scores = rng.random((10, 400))
    right = [AutoCalibrator().fit(s, rng.random(400) < s).weights_["identity"] for s in scores]
    assert np.mean(right) > 0.5
    scores = scores[0]
    wrong = AutoCalibrator().fit(scores, rng.random(400) < scores**3).weights_["identity"]
    assert wrong == pytest.approx(1e-6, rel=1e-3)


def test_a_shape_without_formula_is_left_to_centered_isotonic():
    scores = (np.arange(20_000) + 0.5) / 20_000
    truth = np.interp(scores, [0, 0.4, 0.45, 0.55, 0.6, 1], [0.1, 0.12, 0.5, 0.5, 0.85, 0.9])
    y = np.random.default_rng(0).random(scores.size) < truth
    assert AutoCalibrator().fit(scores, y).weights_["centered_isotonic"] > 0.99


def test_permuted_rows_give_the_same_bits():
    rng = np.random.default_rng(1)
    scores = rng.random(300).round(2)
    y = rng.random(300) < scores
    order = rng.permutation(300)
    grid = np.linspace(0, 1, 101)
    assert_array_equal(
        AutoCalibrator().fit(scores, y).predict(grid), AutoCalibrator().fit(scores[order], y[order]).predict(grid)
    )


def test_folds_of_unweighted_rows_are_rank_modulo_five():
    masses = _fold_masses(np.ones(23))
    assert_array_equal(masses, np.arange(23) % 5 == np.arange(5)[:, None])


def test_folds_share_out_every_weight():
    weight = np.random.default_rng(0).gamma(0.5, 3.0, 200)
    masses = _fold_masses(weight)
    assert masses.min() >= 0
    assert_allclose(masses.sum(axis=0), weight, atol=1e-8)
    assert_allclose(masses.sum(axis=1), weight.sum() / 5, atol=1.0)


def test_a_heavy_row_is_dealt_like_its_copies():
    merged, apart = _fold_masses(np.array([2.0, 7.0, 1.0])), _fold_masses(np.ones(10))
    assert_allclose(merged, np.add.reduceat(apart, [0, 2, 9], axis=1))


def test_less_than_one_row_of_weight_is_no_evidence():
    weights = AutoCalibrator().fit([0.2, 0.9], [1, 0], [0.3, 0.3]).weights_
    assert weights == pytest.approx({"identity": 0.5, "sigmoid": 1 / 6, "beta": 1 / 6, "centered_isotonic": 1 / 6})

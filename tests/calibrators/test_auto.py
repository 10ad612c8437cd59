"""The default: little to lose where the scores are right, most of the gain where they are not."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from mlflow_caliber.calibrators import AutoCalibrator, IsotonicCalibrator, _auto
from mlflow_caliber.calibrators._auto import _rows_of_folds


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


def test_folds_of_single_rows_are_rank_modulo_five():
    rows = np.eye(2, dtype=int)[np.random.default_rng(0).integers(0, 2, 23)]
    folds = _rows_of_folds(rows)
    assert_array_equal(folds.sum(axis=2), np.arange(23) % 5 == np.arange(5)[:, None])
    assert_array_equal(folds.sum(axis=0), rows)


def test_folds_share_out_equal_rows_as_chance_does():
    """Each row of a cell draws its fold: shares scatter as the multinomial's, not as when they are dealt round."""
    rows = np.full((4000, 2), 50)
    folds = _rows_of_folds(rows)
    assert_array_equal(folds.sum(axis=0), rows)
    assert folds.mean() == pytest.approx(10, abs=0.2)
    assert folds.var() == pytest.approx(50 * 0.2 * 0.8, rel=0.05)
    assert np.corrcoef(folds[0, :, 0], folds[0, :, 1])[0, 1] == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("decimals", [1, 2])
def test_ties_do_not_hide_over_fitting(decimals):
    """Held-out rows that are spread as evenly as the others make the most flexible map look best."""
    rng = np.random.default_rng(decimals)
    fitted = [AutoCalibrator().fit(s, rng.random(2000) < s) for s in rng.random((10, 2000)).round(decimals)]
    assert np.mean([each.weights_["centered_isotonic"] for each in fitted]) < 0.05


def test_very_many_scores_are_merged_without_harm(monkeypatch):
    """What the docs state: cells move each map by less than 1e-5, and the broken line not at all."""
    rng = np.random.default_rng(0)
    z = rng.normal(-0.1, 1.35, 40_000)
    scores, y = expit(z), rng.random(z.size) < kinked(z)
    merged = AutoCalibrator().fit(scores, y)
    monkeypatch.setattr(_auto, "_MANY_SCORES", z.size)
    exact = AutoCalibrator().fit(scores, y)
    for name, candidate in exact.calibrators_.items():
        tolerance = 0.0 if name in ("identity", "centered_isotonic") else 1e-5
        assert_allclose(merged.calibrators_[name].predict(scores), candidate.predict(scores), rtol=0, atol=tolerance)
    assert_allclose(merged.predict(scores), exact.predict(scores), atol=1e-4)


def test_cells_are_narrow_at_both_ends():
    z = np.linspace(-14, 14, 200_001)
    cell = _auto._cell(expit(z))
    starts = np.flatnonzero(np.append(True, np.diff(cell) != 0))
    assert starts.size == np.unique(cell).size  # no number comes back
    assert np.diff(z[starts]).max() < 0.003


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_any_scale_of_weights_has_its_folds(scale):
    scores = np.linspace(0.05, 0.95, 40)
    y = (np.arange(40) * 0.618 % 1 < scores).astype(int)
    fitted = AutoCalibrator().fit(scores, y, np.full(40, scale))
    assert sum(fitted.weights_.values()) == pytest.approx(1.0)
    if scale < 1:  # so little weight is no evidence, which leaves the prior
        assert fitted.weights_ == pytest.approx(
            {"identity": 2 / 11, "sigmoid": 4 / 11, "beta": 4 / 11, "centered_isotonic": 1 / 11}, rel=1e-6
        )


def test_the_identity_gains_prior_weight_with_the_rows():
    evidence = np.zeros(4)
    few, many = _auto._posterior(evidence, 50.0), _auto._posterior(evidence, 5000.0)
    assert_allclose(few, np.array([2, 4, 4, 1]) / 11)
    assert_allclose(many, np.array([200, 4, 4, 1]) / 209)

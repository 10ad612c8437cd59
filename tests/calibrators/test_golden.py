"""Values that must not move: by hand, as exact fractions, or fitted to ten digits by an independent optimiser."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mlflow_caliber.calibrators import (
    BetaCalibrator,
    CenteredIsotonicCalibrator,
    IsotonicCalibrator,
    SigmoidCalibrator,
    TemperatureCalibrator,
)


def test_isotonic_pools(sixteen):
    """By hand: the pools of Zadrozny & Elkan (2002) are 3, 3, 2, 4 and 4 rows."""
    scores, y = sixteen
    expected = np.repeat([0, 1 / 3, 1 / 2, 3 / 4, 1], [3, 3, 2, 4, 4])
    assert_allclose(IsotonicCalibrator().fit(scores, y).predict(scores), expected, atol=1e-15)


def test_isotonic_keeps_only_the_ends_of_pools(sixteen):
    calibrator = IsotonicCalibrator().fit(*sixteen)
    assert_allclose(calibrator.x_thresholds_, [0.05, 0.2, 0.3, 0.4, 0.55, 0.6, 0.65, 0.85, 0.88, 1.0])


def test_isotonic_as_exact_fractions(thousand):
    p = IsotonicCalibrator().fit(*thousand).predict([0, 0.1, 0.25, 0.5, 0.7505, 0.9, 1])
    assert_allclose(p, [0, 1 / 26, 6 / 41, 12 / 23, 5 / 6, 1, 1], atol=1e-12)


def test_centered_isotonic_knots(sixteen):
    """By hand, after Oron & Flournoy (2017): one knot for each pool, at the mean of its scores."""
    calibrator = CenteredIsotonicCalibrator().fit(*sixteen)
    assert_allclose(calibrator.x_thresholds_, [0.35 / 3, 0.35, 0.575, 0.75, 0.9325], atol=1e-15)
    assert_allclose(calibrator.y_thresholds_, [0, 1 / 3, 0.5, 0.75, 1], atol=1e-15)


def test_centered_isotonic_ends_pulled_in(sixteen):
    """Three rows in the first pool, four in the last: 1 / (2 * 4) and 1 - 1 / (2 * 5)."""
    calibrator = CenteredIsotonicCalibrator(clip_ends=True).fit(*sixteen)
    assert_allclose(calibrator.y_thresholds_, [1 / 8, 1 / 3, 0.5, 0.75, 9 / 10], atol=1e-15)


def test_centered_isotonic_prior_rows():
    """Two pools of two rows and four pseudo-rows: each value is half the share, half the mean score."""
    calibrator = CenteredIsotonicCalibrator(prior_rows=4).fit([0.1, 0.3, 0.6, 0.8], [0, 0, 1, 1])
    assert_allclose(calibrator.x_thresholds_, [0.2, 0.7])
    assert_allclose(calibrator.y_thresholds_, [(0 + 0.2) / 2, (1 + 0.7) / 2])


def test_sigmoid_at_the_mode_of_its_posterior(sixteen):
    """Platt (1999) on the logit, a ~ N(1, 1/4), b ~ N(0, 1/2)."""
    assert_allclose(SigmoidCalibrator().fit(*sixteen).coef_, [1.0258763371, -0.0662143944], atol=5e-11)


def test_beta_of_maximum_likelihood(thousand):
    """Kull, Silva Filho & Flach (2017)."""
    assert_allclose(BetaCalibrator().fit(*thousand).coef_, [1.4242811063, 1.7447810254, -0.2420329260], atol=1e-10)


def test_temperature_of_maximum_likelihood(thousand):
    """Guo et al. (2017)."""
    assert TemperatureCalibrator().fit(*thousand).temperature_ == pytest.approx(0.63198367898, abs=5e-12)

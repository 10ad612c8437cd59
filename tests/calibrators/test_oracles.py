"""Agreement with implementations that share no code with ours: scikit-learn, scipy's general optimisers, probcal."""

import numpy as np
import probcal
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from mlflow_caliber.calibrators import (
    BetaCalibrator,
    CenteredIsotonicCalibrator,
    IsotonicCalibrator,
    SigmoidCalibrator,
    TemperatureCalibrator,
)

GRID = np.linspace(0.0, 1.0, 257)

ROWS = (
    st.lists(
        st.tuples(st.integers(0, 64).map(lambda k: k / 64), st.sampled_from([0, 1]), st.integers(1, 5)),
        min_size=2,
        max_size=60,
    )
    .filter(lambda rows: len({y for _, y, _ in rows}) == 2)
    .map(lambda rows: tuple(np.array(column, dtype=float) for column in zip(*rows, strict=True)))
)


def simulated(n, seed):
    rng = np.random.default_rng(seed)
    scores = rng.beta(1.2, 1.5, n)
    return scores, (rng.random(n) < expit(0.7 * logit(scores) - 0.4)).astype(int)


def penalised_loss(coef, features, y, weight, centre, precision):
    """With the vanishing pull toward the identity that stands in for no prior."""
    precision = np.maximum(precision, 1e-9)
    h = coef @ features
    return weight @ (np.logaddexp(0, h) - y * h) + 0.5 * precision @ (coef - centre) ** 2


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_isotonic_is_scikit_learns(rows):
    scores, y, weight = rows
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, y, sample_weight=weight)
    assert_allclose(IsotonicCalibrator().fit(scores, y, weight).predict(GRID), theirs.predict(GRID), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_isotonic_is_scikit_learns_on_many_rows(seed):
    scores, y = simulated(20_000, seed)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, y)
    ours = IsotonicCalibrator().fit(scores, y)
    assert_allclose(ours.predict(GRID), theirs.predict(GRID), atol=1e-12)
    assert ours.x_thresholds_.size <= theirs.X_thresholds_.size


@settings(max_examples=20, deadline=None)
@given(rows=ROWS)
def test_isotonic_has_the_least_squared_loss(rows):
    """Against a general optimiser: heights as sums of non-negative steps (non-negative least squares)."""
    scores, y, weight = rows
    steps = (scores[:, None] >= np.unique(scores)).astype(float)

    def loss(increments):
        residual = steps @ increments - y
        return weight @ residual**2, 2 * steps.T @ (weight * residual)

    general = minimize(loss, np.zeros(steps.shape[1]), jac=True, method="L-BFGS-B", bounds=[(0, None)] * steps.shape[1])
    ours = IsotonicCalibrator().fit(scores, y, weight).predict(scores)
    assert weight @ (ours - y) ** 2 <= general.fun + 1e-9


@settings(max_examples=20, deadline=None)
@given(rows=ROWS)
def test_centered_isotonic_centres_scikit_learns_flat_stretches(rows):
    scores, y, weight = rows
    theirs = IsotonicRegression(y_min=0, y_max=1).fit(scores, y, sample_weight=weight).predict(scores).round(9)
    values = np.unique(theirs)
    centres = [np.average(scores[theirs == value], weights=weight[theirs == value]) for value in values]
    ours = CenteredIsotonicCalibrator().fit(scores, y, weight)
    assert_allclose(ours.x_thresholds_, centres, atol=1e-12)
    assert_allclose(ours.y_thresholds_, values, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(rows=ROWS, precision=st.sampled_from([(4.0, 2.0), (0.5, 0.1), (0.0, 3.0)]))
def test_sigmoid_reaches_the_minimum(rows, precision):
    scores, y, weight = rows
    clipped = np.clip(scores, 1e-3, 1 - 1e-3)
    problem = (np.stack([logit(clipped), np.ones_like(clipped)]), y, weight, np.array([1, 0]), np.array(precision))
    theirs = minimize(penalised_loss, [0.5, 0.0], problem, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    ours = SigmoidCalibrator(prior_precision=precision).fit(scores, y, weight).coef_
    assert ours[0] >= 0
    assert penalised_loss(ours, *problem) <= theirs.fun + 1e-8 * (1 + theirs.fun)


@settings(max_examples=20, deadline=None)
@given(rows=ROWS, precision=st.sampled_from([(8.0, 8.0, 2.0), (0.3, 0.3, 0.1), (0.0, 0.0, 0.0)]))
def test_beta_reaches_the_minimum(rows, precision):
    scores, y, weight = rows
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    features = np.stack([np.log(clipped), -np.log1p(-clipped), np.ones_like(clipped)])
    problem = (features, y, weight, np.array([1, 1, 0]), np.array(precision))
    bounds = [(0, None), (0, None), (None, None)]
    theirs = minimize(penalised_loss, [0.5, 0.5, 0.0], problem, method="L-BFGS-B", bounds=bounds)
    ours = BetaCalibrator(prior_precision=precision).fit(scores, y, weight).coef_
    assert ours[:2].min() >= 0
    assert penalised_loss(ours, *problem) <= theirs.fun + 1e-8 * (1 + theirs.fun)


@settings(max_examples=20, deadline=None)
@given(rows=ROWS)
def test_temperature_reaches_the_minimum(rows):
    scores, y, weight = rows
    z = logit(np.clip(scores, 1e-6, 1 - 1e-6))

    def loss(temperature):
        return weight @ (np.logaddexp(0, z / temperature) - y * z / temperature)

    ours = TemperatureCalibrator().fit(scores, y, weight).temperature_
    theirs = minimize_scalar(lambda inverse: loss(1 / inverse), bounds=(0.01, 100), method="bounded")
    assert 0.01 <= ours <= 100
    assert loss(ours) <= theirs.fun + 1e-9 * (1 + theirs.fun)


@pytest.mark.parametrize("seed", range(3))
def test_sigmoid_without_prior_is_logistic_regression(seed):
    scores, y = simulated(800, seed)
    weight = np.random.default_rng(seed).integers(1, 4, 800)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(scores)[:, None], y, weight)
    ours = SigmoidCalibrator(prior_precision=None, clip=1e-12).fit(scores, y, weight).coef_
    assert_allclose(ours, [theirs.coef_[0, 0], theirs.intercept_[0]], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(BetaCalibrator(), probcal.BetaCalibrator()), (TemperatureCalibrator(), probcal.TemperatureCalibrator())],
    ids=["beta", "temperature"],
)
def test_formulas_are_probcals(ours, theirs, seed):
    scores, y = simulated(1000, seed)
    inside = np.linspace(0.01, 0.99, 99)
    assert_allclose(ours.fit(scores, y).predict(inside), theirs.fit(scores, y).predict_proba(inside), atol=1e-5)


@pytest.mark.parametrize("prior_precision", [None, 0, (8, 8, 2)])
def test_beta_does_not_diverge_on_a_few_separable_rows(prior_precision):
    """Undamped Newton steps end in NaN here."""
    scores = [0.01, 0.02, 0.4, 0.6, 0.98, 1.0]
    p = BetaCalibrator(prior_precision=prior_precision).fit(scores, [0, 0, 0, 1, 1, 1]).predict(scores)
    assert np.all(np.diff(p) >= 0)
    assert p[2] < 0.5 < p[3]

"""The solvers of the parametric maps, by the conditions that hold at an optimum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from mlflow_caliber.calibrators import _logistic, _temperature
from mlflow_caliber.calibrators._logistic import LogisticProblem
from mlflow_caliber.calibrators._temperature import fit_binary_temperature, fit_temperature

ROWS = st.lists(
    st.tuples(st.floats(1e-6, 1 - 1e-6), st.sampled_from([0.0, 0.3, 1.0]), st.floats(0.01, 100.0)),
    min_size=1,
    max_size=40,
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


def beta_problem(p, y, weight, precision):
    features = np.stack([np.log(p), -np.log1p(-p), np.ones_like(p)])
    centre, lower = np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, -np.inf])
    return LogisticProblem(features, y, weight, centre, np.full(3, precision), lower)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, precision=st.sampled_from([1e-9, 1e-2, 2.0]))
def test_no_allowed_step_leads_down(rows, precision):
    """Karush, Kuhn and Tucker: the gradient vanishes off the bounds and points into the room at them."""
    p, y, weight = rows
    problem = beta_problem(p, y, weight, precision)
    coef = problem.solve()
    assert np.all(coef >= problem.lower)
    h = coef @ problem.features
    gradient = problem.features @ (weight * (expit(h) - y)) + precision * (coef - problem.centre)
    # (Rows that weigh next to nothing leave what rounding leaves.)
    tolerance = 1e-8 * np.abs(problem.features) @ weight + 1e-14
    assert np.all(gradient >= -tolerance)
    assert np.all(np.abs(gradient[coef > problem.lower]) <= tolerance[coef > problem.lower])


def many(n=60_000, seed=0):
    rng = np.random.default_rng(seed)
    p = np.clip(rng.beta(1.2, 1.5, n), 1e-6, 1 - 1e-6)
    return p, (rng.random(n) < expit(0.6 * logit(p) - 0.2)).astype(float), rng.random(n) + 0.1


def test_where_it_starts_does_not_change_where_it_ends(monkeypatch):
    problem = beta_problem(*many(), 1e-9)
    warm = problem.solve()
    monkeypatch.setattr(_logistic, "_MANY", 10**9)
    assert_allclose(warm, problem.solve(), rtol=1e-10)


def test_rows_left_out_of_the_start_may_be_all_that_matters():
    """Every eighth row, which the start is guessed from, is separable; the others say the opposite."""
    p, y, weight = many()
    y = np.where(np.arange(y.size) % 8 == 0, p > 0.5, p < 0.5).astype(float)
    problem = beta_problem(p, y, weight, 1e-9)
    assert_allclose(problem.solve()[:2], 0.0, atol=1e-9)


def loss(inverse, z, y, weight):
    return weight @ (np.logaddexp(0.0, inverse * z) - y * inverse * z)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS)
def test_temperature_is_the_best_of_its_range(rows):
    p, y, weight = rows
    z = logit(p)
    found = loss(1.0 / fit_binary_temperature(z, y, weight), z, y, weight)
    other = minimize_scalar(lambda t: loss(np.exp(-t), z, y, weight), bounds=np.log([0.01, 100.0]), method="bounded")
    assert found <= other.fun * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize(("y", "expected"), [([0, 0, 1, 1], 0.01), ([1, 1, 0, 0], 100.0)])
def test_temperature_ends(y, expected):
    z = logit(np.array([0.1, 0.2, 0.8, 0.9]))
    assert fit_binary_temperature(z, np.array(y), None) == pytest.approx(expected)


def test_scores_that_say_nothing_keep_their_temperature():
    assert fit_binary_temperature(np.zeros(4), np.array([0, 1, 0, 1]), None) == 1.0


def test_temperature_of_two_classes_is_the_binary_one():
    p, y, weight = many(5_000)
    log_proba, one_hot = np.log(np.stack([1.0 - p, p])), np.stack([1.0 - y, y])
    before = log_proba.copy()
    expected = fit_binary_temperature(logit(p), y, weight)
    assert fit_temperature(log_proba, one_hot, weight) == pytest.approx(expected, rel=1e-10)
    transposed = np.ascontiguousarray(log_proba.T).T
    assert fit_temperature(transposed, one_hot, weight) == pytest.approx(expected, rel=1e-10)
    assert np.array_equal(log_proba, before)


def test_temperature_does_not_depend_on_its_first_guess(monkeypatch):
    p, y, weight = many()
    log_proba, one_hot = np.log(np.stack([1.0 - p, p])), np.stack([1.0 - y, y])
    warm = fit_binary_temperature(logit(p), y, weight), fit_temperature(log_proba, one_hot, weight)
    monkeypatch.setattr(_temperature, "_MANY", 10**9)
    cold = fit_binary_temperature(logit(p), y, weight), fit_temperature(log_proba, one_hot, weight)
    assert_allclose(warm, cold, rtol=1e-10)

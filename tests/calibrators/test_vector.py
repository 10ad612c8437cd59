"""Vector scaling: a slope and an offset for each class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from mlflow_caliber.calibrators import BetaCalibrator, MulticlassCalibrator, _logistic

SLOPE_PRECISION, OFFSET_PRECISION = 8.0, 4.0


def drawn(n, n_classes, seed, slopes=1.0, offsets=0.0):
    """Raw probabilities, and outcomes whose truth is softmax(slopes log p + offsets)."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(n_classes, 0.6), n)
    truth = softmax(slopes * np.log(np.clip(proba, 1e-6, 1 - 1e-6)) + offsets, axis=1)
    y = (truth.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=n_classes - 1)
    return proba, y, truth


def penalised_loss(coef, log_proba, y, weight):
    slopes, offsets = np.split(coef, 2)
    log_p = log_softmax(slopes * log_proba + offsets, axis=1)[np.arange(y.size), y]
    prior = SLOPE_PRECISION * np.sum((slopes - 1) ** 2) + OFFSET_PRECISION * np.sum(offsets**2)
    return prior / 2 - weight @ log_p


def gradient(coef, log_proba, y, weight):
    slopes, offsets = np.split(coef, 2)
    residual = softmax(slopes * log_proba + offsets, axis=1) - np.eye(slopes.size)[y]
    by_slope = weight @ (residual * log_proba) + SLOPE_PRECISION * (slopes - 1)
    return np.concatenate([by_slope, weight @ residual + OFFSET_PRECISION * offsets])


def logs(proba):
    return np.log(np.clip(proba, 1e-6, 1 - 1e-6))


@st.composite
def rows(draw):
    """Probabilities of two to five classes with 0, 1 and ties among them, class indices, and whole weights."""
    n_classes, n = draw(st.integers(2, 5)), draw(st.integers(2, 20))
    counts = draw(
        st.lists(
            st.lists(st.integers(0, 4), min_size=n_classes, max_size=n_classes).filter(any), min_size=n, max_size=n
        )
    )
    y = draw(st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n).filter(lambda y: len(set(y)) > 1))
    weight = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    proba, y, weight = np.array(counts, dtype=float), np.array(y), np.array(weight)
    weight[[0, int(np.argmax(y != y[0]))]] += 1  # two classes carry weight
    return proba / proba.sum(axis=1, keepdims=True), y, weight


SCALES = st.sampled_from([1e-12, 1.0, 1e12])


@pytest.mark.parametrize(("n", "n_classes"), [(30, 3), (500, 4), (300, 12)])
def test_a_general_optimiser_finds_the_same(n, n_classes):
    proba, y, _ = drawn(n, n_classes, 0, np.linspace(0.2, 1.4, n_classes), np.linspace(0.8, -0.8, n_classes))
    weight = np.random.default_rng(1).random(n) + 0.1
    theirs = minimize(
        penalised_loss,
        np.repeat([1.0, 0.0], n_classes),
        (logs(proba), y, weight),
        jac=gradient,
        bounds=[(0, None)] * n_classes + [(None, None)] * n_classes,
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000},
    )
    ours = MulticlassCalibrator("vector").fit(proba, y, weight)
    assert_allclose(np.concatenate([ours.slopes_, ours.offsets_]), theirs.x, atol=2e-6)


def test_of_two_classes_it_is_beta_calibration():
    proba, y, _ = drawn(400, 2, 2, np.array([0.5, 1.2]), np.array([0.4, -0.4]))
    two = MulticlassCalibrator("vector").fit(proba, y)
    beta = BetaCalibrator(prior_precision=(8, 8, 2)).fit(proba[:, 1], y)
    coef = [two.slopes_[1], two.slopes_[0], two.offsets_[1] - two.offsets_[0]]
    assert_allclose(coef, beta.coef_, atol=1e-9)
    assert_allclose(two.predict(proba)[:, 1], beta.predict(proba[:, 1]), atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(rows=rows(), scale=SCALES)
def test_no_allowed_step_leads_down(rows, scale):
    """Karush, Kuhn and Tucker: the gradient vanishes off the bounds and points into the room at them."""
    proba, y, weight = rows
    weight = weight * scale
    fitted = MulticlassCalibrator("vector").fit(proba, y, weight)
    coef = np.concatenate([fitted.slopes_, fitted.offsets_])
    assert fitted.slopes_.min() >= 0.0
    assert_allclose(fitted.offsets_.sum(), 0.0, atol=1e-8)
    slope = gradient(coef, logs(proba), y, weight)
    tolerance = 1e-8 * (1.0 + weight.sum())
    free = np.append(fitted.slopes_ > 0.0, np.full(fitted.offsets_.size, True))
    assert slope.min() >= -tolerance
    assert np.abs(slope[free]).max() <= tolerance


@settings(max_examples=60, deadline=None)
@given(rows=rows(), scale=SCALES)
def test_any_rows_give_probabilities(rows, scale):
    proba, y, weight = rows
    fitted = MulticlassCalibrator("vector").fit(proba, y, weight * scale)
    corners = np.eye(proba.shape[1])
    p = fitted.predict(np.concatenate([proba, corners]))
    assert np.all(np.isfinite(p))
    assert p.min() >= 0.0
    assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(rows=rows(), seed=st.integers(0, 2**32 - 1))
def test_weights_are_repeated_rows_in_any_order(rows, seed):
    proba, y, weight = rows
    weighted = MulticlassCalibrator("vector").fit(proba, y, weight)
    order = np.random.default_rng(seed).permutation(weight.sum())
    repeated = MulticlassCalibrator("vector").fit(np.repeat(proba, weight, axis=0)[order], np.repeat(y, weight)[order])
    assert_allclose(weighted.slopes_, repeated.slopes_, atol=1e-9)
    assert_allclose(weighted.offsets_, repeated.offsets_, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(rows=rows(), seed=st.integers(0, 2**32 - 1))
def test_renamed_classes_have_the_same_probabilities(rows, seed):
    proba, y, weight = rows
    order = np.random.default_rng(seed).permutation(proba.shape[1])
    one = MulticlassCalibrator("vector").fit(proba, y, weight)
    other = MulticlassCalibrator("vector").fit(proba[:, order], np.argsort(order)[y], weight)
    assert_allclose(other.predict(proba[:, order]), one.predict(proba)[:, order], atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(rows=rows(), k=st.integers(0, 4))
def test_a_greater_share_never_lowers_a_probability(rows, k):
    """The share is taken from the other classes in proportion."""
    proba, y, weight = rows
    fitted = MulticlassCalibrator("vector").fit(proba, y, weight)
    k %= proba.shape[1]
    others = np.delete(proba[0] + 0.1, k)
    share = np.linspace(0.0, 1.0, 101)[:, None]
    path = np.insert((1.0 - share) * others / others.sum(), k, share[:, 0], axis=1)
    assert np.diff(fitted.predict(path)[:, k]).min() >= -1e-12


def test_mends_what_a_temperature_cannot():
    slopes, offsets = np.array([0.5, 0.8, 1.2]), np.array([0.6, 0.0, -0.6])
    proba, y, _ = drawn(3000, 3, 3, slopes, offsets)
    new, _, truth = drawn(3000, 3, 4, slopes, offsets)
    error = {
        method: np.abs(MulticlassCalibrator(method).fit(proba, y).predict(new) - truth).mean()
        for method in ("vector", "temperature")
    }
    assert error["vector"] < 0.02 < 0.08 < error["temperature"]


@pytest.mark.parametrize(("n", "most"), [(300, 0.04), (3000, 0.015)])
def test_calibrated_probabilities_change_little(n, most):
    proba, y, _ = drawn(n, 3, 8)
    assert np.abs(MulticlassCalibrator("vector").fit(proba, y).predict(proba) - proba).mean() < most


def test_few_rows_stay_near_the_identity():
    proba = np.array([[0.6, 0.3, 0.1], [0.1, 0.7, 0.2]])
    p = MulticlassCalibrator("vector").fit(proba, [2, 0]).predict(proba)
    assert_allclose(p, proba, atol=0.2)
    assert np.all(p[[0, 1], [2, 0]] > proba[[0, 1], [2, 0]])


def test_a_class_never_seen_becomes_rarer_with_the_rows_and_never_impossible():
    proba, y, _ = drawn(4000, 3, 5)
    share = []
    for n in (40, 400, 4000):
        seen = y[:n] != 2
        share.append(MulticlassCalibrator("vector").fit(proba[:n][seen], y[:n][seen]).predict(proba)[:, 2].mean())
    assert proba[:, 2].mean() > share[0] > share[1] > share[2] > 0.0


@pytest.mark.parametrize(
    ("proba", "y"),
    [
        pytest.param([[0.2, 0.3, 0.5]] * 4, [0, 1, 2, 2], id="all rows equal"),
        pytest.param([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0, 1, 2], id="0 and 1, all right"),
        pytest.param([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [1, 2, 0], id="0 and 1, all wrong"),
        pytest.param([[0.5, 0.5], [0.5, 0.5]], [0, 1], id="two rows, two classes"),
        pytest.param([[1.0, 5e-324, 0.0], [5e-324, 1.0, 0.0]], [0, 1], id="subnormal"),
    ],
)
@pytest.mark.parametrize("weight", [1e-300, 1e-12, 1.0, 1e12, 1e100])
def test_degenerate_rows_have_an_answer(proba, y, weight):
    fitted = MulticlassCalibrator("vector").fit(proba, y, np.full(len(y), weight))
    p = fitted.predict(proba)
    assert np.all(np.isfinite(p))
    assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    if weight < 1e-10:  # the prior alone: the identity
        assert_allclose(p, proba, atol=1e-5)


def test_where_it_starts_does_not_change_where_it_ends(monkeypatch):
    proba, y, _ = drawn(60_000, 3, 6, np.array([0.5, 0.8, 1.2]))
    warm = MulticlassCalibrator("vector").fit(proba, y)
    monkeypatch.setattr(_logistic, "_MANY", 10**9)
    cold = MulticlassCalibrator("vector").fit(proba, y)
    assert_allclose(warm.slopes_, cold.slopes_, rtol=1e-10)
    assert_allclose(warm.offsets_, cold.offsets_, atol=1e-10)


def test_one_row_gets_the_bits_of_the_batch():
    proba, y, _ = drawn(200, 5, 7)
    fitted = MulticlassCalibrator("vector").fit(proba, y)
    assert_array_equal(np.concatenate([fitted.predict(row[None]) for row in proba]), fitted.predict(proba))


def test_numbers_of_another_method_do_not_exist():
    fitted = MulticlassCalibrator("vector").fit([[0.6, 0.4], [0.3, 0.7]], [0, 1])
    assert not hasattr(fitted, "temperature_")
    assert not hasattr(fitted, "columns_")

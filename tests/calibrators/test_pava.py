"""Pooled adjacent violators against scikit-learn, and against the definition."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.isotonic import IsotonicRegression

from mlflow_caliber._pava import Locator, mean_scores, pool

GRID = np.linspace(0.0, 1.0, 101)
EPSILON = 2.0**-53  # half the distance of neighbouring numbers in [0.5, 1)

# Ties, both ends of the scale in every spelling, scores that were float32, and scores apart by less than 1e-15.
SCORE = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 1e-300, 5e-324]),
    st.integers(0, 8).map(lambda k: k / 8),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0, width=32),
    st.integers(0, 40).map(lambda k: 0.7 + k * EPSILON),
)
LABEL = st.sampled_from([0, 1])
ROWS = st.lists(st.tuples(SCORE, LABEL), min_size=1, max_size=60)
WEIGHTED = st.lists(st.tuples(SCORE, LABEL, st.integers(1, 4)), min_size=1, max_size=40)


def columns(rows, *dtypes):
    return [np.array(column, dtype=dtype) for column, dtype in zip(zip(*rows, strict=True), dtypes, strict=True)]


def assert_is_scikit_learns(scores, y, weights=None):
    pools = pool(scores, y, weights)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, y, sample_weight=weights)
    at = np.concatenate([scores, GRID])
    knots, values = np.stack([pools.first, pools.last], axis=1).ravel(), np.repeat(pools.value, 2)
    assert_allclose(np.interp(at, knots, values), theirs.predict(at), atol=1e-12, rtol=0)
    assert np.all(pools.first <= pools.last)
    assert np.all(pools.first[1:] > pools.last[:-1])
    assert np.all(np.diff(pools.value) >= 0.0)
    assert pools.weight.sum() == pytest.approx(scores.size if weights is None else weights.sum())


@settings(max_examples=200, deadline=None)
@given(rows=ROWS)
@example(rows=[(0.5, 1)])
@example(rows=[(0.0, 1), (-0.0, 0), (0.0, 1), (1.0, 0)])
@example(rows=[(0.5 - EPSILON, 0), (0.5, 1), (0.5, 1), (0.9, 0), (0.95, 1)])
def test_is_scikit_learns(rows):
    assert_is_scikit_learns(*columns(rows, float, np.int64))


@settings(max_examples=200, deadline=None)
@given(rows=WEIGHTED, unit=st.sampled_from([1.0, 0.3, 1e-6]))
def test_is_scikit_learns_with_weights(rows, unit):
    scores, y, weights = columns(rows, float, np.int64, float)
    assert_is_scikit_learns(scores, y, weights * unit)


SHAPES = {
    "uniform": lambda rng, n: rng.random(n),
    "rare events": lambda rng, n: rng.beta(1.0, 20.0, n),
    "two humps": lambda rng, n: rng.beta(0.3, 0.3, n),
    "two decimals": lambda rng, n: rng.random(n).round(2),
    "three decimals": lambda rng, n: rng.random(n).round(3),
    "float32": lambda rng, n: rng.random(n, dtype=np.float32).astype(np.float64),
    "0 and 1": lambda rng, n: np.clip(rng.normal(0.5, 1.0, n), 0.0, 1.0),
    "saturated": lambda rng, n: 1.0 / (1.0 + np.exp(-rng.normal(0.0, 15.0, n))),
}
TRUTHS = {
    "increasing": lambda p: p**2,
    "decreasing": lambda p: 1.0 - p,
    "flat": lambda p: np.full_like(p, 0.02),
    "step": lambda p: (p > 0.5).astype(float),
    "none": np.zeros_like,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("n", [300, 20_000])
def test_is_scikit_learns_on_many_rows(shape, truth, n):
    rng = np.random.default_rng(n)
    scores = SHAPES[shape](rng, n)
    y = (rng.random(n) < TRUTHS[truth](scores)).astype(np.int64)
    assert_is_scikit_learns(scores, y)


@pytest.mark.parametrize("shape", SHAPES)
def test_is_scikit_learns_on_many_weighted_rows(shape):
    rng = np.random.default_rng(5)
    scores = SHAPES[shape](rng, 20_000)
    y = (rng.random(scores.size) < scores).astype(np.int64)
    assert_is_scikit_learns(scores, y, rng.random(scores.size) + 1e-3)


def test_is_scikit_learns_along_a_chain_of_close_scores():
    """Each closer than 1e-15 to the next, the ends further apart: a tie ends 1e-15 after it began."""
    scores = 0.7 + np.arange(100) * 4 * EPSILON
    y = np.random.default_rng(0).integers(0, 2, scores.size)
    assert_is_scikit_learns(scores, y)
    assert_is_scikit_learns(scores, y, np.linspace(1.0, 2.0, scores.size))


@settings(max_examples=200, deadline=None)
@given(y=st.lists(LABEL, min_size=1, max_size=12))
def test_is_the_greatest_of_least_means(y):
    """Barlow et al. (1972): the fit at i is the maximum over j <= i of the minimum over k >= i of mean(y[j..k])."""
    n = len(y)
    means = [[np.mean(y[j : k + 1]) if k >= j else np.nan for k in range(n)] for j in range(n)]
    expected = [max(min(means[j][k] for k in range(i, n)) for j in range(i + 1)) for i in range(n)]
    pools = pool((np.arange(n) + 0.5) / n, np.array(y))
    assert_allclose(np.repeat(pools.value, pools.weight.astype(int)), expected, atol=1e-15)


@settings(max_examples=150, deadline=None)
@given(rows=WEIGHTED)
def test_weights_are_repeated_rows(rows):
    scores, y, weights = columns(rows, float, np.int64, np.int64)
    weighted = pool(scores, y, weights.astype(float))
    repeated = pool(np.repeat(scores, weights), np.repeat(y, weights))
    for one, other in zip(weighted, repeated, strict=True):
        assert_allclose(one, other, atol=1e-14)
    centre = mean_scores(weighted, scores, weights.astype(float))
    assert_allclose(centre, mean_scores(repeated, np.repeat(scores, weights)), atol=1e-14)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 2**32 - 1))
def test_row_order_does_not_change_a_bit(rows, seed):
    scores, y = columns(rows, float, np.int64)
    order = np.random.default_rng(seed).permutation(scores.size)
    for one, other in zip(pool(scores, y), pool(scores[order], y[order]), strict=True):
        assert_array_equal(one, other)


@settings(max_examples=100, deadline=None)
@given(rows=WEIGHTED)
def test_mean_scores_are_means(rows):
    scores, y, weights = columns(rows, float, np.int64, float)
    pools = pool(scores, y, weights)
    index = np.searchsorted(pools.first, scores, side="right") - 1
    expected = [np.average(scores[index == k], weights=weights[index == k]) for k in range(pools.first.size)]
    assert_allclose(mean_scores(pools, scores, weights), expected, atol=1e-15)


def test_labels_of_any_type_and_fractions_with_weights():
    scores, y = np.array([0.1, 0.3, 0.4, 0.6, 0.8]), np.array([0, 1, 0, 1, 1])
    for kind in (np.bool_, np.uint8, np.float64):
        assert_array_equal(pool(scores, y.astype(kind)).value, [0.0, 0.5, 1.0])
    pools = pool(np.array([0.2, 0.4, 0.6]), np.array([0.5, 0.25, 0.75]), np.array([1.0, 3.0, 1.0]))
    assert_allclose(pools.value, [1.25 / 4, 0.75])
    assert_array_equal(pools.weight, [4.0, 1.0])


def test_leaves_its_input_alone():
    arrays = [np.array([0.4, 0.1, 0.9]), np.array([1, 0, 1]), np.ones(3)]
    for array in arrays:
        array.flags.writeable = False
    pool(*arrays[:2])
    pool(*arrays)


@pytest.mark.parametrize("n_knots", [1, 2, 300, 5_000])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-9])
def test_locator_counts_as_a_search_does(n_knots, spread):
    """Knots from one a cell to all in one cell; scores on, right beside and between them, and at the ends."""
    rng = np.random.default_rng(n_knots)
    knots = np.unique(rng.random(n_knots) * spread)
    beside = np.concatenate([knots, np.nextafter(knots, 0.0), np.nextafter(knots, 1.0), [0.0, -0.0, 1.0]])
    scores = np.concatenate([beside, rng.random(20_000) * min(1.0, 2.0 * spread)])
    for n in (10, scores.size, 10**7):
        assert_array_equal(Locator(knots, n)(scores), np.searchsorted(knots, scores, side="right"))

"""Clopper and Pearson's interval and bound of a proportion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import proportion_interval, proportion_upper_bound

COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("k", "n", "bound"), [(2, 100, 0.0616192004), (0, 59, 0.0495076099), (0, 58, 0.0503393383), (7, 7, 1.0)]
)
def test_golden_upper_bounds(k, n, bound):
    """From the definition (Clopper and Pearson 1934), computed independently, at 95 %."""
    assert proportion_upper_bound(k, n) == pytest.approx(bound, abs=6e-11)
    if k == 0:
        assert proportion_upper_bound(k, n) == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-12)


@given(counts=COUNTS, confidence=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_is_the_exact_interval_of_scipy(counts, confidence):
    k, n = counts
    exact = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    assert proportion_interval(k, n, confidence=confidence) == pytest.approx((exact.low, exact.high), abs=1e-10)


@given(counts=COUNTS, delta=st.sampled_from([0.001, 0.05, 0.3]))
def test_bound_is_where_so_few_successes_become_unlikely(counts, delta):
    k, n = counts
    bound = proportion_upper_bound(k, n, delta=delta)
    assert k / n <= bound <= 1
    if k < n:
        assert stats.binom.cdf(k, n, bound) == pytest.approx(delta, rel=1e-8)


@given(counts=COUNTS, between=st.floats(0, 1))
def test_counts_need_not_be_whole(counts, between):
    """Effective counts lie between whole ones, and so do their bounds."""
    k, n = counts
    bounds = [proportion_upper_bound(k, m) for m in (n + 1, n + between, n)]
    assert bounds == sorted(bounds)


def test_covers_as_often_as_it_says():
    """Exactly, by summing over all counts: at least the level for every truth, which no approximation manages."""
    n = 40
    ends = np.array([proportion_interval(k, n, confidence=0.9) for k in range(n + 1)])
    for truth in np.linspace(0.01, 0.99, 99):
        inside = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
        assert stats.binom.pmf(np.arange(n + 1), n, truth)[inside].sum() >= 0.9


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((3, 2), r"successes must not exceed n, got 3 of 2\."),
        ((0, 0), r"n must be more than 0, got 0\."),
        ((-1, 2), r"successes must be a finite number of at least 0, got -1\."),
        ((1, np.inf), r"n must be a finite number of at least 0, got inf\."),
        ((True, 2), r"successes must be a finite number of at least 0, got True\."),
    ],
)
@pytest.mark.parametrize("function", [proportion_interval, proportion_upper_bound])
def test_bad_counts_get_a_sentence(function, arguments, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        function(*arguments)


def test_bad_levels_get_a_sentence():
    with pytest.raises(InvalidInputError, match="confidence must be a number strictly between 0 and 1, got 1"):
        proportion_interval(1, 2, confidence=1.0)
    with pytest.raises(InvalidInputError, match="delta must be a number strictly between 0 and 1, got 0"):
        proportion_upper_bound(1, 2, delta=0.0)

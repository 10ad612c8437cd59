"""The AUC and how sure it is: against the definition over all pairs, and against published and sampled variances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.metrics import (
    compare_models,
    multiclass_roc_auc,
    multiclass_roc_auc_interval,
    multiclass_roc_auc_variance,
    roc_auc,
    roc_auc_interval,
    roc_auc_variance,
)

quick = settings(max_examples=50, deadline=None)

# Few distinct scores: ties in nearly every example.
ROW = st.tuples(
    st.integers(0, 1), st.one_of(st.integers(0, 8).map(lambda k: k / 8), st.floats(0, 1)), st.integers(0, 3)
)
BOTH = [(0, 0.25, 1), (0, 0.5, 2), (1, 0.5, 1), (1, 0.75, 3)]
ROWS = st.lists(ROW, max_size=25).map(lambda rows: [*rows, *BOTH])

DELONG_P = np.array([0.75, 0.44, 0.82, 0.68, 0.13, 0.93, 0.74, 0.76, 0.17, 0.46, 0.38, 0.88])
DELONG_Y = np.array([1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0])


def columns(rows):
    y, p, w = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    return y, p, w


def near(value):
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def placements(y, p, w):
    """From the definition, over all pairs: of the positives, of the negatives, and the weights of both."""
    right = (p[y == 1][:, None] > p[y == 0]) + 0.5 * (p[y == 1][:, None] == p[y == 0])
    m, n = w[y == 1], w[y == 0]
    return right @ n / n.sum(), m @ right / m.sum(), m, n


def naive_variance(y, p, w):
    above, below, m, n = placements(y, p, w)
    parts = []
    for values, weights in ((above, m), (below, n)):
        mean = np.average(values, weights=weights)
        kish = weights.sum() ** 2 / (weights**2).sum()
        parts.append((weights**2 @ (values - mean) ** 2) / weights.sum() ** 2 * kish / (kish - 1))
    return sum(parts)


def two_of_each(y, w):
    return min((w[y == side] > 0).sum() for side in (0, 1)) > 1


def test_golden():
    """Computed from the definition of DeLong, DeLong and Clarke-Pearson (1988), independently of this package."""
    assert roc_auc(DELONG_Y, DELONG_P) == pytest.approx(0.8055555556, abs=6e-11)
    assert roc_auc_variance(DELONG_Y, DELONG_P) == pytest.approx(0.0219135802, abs=6e-11)


@quick
@given(rows=ROWS)
def test_variance_is_delongs(rows):
    y, p, _ = columns(rows)
    above, below, _, _ = placements(y, p, np.ones_like(y))
    by_hand = np.var(above, ddof=1) / above.size + np.var(below, ddof=1) / below.size
    assert roc_auc_variance(y, p) == near(by_hand)


@quick
@given(rows=ROWS)
def test_weighted_variance_is_that_of_weighted_means(rows):
    y, p, w = columns(rows)
    above, _, m, _ = placements(y, p, w)
    assert roc_auc(y, p, sample_weight=w) == near(np.average(above, weights=m))
    assert roc_auc_variance(y, p, sample_weight=w) == near(naive_variance(y, p, w))


@quick
@given(rows=ROWS, scale=st.sampled_from([1e-200, 0.1, 7.0, 1e200]), random=st.randoms(use_true_random=False))
def test_neither_order_nor_the_scale_of_weights_matters(rows, scale, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    (y, p, w), (y2, p2, w2) = columns(rows), columns(shuffled)
    for function in (roc_auc_variance, roc_auc_interval):
        assert function(y, p, sample_weight=np.full(y.size, scale)) == near(function(y, p))
        assert function(y2, p2, sample_weight=scale * w2) == near(function(y, p, sample_weight=w))


@quick
@given(rows=ROWS)
def test_rows_without_weight_are_no_rows(rows):
    y, p, w = columns(rows)
    kept = w > 0
    expected = roc_auc_interval(y[kept], p[kept], sample_weight=w[kept])
    assert roc_auc_interval(y, p, sample_weight=w) == near(expected)


def test_a_light_row_tied_with_a_heavy_one_counts():
    y, p, w = [1, 0, 1, 0], [0.5, 0.5, 0.7, 0.7], [1.0, 1e-20, 1.0, 3e-20]
    assert roc_auc(y, p, sample_weight=w) == near(0.5 * 0.25 + 0.5 * 0.25 + 0.5 * 0.25)
    low, high = roc_auc_interval(y, p, sample_weight=w)
    assert 0 <= low < 0.375 < high <= 1


def test_weighted_variance_is_what_resampling_rows_shows():
    """A row is drawn with its weight: the spread over bootstrap samples, for weights that follow the score."""
    rng = np.random.default_rng(0)
    p = rng.random(400)
    y, w = rng.random(400) < p, 0.2 + 3 * p
    draws = rng.integers(0, 400, (1000, 400))
    sampled = [roc_auc(y[i], p[i], sample_weight=w[i]) for i in draws]
    assert roc_auc_variance(y, p, sample_weight=w) == pytest.approx(np.var(sampled), rel=0.12)
    assert roc_auc_variance(np.repeat(y, 3), np.repeat(p, 3)) < roc_auc_variance(y, p) / 2.9  # copies are evidence


@quick
@given(rows=ROWS, confidence=st.floats(0.01, 0.999))
def test_the_interval_holds_the_value_and_grows_with_confidence(rows, confidence):
    y, p, w = columns(rows)
    low, high = roc_auc_interval(y, p, confidence=confidence, sample_weight=w)
    assert 0 <= low <= roc_auc(y, p, sample_weight=w) <= high <= 1
    wider = roc_auc_interval(y, p, confidence=(1 + confidence) / 2, sample_weight=w)
    assert wider.low <= low
    assert wider.high >= high


@quick
@given(rows=ROWS, weights=st.lists(st.floats(0, 1e300), min_size=29, max_size=29))
def test_any_weights_give_an_interval_around_the_value(rows, weights):
    y, p, _ = columns(rows)
    w = np.array(weights[: y.size])
    w[[-4, -1]] += 1.0
    low, high = roc_auc_interval(y, p, sample_weight=w)
    assert 0 <= low <= roc_auc(y, p, sample_weight=w) <= high <= 1
    assert np.isfinite(roc_auc_variance(y, p, sample_weight=w))


@quick
@given(rows=ROWS)
def test_turning_the_labels_round_turns_the_interval_round(rows):
    y, p, _ = columns(rows)
    low, high = roc_auc_interval(1 - y, p)
    assert roc_auc_interval(y, p) == near((1 - high, 1 - low))


def test_perfect_order_is_as_many_successes_as_there_are_disjoint_pairs():
    """Clopper and Pearson: after k successes of k, the lower bound is (1 - confidence)/2 to the power of 1/k."""
    y, p = np.repeat([0, 1], [50, 5]), np.arange(55) / 55
    assert roc_auc_interval(y, p) == near((0.025 ** (1 / 5), 1.0))
    assert roc_auc_interval(1 - y, p, confidence=0.9) == near((0.0, 1 - 0.05 ** (1 / 5)))


def test_one_row_of_a_class_says_next_to_nothing():
    assert roc_auc_interval([0, 1], [0.2, 0.7]) == near((0.025, 1.0))
    low, high = roc_auc_interval([0] * 99 + [1], np.arange(100) / 100 - 0.5 * (np.arange(100) == 99))
    assert low < 0.01
    assert high > 0.98


def test_tied_scores_are_no_certainty():
    low, high = roc_auc_interval([0, 1] * 3, [0.5] * 6)
    assert low < 0.3
    assert high > 0.7


def test_many_rows_give_the_plain_delong_interval():
    rng = np.random.default_rng(1)
    p = rng.random(50_000)
    y = rng.random(50_000) < p
    reach = 1.959964 * np.sqrt(roc_auc_variance(y, p))
    plain = roc_auc(y, p) - reach, roc_auc(y, p) + reach
    assert roc_auc_interval(y, p) == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize("function", [roc_auc, roc_auc_variance, roc_auc_interval])
def test_one_class_is_refused(function):
    with pytest.raises(OneClassError, match=rf"{function.__name__} needs both classes, got only class 1 in 2 rows\."):
        function([1, 1, 0], [0.4, 0.6, 0.2], sample_weight=[1, 1, 0])


@pytest.mark.parametrize("confidence", [0, 1, 95, True])
def test_a_level_that_is_none_is_refused(confidence):
    with pytest.raises(InvalidInputError, match="confidence must be a number strictly between 0 and 1"):
        roc_auc_interval([0, 1], [0.2, 0.7], confidence=confidence)
    with pytest.raises(InvalidInputError, match="confidence must be a number strictly between 0 and 1"):
        multiclass_roc_auc_interval([0, 1], [[0.2, 0.8], [0.7, 0.3]], confidence=confidence)


@pytest.fixture(scope="module")
def three():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1.0, 1.0, 2.0], 300)
    y = (rng.random((300, 1)) > proba.cumsum(axis=1)).sum(axis=1)
    return y, proba, rng.uniform(0.2, 3, 300)


def naive_macro_variance(y, proba, w):
    """Every row's contribution to the errors of all classes' AUCs, squared."""
    n_classes = proba.shape[1]
    error = np.zeros(y.size)
    for k in range(n_classes):
        of_class = y == k
        above, below, m, n = placements(of_class * 1, proba[:, k], w)
        auc = np.average(above, weights=m)
        for rows, values, weights in ((of_class, above, m), (~of_class, below, n)):
            kish = weights.sum() ** 2 / (weights**2).sum()
            share = weights * (values - auc) / weights.sum()
            error[rows] += share * np.sqrt(kish / (kish - 1)) / n_classes
    return (error**2).sum()


def test_macro_variance_is_the_naive_one(three):
    y, proba, w = three
    assert multiclass_roc_auc_variance(y, proba) == near(naive_macro_variance(y, proba, np.ones(y.size)))
    assert multiclass_roc_auc_variance(y, proba, sample_weight=w) == near(naive_macro_variance(y, proba, w))


def test_macro_variance_is_what_resampling_rows_shows(three):
    y, proba, _ = three
    rng = np.random.default_rng(1)
    draws = rng.integers(0, y.size, (600, y.size))
    sampled = [multiclass_roc_auc(y[i], proba[i]) for i in draws]
    assert multiclass_roc_auc_variance(y, proba) == pytest.approx(np.var(sampled), rel=0.15)


@quick
@given(rows=ROWS)
def test_of_two_classes_macro_is_binary(rows):
    y, p, w = columns(rows)
    p = p.round(3)  # so that 1 - p makes no ties and breaks none
    proba = np.column_stack([1 - p, p])
    assert multiclass_roc_auc_interval(y, proba, sample_weight=w) == near(roc_auc_interval(y, p, sample_weight=w))
    assert multiclass_roc_auc_variance(y, proba) == near(roc_auc_variance(y, p))


def test_the_macro_interval_holds_the_value(three):
    y, proba, w = three
    low, high = multiclass_roc_auc_interval(y, proba, sample_weight=w)
    assert 0 < low < multiclass_roc_auc(y, proba, sample_weight=w) < high < 1
    perfect = np.eye(3)[np.repeat([0, 1, 2], [4, 7, 9])]
    assert multiclass_roc_auc_interval(np.repeat([0, 1, 2], [4, 7, 9]), perfect) == near((0.025**0.25, 1.0))


def test_a_class_that_is_never_seen_is_refused(three):
    _, proba, _ = three
    with pytest.raises(OneClassError, match="multiclass_roc_auc_interval needs both classes, got only class 0"):
        multiclass_roc_auc_interval(np.arange(300) % 2, proba)


@quick
@given(rows=ROWS, other=st.lists(st.integers(0, 6).map(lambda k: k / 6), min_size=29, max_size=29))
def test_the_variance_of_a_difference_takes_delongs_covariance(rows, other):
    y, p, _ = columns(rows)
    q = np.array(other[: y.size])
    found = compare_models(y, p, q, metric="roc_auc")
    ones = np.ones_like(y)
    above_p, below_p, *_ = placements(y, p, ones)
    above_q, below_q, *_ = placements(y, q, ones)
    variance = np.var(above_q - above_p, ddof=1) / above_p.size + np.var(below_q - below_p, ddof=1) / below_p.size
    assert found.standard_error**2 == near(variance)
    assert (found.a, found.b) == near((roc_auc(y, p), roc_auc(y, q)))

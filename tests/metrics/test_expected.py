"""What probabilities promise: against sums over all pairs and averages over drawn outcomes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.metrics import (
    expected_accuracy,
    expected_f1,
    expected_performance,
    expected_precision,
    expected_recall,
    expected_roc_auc,
    proportion_interval,
    roc_auc,
    roc_auc_interval,
    roc_auc_variance,
)

quick = settings(max_examples=50, deadline=None)

DELONG_P = np.array([0.75, 0.44, 0.82, 0.68, 0.13, 0.93, 0.74, 0.76, 0.17, 0.46, 0.38, 0.88])
PROBABILITY = st.one_of(st.integers(0, 8).map(lambda k: k / 8), st.floats(0, 1))
ROW = st.tuples(PROBABILITY, PROBABILITY, st.integers(0, 3))
ROWS = st.lists(ROW, max_size=20).map(lambda rows: [*rows, (0.25, 0.3, 1), (0.75, 0.3, 2)])


def columns(rows):
    return (np.array(column, dtype=float) for column in zip(*rows, strict=True))


def auc_interval(p, **options):
    return expected_performance(p, **options).roc_auc_interval


def accuracy_interval(p, **options):
    return expected_performance(p, **options).accuracy_interval


def near(value):
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def naive_auc(p, s, w):
    pairs = np.outer(w * p, w * (1 - p))
    np.fill_diagonal(pairs, 0.0)
    return (pairs * ((s[:, None] > s) + 0.5 * (s[:, None] == s))).sum() / pairs.sum()


def test_golden():
    """From the sum over all pairs, computed apart from this package."""
    assert expected_roc_auc(DELONG_P) == pytest.approx(0.8188462670, abs=6e-11)


@quick
@given(rows=ROWS)
def test_expected_auc_is_the_naive_one(rows):
    p, s, w = columns(rows)
    assert expected_roc_auc(p) == near(naive_auc(p, p, np.ones_like(p)))
    assert expected_roc_auc(p, sample_weight=w) == near(naive_auc(p, p, w))
    assert expected_roc_auc(p, y_score=s, sample_weight=w) == near(naive_auc(p, s, w))
    assert expected_roc_auc(p) >= 0.5 - 1e-12


def test_expected_auc_is_what_drawn_outcomes_show():
    rng = np.random.default_rng(0)
    p, w = rng.beta(1, 2, 400).round(2), rng.uniform(0.5, 2, 400)
    drawn = [roc_auc(rng.random(400) < p, p, sample_weight=w) for _ in range(300)]
    assert expected_roc_auc(p, sample_weight=w) == pytest.approx(np.mean(drawn), abs=0.004)


def test_a_calibrator_that_makes_ties_does_not_touch_the_raw_ranking():
    rng = np.random.default_rng(0)
    raw = rng.random(3000)
    steps = np.floor(raw * 4) / 4 + 0.125  # calibrated, and nearly all tied
    drawn = np.mean([roc_auc(rng.random(3000) < steps, raw) for _ in range(50)])
    assert expected_roc_auc(steps, y_score=raw) == pytest.approx(drawn, abs=0.005)


@quick
@given(rows=ROWS)
def test_certain_probabilities_are_labels(rows):
    p, s, w = columns(rows)
    y = (p > 0.5).astype(float)
    y[:2] = [0, 1]
    w += 1
    assert expected_roc_auc(y, y_score=s, sample_weight=w) == near(roc_auc(y, s, sample_weight=w))
    expected = roc_auc_interval(y, s, sample_weight=w)
    assert auc_interval(y, y_score=s, sample_weight=w) == near(expected)


def test_the_interval_is_as_wide_as_labels_would_make_it():
    rng = np.random.default_rng(0)
    p = rng.beta(2, 3, 2000)
    labelled = [roc_auc_variance(rng.random(2000) < p, p) for _ in range(30)]
    low, high = auc_interval(p)
    assert low < expected_roc_auc(p) < high
    assert (high - low) / (2 * 1.96) == pytest.approx(np.sqrt(np.mean(labelled)), rel=0.01)


@quick
@given(rows=ROWS, scale=st.sampled_from([1e-200, 0.1, 1e200]), random=st.randoms(use_true_random=False))
def test_neither_order_nor_the_scale_of_weights_matters(rows, scale, random):
    p, s, w = columns(rows)
    order = list(range(p.size))
    random.shuffle(order)
    for function in (expected_roc_auc, auc_interval):
        expected = function(p, y_score=s, sample_weight=w)
        assert function(p[order], y_score=s[order], sample_weight=scale * w[order]) == near(expected)


def test_of_two_columns_the_second_is_class_one():
    proba = np.column_stack([1 - DELONG_P, DELONG_P])
    assert expected_roc_auc(proba) == near(expected_roc_auc(DELONG_P))
    assert expected_accuracy(proba) == near(expected_accuracy(DELONG_P))


def test_more_classes_are_a_mean_over_them():
    rng = np.random.default_rng(0)
    proba, w = rng.dirichlet([1.0, 2.0, 1.0], 200), rng.uniform(0.5, 2, 200)
    one_by_one = [naive_auc(p, p, w) for p in proba.T]
    assert expected_roc_auc(proba, sample_weight=w) == near(np.mean(one_by_one))
    low, high = auc_interval(proba, sample_weight=w)
    assert low < np.mean(one_by_one) < high
    assert expected_accuracy(proba, sample_weight=w) == near(np.average(proba.max(axis=1), weights=w))


def test_the_interval_of_more_classes_is_as_wide_as_drawn_samples_are_apart():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1.0, 2.0, 1.0], 600)
    certain = np.eye(3)
    drawn = []
    for _ in range(300):
        p = proba[rng.integers(0, 600, 600)]
        y = (rng.random((600, 1)) > p.cumsum(axis=1)).sum(axis=1)
        drawn.append(expected_roc_auc(certain[y], y_score=p))
    low, high = auc_interval(proba)
    assert (high - low) / (2 * 1.96) == pytest.approx(np.std(drawn), rel=0.12)


@quick
@given(rows=ROWS, threshold=st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0]))
def test_counts_of_all_outcomes_with_their_chances(rows, threshold):
    """Each row twice: once positive with weight p, once negative with weight 1 - p."""
    p, _, w = columns(rows)
    options = {"threshold": threshold, "sample_weight": w}
    y, guess, weight = np.repeat([1, 0], p.size), np.tile(p > threshold, 2), np.append(w * p, w * (1 - p))
    assert expected_accuracy(p, **options) == near(accuracy_score(y, guess, sample_weight=weight))
    hit, above, positive = weight @ (y * guess), weight @ guess, weight @ y
    if above > 0:
        assert expected_precision(p, **options) == near(hit / above)
        assert expected_f1(p, **options) == near(2 * hit / (above + positive))
    if positive > 0:
        assert expected_recall(p, **options) == near(hit / positive)


@quick
@given(rows=ROWS)
def test_weights_are_repeated_rows(rows):
    p, _, w = columns(rows)
    repeated = np.repeat(p, w.astype(int))
    for function in (expected_accuracy, expected_recall):
        assert function(p, sample_weight=w) == near(function(repeated))


def test_the_interval_of_accuracy_is_that_of_a_proportion():
    p = np.array([0.1, 0.4, 0.35, 0.8] * 25)
    assert accuracy_interval(p, confidence=0.9) == near(proportion_interval(73.75, 100, confidence=0.9))
    # Two thirds of the weight on half of the rows: Kish's number is (1 + 2)^2 / (1 + 4) / 2 of the rows.
    w = np.repeat([1.0, 2.0], 50)
    accuracy = expected_accuracy(p, sample_weight=w)
    assert accuracy_interval(p, sample_weight=w) == near(proportion_interval(90 * accuracy, 90))
    assert accuracy_interval([0.0, 1.0]).high == 1.0


@pytest.mark.parametrize("p", [[0.3], [0.0, 0.0], [1.0, 1.0]])
def test_no_pair_of_different_classes_is_no_auc(p):
    with pytest.raises(OneClassError, match=f"two rows that can be of different classes, got none in {len(p)}"):
        expected_roc_auc(p)
    found = expected_performance(p)
    assert (found.roc_auc, found.roc_auc_interval) == (None, None)
    assert found.accuracy == expected_accuracy(p)


def test_performance_is_all_of_them():
    w = np.array([1.0, 2.0, 0.0, 1.0] * 3)
    found = expected_performance(DELONG_P, threshold=0.4, confidence=0.9, sample_weight=w)
    assert found.accuracy == expected_accuracy(DELONG_P, threshold=0.4, sample_weight=w)
    assert found.f1 == expected_f1(DELONG_P, threshold=0.4, sample_weight=w)
    assert found.roc_auc == expected_roc_auc(DELONG_P, sample_weight=w)
    assert (found.n, found.confidence) == (9, 0.9)
    assert expected_performance([0.0, 0.0]).f1 is None
    assert expected_performance([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]).f1 is None


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: expected_precision([0.2, 0.5]), r"expected_precision needs a row above the threshold, got none\."),
        (lambda: expected_recall([0.0, 0.0]), r"expected_recall needs a row that can be positive, got none\."),
        (lambda: expected_f1([0.0]), r"expected_f1 needs a row that is predicted or can be positive, got none\."),
        (lambda: expected_f1([0.3], threshold=2), r"threshold must be a number in \[0, 1\], got 2\."),
        (lambda: expected_roc_auc([0.3, 1.2]), r"y_proba must lie in \[0, 1\], got a maximum of 1\.2\."),
        (lambda: expected_roc_auc([0.3, 0.2], y_score=[0.1]), r"shape of y_proba, got \(1,\) for \(2,\)\."),
        (lambda: auc_interval([0.3, 0.2], confidence=1), r"confidence must be a number strictly between"),
        (lambda: expected_accuracy([[0.3, 0.2, 0.2]]), r"y_proba rows must sum to 1"),
        (lambda: expected_accuracy([0.3], sample_weight=[0]), r"at least one positive value, got only zeros\."),
    ],
)
def test_bad_input_gets_a_sentence(call, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        call()

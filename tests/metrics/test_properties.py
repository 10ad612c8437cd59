"""What every metric promises: row order never matters, a weight is a repeated row, bad input gets a sentence."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import (
    augrc,
    aurc,
    brier_decomposition,
    brier_score,
    e_aurc,
    expected_calibration_error,
    expected_calibration_error_upper,
    log_loss,
    reliability_curve,
    risk_coverage_curve,
    roc_auc,
)
from scored_rows import ROWS, columns

# No deadline: the machine that runs this may be busy with something else.
quick = settings(max_examples=25, deadline=None)


def ece(**kwargs):
    return lambda y, p, **more: expected_calibration_error(y, p, **kwargs, **more)


def curve_columns(y, p, **kwargs):
    """What weights repeat exactly: all but the counts of rows and the intervals."""
    curve = reliability_curve(y, p, **kwargs)
    return np.array([curve.lower_edge, curve.upper_edge, curve.mean_predicted, curve.mean_observed, curve.weight])


POINT_ESTIMATES = {
    "ece quantile": ece(n_bins=4),
    "ece uniform": ece(n_bins=5, strategy="uniform"),
    "ece l2": ece(n_bins=4, norm="l2"),
    "ece max": ece(n_bins=4, norm="max"),
    "brier": brier_score,
    "log_loss": log_loss,
    "decomposition": brier_decomposition,
    "curve": curve_columns,
}
SAMPLING_ERRORS = {
    "ece l1 debiased": ece(n_bins=4, debias=True),
    "ece l2 debiased": ece(n_bins=4, norm="l2", debias=True),
    "ece upper": expected_calibration_error_upper,
}
WEIGHTED = POINT_ESTIMATES | SAMPLING_ERRORS
SELECTIVE = {"aurc": aurc, "e_aurc": e_aurc, "augrc": augrc}


def of(table):
    return pytest.mark.parametrize("metric", table.values(), ids=table.keys())


# Few distinct values: ties and bin edges in nearly every example.


def same(value):
    # Near zero a root turns a rounding error of 1e-16 into one of 1e-8.
    return pytest.approx(value, rel=1e-9, abs=3e-8)


@of(WEIGHTED)
@quick
@given(rows=ROWS, random=st.randoms(use_true_random=False))
def test_row_order_never_matters(metric, rows, random):
    y, p, w = columns(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    y2, p2, w2 = columns(shuffled)
    np.testing.assert_allclose(metric(y2, p2), metric(y, p), rtol=1e-9, atol=3e-8)
    np.testing.assert_allclose(metric(y2, p2, sample_weight=w2), metric(y, p, sample_weight=w), rtol=1e-9, atol=3e-8)


@of(SELECTIVE)
@quick
@given(rows=ROWS, random=st.randoms(use_true_random=False))
def test_row_order_never_matters_for_selective(metric, rows, random):
    y, p, _ = columns(rows)
    order = list(range(y.size))
    random.shuffle(order)
    assert metric(p[order], y[order]) == same(metric(p, y))


@of(POINT_ESTIMATES)
@quick
@given(rows=ROWS)
def test_weights_are_repeated_rows(metric, rows):
    y, p, w = columns(rows)
    repeated = metric(np.repeat(y, w), np.repeat(p, w))
    np.testing.assert_allclose(metric(y, p, sample_weight=w), repeated, rtol=1e-9, atol=3e-8)


@quick
@given(rows=ROWS)
def test_weights_are_repeated_rows_for_roc_auc(rows):
    y, p, w = columns([*rows, (0, 0.4, 1), (1, 0.6, 2)])
    assert roc_auc(y, p, sample_weight=w) == same(roc_auc(np.repeat(y, w), np.repeat(p, w)))


@of(SAMPLING_ERRORS | {"brier": brier_score, "decomposition": brier_decomposition})
@quick
@given(rows=ROWS, scale=st.sampled_from([1e-200, 0.1, 1 / 3, 7.0, 1e200]))
def test_equal_weights_of_any_scale_change_nothing(metric, rows, scale):
    y, p, _ = columns(rows)
    weighted = metric(y, p, sample_weight=np.full(y.size, scale))
    np.testing.assert_allclose(weighted, metric(y, p), rtol=1e-9, atol=3e-8)


@of(WEIGHTED)
@quick
@given(rows=st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.floats(0, 1e300)), min_size=1, max_size=20))
def test_any_weights_give_finite_numbers(metric, rows):
    y, p, w = columns([*rows, (1, 0.5, 1.0)])
    assert np.all(np.isfinite(metric(y, p, sample_weight=w)))


def naive_uniform(y, p, w, n_bins):
    total = 0.0
    for k in range(n_bins):
        inside = (p >= k / n_bins) & ((p < (k + 1) / n_bins) | (k == n_bins - 1))
        total += abs(np.sum(w[inside] * (p[inside] - y[inside])))
    return total / w.sum()


def naive_quantile(y, p, w, n_bins):
    """In exact fractions: a tie group goes to the bin that holds its middle."""
    gaps, before, whole = {}, Fraction(0), Fraction(int(w.sum()))
    for value in np.unique(p[w > 0]):
        inside = p == value
        weight = Fraction(int(w[inside].sum()))
        k = min(int((before + weight / 2) * n_bins / whole), n_bins - 1)
        gaps[k] = gaps.get(k, 0.0) + float(np.sum(w[inside] * (p[inside] - y[inside])))
        before += weight
    return sum(abs(gap) for gap in gaps.values()) / float(whole)


@pytest.mark.parametrize(("strategy", "naive"), [("uniform", naive_uniform), ("quantile", naive_quantile)])
@quick
@given(rows=ROWS, n_bins=st.integers(1, 12))
def test_ece_is_the_naive_one(strategy, naive, rows, n_bins):
    y, p, w = columns(rows)
    value = expected_calibration_error(y, p, n_bins=n_bins, strategy=strategy, sample_weight=w)
    assert value == same(naive(y, p, w, n_bins))


def naive_aurc(confidence, correct):
    """The mean over k of the expected error rate of the k surest, ties drawn at random."""
    risks = []
    for k in range(1, len(confidence) + 1):
        bar = np.sort(confidence)[-k]
        above, tied = confidence > bar, confidence == bar
        wrong = np.sum(1 - correct[above]) + (k - above.sum()) * np.mean(1 - correct[tied])
        risks.append(wrong / k)
    return np.mean(risks)


@quick
@given(rows=ROWS)
def test_aurc_is_the_naive_one(rows):
    correct, confidence, _ = columns(rows)
    assert aurc(confidence, correct) == same(naive_aurc(confidence, correct))
    assert e_aurc(confidence, correct) == same(naive_aurc(confidence, correct) - naive_aurc(correct, correct))


@quick
@given(rows=ROWS, shift=st.sampled_from([-3.0, 0.0, 2.0]))
def test_selective_metrics_read_only_the_order_of_confidence(rows, shift):
    correct, confidence, _ = columns(rows)
    coarse = confidence.round(3)
    for metric in SELECTIVE.values():
        assert metric(8 * coarse + shift, correct) == same(metric(coarse, correct))


@quick
@given(rows=ROWS)
def test_augrc_is_the_trapezoid_of_the_curve(rows):
    correct, confidence, _ = columns(rows)
    curve = risk_coverage_curve(confidence, correct)
    x, failures = np.append(0, curve.coverage), np.append(0, curve.coverage * curve.risk)
    assert augrc(confidence, correct) == same(np.sum(np.diff(x) * (failures[1:] + failures[:-1]) / 2))


@quick
@given(rows=ROWS)
def test_scores_agree_with_scikit_learn(rows):
    y, p, w = columns([*rows, (0, 0.4, 1), (1, 0.6, 2)])
    assert brier_score(y, p, sample_weight=w) == same(sk.brier_score_loss(y, p, sample_weight=w))
    assert log_loss(y, p, sample_weight=w) == same(sk.log_loss(y, p, sample_weight=w))
    assert roc_auc(y, p, sample_weight=w) == same(sk.roc_auc_score(y, p, sample_weight=w))


@quick
@given(rows=ROWS)
def test_decomposition_adds_up(rows):
    y, p, w = columns(rows)
    parts = brier_decomposition(y, p, sample_weight=w)
    assert min(parts) >= 0
    rebuilt = parts.miscalibration - parts.discrimination + parts.uncertainty
    assert rebuilt == pytest.approx(brier_score(y, p, sample_weight=w), abs=1e-14)


@quick
@given(rows=ROWS)
def test_binned_error_never_exceeds_the_sum_of_all_gaps(rows):
    """Jensen's inequality: merging rows into bins can only lower the error; so can it the norm of lower order."""
    y, p, w = columns(rows)
    l1, l2, worst = (expected_calibration_error(y, p, norm=norm, sample_weight=w) for norm in ("l1", "l2", "max"))
    assert l1 <= l2 + 1e-9
    assert l2 <= worst + 1e-9
    assert l1 <= np.average(np.abs(p - y), weights=w) + 1e-9
    assert l1 <= expected_calibration_error_upper(y, p, sample_weight=w)


BAD = {
    "NaN": ([0, 1], [0.5, np.nan], r"y_proba must be finite, got 1 NaN or infinite of 2 values\."),
    "high": ([0, 1], [0.5, 1.7], r"y_proba must lie in \[0, 1\], got a maximum of 1\.7\."),
    "low": ([0, 1], [0.5, -0.1], r"y_proba must lie in \[0, 1\], got a minimum of -0\.1\."),
    "empty": ([], [], r"y_true must hold at least one value, got none\."),
    "lengths": ([0, 1, 1], [0.5, 0.6], r"same length: y_true has 3, y_proba has 2\."),
    "labels": ([0, 2], [0.5, 0.6], r"y_true must hold only 0 and 1, got 2\."),
    "matrix": ([0, 1], [[0.5], [0.6]], r"y_proba must be one-dimensional, got shape \(2, 1\)\."),
    "text": (["no", "yes"], [0.5, 0.6], r"y_true must be numbers"),
}


@of(WEIGHTED | {"roc_auc": roc_auc})
@pytest.mark.parametrize(("y", "p", "sentence"), BAD.values(), ids=BAD.keys())
def test_bad_arrays_get_a_sentence(metric, y, p, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        metric(y, p)


@of(WEIGHTED | {"roc_auc": roc_auc})
@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1.0], r"sample_weight must have one value a row, got 1 values for 2 rows\."),
        ([1.0, -1.0], r"sample_weight must not be negative, got a minimum of -1\."),
        ([0.0, 0.0], r"sample_weight must hold at least one positive value, got only zeros\."),
    ],
)
def test_bad_weights_get_a_sentence(metric, weights, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        metric([0, 1], [0.4, 0.6], sample_weight=weights)


@of(SELECTIVE | {"curve": risk_coverage_curve})
def test_bad_confidences_get_a_sentence(metric):
    with pytest.raises(InvalidInputError, match=r"confidence must be finite, got 1 NaN"):
        metric([0.5, np.nan], [0, 1])
    with pytest.raises(InvalidInputError, match=r"correct must hold only 0 and 1, got 0\.5\."):
        metric([0.5, 0.6], [0, 0.5])
    with pytest.raises(InvalidInputError, match=r"confidence has 1, correct has 2\."):
        metric([0.5], [0, 1])
    with pytest.raises(InvalidInputError, match=r"confidence must hold at least one value, got none\."):
        metric([], [])

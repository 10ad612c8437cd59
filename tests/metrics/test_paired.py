"""Two models on the same rows: by hand, against the metrics themselves, scipy's paired tests and resampled rows."""

import json
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit
from sklearn.metrics import accuracy_score, brier_score_loss
from sklearn.metrics import log_loss as sk_log_loss

from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.metrics import (
    Interval,
    PairedDifference,
    brier_score,
    compare_models,
    expected_calibration_error,
    log_loss,
    multiclass_brier_score,
    multiclass_log_loss,
    multiclass_roc_auc,
    multiclass_roc_auc_variance,
    roc_auc,
    top_label_calibration_error,
)

quick = settings(max_examples=40, deadline=None)
METRICS = ("brier", "log_loss", "accuracy", "roc_auc", "ece")
ALL = pytest.mark.parametrize("metric", METRICS)


def near(value):
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def sample(n=400, seed=0):
    """Outcomes, calibrated probabilities, and the same with noise; weights."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-0.1, 1.35, n)
    y = (rng.random(n) < expit(z)).astype(int)
    return y, expit(z), expit(1.5 * z + rng.normal(0, 0.4, n)), rng.uniform(0.2, 3, n)


def sample_of_three(n=400):
    rng = np.random.default_rng(1)
    a = rng.dirichlet([1.0, 1.0, 2.0], n)
    y = (rng.random((n, 1)) > a.cumsum(axis=1)).sum(axis=1)
    b = a * rng.uniform(0.5, 2, (n, 3))
    return y, a, b / b.sum(axis=1, keepdims=True), rng.uniform(0.2, 3, n)


def test_by_hand():
    """Brier differences -.03, .05, 0, .09: mean .0275, s = .0531507, SE = s/2, z(.95) = 1.6448536."""
    y = np.array([1, 0, 1, 0])
    b = y + np.sqrt([0.0, 0.05, 0.0, 0.09]) * (1 - y)
    a = np.array([1 - math.sqrt(0.03), 0.0, 1.0, 0.0])
    found = compare_models(y, a, b, confidence=0.9, margin=0.03)
    assert (found.a, found.b) == near((0.0075, 0.035))
    assert found.difference == near(0.0275)
    assert found.standard_error == pytest.approx(0.0531507 / 2, rel=1e-6)
    reach = 1.6448536 * 0.0531507 / 2
    assert found.interval == pytest.approx((0.0275 - reach, 0.0275 + reach), abs=1e-7)
    assert found.p_value == near(2 * stats.norm.sf(0.0275 / found.standard_error))
    # The upper bound shrinks to .03 when 1.6448536 s / sqrt(n) = .0025: n = 1222.9.
    assert (found.n, found.rows_needed, found.verdict) == (4, 1223, "inconclusive")


VALUES = {
    "brier": brier_score,
    "log_loss": log_loss,
    "accuracy": lambda y, p, sample_weight: accuracy_score(y, p > 0.5, sample_weight=sample_weight),
    "roc_auc": roc_auc,
    "ece": expected_calibration_error,
}
VALUES_OF_THREE = {
    "brier": multiclass_brier_score,
    "log_loss": multiclass_log_loss,
    "accuracy": lambda y, p, sample_weight: accuracy_score(y, p.argmax(axis=1), sample_weight=sample_weight),
    "roc_auc": multiclass_roc_auc,
    "ece": top_label_calibration_error,
}


@ALL
@pytest.mark.parametrize(
    ("draw", "values"), [(sample, VALUES), (sample_of_three, VALUES_OF_THREE)], ids=["two", "three"]
)
def test_both_sides_are_the_metric(metric, draw, values):
    y, a, b, w = draw()
    for weight in (None, w):
        found = compare_models(y, a, b, metric=metric, sample_weight=weight)
        assert found.a == near(values[metric](y, a, sample_weight=weight))
        assert found.b == near(values[metric](y, b, sample_weight=weight))
        assert found.difference == found.b - found.a
        assert found.interval == near(found.difference + np.array([-1, 1]) * 1.959963984540054 * found.standard_error)


def test_bins_can_be_chosen():
    y, a, b, w = sample()
    found = compare_models(y, a, b, metric="ece", n_bins=7, strategy="uniform", sample_weight=w)
    assert found.b == near(expected_calibration_error(y, b, n_bins=7, strategy="uniform", sample_weight=w))


@pytest.mark.parametrize(
    ("metric", "loss"),
    [
        ("brier", lambda y, p: (y - p) ** 2),
        ("log_loss", lambda y, p: -np.log(np.where(y == 1, p, 1 - p))),
        ("accuracy", lambda y, p: 1.0 * ((p > 0.5) == y)),
    ],
)
def test_means_have_the_standard_error_of_a_paired_t_test(metric, loss):
    y, a, b, _ = sample()
    t = stats.ttest_rel(loss(y, b), loss(y, a))
    found = compare_models(y, a, b, metric=metric)
    assert found.difference / found.standard_error == near(t.statistic)


@quick
@given(seed=st.integers(0, 2**32 - 1), k=st.sampled_from([1, 3]))
def test_row_scores_average_to_scikit_learns(seed, k):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(max(k, 2)), rng.integers(0, max(k, 2), 30)])
    p = rng.random(y.size) if k == 1 else rng.dirichlet(np.ones(k), y.size)
    zero = y * 1.0 if k == 1 else np.eye(k)[y]
    brier = brier_score_loss(y, p) if k == 1 else np.mean(np.sum((p - np.eye(k)[y]) ** 2, axis=1))
    assert compare_models(y, zero, p).difference == pytest.approx(brier)
    assert compare_models(y, zero, p, metric="log_loss").difference == pytest.approx(sk_log_loss(y, p), rel=1e-9)


@ALL
@pytest.mark.parametrize("draw", [sample, sample_of_three], ids=["two", "three"])
def test_standard_errors_are_what_resampling_rows_shows(metric, draw):
    """The difference must not be too small for its noise: the resampled calibration error is biased near zero."""
    y, a, b, w = draw(600)
    rng = np.random.default_rng(2)
    sampled = []
    for i in rng.integers(0, y.size, (400, y.size)):
        again = compare_models(y[i], a[i], b[i], metric=metric, sample_weight=w[i])
        sampled.append(again.difference)
    found = compare_models(y, a, b, metric=metric, sample_weight=w)
    assert found.standard_error == pytest.approx(np.std(sampled), rel=0.15)


@ALL
@pytest.mark.parametrize("draw", [sample, sample_of_three], ids=["two", "three"])
def test_turning_the_sides_round_and_the_rows_changes_the_sign_only(metric, draw):
    y, a, b, w = draw()
    order = np.random.default_rng(0).permutation(y.size)
    one = compare_models(y, a, b, metric=metric, sample_weight=w)
    other = compare_models(y[order], b[order], a[order], metric=metric, sample_weight=w[order])
    assert other.difference == near(-one.difference)
    tolerance = 0.08 if metric == "ece" else 1e-9  # drawn
    assert other.standard_error == pytest.approx(one.standard_error, rel=tolerance)


@ALL
def test_a_model_is_no_worse_than_itself(metric):
    y, a, _, w = sample()
    found = compare_models(y, a, a, metric=metric, sample_weight=w)
    assert (found.difference, found.standard_error, found.p_value) == (0.0, 0.0, 1.0)
    assert found.verdict == "non_inferior"
    assert found.rows_needed is None


@ALL
def test_equal_weights_change_nothing_and_zero_weights_take_rows_out(metric):
    y, a, b, _ = sample()
    plain = compare_models(y, a, b, metric=metric)
    heavy = compare_models(y, a, b, metric=metric, sample_weight=np.full(y.size, 3e200))
    assert (heavy.difference, heavy.standard_error) == near((plain.difference, plain.standard_error))
    first = np.arange(y.size) < 200
    part = compare_models(y[first], a[first], b[first], metric=metric)
    zeros = compare_models(y, a, b, metric=metric, sample_weight=first * 1.0)
    assert (zeros.difference, zeros.standard_error, zeros.n) == (near(part.difference), near(part.standard_error), 200)


@ALL
@quick
@given(weights=st.lists(st.floats(0, 1e300), min_size=12, max_size=12))
def test_any_weights_give_finite_numbers_or_a_sentence(metric, weights):
    y, a, b, _ = sample(12)
    try:
        found = compare_models(y, a, b, metric=metric, sample_weight=weights)
    except InvalidInputError:
        return
    assert np.isfinite([found.difference, found.standard_error, *found.interval, found.p_value]).all()


def test_the_noise_that_both_share_cancels():
    y, a, b, _ = sample()
    apart = np.hypot(*(np.std((y - p) ** 2) / math.sqrt(y.size) for p in (a, b)))
    assert compare_models(y, a, b).standard_error < apart / 2


def test_two_columns_are_binary():
    y, a, b, _ = sample()
    stacked = compare_models(y, np.column_stack([1 - a, a]), np.column_stack([1 - b, b]))
    assert stacked.difference == near(compare_models(y, a, b).difference)


def test_draws_repeat():
    y, a, b, _ = sample()
    errors = [compare_models(y, a, b, metric="ece", random_state=seed).standard_error for seed in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]


def difference(low, high, *, metric="brier", margin=0.0):
    middle = (low + high) / 2
    return PairedDifference(
        metric=metric,
        a=0.5,
        b=0.5 + middle,
        difference=middle,
        standard_error=(high - low) / 3.92,
        interval=Interval(low, high),
        p_value=0.5,
        n=100,
        confidence=0.95,
        margin=margin,
    )


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (-0.02, -0.01, 0.0, "better"),
        (-0.02, 0.01, 0.02, "non_inferior"),
        (0.005, 0.01, 0.02, "non_inferior"),
        (-0.02, 0.03, 0.02, "inconclusive"),
        (0.01, 0.03, 0.02, "inconclusive"),
        (0.025, 0.03, 0.02, "worse"),
        (-0.02, -0.01, -0.015, "inconclusive"),  # it must be better by .015
        (-0.03, -0.02, -0.015, "better"),
    ],
)
def test_verdicts(low, high, margin, verdict):
    assert difference(low, high, margin=margin).verdict == verdict
    # Where more is better, the same intervals turned round say the same.
    assert difference(-high, -low, metric="roc_auc", margin=margin).verdict == verdict


def test_rows_needed():
    assert difference(-0.01, 0.03, margin=0.02).rows_needed == 400  # half the reach is wanted: four times the rows
    assert difference(-0.03, 0.01, metric="accuracy", margin=0.02).rows_needed == 400
    assert difference(-0.25, 0.75, margin=0.25).rows_needed is None


def test_confidence_moves_the_ends():
    y, a, b, _ = sample()
    found = compare_models(y, a, b, confidence=0.98)
    assert found.interval.high - found.difference == near(NormalDist().inv_cdf(0.99) * found.standard_error)


def test_macro_auc_of_one_model_alone_has_its_own_variance():
    """Against a model that ranks nothing, only the one model's error is left."""
    y, a, _, w = sample_of_three()
    found = compare_models(y, np.full_like(a, 1 / 3), a, metric="roc_auc", sample_weight=w)
    assert found.standard_error**2 == near(multiclass_roc_auc_variance(y, a, sample_weight=w))


def test_it_is_json():
    y, a, b, _ = sample(4000)
    state = compare_models(y, a, b, metric="roc_auc").to_dict()
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert state["verdict"] == "worse"
    assert state["interval"][0] < state["difference"] < state["interval"][1]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "sentence"),
    [
        (([1], [0.5], [0.4]), {}, InvalidInputError, r"must have at least two rows with a weight, got 1\."),
        (
            ([0, 1], [0.5, 0.4], [0.4, 0.5]),
            {"sample_weight": [1, 1e-200]},
            InvalidInputError,
            r"at least two rows with a weight, got 1\.",
        ),
        (([0, 1], [0.5, 0.4], [0.4]), {}, InvalidInputError, r"shape of y_proba_a, got \(1,\) for \(2,\)\."),
        (([0, 1, 1], [0.5, 0.4], [0.4, 0.5]), {}, InvalidInputError, r"same length: y_true has 3, y_proba has 2\."),
        (
            ([0, 1], [0.5, 0.4], [0.4, 2]),
            {},
            InvalidInputError,
            r"y_proba_b must lie in \[0, 1\], got a maximum of 2\.",
        ),
        (([0, 1], [0.5, 0.4], [0.4, 0.5]), {"metric": "roc"}, InvalidInputError, "Did you mean 'roc_auc'"),
        (([0, 1], [0.5, 0.4], [0.4, 0.5]), {"margin": math.nan}, InvalidInputError, "margin must be a finite number"),
        (([0, 1], [0.5, 0.4], [0.4, 0.5]), {"confidence": 1.0}, InvalidInputError, "strictly between 0 and 1"),
        (([1, 1], [0.5, 0.4], [0.4, 0.5]), {"metric": "roc_auc"}, OneClassError, "got only class 1 in 2 rows"),
        (([0, 1], [0.5, 0.4], [0.4, 0.5]), {"metric": "roc_auc"}, InvalidInputError, "two rows of each class"),
        (([0, 1], [0.5, 0.4], [0.4, 0.5]), {"metric": "ece", "n_bins": 0}, InvalidInputError, "n_bins must be a whole"),
    ],
)
def test_bad_input_gets_a_sentence(arguments, options, error, sentence):
    with pytest.raises(error, match=sentence):
        compare_models(*arguments, **options)

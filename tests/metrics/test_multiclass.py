"""More than two classes: against the binary metrics and against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.metrics import (
    brier_decomposition,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    log_loss,
    multiclass_brier_decomposition,
    multiclass_brier_score,
    multiclass_log_loss,
    multiclass_roc_auc,
    roc_auc,
    top_label_calibration_error,
)


@pytest.fixture(scope="module")
def three():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1.0, 1.0, 2.0], 400)
    y = (rng.random((400, 1)) > proba.cumsum(axis=1)).sum(axis=1)
    return y, proba, rng.integers(0, 4, 400)


ALL = {
    "top label": top_label_calibration_error,
    "classwise": classwise_calibration_error,
    "brier": multiclass_brier_score,
    "log loss": multiclass_log_loss,
    "roc auc": multiclass_roc_auc,
    "decomposition": multiclass_brier_decomposition,
}
each = pytest.mark.parametrize("metric", ALL.values(), ids=ALL.keys())


@each
def test_row_order_never_matters(metric, three):
    y, proba, w = three
    order = np.random.default_rng(1).permutation(y.size)
    shuffled = metric(y[order], proba[order], sample_weight=w[order])
    np.testing.assert_allclose(shuffled, metric(y, proba, sample_weight=w), rtol=1e-12)


@each
def test_weights_are_repeated_rows(metric, three):
    y, proba, w = three
    repeated = metric(np.repeat(y, w), np.repeat(proba, w, axis=0))
    np.testing.assert_allclose(metric(y, proba, sample_weight=w), repeated, rtol=1e-12)


def test_scores_agree_with_scikit_learn(three):
    y, proba, w = three
    ours = multiclass_log_loss(y, proba, sample_weight=w)
    assert ours == pytest.approx(sk.log_loss(y, proba, sample_weight=w), rel=1e-12)
    ours = multiclass_roc_auc(y, proba, sample_weight=w)
    assert ours == pytest.approx(sk.roc_auc_score(y, proba, multi_class="ovr", sample_weight=w), rel=1e-12)
    assert multiclass_brier_score(y, proba) == pytest.approx(
        sum(sk.brier_score_loss(y == k, proba[:, k]) for k in range(3)), rel=1e-12
    )


def test_two_classes_are_the_binary_case():
    rng = np.random.default_rng(2)
    p = rng.random(300)
    y = (rng.random(300) < p).astype(int)
    proba = np.column_stack([1 - p, p])
    assert multiclass_brier_score(y, proba) == pytest.approx(2 * brier_score(y, p))
    assert multiclass_log_loss(y, proba) == pytest.approx(log_loss(y, p))
    assert multiclass_roc_auc(y, proba) == pytest.approx(roc_auc(y, p))
    assert multiclass_brier_decomposition(y, proba) == pytest.approx(2 * np.array(brier_decomposition(y, p)))
    assert classwise_calibration_error(y, proba)[1] == pytest.approx(expected_calibration_error(y, p))


def test_top_label_reads_confidence_and_correctness(three):
    y, proba, w = three
    options = {"n_bins": 7, "strategy": "uniform", "norm": "l2", "sample_weight": w}
    expected = expected_calibration_error(y == proba.argmax(axis=1), proba.max(axis=1), **options)
    assert top_label_calibration_error(y, proba, **options) == expected


def test_decomposition_adds_up(three):
    y, proba, w = three
    parts = multiclass_brier_decomposition(y, proba, sample_weight=w)
    rebuilt = parts.miscalibration - parts.discrimination + parts.uncertainty
    assert rebuilt == pytest.approx(multiclass_brier_score(y, proba, sample_weight=w), rel=1e-13)


def test_a_class_that_is_never_seen():
    y, proba = [0, 1, 0], [[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.2, 0.2]]
    assert classwise_calibration_error(y, proba, n_bins=1) == pytest.approx([1 / 6, 1 / 30, 2 / 15])
    with pytest.raises(OneClassError, match="roc_auc needs both classes, got only class 0"):
        multiclass_roc_auc(y, proba)


@each
@pytest.mark.parametrize(
    ("y", "proba", "sentence"),
    [
        ([0, 1], [0.4, 0.6], r"y_proba must have shape \(n, K\) with K >= 2, got shape \(2,\)\."),
        ([0], [[0.4, 0.4]], r"y_proba rows must sum to 1, got a row that is off by 0\.2\."),
        ([0], [[1.2, -0.2]], r"y_proba must lie in \[0, 1\], got a minimum of -0\.2\."),
        ([2], [[0.4, 0.6]], r"y_true must hold class indices 0 to 1, got values from 2 to 2\."),
        ([0, 1], [[0.4, 0.6]], r"same length: y_true has 2, y_proba has 1\."),
        ([0], [[np.nan, 0.6]], r"y_proba must be finite"),
    ],
)
def test_bad_input_gets_a_sentence(metric, y, proba, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        metric(y, proba)


def test_a_row_off_by_rounding_keeps_its_edges():
    """The first row sums to a little over 1; divided by that, its .3 would fall below the edge of its bin."""
    proba = np.array([[0.0, 0.05, 0.55, 0.3, 0.1], [0.25, 0.25, 0.25, 0.25, 0.0]])
    assert proba.sum(axis=1)[0] > 1
    errors = classwise_calibration_error([3, 0], proba, strategy="uniform")
    assert errors[3] == pytest.approx((0.7 + 0.25) / 2)

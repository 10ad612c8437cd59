"""More than two classes."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from mlflow_caliber.calibrators import (
    CALIBRATORS,
    MulticlassCalibrator,
    TemperatureCalibrator,
    calibrator_from_dict,
    make_calibrator,
)
from mlflow_caliber.exceptions import InvalidInputError, OneClassError


@pytest.fixture(scope="module")
def overconfident():
    """Probabilities of four classes from logits twice as large as they should be."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.2, (1500, 4))
    y = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((1500, 1))).sum(axis=1)
    return softmax(2 * logits, axis=1), y


@pytest.fixture(params=CALIBRATORS)
def calibrator(request):
    return MulticlassCalibrator(request.param)


def log_loss(proba, y):
    return -np.mean(np.log(np.clip(proba[np.arange(y.size), y], 1e-6, 1)))


def test_rows_stay_on_the_simplex_and_get_better(calibrator, overconfident):
    proba, y = overconfident
    p = calibrator.fit(proba[:1000], y[:1000]).predict(proba[1000:])
    assert p.shape == (500, 4)
    assert p.min() >= 0
    assert_allclose(p.sum(axis=1), 1, atol=1e-12)
    before, after = log_loss(proba[1000:], y[1000:]), log_loss(p, y[1000:])
    if calibrator.method == "identity":
        assert_allclose(p, proba[1000:], atol=1e-15)
    elif calibrator.method not in ("isotonic", "centered_isotonic"):  # these may answer 0, which log loss punishes
        assert after < before - 0.1


def test_temperature_is_found(overconfident):
    proba, y = overconfident
    fitted = MulticlassCalibrator("temperature").fit(proba, y)
    logits = np.log(np.clip(proba, 1e-6, 1))
    theirs = minimize_scalar(lambda t: -log_softmax(logits / t, axis=1)[np.arange(y.size), y].mean(), bounds=(0.1, 10))
    assert fitted.temperature_ == pytest.approx(theirs.x, abs=1e-4)
    assert fitted.temperature_ == pytest.approx(2, abs=0.15)


def test_two_classes_have_the_binary_temperature(thousand):
    p, y = thousand
    proba = np.column_stack([1 - p, p])
    two, one = MulticlassCalibrator("temperature").fit(proba, y), TemperatureCalibrator().fit(p, y)
    assert two.temperature_ == pytest.approx(one.temperature_, rel=1e-10)
    assert_allclose(two.predict(proba)[:, 1], one.predict(p), atol=1e-12)


def test_one_class_against_the_rest(overconfident):
    proba, y = overconfident
    columns = np.column_stack([make_calibrator("beta").fit(proba[:, k], y == k).predict(proba[:, k]) for k in range(4)])
    expected = columns / columns.sum(axis=1, keepdims=True)
    assert_allclose(MulticlassCalibrator("beta").fit(proba, y).predict(proba), expected, atol=1e-14)


def test_weights_are_repeated_rows(calibrator, overconfident):
    proba, y = overconfident[0][:80], overconfident[1][:80]
    weight = np.random.default_rng(1).integers(0, 4, 80)
    weighted = clone(calibrator).fit(proba, y, weight)
    repeated = calibrator.fit(np.repeat(proba, weight, axis=0), np.repeat(y, weight))
    assert weighted.n_samples_ == (weight > 0).sum()
    assert_allclose(weighted.predict(proba), repeated.predict(proba), atol=1e-7)


def test_a_class_never_seen_keeps_its_column(overconfident):
    proba, y = overconfident
    seen = y != 3
    fitted = MulticlassCalibrator("sigmoid").fit(proba[seen], y[seen])
    assert fitted.columns_[3] is None
    p = fitted.predict(proba)
    columns = np.column_stack([fitted.columns_[k].predict(proba[:, k]) for k in range(3)])
    assert_allclose(p[:, 3], proba[:, 3] / (columns.sum(axis=1) + proba[:, 3]), atol=1e-12)


def test_a_row_that_every_map_sends_to_zero_stays_raw():
    proba = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])
    fitted = MulticlassCalibrator("isotonic").fit(np.repeat(proba, 2, axis=0), np.repeat([0, 1, 2], 2))
    lost = np.array([[0.2, 0.2, 0.2]]) / 0.6
    fitted.columns_ = [make_calibrator("isotonic").fit([0.4, 0.5], [0, 1])] * 3
    assert_allclose(fitted.predict(lost), lost)


def test_saved_form_keeps_every_bit(calibrator, overconfident):
    proba, y = overconfident
    text = json.dumps(calibrator.fit(proba[y != 2], y[y != 2]).to_dict(), allow_nan=False)
    assert json.loads(text)["name"] == "multiclass"
    restored = calibrator_from_dict(json.loads(text))
    assert isinstance(restored, MulticlassCalibrator)
    assert_array_equal(restored.predict(proba), calibrator.predict(proba))
    assert json.dumps(restored.to_dict()) == text


@pytest.mark.parametrize(
    ("proba", "y", "error", "sentence"),
    [
        ([[0.5, 0.5], [0.4, 0.6]], [1, 1], OneClassError, "needs two classes, got only class 1 in 2 rows"),
        ([[0.5, 0.5], [0.4, 0.6]], [0, 2], InvalidInputError, "y_index must hold class indices 0 to 1"),
        ([[0.5, 0.5], [0.4, 0.6]], [0], InvalidInputError, "same length: proba has 2, y_index has 1"),
        ([[0.5, 0.2], [0.4, 0.6]], [0, 1], InvalidInputError, "proba rows must sum to 1"),
        ([0.5, 0.5], [0, 1], InvalidInputError, r"proba must have shape \(n, K\)"),
        ([[np.nan, 0.5], [0.4, 0.6]], [0, 1], InvalidInputError, "proba must be finite"),
    ],
)
def test_refuses_to_fit(calibrator, proba, y, error, sentence):
    with pytest.raises(error, match=sentence):
        calibrator.fit(proba, y)


def test_refuses_another_number_of_columns(calibrator, overconfident):
    calibrator.fit(*overconfident)
    with pytest.raises(InvalidInputError, match="proba must have 4 columns, got 2"):
        calibrator.predict([[0.5, 0.5]])


def test_refuses_an_unknown_method():
    with pytest.raises(InvalidInputError, match=r"method must be one of auto, .*Did you mean 'sigmoid'"):
        MulticlassCalibrator("sigmod").fit([[0.5, 0.5], [0.4, 0.6]], [0, 1])


def test_must_be_fitted_first(calibrator):
    with pytest.raises(NotFittedError, match="must be fitted first"):
        calibrator.predict([[0.5, 0.5]])

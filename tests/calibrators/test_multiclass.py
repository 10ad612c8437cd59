"""More than two classes."""

import json

import numpy as np
import pandas as pd
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


@pytest.fixture(params=[*CALIBRATORS, "vector"])
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
    fitted.columns_[:] = [make_calibrator("isotonic").fit([0.4, 0.5], [0, 1])] * 3
    assert_allclose(fitted.predict(lost), lost)


def test_saved_form_keeps_every_bit(calibrator, overconfident):
    proba, y = overconfident
    text = json.dumps(calibrator.fit(proba[y != 2], y[y != 2]).to_dict(), allow_nan=False)
    assert json.loads(text)["name"] == "multiclass"
    restored = calibrator_from_dict(json.loads(text))
    assert isinstance(restored, MulticlassCalibrator)
    assert_array_equal(restored.predict(proba), calibrator.predict(proba))
    assert json.dumps(restored.to_dict()) == text


TWO = [[0.5, 0.5], [0.4, 0.6]]
THREE = np.array([[0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.3, 0.2, 0.5]])


@pytest.mark.parametrize(
    ("proba", "y", "weight"),
    [
        pytest.param([[0.9, 0.1], [0.1, 0.9]], [0, 1], None, id="two rows"),
        pytest.param([[0.9, 0.1], [0.1, 0.9]], [1, 0], None, id="two rows, both wrong"),
        pytest.param(np.eye(3), [0, 1, 2], None, id="0 and 1"),
        pytest.param(np.eye(3), [1, 2, 0], None, id="0 and 1, all wrong"),
        pytest.param([[0.2, 0.3, 0.5]] * 4, [0, 1, 2, 1], None, id="all tied"),
        pytest.param([[5e-324, 1e-310, 1.0], [1.0, 0.0, 5e-324]], [0, 1], None, id="subnormal"),
        pytest.param(THREE.astype(np.float32), np.array([0, 1, 2], dtype=np.uint8), None, id="narrow types"),
        pytest.param(TWO, np.array([False, True]), None, id="truths"),
        pytest.param(pd.DataFrame(THREE, dtype="Float64"), pd.Series([2, 1, 0], dtype="Int64"), None, id="nullable"),
        pytest.param(THREE, [0, 0, 1], None, id="a class never seen"),
        pytest.param(THREE, [0, 1, 2], [5e-324] * 3, id="the smallest weights there are"),
        pytest.param(THREE, [0, 1, 2], [1e-12] * 3, id="tiny weights"),
        pytest.param(THREE, [0, 1, 2], [1e12] * 3, id="huge weights"),
        pytest.param(THREE, [2, 0, 1], [1e100] * 3, id="the greatest weights"),
        pytest.param(THREE, [2, 0, 1], [1e15, 1.0, 1e-3], id="weights far apart"),
    ],
)
def test_degenerate_rows_give_probabilities(calibrator, proba, y, weight):
    n_classes = np.shape(proba)[1]
    p = calibrator.fit(proba, y, weight).predict(np.concatenate([np.asarray(proba, dtype=float), np.eye(n_classes)]))
    assert p.min() >= 0.0
    assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)


def test_rows_without_weight_count_for_nothing(calibrator, overconfident):
    proba, y = overconfident[0][:60], overconfident[1][:60]
    weight = np.r_[np.ones(60), 0.0]
    padded = clone(calibrator).fit(np.r_[proba, [[0.1, 0.2, 0.3, 0.4]]], np.r_[y, 0], weight)
    assert padded.n_samples_ == 60
    assert_allclose(padded.predict(proba), calibrator.fit(proba, y).predict(proba), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("proba", "y", "weight", "error", "sentence"),
    [
        (TWO, [1, 1], None, OneClassError, "The multiclass calibrator needs two classes, got only class 1 in 2 rows."),
        (TWO[:1], [0], None, OneClassError, "The multiclass calibrator needs two classes, got only class 0 in 1 rows."),
        (
            TWO,
            [0, 1],
            [1, 0],
            OneClassError,
            "The multiclass calibrator needs two classes, got only class 0 in 1 rows.",
        ),
        (TWO, [0, 2], None, InvalidInputError, "y_index must hold class indices 0 to 1, got values from 0 to 2."),
        (TWO, [-1, 0], None, InvalidInputError, "y_index must hold class indices 0 to 1, got values from -1 to 0."),
        (TWO, ["no", "yes"], None, InvalidInputError, "y_index must be numbers, got a list that does not convert."),
        (TWO, [[0], [1]], None, InvalidInputError, "y_index must be one-dimensional, got shape (2, 1)."),
        (TWO, [0, None], None, InvalidInputError, "y_index must be finite, got 1 NaN or infinite of 2 values."),
        (TWO, [0], None, InvalidInputError, "Arrays must have the same length: proba has 2, y_index has 1."),
        (
            [[0.5, 0.2], [0.4, 0.6]],
            [0, 1],
            None,
            InvalidInputError,
            "proba rows must sum to 1, got a row that is off by 0.3.",
        ),
        ([0.5, 0.5], [0, 1], None, InvalidInputError, "proba must have shape (n, K) with K >= 2, got shape (2,)."),
        ([], [], None, InvalidInputError, "proba must have shape (n, K) with K >= 2, got shape (0,)."),
        (np.empty((0, 3)), [], None, InvalidInputError, "proba must hold at least one value, got none."),
        ([["a", "b"]], [0], None, InvalidInputError, "proba must be numbers, got a list that does not convert."),
        (
            [[np.nan, 0.5], [0.4, 0.6]],
            [0, 1],
            None,
            InvalidInputError,
            "proba must be finite, got 1 NaN or infinite of 4 values.",
        ),
        (TWO, [0, 1], [1], InvalidInputError, "sample_weight must have one value a row, got 1 values for 2 rows."),
        (
            TWO,
            [0, 1],
            [0, 0],
            InvalidInputError,
            "sample_weight must hold at least one positive value, got only zeros.",
        ),
        (TWO, [0, 1], [1, -1], InvalidInputError, "sample_weight must not be negative, got a minimum of -1."),
        (TWO, [0, 1], [1, 1e308], InvalidInputError, "sample_weight must not exceed 1e+100, got a maximum of 1e+308."),
    ],
)
def test_refuses_to_fit(calibrator, proba, y, weight, error, sentence):
    with pytest.raises(error) as caught:
        calibrator.fit(proba, y, weight)
    assert type(caught.value) is error
    assert str(caught.value) == sentence
    assert not hasattr(calibrator, "n_samples_")


def test_refuses_another_number_of_columns(calibrator, overconfident):
    calibrator.fit(*overconfident)
    with pytest.raises(InvalidInputError, match="proba must have 4 columns, got 2"):
        calibrator.predict([[0.5, 0.5]])


def test_refuses_an_unknown_method():
    with pytest.raises(InvalidInputError, match=r"method must be one of auto, .*Did you mean 'sigmoid'"):
        MulticlassCalibrator("sigmod").fit([[0.5, 0.5], [0.4, 0.6]], [0, 1])


def test_vector_is_no_binary_calibrator():
    with pytest.raises(InvalidInputError, match=r"calibrator must be one of auto, .* got 'vector'"):
        make_calibrator("vector")


def test_must_be_fitted_first(calibrator):
    with pytest.raises(NotFittedError, match="must be fitted first"):
        calibrator.predict([[0.5, 0.5]])

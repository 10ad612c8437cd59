"""What every calibrator promises. A new class in CALIBRATORS is tested by being there.

``fit`` and ``predict`` give the segmented calibrator the one segment that all rows are of.
"""

import copy
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from mlflow_caliber.calibrators import CALIBRATORS, calibrator_from_dict, make_calibrator
from mlflow_caliber.exceptions import ConfigError, InvalidInputError, OneClassError

VARIANTS = [
    ("beta", {"prior_precision": (8, 8, 2)}),
    ("centered_isotonic", {"clip_ends": True}),
    ("centered_isotonic", {"clip_ends": True, "prior_rows": 60.0}),
    ("sigmoid", {"prior_precision": None}),
    ("sigmoid", {"prior_precision": 1.0, "clip": 1e-9}),
]
CASES = [(name, {}) for name in (*CALIBRATORS, "segmented")] + VARIANTS
GRID = np.concatenate([np.linspace(0.0, 1.0, 501), [1e-300, 1e-15, 1e-4, 1 - 1e-15]])
GRID.sort()


@pytest.fixture(params=CASES, ids=lambda case: case[0] + "".join(f"-{key}={value}" for key, value in case[1].items()))
def calibrator(request):
    name, params = request.param
    return make_calibrator(name, **params)


def segment_of(calibrator):
    return {"segment": "north"} if calibrator.uses_segment else {}


def fit(calibrator, scores, y, weight=None):
    return calibrator.fit(scores, y, weight, **segment_of(calibrator))


def predict(calibrator, scores):
    return calibrator.predict(scores, **segment_of(calibrator))


def simulated(n, seed=0, decimals=None):
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    y = (rng.random(n) < scores**1.5).astype(int)
    return (scores if decimals is None else scores.round(decimals)), y


# Both classes carry weight; scores come tied, at the ends and in between.
ROWS = (
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), st.integers(0, 2**20).map(lambda k: k / 2**20)),
            st.sampled_from([0, 1]),
            st.integers(0, 3),
        ),
        min_size=2,
        max_size=25,
    )
    .filter(lambda rows: {y for _, y, w in rows if w} == {0, 1})
    .map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))
)


def assert_is_a_map(calibrator):
    p = predict(calibrator, GRID)
    assert p.dtype == np.float64
    assert p.shape == GRID.shape
    assert p.min() >= 0.0
    assert p.max() <= 1.0
    assert np.diff(p).min() >= -1e-12


def test_fits_and_maps(calibrator):
    scores, y = simulated(300)
    assert fit(calibrator, scores, y) is calibrator
    assert calibrator.n_samples_ == 300
    assert_is_a_map(calibrator)


def test_never_harms_much_on_many_rows_and_mends_what_is_broken(calibrator):
    scores, y = simulated(20_000)
    test_scores, test_y = simulated(20_000, seed=1)
    before = np.mean((test_scores - test_y) ** 2)
    after = np.mean((predict(fit(calibrator, scores, y), test_scores) - test_y) ** 2)
    assert after <= before + 1e-4
    if calibrator.name not in ("identity", "temperature"):
        assert after < before - 0.005


@settings(max_examples=20, deadline=None)
@given(rows=ROWS)
@pytest.mark.parametrize(("name", "params"), CASES)
def test_any_rows_give_a_map(name, params, rows):
    assert_is_a_map(fit(make_calibrator(name, **params), *rows))


@settings(max_examples=20, deadline=None)
@given(rows=ROWS)
@pytest.mark.parametrize(("name", "params"), CASES)
def test_weights_are_repeated_rows(name, params, rows):
    scores, y, weight = rows
    weighted = fit(make_calibrator(name, **params), scores, y, weight)
    repeated = fit(make_calibrator(name, **params), np.repeat(scores, weight), np.repeat(y, weight))
    assert weighted.n_samples_ == (weight > 0).sum()
    assert_allclose(predict(weighted, GRID), predict(repeated, GRID), atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize(("name", "params"), CASES)
def test_row_order_does_not_matter(name, params, rows, seed):
    order = np.random.default_rng(seed).permutation(rows[0].size)
    one = fit(make_calibrator(name, **params), *rows)
    other = fit(make_calibrator(name, **params), *(column[order] for column in rows))
    assert_allclose(predict(one, GRID), predict(other, GRID), atol=1e-7)


def test_accepts_what_holds_numbers(calibrator):
    scores, y = simulated(60, decimals=2)
    expected = predict(fit(calibrator, scores, y), scores)
    strided = np.repeat(scores, 2)[::2]
    assert not strided.flags.c_contiguous
    for s, labels in [
        (scores.tolist(), y.tolist()),
        (tuple(scores), y == 1),
        (strided, y.astype(float)),
        (scores.astype(object), y.astype(object)),
        (scores.astype(np.longdouble), y.astype(np.uint8)),
        (np.ma.masked_array(scores), np.ma.masked_array(y)),
        (pd.Series(scores, index=range(60, 0, -1)), pd.Series(y == 1)),
        (pd.Series(scores, dtype="Float64"), pd.Series(y, dtype="Int64")),
        (pd.Series(scores).astype("category"), pd.Series(y == 1, dtype="boolean")),
    ]:
        assert_array_equal(predict(fit(clone(calibrator), s, labels), s), expected)


def test_float32_scores_are_scores(calibrator):
    scores, y = simulated(60)
    narrow = scores.astype(np.float32)
    p = predict(fit(calibrator, narrow, y), narrow)
    assert p.dtype == np.float64
    wide = narrow.astype(float)
    assert_array_equal(p, predict(fit(clone(calibrator), wide, y), wide))


def test_leaves_its_input_alone(calibrator):
    scores, y = simulated(40)
    weight = np.ones(40)
    for array in (scores, y, weight):
        array.flags.writeable = False
    p = predict(fit(calibrator, scores, y, weight), scores)
    assert not np.shares_memory(p, scores)


def test_one_row_gets_the_bits_of_the_batch(calibrator):
    scores, y = simulated(200)
    batch = predict(fit(calibrator, scores, y), scores)
    assert_array_equal([predict(calibrator, [s])[0] for s in scores], batch)


def test_second_fit_forgets_the_first(calibrator):
    first, second = simulated(80, seed=1), simulated(50, seed=2)
    refitted = fit(fit(calibrator, *first), *second)
    assert_array_equal(predict(refitted, GRID), predict(fit(clone(calibrator), *second), GRID))
    assert refitted.n_samples_ == 50


@pytest.mark.parametrize(
    ("scores", "y", "weight"),
    [
        pytest.param([0.4, 0.6], [0, 1], None, id="two rows"),
        pytest.param([0.6, 0.4], [0, 1], None, id="two rows against the order"),
        pytest.param([0.5] * 6, [0, 0, 1, 1, 1, 1], None, id="all tied"),
        pytest.param([0.0] * 3 + [1.0] * 3, [0, 0, 1, 0, 1, 1], None, id="only 0 and 1"),
        pytest.param([0.0, 0.0, 1.0, 1.0], [1, 1, 0, 0], None, id="0 and 1 the wrong way round"),
        pytest.param([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], None, id="separable"),
        pytest.param([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], None, id="anti-monotone"),
        pytest.param([0.5, 0.5 + 1e-16, 0.5 + 2e-16], [0, 1, 1], None, id="near ties"),
        pytest.param([1e-310, 2e-310, 0.5], [0, 1, 1], None, id="subnormal scores"),
        pytest.param([5e-324, 0.0, 5e-324, 0.0], [0, 1, 1, 0], None, id="nothing but subnormal scores"),
        pytest.param([0.0, 1.0], [1, 0], None, id="two rows, 0 and 1 the wrong way round"),
        pytest.param([0.3, 0.6, 0.7], [0, 1, 1], [1e-8, 1e-8, 1e-8], id="tiny weights"),
        pytest.param([0.3, 0.6, 0.7], [0, 1, 1], [1e-12, 1e-12, 1e-12], id="weights that the prior drowns"),
        pytest.param([0.3, 0.6, 0.7], [0, 1, 1], [5e-324, 5e-324, 5e-324], id="the smallest weights there are"),
        pytest.param([0.6, 0.3, 0.7], [0, 1, 1], [1e12, 1e12, 1e12], id="huge weights"),
        pytest.param([0.3, 0.3, 0.3], [0, 1, 1], [1e12, 1e12, 1e12], id="huge weights, all tied"),
        pytest.param([0.3, 0.6, 0.7], [0, 1, 1], [1e15, 1.0, 1e-3], id="weights far apart"),
    ],
)
def test_degenerate_rows_give_a_map(calibrator, scores, y, weight):
    fit(calibrator, scores, y, weight)
    assert_is_a_map(calibrator)
    assert predict(calibrator, [1e-310, 1.5e-310]).max() <= 1.0


def test_rows_without_weight_count_for_nothing(calibrator):
    scores, y = simulated(50)
    weight = np.r_[np.ones(50), 0.0, 0.0]
    padded = fit(clone(calibrator), np.r_[scores, 0.01, 0.99], np.r_[y, 1, 0], weight)
    assert padded.n_samples_ == 50
    assert_allclose(predict(padded, GRID), predict(fit(calibrator, scores, y), GRID), rtol=1e-12)


def test_rows_of_huge_weight_leave_nothing_to_learn(calibrator):
    scores, y = simulated(50)
    heavy, heavier = (predict(fit(clone(calibrator), scores, y, np.full(50, w)), GRID) for w in (1e12, 2e12))
    assert_allclose(heavier, heavy, atol=1e-5)


@pytest.mark.parametrize("name", [*CALIBRATORS, "segmented"])
def test_the_greatest_weights_give_a_map(name):
    assert_is_a_map(fit(make_calibrator(name), *simulated(50), np.full(50, 1e100)))


ONE_CLASS = "The {name} calibrator needs both classes, got only class {label} in {n} rows."


@pytest.mark.parametrize(
    ("scores", "y", "weight", "sentence"),
    [
        ([0.2, 0.3], [1, 1], None, ONE_CLASS.format(name="{name}", label=1, n=2)),
        ([0.4], [0], None, ONE_CLASS.format(name="{name}", label=0, n=1)),
        ([0.2, 0.3], [False, True], [1, 0], ONE_CLASS.format(name="{name}", label=0, n=1)),
    ],
)
def test_refuses_one_class(calibrator, scores, y, weight, sentence):
    with pytest.raises(OneClassError) as caught:
        fit(calibrator, scores, y, weight)
    assert str(caught.value) == sentence.format(name=calibrator.name)
    assert not hasattr(calibrator, "n_samples_")


MISSING = "{} must be finite, got 1 NaN or infinite of 2 values."


@pytest.mark.parametrize(
    ("scores", "y", "weight", "sentence"),
    [
        ([0.2, np.nan], [0, 1], None, MISSING.format("scores")),
        ([0.2, np.inf], [0, 1], None, MISSING.format("scores")),
        ([-np.inf, 0.2], [0, 1], None, MISSING.format("scores")),
        ([0.2, None], [0, 1], None, MISSING.format("scores")),
        (pd.Series([0.2, pd.NA], dtype="Float64"), [0, 1], None, MISSING.format("scores")),
        (np.ma.masked_array([0.2, 0.3], mask=[0, 1]), [0, 1], None, MISSING.format("scores")),
        ([0.2, 0.3], np.ma.masked_array([0, 1], mask=[0, 1]), None, MISSING.format("y")),
        ([0.2, 0.3], [0, 1], np.ma.masked_array([1.0, 1.0], mask=[0, 1]), MISSING.format("sample_weight")),
        (np.array([0.2, 0.3j]), [0, 1], None, "scores must be real numbers, got complex ones."),
        ([0.2, 0.3], np.array([0, 1 + 0j]), None, "y must be real numbers, got complex ones."),
        ([0.2, 0.3], [0, np.nan], None, MISSING.format("y")),
        ([0.2, 0.3], pd.Series([pd.NA, 1], dtype="Int64"), None, MISSING.format("y")),
        ([0.2, 0.3], pd.Series([pd.NA, True], dtype="boolean"), None, MISSING.format("y")),
        ([0.2, 0.3], [0, 1], [1, np.inf], MISSING.format("sample_weight")),
        ([0.2, 0.3], [0, 1], pd.Series([1, pd.NA], dtype="Float64"), MISSING.format("sample_weight")),
        ([0.2, 1.2], [0, 1], None, "scores must lie in [0, 1], got a maximum of 1.2."),
        ([-0.1, 0.2], [0, 1], None, "scores must lie in [0, 1], got a minimum of -0.1."),
        ([], [], None, "scores must hold at least one value, got none."),
        ([0.2, 0.3], [], None, "y must hold at least one value, got none."),
        ([[0.2], [0.3]], [0, 1], None, "scores must be one-dimensional, got shape (2, 1)."),
        (pd.DataFrame({"score": [0.2, 0.3]}), [0, 1], None, "scores must be one-dimensional, got shape (2, 1)."),
        (0.2, 0, None, "scores must be one-dimensional, got shape ()."),
        ([0.2, 0.3], [[0], [1]], None, "y must be one-dimensional, got shape (2, 1)."),
        ([0.2, 0.3], [0, 1], [[1], [1]], "sample_weight must be one-dimensional, got shape (2, 1)."),
        (["a", "b"], [0, 1], None, "scores must be numbers, got a list that does not convert."),
        ([object(), object()], [0, 1], None, "scores must be numbers, got a list that does not convert."),
        ([[0.2], [0.3, 0.4]], [0, 1], None, "scores must be numbers, got a list that does not convert."),
        ({0.2, 0.3}, [0, 1], None, "scores must be numbers, got a set that does not convert."),
        ([0.2, 0.3], ["no", "yes"], None, "y must be numbers, got a list that does not convert."),
        ([0.2, 0.3], pd.Categorical(["no", "yes"]), None, "y must be numbers, got values of type category."),
        ([0.2, 0.3], [0, 1], ["a", "b"], "sample_weight must be numbers, got a list that does not convert."),
        ([0.2, 0.3], [0, 1, 1], None, "Arrays must have the same length: scores has 2, y has 3."),
        ([0.2, 0.3], [0, 2], None, "y must hold only 0 and 1, got 2."),
        ([0.2, 0.3], [-1, 1], None, "y must hold only 0 and 1, got -1."),
        ([0.2, 0.3], [0, 1], [1], "sample_weight must have one value a row, got 1 values for 2 rows."),
        ([0.2, 0.3], [0, 1], [1, -1], "sample_weight must not be negative, got a minimum of -1."),
        ([0.2, 0.3], [0, 1], [0, 0], "sample_weight must hold at least one positive value, got only zeros."),
        ([0.2, 0.3], [0, 1], [1, 1e308], "sample_weight must not exceed 1e+100, got a maximum of 1e+308."),
    ],
)
def test_refuses_to_fit(calibrator, scores, y, weight, sentence):
    with pytest.raises(InvalidInputError) as caught:
        fit(calibrator, scores, y, weight)
    assert type(caught.value) is InvalidInputError
    assert str(caught.value) == sentence
    assert not hasattr(calibrator, "n_samples_")


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ([np.nan], "scores must be finite, got 1 NaN or infinite of 1 values."),
        ([0.1, np.inf], "scores must be finite, got 1 NaN or infinite of 2 values."),
        (pd.Series([0.2, pd.NA], dtype="Float64"), "scores must be finite, got 1 NaN or infinite of 2 values."),
        ([1.01], "scores must lie in [0, 1], got a maximum of 1.01."),
        ([], "scores must hold at least one value, got none."),
        (0.5, "scores must be one-dimensional, got shape ()."),
        ([[0.5]], "scores must be one-dimensional, got shape (1, 1)."),
        (["a"], "scores must be numbers, got a list that does not convert."),
    ],
)
def test_refuses_to_predict(calibrator, scores, sentence):
    fit(calibrator, *simulated(30))
    with pytest.raises(InvalidInputError) as caught:
        predict(calibrator, scores)
    assert str(caught.value) == sentence


def test_must_be_fitted_first(calibrator):
    with pytest.raises(NotFittedError, match="must be fitted first"):
        predict(calibrator, [0.5])
    with pytest.raises(NotFittedError, match="must be fitted first"):
        calibrator.to_dict()


def test_has_scikit_learns_manners(calibrator):
    fitted = fit(copy.deepcopy(calibrator), *simulated(40))
    fresh = clone(fitted)
    assert fresh.get_params() == calibrator.get_params()
    assert not hasattr(fresh, "n_samples_")
    assert repr(fresh) == repr(calibrator)
    assert clone(fitted).set_params(**fitted.get_params()).get_params() == fitted.get_params()


def test_saved_form_is_json_and_keeps_every_bit(calibrator):
    saved = fit(calibrator, *simulated(150)).to_dict()
    assert list(saved) == ["name", "format_version", "params", "state"]
    text = json.dumps(saved, allow_nan=False)
    restored = calibrator_from_dict(json.loads(text))
    assert type(restored) is type(calibrator)
    assert restored.n_samples_ == 150
    assert restored.get_params() == calibrator.get_params()
    assert_array_equal(predict(restored, GRID), predict(calibrator, GRID))
    assert json.dumps(restored.to_dict()) == text


def test_saved_form_shares_nothing_with_the_calibrator(calibrator):
    saved = fit(calibrator, *simulated(50)).to_dict()
    before = predict(calibrator, GRID)
    for value in saved["state"].values():
        if isinstance(value, (dict, list)):
            value.clear()
    assert_array_equal(predict(calibrator, GRID), before)


def test_make_calibrator_names_what_is_near():
    with pytest.raises(
        InvalidInputError, match=r"calibrator must be one of auto, .* got 'isotonc'. Did you mean 'isotonic'"
    ):
        make_calibrator("isotonc")
    with pytest.raises(ConfigError, match=r"The beta calibrator: unknown key 'prior'. Did you mean 'prior_precision'"):
        make_calibrator("beta", prior=3)


@pytest.mark.parametrize(
    ("name", "params", "sentence"),
    [
        ("sigmoid", {"clip": 0.5}, "clip must be a number strictly between 0 and 0.5, got 0.5"),
        ("beta", {"clip": 0.0}, "clip must be a number strictly between 0 and 1, got 0"),
        ("temperature", {"clip": "small"}, "clip must be a number strictly between 0 and 1, got 'small'"),
        ("sigmoid", {"prior_precision": (1, 2, 3)}, "prior_precision must be one number or one each for a, b, got 3"),
        ("beta", {"prior_precision": -1}, "prior_precision must be a finite number of at least 0, got -1"),
        ("beta", {"prior_precision": (1, True, 1)}, "prior_precision must be a finite number of at least 0, got True"),
        ("centered_isotonic", {"prior_rows": np.nan}, "prior_rows must be a finite number of at least 0, got nan"),
        ("centered_isotonic", {"clip_ends": 1}, "clip_ends must be True or False, got 1"),
    ],
)
def test_parameters_are_checked_when_fitted(name, params, sentence):
    calibrator = make_calibrator(name, **params)
    with pytest.raises(InvalidInputError, match=sentence):
        calibrator.fit([0.2, 0.8], [0, 1])

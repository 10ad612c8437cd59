"""The prediction frame and the rules behind it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.calibrators import make_calibrator
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.model import FRAME_COLUMNS, REASONS, UNCALIBRATED, CalibratedModel, encode_labels, fit_calibrator

METHODS = ("identity", "isotonic", "centered_isotonic", "sigmoid", "beta", "temperature", "auto")
scores = arrays(np.float64, st.integers(1, 30), elements=st.floats(0.0, 1.0))


class Table:
    """A scorer whose features are its answers: column k is the probability of class k."""

    def __init__(self, classes):
        self.classes_ = np.asarray(classes)

    def predict_proba(self, X):
        proba = np.asarray(X, dtype=float)
        if np.isnan(proba).any():
            raise ValueError("Input X contains NaN.")
        return proba


def two(p):
    p = np.asarray(p, dtype=float)
    return np.column_stack((1.0 - p, p))


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    p = rng.random(400)
    y = (rng.random(400) < p**2).astype(int)
    found = {(method, pos): fit_calibrator(method, two(p), y, pos) for method in METHODS for pos in (0, 1)}
    matrix = rng.dirichlet(np.ones(4), 400)
    labels = np.array([rng.choice(4, p=row) for row in matrix])
    found |= {(method, "many"): fit_calibrator(method, matrix, labels, 1) for method in METHODS}
    return found


def binary(fitted, method, pos_label="yes", **kwargs):
    pos = ["no", "yes"].index(pos_label)
    return CalibratedModel(Table(["no", "yes"]), fitted[method, pos], pos_label=pos_label, revision="r", **kwargs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pos_label", ["no", "yes"])
@settings(max_examples=25, deadline=None)
@given(p=scores)
def test_binary_frame(fitted, method, pos_label, p):
    frame = binary(fitted, method, pos_label, policy=AbstainPolicy(0.7)).predict_frame(two(p))
    probability, other = frame["probability"], "no" if pos_label == "yes" else "yes"
    assert probability.between(0.0, 1.0).all()
    np.testing.assert_array_equal(frame["confidence"], np.maximum(probability, 1.0 - probability))
    assert frame["prediction"].tolist() == np.where(probability > 0.5, pos_label, other).tolist()
    np.testing.assert_array_equal(frame["raw_probability"], p if pos_label == "yes" else 1.0 - p)
    assert frame["abstained"].tolist() == (frame["confidence"] < 0.7).tolist()
    assert (frame["abstained"] == (frame["reason"] == "low_confidence")).all()
    order = np.argsort(frame["raw_probability"], kind="stable")
    assert (np.diff(probability.to_numpy()[order]) >= 0.0).all()


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25, deadline=None)
@given(weights=arrays(np.float64, st.tuples(st.integers(1, 10), st.just(4)), elements=st.floats(0.001, 1.0)))
def test_multiclass_frame(fitted, method, weights):
    raw = weights / weights.sum(axis=1, keepdims=True)
    model = CalibratedModel(Table([10, 20, 30, 40]), fitted[method, "many"], AbstainPolicy(0.5), revision="r")
    frame = model.predict_frame(raw)
    proba = np.array(frame["probabilities"].tolist())
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    best = proba.argmax(axis=1)
    assert frame["prediction"].tolist() == (10 * (best + 1)).tolist()
    np.testing.assert_array_equal(frame["confidence"], proba.max(axis=1))
    np.testing.assert_array_equal(frame["probability"], frame["confidence"])
    np.testing.assert_allclose(frame["raw_probability"], raw[np.arange(len(raw)), best], atol=1e-15)


@pytest.mark.parametrize(
    ("classes", "kind"),
    [([0, 1], "i"), ([0.5, 1.5], "f"), ([False, True], "b"), (["a", "b"], "O"), (np.array(["a", "b"], object), "O")],
)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_columns_and_types_do_not_depend_on_the_rows(classes, kind, n):
    model = CalibratedModel(Table(classes), make_calibrator("identity").fit([0.0, 1.0], [0, 1]))
    frame = model.predict_frame(two(np.linspace(0.0, 1.0, n)))
    assert tuple(frame.columns) == FRAME_COLUMNS
    assert "".join(dtype.kind for dtype in frame.dtypes) == f"{kind}fffbOOO"
    assert len(frame) == n
    assert not frame.isna().to_numpy().any()


def test_one_half_is_not_yet_positive():
    model = CalibratedModel(Table(["no", "yes"]), make_calibrator("identity").fit([0.0, 1.0], [0, 1]))
    assert model.predict(two([0.5, np.nextafter(0.5, 1.0)])).tolist() == ["no", "yes"]


def test_auc_of_the_raw_score_is_untouched(fitted):
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    p, y = rng.random(300), rng.integers(0, 2, 300)
    frame = binary(fitted, "isotonic").predict_frame(two(p))
    assert roc_auc_score(y, frame["raw_probability"]) == roc_auc_score(y, p)
    assert frame["probability"].nunique() < frame["raw_probability"].nunique()


def test_float32_scores_may_overshoot_by_rounding(fitted):
    class Single(Table):
        def predict_proba(self, X):
            return np.array([[-1e-7, 1.0 + 1e-7], [0.3, 0.7]], dtype=np.float32)

    model = CalibratedModel(Single(["no", "yes"]), fitted["sigmoid", 1])
    assert model.predict_frame(np.zeros((2, 1)))["raw_probability"].tolist() == [1.0, pytest.approx(0.7, abs=1e-6)]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([[0.2, 0.9]], "rows must sum to 1, got a row that is off by 0.1"),
        ([[-0.5, 1.5]], r"must lie in \[0, 1\], got a minimum of -0.5"),
        ([0.2], r"must give probabilities of shape \(n, K\), got shape \(1,\)"),
        ([[0.2, 0.3, 0.5]], "must have 2 columns, got 3"),
    ],
)
def test_answers_of_the_base_that_are_no_probabilities(fitted, answer, sentence):
    class Wrong(Table):
        def predict_proba(self, X):
            return np.array(answer)

    with pytest.raises(InvalidInputError, match=sentence):
        CalibratedModel(Wrong(["no", "yes"]), fitted["sigmoid", 1]).predict_frame(np.zeros((1, 1)))


# --- when something is missing or broken


def test_rows_without_a_score_get_the_prior_and_are_withheld(fitted):
    model = binary(fitted, "isotonic", class_prior=(0.2, 0.8))
    frame = model.predict_frame(two([0.1, np.nan, 0.9]))
    assert frame["reason"].tolist() == ["", "unscorable_row", ""]
    assert frame.loc[1, ["prediction", "probability", "raw_probability", "confidence"]].tolist() == [
        "yes",
        0.8,
        0.8,
        0.8,
    ]
    whole = model.predict_frame(two([0.1, 0.9]))
    np.testing.assert_array_equal(frame.loc[[0, 2], "probability"], whole["probability"])
    np.testing.assert_array_equal(model.predict_proba(two([np.nan])), [[0.2, 0.8]])


@settings(max_examples=40, deadline=None)
@given(p=scores, holes=st.lists(st.booleans(), min_size=30, max_size=30))
def test_a_rows_answer_does_not_depend_on_its_company(fitted, p, holes):
    holed = np.where(np.array(holes)[: len(p)], np.nan, p)
    model = binary(fitted, "beta", policy=AbstainPolicy(0.6))
    together = model.predict_frame(two(holed))
    alone = pd.concat([model.predict_frame(two(holed[[i]])) for i in range(len(p))], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone)


def test_a_base_that_takes_gaps_in_one_column_only(fitted):
    class Choosy(Table):
        def predict_proba(self, X):
            if X["b"].isna().any():
                raise RuntimeError("b must be there")
            return two(X["a"].fillna(0.9))

    rows = pd.DataFrame({"a": [0.1, None, None, 0.2], "b": [1.0, 1.0, None, None]})
    frame = CalibratedModel(Choosy(["no", "yes"]), fitted["identity", 1]).predict_frame(rows)
    assert frame["reason"].tolist() == ["", "", "unscorable_row", "unscorable_row"]
    assert frame["raw_probability"].tolist()[:2] == [0.1, 0.9]


def test_a_refusal_without_gaps_is_one_sentence_and_quotes_no_data(fitted):
    class Refusing(Table):
        def predict_proba(self, X):
            raise KeyError("secret value 4711")

    with pytest.raises(InvalidInputError, match=r"could not score these 2 rows \(KeyError\)") as caught:
        CalibratedModel(Refusing(["no", "yes"]), fitted["identity", 1]).predict_frame(two([0.1, 0.2]))
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("on_error", ["abstain", "raw"])
@pytest.mark.parametrize("failure", ["absent", "raises", "nan", "shape"])
def test_a_failing_calibrator(on_error, failure):
    class Failing:
        def predict(self, scores):
            if failure == "raises":
                raise RuntimeError("broken")
            return np.full(len(scores), np.nan) if failure == "nan" else np.array([0.5])

    calibrator = None if failure == "absent" else Failing()
    policy = AbstainPolicy(0.8, on_calibrator_error=on_error)
    frame = CalibratedModel(Table([0, 1]), calibrator, policy, revision="r").predict_frame(two([0.1, 0.3, 0.9]))
    np.testing.assert_array_equal(frame["probability"], frame["raw_probability"])
    assert set(frame["calibrator_revision"]) == {UNCALIBRATED}
    expected = ["calibrator_unavailable"] * 3 if on_error == "abstain" else ["", "low_confidence", ""]
    assert frame["reason"].tolist() == expected


def test_without_a_policy_nothing_is_answered(fitted):
    frame = CalibratedModel(Table([0, 1]), fitted["sigmoid", 1], None).predict_frame(
        two([0.1, 0.9]), abstain_threshold=0.0
    )
    assert frame["abstained"].all()
    assert set(frame["reason"]) == {"policy_unavailable"}


def test_every_reason_is_explained():
    assert set(REASONS) == {"", "low_confidence", "unscorable_row", "calibrator_unavailable", "policy_unavailable"}


# --- segments


@pytest.fixture
def by_region(fitted):
    policy = AbstainPolicy(0.0, segment_thresholds={"south": 1.0, "7": 1.0})

    class First(Table):
        n_features_in_ = 1

        def predict_proba(self, X):
            assert list(X.columns) == ["p"]
            return two(X["p"])

    return CalibratedModel(First([0, 1]), fitted["sigmoid", 1], policy, segment_column="region")


@pytest.mark.parametrize(
    ("region", "abstained"),
    [
        (["south", "north", None], [True, False, False]),
        ([7, 8, 7], [True, False, True]),
        (pd.Categorical(["south", None, "north"]), [True, False, False]),
    ],
)
def test_a_segment_column_that_is_no_feature(by_region, region, abstained):
    frame = by_region.predict_frame(pd.DataFrame({"p": [0.2, 0.4, 0.9], "region": region}))
    assert frame["abstained"].tolist() == abstained


def test_the_argument_overrules_the_column_and_its_absence_is_no_error(by_region):
    rows = pd.DataFrame({"p": [0.2, 0.4], "region": ["south", "north"]})
    assert by_region.predict_frame(rows, segment="north")["abstained"].tolist() == [False, False]
    assert by_region.predict_frame(rows, segment=["north", "south"])["abstained"].tolist() == [False, True]
    assert by_region.predict_frame(rows[["p"]])["abstained"].tolist() == [False, False]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan, "0.5", True])
def test_thresholds_are_checked(by_region, threshold):
    with pytest.raises(InvalidInputError, match=r"abstain_threshold must be a number in \[0, 1\]"):
        by_region.predict_frame(pd.DataFrame({"p": [0.2]}), abstain_threshold=threshold)


# --- labels


@pytest.mark.parametrize(
    ("labels", "classes", "codes"),
    [
        ([True, False], [False, True], [1, 0]),
        ([1.0, 0.0], [0, 1], [1, 0]),
        (pd.Series(["b", "a"]), ["a", "b"], [1, 0]),
        (pd.Categorical(["b", "a"]), ["a", "b"], [1, 0]),
        (pd.array([1, 0], dtype="Int64"), [0, 1], [1, 0]),
        ([[1], [0]], [0, 1], [1, 0]),
    ],
)
def test_labels_of_any_type(labels, classes, codes):
    assert encode_labels(labels, np.asarray(classes)).tolist() == codes


@pytest.mark.parametrize("stranger", [None, np.nan, "no", 2, pd.NA])
def test_labels_the_model_does_not_know(stranger):
    with pytest.raises(InvalidInputError, match=r"y must hold the model's classes \(0, 1\), got"):
        encode_labels([0, 1, stranger], np.array([0, 1]))


def test_a_positive_class_needs_two_classes(fitted):
    with pytest.raises(InvalidInputError, match="pos_label is for two classes, got 4 classes"):
        CalibratedModel(Table([1, 2, 3, 4]), fitted["isotonic", "many"], pos_label=2)

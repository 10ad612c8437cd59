"""CaliberClassifier: scikit-learn's own checks, and what a calibrated classifier has to keep besides."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    ShuffleSplit,
    TimeSeriesSplit,
    cross_val_predict,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from mlflow_caliber import CaliberClassifier
from mlflow_caliber.calibrators import make_calibrator
from mlflow_caliber.exceptions import InvalidInputError, OneClassError


@pytest.mark.parametrize(
    "method", ["auto", *(pytest.param(each, marks=pytest.mark.system) for each in ("isotonic", "sigmoid"))]
)
def test_scikit_learns_checks(method):
    """All of them, with no expected failures; skipped are those that need SCIPY_ARRAY_API."""
    checks = check_estimator(CaliberClassifier(method=method), on_fail=None, on_skip=None)
    failed = {check["check_name"]: check["exception"] for check in checks if check["status"] == "failed"}
    assert not failed
    assert sum(check["status"] == "passed" for check in checks) > 40


@pytest.fixture(scope="module")
def rows():
    return make_classification(600, 6, n_informative=4, class_sep=0.6, random_state=0)


def test_scores_are_out_of_fold(rows):
    """One nearest neighbour is sure of every row it has seen; calibrated on those, it would stay sure."""
    X, y = rows
    model = CaliberClassifier(KNeighborsClassifier(1), method="sigmoid").fit(X[:300], y[:300])
    accuracy = model.score(X[300:], y[300:])
    assert model.predict_proba(X[300:]).max(axis=1).mean() == pytest.approx(accuracy, abs=0.08)
    assert accuracy < 0.95


@pytest.mark.parametrize("splits", [KFold(4), 4 * [None]])
def test_splits_of_scikit_learn(rows, splits):
    X, y = rows
    cv = splits if hasattr(splits, "split") else list(KFold(len(splits)).split(X))
    model = CaliberClassifier(GaussianNB(), method="isotonic", cv=cv).fit(X, y)
    scores = cross_val_predict(GaussianNB(), X, y, cv=KFold(4), method="predict_proba")[:, 1]
    expected = make_calibrator("isotonic").fit(scores, y)
    raw = GaussianNB().fit(X, y).predict_proba(X)[:, 1]
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], expected.predict(raw), atol=1e-12)


def test_rows_before_the_first_test_part_do_not_calibrate(rows):
    X, y = rows
    model = CaliberClassifier(GaussianNB(), method="sigmoid", cv=TimeSeriesSplit(3)).fit(X, y)
    assert model.calibrated_model_.calibrator.n_samples_ == 450


def test_test_parts_must_not_overlap(rows):
    X, y = rows
    with pytest.raises(InvalidInputError, match="must give test parts that do not overlap"):
        CaliberClassifier(GaussianNB(), cv=ShuffleSplit(4, random_state=0)).fit(X, y)


def test_a_frozen_base_is_left_alone(rows):
    X, y = rows
    base = LogisticRegression().fit(X[:200], y[:200])
    before = base.coef_.copy()
    model = CaliberClassifier(FrozenEstimator(base), method="isotonic").fit(X[200:], y[200:])
    np.testing.assert_array_equal(base.coef_, before)
    expected = make_calibrator("isotonic").fit(base.predict_proba(X[200:])[:, 1], y[200:])
    np.testing.assert_array_equal(model.predict_proba(X)[:, 1], expected.predict(base.predict_proba(X)[:, 1]))


def test_a_frozen_base_keeps_its_classes(rows):
    X, y = rows
    base = GaussianNB().fit(X, np.array(["a", "b", "c"])[(y + (X[:, 0] > 1.0)).astype(int)])
    keep = base.predict(X) != "c"
    labels = np.array(["a", "b"])[y]
    model = CaliberClassifier(FrozenEstimator(base)).fit(X[keep], labels[keep])
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.predict_proba(X).shape == (len(X), 3)
    with pytest.raises(InvalidInputError, match="y must hold the model's classes"):
        CaliberClassifier(FrozenEstimator(base)).fit(X, np.array(["a", "d"])[y])


@pytest.mark.parametrize("method", ["isotonic", "sigmoid", "beta", "temperature"])
@pytest.mark.parametrize("frozen", [False, True])
def test_weights_are_repeated_rows(rows, method, frozen):
    X, y = rows
    weights = np.random.default_rng(0).integers(0, 4, len(y))
    repeated = np.repeat(np.arange(len(y)), weights)
    base = GaussianNB()
    base = FrozenEstimator(base.fit(X, y)) if frozen else base
    one = CaliberClassifier(base, method=method).fit(X, y, sample_weight=weights)
    other = CaliberClassifier(base, method=method).fit(X[repeated], y[repeated])
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-6)


def test_row_order_does_not_matter(rows):
    X, y = rows
    order = np.random.default_rng(0).permutation(len(y))
    one = CaliberClassifier(GaussianNB(), method="isotonic").fit(X, y)
    other = CaliberClassifier(GaussianNB(), method="isotonic").fit(X[order], y[order])
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-9)


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True], [-1, 7]])
def test_labels_of_any_type(rows, labels):
    X, y = rows
    model = CaliberClassifier(method="sigmoid").fit(X, np.array(labels)[y])
    assert model.classes_.tolist() == sorted(labels)
    predicted = model.predict(X)
    assert predicted.dtype == np.array(labels).dtype
    assert predicted.tolist() == np.where(model.predict_proba(X)[:, 1] > 0.5, labels[1], labels[0]).tolist()


@pytest.mark.parametrize("method", ["auto", "isotonic", "temperature"])
def test_ten_classes(method):
    X, y = load_digits(return_X_y=True)
    words = np.array([f"digit {k}" for k in range(10)])
    model = CaliberClassifier(GaussianNB(var_smoothing=1e-2), method=method).fit(X[:900], words[y[:900]])
    proba = model.predict_proba(X[900:])
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    assert model.score(X[900:], words[y[900:]]) > 0.8
    assert (model.predict(X[900:]) == model.classes_[proba.argmax(axis=1)]).all()


def test_abstains_is_the_policy_on_the_confidence(rows):
    X, y = rows
    model = CaliberClassifier(abstain_threshold=0.8).fit(X, y)
    assert (model.abstains(X) == (model.predict_proba(X).max(axis=1) < 0.8)).all()
    frame = model.calibrated_model_.predict_frame(X)
    assert (frame["abstained"] == model.abstains(X)).all()
    assert not CaliberClassifier().fit(X, y).abstains(X).any()


def test_clone_and_params():
    model = CaliberClassifier(GaussianNB(var_smoothing=0.5), method="beta", cv=3, abstain_threshold=0.6)
    params = model.get_params()
    assert {key: params[key] for key in ("method", "cv", "abstain_threshold")} == {
        "method": "beta",
        "cv": 3,
        "abstain_threshold": 0.6,
    }
    assert params["estimator__var_smoothing"] == 0.5
    assert clone(model).get_params().keys() == params.keys()
    assert model.set_params(estimator__var_smoothing=0.1).estimator.var_smoothing == 0.1


def test_the_given_estimator_is_never_fitted(rows):
    base = GaussianNB()
    CaliberClassifier(base).fit(*rows)
    assert not hasattr(base, "classes_")


def test_inside_a_pipeline_and_a_grid_search(rows):
    X, y = rows
    pipeline = make_pipeline(StandardScaler(), CaliberClassifier(KNeighborsClassifier(15)))
    grid = GridSearchCV(
        pipeline,
        {"caliberclassifier__method": ["identity", "sigmoid", "isotonic"]},
        scoring="neg_brier_score",
        cv=3,
    ).fit(X, y)
    assert grid.best_params_["caliberclassifier__method"] in {"identity", "sigmoid", "isotonic"}
    assert cross_val_score(pipeline, X, y, cv=3, scoring="roc_auc").mean() > 0.7


def test_around_a_pipeline_on_named_columns(rows):
    X, y = rows
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(g=np.where(X[:, 0] > 0, "x", "z"))
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder

    columns = make_column_transformer((StandardScaler(), list("abcdef")), (OneHotEncoder(), ["g"]))
    model = CaliberClassifier(make_pipeline(columns, LogisticRegression())).fit(frame, y)
    assert model.feature_names_in_.tolist() == list("abcdefg")
    assert model.predict_proba(frame).shape == (len(y), 2)


def test_sparse_rows(rows):
    X, y = rows
    X = np.where(X > 0.5, X, 0.0)
    dense = CaliberClassifier(method="sigmoid").fit(X, y).predict_proba(X)
    thin = CaliberClassifier(method="sigmoid").fit(sparse.csr_matrix(X), y).predict_proba(sparse.csr_matrix(X))
    assert np.abs(dense - thin).max() < 0.05  # other folds, the same thing


@pytest.mark.parametrize(
    ("model", "y", "error", "sentence"),
    [
        (CaliberClassifier(), np.zeros(600, dtype=int), OneClassError, "at least 2 classes, got 1 class in 600 rows"),
        (CaliberClassifier(), np.arange(600) == 0, InvalidInputError, "at least 2 distinct rows of every class"),
        (CaliberClassifier(method="isotone"), None, InvalidInputError, "Did you mean 'isotonic'"),
        (CaliberClassifier(cv=1), None, InvalidInputError, "cv must be a whole number >= 2, got 1"),
        (CaliberClassifier(cv="many"), None, InvalidInputError, "cv must be a whole number >= 2, got 'many'"),
        (CaliberClassifier(abstain_threshold=2.0), None, InvalidInputError, r"threshold must be a number in \[0, 1\]"),
    ],
)
def test_refusals(rows, model, y, error, sentence):
    with pytest.raises(error, match=sentence):
        model.fit(rows[0], rows[1] if y is None else y)


def test_weights_need_a_base_that_takes_them(rows):
    X, y = rows
    with pytest.raises(InvalidInputError, match=r"KNeighborsClassifier\.fit does not take it"):
        CaliberClassifier(KNeighborsClassifier()).fit(X, y, sample_weight=np.ones(len(y)))


def test_not_fitted(rows):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        CaliberClassifier().predict(rows[0])

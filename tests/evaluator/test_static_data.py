"""Probabilities that were computed elsewhere, in columns of the data."""

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber.evaluator import EvaluatorConfig
from mlflow_caliber.evaluator._inputs import rows_of_static_data
from mlflow_caliber.exceptions import CaliberError
from mlflow_caliber.metrics import brier_score

N = 40


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"x": rng.normal(size=N), "p": rng.random(N), "y": np.arange(N) % 2})


@pytest.fixture
def read(as_dataset):
    def read(frame, predictions=None, **config):
        return rows_of_static_data(as_dataset(frame, predictions), EvaluatorConfig.from_dict(config))

    return read


@pytest.mark.parametrize(
    ("predictions", "config"),
    [("p", {}), (None, {"proba_column": "p"}), (None, {"proba_column": 1}), ("x", {"proba_column": "p"})],
)
def test_one_column_is_the_positive_class(scored, read, predictions, config):
    rows = read(scored, predictions, **config)
    np.testing.assert_array_equal(rows.proba, scored["p"])
    np.testing.assert_array_equal(rows.y, scored["y"])
    assert rows.classes == ("0", "1")
    assert rows.raw is rows.policy is rows.weights is None


def test_probabilities_and_weights_are_no_features(scored, read):
    frame = scored.assign(raw=scored["p"], w=2.0)
    rows = read(frame, "p", raw_column="raw", sample_weight="w")
    assert list(rows.features) == ["x"]
    np.testing.assert_array_equal(rows.weights, np.full(N, 2.0))
    np.testing.assert_array_equal(rows.raw, scored["p"])


@pytest.mark.parametrize("labels", [("no", "yes"), (False, True), (0, 1), (0.0, 1.0), (-1, 1)])
@pytest.mark.parametrize("positive", [0, 1])
def test_any_labels_and_either_positive_class(scored, read, labels, positive):
    frame = scored.assign(y=[labels[k] for k in scored["y"]])
    rows = read(frame, "p", pos_label=labels[positive])
    np.testing.assert_array_equal(rows.y, scored["y"] == positive)
    np.testing.assert_array_equal(rows.proba, scored["p"])
    assert rows.classes == (str(labels[1 - positive]), str(labels[positive]))


def test_classes_say_which_label_comes_first(scored, read):
    frame = scored.assign(q=1.0 - scored["p"], y=np.where(scored["y"] == 1, "good", "worse"))
    rows = read(frame, proba_column=["q", "p"], classes=["worse", "good"])
    np.testing.assert_array_equal(rows.y, scored["y"])
    np.testing.assert_allclose(rows.proba, scored["p"])
    assert rows.classes == ("worse", "good")


def test_the_frame_of_a_binary_caliber_model(base, read, people):
    from mlflow_caliber.calibrators import make_calibrator
    from mlflow_caliber.model import CalibratedModel

    inputs = people[["age", "income"]]
    isotonic = make_calibrator("isotonic").fit(base.predict_proba(inputs)[:, 1], people["y"])
    frame = CalibratedModel(base, isotonic).predict_frame(inputs).assign(y=people["y"])
    rows = read(frame, "probability", raw_column="raw_probability")
    np.testing.assert_array_equal(rows.proba, frame["probability"])
    np.testing.assert_array_equal(rows.raw, frame["raw_probability"])


def test_a_column_of_lists_is_one_probability_a_class(read):
    rng = np.random.default_rng(1)
    proba = rng.dirichlet([1, 1, 1], N)
    frame = pd.DataFrame({"probabilities": proba.tolist(), "y": np.array(["a", "b", "c"])[np.arange(N) % 3]})
    columns = pd.DataFrame(proba, columns=["a", "b", "c"]).assign(y=frame["y"])
    lists, wide = read(frame, "probabilities"), read(columns, proba_column=["a", "b", "c"])
    for rows in (lists, wide):
        np.testing.assert_allclose(rows.proba, proba)
        np.testing.assert_array_equal(rows.y, np.arange(N) % 3)
        assert rows.classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("labels", "config", "classes"),
    [
        ([1] * N, {}, ("0", "1")),
        ([0] * N, {}, ("0", "1")),
        ([True] * N, {}, ("False", "True")),
        (["no"] * N, {"pos_label": "yes"}, ("no", "yes")),
        (["yes"] * N, {"classes": ["no", "yes"]}, ("no", "yes")),
    ],
)
def test_a_slice_with_one_outcome(scored, read, labels, config, classes):
    rows = read(scored.assign(y=labels), "p", **config)
    assert rows.classes == classes
    assert set(rows.y) == {int(str(labels[0]) == classes[1])}
    np.testing.assert_array_equal(rows.proba, scored["p"])


@pytest.mark.parametrize(
    ("change", "predictions", "config", "sentence"),
    [
        ({}, None, {}, "got neither predictions= nor proba_column"),
        ({}, None, {"proba_column": "q"}, "proba_column: the data must hold the column 'q' once, got x, p"),
        ({}, None, {"proba_column": 7}, "a position must fit the 2 columns of the data, got 7"),
        ({"y": ["yes"] * N}, "p", {}, "need 2 labels, got 'yes': name them all with classes"),
        ({"y": [None, "yes"] * (N // 2)}, "p", {}, f"targets must be known, got {N // 2} missing of {N}"),
        ({"y": [np.nan, 1.0] * (N // 2)}, "p", {}, f"targets must be known, got {N // 2} missing of {N}"),
        ({"y": [0, "yes"] * (N // 2)}, "p", {}, "targets must be labels of one kind, got int, str"),
        ({"y": np.arange(N) % 3}, "p", {}, "2 probabilities a row need 2 labels, got 0, 1, 2"),
        ({"y": [0, 1] * (N // 2)}, "p", {"classes": [1, 2]}, r"targets must hold the model's classes \(1, 2\), got 0"),
        ({}, "p", {"pos_label": "yes"}, r"pos_label must hold the model's classes \(0, 1\), got 'yes'"),
        ({"p": [0, 1] * (N // 2)}, "p", {}, "must hold probabilities, got int64 values: labels alone"),
        ({"p": ["a", "b"] * (N // 2)}, "p", {}, "must hold probabilities, got .* values: labels alone"),
        ({"p": [[0.5, 0.5], [1.0]] * (N // 2)}, "p", {}, r"must hold lists of one length, got \[1, 2\]"),
        ({"q": 0.7}, None, {"proba_column": ["q", "p"]}, "q, p rows must sum to 1"),
        ({}, "p", {"sample_weight": "w"}, "sample_weight: the data must hold the column 'w' once"),
        ({"w": -1.0}, "p", {"sample_weight": "w"}, "sample_weight must not be negative"),
    ],
)
def test_what_cannot_be_read_is_refused(scored, read, change, predictions, config, sentence):
    with pytest.raises(CaliberError, match=sentence):
        read(scored.assign(**change), predictions, **config)


def test_whole_evaluation(scored, evaluate):
    done = evaluate(None, scored.assign(p=[0.2, 0.9] * (N // 2)), predictions="p")
    assert done.metrics["caliber_brier"] == pytest.approx(brier_score(scored["y"], [0.2, 0.9] * (N // 2)))
    assert done.run.data.metrics == pytest.approx(done.metrics)
    assert "caliber_model_digest" not in done.run.data.tags
    assert done.artifacts["caliber/report.json"].content["model"] is None
    assert "passes no gate" in done.artifacts["caliber/report.html"].content


@pytest.mark.parametrize(("value", "sentence"), [(np.nan, "must be finite, got 1 NaN"), (1.5, "got a maximum of 1.5")])
def test_scores_that_are_none_are_refused(scored, evaluate, value, sentence):
    from mlflow.exceptions import MlflowException

    scored.loc[3, "p"] = value
    with pytest.raises(MlflowException, match=f"caliber evaluator: y_proba .*{sentence}"):
        evaluate(None, scored, predictions="p")


def test_beside_default_with_labels_as_predictions(scored, evaluate):
    frame = scored.assign(label=(scored["p"] > 0.5).astype(int))
    config = {"default": {"log_model_explainability": False}, "caliber": {"proba_column": "p"}}
    done = evaluate(None, frame, predictions="label", evaluators=["default", "caliber"], config=config)
    assert done.metrics["caliber_accuracy"] == pytest.approx(done.metrics["accuracy_score"])

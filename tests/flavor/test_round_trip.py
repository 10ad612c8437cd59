"""Save, load in a new process, predict: the probabilities are those of before, for every kind of base."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber.calibrators import calibrator_from_dict
from mlflow_caliber.model import FRAME_COLUMNS

NAMES = [
    "logistic",
    "random_forest",
    "hist_gradient_boosting",
    "fitted_on_array",
    "array_in",
    "float32",
    "string_labels",
    "bool_labels",
    "positive_class_first",
    "nullable_integers",
    "xgboost",
    "xgboost_with_names_of_labels",
    "xgboost_booster",
    "lightgbm",
    "lightgbm_booster",
    "catboost",
    "catboost_with_categories",
    "pipeline",
    "segment_is_no_feature",
    "python_model",
    "python_model_two_columns",
    "python_model_uri",
    "uri",
    "uri_by_reference",
    "calibrated_model",
    "caliber_classifier",
    "ten_classes",
]

LABELS = {
    "string_labels": ["no", "yes"],
    "bool_labels": [False, True],
    "positive_class_first": ["no", "yes"],
    "xgboost_with_names_of_labels": ["no", "yes"],
    "lightgbm_booster": ["no", "yes"],
    "catboost": ["no", "yes"],
    "python_model_two_columns": ["bad", "good"],
    "ten_classes": list(range(10)),
}
POSITIVE_FIRST = {"positive_class_first", "calibrated_model"}


@pytest.fixture(scope="module")
def answers(saved, tmp_path_factory):
    """What a new process makes of the saved models."""
    folder = tmp_path_factory.mktemp("trip")
    jobs = {name: (str(path), case.rows) for name, (case, path) in saved.items()}
    (folder / "jobs").write_bytes(pickle.dumps(jobs))
    script = Path(__file__).with_name("predict_saved.py")
    subprocess.run([sys.executable, script, folder / "jobs", folder / "answers"], check=True, capture_output=True)
    return pickle.loads((folder / "answers").read_bytes())


def test_every_case_is_tested(saved):
    assert sorted(saved) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_raw_probabilities_are_those_of_the_base_model(name, saved, answers):
    case, frame = saved[name][0], answers[name]["frame"]
    labels = LABELS.get(name, [0, 1])
    shown = np.array([labels.index(label) for label in frame["prediction"]])
    if len(labels) == 2:
        shown = np.full(len(frame), 0 if name in POSITIVE_FIRST else 1)
    expected = case.raw[np.arange(len(frame)), shown]
    # Models that compute in float32 round when a row is normalised; everything else is exact.
    np.testing.assert_allclose(
        frame["raw_probability"], expected, rtol=0, atol=1e-12 if case.raw.dtype == float else 1e-7
    )


@pytest.mark.parametrize("name", NAMES)
def test_calibrated_probabilities_are_the_saved_map_of_the_raw_ones(name, saved, answers):
    state = json.loads(Path(saved[name][1], "caliber", "calibrator.json").read_text())
    calibrator, frame = calibrator_from_dict(state), answers[name]["frame"]
    if name == "ten_classes":
        expected = calibrator.predict(saved[name][0].raw).max(axis=1)
    else:
        expected = calibrator.predict(frame["raw_probability"])
    np.testing.assert_allclose(frame["probability"], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_frame_has_its_columns_and_types_and_nothing_is_missing(name, saved, answers):
    frame = answers[name]["frame"]
    extra = ["probabilities"] if name == "ten_classes" else []
    assert list(frame.columns) == [*FRAME_COLUMNS, *extra]
    assert len(frame) == len(saved[name][0].rows)
    assert not frame.isna().to_numpy().any()
    kind = {"s": "O", "b": "b", "i": "i"}[type(LABELS.get(name, [0, 1])[0]).__name__[0]]
    assert [dtype.kind for dtype in frame.dtypes] == [kind, *"fffbOOO", *("O" for _ in extra)]
    assert all(frame[column].dtype == np.float64 for column in ("probability", "raw_probability", "confidence"))


@pytest.mark.parametrize("name", NAMES)
def test_label_and_proba_modes_say_the_same_as_the_frame(name, answers):
    frame, labels, proba = (answers[name][mode] for mode in ("frame", "label", "proba"))
    assert list(labels) == list(frame["prediction"])
    assert proba.shape == (len(frame), len(LABELS.get(name, [0, 1])))
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    if name == "ten_classes":
        np.testing.assert_array_equal(np.array(frame["probabilities"].tolist()), proba)
    else:
        np.testing.assert_array_equal(proba[:, 0 if name in POSITIVE_FIRST else 1], frame["probability"])


@pytest.mark.parametrize("name", ["pipeline", "segment_is_no_feature"])
def test_the_segment_column_chooses_the_threshold(name, saved, answers):
    region, frame = saved[name][0].rows["region"], answers[name]["frame"]
    limit = region.map({"south": 0.9, "north": 0.6})
    pd.testing.assert_series_equal(frame["abstained"], frame["confidence"] < limit, check_names=False)
    assert 0 < frame["abstained"].sum() < len(frame)


def test_policies_of_calibrated_models_travel(answers):
    for name, threshold in (("calibrated_model", 0.6), ("caliber_classifier", 0.7)):
        frame = answers[name]["frame"]
        pd.testing.assert_series_equal(frame["abstained"], frame["confidence"] < threshold, check_names=False)


def test_revision_is_one_per_state(saved, answers):
    revisions = {name: set(answers[name]["frame"]["calibrator_revision"]) for name in NAMES}
    assert all(len(found) == 1 and len(next(iter(found))) == 12 for found in revisions.values())
    assert revisions["uri"] == revisions["uri_by_reference"]
    assert revisions["uri"] != revisions["logistic"]


def test_base_by_reference_is_not_copied(saved):
    folder = saved["uri_by_reference"][1]
    assert not (folder / "base_model").exists()
    assert "models:/plain-forest/1" in (folder / "MLmodel").read_text()
    assert (saved["uri"][1] / "base_model" / "MLmodel").exists()


def test_prediction_ids_are_unique_over_models_and_calls(answers):
    ids = [each for name in NAMES for each in answers[name]["frame"]["prediction_id"]]
    assert len(set(ids)) == len(ids)


def test_serving_loads_neither_plots_nor_evidently(answers):
    assert not {"evidently", "mlflow_caliber.plots", "mlflow_caliber.html", "mlflow_caliber.gate"} & set(
        answers["modules"]
    )

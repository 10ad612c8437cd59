"""Models of every kind, scored from MLflow's data sets."""

import itertools

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber.evaluator import EvaluatorConfig
from mlflow_caliber.evaluator._inputs import rows_of_model
from mlflow_caliber.exceptions import CaliberError

FEATURES = ["age", "income"]


@pytest.fixture(scope="session")
def loaded(plain):
    import mlflow

    return mlflow.pyfunc.load_model(plain.model_uri)


@pytest.fixture(scope="session")
def loaded_caliber(caliber):
    import mlflow

    return mlflow.pyfunc.load_model(caliber.model_uri)


@pytest.fixture
def read(as_dataset):
    def read(model, frame, **config):
        return rows_of_model(model, as_dataset(frame), EvaluatorConfig.from_dict(config))

    return read


@pytest.fixture(scope="session")
def saved(store):
    """A model saved by MLflow's flavor of that name, and loaded again."""
    import importlib
    import warnings

    import mlflow

    numbers = itertools.count()  # not id(model): a later model may get the place of an earlier one in memory

    def saved(flavor, model, **options):
        path = store.folder / f"{flavor}-{next(numbers)}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of third parties
            importlib.import_module(f"mlflow.{flavor}").save_model(model, path, pip_requirements=[], **options)
            return mlflow.pyfunc.load_model(str(path))

    return saved


def test_plain_model(loaded, base, people, read):
    rows = read(loaded, people[[*FEATURES, "y"]])
    np.testing.assert_allclose(rows.proba, base.predict_proba(people[FEATURES])[:, 1])
    np.testing.assert_array_equal(rows.y, people["y"])
    assert rows.raw is rows.policy is rows.profile is None


def test_caliber_model_whatever_its_output_mode(caliber, base, people, read):
    import mlflow

    frames = [mlflow.pyfunc.load_model(caliber.model_uri, model_config={"output": o}) for o in ("frame", "label")]
    one, other = (read(model, people[[*FEATURES, "y"]]) for model in frames)
    np.testing.assert_array_equal(one.proba, other.proba)
    np.testing.assert_allclose(one.raw, base.predict_proba(people[FEATURES])[:, 1])
    assert one.policy.threshold == 0.7
    assert list(one.profiled) == ["age", "income", "score:1"]


def test_a_segmented_calibrator_is_judged_as_it_is_served(store, base, people, read):
    import mlflow

    import mlflow_caliber

    path = str(store.folder / "segmented")
    data = (people[[*FEATURES, "region"]], people["y"])
    mlflow_caliber.save_model(base, path, calibrator="segmented", calibration_data=data, segment_column="region")
    rows = read(mlflow.pyfunc.load_model(path), people[[*FEATURES, "region", "y"]])
    served = mlflow_caliber.load_model(path)
    np.testing.assert_array_equal(rows.proba, served.predict_proba(data[0])[:, 1])
    assert (rows.proba != served.calibrate(served.raw_proba(data[0]))[:, 1]).any()


@pytest.mark.parametrize("positive", [0, 1])
def test_positive_class(loaded_caliber, people, read, positive):
    rows = read(loaded_caliber, people[[*FEATURES, "y"]], pos_label=positive)
    np.testing.assert_array_equal(rows.y, people["y"] == positive)
    other = read(loaded_caliber, people[[*FEATURES, "y"]])
    np.testing.assert_allclose(rows.proba, other.proba if positive == 1 else 1.0 - other.proba)
    assert rows.classes == (("1", "0"), ("0", "1"))[positive]


@pytest.mark.parametrize("labels", [("no", "yes"), (False, True), (1, 2)])
def test_labels_of_any_type(saved, people, read, labels):
    from sklearn.linear_model import LogisticRegression

    named = people.assign(y=[labels[k] for k in people["y"]])[[*FEATURES, "y"]]
    model = LogisticRegression().fit(named[FEATURES], named["y"])
    rows = read(saved("sklearn", model), named)
    np.testing.assert_array_equal(rows.y, people["y"])
    assert rows.classes == tuple(map(str, labels))


def test_columns_that_are_no_features(loaded, loaded_caliber, people, read):
    for model in (loaded, loaded_caliber):
        rows = read(model, people, sample_weight="w", segments=["region"])
        np.testing.assert_array_equal(rows.weights, people["w"])
        assert list(rows.features) == ["age", "income", "region"]
        assert list(rows.segments(EvaluatorConfig(segments=["region"]))) == ["region"]


def test_weights_are_kept_from_a_model_without_names(saved, people, read):
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(people[FEATURES].to_numpy(), people["y"])
    weighted = read(saved("sklearn", model), people[[*FEATURES, "w", "y"]], sample_weight="w")
    np.testing.assert_allclose(weighted.proba, model.predict_proba(people[FEATURES].to_numpy())[:, 1])


def test_numpy_data(loaded_caliber, people, read):
    from mlflow.data import from_numpy

    dataset = from_numpy(people[FEATURES].to_numpy(), targets=people["y"].to_numpy()).to_evaluation_dataset()
    rows = rows_of_model(loaded_caliber, dataset, EvaluatorConfig())
    np.testing.assert_allclose(rows.proba, read(loaded_caliber, people[[*FEATURES, "y"]]).proba)
    assert list(rows.features) == ["0", "1"]


def test_ten_classes(digits_model, digits, read):
    import mlflow

    model = mlflow.pyfunc.load_model(digits_model.model_uri)
    rows = read(model, digits[1200:])
    assert rows.proba.shape == rows.raw.shape == (len(digits) - 1200, 10)
    assert rows.classes[3] == "digit 3"
    np.testing.assert_array_equal(rows.y, digits["y"][1200:].str[-1].astype(int))


@pytest.mark.parametrize("flavor", ["xgboost", "lightgbm", "catboost"])
def test_boosters_of_other_flavors(saved, people, read, flavor):
    module = pytest.importorskip(flavor)
    name = {"xgboost": "XGBClassifier", "lightgbm": "LGBMClassifier", "catboost": "CatBoostClassifier"}[flavor]
    quiet = {"xgboost": {}, "lightgbm": {"verbose": -1}, "catboost": {"verbose": 0, "allow_writing_files": False}}
    model = getattr(module, name)(n_estimators=5, **quiet[flavor]).fit(people[FEATURES], people["y"])
    rows = read(saved(flavor, model), people[[*FEATURES, "y"]])
    np.testing.assert_allclose(rows.proba, model.predict_proba(people[FEATURES])[:, 1], atol=1e-6)


def test_a_function_says_where_its_probabilities_are(evaluate, people, base):
    def predict(frame):
        return pd.DataFrame({"label": base.predict(frame), "p": base.predict_proba(frame)[:, 1]})

    done = evaluate(predict, people[[*FEATURES, "y"]], config={"proba_column": "p"})
    assert done.metrics["caliber_accuracy"] == pytest.approx(base.score(people[FEATURES], people["y"]))
    assert done.artifacts["caliber/report.json"].content["model"] is None


@pytest.mark.parametrize(
    ("change", "config", "sentence"),
    [
        ({"y": None}, {}, r"targets must hold the model's classes \(0, 1\), got None"),
        ({"y": 7}, {}, r"targets must hold the model's classes \(0, 1\), got 7"),
        ({"age": np.nan}, {}, "must score every row, got no score for 600 of 600 rows"),
        ({}, {"raw_column": "age"}, "raw_column is for static data"),
        ({}, {"segments": ["county"]}, "segments: the data must hold the column 'county' once, got age, income"),
        ({}, {"segments": ["age"]}, r"column 'age' must have at most 50 values \(max_segments\), got 600"),
        ({}, {"pos_label": "yes"}, "pos_label must hold the model's classes"),
    ],
)
def test_what_cannot_be_judged_is_refused(loaded_caliber, people, read, change, config, sentence):
    frame = people[[*FEATURES, "y"]].assign(**change)
    with pytest.raises(CaliberError, match=sentence):
        read(loaded_caliber, frame, **config).segments(EvaluatorConfig.from_dict(config))


def test_a_missing_feature_is_named(loaded_caliber, people, read):
    with pytest.raises(CaliberError, match="must hold the columns of the model's signature, got none of: age"):
        read(loaded_caliber, people[["income", "y"]])


def test_a_model_of_labels_only_is_refused(saved, people, read):
    from sklearn.svm import LinearSVC

    model = LinearSVC().fit(people[FEATURES], people["y"])
    with pytest.raises(CaliberError, match="must give probabilities, got LinearSVC"):
        read(saved("sklearn", model), people[[*FEATURES, "y"]])


@pytest.mark.parametrize("name", ["calibrator", "policy"])
def test_a_damaged_caliber_model_is_refused(store, base, people, read, name, tmp_path):
    import mlflow

    import mlflow_caliber

    mlflow_caliber.save_model(
        base, tmp_path / "m", calibrator="sigmoid", calibration_data=(people[FEATURES], people["y"])
    )
    (tmp_path / "m" / "caliber" / f"{name}.json").write_text("{}")
    with pytest.raises(CaliberError, match=f"its {name} could not be loaded"):
        read(mlflow.pyfunc.load_model(str(tmp_path / "m")), people[[*FEATURES, "y"]])

"""What is written, what is asked for, and what is refused before anything is written."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mlflow_caliber as caliber
from mlflow_caliber.calibrators import MulticlassCalibrator, SigmoidCalibrator, make_calibrator
from mlflow_caliber.exceptions import InvalidInputError, OneClassError, UnsupportedModelError

NUMBERS = ("age", "income", "tenure")


@pytest.fixture(scope="module")
def base(data):
    from sklearn.linear_model import LogisticRegression

    X, y = data.part(0, NUMBERS)
    return LogisticRegression(max_iter=1000).fit(X, y)


@pytest.fixture(scope="module")
def rows(data):
    return data.part(1, NUMBERS)


def requirements(folder):
    lines = Path(folder, "requirements.txt").read_text().splitlines()
    return {line.split("==")[0]: line for line in lines}, lines


# --- what is written


def test_the_folder(saved):
    _, folder = saved["logistic"]
    assert {each.name for each in folder.iterdir()} == {
        *("MLmodel", "base_model", "caliber", "conda.yaml", "python_env.yaml", "requirements.txt")
    }
    assert (folder / "base_model" / "MLmodel").exists()


def test_the_base_is_a_complete_model_of_its_own_flavor(saved):
    import mlflow.sklearn
    import mlflow.xgboost

    case, folder = saved["random_forest"]
    again = mlflow.sklearn.load_model(str(folder / "base_model"))
    np.testing.assert_array_equal(again.predict_proba(case.rows), case.raw)
    assert type(mlflow.xgboost.load_model(str(saved["xgboost_booster"][1] / "base_model"))).__name__ == "Booster"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("logistic", {"scikit-learn", "skops"}),
        ("xgboost", {"xgboost-cpu"}),
        ("lightgbm", {"lightgbm"}),
        ("catboost", {"catboost"}),
        ("python_model", {"cloudpickle"}),
        ("uri_by_reference", {"scikit-learn"}),
    ],
)
def test_requirements_are_the_bases_and_ours(saved, name, wanted):
    if "xgboost-cpu" in wanted:
        import importlib.metadata

        wanted = {importlib.metadata.packages_distributions()["xgboost"][0]}
    by_name, lines = requirements(saved[name][1])
    ours = {"mlflow", "mlflow-caliber", "numpy", "pandas", "scikit-learn", "scipy"}
    assert wanted | ours <= set(by_name)
    assert len(by_name) == len(lines)
    assert not {"pytest", "hypothesis", "rich", "evidently", "matplotlib"} & set(by_name)


def test_the_bases_version_of_a_library_wins(base, rows, tmp_path):
    caliber.save_model(
        base,
        str(tmp_path / "m"),
        calibration_data=rows,
        base_save_kwargs={"pip_requirements": ["scikit-learn==1.6.0", "Torch==2.0"]},
        extra_pip_requirements=["tabulate"],
    )
    _, lines = requirements(tmp_path / "m")
    assert {"scikit-learn==1.6.0", "Torch==2.0", "tabulate"} <= set(lines)
    assert sum(line.startswith("scikit-learn") for line in lines) == 1


def test_pip_requirements_replace_all(base, rows, tmp_path):
    caliber.save_model(base, str(tmp_path / "m"), calibration_data=rows, pip_requirements=["mlflow-caliber"])
    assert set(requirements(tmp_path / "m")[0]) == {"mlflow-caliber"} | {
        name for name in requirements(tmp_path / "m")[0] if name == "mlflow"
    }


def test_the_package_can_travel_as_code(base, rows, tmp_path):
    package = Path(caliber.__file__).parent
    caliber.save_model(base, str(tmp_path / "m"), calibration_data=rows, code_paths=[str(package)])
    assert (tmp_path / "m" / "code" / "mlflow_caliber" / "__init__.py").exists()
    assert "mlflow-caliber" not in requirements(tmp_path / "m")[0]


def test_an_input_example_is_kept_and_gives_the_signature_without_calibration_data(base, rows, tmp_path):
    import mlflow.models

    model = caliber.CalibratedModel(base, make_calibrator("sigmoid").fit(base.predict_proba(rows[0])[:, 1], rows[1]))
    caliber.save_model(model, str(tmp_path / "m"), input_example=rows[0].head(2))
    info = mlflow.models.get_model_info(str(tmp_path / "m"))
    assert info.signature.inputs.input_names() == list(NUMBERS)
    example = json.loads((tmp_path / "m" / "serving_input_example.json").read_text())
    assert len(example["dataframe_split"]["data"]) == 2


@pytest.mark.parametrize("in_run", [True, False])
def test_log_model_in_a_run_and_without(base, rows, in_run):
    import contextlib

    import mlflow

    with mlflow.start_run() if in_run else contextlib.nullcontext() as run:
        info = caliber.log_model(base, "m", calibration_data=rows, input_example=rows[0].head(2), tags={"team": "risk"})
    assert info.run_id == (run.info.run_id if in_run else None)
    assert mlflow.get_logged_model(info.model_id).tags["team"] == "risk"
    assert len(mlflow.pyfunc.load_model(info.model_uri).predict(rows[0])) == len(rows[0])


def test_an_alias_is_resolved_when_the_base_is_only_referred_to(saved, rows, tmp_path):
    from mlflow import MlflowClient

    MlflowClient().set_registered_model_alias("plain-forest", "live", "1")
    caliber.save_model("models:/plain-forest@live", str(tmp_path / "m"), calibration_data=rows, bundle_base=False)
    assert "models:/plain-forest/1" in (tmp_path / "m" / "MLmodel").read_text()


def test_a_stage_is_resolved_too(saved):
    from mlflow_caliber.flavor._uris import pin_uri

    assert pin_uri("models:/plain-forest/None") == ("models:/plain-forest/1", "plain-forest", "1")
    with pytest.raises(InvalidInputError, match="models:/plain-forest/Production must be a version"):
        pin_uri("models:/plain-forest/Production")


def test_a_loaded_model_can_be_saved_again(saved, tmp_path):
    for name in ("pipeline", "lightgbm_booster", "xgboost_with_names_of_labels", "positive_class_first"):
        case, folder = saved[name]
        model = caliber.load_model(str(folder))
        caliber.save_model(model, str(tmp_path / name))
        again = caliber.load_model(str(tmp_path / name))
        pd.testing.assert_frame_equal(again.predict_frame(case.rows), model.predict_frame(case.rows))
        assert (again.profile, again.class_prior) == (model.profile, model.class_prior)


def test_weights_count_as_repeated_rows(base, rows, tmp_path):
    X, y = rows
    weights = np.arange(len(y)) % 3
    caliber.save_model(base, str(tmp_path / "w"), calibrator="isotonic", calibration_data=(X, y, weights))
    repeated = X.loc[X.index.repeat(weights)], np.repeat(y, weights)
    caliber.save_model(base, str(tmp_path / "r"), calibrator="isotonic", calibration_data=repeated)
    one, other = (caliber.load_model(str(tmp_path / name)) for name in "wr")
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-12)
    assert one.class_prior == pytest.approx(other.class_prior)


def test_identity_needs_no_data(base, rows, tmp_path):
    caliber.save_model(base, str(tmp_path / "m"), calibrator="identity")
    np.testing.assert_array_equal(
        caliber.load_model(str(tmp_path / "m")).predict_proba(rows[0])[:, 1], base.predict_proba(rows[0])[:, 1]
    )


def test_the_signature_knows_of_gaps_in_late_rows():
    from mlflow_caliber.flavor._signature import input_schema

    X = pd.DataFrame({"a": np.arange(5000.0), "b": ["x"] * 5000, "c": pd.array(range(5000), dtype="Int64")})
    X.loc[4999, "a"] = None
    X.loc[3000, "c"] = pd.NA
    schema = input_schema(X)
    assert [(each.name, each.type.name, each.required) for each in schema.inputs] == [
        ("a", "double", False),
        ("b", "string", True),
        ("c", "double", False),
    ]


# --- what is refused


def margin_classifier(X, y):
    from sklearn.svm import LinearSVC

    return LinearSVC().fit(X, y)


def unfitted(X, y):
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier()


def ranking_booster(X, y):
    import xgboost

    return xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(X, y), 2)


def light_regression(X, y):
    import lightgbm

    return lightgbm.train({"objective": "regression", "verbosity": -1}, lightgbm.Dataset(X, y), 2)


def python_model(X, y):
    import mlflow.pyfunc

    return mlflow.pyfunc.PythonModel()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (margin_classifier, "must give probabilities, got LinearSVC, which has no predict_proba"),
        (unfitted, "must be fitted, got RandomForestClassifier without classes_"),
        (ranking_booster, "must have a probability objective, got reg:squarederror"),
        (light_regression, "must have a probability objective, got regression"),
        (python_model, "must say where its probabilities are, got no proba_column"),
        (lambda X, y: object(), "must give probabilities, got object"),
    ],
)
def test_models_without_probabilities(rows, tmp_path, make, sentence):
    with pytest.raises(UnsupportedModelError, match=sentence):
        caliber.save_model(make(*rows), str(tmp_path / "m"), calibration_data=rows)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"calibration_data": None}, "calibrator='auto' must be fitted: give calibration_data="),
        (
            {"calibration_data": None, "calibrator": SigmoidCalibrator(clip=0.1)},
            r"calibrator=SigmoidCalibrator\(clip=0.1\) must be fitted: give calibration_data=",
        ),
        ({"calibration_data": "X"}, r"must be \(X, y\) or \(X, y, sample_weight\), got a str"),
        ({"calibrator": "isotone"}, "Did you mean 'isotonic'"),
        ({"calibrator": "segmented"}, "The segmented calibrator needs the segment of each row"),
        ({"calibrator": object()}, "must be a name or one of mlflow_caliber's calibrators, fitted or not, got object"),
        ({"calibrator": SigmoidCalibrator}, "fitted or not, got the class SigmoidCalibrator"),
        ({"calibrator": MulticlassCalibrator("vector")}, "2 classes need a calibrator for two classes, got Multiclass"),
        ({"pos_label": "yes"}, r"pos_label must hold the model's classes \(0, 1\), got 'yes'"),
        ({"output": "frames"}, "Did you mean 'frame'"),
        ({"segment_column": "region"}, "segment_column must be a column of the calibration data, got 'region'"),
        ({"bundle_base": False}, "bundle_base=False needs a base model given by URI"),
        ({"policy": {"threshold": 0.5}}, "policy must be an AbstainPolicy, got a dict"),
    ],
)
def test_arguments_that_do_not_fit(base, rows, tmp_path, kwargs, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        caliber.save_model(base, str(tmp_path / "m"), **{"calibration_data": rows, **kwargs})
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda X, y: (X, y[:-1]), "one label a row, got 199 labels for 200 rows"),
        (lambda X, y: (X.head(0), y[:0]), "at least one row, got none"),
        (lambda X, y: (X, np.where(y == 1, 2, y)), r"must hold the model's classes \(0, 1\), got 2"),
        (lambda X, y: (X, np.zeros_like(y)), "both classes"),
        (lambda X, y: (X.assign(age=None), y), "must score every calibration row, got no score for 200 rows"),
        (lambda X, y: (X, y, np.ones(3)), "one value a row, got 3 values for 200 rows"),
    ],
)
def test_calibration_data_that_cannot_be_used(base, rows, tmp_path, change, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        caliber.save_model(base, str(tmp_path / "m"), calibrator="isotonic", calibration_data=change(*rows))


def test_a_calibrator_that_does_not_fit_the_base(saved, tmp_path):
    binary = make_calibrator("isotonic").fit([0.1, 0.9], [0, 1])
    with pytest.raises(InvalidInputError, match="cannot be saved: it does not fit a base model with 10 classes"):
        caliber.save_model(saved["ten_classes"][0].model, str(tmp_path / "m"), calibrator=binary)


def test_labels_are_counted(base, rows, tmp_path):
    with pytest.raises(UnsupportedModelError, match="has 2 classes, got 3 labels"):
        caliber.save_model(base, str(tmp_path / "m"), calibration_data=rows, classes=["a", "b", "c"])


def test_a_calibrated_model_is_no_base(saved, rows, tmp_path):
    with pytest.raises(UnsupportedModelError, match="must be uncalibrated, got a caliber model"):
        caliber.save_model(str(saved["logistic"][1]), str(tmp_path / "m"), calibration_data=rows)


def test_a_generic_base_cannot_be_saved_from_memory(saved, tmp_path):
    model = caliber.load_model(str(saved["python_model"][1]))
    with pytest.raises(UnsupportedModelError, match="save its base model by URI"):
        caliber.save_model(model, str(tmp_path / "m"))


def test_an_unfitted_caliber_classifier(rows, tmp_path):
    with pytest.raises(InvalidInputError, match="must be fitted before it is saved"):
        caliber.save_model(caliber.CaliberClassifier(), str(tmp_path / "m"))


def test_a_column_that_the_output_does_not_have(saved, rows, tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"must hold the column 'maybe', got \['yes'\]"):
        caliber.save_model(
            saved["python_model"][0].model, str(tmp_path / "m"), calibration_data=rows, proba_column="maybe"
        )


def test_one_class_is_a_one_class_error(base, rows, tmp_path):
    with pytest.raises(OneClassError):
        caliber.save_model(
            base, str(tmp_path / "m"), calibrator="sigmoid", calibration_data=(rows[0], np.ones(200, dtype=int))
        )


def test_vector_scaling_of_ten_classes(tmp_path):
    from sklearn.datasets import load_digits
    from sklearn.naive_bayes import GaussianNB

    digits, labels = load_digits(return_X_y=True)
    base = GaussianNB(var_smoothing=1e-3).fit(digits[:600], labels[:600])
    data = (digits[600:1200], labels[600:1200])
    caliber.save_model(base, str(tmp_path / "m"), calibrator="vector", calibration_data=data)
    model, expected = caliber.load_model(str(tmp_path / "m")), MulticlassCalibrator("vector")
    expected.fit(base.predict_proba(data[0]), data[1])
    new = digits[1200:]
    np.testing.assert_array_equal(model.predict_proba(new), expected.predict(base.predict_proba(new)))

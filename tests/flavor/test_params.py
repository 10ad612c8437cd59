"""What is said at save, at load and with a request: the later word counts."""

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException


@pytest.fixture(scope="module")
def models(data, tmp_path_factory):
    """The same model saved with three output modes."""
    from sklearn.linear_model import LogisticRegression

    import mlflow_caliber as caliber

    folder = tmp_path_factory.mktemp("modes")
    (X0, y0), (X1, y1) = (data.part(k, ("age", "income")) for k in range(2))
    base = LogisticRegression(max_iter=1000).fit(X0, y0)
    for output in ("frame", "label", "proba"):
        caliber.save_model(
            base,
            str(folder / output),
            calibrator="sigmoid",
            calibration_data=(X1, y1),
            policy=caliber.AbstainPolicy(0.8),
            output=output,
        )
    return folder


@pytest.fixture(scope="module")
def rows(data):
    return data.part(2, ("age", "income"))[0]


def load(folder, **config):
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(folder), model_config=config or None)


def kind(answer):
    if isinstance(answer, pd.DataFrame):
        return "frame"
    return "label" if np.ndim(answer) == 1 else "proba"


@pytest.mark.parametrize("saved", ["frame", "label", "proba"])
@pytest.mark.parametrize("loaded", [None, "frame", "label", "proba"])
@pytest.mark.parametrize("asked", [None, "frame", "label", "proba"])
def test_output_of_params_then_load_then_save(models, rows, saved, loaded, asked):
    model = load(models / saved) if loaded is None else load(models / saved, output=loaded)
    answer = model.predict(rows, params=None if asked is None else {"output": asked})
    assert kind(answer) == (asked or loaded or saved)


@pytest.mark.parametrize(
    ("config", "params", "limit"),
    [
        ({}, None, 0.8),
        ({"abstain_threshold": 0.6}, None, 0.6),
        ({"abstain_threshold": 0.6}, {"abstain_threshold": 0.9}, 0.9),
        ({"abstain_threshold": 0.6}, {"abstain_threshold": None}, 0.6),
        ({"abstain_threshold": 0.6}, {"abstain_threshold": 0.0}, 0.0),
        ({}, {"abstain_threshold": 1}, 1.0),
        ({"abstain_threshold": None, "output": None}, None, 0.8),
    ],
)
def test_threshold_of_params_then_load_then_policy(models, rows, config, params, limit):
    frame = load(models / "frame", **config).predict(rows, params=params)
    pd.testing.assert_series_equal(frame["abstained"], frame["confidence"] < limit, check_names=False)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"output": "lables"}, "model_config: output must be one of frame, label, proba, got 'lables'"),
        ({"abstain_threshold": 1.5}, r"model_config: abstain_threshold must be a number in \[0, 1\], got 1.5"),
        ({"abstain_threshold": "0.5"}, r"model_config: abstain_threshold must be a number in \[0, 1\], got '0.5'"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_model_is_loaded(models, config, sentence):
    with pytest.raises(MlflowException, match=sentence) as caught:
        load(models / "frame", **config)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_wrong_param_names_the_nearest(models, rows):
    with pytest.raises(MlflowException, match="Did you mean 'label'"):
        load(models / "frame").predict(rows, params={"output": "labels"})


def test_an_unknown_param_is_dropped_by_mlflow_with_a_warning(models, rows, caplog):
    assert kind(load(models / "frame").predict(rows, params={"abstention": 0.9})) == "frame"
    assert "abstention" in caplog.text


def test_a_wrong_type_is_refused_by_mlflow(models, rows):
    with pytest.raises(MlflowException, match="Invalid parameters found"):
        load(models / "frame").predict(rows, params={"abstain_threshold": "0.9"})


def test_the_signature_says_what_comes_out(models):
    def outputs(name):
        schema = load(models / name).metadata.get_output_schema()
        return schema.input_names() if schema.has_input_names() else len(schema.inputs)

    assert outputs("label") == 1
    assert outputs("proba") == ["0", "1"]
    assert outputs("frame")[:3] == ["prediction", "probability", "raw_probability"]
    params = load(models / "frame").metadata.get_params_schema().params
    assert [(each.name, each.default) for each in params] == [
        ("output", None),
        ("segment", None),
        ("abstain_threshold", None),
    ]


def test_no_rows_give_an_empty_frame_with_types(models, rows):
    model = load(models / "frame")
    empty, full = model.predict(rows.head(0)), model.predict(rows)
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert model.predict(rows.head(0), params={"output": "proba"}).shape == (0, 2)
    assert model.predict(rows.head(0), params={"output": "label"}).shape == (0,)


def test_the_unwrapped_model_is_the_calibrated_one(models, rows):
    import mlflow_caliber as caliber

    model = load(models / "label").get_raw_model()
    assert isinstance(model, caliber.CalibratedModel)
    np.testing.assert_array_equal(model.predict_proba(rows), load(models / "proba").predict(rows))

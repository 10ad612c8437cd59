"""A certified policy goes through a saved model; recalibrating suspends what was promised of the old calibrator."""

import json

import numpy as np
import pytest

import mlflow_caliber as caliber
from mlflow_caliber.flavor._state import read_state

CERTIFIED = caliber.AbstainPolicy.certify(
    [0.8] * 400 + [0.55] * 100, [1] * 390 + [0] * 10 + [0, 1] * 50, max_risk=0.1, predictions_per_day=400
)


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory, isolated):
    from sklearn.linear_model import LogisticRegression

    (X0, y0), (X1, y1) = (data.part(k, ("age", "income")) for k in range(2))
    folder = tmp_path_factory.mktemp("certified") / "model"
    base = LogisticRegression(max_iter=1000).fit(X0, y0)
    caliber.save_model(base, folder, calibrator="sigmoid", calibration_data=(X1, y1), policy=CERTIFIED)
    return folder


def test_a_certificate_is_saved_in_words_of_numbers(saved):
    state = json.loads((saved / "caliber" / "policy.json").read_text())
    assert (state["format_version"], state["certificate"]["granted"]) == (2, True)
    assert read_state(saved, "policy", caliber.AbstainPolicy.from_dict, strict=True) == CERTIFIED


def test_a_served_model_answers_by_it(saved, data):
    import mlflow

    X, _ = data.part(2, ("age", "income"))
    frame = mlflow.pyfunc.load_model(str(saved)).predict(X)
    assert np.array_equal(frame["abstained"], frame["confidence"] < 0.8)


def test_recalibrating_suspends_the_certificate(saved, data):
    X, y = data.part(1, ("age", "income"))
    result = caliber.recalibrate(str(saved), X, y)
    policy = caliber.load_model(result.model_uri).policy
    assert policy.threshold == CERTIFIED.threshold
    assert policy.certificate.suspended == "the calibrator was refitted"
    assert policy.certificate.sentence().startswith(
        "suspended: the calibrator was refitted (it said: error at most 10 %"
    )

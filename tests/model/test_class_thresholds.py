"""Thresholds of predicted classes, and certificates, act when a model answers."""

import numpy as np
import pytest

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.calibrators import make_calibrator
from mlflow_caliber.model import CalibratedModel


class Table:
    """A scorer whose features are its answers."""

    def __init__(self, classes):
        self.classes_ = np.asarray(classes)

    def predict_proba(self, X):
        return np.asarray(X, dtype=float)


P = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
IDENTITY = make_calibrator("identity").fit([0.1, 0.9], [0, 1])


@pytest.mark.parametrize("classes", [["no", "yes"], [0, 1], [False, True]], ids=repr)
def test_thresholds_go_by_the_text_of_the_label(classes):
    policy = AbstainPolicy(class_thresholds={str(classes[0]): 0.5, str(classes[1]): 0.8})
    frame = CalibratedModel(Table(classes), IDENTITY, policy).predict_frame(P)
    assert frame["abstained"].tolist() == [False, False, True, False]
    assert frame["reason"].tolist() == ["", "", "low_confidence", ""]


def test_more_than_two_classes():
    proba = np.array([[0.6, 0.2, 0.2], [0.2, 0.2, 0.6], [0.0, 0.05, 0.95], [0.4, 0.3, 0.3]])
    model = CalibratedModel(Table(["a", "b", "c"]), None, AbstainPolicy(0.5, on_calibrator_error="raw"))
    assert model.predict_frame(proba)["abstained"].tolist() == [False, False, False, True]
    by_class = CalibratedModel(
        Table(["a", "b", "c"]), None, AbstainPolicy(0.5, class_thresholds={"c": 0.9}, on_calibrator_error="raw")
    )
    assert by_class.predict_frame(proba)["abstained"].tolist() == [False, True, False, True]


def test_a_refused_certificate_withholds_all_but_what_the_request_overrides():
    refused = AbstainPolicy.certify([0.9] * 20, [1] * 20, max_risk=0.01)
    model = CalibratedModel(Table([0, 1]), IDENTITY, refused)
    assert model.predict_frame(P)["abstained"].all()
    assert model.predict_frame(P, abstain_threshold=0.7)["abstained"].tolist() == [False, True, True, False]

"""Risk against coverage at its edges; its values are in test_golden.py and test_properties.py."""

import json

import numpy as np
import pytest

from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.metrics import RiskCoverageCurve, augrc, aurc, e_aurc, risk_coverage_curve


@pytest.mark.parametrize("n", [1, 2, 10])
def test_all_wrong_and_all_right(n):
    confidence = np.linspace(0.5, 0.9, n)
    assert aurc(confidence, np.zeros(n)) == pytest.approx(1.0)
    assert augrc(confidence, np.zeros(n)) == pytest.approx(0.5)
    assert e_aurc(confidence, np.zeros(n)) == pytest.approx(0.0, abs=1e-15)
    assert aurc(confidence, np.ones(n)) == augrc(confidence, np.ones(n)) == 0.0


def test_equal_confidences_give_the_error_rate():
    assert aurc([0.8] * 8, [1, 0, 1, 1, 1, 0, 1, 1]) == 0.25


def test_curve_has_a_point_a_confidence():
    curve = risk_coverage_curve([0.6, 0.9, 0.9, 0.7, 0.6], [0, 1, 0, 1, 1])
    assert curve.threshold.tolist() == [0.9, 0.7, 0.6]
    assert curve.coverage.tolist() == [0.4, 0.6, 1.0]
    assert curve.risk == pytest.approx([1 / 2, 1 / 3, 2 / 5])


def test_each_point_is_what_its_threshold_does():
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(200).round(2), rng.integers(0, 2, 200)
    for coverage, risk, threshold in zip(*risk_coverage_curve(confidence, correct).to_dict().values(), strict=True):
        given = confidence >= threshold
        assert coverage == pytest.approx(given.mean())
        assert risk == pytest.approx(1 - correct[given].mean())


def test_downsample_keeps_the_ends_and_spreads_over_coverage():
    rng = np.random.default_rng(1)
    curve = risk_coverage_curve(rng.random(5000), rng.integers(0, 2, 5000))
    thin = curve.downsample(200)
    assert 190 <= len(thin) <= 200
    assert (thin.coverage[0], thin.coverage[-1]) == (curve.coverage[0], 1.0)
    assert np.diff(thin.coverage).max() < 2 / 199
    assert np.isin(thin.threshold, curve.threshold).all()
    assert thin.downsample(200) == thin
    assert len(curve.downsample(2)) == 2


def test_downsample_needs_two_points():
    with pytest.raises(InvalidInputError, match=r"max_points must be a whole number >= 2, got 1\."):
        risk_coverage_curve([0.5, 0.6], [0, 1]).downsample(1)


def test_curve_survives_json():
    curve = risk_coverage_curve([0.6, 0.9, 0.1 + 0.2], [0, 1, 1])
    assert RiskCoverageCurve.from_dict(json.loads(json.dumps(curve.to_dict()))) == curve
    with pytest.raises(StateError, match=r"must have the fields coverage, risk, threshold, got none named 'risk'\."):
        RiskCoverageCurve.from_dict({"coverage": [1.0], "threshold": [0.5]})

"""Proper scores and ranking at their edges; their values are in test_golden.py and test_properties.py."""

import math

import numpy as np
import pytest

from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.metrics import (
    augrc,
    aurc,
    brier_decomposition,
    brier_score,
    e_aurc,
    expected_calibration_error,
    log_loss,
    multiclass_brier_score,
    multiclass_log_loss,
    risk_coverage_curve,
    roc_auc,
    smooth_calibration_error,
)


def test_log_loss_is_finite_where_certainty_is_wrong():
    assert log_loss([0, 1], [1.0, 0.0]) == pytest.approx(-math.log(np.finfo(float).eps))
    perfect = log_loss([0, 1], [0.0, 1.0])
    assert perfect == 0.0
    assert math.copysign(1.0, perfect) == 1.0


def test_roc_auc_needs_both_classes():
    with pytest.raises(OneClassError, match=r"roc_auc needs both classes, got only class 1 in 2 rows\."):
        roc_auc([1, 1], [0.4, 0.6])
    with pytest.raises(OneClassError, match=r"got only class 0 in 1 rows\."):
        roc_auc([0, 1], [0.4, 0.6], sample_weight=[1, 0])


def test_other_metrics_need_one_class_only():
    y, p = [1, 1], [0.5, 1.0]
    assert brier_score(y, p) == 0.125
    assert log_loss(y, p) == pytest.approx(math.log(2) / 2)
    assert expected_calibration_error(y, p, n_bins=1) == 0.25
    assert brier_decomposition(y, p) == (0.125, 0.0, 0.0)


def test_roc_auc_at_its_ends():
    assert roc_auc([0, 0, 1], [0.1, 0.2, 0.3]) == 1.0
    assert roc_auc([1, 0, 0], [0.1, 0.2, 0.3]) == 0.0
    assert roc_auc([1, 0, 0], [0.2, 0.2, 0.2]) == 0.5


def test_a_constant_prevalence_has_only_uncertainty():
    assert brier_decomposition([0, 1, 1, 1], [0.75] * 4) == (0.0, 0.0, 0.1875)


def test_recalibration_wins_back_the_miscalibration():
    """Any increasing change of the probabilities leaves discrimination and uncertainty as they are."""
    rng = np.random.default_rng(0)
    p = rng.random(500)
    y = rng.random(500) < p
    plain, bent = brier_decomposition(y, p), brier_decomposition(y, p**3)
    assert bent[1:] == pytest.approx(plain[1:])
    assert bent.miscalibration > plain.miscalibration


@pytest.mark.parametrize("scale", [1e-300, 1e307])
def test_only_ratios_of_weights_matter(scale):
    rng = np.random.default_rng(0)
    p, w = rng.random(50), rng.random(50)
    y = (rng.random(50) < p).astype(int)
    matrix = np.column_stack((1.0 - p, p))
    for metric, scores in (
        (brier_score, p),
        (log_loss, p),
        (multiclass_brier_score, matrix),
        (multiclass_log_loss, matrix),
    ):
        expected = metric(y, scores, sample_weight=w)
        assert metric(y, scores, sample_weight=w * scale) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", [aurc, e_aurc, augrc, risk_coverage_curve])
def test_weights_that_count_rows_have_an_end(metric):
    with pytest.raises(InvalidInputError, match=r"sample_weight must not exceed 1e\+100, got a maximum of 1e\+308"):
        metric([0.5, 0.7], [0, 1], sample_weight=[1.0, 1e308])


@pytest.mark.parametrize("metric", [smooth_calibration_error, expected_calibration_error, brier_score])
def test_what_a_mask_hides_is_not_read(metric):
    y, p = np.array([0, 1, 1]), np.ma.masked_array([0.1, 0.9, 0.3], mask=[0, 0, 1])
    with pytest.raises(InvalidInputError, match="y_proba must be finite, got 1 NaN or infinite of 3 values"):
        metric(y, p)
    with pytest.raises(InvalidInputError, match="y_true must be finite, got 1 NaN or infinite of 3 values"):
        metric(np.ma.masked_array(y, mask=[0, 1, 0]), p.data)

"""Numbers that say whether probabilities can be trusted, and :data:`METRICS`, the table of what each one means.

Truth first, then the score, as in scikit-learn. Every function is pure: numpy arrays in, a float or a frozen value out.
"""

from __future__ import annotations

from mlflow_caliber.metrics._calibration import expected_calibration_error, expected_calibration_error_upper
from mlflow_caliber.metrics._curves import ReliabilityCurve, reliability_curve
from mlflow_caliber.metrics._multiclass import (
    classwise_calibration_error,
    multiclass_brier_decomposition,
    multiclass_brier_score,
    multiclass_log_loss,
    multiclass_roc_auc,
    top_label_calibration_error,
)
from mlflow_caliber.metrics._ranking import roc_auc
from mlflow_caliber.metrics._registry import METRIC_PREFIX, METRICS, Metric
from mlflow_caliber.metrics._scoring import BrierDecomposition, brier_decomposition, brier_score, log_loss
from mlflow_caliber.metrics._selective import RiskCoverageCurve, augrc, aurc, e_aurc, risk_coverage_curve

__all__ = [
    "METRICS",
    "METRIC_PREFIX",
    "BrierDecomposition",
    "Metric",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "augrc",
    "aurc",
    "brier_decomposition",
    "brier_score",
    "classwise_calibration_error",
    "e_aurc",
    "expected_calibration_error",
    "expected_calibration_error_upper",
    "log_loss",
    "multiclass_brier_decomposition",
    "multiclass_brier_score",
    "multiclass_log_loss",
    "multiclass_roc_auc",
    "reliability_curve",
    "risk_coverage_curve",
    "roc_auc",
    "top_label_calibration_error",
]

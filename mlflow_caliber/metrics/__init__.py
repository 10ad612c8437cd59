"""Numbers that say whether probabilities can be trusted, and :data:`METRICS`, the table of what each one means.

Truth first, then the score, as in scikit-learn. Every function is pure: numpy arrays in, a float or a frozen value out.
"""

from __future__ import annotations

from mlflow_caliber.metrics._calibration import expected_calibration_error, expected_calibration_error_upper
from mlflow_caliber.metrics._corp import CorpCurve, corp_curve
from mlflow_caliber.metrics._curves import ReliabilityCurve, reliability_curve
from mlflow_caliber.metrics._expected import (
    ExpectedPerformance,
    expected_accuracy,
    expected_f1,
    expected_performance,
    expected_precision,
    expected_recall,
    expected_roc_auc,
)
from mlflow_caliber.metrics._intervals import Interval, proportion_interval, proportion_upper_bound
from mlflow_caliber.metrics._multiclass import (
    classwise_calibration_error,
    multiclass_brier_decomposition,
    multiclass_brier_score,
    multiclass_log_loss,
    multiclass_roc_auc,
    multiclass_roc_auc_interval,
    multiclass_roc_auc_variance,
    top_label_calibration_error,
)
from mlflow_caliber.metrics._noise import NullError, calibration_error_null, expected_calibration_error_interval
from mlflow_caliber.metrics._outcomes import Outcomes
from mlflow_caliber.metrics._paired import PairedDifference, PairedMetric, compare_models
from mlflow_caliber.metrics._ranking import roc_auc, roc_auc_interval, roc_auc_variance
from mlflow_caliber.metrics._readings import Measured
from mlflow_caliber.metrics._registry import METRIC_PREFIX, METRICS, Metric
from mlflow_caliber.metrics._score_intervals import multiclass_score_intervals, score_intervals
from mlflow_caliber.metrics._scoring import BrierDecomposition, brier_decomposition, brier_score, log_loss
from mlflow_caliber.metrics._selective import RiskCoverageCurve, augrc, aurc, e_aurc, risk_coverage_curve
from mlflow_caliber.metrics._selective_intervals import selective_intervals
from mlflow_caliber.metrics._smooth import smooth_calibration_error
from mlflow_caliber.metrics._statistics import ScoreStatistics
from mlflow_caliber.metrics._tests import TestResult, calibration_score_test, spiegelhalter_test

__all__ = [
    "METRICS",
    "METRIC_PREFIX",
    "BrierDecomposition",
    "CorpCurve",
    "ExpectedPerformance",
    "Interval",
    "Measured",
    "Metric",
    "NullError",
    "Outcomes",
    "PairedDifference",
    "PairedMetric",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "ScoreStatistics",
    "TestResult",
    "augrc",
    "aurc",
    "brier_decomposition",
    "brier_score",
    "calibration_error_null",
    "calibration_score_test",
    "classwise_calibration_error",
    "compare_models",
    "corp_curve",
    "e_aurc",
    "expected_accuracy",
    "expected_calibration_error",
    "expected_calibration_error_interval",
    "expected_calibration_error_upper",
    "expected_f1",
    "expected_performance",
    "expected_precision",
    "expected_recall",
    "expected_roc_auc",
    "log_loss",
    "multiclass_brier_decomposition",
    "multiclass_brier_score",
    "multiclass_log_loss",
    "multiclass_roc_auc",
    "multiclass_roc_auc_interval",
    "multiclass_roc_auc_variance",
    "multiclass_score_intervals",
    "proportion_interval",
    "proportion_upper_bound",
    "reliability_curve",
    "risk_coverage_curve",
    "roc_auc",
    "roc_auc_interval",
    "roc_auc_variance",
    "score_intervals",
    "selective_intervals",
    "smooth_calibration_error",
    "spiegelhalter_test",
    "top_label_calibration_error",
]

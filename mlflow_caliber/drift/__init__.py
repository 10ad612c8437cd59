"""How far today's data are from the reference: native statistics, always there; Evidently's report on request.

* :func:`drift_report` compares two frames, :func:`drift_from_profile` a frame with the stored :func:`feature_profile`
  of another. Both give one :class:`DriftReport` of :class:`ColumnDrift`.
* :class:`DriftStatistics` are sums over the cells of a profile, which can be added, and give the same report.
* :func:`estimate_performance` says what the probabilities promise about accuracy and AUC before labels have come, and
  whether the promise can be trusted.
* :func:`evidently_report` writes the HTML report of Evidently, which is imported only there.
"""

from mlflow_caliber.drift._evidently import evidently_report
from mlflow_caliber.drift._label_free import PerformanceEstimate, estimate_performance
from mlflow_caliber.drift._methods import METHODS
from mlflow_caliber.drift._native import drift_from_profile, drift_report
from mlflow_caliber.drift._profile import feature_profile
from mlflow_caliber.drift._report import ColumnDrift, DriftReport
from mlflow_caliber.drift._statistics import DriftStatistics

__all__ = [
    "METHODS",
    "ColumnDrift",
    "DriftReport",
    "DriftStatistics",
    "PerformanceEstimate",
    "drift_from_profile",
    "drift_report",
    "estimate_performance",
    "evidently_report",
    "feature_profile",
]

"""One evaluation of class probabilities against outcomes, as a frozen value.

:func:`reliability_report` computes it once from rows, :func:`report_from_statistics` from merged statistics; the
evaluator, the gate, the plots and the HTML page only read it.
"""

from mlflow_caliber.report._compute import reliability_report
from mlflow_caliber.report._from_statistics import report_from_statistics
from mlflow_caliber.report._state import HISTOGRAM_BINS
from mlflow_caliber.report._values import ReliabilityReport, SegmentReport

__all__ = ["HISTOGRAM_BINS", "ReliabilityReport", "SegmentReport", "reliability_report", "report_from_statistics"]

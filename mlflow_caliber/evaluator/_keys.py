"""MLflow metric keys and values of a report."""

from __future__ import annotations

import hashlib
import logging
import math
import re

from mlflow_caliber.drift import DriftReport
from mlflow_caliber.metrics import METRIC_PREFIX
from mlflow_caliber.report import ReliabilityReport, SegmentReport

__all__ = ["MAX_METRICS", "metrics_of"]

MAX_METRICS = 800
"""MLflow takes at most 1000 entities in one batch, and other evaluators of the same run want room too."""

_SEGMENT_KEYS = ("ece", "brier", "log_loss", "roc_auc", "coverage", "selective_risk")
_WORST_KEYS = ("ece", "brier")
_logger = logging.getLogger(__name__)


def metrics_of(report: ReliabilityReport, drift: DriftReport | None = None) -> dict[str, float]:
    """The metrics that an evaluation logs, the headline first.

    Parameters
    ----------
    report : ReliabilityReport
        What was measured.
    drift : DriftReport, optional
        Drift against the reference.

    Returns
    -------
    dict of str to float
        ``caliber_<metric>`` for the headline and ``caliber/...`` for the details. Finite values only; at most
        :data:`MAX_METRICS`, for which details are left out (they all stand in the report) and a line is logged.

    Examples
    --------
    >>> from mlflow_caliber.report import reliability_report
    >>> report = reliability_report([0, 1, 1], [0.2, 0.7, 0.6], segments={"region": ["n", "s", "s"]})
    >>> [key for key in metrics_of(report) if key.endswith("brier")]
    ['caliber_brier', 'caliber/segment/region:n/brier', 'caliber/segment/region:s/brier']
    """
    metrics = {METRIC_PREFIX + key: value for key, value in report.metrics.items()}
    if drift is not None and drift.share is not None:
        metrics[f"{METRIC_PREFIX}drift_share"] = drift.share
    metrics |= _intervals(report)
    if report.raw is not None:
        metrics |= {f"caliber/raw/{key}": value for key, value in report.raw.metrics.items()}
    metrics |= _worst(report)
    for label, values in report.per_class.items():
        metrics |= {f"caliber/class/{_legal(label)}/{key}": value for key, value in values.items()}
    for segment in report.segments:
        metrics |= _segment(segment)
    return _at_most({key: float(value) for key, value in metrics.items() if math.isfinite(value)})


def _intervals(report: ReliabilityReport) -> dict[str, float]:
    ends = {key: interval._asdict() for key, interval in report.intervals.items()}
    return {f"caliber/interval/{key}/{end}": value for key, both in ends.items() for end, value in both.items()}


def _worst(report: ReliabilityReport) -> dict[str, float]:
    worst = {key: report.worst_segment(key) for key in _WORST_KEYS}
    return {f"caliber/segment/worst/{key}": one.metrics[key] for key, one in worst.items() if one is not None}


def _segment(segment: SegmentReport) -> dict[str, float]:
    # The column's own colons are replaced, so that the first colon is where its value begins.
    name = f"{_legal(segment.column, extra='')}:{_legal(segment.value)}"
    values = {key: segment.metrics[key] for key in _SEGMENT_KEYS if key in segment.metrics}
    return {f"caliber/segment/{name}/{key}": value for key, value in {**values, "n": float(segment.n)}.items()}


def _at_most(metrics: dict[str, float]) -> dict[str, float]:
    surplus = len(metrics) - MAX_METRICS
    if surplus <= 0:
        return metrics
    _logger.warning("%d metrics of classes and segments are not logged one by one; the report has them.", surplus)
    return dict(list(metrics.items())[:MAX_METRICS])


def _legal(name: str, *, extra: str = ":") -> str:
    """A part of a metric key: letters, digits, and ``_ - . space``, in one piece and not too long.

    What had to be changed gets a digest of the original: ``a/b`` and ``a_b`` never share a key, and the key of a value
    does not depend on which other values came along.
    """
    legal = re.sub(rf"[^\w\-. {extra}]", "_", name)[:60].strip(". ")
    return (
        legal
        if legal == name and name
        else f"{legal}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"
    )

"""The table of metrics: the one place that knows their names and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

METRIC_PREFIX = "caliber_"
"""What MLflow's key of a metric begins with: ``"caliber_" + key``."""


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes
    ----------
    key : str
        Name in :data:`METRICS` and in a report; MLflow's key is ``METRIC_PREFIX + key``.
    label : str
        Name for people.
    greater_is_better : bool or None
        None: a property of the data, neither good nor bad.
    description : str
        One sentence.

    Examples
    --------
    >>> from mlflow_caliber.metrics import METRIC_PREFIX, METRICS
    >>> METRIC_PREFIX + METRICS["ece"].key, METRICS["ece"].greater_is_better
    ('caliber_ece', False)
    """

    key: str
    label: str
    greater_is_better: bool | None
    description: str


_TABLE = (
    Metric(
        "ece",
        "ECE",
        False,
        "Expected calibration error: mean gap between predicted probability and observed frequency over bins.",
    ),
    Metric(
        "ece_upper",
        "ECE, upper bound",
        False,
        "95% upper confidence bound of the expected calibration error (equal-mass bins).",
    ),
    Metric(
        "ece_null_mean",
        "ECE of perfect calibration, mean",
        None,
        "Noise floor: the ECE that a perfectly calibrated model with these probabilities shows on average.",
    ),
    Metric(
        "ece_null_p95",
        "ECE of perfect calibration, 95%",
        None,
        "Noise floor: a perfectly calibrated model with these probabilities shows a larger ECE once in twenty times.",
    ),
    Metric(
        "ece_l2_debiased",
        "Debiased L2 error",
        False,
        "Root mean squared gap over equal-mass bins less its sampling noise; the sign of the square is kept.",
    ),
    Metric(
        "smooth_ece",
        "Smooth ECE",
        False,
        "Calibration error without bins: residuals smoothed by a kernel whose width is the error itself.",
    ),
    Metric(
        "spiegelhalter_z",
        "Spiegelhalter Z",
        None,
        "Standardised excess of the Brier score over what the probabilities imply; about N(0, 1) if they are right.",
    ),
    Metric(
        "calibration_p",
        "Calibration test, p-value",
        None,
        "Score test of intercept 0 and slope 1 in the logit: chance of so much miscalibration in a calibrated model.",
    ),
    Metric(
        "classwise_ece",
        "Class-wise ECE",
        False,
        "Calibration error of each class against the rest, averaged over more than two classes.",
    ),
    Metric(
        "classwise_ece_max",
        "Class-wise ECE, worst class",
        False,
        "Calibration error of the class, of more than two, whose own probability is farthest off.",
    ),
    Metric("brier", "Brier score", False, "Mean squared gap between probability and outcome; a proper score."),
    Metric("log_loss", "Log loss", False, "Mean of -ln of the probability given to what happened; a proper score."),
    Metric(
        "mcb", "Miscalibration (MCB)", False, "Part of the Brier score that a perfect recalibration would win back."
    ),
    Metric("dsc", "Discrimination (DSC)", True, "Part of the Brier score that the ranking of the rows earns."),
    Metric("unc", "Uncertainty (UNC)", None, "Brier score of always predicting the prevalence: how hard the data are."),
    Metric("roc_auc", "ROC AUC", True, "Chance that a positive scores above a negative, on the raw score."),
    Metric("aurc", "AURC", False, "Area under the risk-coverage curve: mean error rate of the surest k rows, over k."),
    Metric("e_aurc", "Excess AURC", False, "AURC less that of an oracle that ranks every right answer first."),
    Metric("augrc", "AUGRC", False, "Mean share of undetected failures over all abstention thresholds."),
    Metric("coverage", "Coverage", True, "Share of rows that the abstain policy answers."),
    Metric("selective_risk", "Selective risk", False, "Error rate among the rows that the abstain policy answers."),
    Metric("abstain_rate", "Abstain rate", False, "Share of rows that the abstain policy sends to a person."),
    Metric("accuracy", "Accuracy", True, "Share of right answers when none is withheld."),
    Metric("prevalence", "Prevalence", None, "Share of positives among the rows."),
    Metric("drift_share", "Drift share", False, "Share of tested columns that drifted from the reference."),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.key: metric for metric in _TABLE})
"""Every metric of a report by its key."""

"""Two versions on the same rows: the paired difference of a proper score, candidate less champion."""

from __future__ import annotations

import numpy as np

from mlflow_caliber.evidence import Rows
from mlflow_caliber.exceptions import EvidenceError, InvalidInputError
from mlflow_caliber.metrics import PairedDifference, PairedMetric, compare_models

PAIRED_SCORES: dict[str, PairedMetric] = {"brier": "brier", "log_loss": "log_loss"}
"""The metrics that are compared in pairs: proper scores, and means over the rows that the evidence keeps."""


def paired_difference(
    metric: PairedMetric, candidate: Rows, champion: Rows, *, confidence: float, margin: float = 0.0
) -> PairedDifference:
    """Compare two versions row by row; each end of the interval is a one-sided bound of the given confidence.

    Raises
    ------
    EvidenceError
        If the rows of the two are not the same, or if there are fewer than two.
    """
    if candidate.p.shape != champion.p.shape or not np.array_equal(candidate.y, champion.y):
        raise EvidenceError(
            "A paired comparison must have the same rows and classes on both sides, "
            f"got probabilities of shape {candidate.p.shape} and {champion.p.shape}, or labels that differ."
        )
    two_sided = 2.0 * confidence - 1.0
    try:
        return compare_models(
            candidate.y,
            champion.p,
            candidate.p,
            metric=metric,
            confidence=two_sided,
            sample_weight=candidate.weight,
            margin=margin,
        )
    except InvalidInputError as error:
        raise EvidenceError(str(error)) from error

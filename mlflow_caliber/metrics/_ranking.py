"""How well a score ranks positives above negatives."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mlflow_caliber._cells import tie_groups
from mlflow_caliber._validation import check_both_classes, check_scored_labels


def roc_auc(y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting one half.

    A calibrator that makes ties (isotonic) changes this number; a report therefore takes it on the raw score.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 and 1, both present.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 1]; 1 is perfect, 0.5 is chance.

    Raises
    ------
    OneClassError
        When only one class carries weight.
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range.

    References
    ----------
    Hanley and McNeil (1982), "The meaning and use of the area under a ROC curve", Radiology.

    Examples
    --------
    >>> from mlflow_caliber.metrics import roc_auc
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    y, p, weights = check_scored_labels(y_true, y_proba, sample_weight)
    check_both_classes(y, weights, "roc_auc")
    groups = tie_groups(y, p, weights)
    negative = groups.weight - groups.positive
    beaten = np.cumsum(negative) - negative / 2.0
    return float(groups.positive @ beaten / (groups.positive.sum() * negative.sum()))

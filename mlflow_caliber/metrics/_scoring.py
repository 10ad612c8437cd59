"""Proper scores, and the Brier score taken apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mlflow_caliber._cells import weighted_rows
from mlflow_caliber._pava import Pools, pool
from mlflow_caliber._validation import FloatArray, check_counted_labels, check_scored_labels

# scikit-learn's choice, so that the numbers agree; the largest loss of a row is 36.04.
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


def brier_score(y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    r"""Brier score: the mean squared gap :math:`(p - y)^2` between probability and outcome.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 1]; lower is better.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range.

    References
    ----------
    Brier (1950), "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review.

    Examples
    --------
    >>> from mlflow_caliber.metrics import brier_score
    >>> brier_score([0, 1, 1], [0.1, 0.6, 1.0])
    0.05667
    """
    y, p, weights = check_scored_labels(y_true, y_proba, sample_weight)
    return weighted_mean((p - y) ** 2, weights)


def log_loss(y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    r"""Logarithmic loss in nats: the mean of :math:`-\ln` of the probability given to what happened.

    That probability is taken as at least 2.2e-16 (the spacing of floating-point numbers at 1, as in scikit-learn), so
    one certain and wrong row costs 36.04 nats, not infinity.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 36.05]; lower is better.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range.

    References
    ----------
    Good (1952), "Rational Decisions", Journal of the Royal Statistical Society B.

    Examples
    --------
    >>> from mlflow_caliber.metrics import log_loss
    >>> log_loss([0, 1], [0.5, 0.5])
    0.6931
    >>> log_loss([0], [1.0])
    36.04
    """
    y, p, weights = check_scored_labels(y_true, y_proba, sample_weight)
    return mean_surprise(np.where(y == 1.0, p, 1.0 - p), weights)


def weighted_mean(values: FloatArray, weights: FloatArray | None) -> float:
    """The mean over rows; only the ratios of weights matter, so that sums of great ones do not overflow."""
    return float(np.average(values, weights=None if weights is None else weights / weights.max()))


def mean_surprise(probability_of_outcome: FloatArray, weights: FloatArray | None) -> float:
    """Mean of -ln p, clipped as :func:`log_loss` says."""
    clipped = np.maximum(probability_of_outcome, SMALLEST_PROBABILITY)
    # (0.0 - x, not -x: a perfect score is 0, not -0.)
    return 0.0 - weighted_mean(np.log(clipped), weights)


class BrierDecomposition(NamedTuple):
    """The parts of a Brier score: ``brier_score = miscalibration - discrimination + uncertainty``."""

    miscalibration: float
    discrimination: float
    uncertainty: float


def brier_decomposition(
    y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> BrierDecomposition:
    r"""CORP decomposition of the Brier score, without bins: miscalibration, discrimination, uncertainty.

    With `r` the isotonic regression of the outcomes on the probabilities and `S` the Brier score:
    miscalibration (MCB) = `S(p) - S(r)`, what recalibration would win; discrimination (DSC) = `S(mean y) - S(r)`, what
    the ranking is worth; uncertainty (UNC) = `S(mean y)`, the difficulty of the data. ``S(p) = MCB - DSC + UNC``.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1; one class alone is fine.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    BrierDecomposition
        Three numbers >= 0. MCB: lower is better, biased upward on few rows. DSC: higher is better. UNC: at most 1/4, a
        property of the data.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range.

    References
    ----------
    Dimitriadis, Gneiting and Jordan (2021), "Stable reliability diagrams for probabilistic classifiers", PNAS.

    Examples
    --------
    >>> from mlflow_caliber.metrics import brier_decomposition
    >>> brier_decomposition([0, 1, 0, 1], [0.2, 0.4, 0.4, 0.9])
    BrierDecomposition(miscalibration=0.0175, discrimination=0.125, uncertainty=0.25)
    """
    rows = weighted_rows(*check_counted_labels(y_true, y_proba, sample_weight))
    brier = float(np.average((rows.score - rows.y) ** 2, weights=rows.weight))
    return decomposition_of(pool(rows.score, rows.y, rows.weight), brier)


def decomposition_of(pools: Pools, brier: float) -> BrierDecomposition:
    """The parts of a Brier score, given the isotonic regression of its rows."""
    share = pools.weight / pools.weight.sum()
    prevalence = float(share @ pools.value)
    uncertainty = prevalence * (1.0 - prevalence)
    # S(mean y) - S(r), written as the variance it is: outcomes average to r within each pool.
    discrimination = float(share @ (pools.value - prevalence) ** 2)
    return BrierDecomposition(max(brier + discrimination - uncertainty, 0.0), discrimination, uncertainty)

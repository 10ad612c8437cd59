"""Tests of calibration: could every outcome have been drawn with its probability."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mlflow_caliber._validation import FloatArray, check_scored_labels

# Where the logit of a probability is held for the slope; it bounds what one certain and wrong row can say.
_CLIP = 1e-6
# Logits that spread less than this about their mean are one logit, and rounding.
_SPREAD = 1e-6


class TestResult(NamedTuple):
    """A test statistic and the chance of one as extreme when the hypothesis holds."""

    statistic: float
    p_value: float


TestResult.__test__ = False  # type: ignore[attr-defined]  # not a class of tests, whatever pytest makes of its name


def spiegelhalter_test(y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> TestResult:
    r"""Spiegelhalter's test of whether the Brier score is what it would be if the probabilities were true.

    .. math:: Z = \frac{\sum_i (y_i - p_i)(1 - 2 p_i)}{\sqrt{\sum_i (1 - 2 p_i)^2 p_i (1 - p_i)}}

    is about N(0, 1) if every `y` is drawn with its `p`. :math:`Z > 0`: the score is worse than promised, as with
    over-confident probabilities; :math:`Z < 0`: better than promised. Errors that cancel around 1/2 (all probabilities
    too high, say, when they lie evenly on both sides) leave `Z` where it is; :func:`calibration_score_test` sees them.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1; for the winning class of many, whether it was right.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1]; for the winning class of many, its probability.
    sample_weight : array-like of shape (n,), optional
        Weights in the sums. A weight is not more evidence: the variance takes their squares, so the test keeps its
        size under any weights and their scale changes nothing.

    Returns
    -------
    TestResult
        `Z`, and its two-sided normal p-value.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range.

    Notes
    -----
    Probabilities are taken as they are. A `p` of exactly 0 or 1 has no variance: kept, it adds nothing; broken, it adds
    one to the numerator. If no row has any variance (all are 0, 1 or 1/2), the result is ``(0, 1)`` when every promise
    was kept and ``(inf, 0)`` when one was broken.

    References
    ----------
    Spiegelhalter (1986), "Probabilistic prediction in patient management and clinical trials", Statistics in Medicine.

    Examples
    --------
    >>> from mlflow_caliber.metrics import spiegelhalter_test
    >>> spiegelhalter_test([0, 1, 0, 1] * 25, [0.2, 0.8, 0.3, 0.6] * 25)  # better than promised
    TestResult(statistic=-5.53, p_value=3.24e-08)
    """
    return spiegelhalter_of(*_gaps(y_true, y_proba, sample_weight))


def spiegelhalter_of(p: FloatArray, gap: FloatArray, weight_sq: FloatArray | float) -> TestResult:
    """The test of rows, or of cells of rows of one probability: their sums of w (y - p) and of squared weights."""
    tilt = 1.0 - 2.0 * p
    z = _standardised(float(tilt @ gap), float((tilt * tilt * weight_sq) @ (p * (1.0 - p))))
    return TestResult(z, 2.0 * float(special.ndtr(-abs(z))))


def calibration_score_test(
    y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> TestResult:
    r"""Score test of intercept 0 and slope 1 in the logistic regression of the outcome on the logit of `p`.

    .. math:: U^\top I^{-1} U \sim \chi^2_2, \qquad
       U = \sum_i (y_i - p_i) \binom{1}{z_i}, \quad
       I = \sum_i p_i (1 - p_i) \binom{1}{z_i} (1 \; z_i), \quad z_i = \ln \frac{p_i}{1 - p_i}

    It looks in the two directions in which calibration drifts: all probabilities too high or too low (intercept), and
    all too extreme or too timid (slope). Nothing is fitted, so it cannot fail to converge.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1; for the winning class of many, whether it was right.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1]; for the winning class of many, its probability.
    sample_weight : array-like of shape (n,), optional
        Weights in `U`, and their squares in `I`, which is then still the variance of `U`: the test keeps its size under
        any weights and their scale changes nothing.

    Returns
    -------
    TestResult
        The statistic, not negative, and its p-value. Where all probabilities are one, there is no slope to test: the
        p-value is that of the intercept, with one degree of freedom.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range.

    Notes
    -----
    Probabilities are taken as they are, but `z` is held within ±13.8 (the logit of 1e-6), which leaves the test its
    size. A `p` of exactly 0 or 1 has no variance: kept, it adds nothing; broken, it adds to `U`. If every `p` is 0 or 1
    the result is ``(0, 1)`` when every promise was kept and ``(inf, 0)`` when one was broken.

    References
    ----------
    Cox (1958), "Two Further Applications of a Model for Binary Regression", Biometrika.

    Examples
    --------
    >>> from mlflow_caliber.metrics import calibration_score_test
    >>> calibration_score_test([0, 1, 1, 0, 1] * 4, [0.1, 0.6, 0.5, 0.2, 0.4] * 4)  # too low, and too timid
    TestResult(statistic=11.3, p_value=0.00357)
    """
    return score_test_of(*_gaps(y_true, y_proba, sample_weight))


def score_test_of(p: FloatArray, gap: FloatArray, weight_sq: FloatArray | float) -> TestResult:
    """The test of rows or cells, as in :func:`spiegelhalter_of`."""
    return _two_directions(gap, weight_sq * p * (1.0 - p), special.logit(np.clip(p, _CLIP, 1.0 - _CLIP)))


def _gaps(
    y_true: ArrayLike, y_proba: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray | float]:
    """Probabilities, w (y - p) and squared weights, which are relative to the greatest and so cannot overflow."""
    y, p, weights = check_scored_labels(y_true, y_proba, sample_weight)
    if weights is None:
        return p, y - p, 1.0
    relative = weights / weights.max()
    return p, relative * (y - p), relative**2


def _two_directions(gap: FloatArray, variance: FloatArray, z: FloatArray) -> TestResult:
    """Intercept and slope one by one: with logits centred, the information matrix is diagonal."""
    information = float(variance.sum())
    if information > 0.0:
        z = z - float(variance @ z) / information
    spread = float(variance @ (z * z))
    intercept = _standardised(float(gap.sum()), information)
    if spread <= _SPREAD**2 * information:
        return TestResult(intercept * intercept, 2.0 * float(special.ndtr(-abs(intercept))))
    slope = float(gap @ z)
    statistic = intercept * intercept + slope * slope / spread  # (not **: too large a square is infinite, no error)
    return TestResult(statistic, float(np.exp(-statistic / 2.0)))


def _standardised(value: float, variance: float) -> float:
    if variance > 0.0:
        return value / math.sqrt(variance)
    return 0.0 if value == 0.0 else math.copysign(math.inf, value)

"""How far predicted probabilities are from observed frequencies: the expected calibration error and its upper bound."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mlflow_caliber._cells import Bins, bins_of, equal_width_gaps
from mlflow_caliber._validation import (
    FloatArray,
    check_choice,
    check_count,
    check_counted_labels,
    check_scored_chunks,
    check_unit_interval,
)
from mlflow_caliber.exceptions import InvalidInputError

Strategy = Literal["quantile", "uniform"]
Norm = Literal["l1", "l2", "max"]

STRATEGIES = ("quantile", "uniform")
NORMS = ("l1", "l2", "max")


def checked_bins(
    y_true: ArrayLike, y_proba: ArrayLike, sample_weight: ArrayLike | None, n_bins: int, strategy: str
) -> Bins:
    """The non-empty bins of arguments that nobody has checked yet."""
    y, p, weights = check_counted_labels(y_true, y_proba, sample_weight)
    check_choice(strategy, "strategy", STRATEGIES)
    return bins_of(y, p, weights, check_count(n_bins, "n_bins"), strategy)


def expected_calibration_error(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: int = 10,
    strategy: Strategy = "quantile",
    norm: Norm = "l1",
    debias: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Expected calibration error: the gap between predicted probability and observed frequency, averaged over bins.

    With :math:`w_b` the share of bin `b`, :math:`\bar p_b` its mean probability and :math:`\bar y_b` its frequency of
    positives, the error is :math:`\sum_b w_b |\bar p_b - \bar y_b|` (``l1``),
    :math:`\sqrt{\sum_b w_b (\bar p_b - \bar y_b)^2}` (``l2``) or :math:`\max_b |\bar p_b - \bar y_b|` (``max``).
    It is about the positive class; for the winning class of many see :func:`top_label_calibration_error`.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1]. Both 0 and 1 are counted.
    n_bins : int, default=10
        Bins wanted; empty ones do not count.
    strategy : {"quantile", "uniform"}, default="quantile"
        ``quantile``: bins of about equal weight. Rows of one probability stay together, in the bin that holds the
        middle of their weight, so there can be fewer bins than wanted. ``uniform``: bins ``[k/n_bins, (k+1)/n_bins)``,
        the last one closed.
    norm : {"l1", "l2", "max"}, default="l1"
        How gaps are averaged.
    debias : bool, default=False
        Take off what sampling noise alone adds: the plug-in value is biased upward, by about .1 at 100 rows for a
        perfectly calibrated model. ``l2`` subtracts :math:`\bar y_b(1-\bar y_b)/(n_b-1)` from each squared gap; the
        result can be negative, and the root keeps that sign. ``l1`` returns :math:`2 E - E^*`, where :math:`E^*` is the
        error expected after adding normal noise of variance :math:`\bar y_b(1-\bar y_b)/n_b` to each gap once more;
        it, too, can be negative. Not defined for ``max``.
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows; weight 0 as none. For `debias`, :math:`n_b` is Kish's effective
        number of rows, so that a weight is not mistaken for more evidence.

    Returns
    -------
    float
        In [0, 1] without `debias`; 0 is perfect.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range, an unknown option, or ``max`` with
        `debias`.

    References
    ----------
    Naeini, Cooper and Hauskrecht (2015), "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI.
    Kumar, Liang and Ma (2019), "Verified Uncertainty Calibration", NeurIPS (both debiased forms).
    Kish (1965), "Survey Sampling" (effective number of rows).

    Examples
    --------
    >>> from mlflow_caliber.metrics import expected_calibration_error
    >>> expected_calibration_error([0, 0, 1, 1], [0.1, 0.4, 0.6, 1.0], n_bins=2)
    0.225
    >>> expected_calibration_error([0, 0], [1.0, 1.0])  # p = 1 is counted
    1.0
    """
    check_choice(norm, "norm", NORMS)
    if debias and norm == "max":
        raise InvalidInputError("debias must be False with norm='max' (no debiased form is known), got True.")
    if strategy == "uniform" and norm == "l1" and not debias:
        gaps, weight = equal_width_gaps(
            check_scored_chunks(y_true, y_proba, sample_weight), check_count(n_bins, "n_bins")
        )
        return float(np.abs(gaps).sum() / weight)
    return error_of_bins(checked_bins(y_true, y_proba, sample_weight, n_bins, strategy), norm, debias=debias)


def error_of_bins(bins: Bins, norm: Norm, *, debias: bool) -> float:
    """The error of bins that are there; see :func:`expected_calibration_error`."""
    gap = bins.mean_predicted - bins.mean_observed
    if norm == "max":
        return float(np.abs(gap).max())
    if norm == "l1":
        return _l1(gap, bins, debias=debias)
    return _l2(gap, bins, debias=debias)


def _l1(gap: FloatArray, bins: Bins, *, debias: bool) -> float:
    plug_in = float(bins.share @ np.abs(gap))
    if not debias:
        return plug_in
    noisy = bins.share @ _mean_absolute_normal(gap, np.sqrt(_variance(bins) / bins.effective_rows))
    return 2.0 * plug_in - float(noisy)


def _l2(gap: FloatArray, bins: Bins, *, debias: bool) -> float:
    squares = gap**2
    if debias:
        # A bin of one row has no variance to estimate (and y(1-y) = 0): its square stays as it is.
        spare = bins.effective_rows - 1.0
        squares -= np.divide(_variance(bins), spare, out=np.zeros_like(spare), where=spare > 1e-12)
    square = float(bins.share @ squares)
    return float(np.copysign(np.sqrt(abs(square)), square))


def _variance(bins: Bins) -> FloatArray:
    return bins.mean_observed * (1.0 - bins.mean_observed)


def _mean_absolute_normal(mean: FloatArray, sd: FloatArray) -> FloatArray:
    """E|N(mean, sd^2)|, the mean of the folded normal distribution; |mean| where sd is 0."""
    # Beyond 40 standard deviations the two terms are 0 and |mean| anyhow; squares must not overflow.
    z = np.clip(np.divide(mean, sd, out=np.zeros_like(mean), where=sd > 0.0), -40.0, 40.0)
    folded = sd * np.sqrt(2.0 / np.pi) * np.exp(-(z**2) / 2.0) + mean * special.erf(z / np.sqrt(2.0))
    return np.where(sd > 0.0, folded, np.abs(mean))


def expected_calibration_error_upper(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: int = 10,
    alpha: float = 0.05,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Upper confidence bound of the expected calibration error over equal-mass bins.

    .. math:: ECE + z_{1-\alpha} \sqrt{\sum_b w_b^2\, \tilde y_b (1 - \tilde y_b) / n_b},
       \qquad \tilde y_b = (k_b + 1) / (n_b + 2)

    with :math:`k_b` positives among the :math:`n_b` rows of bin `b`. The plug-in error never lies below the truth on
    average (Jensen's inequality), so its upper bound may be taken around the plug-in value: the bound holds, for large
    `n`, whatever the signs of the gaps, and it shrinks toward the error as rows come in.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    n_bins : int, default=10
        Equal-mass bins wanted; see :func:`expected_calibration_error`.
    alpha : float, default=0.05
        Chance, in (0, 1), that the error of the binned probabilities lies above the bound.
    sample_weight : array-like of shape (n,), optional
        Weights in every mean; :math:`n_b` is then Kish's effective number of rows.

    Returns
    -------
    float
        For `alpha` below one half not below the plug-in error; on a handful of rows it can exceed 1.

    Raises
    ------
    InvalidInputError
        For unusable arrays, `n_bins` or `alpha`.

    References
    ----------
    Kumar, Liang and Ma (2019), "Verified Uncertainty Calibration", NeurIPS (bias of the plug-in error).
    Agresti and Coull (1998), "Approximate Is Better than 'Exact'", The American Statistician (why the frequency is
    shrunk before its variance is taken).

    Examples
    --------
    >>> from mlflow_caliber.metrics import expected_calibration_error_upper
    >>> expected_calibration_error_upper([0, 0, 1, 1] * 100, [0.1, 0.4, 0.6, 1.0] * 100, n_bins=2)
    0.2308
    """
    z = float(special.ndtri(1.0 - check_unit_interval(alpha, "alpha", open_ends=True)))
    return upper_bound_of_bins(checked_bins(y_true, y_proba, sample_weight, n_bins, "quantile"), z)


def upper_bound_of_bins(bins: Bins, z: float) -> float:
    """The error of bins that are there and `z` standard errors; see :func:`expected_calibration_error_upper`."""
    n = bins.effective_rows
    shrunk = (n * bins.mean_observed + 1.0) / (n + 2.0)
    variance = bins.share**2 @ (shrunk * (1.0 - shrunk) / n)
    return _l1(bins.mean_predicted - bins.mean_observed, bins, debias=False) + z * float(np.sqrt(variance))

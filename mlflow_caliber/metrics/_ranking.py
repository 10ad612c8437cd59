"""How well a score ranks positives above negatives."""

from __future__ import annotations

from numpy.typing import ArrayLike

from mlflow_caliber._validation import check_both_classes, check_scored_labels, check_unit_interval
from mlflow_caliber.metrics._delong import Ranking, auc_interval, rank
from mlflow_caliber.metrics._intervals import Interval


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

    See Also
    --------
    roc_auc_interval : How sure it is.

    References
    ----------
    Hanley and McNeil (1982), "The meaning and use of the area under a ROC curve", Radiology.

    Examples
    --------
    >>> from mlflow_caliber.metrics import roc_auc
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    return _ranking(y_true, y_proba, sample_weight, "roc_auc").auc


def roc_auc_variance(y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    r"""Sampling variance of :func:`roc_auc`, by DeLong, DeLong and Clarke-Pearson.

    .. math:: \frac{1}{m(m-1)} \sum_{y_i=1} (V_i - A)^2 + \frac{1}{n(n-1)} \sum_{y_j=0} (V_j - A)^2

    with :math:`A` the AUC of `m` positives and `n` negatives, and :math:`V` a row's placement: the share of the other
    class that it is ranked right against. Placements come from ranks, so the cost is that of a sort.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 and 1, both present.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    sample_weight : array-like of shape (n,), optional
        Weights in every mean. A weight is not more evidence: a row of weight `k` varies as the one observation that it
        is, so the mean over a class has variance :math:`\sum w_i^2 (V_i - A)^2 / (\sum w_i)^2`, times
        :math:`m/(m-1)` with `m` Kish's effective number of rows. The scale of the weights changes nothing.

    Returns
    -------
    float
        Not negative. 0 where every pair is in order, however few the rows: see :func:`roc_auc_interval`. A class of
        one row is given the most that its placement can vary, :math:`A(1-A)`.

    Raises
    ------
    OneClassError
        When only one class carries weight.
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves: A Nonparametric Approach", Biometrics.
    Sun and Xu (2014), "Fast Implementation of DeLong's Algorithm", IEEE Signal Processing Letters (from ranks).
    Kish (1965), "Survey Sampling" (effective number of rows).

    Examples
    --------
    >>> from mlflow_caliber.metrics import roc_auc_variance
    >>> roc_auc_variance([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.125
    """
    return _ranking(y_true, y_proba, sample_weight, "roc_auc_variance").variance


def roc_auc_interval(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    confidence: float = 0.95,
    sample_weight: ArrayLike | None = None,
) -> Interval:
    r"""Confidence interval of :func:`roc_auc`, from DeLong's variance.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 and 1, both present.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    confidence : float, default=0.95
        Level of the two-sided interval, in (0, 1).
    sample_weight : array-like of shape (n,), optional
        Weights, as for :func:`roc_auc_variance`.

    Returns
    -------
    Interval
        Ends in [0, 1] around the AUC.

    Raises
    ------
    OneClassError
        When only one class carries weight.
    InvalidInputError
        For unusable arrays or an unusable level.

    Notes
    -----
    The interval is normal on the scale of :math:`\ln(A / (1 - A))`: the plain one leaves [0, 1] and covers 83 % where
    it claims 95 % (AUC .95, 20 rows of each class). Few rows of a class often all rank alike and look surer than they
    are, so each class is counted as if one more row of it, whose placement is all or nothing, were still to come:
    :math:`A(1-A)/(m(m+1))` and :math:`A(1-A)/(n(n+1))` are added to the variance. Where every pair is in order the
    variance is 0 and the interval exact: :math:`\min(m, n)` disjoint pairs are as many trials, all of them successes.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves: A Nonparametric Approach", Biometrics.
    Qin and Hotilovac (2008), "Comparison of non-parametric confidence intervals for the area under the ROC curve of a
    continuous-scale diagnostic test", Statistical Methods in Medical Research (the logit scale).

    Examples
    --------
    >>> from mlflow_caliber.metrics import roc_auc_interval
    >>> roc_auc_interval([0, 0, 1, 1] * 50, [0.1, 0.4, 0.35, 0.8] * 50)
    Interval(low=0.673, high=0.814)
    >>> roc_auc_interval([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.8])  # two rows of each class prove little
    Interval(low=0.158, high=1.0)
    """
    check_unit_interval(confidence, "confidence", open_ends=True)
    return interval_of_ranking(_ranking(y_true, y_proba, sample_weight, "roc_auc_interval"), confidence)


def interval_of_ranking(ranking: Ranking, confidence: float) -> Interval:
    """The interval of two classes along a score; see :func:`roc_auc_interval`."""
    return auc_interval(ranking.auc, ranking.variance + ranking.unseen_variance, ranking.pairs, confidence)


def _ranking(y_true: ArrayLike, y_proba: ArrayLike, sample_weight: ArrayLike | None, what: str) -> Ranking:
    y, p, weights = check_scored_labels(y_true, y_proba, sample_weight)
    check_both_classes(y, weights, what)
    return rank(y, p, weights)

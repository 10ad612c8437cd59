"""More than two classes: the same questions, asked of the winning class or of each class in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber._validation import (
    FloatArray,
    check_both_classes,
    check_label_indices,
    check_probability_matrix,
    check_same_length,
    check_unit_interval,
    check_weights,
)
from mlflow_caliber.metrics._calibration import expected_calibration_error
from mlflow_caliber.metrics._delong import MacroRanking, auc_interval, macro_ranking
from mlflow_caliber.metrics._intervals import Interval
from mlflow_caliber.metrics._ranking import roc_auc
from mlflow_caliber.metrics._scoring import BrierDecomposition, brier_decomposition, mean_surprise, weighted_mean


def top_label_calibration_error(y_true: ArrayLike, y_proba: ArrayLike, **kwargs: Any) -> float:
    """Expected calibration error of the winning class: its probability against whether it was right.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Class indices 0 to K-1.
    y_proba : array-like of shape (n, K)
        Class probabilities; rows sum to 1. Of equal ones the first class wins.
    **kwargs
        `n_bins`, `strategy`, `norm`, `debias`, `sample_weight` of :func:`expected_calibration_error`.

    Returns
    -------
    float
        In [0, 1] without `debias`; 0 is perfect.

    Raises
    ------
    InvalidInputError
        For indices or probabilities that cannot be used, or an unknown option.

    References
    ----------
    Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML.

    Examples
    --------
    >>> from mlflow_caliber.metrics import top_label_calibration_error
    >>> top_label_calibration_error([0, 2], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    0.25
    """
    y, proba = _check_classes(y_true, y_proba)
    return expected_calibration_error(y == proba.argmax(axis=1), proba.max(axis=1), **kwargs)


def classwise_calibration_error(y_true: ArrayLike, y_proba: ArrayLike, **kwargs: Any) -> FloatArray:
    """Expected calibration error of each class against the rest.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Class indices 0 to K-1.
    y_proba : array-like of shape (n, K)
        Class probabilities; rows sum to 1.
    **kwargs
        `n_bins`, `strategy`, `norm`, `debias`, `sample_weight` of :func:`expected_calibration_error`.

    Returns
    -------
    ndarray of shape (K,)
        One error a class; their mean is the class-wise calibration error of the literature.

    Raises
    ------
    InvalidInputError
        For indices or probabilities that cannot be used, or an unknown option.

    References
    ----------
    Kull et al. (2019), "Beyond temperature scaling", NeurIPS.

    Examples
    --------
    >>> from mlflow_caliber.metrics import classwise_calibration_error
    >>> classwise_calibration_error([0, 2], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    array([0.2 , 0.15, 0.15])
    """
    y, proba = _check_classes(y_true, y_proba)
    return np.array([expected_calibration_error(truth, p, **kwargs) for truth, p in _one_versus_rest(y, proba)])


def multiclass_brier_score(y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Brier score summed over classes, as in Brier's paper and in scikit-learn: twice the binary one when K = 2.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Class indices 0 to K-1.
    y_proba : array-like of shape (n, K)
        Class probabilities; rows sum to 1.
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 2]; lower is better.

    Raises
    ------
    InvalidInputError
        For indices, probabilities or weights that cannot be used.

    References
    ----------
    Brier (1950), "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review.

    Examples
    --------
    >>> from mlflow_caliber.metrics import multiclass_brier_score
    >>> multiclass_brier_score([0, 2], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    0.1
    """
    y, proba = _check_classes(y_true, y_proba)
    weights = check_weights(sample_weight, y.size)
    squares = np.square(proba - np.eye(proba.shape[1])[y]).sum(axis=1)
    return weighted_mean(squares, weights)


def multiclass_log_loss(y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Logarithmic loss in nats: the mean of -ln of the probability of the true class, clipped as in :func:`log_loss`.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Class indices 0 to K-1.
    y_proba : array-like of shape (n, K)
        Class probabilities; rows sum to 1.
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 36.05]; lower is better.

    Raises
    ------
    InvalidInputError
        For indices, probabilities or weights that cannot be used.

    References
    ----------
    Good (1952), "Rational Decisions", Journal of the Royal Statistical Society B.

    Examples
    --------
    >>> from mlflow_caliber.metrics import multiclass_log_loss
    >>> multiclass_log_loss([0, 2], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    0.2899
    """
    y, proba = _check_classes(y_true, y_proba)
    return mean_surprise(proba[np.arange(y.size), y], check_weights(sample_weight, y.size))


def multiclass_roc_auc(y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Mean over classes (macro) of the area under the ROC curve of each class against the rest.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Class indices 0 to K-1, every class present.
    y_proba : array-like of shape (n, K)
        Class probabilities; rows sum to 1.
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 1]; 1 is perfect, 0.5 is chance.

    Raises
    ------
    OneClassError
        When a class has no row that carries weight.
    InvalidInputError
        For indices, probabilities or weights that cannot be used.

    References
    ----------
    Provost and Domingos (2001), "Well-Trained PETs: Improving Probability Estimation Trees".

    Examples
    --------
    >>> from mlflow_caliber.metrics import multiclass_roc_auc
    >>> multiclass_roc_auc([0, 1, 2], [[0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.1, 0.4, 0.5]])
    0.8333
    """
    y, proba = _check_classes(y_true, y_proba)
    return float(np.mean([roc_auc(truth, p, sample_weight=sample_weight) for truth, p in _one_versus_rest(y, proba)]))


def multiclass_roc_auc_interval(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    confidence: float = 0.95,
    sample_weight: ArrayLike | None = None,
) -> Interval:
    """Confidence interval of :func:`multiclass_roc_auc`.

    A row takes part in every class's AUC, in its own as a positive and in the others' as a negative. Its contributions
    to the errors of all of them are added before they are squared, so the dependence between classes is accounted for.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Class indices 0 to K-1, every class present.
    y_proba : array-like of shape (n, K)
        Class probabilities; rows sum to 1.
    confidence : float, default=0.95
        Level of the two-sided interval, in (0, 1).
    sample_weight : array-like of shape (n,), optional
        Weights, as for :func:`roc_auc_variance`.

    Returns
    -------
    Interval
        Ends in [0, 1] around the AUC; with two classes that of :func:`roc_auc_interval`.

    Raises
    ------
    OneClassError
        When a class has no row that carries weight.
    InvalidInputError
        For unusable arrays or an unusable level.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves: A Nonparametric Approach", Biometrics.

    Examples
    --------
    >>> from mlflow_caliber.metrics import multiclass_roc_auc_interval
    >>> multiclass_roc_auc_interval([0, 1, 2] * 30, [[0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.1, 0.4, 0.5]] * 30)
    Interval(low=0.784, high=0.873)
    """
    check_unit_interval(confidence, "confidence", open_ends=True)
    macro = _macro(y_true, y_proba, sample_weight, "multiclass_roc_auc_interval")
    return auc_interval(macro.auc, macro.variance + macro.unseen_variance, macro.pairs, confidence)


def multiclass_roc_auc_variance(
    y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Sampling variance of :func:`multiclass_roc_auc`, as :func:`multiclass_roc_auc_interval` describes it.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Class indices 0 to K-1, every class present.
    y_proba : array-like of shape (n, K)
        Class probabilities; rows sum to 1.
    sample_weight : array-like of shape (n,), optional
        Weights, as for :func:`roc_auc_variance`.

    Returns
    -------
    float
        Not negative; with two classes that of :func:`roc_auc_variance`.

    Raises
    ------
    OneClassError
        When a class has no row that carries weight.
    InvalidInputError
        For arrays that cannot be used.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves: A Nonparametric Approach", Biometrics.

    Examples
    --------
    >>> from mlflow_caliber.metrics import multiclass_roc_auc_variance
    >>> multiclass_roc_auc_variance([0, 1, 2] * 30, [[0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.1, 0.4, 0.5]] * 30)
    0.000471
    """
    return _macro(y_true, y_proba, sample_weight, "multiclass_roc_auc_variance").variance


def multiclass_brier_decomposition(
    y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> BrierDecomposition:
    """CORP decomposition of each class against the rest, summed over classes.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Class indices 0 to K-1.
    y_proba : array-like of shape (n, K)
        Class probabilities; rows sum to 1.
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    BrierDecomposition
        ``multiclass_brier_score = miscalibration - discrimination + uncertainty``.

    Raises
    ------
    InvalidInputError
        For indices, probabilities or weights that cannot be used.

    References
    ----------
    Dimitriadis, Gneiting and Jordan (2021), "Stable reliability diagrams for probabilistic classifiers", PNAS.

    Examples
    --------
    >>> from mlflow_caliber.metrics import multiclass_brier_decomposition
    >>> multiclass_brier_decomposition([0, 2], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    BrierDecomposition(miscalibration=0.1, discrimination=0.5, uncertainty=0.5)
    """
    y, proba = _check_classes(y_true, y_proba)
    parts = [brier_decomposition(truth, p, sample_weight=sample_weight) for truth, p in _one_versus_rest(y, proba)]
    return BrierDecomposition(*(float(sum(part)) for part in zip(*parts, strict=True)))


def _check_classes(y_true: ArrayLike, y_proba: ArrayLike) -> tuple[NDArray[np.intp], FloatArray]:
    proba = check_probability_matrix(y_proba)
    y = check_label_indices(y_true, proba.shape[1])
    check_same_length(y_true=y, y_proba=proba)
    return y, proba


def _one_versus_rest(y: NDArray[np.intp], proba: FloatArray) -> Iterator[tuple[NDArray[np.bool_], FloatArray]]:
    return ((y == k, p) for k, p in enumerate(proba.T))


def _macro(y_true: ArrayLike, y_proba: ArrayLike, sample_weight: ArrayLike | None, what: str) -> MacroRanking:
    y, proba = _check_classes(y_true, y_proba)
    weights = check_weights(sample_weight, y.size)
    truth = np.eye(proba.shape[1])[y]
    for of_class in truth.T:
        check_both_classes(of_class, weights, what)
    return macro_ranking(truth, proba, weights)

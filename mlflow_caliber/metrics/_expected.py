"""What a model scores if its probabilities are true: no label is needed.

Each function is the value that its labelled counterpart takes on average when every outcome is drawn with its
probability. It says nothing about whether the probabilities are true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mlflow_caliber._validation import (
    FloatArray,
    check_probabilities,
    check_scores,
    check_unit_interval,
    check_weights,
)
from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.metrics._delong import (
    ClassMass,
    MacroRanking,
    Ranking,
    auc_interval,
    macro_ranking,
    rank_rows,
    relative,
)
from mlflow_caliber.metrics._intervals import Interval, proportion_interval


@dataclass(frozen=True, kw_only=True)
class ExpectedPerformance:
    """What a model scores if its probabilities are true; see :func:`expected_performance`.

    Attributes
    ----------
    n : int
        Rows that carry weight.
    accuracy : float
        As :func:`expected_accuracy`.
    accuracy_interval : Interval
        Around it.
    f1 : float or None
        As :func:`expected_f1`; None with more than two classes, and where no row is predicted or can be positive.
    roc_auc : float or None
        As :func:`expected_roc_auc`; None where the probabilities leave only one class possible.
    roc_auc_interval : Interval or None
        Around it.
    confidence : float
        Level of the intervals.
    """

    n: int
    accuracy: float
    accuracy_interval: Interval
    f1: float | None
    roc_auc: float | None
    roc_auc_interval: Interval | None
    confidence: float


def expected_performance(
    y_proba: ArrayLike,
    *,
    y_score: ArrayLike | None = None,
    threshold: float = 0.5,
    confidence: float = 0.95,
    sample_weight: ArrayLike | None = None,
) -> ExpectedPerformance:
    """Accuracy, F1 and ROC AUC that are to be expected if the probabilities are true, with intervals.

    The intervals say where the accuracy and the AUC of *labelled* rows like these are to be expected. They allow for
    the draw of the rows and of their outcomes, so they are as wide as they would be if the labels were there. They hold
    the value that these rows will turn out to have at least as often as `confidence` says, and the value in the
    population, which the draw of outcomes does not touch, nearly always.

    Parameters
    ----------
    y_proba : array-like of shape (n,) or (n, K)
        Probability of class 1, in [0, 1]; or of every class. Two columns are read as binary: column 1 is class 1.
    y_score : array-like of the shape of `y_proba`, optional
        The scores that rank the rows for the AUC, as for :func:`expected_roc_auc`.
    threshold : float, default=0.5
        Class 1 is predicted above it, in [0, 1]. Of more than two classes the most probable one is predicted.
    confidence : float, default=0.95
        Level of the two-sided intervals, in (0, 1).
    sample_weight : array-like of shape (n,), optional
        Weights in every mean. A weight is not more evidence: intervals count Kish's effective number of rows.

    Returns
    -------
    ExpectedPerformance
        The values with their intervals.

    Raises
    ------
    InvalidInputError
        For arguments that cannot be used.

    Notes
    -----
    A row drawn anew is right with chance :func:`expected_accuracy`, so the interval of the accuracy is Clopper and
    Pearson's of a proportion. That of the AUC is the interval of :func:`roc_auc_interval`, with DeLong's variance of
    rows that belong to both classes in proportion to their probability.

    References
    ----------
    Clopper and Pearson (1934), "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial",
    Biometrika.
    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves: A Nonparametric Approach", Biometrics.

    Examples
    --------
    >>> from mlflow_caliber.metrics import expected_performance
    >>> expected = expected_performance([0.1, 0.4, 0.35, 0.8] * 50)
    >>> expected.accuracy, expected.accuracy_interval
    (0.7375, Interval(low=0.671, high=0.797))
    >>> expected.roc_auc, expected.roc_auc_interval
    (0.779, Interval(low=0.708, high=0.836))
    """
    level = check_unit_interval(confidence, "confidence", open_ends=True)
    cut = check_unit_interval(threshold, "threshold")
    proba, scores, weights = _checked(y_proba, y_score, sample_weight)
    counts = _confusion(proba, cut, weights) if proba.ndim == 1 else None
    accuracy = _winning(proba, weights) if counts is None else counts.accuracy
    n = _effective_rows(weights, len(proba))
    promise = _promise(proba, scores, weights)
    return ExpectedPerformance(
        n=len(proba) if weights is None else int((weights > 0.0).sum()),
        accuracy=accuracy,
        accuracy_interval=proportion_interval(accuracy * n, n, confidence=level),
        f1=None if counts is None else counts.f1,
        roc_auc=None if promise is None else promise.auc,
        roc_auc_interval=None if promise is None else promise.interval(level),
        confidence=level,
    )


def expected_roc_auc(
    y_proba: ArrayLike, *, y_score: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> float:
    r"""The area under the ROC curve that is to be expected if the probabilities are true.

    .. math:: \frac{\sum_{i \ne j} p_i (1 - p_j) \left([s_i > s_j] + \tfrac12 [s_i = s_j]\right)}
       {\sum_{i \ne j} p_i (1 - p_j)}

    the expected number of pairs in order over the expected number of pairs, ties counting one half. It is found by
    sorting, not from pairs.

    Parameters
    ----------
    y_proba : array-like of shape (n,) or (n, K)
        Probability of class 1, in [0, 1]; or of every class, for the mean over classes of each against the rest.
    y_score : array-like of the shape of `y_proba`, optional
        The scores `s` that rank the rows, in [0, 1]; by default `y_proba` itself. Where the probabilities come from a
        calibrator that makes ties (isotonic), give the raw scores, as for :func:`roc_auc`.
    sample_weight : array-like of shape (n,), optional
        A pair counts as the product of its weights. A row is not paired with itself, nor with the copies of itself that
        its weight stands for: they share its outcome.

    Returns
    -------
    float
        In [0, 1]; with `y_score` left out, not below 1/2.

    Raises
    ------
    OneClassError
        When the probabilities leave no pair of different classes possible: one row, or all 0, or all 1.
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range.

    Examples
    --------
    >>> from mlflow_caliber.metrics import expected_roc_auc
    >>> expected_roc_auc([0.1, 0.4, 0.35, 0.8])
    0.8402
    """
    promise = _promise(*_checked(y_proba, y_score, sample_weight))
    if promise is None:
        n = len(np.asarray(y_proba))
        raise OneClassError(f"expected_roc_auc needs two rows that can be of different classes, got none in {n}.")
    return promise.auc


def expected_accuracy(y_proba: ArrayLike, *, threshold: float = 0.5, sample_weight: ArrayLike | None = None) -> float:
    """The share of right answers that is to be expected if the probabilities are true.

    Parameters
    ----------
    y_proba : array-like of shape (n,) or (n, K)
        Probability of class 1, in [0, 1]; or of every class.
    threshold : float, default=0.5
        Class 1 is predicted above it, in [0, 1]. Of more than two classes the most probable one is predicted.
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InvalidInputError
        For probabilities, weights or a threshold that cannot be used.

    Examples
    --------
    >>> from mlflow_caliber.metrics import expected_accuracy
    >>> expected_accuracy([0.1, 0.4, 0.35, 0.8])
    0.7375
    >>> expected_accuracy([[0.7, 0.2, 0.1], [0.1, 0.4, 0.5]])
    0.6
    """
    proba = check_probabilities(y_proba)
    cut = check_unit_interval(threshold, "threshold")
    weights = check_weights(sample_weight, len(proba))
    return _winning(proba, weights) if proba.ndim == 2 else _confusion(proba, cut, weights).accuracy


def expected_precision(y_proba: ArrayLike, *, threshold: float = 0.5, sample_weight: ArrayLike | None = None) -> float:
    """The share of positives among the rows predicted positive that is to be expected if the probabilities are true.

    Parameters
    ----------
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    threshold : float, default=0.5
        Class 1 is predicted above it, in [0, 1].
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InvalidInputError
        For arguments that cannot be used, or when no row lies above the threshold.

    Examples
    --------
    >>> from mlflow_caliber.metrics import expected_precision
    >>> expected_precision([0.1, 0.4, 0.6, 0.8])
    0.7
    """
    return _defined(
        _counts(y_proba, threshold, sample_weight).precision, "expected_precision needs a row above the threshold"
    )


def expected_recall(y_proba: ArrayLike, *, threshold: float = 0.5, sample_weight: ArrayLike | None = None) -> float:
    """The expected number of positives above the threshold over that of all positives, if the probabilities are true.

    Parameters
    ----------
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    threshold : float, default=0.5
        Class 1 is predicted above it, in [0, 1].
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InvalidInputError
        For arguments that cannot be used, or when no row can be positive.

    Examples
    --------
    >>> from mlflow_caliber.metrics import expected_recall
    >>> expected_recall([0.1, 0.4, 0.6, 0.8])
    0.7368
    """
    return _defined(
        _counts(y_proba, threshold, sample_weight).recall, "expected_recall needs a row that can be positive"
    )


def expected_f1(y_proba: ArrayLike, *, threshold: float = 0.5, sample_weight: ArrayLike | None = None) -> float:
    """F1 score of the expected counts, if the probabilities are true: 2 TP / (2 TP + FP + FN).

    Parameters
    ----------
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    threshold : float, default=0.5
        Class 1 is predicted above it, in [0, 1].
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InvalidInputError
        For arguments that cannot be used, or when no row is predicted or can be positive.

    Examples
    --------
    >>> from mlflow_caliber.metrics import expected_f1
    >>> expected_f1([0.1, 0.4, 0.6, 0.8])
    0.7179
    """
    need = "expected_f1 needs a row that is predicted or can be positive"
    return _defined(_counts(y_proba, threshold, sample_weight).f1, need)


class _Confusion(NamedTuple):
    """Expected weights of the four cells, relative to the greatest weight of a row."""

    true_positive: float
    false_positive: float
    false_negative: float
    true_negative: float

    @property
    def accuracy(self) -> float:
        return min((self.true_positive + self.true_negative) / sum(self), 1.0)

    @property
    def precision(self) -> float | None:
        return _share(self.true_positive, self.false_positive)

    @property
    def recall(self) -> float | None:
        return _share(self.true_positive, self.false_negative)

    @property
    def f1(self) -> float | None:
        return _share(2.0 * self.true_positive, self.false_positive + self.false_negative)


def _share(part: float, rest: float) -> float | None:
    return part / (part + rest) if part + rest > 0.0 else None


def _defined(value: float | None, need: str) -> float:
    if value is None:
        raise InvalidInputError(f"{need}, got none.")
    return value


def _counts(y_proba: ArrayLike, threshold: float, sample_weight: ArrayLike | None) -> _Confusion:
    p = check_scores(y_proba)
    return _confusion(p, check_unit_interval(threshold, "threshold"), check_weights(sample_weight, p.size))


def _confusion(p: FloatArray, threshold: float, weights: FloatArray | None) -> _Confusion:
    predicted = p > threshold
    chance = p if weights is None else p * relative(weights, p.size)
    total = float(p.size) if weights is None else float(relative(weights, p.size).sum())
    above = float(predicted.sum() if weights is None else relative(weights, p.size) @ predicted)
    positive, hit = float(chance.sum()), float(chance @ predicted)
    return _Confusion(hit, max(above - hit, 0.0), max(positive - hit, 0.0), max(total - above - (positive - hit), 0.0))


def _winning(proba: FloatArray, weights: FloatArray | None) -> float:
    return min(float(np.average(proba.max(axis=1), weights=weights)), 1.0)


def _effective_rows(weights: FloatArray | None, n: int) -> float:
    w = relative(weights, n)
    return float(n) if weights is None else float(w.sum() ** 2 / (w @ w))


def _checked(
    y_proba: ArrayLike, y_score: ArrayLike | None, sample_weight: ArrayLike | None
) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
    proba = check_probabilities(y_proba)
    weights = check_weights(sample_weight, len(proba))
    if y_score is None:
        return proba, None, weights
    scores = check_probabilities(y_score, "y_score")
    if scores.shape != proba.shape:
        raise InvalidInputError(f"y_score must have the shape of y_proba, got {scores.shape} for {proba.shape}.")
    return proba, scores, weights


class _Promise(NamedTuple):
    """The expected AUC, and the ranking that it comes from."""

    auc: float
    ranking: Ranking | MacroRanking

    def interval(self, confidence: float) -> Interval:
        variance = self.ranking.variance + self.ranking.unseen_variance
        return auc_interval(self.auc, variance, self.ranking.pairs, confidence)


def _promise(proba: FloatArray, scores: FloatArray | None, weights: FloatArray | None) -> _Promise | None:
    """None where no pair of different classes is possible, in any class."""
    if proba.ndim == 1:
        ranking = _ranking(proba, scores, weights)
        auc = _without_self_pairs(ranking, proba, weights)
        return None if auc is None else _Promise(auc, ranking)
    macro = macro_ranking(proba, proba if scores is None else scores, weights)
    aucs = [_without_self_pairs(one, p, weights) for one, p in zip(macro.rankings, proba.T, strict=True)]
    defined = [auc for auc in aucs if auc is not None]
    return _Promise(float(np.mean(defined)), macro) if len(defined) == len(aucs) else None


def _ranking(p: FloatArray, scores: FloatArray | None, weights: FloatArray | None) -> Ranking:
    """Each row in both classes, in proportion to its probability."""
    if scores is not None or weights is not None:
        return rank_rows(p, p if scores is None else scores, weights)[0]
    value = np.sort(p)
    rows: FloatArray | float = 1.0
    tied = value[1:] == value[:-1]
    if tied.any():
        starts = np.flatnonzero(np.append(True, ~tied))
        value, rows = value[starts], np.diff(starts, append=p.size).astype(np.float64)
    positive, negative = rows * value, rows * (1.0 - value)
    return Ranking(ClassMass(negative, negative), ClassMass(positive, positive))


def _without_self_pairs(ranking: Ranking, p: FloatArray, weights: FloatArray | None) -> float | None:
    """The AUC over pairs of different rows; in the ranking's, a row is also tied with itself."""
    w = 1.0 if weights is None else relative(weights, p.size)
    itself = float((w * p) @ (w * (1.0 - p)))
    pairs = ranking.positive.total * ranking.negative.total
    if pairs - itself <= 1e-12 * pairs:
        return None
    return min(max((ranking.auc * pairs - itself / 2.0) / (pairs - itself), 0.0), 1.0)

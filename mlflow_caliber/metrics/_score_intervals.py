"""Confidence intervals of proper scores and of the parts of the Brier score, by linearisation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mlflow_caliber._cells import Cells, weighted_rows
from mlflow_caliber._pava import Locator, pool
from mlflow_caliber._validation import (
    FloatArray,
    check_counted_labels,
    check_label_indices,
    check_probability_matrix,
    check_same_length,
    check_unit_interval,
    check_weights,
)
from mlflow_caliber.metrics._corp import null_miscalibration, null_miscalibration_of
from mlflow_caliber.metrics._intervals import Interval, proportion_interval
from mlflow_caliber.metrics._scoring import SMALLEST_PROBABILITY

_NULL_DRAWS = 200
# So that no interval of equal values misses their mean.
_ROUNDING = 1e-12
_GREATEST_SURPRISE = -math.log(SMALLEST_PROBABILITY)


def score_intervals(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    confidence: float = 0.95,
    sample_weight: ArrayLike | None = None,
    random_state: int = 0,
) -> dict[str, Interval]:
    r"""Confidence intervals of the Brier score, the log loss and the three parts of the Brier score.

    Each is a mean over rows: of :math:`(p - y)^2`, of the surprise, of :math:`(p - y)^2 - (r - y)^2` (miscalibration)
    and of :math:`(\bar y - y)^2 - (r - y)^2` (discrimination), `r` being the isotonic regression that
    :func:`brier_decomposition` fits. The interval is the mean with Student's `t` quantile times its standard error. For
    the uncertainty :math:`\bar y (1 - \bar y)` it is what that function makes of Clopper and Pearson's interval of
    :math:`\bar y`.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1; one class alone is fine.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    confidence : float, default=0.95
        Level of each two-sided interval, in (0, 1).
    sample_weight : array-like of shape (n,), optional
        Weights in every mean; the error is that of a ratio of weighted sums, and degrees of freedom count Kish's
        effective number of rows.
    random_state : int, default=0
        Seed of the labels drawn for the bias of `mcb` and `dsc`.

    Returns
    -------
    dict of str to Interval
        Keys ``brier``, ``log_loss``, ``mcb``, ``dsc`` and ``unc``. Each interval lies in its metric's range and holds
        the metric's value; one row tells nothing, and gives the whole range.

    Raises
    ------
    InvalidInputError
        For unusable arrays or an unusable level.

    Notes
    -----
    To the variance of the Brier score and of the log loss one row of each class is added, with the mean probabilities:
    as in :func:`expected_calibration_error_upper`, what was not seen is not known not to be.

    Two things are approximate for `mcb` and `dsc`. The regression is held fixed, though it was fitted to the same rows.
    And since it was, both are too large on average: their lower ends also give up the mean miscalibration of a
    calibrated model with these probabilities (200 sets of labels), and that of `mcb` is 0 unless it exceeds the
    :math:`1-\alpha/2` quantile of these. The upper ends give up nothing. Nor are means of few rows normal: with fewer
    than about 20 rows of the rarer class take these intervals as rough.

    References
    ----------
    Dimitriadis, Gneiting and Jordan (2021), "Stable reliability diagrams for probabilistic classifiers", PNAS.
    Särndal, Swensson and Wretman (1992), "Model Assisted Survey Sampling", section 5.5 (linearisation).

    Examples
    --------
    >>> from mlflow_caliber.metrics import score_intervals
    >>> intervals = score_intervals([0, 0, 1, 1] * 50, [0.1, 0.4, 0.6, 0.9] * 50)
    >>> intervals["brier"]
    Interval(low=0.0743, high=0.0957)
    >>> intervals["unc"]
    Interval(low=0.2449, high=0.25)
    """
    level = check_unit_interval(confidence, "confidence", open_ends=True)
    y, p, weight = weighted_rows(*check_counted_labels(y_true, y_proba, sample_weight))
    null = null_miscalibration(p, weight, _NULL_DRAWS, np.random.default_rng(random_state))
    return _of_two(y, p, _Mean.of(weight, None if weight is None else weight**2, y.size, level), null)


def intervals_of_cells(cells: Cells, confidence: float, random_state: int) -> dict[str, Interval]:
    """The intervals of rows that are cells already; rows of one cell and label are alike."""
    null = null_miscalibration_of(cells, _NULL_DRAWS, np.random.default_rng(random_state))
    weight = np.concatenate([cells.weight - cells.positive, cells.positive])
    weight_sq = np.concatenate([cells.weight_sq - cells.positive_sq, cells.positive_sq])
    there = weight > 0.0
    y, p = np.repeat([0.0, 1.0], cells.value.size)[there], np.tile(cells.value, 2)[there]
    return _of_two(y, p, _Mean.of(weight[there], weight_sq[there], y.size, confidence), null)


def _of_two(y: NDArray[Any], p: FloatArray, mean: _Mean, null: FloatArray) -> dict[str, Interval]:
    found = _of_scores([(y, p)], np.abs(1.0 - y - p), mean, null, greatest=(1.0, 0.25))
    return {**found, "unc": _binary_uncertainty(mean.value(y), mean.effective_rows, mean.confidence)}


def multiclass_score_intervals(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    confidence: float = 0.95,
    sample_weight: ArrayLike | None = None,
    random_state: int = 0,
) -> dict[str, Interval]:
    r"""The same of more than two classes: the Brier score and its parts are summed over classes, row by row.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Class indices 0 to K-1.
    y_proba : array-like of shape (n, K)
        Class probabilities; rows sum to 1.
    confidence : float, default=0.95
        Level of each two-sided interval, in (0, 1).
    sample_weight : array-like of shape (n,), optional
        Weights, as in :func:`score_intervals`.
    random_state : int, default=0
        Seed of the labels drawn for the bias of `mcb` and `dsc`.

    Returns
    -------
    dict of str to Interval
        Keys ``brier``, ``log_loss``, ``mcb``, ``dsc`` and ``unc``; see :func:`score_intervals`.

    Raises
    ------
    InvalidInputError
        For unusable indices, probabilities, weights or an unusable level.

    Notes
    -----
    The uncertainty :math:`\sum_k \bar y_k (1 - \bar y_k)` is a mean, too, to first order. Its error of second order,
    :math:`\sum_k (\bar y_k - \pi_k)^2`, is all there is where classes are about equally frequent; the interval is
    widened by a bound of it, :math:`\chi^2_{K-1} \max_k \bar y_k / n`.

    References
    ----------
    See :func:`score_intervals`.

    Examples
    --------
    >>> from mlflow_caliber.metrics import multiclass_score_intervals
    >>> proba = [[0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.1, 0.4, 0.5]] * 50
    >>> multiclass_score_intervals([0, 1, 2] * 50, proba)["brier"]
    Interval(low=0.3932, high=0.4735)
    """
    level = check_unit_interval(confidence, "confidence", open_ends=True)
    proba = check_probability_matrix(y_proba)
    y = check_label_indices(y_true, proba.shape[1])
    check_same_length(y_true=y, y_proba=proba)
    weights = check_weights(sample_weight, y.size)
    number, _, weight = weighted_rows(np.arange(y.size), proba[:, 0], weights)
    y, proba = y[number], proba[number]
    mean = _Mean.of(weight, None if weight is None else weight**2, y.size, level)
    classes = [(y == k, p) for k, p in enumerate(proba.T)]
    evenest = 1.0 - 1.0 / len(classes)
    rng = np.random.default_rng(random_state)
    null = np.sum([null_miscalibration(p, weight, _NULL_DRAWS, rng) for p in proba.T], axis=0)
    found = _of_scores(classes, proba[np.arange(y.size), y], mean, null, greatest=(2.0, evenest))
    share = np.array([mean.value(truth) for truth, _ in classes])
    # A row of class k: (1 - share_k)^2 and the squares of the other shares.
    unlike = 1.0 - 2.0 * share[y] + float(share @ share)
    second_order = float(special.chdtri(share.size - 1, 1.0 - level) * share.max() / mean.effective_rows)
    return {**found, "unc": mean.interval(unlike, second_order, second_order, greatest=evenest)}


class _Mean(NamedTuple):
    """How rows are averaged, and the level of an interval with its Student quantile.

    A value may stand for several rows: then ``weight`` is the sum of theirs, and ``weight_sq`` that of their squares.
    """

    weight: FloatArray | None
    weight_sq: FloatArray | None
    effective_rows: float
    t: float
    confidence: float

    @classmethod
    def of(cls, weight: FloatArray | None, weight_sq: FloatArray | None, n: int, confidence: float) -> _Mean:
        effective = n if weight is None or weight_sq is None else weight.sum() ** 2 / weight_sq.sum()
        spare, upper = float(effective) - 1.0, (1.0 + confidence) / 2.0
        t = float(special.stdtrit(spare, upper)) if spare > 0.0 else math.inf
        return cls(weight, weight_sq, float(effective), t, confidence)

    def value(self, values: NDArray[Any]) -> float:
        return float(np.average(values, weights=self.weight))

    def interval(
        self,
        values: FloatArray,
        off_low: float = 0.0,
        off_high: float = 0.0,
        *,
        greatest: float,
        unseen: ArrayLike = (),
    ) -> Interval:
        """Around the mean, each end moved outward by so much, in [0, greatest]; the variance takes in unseen values."""
        if self.effective_rows <= 1.0:
            return Interval(0.0, greatest)
        mean = self.value(values)
        added = (np.asarray(unseen) - mean) / self.effective_rows
        variance = self._variance(values - mean) + float(added @ added)
        variance *= self.effective_rows / (self.effective_rows - 1.0)
        margin = self.t * math.sqrt(variance) + _ROUNDING
        return Interval(max(mean - margin - off_low, 0.0), min(mean + margin + off_high, greatest))

    def _variance(self, error: FloatArray) -> float:
        if self.weight is None or self.weight_sq is None:
            return float(error @ error) / error.size**2
        return float(self.weight_sq @ (error / self.weight.sum()) ** 2)


def _of_scores(
    classes: list[tuple[NDArray[Any], FloatArray]],
    of_outcome: FloatArray,
    mean: _Mean,
    null: FloatArray,
    *,
    greatest: tuple[float, float],
) -> dict[str, Interval]:
    """All but the uncertainty, from each class's labels and probabilities and from the probability of what happened.

    ``null`` are miscalibrations of calibrated models with these probabilities, ``greatest`` are the greatest Brier
    score and uncertainty there can be.
    """
    brier, mcb, dsc = (sum(parts) for parts in zip(*(_parts(y, p, mean) for y, p in classes), strict=True))
    bias = float(null.mean())
    of_mcb = mean.interval(mcb, bias, greatest=greatest[0])
    if mean.value(mcb) <= np.quantile(null, (1.0 + mean.confidence) / 2.0):
        of_mcb = of_mcb._replace(low=0.0)
    likely = [mean.value(p) for _, p in classes]
    one_each = np.array(likely if len(likely) > 1 else [1.0 - likely[0], *likely])
    of_one_each = (1.0 - 2.0 * one_each + one_each @ one_each) * greatest[0] / 2.0
    return {
        "brier": mean.interval(brier, greatest=greatest[0], unseen=of_one_each),
        "log_loss": mean.interval(_surprise(of_outcome), greatest=_GREATEST_SURPRISE, unseen=_surprise(one_each)),
        "mcb": of_mcb,
        "dsc": mean.interval(dsc, bias, greatest=greatest[1]),
    }


def _surprise(probability: FloatArray) -> FloatArray:
    surprise: FloatArray = -np.log(np.maximum(probability, SMALLEST_PROBABILITY))
    return surprise


def _parts(y: NDArray[Any], p: FloatArray, mean: _Mean) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What each row adds to the Brier score, to its miscalibration and to its discrimination."""
    pools = pool(p, y, mean.weight)
    recalibrated = pools.value[Locator(pools.first, p.size)(p) - 1]
    of_p, of_recalibrated, of_mean = ((x - y) ** 2 for x in (p, recalibrated, mean.value(y)))
    return of_p, of_p - of_recalibrated, of_mean - of_recalibrated


def _binary_uncertainty(prevalence: float, n: float, confidence: float) -> Interval:
    """What prevalence * (1 - prevalence) makes of the prevalence's interval: it rises up to one half, then falls."""
    ends = proportion_interval(min(prevalence * n, n), n, confidence=confidence)
    nearest_half = min(max(0.5, ends.low), ends.high)
    return Interval(min(end * (1.0 - end) for end in ends), nearest_half * (1.0 - nearest_half))

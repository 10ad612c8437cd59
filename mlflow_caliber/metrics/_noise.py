"""What sampling noise does to the calibration error: its confidence interval, and its floor for a calibrated model."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber._cells import BinSums, bin_sums
from mlflow_caliber._validation import (
    FloatArray,
    check_choice,
    check_count,
    check_counted_labels,
    check_scores,
    check_unit_interval,
    check_weights,
)
from mlflow_caliber.metrics._calibration import STRATEGIES, Strategy
from mlflow_caliber.metrics._intervals import Interval

FEWEST_RESAMPLES = 50

# A bin's gap of a calibrated model, normal with standard deviation s, adds E|gap| = s sqrt(2/pi) to the error; with the
# noise of a resample on top it adds sqrt(2) times that. So of the bias the resamples show only sqrt(2) - 1.
_BIAS_PER_RESAMPLED_BIAS = 1.0 / (math.sqrt(2.0) - 1.0)

# Up to so many draws labels are drawn row by row.
_MOST_LABELS = 500_000


class NullError(NamedTuple):
    """The calibration error that a perfectly calibrated model shows: its mean and its 95th percentile."""

    mean: float
    p95: float


def expected_calibration_error_interval(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: int = 10,
    strategy: Strategy = "quantile",
    confidence: float = 0.95,
    n_resamples: int = 1000,
    sample_weight: ArrayLike | None = None,
    random_state: int = 0,
) -> Interval:
    r"""Confidence interval of the expected calibration error, for calibrated and for miscalibrated models alike.

    The error is a mean of absolute values, which noise can only raise. So the percentile interval of the bootstrap
    lies above 0 for every calibrated model, and the "basic" bootstrap, its mirror image, lies too low. Here resamples
    give the spread alone. With :math:`E` the error, :math:`\bar E` the mean of its resampled values and :math:`q` their
    quantiles, the interval is

    .. math:: \left[ E - \frac{\bar E - E}{\sqrt 2 - 1} - (\bar E - q_{\alpha/2}),\; E + (q_{1-\alpha/2} - \bar E)
       \right]

    cut to [0, 1]. Nothing is taken off its upper end, since :math:`E` is not below the truth on average. Its lower end
    gives up the bias that noise adds, scaled so that it is right on average for a calibrated model, which has the most;
    far from calibration it vanishes. And the lower end is 0 unless :math:`E` exceeds the :math:`1-\alpha/2` quantile
    of what a calibrated model shows (:func:`calibration_error_null`).

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    n_bins : int, default=10
        Bins wanted; see :func:`expected_calibration_error`.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of about equal weight or of equal width. They stay where they are in each resample.
    confidence : float, default=0.95
        Level of the two-sided interval, in (0, 1).
    n_resamples : int, default=1000
        Resamples, at least 50. They cost the same for any number of rows: rows are drawn bin by bin and label by
        label, and the sum of the probabilities of the rows drawn as a normal number.
    sample_weight : array-like of shape (n,), optional
        Weights in every mean; a bin's noise is that of Kish's effective number of rows.
    random_state : int, default=0
        Seed of the resamples.

    Returns
    -------
    Interval
        Around the error, in [0, 1].

    Raises
    ------
    InvalidInputError
        For unusable arrays or options.

    Notes
    -----
    It is about the error *in these bins*: where the gap changes sign inside a bin, the error without bins is larger.
    Frequencies are drawn from :math:`(k_b + 1)/(n_b + 2)`, as in :func:`expected_calibration_error_upper`: a bin
    without positives is not known to be free of them.

    References
    ----------
    Kumar, Liang and Ma (2019), "Verified Uncertainty Calibration", NeurIPS (bias of the plug-in error).
    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapters 13 and 14.

    Examples
    --------
    >>> from mlflow_caliber.metrics import expected_calibration_error_interval
    >>> expected_calibration_error_interval([0, 0, 1, 1] * 100, [0.1, 0.4, 0.6, 1.0] * 100, n_bins=2)
    Interval(low=0.2073, high=0.2430)
    """
    level = check_unit_interval(confidence, "confidence", open_ends=True)
    resamples = check_count(n_resamples, "n_resamples", minimum=FEWEST_RESAMPLES)
    check_choice(strategy, "strategy", STRATEGIES)
    y, p, weights = check_counted_labels(y_true, y_proba, sample_weight)
    sums = bin_sums(y, p, weights, check_count(n_bins, "n_bins"), strategy)
    return binned_error_interval(sums, level, resamples, random_state)


def binned_error_interval(sums: BinSums, confidence: float, n_resamples: int, random_state: int) -> Interval:
    """The interval from what bins hold; see :func:`expected_calibration_error_interval`."""
    rng = np.random.default_rng(random_state)
    tail = (1.0 - confidence) / 2.0
    error = float(np.abs(_gaps(sums)).sum() / sums.weight.sum())
    drawn = _resampled_errors(sums, n_resamples, rng)
    mean = float(drawn.mean())
    # (At low levels of confidence the mean of a skewed distribution may lie beyond its quantile.)
    below, above = np.maximum((np.quantile(drawn, (tail, 1.0 - tail)) - mean) * (-1.0, 1.0), 0.0)
    low = error - _BIAS_PER_RESAMPLED_BIAS * max(mean - error, 0.0) - float(below)
    if error <= np.quantile(_null_errors(sums, n_resamples, rng), 1.0 - tail):
        low = 0.0
    return Interval(max(low, 0.0), min(error + float(above), 1.0))


def _gaps(sums: BinSums) -> FloatArray:
    """Sum of w (p - y) in each bin."""
    gaps: FloatArray = sums.predicted.sum(axis=1) - sums.weight[:, 1]
    return gaps


def _resampled_errors(sums: BinSums, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Errors of resampled rows: how many of each bin and label, then the noise of their probabilities."""
    units = _units(sums)
    share = units.rows / units.rows.sum()
    n = max(round(float(units.rows.sum())), 1)
    drawn = rng.multinomial(n, share.ravel(), n_resamples).reshape(n_resamples, *share.shape)
    noise = rng.standard_normal(drawn.shape) * np.sqrt(drawn) * units.spread
    moved = ((drawn - n * share) * units.gap + noise) * units.weight
    gaps = _gaps(sums) + moved.sum(axis=2)
    errors: FloatArray = np.abs(gaps).sum(axis=1) / (drawn * units.weight).sum(axis=(1, 2))
    return errors


class _Units(NamedTuple):
    """Per bin and label, shape (b, 2): effective rows, the weight of one, and mean and deviation of its p - y."""

    rows: FloatArray
    weight: FloatArray
    gap: FloatArray
    spread: FloatArray


def _units(sums: BinSums) -> _Units:
    """Rows as equal units that have the same sum of weights and of squared weights."""
    there = sums.weight_sq > 0.0
    # Of a label that a bin lacks, units are like those of the other label.
    weight, weight_sq, predicted = (_or_other(x, there) for x in (sums.weight, sums.weight_sq, sums.predicted))
    variance = _or_other(sums.predicted_sq_w2, there) / weight_sq
    variance -= (_or_other(sums.predicted_w2, there) / weight_sq) ** 2
    count = np.where(there, weight**2 / weight_sq, 0.0)
    in_bin = count.sum(axis=1, keepdims=True)
    return _Units(
        rows=in_bin * (count + 1.0) / (in_bin + 2.0),
        weight=weight_sq / weight,
        gap=predicted / weight - np.array([0.0, 1.0]),
        spread=np.sqrt(np.maximum(variance, 0.0)),
    )


def _or_other(column: FloatArray, there: NDArray[np.bool_]) -> FloatArray:
    filled: FloatArray = np.where(there, column, column[:, ::-1])
    return filled


def calibration_error_null(
    y_proba: ArrayLike,
    *,
    n_bins: int = 10,
    strategy: Strategy = "quantile",
    n_resamples: int = 1000,
    sample_weight: ArrayLike | None = None,
    random_state: int = 0,
) -> NullError:
    r"""Noise floor of the expected calibration error: what a perfectly calibrated model with these probabilities shows.

    Labels are drawn from the probabilities themselves, :math:`y_i \sim \mathrm{Bernoulli}(p_i)`, again and again. An
    error below the 95th percentile does not speak against calibration; one at the mean is what noise alone gives.

    Parameters
    ----------
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    n_bins : int, default=10
        Bins wanted; see :func:`expected_calibration_error`.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of about equal weight or of equal width.
    n_resamples : int, default=1000
        Sets of labels, at least 50.
    sample_weight : array-like of shape (n,), optional
        Weights in every mean; each row has one label, whatever its weight.
    random_state : int, default=0
        Seed of the labels.

    Returns
    -------
    NullError
        ``mean`` and ``p95``, in [0, 1].

    Raises
    ------
    InvalidInputError
        For unusable arrays or options.

    Notes
    -----
    Up to 500 rows (for 1,000 resamples) each label is drawn by itself. Beyond that the positives of a bin, a sum of
    independent Bernoulli variables, are drawn from a binomial distribution scaled to their mean and variance. With very
    unequal weights and less than one positive a bin that floor can be a tenth too high.

    References
    ----------
    Bröcker and Smith (2007), "Increasing the Reliability of Reliability Diagrams", Weather and Forecasting
    (consistency resampling).
    Ehm (1991), "Binomial approximation to the Poisson binomial distribution", Statistics & Probability Letters.

    Examples
    --------
    >>> import numpy as np
    >>> from mlflow_caliber.metrics import calibration_error_null
    >>> floor = calibration_error_null(np.linspace(0, 1, 1000))
    >>> round(floor.mean, 3), round(floor.p95, 3)
    (0.031, 0.045)
    """
    p = check_scores(y_proba)
    weights = check_weights(sample_weight, p.size)
    resamples = check_count(n_resamples, "n_resamples", minimum=FEWEST_RESAMPLES)
    check_choice(strategy, "strategy", STRATEGIES)
    sums = bin_sums(np.zeros(p.size, dtype=np.int8), p, weights, check_count(n_bins, "n_bins"), strategy)
    rng = np.random.default_rng(random_state)
    if p.size * resamples > _MOST_LABELS:
        return binned_error_null(sums, resamples, rng)
    bin_of_row = np.searchsorted(sums.lower_edge, p, side="right") - 1
    weight = np.ones_like(p) if weights is None else weights / weights.max()
    membership = np.where(bin_of_row[:, None] == np.arange(sums.rows.size), weight[:, None], 0.0)
    return _null_of(_errors_of((rng.random((resamples, p.size)) < p).astype(np.float64) @ membership, sums))


def binned_error_null(sums: BinSums, n_resamples: int, rng: np.random.Generator) -> NullError:
    """The noise floor from what bins hold, whatever their labels; see :func:`calibration_error_null`."""
    return _null_of(_null_errors(sums, n_resamples, rng))


def _null_errors(sums: BinSums, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    return _errors_of(drawn_positives(np.stack(sums[5:]).sum(axis=2), n_resamples, rng), sums)


def drawn_positives(moments: FloatArray, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Weights of positives, shape (n_resamples, cells), where labels are drawn from their probabilities.

    Moments, of shape (3, cells), are each cell's sums of wp, w^2 p and w^2 p^2. It is drawn as equal rows of equal
    probability, exact where it holds such rows, and scaled to the right mean and variance.
    """
    predicted, predicted_w2, predicted_sq_w2 = moments
    # A cell without such sums (p = 0, or no weight to speak of) has no noise.
    noisy = predicted_w2 > 0.0
    unit = np.where(noisy, predicted_w2, 1.0) / np.where(noisy, predicted, 1.0)
    mean = np.where(noisy, predicted / unit, 0.0)
    # (Rows of a probability below 1e-12 have no positive in any case.)
    probability = np.maximum(predicted_sq_w2 / np.where(noisy, predicted_w2, 1.0), 1e-12)
    rows = np.maximum(np.rint(mean / probability), np.floor(mean) + 1.0)
    drawn = rng.binomial(rows.astype(np.int64), mean / rows, (n_resamples, mean.size)) - mean
    variance = np.maximum(predicted_w2 - predicted_sq_w2, 0.0)
    has = mean * (1.0 - mean / rows)
    spread: FloatArray = np.sqrt(np.divide(variance, has, out=np.zeros_like(mean), where=has > 0.0))
    positives: FloatArray = predicted + drawn * spread
    return positives


def _errors_of(positive: FloatArray, sums: BinSums) -> FloatArray:
    errors: FloatArray = np.abs(positive - sums.predicted.sum(axis=1)).sum(axis=1) / sums.weight.sum()
    return errors


def _null_of(errors: FloatArray) -> NullError:
    return NullError(float(errors.mean()), float(np.quantile(errors, 0.95)))

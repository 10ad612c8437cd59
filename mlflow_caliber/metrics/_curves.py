"""The reliability curve: what was predicted against what was seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mlflow_caliber._cells import Bins
from mlflow_caliber._validation import FloatArray, check_unit_interval
from mlflow_caliber.metrics._calibration import Strategy, checked_bins
from mlflow_caliber.metrics._records import ArrayRecord


@dataclass(frozen=True, eq=False)
class ReliabilityCurve(ArrayRecord):
    """One point a non-empty bin, by increasing probability; see :func:`reliability_curve`.

    Attributes
    ----------
    lower_edge, upper_edge : ndarray of shape (b,)
        Ends of the bin: ``[k/n_bins, (k+1)/n_bins]`` for uniform bins, the least and the greatest probability found in
        it for quantile bins.
    mean_predicted, mean_observed : ndarray of shape (b,)
        Mean probability and frequency of positives, in [0, 1].
    count : ndarray of shape (b,), int64
        Rows of positive weight.
    weight : ndarray of shape (b,)
        Sum of weights; equal to `count` without weights.
    interval_low, interval_high : ndarray of shape (b,)
        Confidence interval of the frequency.
    """

    lower_edge: FloatArray
    upper_edge: FloatArray
    mean_predicted: FloatArray
    mean_observed: FloatArray
    count: NDArray[np.int64] = field(metadata={"dtype": np.int64})
    weight: FloatArray
    interval_low: FloatArray
    interval_high: FloatArray


def reliability_curve(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    n_bins: int = 10,
    strategy: Strategy = "quantile",
    sample_weight: ArrayLike | None = None,
    confidence: float = 0.95,
) -> ReliabilityCurve:
    """Observed frequency against predicted probability, bin by bin, with Wilson's interval of the frequency.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    n_bins : int, default=10
        Bins wanted; empty ones are left out.
    strategy : {"quantile", "uniform"}, default="quantile"
        As in :func:`expected_calibration_error`, whose value is the curve's mean gap.
    sample_weight : array-like of shape (n,), optional
        Weights in every mean; the interval counts Kish's effective number of rows.
    confidence : float, default=0.95
        Level of the interval of each single bin, in (0, 1).

    Returns
    -------
    ReliabilityCurve

    Raises
    ------
    InvalidInputError
        For unusable arrays or options.

    References
    ----------
    Wilson (1927), "Probable Inference, the Law of Succession, and Statistical Inference", JASA.

    Examples
    --------
    >>> from mlflow_caliber.metrics import reliability_curve
    >>> curve = reliability_curve([0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9], n_bins=2)
    >>> curve.mean_predicted.round(3), curve.mean_observed.round(3), curve.count
    (array([0.2, 0.8]), array([0.333, 0.667]), array([3, 3]))
    """
    z = float(special.ndtri((1.0 + check_unit_interval(confidence, "confidence", open_ends=True)) / 2.0))
    bins = checked_bins(y_true, y_proba, sample_weight, n_bins, strategy)
    return curve_of_bins(bins, z, 1.0 if sample_weight is None else float(np.max(sample_weight)))


def curve_of_bins(bins: Bins, z: float, heaviest: float) -> ReliabilityCurve:
    """The curve of bins that are there, whose weights are relative to that of the heaviest row."""
    low, high = _wilson(bins.mean_observed, bins.effective_rows, z)
    return ReliabilityCurve(
        lower_edge=bins.lower_edge,
        upper_edge=bins.upper_edge,
        mean_predicted=bins.mean_predicted,
        mean_observed=bins.mean_observed,
        count=bins.rows.astype(np.int64),
        weight=bins.weight * heaviest,
        interval_low=low,
        interval_high=high,
    )


def _wilson(frequency: FloatArray, n: FloatArray, z: float) -> tuple[FloatArray, FloatArray]:
    centre = (frequency + z**2 / (2.0 * n)) / (1.0 + z**2 / n)
    variance = frequency * (1.0 - frequency) / n + z**2 / (4.0 * n**2)
    half = z * np.sqrt(variance) / (1.0 + z**2 / n)
    # Rounding must not push an end of the interval past the frequency it is about (nor, with that, out of [0, 1]).
    return np.clip(centre - half, 0.0, frequency), np.clip(centre + half, frequency, 1.0)

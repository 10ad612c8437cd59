"""The CORP reliability curve: observed frequency as an isotonic function of the probability, without bins."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from mlflow_caliber._cells import Cells, equal_mass_starts, tie_groups
from mlflow_caliber._validation import FloatArray, check_count, check_counted_labels, check_unit_interval
from mlflow_caliber.metrics._noise import drawn_positives
from mlflow_caliber.metrics._records import ArrayRecord

FEWEST_RESAMPLES = 20

# More distinct scores are joined to about so many cells of equal weight.
MOST_CELLS = 1000


@dataclass(frozen=True, eq=False)
class CorpCurve(ArrayRecord):
    """One point a distinct probability, or a cell of neighbouring ones, by increasing value; see :func:`corp_curve`.

    Attributes
    ----------
    probability : ndarray of shape (m,)
        The (mean) probability.
    recalibrated : ndarray of shape (m,)
        The (mean) isotonic regression of the outcomes there: the frequency of positives. It never decreases.
    band_low, band_high : ndarray of shape (m,)
        Where `recalibrated` would lie if the probabilities were right.
    weight : ndarray of shape (m,)
        Sum of weights; without weights the number of rows.
    """

    probability: FloatArray
    recalibrated: FloatArray
    band_low: FloatArray
    band_high: FloatArray
    weight: FloatArray

    def downsample(self, max_points: int) -> CorpCurve:
        """The curve with neighbouring points averaged into at most `max_points` of about equal weight.

        Parameters
        ----------
        max_points : int
            At least 1.

        Returns
        -------
        CorpCurve
            The same curve where it has no more points than that.

        Examples
        --------
        >>> from mlflow_caliber.metrics import corp_curve
        >>> corp_curve([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8]).downsample(2).probability
        array([0.3, 0.7])
        """
        if len(self) <= check_count(max_points, "max_points"):
            return self
        share = self.weight / self.weight.max()
        starts = equal_mass_starts(share, max_points)
        total = np.add.reduceat(share, starts)
        columns = {field.name: getattr(self, field.name) for field in fields(self)[:-1]}
        means = {name: np.add.reduceat(column * share, starts) / total for name, column in columns.items()}
        return CorpCurve(**means, weight=np.add.reduceat(self.weight, starts))


def corp_curve(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    confidence: float = 0.95,
    n_resamples: int = 200,
    random_state: int = 0,
) -> CorpCurve:
    """Reliability curve without bins, with the band in which a calibrated model's curve would lie.

    The frequency of positives is estimated by isotonic regression on the probability: consistent, optimally binned,
    reproducible, and found by the pool-adjacent-violators algorithm (CORP). The parts of its Brier score are
    :func:`brier_decomposition`.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows in the curve; in the band each row has one label, whatever its
        weight.
    confidence : float, default=0.95
        Level, in (0, 1), of the band at each single point.
    n_resamples : int, default=200
        Sets of labels drawn from the probabilities for the band, at least 20.
    random_state : int, default=0
        Seed of these labels.

    Returns
    -------
    CorpCurve

    Raises
    ------
    InvalidInputError
        For unusable arrays or options.

    Notes
    -----
    The regression is that of all rows. More than 1,000 distinct probabilities are then joined to cells of about equal
    weight, each point being the mean over its cell, and the band is found by regression on these cells.

    References
    ----------
    Dimitriadis, Gneiting and Jordan (2021), "Stable reliability diagrams for probabilistic classifiers", PNAS.

    Examples
    --------
    >>> from mlflow_caliber.metrics import corp_curve
    >>> curve = corp_curve([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8])
    >>> curve.recalibrated
    array([0. , 0.5, 0.5, 1. ])
    >>> curve.band_low, curve.band_high
    (array([0., 0., 0., 0.]), array([0.75, 1.  , 1.  , 1.  ]))
    """
    level = check_unit_interval(confidence, "confidence", open_ends=True)
    resamples = check_count(n_resamples, "n_resamples", minimum=FEWEST_RESAMPLES)
    y, p, weights = check_counted_labels(y_true, y_proba, sample_weight)
    heaviest = 1.0 if weights is None else float(weights.max())
    return curve_of_groups(tie_groups(y, p, weights), heaviest, level, resamples, random_state)


def curve_of_groups(
    groups: Cells, heaviest: float, confidence: float, n_resamples: int, random_state: int
) -> CorpCurve:
    """The curve of tie groups, whose weights are relative to that of the heaviest row."""
    starts = _cell_starts(groups)
    weight, *moments = np.add.reduceat(_columns(groups), starts, axis=1)
    drawn = drawn_positives(np.stack(moments), n_resamples, np.random.default_rng(random_state))
    ends = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    band = np.quantile(_isotonic_each(drawn, weight), ends, axis=0)
    return CorpCurve(
        probability=moments[0] / weight,
        recalibrated=np.add.reduceat(groups.weight * _isotonic(groups.positive, groups.weight), starts) / weight,
        band_low=band[0],
        band_high=band[1],
        weight=weight * heaviest,
    )


def null_miscalibration(
    p: FloatArray, weights: FloatArray | None, n_resamples: int, rng: np.random.Generator
) -> FloatArray:
    """Miscalibration (MCB) of labels drawn from their probabilities, on the cells of :func:`corp_curve`."""
    return null_miscalibration_of(tie_groups(np.zeros(p.size, dtype=np.int8), p, weights), n_resamples, rng)


def null_miscalibration_of(groups: Cells, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """The same of tie groups."""
    weight, *moments = np.add.reduceat(_columns(groups), _cell_starts(groups), axis=1)
    drawn = drawn_positives(np.stack(moments), n_resamples, rng)
    observed = drawn / weight
    gained = (moments[0] / weight - observed) ** 2 - (_isotonic_each(drawn, weight) - observed) ** 2
    parts: FloatArray = gained @ (weight / weight.sum())
    return parts


def _cell_starts(groups: Cells) -> NDArray[np.intp]:
    n = groups.value.size
    return np.arange(n) if n <= MOST_CELLS else equal_mass_starts(groups.weight, MOST_CELLS)


def _columns(groups: Cells) -> FloatArray:
    """Per group the sums of w, wp, w^2 p and w^2 p^2."""
    p, w, w2 = groups.value, groups.weight, groups.weight_sq
    return np.stack((w, w * p, w2 * p, w2 * p * p))


def _isotonic_each(positive: FloatArray, weight: FloatArray) -> FloatArray:
    return np.stack([_isotonic(drawn, weight) for drawn in positive])


def _isotonic(positive: FloatArray, weight: FloatArray) -> FloatArray:
    fit: FloatArray = optimize.isotonic_regression(np.clip(positive / weight, 0.0, 1.0), weights=weight).x
    return fit

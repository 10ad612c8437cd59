"""Inductive Venn-ABERS: isotonic regression that says, for each score, how much a single outcome more could move it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from mlflow_caliber._cells import tie_groups
from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray, IntArray, check_scores
from mlflow_caliber.calibrators._base import Calibrator

__all__ = ["VennAbersCalibrator"]

# Of a running total of weights, what rounding may have moved it by.
_ROUNDING = 1e-9


class _Steps(NamedTuple):
    """A step function: ``values[k]`` where k of the increasing thresholds have been passed."""

    thresholds: FloatArray
    values: FloatArray

    @classmethod
    def of(cls, thresholds: FloatArray, values: FloatArray) -> _Steps:
        """Without the thresholds at which nothing happens, and without a step down by rounding."""
        values = np.maximum.accumulate(values)
        change = np.diff(values) > 0.0
        return cls(thresholds[change], values[np.append(True, change)])


class VennAbersCalibrator(Calibrator):
    """Inductive Venn-ABERS prediction: an interval for the probability, and one number out of it.

    At a score s isotonic regression is fitted twice, to the calibration rows and one row more at s, labelled 0 and then
    1. The two values at s, p0 < p1, are the interval of :meth:`predict_interval`: one of them (only the outcome knows
    which) is perfectly calibrated in a strict sense, and p1 - p0 is wide where rows are few, which is a reason to
    abstain. :meth:`predict` merges them into p1 / (1 - p0 + p1), the minimax choice under log loss.

    Both ends are step functions of s that never decrease, and so is the prediction: scores tie, and the AUC falls a
    little, as with isotonic regression. The row at s weighs 1, whatever the others weigh.

    Attributes
    ----------
    n_samples_ : int
        Rows with positive weight.

    References
    ----------
    Vovk, V., Petej, I. (2014). Venn-Abers predictors. UAI.
    Vovk, V., Petej, I., Fedorova, V. (2015). Large-scale probabilistic predictors with and without guarantees of
    validity. NeurIPS.

    Examples
    --------
    >>> calibrator = VennAbersCalibrator().fit([0.1, 0.3, 0.4, 0.6, 0.8], [0, 1, 0, 1, 1])
    >>> low, high = calibrator.predict_interval([0.2, 0.7])
    >>> low, high
    (array([0. , 0.5]), array([0.66666667, 1.        ]))
    >>> calibrator.predict([0.2, 0.7])
    array([0.4       , 0.66666667])
    """

    name: ClassVar[str] = "venn_abers"
    _low: _Steps
    _high: _Steps

    def predict_interval(self, scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """The probability of each score if its own outcome were known to be 0, and if it were known to be 1.

        Parameters
        ----------
        scores : array-like of shape (n,)
            In [0, 1].

        Returns
        -------
        low, high : ndarray of shape (n,)
            p0 and p1, in [0, 1], both non-decreasing in the score; ``low < high``.

        Raises
        ------
        InvalidInputError
            NaN, a score outside [0, 1], empty input.
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        """
        self._check_is_fitted()
        return self._ends(check_scores(scores, "scores"))

    def _fit(self, scores: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> None:
        ties = tie_groups(y, scores, weight)
        unit = 1.0 if weight is None else float(weight.max())
        mass, ones = unit * ties.weight, unit * ties.positive
        steps, values = _with_a_one(mass, ones)
        self._high = _Steps.of(ties.value[steps], values)
        # Seen from the other end, with the labels exchanged, a row labelled 0 is one labelled 1.
        steps, values = _with_a_one(mass[::-1], (mass - ones)[::-1])
        self._low = _Steps.of(ties.value[::-1][steps][::-1], 1.0 - values[::-1])

    def _ends(self, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
        # A row labelled 0 ties with the calibration rows of its score, or stands just behind them: that is the same.
        # One labelled 1 ties with them or stands just before them.
        low, high = self._low, self._high
        return (
            low.values[np.searchsorted(low.thresholds, scores, side="right")],
            high.values[np.searchsorted(high.thresholds, scores, side="left")],
        )

    def _map(self, scores: FloatArray) -> FloatArray:
        low, high = self._ends(scores)
        return high / (1.0 - low + high)

    def _state(self) -> dict[str, Any]:
        return {
            name: {key: column.tolist() for key, column in steps._asdict().items()}
            for name, steps in (("low", self._low), ("high", self._high))
        }

    def _restore(self, state: StateReader) -> None:
        self._low, self._high = (_read_steps(state.nested(name)) for name in ("low", "high"))


def _read_steps(state: StateReader) -> _Steps:
    steps = _Steps(state.numbers("thresholds", 0.0, 1.0), state.numbers("values", 0.0, 1.0))
    if steps.values.size != steps.thresholds.size + 1:
        raise state.fault(
            f"must have one value more than thresholds, got {steps.values.size} and {steps.thresholds.size}."
        )
    for key, column in steps._asdict().items():
        if np.any(np.diff(column) <= 0.0):
            raise state.fault(f"{key!r} must increase strictly, got them out of order or repeated.")
    state.close()
    return steps


def _with_a_one(mass: FloatArray, ones: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """Isotonic regression at a row of weight 1 and label 1, for every place that it can have among the given groups.

    Returns the groups behind which the value may change, and the values before, between and behind them.

    With W and Y the running totals of weight and of ones, the value v of a row that stands behind point a and before b
    is the greatest over a of the least over b of (Y_b - Y_a + 1) / (W_b - W_a + 1). Of all points, b then has the least
    Y - v W, and a not more than 1 - v above that. So b is a corner of the greatest convex minorant of (W, Y), and a
    lies at most 1 above it: of many rows, only a few.
    """
    fit = isotonic_regression(ones / mass, weights=mass)
    total, positive = (np.append(0.0, np.cumsum(column)) for column in (mass, ones))
    minorant = np.append(0.0, np.cumsum(fit.x * mass))
    near = positive - minorant <= 1.0 + _ROUNDING * (1.0 + total[-1])
    near[fit.blocks] = True
    points = np.flatnonzero(near)
    corners = np.searchsorted(points, fit.blocks)
    values = _tangents(total[points].tolist(), positive[points].tolist(), corners.tolist())
    return points[1:] - 1, np.minimum(values, 1.0)


def _tangents(total: Sequence[float], positive: Sequence[float], corners: Sequence[int]) -> FloatArray:
    """The value behind each point: the slope of the line that touches the points so far from above, the corners after.

    The points so far are moved down and left by 1, as the new row comes after them. Both points of contact only ever
    move to the right, so that all of it takes a few steps a point.
    """

    def slope(a: int, b: int) -> float:
        return (positive[b] - positive[a] + 1.0) / (total[b] - total[a] + 1.0)

    values = []
    hull: list[int] = []  # the lower convex hull of the points so far, from the point of contact on
    left = right = 0
    for i in range(len(total) - 1):
        while len(hull) > left + 1 and _is_above(hull[-1], hull[-2], i, total, positive):
            hull.pop()
        hull.append(i)
        while corners[right] <= i:
            right += 1
        while True:
            value = slope(hull[left], corners[right])
            if right + 1 < len(corners) and slope(hull[left], corners[right + 1]) <= value:
                right += 1
            elif left + 1 < len(hull) and slope(hull[left + 1], corners[right]) >= value:
                left += 1
            else:
                break
        values.append(value)
    return np.array([*values, 1.0])


def _is_above(middle: int, a: int, b: int, total: Sequence[float], positive: Sequence[float]) -> bool:
    """Whether the middle point lies on or above the line through its neighbours."""
    rise, run = positive[b] - positive[a], total[b] - total[a]
    return (positive[middle] - positive[a]) * run >= rise * (total[middle] - total[a])

"""The maps without a formula: isotonic and centered isotonic regression."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from mlflow_caliber._pava import Pools, mean_scores, pool
from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray, IntArray, check_flag, check_non_negative
from mlflow_caliber.calibrators._base import Calibrator
from mlflow_caliber.calibrators._line import BrokenLine

__all__ = ["CenteredIsotonicCalibrator", "IsotonicCalibrator"]


class _KnotMap(Calibrator):
    """Straight lines between knots, constant outside them."""

    _line: BrokenLine

    @property
    def x_thresholds_(self) -> FloatArray:
        return self._line.x

    @property
    def y_thresholds_(self) -> FloatArray:
        return self._line.y

    def _map(self, scores: FloatArray) -> FloatArray:
        return np.array([self._line.at(scores.item())]) if scores.size == 1 else self._line.at_all(scores)

    def _state(self) -> dict[str, Any]:
        return {"x_thresholds": self.x_thresholds_.tolist(), "y_thresholds": self.y_thresholds_.tolist()}

    def _restore(self, state: StateReader) -> None:
        x, y = state.numbers("x_thresholds", 0.0, 1.0), state.numbers("y_thresholds", 0.0, 1.0)
        if x.size != y.size:
            raise state.fault(f"thresholds must come in pairs, got {x.size} x and {y.size} y.")
        if np.any(np.diff(x) <= 0.0):
            raise state.fault("'x_thresholds' must increase strictly, got them out of order or repeated.")
        if np.any(np.diff(y) < 0.0):
            raise state.fault("'y_thresholds' must never decrease, got them out of order.")
        self._line = BrokenLine(x, y)


class IsotonicCalibrator(_KnotMap):
    """Isotonic regression: the non-decreasing map with the least squared (and log) loss on the data.

    The numbers are those of scikit-learn's ``IsotonicRegression(out_of_bounds="clip")``. It assumes nothing about the
    shape and pays for it: below about 500 rows it over-fits (it may answer 0 and 1), and its flat stretches tie scores
    that were apart, which lowers the AUC. See :class:`CenteredIsotonicCalibrator` and :class:`AutoCalibrator`.

    Attributes
    ----------
    x_thresholds_, y_thresholds_ : ndarray of shape (k,)
        The knots: first and last score of each pool, and its share of positives.
    n_samples_ : int
        Rows with positive weight.

    References
    ----------
    Zadrozny, B., Elkan, C. (2002). Transforming classifier scores into accurate multiclass probability estimates. KDD.

    Examples
    --------
    >>> calibrator = IsotonicCalibrator().fit([0.1, 0.3, 0.4, 0.6, 0.8], [0, 1, 0, 1, 1])
    >>> calibrator.predict([0.1, 0.2, 0.35, 0.5, 0.9])
    array([0. , 0.25, 0.5 , 0.75, 1. ])
    """

    name: ClassVar[str] = "isotonic"

    def _fit(self, scores: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> None:
        pools = pool(scores, y, weight)
        x, value = np.stack([pools.first, pools.last], axis=1).ravel(), np.repeat(pools.value, 2)
        new = np.append(True, x[1:] > x[:-1])  # a pool of one score has one knot
        self._line = BrokenLine(x[new], value[new])


class CenteredIsotonicCalibrator(_KnotMap):
    """Centered isotonic regression: each flat pool becomes one point at its mean score, with straight lines between.

    Strictly increasing between the first and the last pool, so it keeps the ranking there, and closer to a
    smooth truth than plain isotonic regression.

    Parameters
    ----------
    clip_ends : bool, default=False
        Keep every value inside [1/(2(n_1 + 1)), 1 - 1/(2(n_k + 1))], n_1 and n_k the weights of the first and the last
        pool: a pool without a single positive is no proof of probability 0.
    prior_rows : float, default=0.0
        Weight of pseudo-rows, shared equally by the pools, that saw the pool's mean score come true: a pull toward
        the identity that fades as the rows grow in number.

    Attributes
    ----------
    x_thresholds_, y_thresholds_ : ndarray of shape (k,)
        The knots: weighted mean score of each pool, and its share of positives.
    n_samples_ : int
        Rows with positive weight.

    References
    ----------
    Oron, A., Flournoy, N. (2017). Centered isotonic regression: point and interval estimation for dose-response
    studies. Statistics in Biopharmaceutical Research 9(3).

    Examples
    --------
    >>> calibrator = CenteredIsotonicCalibrator().fit([0.1, 0.3, 0.4, 0.6, 0.8], [0, 1, 0, 1, 1])
    >>> calibrator.predict([0.1, 0.225, 0.35, 0.7, 0.9])
    array([0. , 0.25, 0.5 , 1. , 1. ])
    """

    name: ClassVar[str] = "centered_isotonic"

    def __init__(self, *, clip_ends: bool = False, prior_rows: float = 0.0) -> None:
        self.clip_ends = clip_ends
        self.prior_rows = prior_rows

    def _check_params(self) -> None:
        check_flag(self.clip_ends, "clip_ends")
        check_non_negative(self.prior_rows, "prior_rows")

    def _fit(self, scores: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> None:
        pools = pool(scores, y, weight)
        centre = mean_scores(pools, scores, weight)
        if self.clip_ends:
            pools = _clipped(pools)
        if self.prior_rows > 0.0:
            pools, centre = _shrunk(pools, centre, self.prior_rows)
        self._line = BrokenLine(centre, pools.value)


def _clipped(pools: Pools) -> Pools:
    """No value closer to 0 or 1 than the size of the first and the last pool allows."""
    low, high = 0.5 / (pools.weight[0] + 1.0), 1.0 - 0.5 / (pools.weight[-1] + 1.0)
    return pools._replace(value=np.clip(pools.value, low, high))


def _shrunk(pools: Pools, centre: FloatArray, prior_rows: float) -> tuple[Pools, FloatArray]:
    """Every pool pulled toward its mean score; pools of unequal size may then violate the order, so pool again."""
    share = prior_rows / centre.size
    weight = pools.weight + share
    pooled = pool(centre, (pools.weight * pools.value + share * centre) / weight, weight)
    return pooled, mean_scores(pooled, centre, weight)

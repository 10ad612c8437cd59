"""Centered isotonic regression of the last outcomes, refitted every so often."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np

from mlflow_caliber._pava import mean_scores, pool
from mlflow_caliber._validation import FloatArray

__all__ = ["WindowedIsotonic"]

_WINDOW, _MIN_ROWS = 2000, 50
_REFIT_EVERY, _MANY_ROWS, _REFIT_EVERY_OF_MANY = 10, 500, 40
_LOW, _HIGH = 0.01, 0.99


class WindowedIsotonic:
    """One knot for each pool of equal values, straight lines between, [0.01, 0.99]; the identity below 50 rows.

    Its state is the window and the knots: a fit comes only every so often, so the window alone would not give the
    knots back.
    """

    def __init__(self) -> None:
        self.scores: deque[float] = deque(maxlen=_WINDOW)
        self.outcomes: deque[int] = deque(maxlen=_WINDOW)
        self.since_fit = 0
        self.x: list[float] = []
        self.y: list[float] = []

    def answer(self, p: float) -> float:
        """The probability at a score."""
        x, y = self.x, self.y
        if not x:
            return p
        above = bisect_right(x, p)
        if above == 0:
            return y[0]
        if above == len(x):
            return y[-1]
        left, low, high = x[above - 1], y[above - 1], y[above]
        return min(low + (high - low) * ((p - left) / (x[above] - left)), high)

    def curve(self, p: FloatArray) -> FloatArray:
        """The probabilities at many scores."""
        return np.interp(p, self.x, self.y) if self.x else p

    def learn(self, p: float, y: int) -> None:
        """Take an outcome into the window, and fit again if it is time."""
        self.scores.append(p)
        self.outcomes.append(y)
        self.since_fit += 1
        rows = len(self.scores)
        if rows >= _MIN_ROWS and self.since_fit >= (_REFIT_EVERY if rows <= _MANY_ROWS else _REFIT_EVERY_OF_MANY):
            self._fit()

    def _fit(self) -> None:
        scores = np.array(self.scores)
        pools = pool(scores, np.array(self.outcomes, dtype=np.int64))
        self.x = mean_scores(pools, scores).tolist()
        self.y = np.clip(pools.value, _LOW, _HIGH).tolist()
        self.since_fit = 0

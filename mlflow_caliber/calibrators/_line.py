"""A broken line that never decreases, made to be read quickly: one score at a time, or millions."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

import numpy as np

from mlflow_caliber._pava import Locator
from mlflow_caliber._validation import FloatArray

__all__ = ["BrokenLine"]

# Rows that are read together: few enough to stay in a processor's cache.
_CHUNK = 1 << 14


class BrokenLine:
    """Straight between knots (x increasing strictly, y never decreasing, both in [0, 1]), constant beyond them.

    At s it is slope * (s - x) + y of the last knot x <= s: the same operations, hence the same bits, for one score and
    for many. They are those of ``numpy.interp``, but for slopes that would carry rounding above the next knot.
    """

    def __init__(self, x: FloatArray, y: FloatArray) -> None:
        self.x = x
        self.y = y

    def __reduce__(self) -> tuple[type[BrokenLine], tuple[FloatArray, FloatArray]]:
        return BrokenLine, (self.x, self.y)  # what is cached below is neither copied nor stored

    def at(self, score: float) -> float:
        """The line at one score in [0, 1]."""
        knots, x, y, slopes = self._lists
        piece = bisect_right(knots, score)
        return slopes[piece] * (score - x[piece]) + y[piece]

    def at_all(self, scores: FloatArray) -> FloatArray:
        """The line at each of many scores in [0, 1]."""
        x, y, slopes = self._pieces
        count = Locator(self.x, scores.size)
        result = np.empty_like(scores)
        for start in range(0, scores.size, _CHUNK):
            s = scores[start : start + _CHUNK]
            piece = count(s)
            part = s - x.take(piece)
            part *= slopes.take(piece)
            np.add(part, y.take(piece), out=result[start : start + _CHUNK])
        return result

    @cached_property
    def _pieces(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Where each piece of the line starts, its height there and its slope; the first lies left of all knots."""
        gap, low, high = np.diff(self.x), self.y[:-1], self.y[1:]
        with np.errstate(over="ignore"):
            slopes = np.minimum((high - low) / gap, np.finfo(np.float64).max)
        while (steep := slopes * gap + low > high).any():
            slopes[steep] = np.nextafter(slopes[steep], 0.0)
        flat = [0.0]
        return np.append(flat, self.x), np.append(self.y[:1], self.y), np.concatenate((flat, slopes, flat))

    @cached_property
    def _lists(self) -> tuple[list[float], ...]:
        """Knots and pieces as plain numbers, which Python reads faster than an array's."""
        return self.x.tolist(), *(column.tolist() for column in self._pieces)

"""Penalised logistic regression with a few coefficients and bounds: the one solver of the parametric maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mlflow_caliber._validation import FloatArray

__all__ = ["LogisticProblem", "linear"]

_MAX_STEPS = 200
_MAX_HALVINGS = 60
_SUFFICIENT_DECREASE = 1e-4
_TOLERANCE = 1e-7  # of the last step: Newton's error after it is of the order of its square
_ROUNDING = 1e-14  # of the objective, relative
# Rows that are summed together: what is computed of them stays in the processor's nearest cache.
_CHUNK = 1 << 13
# From so many rows on, one row in eight says where to start.
_MANY, _THINNING = 1 << 15, 8


def linear(coef: FloatArray, features: Sequence[FloatArray] | FloatArray) -> FloatArray:
    """Sum of coefficient times feature, term by term: a row alone gets the bits that it gets in a batch."""
    total: FloatArray = coef[0] * features[0]
    for c, feature in zip(coef[1:], features[1:], strict=True):
        total = total + c * feature
    return total


class _Point(NamedTuple):
    """The objective at some coefficients, with its first and second derivatives."""

    coef: FloatArray
    value: float
    gradient: FloatArray
    hessian: FloatArray


@dataclass(frozen=True)
class LogisticProblem:
    """Find t >= lower that minimises sum w (log(1 + e^h) - y h) + sum precision (t - centre)^2 / 2, h = t . features.

    ``features`` has shape (d, n). A positive ``precision`` gives separable data a minimum too.
    """

    features: FloatArray
    y: FloatArray
    weight: FloatArray
    centre: FloatArray
    precision: FloatArray
    lower: FloatArray

    def solve(self) -> FloatArray:
        """The minimum, by Newton steps with a line search that stop at the first bound they meet.

        Undamped Newton steps diverge on small, nearly separable sets. Nocedal, J., Wright, S. (2006). Numerical
        Optimization, chapters 3 (line search) and 16 (active sets).
        """
        here = self._at(self._start())
        for _ in range(_MAX_STEPS):
            direction = self._direction(here)
            # A step cut short at a bound is small and says nothing; the whole Newton step does.
            if np.all(np.abs(direction) <= _TOLERANCE * (1.0 + np.abs(here.coef))):
                return np.maximum(here.coef + direction, self.lower)
            there = self._search(here, direction)
            if there is here:
                break
            here = there
        return here.coef

    def _start(self) -> FloatArray:
        if self.y.size < _MANY:
            return np.maximum(self.centre, self.lower)
        few = slice(None, None, _THINNING)
        # The rows left out may be all that keeps the others from being separable: a row's worth of prior bounds this.
        thinned = replace(
            self,
            features=self.features[:, few].copy(),
            y=self.y[few].copy(),
            weight=self.weight[few].copy(),
            precision=np.maximum(self.precision, 1.0),
        )
        return thinned.solve()

    def _at(self, coef: FloatArray) -> _Point:
        away = coef - self.centre
        value = 0.5 * float(self.precision @ away**2)
        gradient, hessian = self.precision * away, np.diag(self.precision)
        for start in range(0, self.y.size, _CHUNK):
            x, y, w = (column[..., start : start + _CHUNK] for column in (self.features, self.y, self.weight))
            h = coef @ x
            # In terms of the unlikelier class, with probability `rare` and label `against`: separable data are fitted
            # down to losses that 1 - p would round away.
            side, size = np.copysign(1.0, h), np.abs(h)
            against = 0.5 - side * (y - 0.5)
            tail = np.exp(-size)
            likely = 1.0 / (1.0 + tail)
            rare = tail * likely
            value += float(w @ (against * size + np.log1p(tail)))
            gradient = gradient + x @ (w * side * (against - rare))
            hessian = hessian + (x * (w * likely * rare)) @ x.T
        return _Point(coef, value, gradient, hessian)

    def _search(self, here: _Point, direction: FloatArray) -> _Point:
        """A better point, or the same where float64 can tell none apart."""
        # Bent at a bound, a Newton direction need not lead down any more; straight up to the bound it does.
        down = direction < 0.0
        reach = np.full_like(direction, np.inf)
        reach[down] = (self.lower - here.coef)[down] / direction[down]
        step = min(1.0, float(reach.min()))
        for _ in range(_MAX_HALVINGS):
            coef = np.where(reach <= step, self.lower, np.maximum(here.coef + step * direction, self.lower))
            if np.array_equal(coef, here.coef):
                break
            there = self._at(coef)
            wanted = _SUFFICIENT_DECREASE * float(here.gradient @ (coef - here.coef)) + _ROUNDING * abs(here.value)
            if there.value <= here.value + wanted:
                return there
            step *= 0.5
        return here

    def _direction(self, here: _Point) -> FloatArray:
        """The Newton direction over the coefficients that no bound holds back."""
        at_bound = here.coef <= self.lower
        free = ~at_bound | (here.gradient <= 0.0)
        while True:
            direction = np.zeros_like(here.coef)
            # Tied scores leave the Hessian all but singular; least squares then takes the shortest of many equal steps.
            held = np.linalg.lstsq(here.hessian[free][:, free], here.gradient[free], rcond=None)[0]
            direction[free] = -held
            outward = at_bound & (direction < 0.0)
            if not outward.any():
                return direction
            free &= ~outward

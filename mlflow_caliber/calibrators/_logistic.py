"""Penalised logistic regression with a few coefficients and bounds: the one solver of the parametric maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from mlflow_caliber._validation import FloatArray

__all__ = ["LogisticProblem", "linear"]

_MAX_STEPS = 200
_MAX_HALVINGS = 60
_SUFFICIENT_DECREASE = 1e-4
_TOLERANCE = 1e-8  # of the last step: Newton's error after it is of the order of its square


def linear(coef: FloatArray, features: Sequence[FloatArray] | FloatArray) -> FloatArray:
    """Sum of coefficient times feature, term by term: a row alone gets the bits that it gets in a batch."""
    total: FloatArray = coef[0] * features[0]
    for c, feature in zip(coef[1:], features[1:], strict=True):
        total = total + c * feature
    return total


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
        coef = np.maximum(self.centre, self.lower)
        value = self._objective(coef)
        for _ in range(_MAX_STEPS):
            gradient, direction = self._newton(coef)
            better, value = self._search(coef, value, gradient, direction)
            # A step cut short at a bound is small and says nothing; the whole Newton step does.
            done = np.all(np.abs(direction) <= _TOLERANCE * (1.0 + np.abs(coef))) or np.array_equal(better, coef)
            coef = better
            if done:
                break
        return coef

    def _search(
        self, coef: FloatArray, value: float, gradient: FloatArray, direction: FloatArray
    ) -> tuple[FloatArray, float]:
        """A better point and its objective, or the same where float64 can tell none apart."""
        # Bent at a bound, a Newton direction need not lead down any more; straight up to the bound it does.
        down = direction < 0.0
        reach = np.full_like(coef, np.inf)
        reach[down] = (self.lower - coef)[down] / direction[down]
        step = min(1.0, float(reach.min()))
        for _ in range(_MAX_HALVINGS):
            candidate = np.where(reach <= step, self.lower, np.maximum(coef + step * direction, self.lower))
            candidate_value = self._objective(candidate)
            if candidate_value <= value + _SUFFICIENT_DECREASE * float(gradient @ (candidate - coef)):
                return candidate, candidate_value
            step *= 0.5
        return coef, value

    def _newton(self, coef: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradient, and the Newton direction over the coefficients that no bound holds back."""
        p = expit(linear(coef, self.features))
        gradient = self.features @ (self.weight * (p - self.y)) + self.precision * (coef - self.centre)
        hessian = (self.features * (self.weight * p * (1.0 - p))) @ self.features.T + np.diag(self.precision)
        at_bound = coef <= self.lower
        free = ~at_bound | (gradient <= 0.0)
        while True:
            direction = np.zeros_like(coef)
            # Tied scores leave the Hessian all but singular; least squares then takes the shortest of many equal steps.
            direction[free] = -np.linalg.lstsq(hessian[np.ix_(free, free)], gradient[free], rcond=None)[0]
            outward = at_bound & (direction < 0.0)
            if not outward.any():
                return gradient, direction
            free &= ~outward

    def _objective(self, coef: FloatArray) -> float:
        h = linear(coef, self.features)
        penalty = 0.5 * self.precision @ (coef - self.centre) ** 2
        softplus = np.maximum(h, 0.0) + np.log1p(np.exp(-np.abs(h)))  # several times faster than logaddexp
        return float(self.weight @ (softplus - self.y * h) + penalty)

"""Logistic maps that are fitted again after every outcome and forget the old ones: no window, constant memory.

Three coefficients, in plain Python: an array of three numbers costs more to call than to compute with.
"""

from __future__ import annotations

import math

import numpy as np

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.online._numbers import EPS, logit, logits, sigmoid, sigmoids

__all__ = ["FadingBeta", "FadingLogistic", "FadingSigmoid"]

# No outcome counts less than this in the curvature: a certain answer must stay correctable.
_LEAST_CURVATURE = 1e-4

Triple = tuple[float, float, float]
Symmetric = tuple[float, float, float, float, float, float]


class FadingLogistic:
    """sigma(a u + b v + c), maximum a posteriori, one Newton step an outcome; an outcome's weight halves in half_life.

    ``u`` and ``v`` increase with the score. The prior is normal around ``start`` with independent precisions. The
    slopes a and b are served as at least 0, so that the map never decreases.
    """

    def __init__(self, start: Triple, precision: Triple, half_life: float) -> None:
        self._precision = precision
        self._pull = [weight * value for weight, value in zip(precision, start, strict=True)]
        self._keep = 0.5 ** (1.0 / half_life)
        self.theta = start
        self.information: Symmetric = (0.0,) * 6  # uu, uv, u, vv, v, 1
        self.target: Triple = (0.0,) * 3

    def features(self, p: float) -> tuple[float, float]:
        """Features u and v of a score."""
        raise NotImplementedError

    def feature_rows(self, p: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The same for many scores."""
        raise NotImplementedError

    def answer(self, p: float) -> float:
        """The probability at a score."""
        (a, b, c), (u, v) = self.theta, self.features(p)
        return sigmoid(max(a, 0.0) * u + max(b, 0.0) * v + c)

    def curve(self, p: FloatArray) -> FloatArray:
        """The probabilities at many scores."""
        (a, b, c), (u, v) = self.theta, self.feature_rows(p)
        return sigmoids(max(a, 0.0) * u + max(b, 0.0) * v + c)

    def learn(self, p: float, y: int) -> None:
        """One step toward what happened at a score."""
        (a, b, c), (u, v), keep = self.theta, self.features(p), self._keep
        t = a * u + b * v + c
        s = sigmoid(t)
        h = max(s * (1.0 - s), _LEAST_CURVATURE)
        step = h * t + y - s
        uu, uv, u1, vv, v1, n = self.information
        uu, uv, u1 = keep * uu + h * u * u, keep * uv + h * u * v, keep * u1 + h * u
        vv, v1, n = keep * vv + h * v * v, keep * v1 + h * v, keep * n + h
        gu, gv, g1 = self.target
        gu, gv, g1 = keep * gu + step * u, keep * gv + step * v, keep * g1 + step
        self.information, self.target = (uu, uv, u1, vv, v1, n), (gu, gv, g1)
        (du, dv, d1), (pu, pv, p1) = self._precision, self._pull
        self.theta = _solved((uu + du, uv, u1, vv + dv, v1, n + d1), (pu + gu, pv + gv, p1 + g1))


class FadingSigmoid(FadingLogistic):
    """Platt scaling, sigma(a z + c) at the logit z of the score; v is nothing."""

    def __init__(self, half_life: float) -> None:
        super().__init__((1.0, 0.0, 0.0), (4.0, 1.0, 2.0), half_life)

    def features(self, p: float) -> tuple[float, float]:
        """Logit and nothing."""
        return logit(p), 0.0

    def feature_rows(self, p: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logits and nothing."""
        return logits(p), np.zeros_like(p)


class FadingBeta(FadingLogistic):
    """Beta calibration, sigma(a ln p - b ln(1 - p) + c)."""

    def __init__(self, half_life: float) -> None:
        super().__init__((1.0, 1.0, 0.0), (8.0, 8.0, 2.0), half_life)

    def features(self, p: float) -> tuple[float, float]:
        """Logarithms ln p and -ln(1 - p)."""
        p = min(max(p, EPS), 1.0 - EPS)
        return math.log(p), -math.log1p(-p)

    def feature_rows(self, p: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logarithms ln p and -ln(1 - p)."""
        p = np.clip(p, EPS, 1.0 - EPS)
        return np.log(p), -np.log1p(-p)


def _solved(matrix: Symmetric, target: Triple) -> Triple:
    """Gauss's elimination; a positive definite matrix needs no pivots."""
    aa, ab, ac, bb, bc, cc = matrix
    x, y, z = target
    down = ab / aa
    bb, bc, y = bb - down * ab, bc - down * ac, y - down * x
    down = ac / aa
    cc, z = cc - down * ac, z - down * x
    down = bc / bb
    c = (z - down * y) / (cc - down * bc)
    b = (y - bc * c) / bb
    return (x - ab * b - ac * c) / aa, b, c

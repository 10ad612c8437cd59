"""Penalised multinomial regression with a slope and an offset for each class: the solver of vector scaling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.calibrators._logistic import LogisticProblem, _Point

__all__ = ["SoftmaxProblem"]

# Numbers, of rows times classes, that are summed together: what is computed of them stays in the cache.
_CHUNK = 1 << 15


@dataclass(frozen=True)
class SoftmaxProblem(LogisticProblem):
    """Find slopes a >= lower and offsets b that minimise -sum w log softmax(a x + b)_y + their prior's penalty.

    ``features`` x has shape (K, n), ``y`` holds class indices; the coefficients are a, then b, 2K numbers.
    """

    def _at(self, coef: FloatArray) -> _Point:
        away = coef - self.centre
        value = 0.5 * float(self.precision @ away**2)
        gradient, hessian = self.precision * away, np.diag(self.precision)
        n_classes = len(self.features)
        slopes, offsets = coef[:n_classes, None], coef[n_classes:, None]
        for x, y, w in self._chunks():
            loss, p, residual = _softmax(slopes * x + offsets, y)
            value += float(w @ loss)
            weighted = w * residual
            gradient += np.concatenate([(weighted * x).sum(axis=1), weighted.sum(axis=1)])
            hessian += _curvature(x, p, w)
        return _Point(coef, value, gradient, hessian)

    def _chunks(self) -> Iterator[tuple[FloatArray, NDArray[np.intp], FloatArray]]:
        n_classes, n = self.features.shape
        step = max(1, _CHUNK // n_classes)
        for start in range(0, n, step):
            part = slice(start, start + step)
            yield self.features[:, part], self.y[part].astype(np.intp), self.weight[part]


def _softmax(z: FloatArray, y: NDArray[np.intp]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Minus the log probability of each row's class, all probabilities, and these less the outcomes.

    Nothing is taken from 1: separable data are fitted down to losses that this would round away.
    """
    rows = np.arange(y.size)
    top = z.argmax(axis=0)
    height = z[top, rows]
    tail = np.exp(z - height)
    tail[top, rows] = 0.0
    rest = tail.sum(axis=0)
    loss = (height - z[y, rows]) + np.log1p(rest)
    tail[top, rows] = 1.0
    p = tail / (1.0 + rest)
    residual = p.copy()
    residual[y, rows] = 0.0
    residual[y, rows] = -residual.sum(axis=0)
    return loss, p, residual


def _curvature(x: FloatArray, p: FloatArray, w: FloatArray) -> FloatArray:
    """Second derivatives of the summed losses with respect to slopes, then offsets."""
    scaled = w * p
    joint = np.concatenate([p * x, p])
    curvature: FloatArray = -(joint * w) @ joint.T
    a, b = np.arange(len(x)), np.arange(len(x)) + len(x)
    curvature[a, a] += (scaled * x * x).sum(axis=1)
    curvature[b, b] += scaled.sum(axis=1)
    mixed = (scaled * x).sum(axis=1)
    curvature[a, b] += mixed
    curvature[b, a] += mixed
    return curvature

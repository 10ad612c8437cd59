"""The temperature of highest likelihood: the one at which expected and observed shortfalls agree.

A class falls short by how far its log probability lies below that of the likeliest class. In 1/T the log likelihood is
concave, and its slope is the shortfall expected under softmax(log p / T), which only falls, less the one observed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mlflow_caliber._validation import FloatArray, IntArray

__all__ = ["MAX_TEMPERATURE", "MIN_TEMPERATURE", "fit_binary_temperature", "fit_temperature"]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
_TOLERANCE = 1e-8  # of the last step, relative: Newton's error after it is of the order of its square
_MAX_STEPS = 200
# Rows that are summed together: what is computed of them stays in the processor's nearest cache.
_CHUNK = 1 << 13
# From so many rows on, one row in eight says where to start.
_MANY, _THINNING = 1 << 15, 8

# The expected shortfall at some 1/T, and how fast it falls there.
Expected = Callable[[float], tuple[float, float]]


def fit_binary_temperature(logits: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> float:
    """The T in [0.01, 100] with the highest likelihood of sigma(logit / T), for labels in [0, 1]."""

    def expected(inverse: float) -> tuple[float, float]:
        total, fall = 0.0, 0.0
        for start in range(0, logits.size, _CHUNK):
            short = np.abs(logits[start : start + _CHUNK])
            tail = np.exp(short * -inverse)
            loss = short * (tail / (1.0 + tail))
            weighted = loss if weight is None else loss * weight[start : start + _CHUNK]
            total += float(weighted.sum())
            fall += float(weighted @ short - weighted @ loss)
        return total, fall

    guess, observed = 1.0, 0.0
    if logits.size >= _MANY:
        few = slice(None, None, _THINNING)
        guess = 1.0 / fit_binary_temperature(logits[few].copy(), y[few], None if weight is None else weight[few])
    for start in range(0, logits.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        loss = np.maximum(logits[part], 0.0) - y[part] * logits[part]
        observed += float(loss.sum() if weight is None else loss @ weight[part])
    return 1.0 / _agreement(expected, observed, guess)


def fit_temperature(log_proba: FloatArray, one_hot: FloatArray, weight: FloatArray) -> float:
    """The T in [0.01, 100] with the highest likelihood of softmax(log_proba / T); shapes (K, n), (K, n) and (n,)."""

    def expected(inverse: float) -> tuple[float, float]:
        total, fall = 0.0, 0.0
        for start in range(0, weight.size, _CHUNK):
            z, w = np.array(log_proba[:, start : start + _CHUNK], order="C"), weight[start : start + _CHUNK]
            short = z.max(axis=0) - z
            p = np.exp(short * -inverse)
            p /= p.sum(axis=0)
            p *= short
            mean = p.sum(axis=0)
            total += float(w @ mean)
            fall += float(w @ ((p * short).sum(axis=0) - mean * mean))
        return total, fall

    guess = 1.0
    if weight.size >= _MANY:
        guess = 1.0 / fit_temperature(*(column[..., ::_THINNING] for column in (log_proba, one_hot, weight)))
    observed = float((one_hot * (log_proba.max(axis=0) - log_proba)).sum(axis=0) @ weight)
    return 1.0 / _agreement(expected, observed, guess)


def _agreement(expected: Expected, observed: float, guess: float) -> float:
    """The 1/T at which both shortfalls agree, or the end of the range that comes nearest.

    The expected one falls about exponentially, so Newton steps go for its logarithm; a step to the middle replaces
    those that leave the bracket.
    """
    first, last = 1.0 / MAX_TEMPERATURE, 1.0 / MIN_TEMPERATURE
    if observed == 0.0:  # the likeliest class always came true; or no class was likelier, and any T says the same
        return last if expected(1.0)[0] > 0.0 else 1.0
    low, high, here = 0.0, math.inf, guess
    for _ in range(_MAX_STEPS):
        value, fall = expected(here)
        too_low = value > observed
        if here >= last if too_low else here <= first:
            break
        low, high = (here, high) if too_low else (low, here)
        step = value * math.log(value / observed) / fall if value > 0.0 and fall > 0.0 else -math.inf
        there = min(max(here + step, first), last)
        if not low < there < high:
            there = math.sqrt(max(low, first) * min(high, last))
        if abs(there - here) <= _TOLERANCE * here:
            return there
        here = there
    return here

"""Logits, likelihoods and where both are cut off: one place, so that every bound counts with the same numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlflow_caliber._validation import FloatArray, check_unit_interval, segment_name
from mlflow_caliber.exceptions import InvalidInputError

__all__ = [
    "EPS",
    "TINY",
    "check_label",
    "check_probability",
    "check_share",
    "inside",
    "likelihood",
    "logit",
    "logits",
    "read_segment",
    "sigmoid",
    "sigmoids",
]

# Scores are cut off here before a logit is taken, probabilities and likelihoods there.
EPS = 1e-6
TINY = 1e-9


def logit(p: float) -> float:
    """The log odds of a probability."""
    p = min(max(p, EPS), 1.0 - EPS)
    return math.log(p) - math.log1p(-p)


def logits(p: FloatArray) -> FloatArray:
    """The log odds of many probabilities."""
    p = np.clip(p, EPS, 1.0 - EPS)
    odds: FloatArray = np.log(p) - np.log1p(-p)
    return odds


def sigmoid(t: float) -> float:
    """The probability of a logit, without overflow."""
    if t >= 0.0:
        return 1.0 / (1.0 + math.exp(-t))
    odds = math.exp(t)
    return odds / (1.0 + odds)


def sigmoids(t: FloatArray) -> FloatArray:
    """The probabilities of many logits."""
    p: FloatArray = 1.0 / (1.0 + np.exp(-np.clip(t, -700.0, 700.0)))
    return p


def inside(p: float) -> float:
    """A probability that calls nothing certain."""
    return min(max(p, TINY), 1.0 - TINY)


def likelihood(p: float, y: int) -> float:
    """The probability that was given to what happened."""
    return max(p if y else 1.0 - p, TINY)


def check_probability(p: Any) -> float:
    """One probability, in [0, 1]."""
    try:
        return check_unit_interval(p, "p")
    except OverflowError:  # a whole number that no float can hold
        raise InvalidInputError("p must be a number in [0, 1], got one beyond all floats.") from None


def check_share(value: Any, name: str) -> float:
    """One number strictly between 0 and 1, and not so near to them that its logarithms lose it."""
    try:
        number = check_unit_interval(value, name, open_ends=True)
    except OverflowError:
        wanted = f"{name} must be a number strictly between 0 and 1"
        raise InvalidInputError(f"{wanted}, got one beyond all floats.") from None
    if not TINY <= number <= 1.0 - TINY:
        raise InvalidInputError(f"{name} must be a number in [{TINY:g}, 1 - {TINY:g}], got {number!r}.")
    return number


def check_label(y: Any) -> int:
    """One outcome, 0 or 1."""
    if not isinstance(y, (int, float, np.integer, np.floating, np.bool_)) or y not in (0, 1):
        raise InvalidInputError(f"y must be 0 or 1, got {y!r}.")
    return int(y)


def read_segment(segment: Any) -> str | None:
    """A segment as text; None for a missing one, which NaN also is."""
    if segment is None or isinstance(segment, str):
        return segment
    if np.ndim(segment) != 0:
        raise InvalidInputError(f"segment must be one name, got {segment!r:.80}.")
    return None if segment != segment else segment_name(segment)  # noqa: PLR0124

"""The only place where arrays, numbers and names from outside are checked.

Each function returns the checked value in one canonical form (contiguous ``float64``, one dimension),
so that the code behind it never asks again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber.exceptions import ConfigError, InvalidInputError, OneClassError

FloatArray = NDArray[np.float64]

__all__ = [
    "FloatArray",
    "check_at_least",
    "check_binary_labels",
    "check_both_classes",
    "check_choice",
    "check_class_names",
    "check_column",
    "check_confidence_pair",
    "check_finite",
    "check_flag",
    "check_known_keys",
    "check_label_indices",
    "check_non_negative",
    "check_probability_matrix",
    "check_same_length",
    "check_scored_labels",
    "check_scores",
    "check_segment_thresholds",
    "check_unit_interval",
    "check_weights",
]


def check_finite(values: ArrayLike, name: str) -> FloatArray:
    """A non-empty, finite, one-dimensional array of numbers as ``float64``."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must be numbers, got {_kind(values)}.") from error
    if array.ndim != 1:
        raise InvalidInputError(f"{name} must be one-dimensional, got shape {array.shape}.")
    if array.size == 0:
        raise InvalidInputError(f"{name} must hold at least one value, got none.")
    n_bad = int(array.size - np.isfinite(array).sum())
    if n_bad:
        raise InvalidInputError(f"{name} must be finite, got {n_bad} NaN or infinite of {array.size} values.")
    return np.ascontiguousarray(array)


def check_scores(scores: ArrayLike, name: str = "y_proba") -> FloatArray:
    """Probabilities in [0, 1]: one dimension, finite, at least one."""
    array = check_finite(scores, name)
    low, high = float(array.min()), float(array.max())
    if low < 0.0:
        raise InvalidInputError(f"{name} must lie in [0, 1], got a minimum of {low:.6g}.")
    if high > 1.0:
        raise InvalidInputError(f"{name} must lie in [0, 1], got a maximum of {high:.6g}.")
    return array


def check_binary_labels(y: ArrayLike, name: str = "y_true") -> FloatArray:
    """Labels 0 and 1 (or False and True) as ``float64``."""
    array = check_finite(y, name)
    strange = array[(array != 0.0) & (array != 1.0)]
    if strange.size:
        raise InvalidInputError(f"{name} must hold only 0 and 1, got {strange[0]:.6g}.")
    return array


def check_both_classes(y: FloatArray, sample_weight: FloatArray | None, what: str) -> None:
    """Refuse labels (already checked) in which only one class carries weight."""
    seen = y if sample_weight is None else y[sample_weight > 0.0]
    if seen.min() == seen.max():
        raise OneClassError(f"{what} needs both classes, got only class {seen[0]:.0f} in {seen.size} rows.")


def check_weights(sample_weight: ArrayLike | None, n: int) -> FloatArray | None:
    """Weights: None, or ``n`` finite values >= 0 of which at least one is positive."""
    if sample_weight is None:
        return None
    weights = check_finite(sample_weight, "sample_weight")
    if weights.size != n:
        raise InvalidInputError(f"sample_weight must have one value a row, got {weights.size} values for {n} rows.")
    if weights.min() < 0.0:
        raise InvalidInputError(f"sample_weight must not be negative, got a minimum of {weights.min():.6g}.")
    if weights.max() == 0.0:
        raise InvalidInputError("sample_weight must hold at least one positive value, got only zeros.")
    return weights


def check_same_length(**arrays: Any) -> int:
    """The common length of the named arrays."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InvalidInputError(f"Arrays must have the same length: {got}.")
    return next(iter(lengths.values()))


def check_scored_labels(
    y_true: ArrayLike, y_proba: ArrayLike, sample_weight: ArrayLike | None = None
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Binary labels, their probabilities and weights, all of one length."""
    y = check_binary_labels(y_true)
    p = check_scores(y_proba)
    check_same_length(y_true=y, y_proba=p)
    return y, p, check_weights(sample_weight, y.size)


def check_confidence(values: ArrayLike, name: str = "confidence") -> FloatArray:
    """Confidences to be acted on: one dimension, possibly none, possibly NaN (unknown)."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must be numbers, got {_kind(values)}.") from error
    if array.ndim != 1:
        raise InvalidInputError(f"{name} must be one-dimensional, got shape {array.shape}.")
    return array


def check_confidence_pair(confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Confidences (any finite number, more is surer) and whether each answer was right (0 or 1)."""
    conf = check_finite(confidence, "confidence")
    right = check_binary_labels(correct, "correct")
    check_same_length(confidence=conf, correct=right)
    return conf, right


def check_probability_matrix(proba: ArrayLike, name: str = "y_proba", *, n_classes: int | None = None) -> FloatArray:
    """Class probabilities of shape (n, K), K >= 2, in [0, 1], rows summing to one (within 1e-3, then made exact)."""
    try:
        matrix = np.asarray(proba, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must be numbers, got {_kind(proba)}.") from error
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise InvalidInputError(f"{name} must have shape (n, K) with K >= 2, got shape {matrix.shape}.")
    if n_classes is not None and matrix.shape[1] != n_classes:
        raise InvalidInputError(f"{name} must have {n_classes} columns, got {matrix.shape[1]}.")
    check_scores(matrix.ravel(), name)
    total = matrix.sum(axis=1)
    worst = float(np.abs(total - 1.0).max())
    if worst > 1e-3:
        raise InvalidInputError(f"{name} rows must sum to 1, got a row that is off by {worst:.6g}.")
    # A row that is off by rounding only stays as it is: a probability on a bin's edge must not leave its bin.
    total[np.abs(total - 1.0) < 1e-12] = 1.0
    return np.ascontiguousarray(matrix / total[:, None])


def check_label_indices(y: ArrayLike, n_classes: int, name: str = "y_true") -> NDArray[np.intp]:
    """Class indices 0 .. K-1."""
    values = check_finite(y, name)
    if np.any(values != np.floor(values)) or values.min() < 0 or values.max() >= n_classes:
        got = f"values from {values.min():.6g} to {values.max():.6g}"
        raise InvalidInputError(f"{name} must hold class indices 0 to {n_classes - 1}, got {got}.")
    return values.astype(np.intp)


def check_class_names(classes: Iterable[Any] | None, n_classes: int) -> tuple[str, ...]:
    """One distinct text per class; by default the indices 0 .. K-1."""
    names = tuple(str(name) for name in (range(n_classes) if classes is None else classes))
    if len(names) != n_classes:
        raise InvalidInputError(f"classes must name the {n_classes} classes of the probabilities, got {len(names)}.")
    if len(set(names)) != n_classes:
        raise InvalidInputError(f"classes must be distinct as text, got {', '.join(names)}.")
    return names


def check_column(values: Any, name: str, n: int) -> NDArray[np.object_]:
    """``n`` values of any kind, missing ones included."""
    if isinstance(values, (str, bytes)) or np.ndim(values) != 1:
        raise InvalidInputError(f"{name} must have one value a row, got {_kind(values)}.")
    column = np.asarray(values, dtype=object)
    if column.size != n:
        raise InvalidInputError(f"{name} must have one value a row, got {column.size} values for {n} rows.")
    return column


def check_unit_interval(value: Any, name: str, *, open_ends: bool = False) -> float:
    """One number in [0, 1] (in (0, 1) with ``open_ends``)."""
    wanted = "strictly between 0 and 1" if open_ends else "in [0, 1]"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidInputError(f"{name} must be a number {wanted}, got {value!r}.")
    number = float(value)
    inside = 0.0 < number < 1.0 if open_ends else 0.0 <= number <= 1.0
    if not inside:  # also true for NaN
        raise InvalidInputError(f"{name} must be a number {wanted}, got {number:.6g}.")
    return number


def check_at_least(value: Any, name: str, minimum: float) -> float:
    """One finite number of at least ``minimum``."""
    wanted = f"{name} must be a finite number of at least {minimum:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidInputError(f"{wanted}, got {value!r}.")
    number = float(value)
    if not np.isfinite(number) or number < minimum:
        raise InvalidInputError(f"{wanted}, got {number:.6g}.")
    return number


def check_count(value: Any, name: str, *, minimum: int = 1) -> int:
    """A whole number of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise InvalidInputError(f"{name} must be a whole number >= {minimum}, got {value!r}.")
    return int(value)


def check_segment_thresholds(thresholds: Any) -> dict[str, float] | None:
    """None, or a threshold in [0, 1] for each named segment."""
    if thresholds is None:
        return None
    if not isinstance(thresholds, Mapping):
        raise InvalidInputError(f"segment_thresholds must map names to thresholds, got a {type(thresholds).__name__}.")
    for name in thresholds:
        if not isinstance(name, str):
            raise InvalidInputError(f"segment_thresholds must have names that are text, got {name!r}.")
    return {name: check_unit_interval(value, f"segment_thresholds[{name!r}]") for name, value in thresholds.items()}


def check_non_negative(value: Any, name: str) -> float:
    """One finite number >= 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidInputError(f"{name} must be a finite number of at least 0, got {value!r}.")
    number = float(value)
    if not 0.0 <= number < np.inf:  # also true for NaN
        raise InvalidInputError(f"{name} must be a finite number of at least 0, got {number:.6g}.")
    return number


def check_flag(value: Any, name: str) -> bool:
    """True or False, and nothing that merely counts as such."""
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidInputError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def check_choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """One of ``choices``; otherwise a sentence that names the nearest."""
    known = list(choices)
    if isinstance(value, str) and value in known:
        return value
    raise InvalidInputError(f"{name} must be one of {', '.join(known)}, got {value!r}.{_nearest(value, known)}")


def check_known_keys(keys: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Refuse the first key that ``known`` does not hold, and name the nearest that it does."""
    allowed = list(known)
    for key in keys:
        if key not in allowed:
            raise ConfigError(
                f"{where}: unknown key {key!r}.{_nearest(key, allowed)} Known keys: {', '.join(sorted(allowed))}."
            )


def _nearest(value: Any, known: list[str]) -> str:
    close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _kind(values: Any) -> str:
    dtype = getattr(values, "dtype", None)
    return f"values of type {dtype}" if dtype is not None else f"a {type(values).__name__} that does not convert"

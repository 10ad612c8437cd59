"""The only place where arrays, numbers and names from outside are checked.

Each function returns the checked value in one canonical form (contiguous ``float64``, one dimension),
so that the code behind it never asks again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber.exceptions import ConfigError, InvalidInputError, OneClassError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_BITS_OF_ONE = np.float64(1.0).view(np.uint64)
# Bounds of weights that are summed with their squares over any number of chunks.
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-100, 1e100
_CHUNK = 1 << 15

__all__ = [
    "LARGEST_WEIGHT",
    "SMALLEST_WEIGHT",
    "FloatArray",
    "IntArray",
    "check_addable_weights",
    "check_at_least",
    "check_binary_labels",
    "check_binary_outcomes",
    "check_both_classes",
    "check_choice",
    "check_class_names",
    "check_column",
    "check_confidence_pair",
    "check_counted_labels",
    "check_counted_weights",
    "check_finite",
    "check_flag",
    "check_known_keys",
    "check_label_indices",
    "check_labels",
    "check_no_missing",
    "check_non_negative",
    "check_number",
    "check_one_dimension",
    "check_probabilities",
    "check_probability_matrix",
    "check_same_length",
    "check_scored_chunks",
    "check_scored_labels",
    "check_scores",
    "check_segment",
    "check_text",
    "check_thresholds",
    "check_unit_interval",
    "check_weights",
    "row_chunks",
    "row_count",
    "segment_name",
    "segment_names",
]


def check_finite(values: ArrayLike, name: str) -> FloatArray:
    """A non-empty, finite, one-dimensional array of numbers as ``float64``."""
    array = _vector(values, name)
    _finite_range(array, name)
    return array


def check_scores(scores: ArrayLike, name: str = "y_proba") -> FloatArray:
    """Probabilities in [0, 1]: one dimension, finite, at least one."""
    array = _vector(scores, name)
    if not _within_unit_interval(array):
        low, high = _finite_range(array, name)
        got = f"a minimum of {low:.6g}" if low < 0.0 else f"a maximum of {high:.6g}"
        raise InvalidInputError(f"{name} must lie in [0, 1], got {got}.")
    return array


def check_binary_labels(y: ArrayLike, name: str = "y_true") -> FloatArray:
    """Labels 0 and 1 (or False and True) as ``float64``."""
    return _binary(y, name).astype(np.float64, order="C", copy=False)


def check_binary_outcomes(y: ArrayLike, name: str = "y_true") -> IntArray:
    """The same as ``int64``, for code that sorts or counts them: integers are then not copied."""
    return _binary(y, name).astype(np.int64, order="C", copy=False)


def check_both_classes(y: FloatArray | IntArray, sample_weight: FloatArray | None, what: str) -> None:
    """Refuse labels (already checked) in which only one class carries weight."""
    seen = y if sample_weight is None else y[sample_weight > 0.0]
    if np.all(seen[:1000] == seen[0]) and np.all(seen == seen[0]):  # the first rows nearly always answer
        raise OneClassError(f"{what} needs both classes, got only class {seen[0]:.0f} in {seen.size} rows.")


def check_weights(sample_weight: ArrayLike | None, n: int) -> FloatArray | None:
    """Weights: None, or ``n`` finite values >= 0 of which at least one is positive."""
    if sample_weight is None:
        return None
    weights, high = _weight_column(sample_weight, n)
    if high == 0.0:
        raise InvalidInputError("sample_weight must hold at least one positive value, got only zeros.")
    return weights


def check_counted_weights(sample_weight: ArrayLike | None, n: int) -> FloatArray | None:
    """Weights that stand for so many rows, and whose sums stay finite; where only their ratios matter any will do."""
    weights = check_weights(sample_weight, n)
    if weights is not None and (heaviest := float(weights.max())) > LARGEST_WEIGHT:
        raise InvalidInputError(f"sample_weight must not exceed {LARGEST_WEIGHT:g}, got a maximum of {heaviest:.6g}.")
    return weights


def check_addable_weights(sample_weight: ArrayLike | None, n: int) -> FloatArray | None:
    """Weights whose squares can be added up over any number of chunks; a chunk may weigh nothing at all."""
    if sample_weight is None:
        return None
    weights, high = _weight_column(sample_weight, n)
    strange = weights[(weights > 0.0) & (weights < SMALLEST_WEIGHT)]
    if strange.size or high > LARGEST_WEIGHT:
        worst = high if high > LARGEST_WEIGHT else strange[0]
        raise InvalidInputError(
            f"sample_weight must be 0 or lie in [{SMALLEST_WEIGHT}, {LARGEST_WEIGHT}], got {worst:.6g}."
        )
    return weights


def _weight_column(sample_weight: ArrayLike, n: int) -> tuple[FloatArray, float]:
    weights = _vector(sample_weight, "sample_weight")
    low, high = _finite_range(weights, "sample_weight")
    if weights.size != n:
        raise InvalidInputError(f"sample_weight must have one value a row, got {weights.size} values for {n} rows.")
    if low < 0.0:
        raise InvalidInputError(f"sample_weight must not be negative, got a minimum of {low:.6g}.")
    return weights, high


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


def check_counted_labels(
    y_true: ArrayLike, y_proba: ArrayLike, sample_weight: ArrayLike | None = None
) -> tuple[NDArray[Any], FloatArray, FloatArray | None]:
    """The same for code that only counts labels: truths and integers stay what they are, which saves a copy."""
    labels = _binary(y_true, "y_true")
    p = check_scores(y_proba)
    check_same_length(y_true=labels, y_proba=p)
    return labels, p, check_weights(sample_weight, labels.size)


def check_scored_chunks(
    y_true: ArrayLike, y_proba: ArrayLike, sample_weight: ArrayLike | None = None
) -> Iterator[tuple[NDArray[Any], FloatArray, FloatArray | None]]:
    """The same a chunk at a time, for code that needs each row once: a chunk is checked when the cache holds it anyway.

    Weights come relative to the greatest of all.
    """
    y, p = np.asanyarray(y_true), np.asanyarray(y_proba)
    masked = isinstance(y, np.ma.MaskedArray) or isinstance(p, np.ma.MaskedArray)
    if (
        masked
        or y.dtype.kind not in "biuf"
        or p.dtype != np.float64
        or y.ndim != 1
        or y.shape != p.shape
        or y.size == 0
    ):
        y, p, _ = check_counted_labels(y_true, y_proba)
    weights = check_weights(sample_weight, y.size)
    heaviest = 1.0 if weights is None else weights.max()
    for part in row_chunks(y.size):
        if not (_all_binary(y[part]) and _within_unit_interval(p[part])):
            check_counted_labels(y, p)  # raises: in one sentence about all rows
        yield y[part], p[part], None if weights is None else weights[part] / heaviest


def row_chunks(n: int) -> Iterator[slice]:
    """Consecutive slices of ``n`` rows, short enough for what is computed of them to stay in the cache."""
    return (slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK))


def check_confidence(values: ArrayLike, name: str = "confidence") -> FloatArray:
    """Confidences to be acted on: one dimension, possibly none, possibly NaN (unknown)."""
    return _vector(values, name, empty=True)


def check_confidence_pair(confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Confidences (any finite number, more is surer) and whether each answer was right (0 or 1)."""
    conf = check_finite(confidence, "confidence")
    right = check_binary_labels(correct, "correct")
    check_same_length(confidence=conf, correct=right)
    return conf, right


def check_probability_matrix(proba: ArrayLike, name: str = "y_proba", *, n_classes: int | None = None) -> FloatArray:
    """Class probabilities of shape (n, K), K >= 2, in [0, 1], rows summing to one (within 1e-3, then made exact)."""
    matrix = _numbers(proba, name)
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


def check_probabilities(proba: ArrayLike, name: str = "y_proba") -> FloatArray:
    """Probabilities of class 1, or of each class; two columns are read as binary, and column 1 is class 1."""
    if np.ndim(proba) != 2:
        return check_scores(proba, name)
    matrix = check_probability_matrix(proba, name)
    return np.ascontiguousarray(matrix[:, 1]) if matrix.shape[1] == 2 else matrix


def check_labels(y: ArrayLike, proba: FloatArray, name: str = "y_true") -> FloatArray | NDArray[np.intp]:
    """Labels that go with checked probabilities: 0 and 1, or class indices."""
    y_checked = check_binary_labels(y, name) if proba.ndim == 1 else check_label_indices(y, proba.shape[1], name)
    check_same_length(**{name: y_checked, "y_proba": proba})
    return y_checked


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
    if isinstance(values, np.ma.MaskedArray):
        column = column.copy()
        column[np.ma.getmaskarray(values)] = None
    return column


def row_count(X: Any) -> int:
    """How many rows a table, an array, a sparse matrix or a list has."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def check_segment(segment: Any, n: int) -> NDArray[np.object_]:
    """The name of the segment of each of ``n`` rows, from one text for all or one value of any kind a row."""
    if isinstance(segment, str):
        return np.full(n, segment, dtype=object)
    return segment_names(check_column(segment, "segment", n))


def segment_names(column: NDArray[np.object_]) -> NDArray[np.object_]:
    """Values of any kind as names of segments; None where one is missing."""
    import pandas as pd  # the metrics get by without it

    names = np.array([value if type(value) is str else segment_name(value) for value in column], dtype=object)
    names[pd.isna(column)] = None
    return names


def segment_name(value: Any) -> str:
    """A value as the name of a segment: whole numbers alike, for one gap turns a column of integers into floats."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def check_no_missing(column: NDArray[np.object_], name: str) -> NDArray[np.object_]:
    """A checked column without a missing value."""
    import pandas as pd  # the metrics get by without it

    n_missing = int(pd.isna(column).sum())
    if n_missing:
        raise InvalidInputError(f"{name} must not be missing, got {n_missing} missing of {column.size} values.")
    return column


def check_one_dimension(values: Any, name: str) -> NDArray[Any]:
    """An array of any kind and length, not copied if it is one already; whoever reads its values checks them."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(f"{name} must be numbers, got {_kind(values)}.") from error
    if array.ndim != 1:
        raise InvalidInputError(f"{name} must be one-dimensional, got shape {array.shape}.")
    return array


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


def check_number(value: Any, name: str) -> float:
    """One finite number."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not np.isfinite(value):
        raise InvalidInputError(f"{name} must be a finite number, got {value!r}.")
    return float(value)


def check_count(value: Any, name: str, *, minimum: int = 1) -> int:
    """A whole number of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise InvalidInputError(f"{name} must be a whole number >= {minimum}, got {value!r}.")
    return int(value)


def check_thresholds(thresholds: Any, name: str) -> dict[str, float] | None:
    """None, or a threshold in [0, 1] for each name (of a segment, of a class)."""
    if thresholds is None:
        return None
    if not isinstance(thresholds, Mapping):
        raise InvalidInputError(f"{name} must map names to thresholds, got a {type(thresholds).__name__}.")
    for key in thresholds:
        if not isinstance(key, str):
            raise InvalidInputError(f"{name} must have names that are text, got {key!r}.")
    return {key: check_unit_interval(value, f"{name}[{key!r}]") for key, value in thresholds.items()}


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


def check_text(value: Any, name: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be text, got {value!r}.")
    return value


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


def _numbers(values: ArrayLike, name: str) -> FloatArray:
    """Contiguous ``float64``; what has that form already is not copied."""
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)  # or numpy would read what the mask hides
    if getattr(getattr(values, "dtype", None), "kind", "") == "c":
        raise InvalidInputError(f"{name} must be real numbers, got complex ones.")
    try:
        return np.asarray(values, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must be numbers, got {_kind(values)}.") from error


def _vector(values: ArrayLike, name: str, *, empty: bool = False) -> FloatArray:
    array = _numbers(values, name)
    _check_vector(array, name, empty=empty)
    return array


def _check_vector(array: NDArray[Any], name: str, *, empty: bool = False) -> None:
    if array.ndim != 1:
        raise InvalidInputError(f"{name} must be one-dimensional, got shape {array.shape}.")
    if array.size == 0 and not empty:
        raise InvalidInputError(f"{name} must hold at least one value, got none.")


def _binary(y: ArrayLike, name: str) -> NDArray[Any]:
    """Labels 0 and 1 in the type in which they came, if it is one of numbers."""
    typed = hasattr(y, "dtype") and not isinstance(y, np.ma.MaskedArray)
    array = np.asarray(y) if typed else _numbers(y, name)
    if array.dtype.kind in "biu":
        _check_vector(array, name)
    else:
        array = _vector(y, name)
    if not _all_binary(array):
        _finite_range(array, name)
        strange = array[(array != 0) & (array != 1)]
        raise InvalidInputError(f"{name} must hold only 0 and 1, got {strange[0]:.6g}.")
    return array


def _all_binary(array: NDArray[Any]) -> bool:
    if array.dtype.kind in "biu":
        return np.bitwise_or.reduce(array) in {0, 1}  # one pass: a sign or any higher bit would remain
    return bool(np.count_nonzero(array == 0.0) + np.count_nonzero(array == 1.0) == array.size)


def _within_unit_interval(array: FloatArray) -> bool:
    if array.size == 1:  # a single row is served at Python's speed
        return 0.0 <= array.item() <= 1.0
    # One pass: as unsigned integers, NaN and what is negative or above 1 are greater than 1. (-0.0 is, too, and fine.)
    bits = array.view(np.uint64)
    return bool(bits.max() <= _BITS_OF_ONE or (array.min() >= 0.0 and array.max() <= 1.0))


def _finite_range(array: NDArray[Any], name: str) -> tuple[float, float]:
    """The lowest and the highest value. They say by themselves whether all values are finite: NaN would be both."""
    low, high = (array.item(),) * 2 if array.size == 1 else (float(array.min()), float(array.max()))
    if not -np.inf < low <= high < np.inf:
        n_bad = array.size - np.count_nonzero(np.isfinite(array))
        raise InvalidInputError(f"{name} must be finite, got {n_bad} NaN or infinite of {array.size} values.")
    return low, high


def _nearest(value: Any, known: list[str]) -> str:
    close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _kind(values: Any) -> str:
    dtype = getattr(values, "dtype", None)
    return f"values of type {dtype}" if dtype is not None else f"a {type(values).__name__} that does not convert"

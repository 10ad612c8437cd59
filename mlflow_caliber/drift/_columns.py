"""One column of a frame, read the same way whatever its dtype: as numbers or as counted levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.exceptions import InvalidInputError

Kind = Literal["numeric", "boolean", "datetime", "categorical"]
KINDS: tuple[Kind, ...] = ("numeric", "boolean", "datetime", "categorical")

#: A level's name is cut here, on both sides alike, so that a profile stays small.
_MAX_LABEL = 60
_EPOCH = pd.Timestamp(0, tz="UTC")
_INFERRED: dict[str, Kind] = {
    "boolean": "boolean",
    "integer": "numeric",
    "floating": "numeric",
    "mixed-integer-float": "numeric",
    "decimal": "numeric",
    "date": "datetime",
    "datetime": "datetime",
    "datetime64": "datetime",
}


class UnreadableColumnError(Exception):
    """A column that cannot be compared; the message is the sentence that the report shows."""


def named_columns(frame: pd.DataFrame, name: str, columns: Iterable[str] | None = None) -> dict[str, pd.Series[Any]]:
    """The columns of a frame by their name as text; with ``columns``, only those of them that it has."""
    if not isinstance(frame, pd.DataFrame):
        raise InvalidInputError(f"{name} must be a pandas DataFrame, got a {type(frame).__name__}.")
    names = [str(column) for column in frame.columns]
    twice = [column for column, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidInputError(f"{name} must have distinct column names, got {twice[0]!r} more than once.")
    wanted = set(names) if columns is None else set(columns)
    return {column: frame.iloc[:, i] for i, column in enumerate(names) if column in wanted}


def kind_of(series: pd.Series[Any]) -> Kind:
    """The kind of a column; of one of dtype ``object``, by what it holds."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "categorical"
    if types.is_bool_dtype(dtype):
        return "boolean"
    if types.is_datetime64_any_dtype(dtype):
        return "datetime"
    if types.is_complex_dtype(dtype):
        raise UnreadableColumnError("It holds complex numbers, which have no order to compare.")
    if types.is_numeric_dtype(dtype) or types.is_timedelta64_dtype(dtype):
        return "numeric"
    return _INFERRED.get(types.infer_dtype(series, skipna=True), "categorical")


def as_numbers(series: pd.Series[Any], kind: Kind) -> FloatArray:
    """Values as ``float64``, NaN for missing; booleans as 0 and 1, durations and times (from 1970, UTC) in seconds."""
    try:
        return _seconds(series) if kind == "datetime" else _floats(series)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableColumnError(f"It is {kind} in the reference, but this data holds {_types(series)}.") from error


def as_labels(series: pd.Series[Any]) -> tuple[NDArray[np.intp], list[str]]:
    """Values as levels: the index of each row's name, -1 for missing, and the names."""
    try:
        codes, values = pd.factorize(series)
    except TypeError as error:
        raise UnreadableColumnError(f"It holds {_types(series)}, which cannot be counted as a level.") from error
    return codes, [_label(value) for value in values]


def level_counts(series: pd.Series[Any]) -> Counter[str]:
    """How many rows hold each level; missing values count for nothing."""
    codes, names = as_labels(series)
    counts: Counter[str] = Counter()
    for name, count in zip(names, np.bincount(codes[codes >= 0], minlength=len(names)).tolist(), strict=True):
        counts[name] += count
    return counts


def number_counts(values: FloatArray, kind: Kind) -> Counter[str]:
    """:func:`level_counts` of numbers without NaN, by the same names."""
    unique, sizes = np.unique(values, return_counts=True)
    counts: Counter[str] = Counter()
    for value, size in zip(unique.tolist(), sizes.tolist(), strict=True):
        counts[number_label(value, kind)] += size
    return counts


def number_label(value: float, kind: Kind) -> str:
    """A number as text: whole numbers as such, others to six digits, so that float32 and float64 agree."""
    if not np.isfinite(value):
        return str(value)
    if kind == "datetime":
        return str(np.datetime64(int(value), "s"))
    return str(int(value)) if value == int(value) else f"{value:.6g}"


def _label(value: Any) -> str:
    # 1 and 1.0 are one level: an integer column turns to float as soon as a value is missing.
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return number_label(float(value), "numeric")
    return str(value)[:_MAX_LABEL]


def _floats(series: pd.Series[Any]) -> FloatArray:
    if types.is_datetime64_any_dtype(series.dtype):
        raise TypeError("times are not numbers")
    if types.is_timedelta64_dtype(series.dtype):
        return np.asarray(series.dt.total_seconds(), dtype=np.float64)
    if series.dtype == object or isinstance(series.dtype, (pd.CategoricalDtype, pd.StringDtype)):
        series = pd.to_numeric(series.astype(object).where(series.notna(), np.nan))
    return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def _seconds(series: pd.Series[Any]) -> FloatArray:
    if types.is_numeric_dtype(series.dtype):
        raise TypeError("numbers are not times")
    # Times that came as text (JSON, CSV) are read in ISO 8601 only; anything else would be a guess.
    text = types.infer_dtype(series, skipna=True) == "string"
    times = pd.to_datetime(series, utc=True, format="ISO8601" if text else None)
    return np.asarray((times - _EPOCH).dt.total_seconds(), dtype=np.float64)


def _types(series: pd.Series[Any]) -> str:
    # Types, no values: a profile is stored with the model, and a sentence must not carry a row of the data there.
    return "values of type " + ", ".join(sorted({type(value).__name__ for value in series.dropna()}))

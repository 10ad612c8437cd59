"""One column of a frame, read the same way whatever its dtype: as sorted numbers or as counted levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.exceptions import InvalidInputError

Kind = Literal["numeric", "boolean", "datetime", "categorical"]
KINDS: tuple[Kind, ...] = ("numeric", "boolean", "datetime", "categorical")
ORDERED: tuple[Kind, ...] = ("numeric", "datetime")
NAMED: tuple[Kind, ...] = ("boolean", "categorical")

#: A level's name is cut here, on both sides alike, so that a profile stays small.
_MAX_LABEL = 60
_INFERRED: dict[str, Kind] = {
    "boolean": "boolean",
    "integer": "numeric",
    "floating": "numeric",
    "mixed-integer-float": "numeric",
    "decimal": "numeric",
    "timedelta": "numeric",
    "timedelta64": "numeric",
    "time": "numeric",
    "date": "datetime",
    "datetime": "datetime",
    "datetime64": "datetime",
    "period": "datetime",
}


class UnreadableColumnError(Exception):
    """A column that cannot be compared; the message is the sentence that the report shows."""


class Rows(NamedTuple):
    """Numbers or times: the values in ascending order without NaN, infinities included, and how many were missing."""

    values: FloatArray
    missing: int
    narrow: bool  # held in float32 or less, so that comparing more digits would compare the dtypes

    def levels(self, kind: Kind) -> Levels:
        """The same as counted levels."""
        ends = group_ends(self.values)
        counts: Counter[str] = Counter()
        for value, size in zip(self.values[ends].tolist(), np.diff(ends, prepend=-1).tolist(), strict=True):
            counts[number_label(value, kind)] += size
        return Levels(counts, self.missing)


class Levels(NamedTuple):
    """Categories: how many rows hold each level, and how many none."""

    counts: Counter[str]
    missing: int


def group_ends(values: FloatArray) -> NDArray[np.intp]:
    """Where each run of equal values ends in an ascending array."""
    if values.size == 0:
        return np.empty(0, dtype=np.intp)
    return np.append(np.flatnonzero(values[1:] != values[:-1]), values.size - 1)


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


def read_column(series: pd.Series[Any], kind: Kind) -> Rows | Levels:
    """A column as what its kind compares."""
    if kind == "categorical":
        return Levels(level_counts(series), int(series.isna().sum()))
    values = np.sort(as_numbers(series, kind))
    present = int(np.searchsorted(values, np.nan))  # NaN is last
    return Rows(values[:present], values.size - present, _is_narrow(series.dtype))


def as_numbers(series: pd.Series[Any], kind: Kind) -> FloatArray:
    """Values as ``float64``, NaN for missing; booleans as 0 and 1, durations and times (from 1970, UTC) in seconds."""
    try:
        return _instants(series) if kind == "datetime" else _floats(series)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableColumnError(f"It is {kind} in the reference, but this data holds {_types(series)}.") from error


def as_labels(series: pd.Series[Any]) -> tuple[NDArray[np.intp], list[str]]:
    """Values as levels: the index of each row's name, -1 for missing, and the names."""
    codes, values = _factorized(series)
    return codes, [_label(value) for value in values]


def level_counts(series: pd.Series[Any]) -> Counter[str]:
    """How many rows hold each level; missing values count for nothing."""
    codes, names = as_labels(series)
    counts: Counter[str] = Counter()
    for name, count in zip(names, np.bincount(codes[codes >= 0], minlength=len(names)).tolist(), strict=True):
        counts[name] += count
    return counts


def number_label(value: float, kind: Kind) -> str:
    """A number as text: whole numbers as such, others to six digits, so that float32 and float64 agree."""
    if not np.isfinite(value):
        return str(value)
    if kind == "datetime":
        return str(np.datetime64(int(value), "s"))
    return str(int(value)) if value == int(value) else f"{value:.6g}"


def _factorized(series: pd.Series[Any]) -> tuple[NDArray[np.intp], Any]:
    try:
        return pd.factorize(series)
    except (TypeError, NotImplementedError) as error:  # unhashable in Python; no kernel in Arrow
        raise UnreadableColumnError(f"It holds {_types(series)}, which cannot be counted as a level.") from error


def _label(value: Any) -> str:
    # 1 and 1.0 are one level: an integer column turns to float as soon as a value is missing.
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return number_label(float(value), "numeric")
    return str(value)[:_MAX_LABEL]


def _is_narrow(dtype: Any) -> bool:
    return bool(types.is_float_dtype(dtype)) and getattr(dtype, "itemsize", 8) < 8


def _floats(series: pd.Series[Any]) -> FloatArray:
    if types.is_datetime64_any_dtype(series.dtype):
        raise TypeError("times are not numbers")
    if types.is_timedelta64_dtype(series.dtype):
        return np.asarray(series.dt.total_seconds(), dtype=np.float64)
    if _is_plain(series.dtype):
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
    return _loose_floats(series)


def _is_plain(dtype: Any) -> bool:
    return bool(types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype)) and not types.is_object_dtype(dtype)


def _loose_floats(series: pd.Series[Any]) -> FloatArray:
    """Numbers, durations or times of day from a dtype that may hold anything."""
    loose = series.astype(object).where(series.notna(), np.nan)
    what = types.infer_dtype(series, skipna=True)
    if what == "time":
        loose = loose.where(series.isna(), loose.astype(str))
    if what in {"time", "timedelta", "timedelta64"}:
        return np.asarray(pd.to_timedelta(loose).dt.total_seconds(), dtype=np.float64)
    return np.asarray(pd.to_numeric(loose).to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def _instants(series: pd.Series[Any]) -> FloatArray:
    if types.is_numeric_dtype(series.dtype):
        raise TypeError("numbers are not times")
    # By their count of microseconds: a difference of timestamps is slower, and overflows after the year 2262.
    instants = _timestamps(series)
    return np.where(np.isnat(instants), np.nan, instants.astype(np.int64) / 1e6)


def _timestamps(series: pd.Series[Any]) -> NDArray[np.datetime64]:
    if isinstance(series.dtype, pd.PeriodDtype):
        series = series.dt.start_time
    # Arrow's dates pass for datetime64, and do not convert to it when one is missing.
    if not types.is_datetime64_any_dtype(series.dtype) or series.dtype.type is date:
        # Times that came as text (JSON, CSV) are read in ISO 8601 only; anything else would be a guess.
        text = types.infer_dtype(series, skipna=True) == "string"
        series = pd.to_datetime(series, utc=True, format="ISO8601" if text else None)
    # Aware times become UTC, naive ones are taken for it. Only Arrow has to be told what a missing time is.
    if isinstance(series.dtype, pd.ArrowDtype):
        return series.to_numpy(dtype="datetime64[us]", na_value=np.datetime64("NaT"))
    return series.to_numpy(dtype="datetime64[us]")


def _types(series: pd.Series[Any]) -> str:
    # Types, no values: a profile is stored with the model, and a sentence must not carry a row of the data there.
    return "values of type " + ", ".join(sorted({type(value).__name__ for value in series.dropna()}))

"""Columns of an Arrow batch as what statistics take: numbers, labels 0 and 1, names of segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_caliber._validation import check_probabilities, segment_names
from mlflow_caliber.exceptions import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

INDICES = ("0", "1")


def numbers(column: pa.Array, name: str) -> NDArray[Any]:
    """A column of numbers of any type; a missing one is NaN. What needs no conversion is not copied."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return numbers(column.dictionary_decode(), name)
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InvalidInputError(f"{name} must be numbers, got values of type {kind}.")
    found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found if found.dtype != object else found.astype(np.float64)  # truths with gaps


def probabilities(batch: pa.RecordBatch, columns: Sequence[str], name: str) -> NDArray[Any]:
    """The probability of class 1, from a column of its own or one for each of two classes; or those of many classes."""
    found = [numbers(batch.column(column), name) for column in columns]
    return found[0] if len(found) == 1 or batch.num_rows == 0 else check_probabilities(np.column_stack(found), name)


def labels(column: pa.Array, classes: Sequence[str], name: str) -> NDArray[Any]:
    """Position among the classes of each label, whatever its type; see :func:`label_text`."""
    import pyarrow as pa

    column = _single(column, name)
    kind = column.type
    if (
        tuple(classes) == INDICES
        and column.null_count == 0
        and (pa.types.is_integer(kind) or pa.types.is_boolean(kind))
    ):
        found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        if found.size == 0 or (found.min() >= 0 and found.max() <= 1):
            return found
    encoded = column if pa.types.is_dictionary(kind) else column.dictionary_encode()
    codes = _codes(encoded)
    values = [*_values(encoded.dictionary), None]
    position = {text: k for k, text in enumerate(classes)}
    table = np.array([_position(value, position) for value in values], dtype=np.int16)
    places: NDArray[np.int16] = table[codes]
    strange = np.flatnonzero(places < 0)
    if strange.size:
        got = label_text(values[codes[strange[0]]])
        raise InvalidInputError(
            f"{name} must hold only {', '.join(classes)}, got {got!r}: name the labels with --class, in the order of "
            "the probabilities (of two, the positive one last)."
        )
    return places


def label_text(value: Any) -> str:
    """A label as a class is spelled: 1 and 1.0 and True are "1", and what is not quite 1 is not."""
    if not isinstance(value, Number) or not math.isfinite(value):  # type: ignore[arg-type]
        return str(value)
    whole = int(value)  # type: ignore[call-overload]
    if value == whole:
        return str(whole)
    # A decimal is as exact as it came, but for the zeros that its column adds.
    return f"{value:f}".rstrip("0") if isinstance(value, Decimal) else str(value)


def segment_values(column: pa.Array, name: str) -> pd.Categorical:
    """A column of single values as names of segments; missing ones have no code."""
    import pyarrow as pa

    column = _single(column, name)
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    names = segment_names(encoded.dictionary.to_pandas().to_numpy(dtype=object))
    distinct = {name: code for code, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
    table = np.array([-1 if name is None else distinct[name] for name in (*names, None)], dtype=np.int32)
    return pd.Categorical.from_codes(table[_codes(encoded)], categories=pd.Index(list(distinct), dtype=object))


def _single(column: pa.Array, name: str) -> pa.Array:
    """A column of values that can be told apart."""
    import pyarrow as pa

    if pa.types.is_nested(column.type) and not pa.types.is_dictionary(column.type):
        raise InvalidInputError(f"{name} must hold single values, got values of type {column.type}.")
    return column.cast(pa.float32()) if pa.types.is_float16(column.type) else column


def _values(dictionary: pa.Array) -> list[Any]:
    """Python's values, but floats of their own width: 0.1 of 32 bits is 0.1, and has more digits in 64."""
    import pyarrow as pa

    is_float = pa.types.is_floating(dictionary.type)
    return list(dictionary.to_numpy(zero_copy_only=False)) if is_float else dictionary.to_pylist()


def _codes(encoded: pa.DictionaryArray) -> NDArray[Any]:
    """Positions in the dictionary; -1 for a missing value."""
    found: NDArray[Any] = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return found


def _position(value: Any, classes: dict[str, int]) -> int:
    # A missing label is no class, whatever classes are called.
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return -1
    text = label_text(value)
    if text not in classes and isinstance(value, str):
        text = _as_number(value)
    return classes.get(text, -1)


def _as_number(text: str) -> str:
    """What a text file says of a number or a truth."""
    if text.lower() in {"true", "false"}:
        return label_text(text.lower() == "true")
    try:
        return label_text(float(text))
    except ValueError:
        return text

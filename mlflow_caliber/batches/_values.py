"""The values of a segment column as names and codes: what rows are grouped by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_caliber._validation import check_column, check_same_length, segment_names

MISSING = "(missing)"


class Coded(NamedTuple):
    """``names[codes[i]]`` is the segment of row i; all names differ."""

    names: list[str]
    codes: NDArray[np.int64]

    def groups(self) -> Iterator[tuple[str, NDArray[np.intp] | slice]]:
        """Each name that a row has, with its rows."""
        counts = np.bincount(self.codes, minlength=len(self.names))
        present = np.flatnonzero(counts)
        if present.size == 1:
            yield self.names[present[0]], slice(None)
            return
        # (Whole numbers of 16 bits are sorted by counting, several times as fast.)
        order = np.argsort(self.codes.astype(np.min_scalar_type(len(self.names))), kind="stable")
        for code, end in zip(present.tolist(), np.cumsum(counts[present]).tolist(), strict=True):
            yield self.names[code], order[end - int(counts[code]) : end]


def coded(values: Any, name: str, n: int) -> Coded:
    """Values of any kind, one a row, as text; missing ones are :data:`MISSING`."""
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
        values = values.array
    if isinstance(values, pd.Categorical):
        check_same_length(**{name: values, "y_true": range(n)})
        # The code of a missing value is -1: the last name.
        return _distinct([*_names(values.categories), MISSING], np.asarray(values.codes, dtype=np.int64))
    column = check_column(values, name, n)
    if isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "biuf":
        distinct, codes = np.unique(values, return_inverse=True)
        return _distinct(_names(distinct), codes)
    names = _names(column)
    position = {value: code for code, value in enumerate(dict.fromkeys(names))}
    return Coded(list(position), np.fromiter(map(position.__getitem__, names), np.int64, n))


def _names(values: Any) -> list[str]:
    return [MISSING if name is None else name for name in segment_names(np.asarray(values, dtype=object))]


def _distinct(names: list[str], codes: NDArray[np.int64]) -> Coded:
    """Values that read alike, such as 1 and "1", are one."""
    position = {name: code for code, name in enumerate(dict.fromkeys(names))}
    return Coded(list(position), np.array([position[name] for name in names], dtype=np.int64)[codes])

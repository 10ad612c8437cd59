"""Drift of more rows than fit in memory, or that lie on many machines: by sums over the cells of a stored profile."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd

from mlflow_caliber.drift._columns import Kind, UnreadableColumnError, named_columns, read_column
from mlflow_caliber.drift._ladder import LadderSums
from mlflow_caliber.drift._native import Current, Test, report_of
from mlflow_caliber.drift._profile import ColumnProfile, ColumnSums, known_from_profile, read_profile
from mlflow_caliber.drift._report import DriftReport
from mlflow_caliber.drift._state import list_of, number, read_version, text, value_of
from mlflow_caliber.exceptions import InvalidInputError, StateError

FORMAT_VERSION = 1
_WHERE = "The drift statistics"


class DriftStatistics:
    """Mergeable sums from which drift against a stored profile is measured.

    Chunks of current data are added with :meth:`update`, statistics of other rows with :meth:`merge` or ``+``. They
    take up to 2 kB a column, however many rows there are.

    Parameters
    ----------
    profile : mapping
        What :func:`~mlflow_caliber.drift.feature_profile` gave.
    columns : iterable of str, optional
        The columns of the current data; by default those of the first chunk. A chunk needs only those of them that the
        profile has.

    Notes
    -----
    Counts are exact, so PSI, Jensen-Shannon, KS, chi-square and Cramer's V are those of
    :func:`~mlflow_caliber.drift.drift_from_profile` to the last digit. Wasserstein distance and shift rest on sums of
    values, which differ by the rounding of their additions, about 1e-9 of their value.

    Examples
    --------
    >>> import pandas as pd
    >>> from mlflow_caliber.drift import feature_profile
    >>> profile = feature_profile(pd.DataFrame({"paid": [True] * 90 + [False] * 10}))
    >>> monday = DriftStatistics(profile).update(pd.DataFrame({"paid": [True] * 60}))
    >>> tuesday = DriftStatistics(profile).update(pd.DataFrame({"paid": [False] * 40}))
    >>> (monday + tuesday).report().drifted
    ('paid',)
    """

    def __init__(self, profile: Mapping[str, Any], *, columns: Iterable[str] | None = None) -> None:
        self._profile = read_profile(profile)
        self._columns = None if columns is None else tuple(columns)
        self._sums: dict[str, ColumnSums | str] = {}
        self.n = 0

    def update(self, frame: pd.DataFrame) -> Self:
        """Add a chunk of rows.

        Raises
        ------
        InvalidInputError
            If ``frame`` is not a DataFrame, or does not have the columns.
        """
        series = named_columns(frame, "frame")
        names = tuple(series) if self._columns is None else self._columns
        known = [column for column in self._profile.columns if column.column in names]
        for column in known:
            if column.column not in series:
                raise InvalidInputError(
                    f"frame must have the columns of the other chunks, got none of: {column.column}."
                )
        new = {column.column: _sums_of(column, series[column.column]) for column in known}
        self._sums = {name: _plus(self._sums[name], sums) if name in self._sums else sums for name, sums in new.items()}
        self._columns = names
        self.n += len(frame)
        return self

    def merge(self, other: DriftStatistics) -> Self:
        """The statistics of the rows of both; neither is changed.

        Raises
        ------
        InvalidInputError
            When ``other`` is something else, or about another profile or other columns.
        """
        if not isinstance(other, DriftStatistics):
            raise InvalidInputError(f"other must be DriftStatistics, got a {type(other).__name__}.")
        if other._profile != self._profile:
            raise InvalidInputError("other must be about the same profile, got another one.")
        if not other.n or not self.n:
            return copy.copy(self if self.n else other)  # type: ignore[return-value]
        if other._columns != self._columns:
            raise InvalidInputError("other must be of the same columns, got others.")
        both = copy.copy(self)
        both._sums = {name: _plus(sums, other._sums[name]) for name, sums in self._sums.items()}
        both.n = self.n + other.n
        return both

    def __add__(self, other: object) -> Self:
        return self.merge(other) if isinstance(other, DriftStatistics) else NotImplemented

    def __radd__(self, other: object) -> Self:
        # sum() begins with 0.
        return copy.copy(self) if isinstance(other, int) and other == 0 else NotImplemented

    def __repr__(self) -> str:
        return f"DriftStatistics(n={self.n}, {len(self._sums)} columns)"

    def report(
        self,
        *,
        columns: Iterable[str] | None = None,
        method: str | Iterable[str] = "psi",
        alpha: float = 0.05,
        min_effect: float = 0.02,
        min_rows: int = 50,
        random_state: int = 0,
    ) -> DriftReport:
        """Judge the columns; arguments and errors are those of :func:`~mlflow_caliber.drift.drift_from_profile`."""
        wanted = None if columns is None else list(columns)
        test = Test.checked(method, alpha, min_effect, min_rows, random_state)
        names = [name for name in self._columns or () if wanted is None or name in wanted]
        current = Current(self.n, {name: partial(self._read, name) for name in names})
        return report_of(self._profile.n, known_from_profile(self._profile, wanted), current, wanted, test)

    def _read(self, name: str, kind: Kind) -> ColumnSums:
        found = self._sums[name]
        if isinstance(found, str):
            raise UnreadableColumnError(found)
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state; the profile is part of it."""
        return {
            "format_version": FORMAT_VERSION,
            "profile": self._profile.to_dict(),
            "columns": None if self._columns is None else list(self._columns),
            "n": self.n,
            "sums": {name: _to_state(sums) for name, sums in self._sums.items()},
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            If a field is missing, of another type, or does not fit the profile.
        """
        read_version(state, FORMAT_VERSION, _WHERE)
        names = None if state.get("columns") is None else list_of(state, "columns", str, _WHERE)
        found = cls(value_of(state, "profile", dict, _WHERE), columns=names)
        found.n = int(number(state, "n", _WHERE, whole=True))
        by_name = {column.column: column for column in found._profile.columns}
        for name, sums in value_of(state, "sums", dict, _WHERE).items():
            if name not in by_name or name not in (names or ()):
                raise StateError(f"{_WHERE} must be of columns of the profile, got {name!r}.")
            found._sums[name] = _from_state(by_name[name], sums, found.n)
        return found


def _sums_of(column: ColumnProfile, series: pd.Series[Any]) -> ColumnSums | str:
    try:
        return column.sums(read_column(series, column.kind))
    except UnreadableColumnError as reason:
        return str(reason)


def _plus(one: ColumnSums | str, other: ColumnSums | str) -> ColumnSums | str:
    """What is unreadable in one part of the data is unreadable."""
    if isinstance(one, str):
        return one
    return other if isinstance(other, str) else one.plus(other)


def _to_state(sums: ColumnSums | str) -> dict[str, Any]:
    if isinstance(sums, str):
        return {"unreadable": sums}
    state: dict[str, Any] = {"cells": sums.cells.tolist()}
    if sums.ladder is not None:
        state["counts"] = sums.ladder.counts.tolist()
        state |= {name: _finite(getattr(sums.ladder, name).tolist()) for name in ("sums", "squares")}
    return state


def _finite(values: list[float]) -> list[float | None]:
    """JSON has no infinity; a sum that is none has no finite area either way."""
    return [value if math.isfinite(value) else None for value in values]


def _from_state(column: ColumnProfile, state: Any, n: int) -> ColumnSums | str:
    where = f"Column {column.column!r} of the drift statistics"
    if not isinstance(state, Mapping):
        raise StateError(f"{where} must be a JSON object, got a {type(state).__name__}.")
    if "unreadable" in state:
        return text(state, "unreadable", where)
    cells = np.array(list_of(state, "cells", int, where), dtype=np.int64)
    if cells.size != column.cell_counts.size or cells.min() < 0 or cells.sum() != n:
        raise StateError(f"{where} must have {column.cell_counts.size} cells of {n} rows, got {cells.tolist()}.")
    if column.ladder is None or "counts" not in state:
        return ColumnSums(cells, None)
    counts = np.array(list_of(state, "counts", int, where), dtype=np.int64)
    sums, squares = (
        np.array(list_of(state, name, (int, float, type(None)), where), float) for name in ("sums", "squares")
    )
    if counts.size != len(column.ladder.counts) or sums.size != counts.size or squares.size != 2:
        raise StateError(f"{where} must have {len(column.ladder.counts)} counts and sums, got {counts.size}.")
    if counts.min() < 0 or counts.sum() != cells[:-1].sum():
        raise StateError(f"{where} must have counts of {cells[:-1].sum()} values, got {counts.tolist()}.")
    return ColumnSums(cells, LadderSums(counts, sums, squares))

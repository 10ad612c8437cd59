"""What a saved model remembers of its reference data: cells and their counts, enough to measure drift later.

A column becomes cells in one of two ways. A column of numbers or times is cut into bins of equal mass; one with few
distinct values (codes, booleans, stepped scores) and one of categories is counted level by level, with one cell for
whatever is rare or new. Missing values are a cell of their own in both.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.drift._columns import (
    KINDS,
    Kind,
    UnreadableColumnError,
    as_numbers,
    kind_of,
    level_counts,
    named_columns,
    number_counts,
    number_label,
)
from mlflow_caliber.drift._state import list_of, number, read_version, text, value_of
from mlflow_caliber.exceptions import StateError

FORMAT_VERSION = 1

_N_BINS = 10
_MAX_DISTINCT = 20  # numbers with no more distinct values than this are codes or steps: one cell each
_MAX_LEVELS = 30  # keeps the profile of 30 columns under about 20 kB
_MIN_CELL = 5  # rows a cell needs before the chi-square approximation is worth anything
_MIN_SHARE = 0.01
_IDENTIFIER_LEVELS = 100


@dataclass(frozen=True)
class ColumnProfile:
    """The cells of one column and their reference counts.

    ``edges`` cut numbers into (-inf, e1], (e1, e2], ..., (ek, inf); ``levels`` name the cells of anything else, and
    then one more cell holds every other level. Exactly one of the two is given. ``counts`` has one entry more than it.
    """

    column: str
    kind: Kind
    edges: tuple[float, ...] | None
    levels: tuple[str, ...] | None
    counts: tuple[int, ...]
    missing: int

    @property
    def cell_counts(self) -> NDArray[np.int64]:
        """Reference rows by cell, the missing values last."""
        return np.array([*self.counts, self.missing], dtype=np.int64)

    @property
    def cell_names(self) -> list[str]:
        """What a sentence calls each cell."""
        if self.levels is not None:
            return [*(f"level {level!r}" for level in self.levels), "other levels", "missing values"]
        cuts = ["-inf", *(number_label(edge, self.kind) for edge in self.edges or ()), "inf"]
        return [*(f"({low}, {high}]" for low, high in itertools.pairwise(cuts)), "missing values"]

    def count(self, series: pd.Series[Any]) -> NDArray[np.int64]:
        """Rows of another column in the same cells, the missing values last."""
        if self.kind == "categorical":
            return self._count_levels(level_counts(series), int(series.isna().sum()))
        values = as_numbers(series, self.kind)
        present = values[~np.isnan(values)]
        missing = values.size - present.size
        if self.edges is None:
            return self._count_levels(number_counts(present, self.kind), missing)
        return np.array([*_bin_counts(present, self.edges), missing], dtype=np.int64)

    def _count_levels(self, found: Counter[str], missing: int) -> NDArray[np.int64]:
        known = [found[level] for level in self.levels or ()]
        return np.array([*known, found.total() - sum(known), missing], dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state."""
        cells = {"edges": list(self.edges)} if self.edges is not None else {"levels": list(self.levels or ())}
        return {
            "column": self.column,
            "kind": self.kind,
            **cells,
            "counts": list(self.counts),
            "missing": self.missing,
        }


@dataclass(frozen=True)
class Profile:
    """The reference, column by column; ``skipped`` says in a sentence why a column has no cells."""

    n: int
    columns: tuple[ColumnProfile, ...]
    skipped: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state."""
        return {
            "format_version": FORMAT_VERSION,
            "n": self.n,
            "columns": [column.to_dict() for column in self.columns],
            "skipped": dict(self.skipped),
        }


def feature_profile(frame: pd.DataFrame, *, columns: Iterable[str] | None = None) -> dict[str, Any]:
    """Summarise reference data so that drift can be measured later without them.

    Parameters
    ----------
    frame : DataFrame of shape (n, k)
        The reference. Any dtype: numbers, booleans, categories, text, times, nullable or not.
    columns : iterable of str, optional
        The columns to summarise; default all. A name that ``frame`` does not have is left out.

    Returns
    -------
    dict
        JSON-safe: ``format_version``, ``n`` (rows), ``columns`` (a list of ``column``, ``kind``, ``edges`` or
        ``levels``, ``counts``, ``missing``) and ``skipped`` (column name -> sentence). About 500 bytes a column.

    Raises
    ------
    InvalidInputError
        If ``frame`` is not a DataFrame or has a column name twice.

    Notes
    -----
    Numbers and times: at most ten bins of equal mass, cut half way between two neighbouring values, so that ties are
    never split. Numbers with at most 20 distinct values (codes, steps; on average five rows or more in each) and
    categories: one cell for each of the 30 most frequent levels that have at least five rows and one percent; the
    others, and those that the reference never saw, share one more cell. More than 100 levels, and on average fewer
    than two rows in each, make an identifier or free text, which is skipped. Missing values are a cell of their own.

    Examples
    --------
    >>> profile = feature_profile(pd.DataFrame({"region": ["north"] * 6 + ["south"] * 5 + [None]}))
    >>> profile["columns"]
    [{'column': 'region', 'kind': 'categorical', 'levels': ['north', 'south'], 'counts': [6, 5, 0], 'missing': 1}]
    """
    found: list[ColumnProfile] = []
    skipped: dict[str, str] = {}
    for name, series in named_columns(frame, "reference", columns).items():
        try:
            found.append(_profile_column(name, series))
        except UnreadableColumnError as reason:
            skipped[name] = str(reason)
    return Profile(len(frame), tuple(found), skipped).to_dict()


def _profile_column(name: str, series: pd.Series[Any]) -> ColumnProfile:
    if bool(series.isna().all()):
        raise UnreadableColumnError("Every value of the reference is missing.")
    kind = kind_of(series)
    edges, levels = _cells(series, kind)
    empty = ColumnProfile(name, kind, edges, levels, (), 0)
    *counts, missing = empty.count(series).tolist()
    return ColumnProfile(name, kind, edges, levels, tuple(counts), missing)


def _cells(series: pd.Series[Any], kind: Kind) -> tuple[tuple[float, ...] | None, tuple[str, ...] | None]:
    if kind == "categorical":
        return None, _frequent(_refuse_identifier(level_counts(series)))
    values = as_numbers(series, kind)
    present = values[~np.isnan(values)]
    few = min(_MAX_DISTINCT, max(1, present.size // _MIN_CELL))
    if kind == "boolean" or np.unique(present).size <= few:
        return None, _frequent(number_counts(present, kind))
    return _equal_mass_edges(present), None


def _refuse_identifier(counts: Counter[str]) -> Counter[str]:
    if len(counts) > _IDENTIFIER_LEVELS and 2 * len(counts) > counts.total():
        raise UnreadableColumnError(
            f"It holds {len(counts)} levels in {counts.total()} rows, as an identifier or free text does."
        )
    return counts


def _frequent(counts: Counter[str]) -> tuple[str, ...]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    enough = max(_MIN_CELL, _MIN_SHARE * counts.total())
    # The most frequent level is always kept: a constant column must show when its value changes.
    return tuple(level for rank, (level, n) in enumerate(ranked[:_MAX_LEVELS]) if n >= enough or rank == 0)


def _equal_mass_edges(values: FloatArray) -> tuple[float, ...]:
    n_bins = max(1, min(_N_BINS, values.size // _MIN_CELL))
    unique = np.unique(values)
    quantiles = np.quantile(values, np.arange(1, n_bins) / n_bins, method="inverted_cdf")
    below = np.unique(np.searchsorted(unique, quantiles))
    below = below[below < unique.size - 1]
    # Half way to the next value: float32 and float64 copies of one value then fall into one bin.
    edges = unique[below] / 2 + unique[below + 1] / 2
    return tuple(edges[np.isfinite(edges)].tolist())


def _bin_counts(values: FloatArray, edges: tuple[float, ...]) -> list[int]:
    bins = np.searchsorted(np.array(edges), values, side="left")
    counts: list[int] = np.bincount(bins, minlength=len(edges) + 1).tolist()
    return counts


def read_profile(state: Mapping[str, Any]) -> Profile:
    """A profile from its JSON, every number checked; raises StateError with a sentence."""
    where = "The drift profile"
    read_version(state, FORMAT_VERSION, where)
    n = number(state, "n", where, whole=True)
    columns = tuple(_read_column(entry, int(n)) for entry in list_of(state, "columns", dict, where))
    skipped = value_of(state, "skipped", dict, where)
    names = [column.column for column in columns] + list(skipped)
    if len(set(names)) < len(names):
        raise StateError(f"{where} must name each column once, got {len(names) - len(set(names))} repeated.")
    return Profile(int(n), columns, {str(name): str(reason) for name, reason in skipped.items()})


def _read_column(state: dict[str, Any], n: int) -> ColumnProfile:
    name = text(state, "column", "A column of the drift profile")
    where = f"Column {name!r} of the drift profile"
    kind = text(state, "kind", where)
    if kind not in KINDS:
        raise StateError(f"{where} must have a kind of {', '.join(KINDS)}, got {kind!r}.")
    if ("edges" in state) == ("levels" in state) or ("edges" in state and kind in {"categorical", "boolean"}):
        raise StateError(f"{where} must have either edges (numbers, times) or levels, got {sorted(state)}.")
    edges = _read_edges(state, where) if "edges" in state else None
    levels = tuple(list_of(state, "levels", str, where)) if "levels" in state else None
    counts = tuple(list_of(state, "counts", int, where))
    missing = int(number(state, "missing", where, whole=True))
    _check_counts(where, counts, missing, n, len(edges if edges is not None else levels or ()) + 1)
    return ColumnProfile(name, kind, edges, levels, counts, missing)


def _read_edges(state: dict[str, Any], where: str) -> tuple[float, ...]:
    edges = tuple(float(edge) for edge in list_of(state, "edges", (int, float), where))
    if not np.isfinite(edges).all() or any(low >= high for low, high in itertools.pairwise(edges)):
        raise StateError(f"{where} must have finite, increasing edges, got {list(edges)}.")
    return edges


def _check_counts(where: str, counts: tuple[int, ...], missing: int, n: int, wanted: int) -> None:
    if len(counts) != wanted:
        raise StateError(f"{where} must have {wanted} counts, one a cell, got {len(counts)}.")
    if min(counts) < 0:
        raise StateError(f"{where} must have counts that are not negative, got {min(counts)}.")
    if sum(counts) + missing != n:
        raise StateError(f"{where} must have counts that add up to {n} rows, got {sum(counts) + missing}.")

"""What a saved model remembers of its reference data: cells and their counts, enough to measure drift later.

A column becomes cells in one of two ways. A column of numbers or times is cut into bins of equal mass; one with few
distinct values (codes, booleans, stepped scores) and one of categories is counted level by level, with one cell for
whatever is rare or new. Missing values are a cell of their own in both.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.drift._columns import (
    KINDS,
    ORDERED,
    Kind,
    Levels,
    Rows,
    UnreadableColumnError,
    group_ends,
    kind_of,
    named_columns,
    number_label,
    read_column,
)
from mlflow_caliber.drift._ladder import Ladder, LadderSums, cell_counts, edges_after, ends_at, read_ladder
from mlflow_caliber.drift._state import list_of, number, read_counts, read_edges, read_version, text, value_of
from mlflow_caliber.exceptions import StateError

#: Version 2 added the ladder of numbers and times.
FORMAT_VERSION = 2

_N_BINS = 10
_MAX_DISTINCT = 20  # numbers with no more distinct values than this are codes or steps: one cell each
_MAX_LEVELS = 30  # keeps a profile small
_MIN_CELL = 5  # rows a cell needs before the chi-square approximation is worth anything
_MIN_SHARE = 0.01
_IDENTIFIER_LEVELS = 100


@dataclass(frozen=True)
class ColumnSums:
    """Current rows of a column by the cells of its profile, the missing values last, and by those of its ladder."""

    cells: NDArray[np.int64]
    ladder: LadderSums | None

    def plus(self, other: ColumnSums) -> ColumnSums:
        """The rows of both, by the cells of one and the same profile."""
        both = self.ladder.plus(other.ladder) if self.ladder is not None and other.ladder is not None else None
        return ColumnSums(self.cells + other.cells, both)


@dataclass(frozen=True)
class ColumnProfile:
    """The cells of one column and their reference counts.

    ``edges`` cut numbers into (-inf, e1], (e1, e2], ..., (ek, inf); ``levels`` name the cells of anything else, and
    then one more cell holds every other level. Exactly one of the two is given. ``counts`` has one entry more than it.
    The ``ladder`` stands for the values of numbers and times where these are not at hand.
    """

    column: str
    kind: Kind
    edges: tuple[float, ...] | None
    levels: tuple[str, ...] | None
    counts: tuple[int, ...]
    missing: int
    ladder: Ladder | None = None

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

    def count(self, data: Rows | Levels) -> NDArray[np.int64]:
        """Rows of a column in the same cells, the missing values last."""
        if self.edges is not None and isinstance(data, Rows):
            return np.append(cell_counts(data.values, self.edges), data.missing)
        found = data.levels(self.kind) if isinstance(data, Rows) else data
        known = [found.counts[level] for level in self.levels or ()]
        return np.array([*known, found.counts.total() - sum(known), found.missing], dtype=np.int64)

    def sums(self, data: Rows | Levels) -> ColumnSums:
        """The same as what can be added to the sums of other rows."""
        if not isinstance(data, Rows) or self.ladder is None:
            return ColumnSums(self.count(data), None)
        return ColumnSums(self.count(data), LadderSums.of(self.ladder, data.values))

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state."""
        cells = {"edges": list(self.edges)} if self.edges is not None else {"levels": list(self.levels or ())}
        return {
            "column": self.column,
            "kind": self.kind,
            **cells,
            "counts": list(self.counts),
            "missing": self.missing,
            **({} if self.ladder is None else {"ladder": self.ladder.to_dict()}),
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
        ``levels``, ``counts``, ``missing``, and for numbers and times ``ladder``) and ``skipped`` (column name ->
        sentence). Up to 2 kB a column.

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
    for known in known_from_frame(frame, columns):
        if known.column is None:
            skipped[known.name] = known.why
        else:
            found.append(_with_ladder(known.column, known.rows))
    return Profile(len(frame), tuple(found), skipped).to_dict()


class Known(NamedTuple):
    """What is known of one reference column: its cells, and its rows where they are at hand, or why there are none."""

    name: str
    column: ColumnProfile | None = None
    rows: Rows | None = None
    why: str = ""


def known_from_frame(frame: pd.DataFrame, columns: Iterable[str] | None = None) -> Iterator[Known]:
    """Column by column, so that no more than one is sorted at a time; without ladders, for which the rows stand."""
    return itertools.starmap(_known, named_columns(frame, "reference", columns).items())


def _known(name: str, series: pd.Series[Any]) -> Known:
    try:
        column, data = _profile_column(name, series)
    except UnreadableColumnError as reason:
        return Known(name, why=str(reason))
    return Known(name, column, data if isinstance(data, Rows) and column.kind in ORDERED else None)


def known_from_profile(profile: Profile, columns: Iterable[str] | None = None) -> Iterator[Known]:
    """The same from a stored profile."""
    wanted = None if columns is None else set(columns)
    every = [
        *(Known(column.column, column) for column in profile.columns),
        *(Known(name, why=why) for name, why in profile.skipped.items()),
    ]
    return (known for known in every if wanted is None or known.name in wanted)


def _with_ladder(column: ColumnProfile, rows: Rows | None) -> ColumnProfile:
    return column if rows is None else replace(column, ladder=Ladder.of(rows.values))


def _profile_column(name: str, series: pd.Series[Any]) -> tuple[ColumnProfile, Rows | Levels]:
    if bool(series.isna().all()):
        raise UnreadableColumnError("Every value of the reference is missing.")
    kind = kind_of(series)
    data = read_column(series, kind)
    edges, levels = _cells(data, kind)
    empty = ColumnProfile(name, kind, edges, levels, (), 0)
    *counts, missing = empty.count(data).tolist()
    return replace(empty, counts=tuple(counts), missing=missing), data


def _cells(data: Rows | Levels, kind: Kind) -> tuple[tuple[float, ...] | None, tuple[str, ...] | None]:
    if isinstance(data, Levels):
        return None, _frequent(_refuse_identifier(data.counts))
    ends = group_ends(data.values)
    few = min(_MAX_DISTINCT, max(1, data.values.size // _MIN_CELL))
    if kind == "boolean" or ends.size <= few:
        return None, _frequent(data.levels(kind).counts)
    return _equal_mass_edges(data.values, ends), None


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


def _equal_mass_edges(values: FloatArray, ends: NDArray[np.intp]) -> tuple[float, ...]:
    n_bins = max(1, min(_N_BINS, values.size // _MIN_CELL))
    ranks = -(-values.size * np.arange(1, n_bins) // n_bins)
    return edges_after(values, ends_at(ends, ranks))


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
    edges = read_edges(state, where) if "edges" in state else None
    levels = tuple(list_of(state, "levels", str, where)) if "levels" in state else None
    missing = int(number(state, "missing", where, whole=True))
    cells = len(edges if edges is not None else levels or ()) + 1
    counts = read_counts(state, cells, n - missing, where)
    return ColumnProfile(name, kind, edges, levels, counts, missing, _read_ladder(state, kind, n - missing, where))


def _read_ladder(state: dict[str, Any], kind: Kind, n: int, where: str) -> Ladder | None:
    if kind not in ORDERED or "ladder" not in state:
        return None
    return read_ladder(value_of(state, "ladder", dict, where), n, f"The ladder of c{where[1:]}")

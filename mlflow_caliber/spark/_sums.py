"""Score statistics of the groups of a Spark frame: Spark adds up by cell, the driver gets one row a cell and group."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.spark._cells import cell_column
from mlflow_caliber.spark._rows import ScoredColumns

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["ByGroup", "summed"]

ByGroup = dict[tuple[Any, ...], ScoreStatistics]
"""Statistics by the values of the grouping columns."""

_SMALLEST_PROBABILITY = 2.220446049250313e-16
_UNREADABLE, _WEIGHTLESS = -1, -2
# Spark's estimate of how many scores are distinct is off by 5 % or so; only the count after it decides.
_DOUBT = 1.2
_Table = dict[str, NDArray[Any]]


def summed(columns: ScoredColumns, by: Sequence[Column], *, exact_up_to: int) -> ByGroup:
    """Statistics of every group.

    One pass adds up by cell, with the least and the greatest score of each. Where every cell holds one score, or no
    group can have so few scores as are kept one by one, that is all. Else the groups in question are added up by score.

    Parameters
    ----------
    columns : ScoredColumns
        Label, probability and weight of each row.
    by : sequence of Column
        What to group by; none for one group, whose key is ().
    exact_up_to : int
        Distinct scores up to which a group's statistics keep each.

    Returns
    -------
    dict
        Groups without a row of positive weight are left out.

    Raises
    ------
    InvalidInputError
        If a row cannot be read.
    """
    view = _View.of(columns, by)
    found: ByGroup = {}
    small: list[tuple[Any, ...]] = []
    doubtful: list[tuple[Any, ...]] = []
    for key, part in view.collected(cell_column(columns.p)):
        n_least = part["cell"].size + np.count_nonzero(part["low"] < part["high"])
        if n_least > exact_up_to:
            found[key] = _on_grid(part)
        elif n_least == part["cell"].size:
            found[key] = _one_by_one(part, exact_up_to)
        else:
            found[key] = _on_grid(part)
            (small if part["rows"].sum() <= exact_up_to else doubtful).append(key)
    if doubtful:
        small += view.of_groups(doubtful).with_few_scores(exact_up_to)
    if small:
        for key, part in view.of_groups(small).collected(columns.p):
            if part["cell"].size <= exact_up_to:
                found[key] = _one_by_one(part, exact_up_to)
    return found


@dataclass(frozen=True)
class _View:
    """The rows of some groups; the group is in the columns ``keys``."""

    df: DataFrame
    keys: list[str]
    columns: ScoredColumns
    readable: Column
    counts: Column

    @classmethod
    def of(cls, columns: ScoredColumns, by: Sequence[Column]) -> _View:
        prefix = "caliber_group_"
        while any(name.lower().startswith(prefix) for name in columns.df.columns):
            prefix += "_"
        keys = {f"{prefix}{i}": column for i, column in enumerate(by)}
        grouped = columns.df.select("*", *(column.alias(name) for name, column in keys.items()))
        return cls(grouped, list(keys), columns, columns.readable, columns.counts)

    def collected(self, cell: Column) -> Iterator[tuple[tuple[Any, ...], _Table]]:
        """Each group with its sums, one value a cell."""
        from pyspark.sql import functions as sf

        usual = sf.when(self.counts, cell).otherwise(_WEIGHTLESS)
        place = sf.when(self.readable, usual).otherwise(_UNREADABLE)
        table = self.df.groupBy(*self.keys, place.alias("cell")).agg(*_aggregates(self.columns)).toArrow()
        sums = {name: table.column(name).to_numpy() for name in table.column_names[len(self.keys) :]}
        cells = sums["cell"]
        if np.any(cells == _UNREADABLE):
            self.columns.refuse()
        names, codes = _codes([table.column(name) for name in self.keys], cells.size)
        order = np.lexsort((cells, codes))
        order = order[cells[order] >= 0.0]
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        for part in np.split(order, starts[1:]) if order.size else ():
            yield names(int(codes[part[0]])), {name: values[part] for name, values in sums.items()}

    def of_groups(self, groups: Sequence[tuple[Any, ...]]) -> _View:
        """Only the rows of these groups."""
        from pyspark.sql import functions as sf

        if not self.keys:
            return self
        schema = self.df.select(*self.keys).schema
        wanted = sf.broadcast(self.df.sparkSession.createDataFrame(list(groups), schema).alias("wanted"))
        same = [self.df[name].eqNullSafe(sf.col(f"wanted.{name}")) for name in self.keys]
        both = same[0]
        for condition in same[1:]:
            both = both & condition
        return replace(self, df=self.df.join(wanted, both, "left_semi"))

    def with_few_scores(self, limit: int) -> list[tuple[Any, ...]]:
        """The groups that may have at most so many distinct scores."""
        from pyspark.sql import functions as sf

        about = sf.approx_count_distinct(sf.when(self.counts, self.columns.p))
        counted = self.df.groupBy(*self.keys).agg(about.alias("about")).toArrow().to_pylist()
        return [tuple(row[name] for name in self.keys) for row in counted if row["about"] <= _DOUBT * limit]


def _aggregates(columns: ScoredColumns) -> list[Column]:
    """What ``ScoreStatistics.from_cells`` takes, by its names, and the least and the greatest score."""
    from pyspark.sql import functions as sf

    y, p = columns.y, columns.p
    w = sf.lit(1.0) if columns.weight is None else columns.weight
    # |1 - y - p| is the probability of what happened, to the last bit: p or 1 - p.
    surprise = -sf.log(sf.greatest(sf.abs(1.0 - y - p), sf.lit(_SMALLEST_PROBABILITY)))
    sums = {"positive": w * y, "predicted": w * p, "squared_error": w * (p - y) * (p - y), "log_loss": w * surprise}
    if columns.weight is not None:
        sums |= {"weight": w, "weight_sq": w * w, "positive_sq": w * w * y}
    added = [sf.sum(value).alias(name) for name, value in sums.items()]
    return [sf.count(sf.lit(1)).alias("rows"), *added, sf.min(p).alias("low"), sf.max(p).alias("high")]


def _is_nan(value: Any) -> bool:
    """Whether it is a number that is none."""
    return isinstance(value, float) and math.isnan(value)


# One object: a NaN equals itself nowhere else, and the same group comes in more than one result.
_NAN = float("nan")


def _codes(columns: Sequence[Any], n: int) -> tuple[Callable[[int], tuple[Any, ...]], NDArray[np.int64]]:
    """The group of each row of the result as a number, and what gives the values of a group's number."""
    codes = np.zeros(n, dtype=np.int64)
    values: list[list[Any]] = []
    for column in columns:
        encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
        values.append([_NAN if _is_nan(value) else value for value in encoded.dictionary.to_pylist()])
        codes = codes * len(values[-1]) + encoded.indices.to_numpy()

    def names(code: int) -> tuple[Any, ...]:
        found: list[Any] = []
        for known in reversed(values):
            code, i = divmod(code, len(known))
            found.insert(0, known[i])
        return tuple(found)

    return names, codes


def _on_grid(part: _Table) -> ScoreStatistics:
    sums = {name: values for name, values in part.items() if name not in ("cell", "low", "high")}
    return ScoreStatistics.from_cells(part["cell"], **sums)


def _one_by_one(part: _Table, limit: int) -> ScoreStatistics:
    """The statistics of cells that hold one score each."""
    state = ScoreStatistics(exact_up_to=limit).to_dict()
    each: dict[str, Any] = {
        name: part[name] for name in ("positive", "weight", "weight_sq", "positive_sq") if name in part
    }
    total: dict[str, Any] = {name: float(part[name].sum()) for name in ("squared_error", "log_loss")}
    columns = {"key": part["low"] + 0.0, "rows": part["rows"], **each}  # -0.0 becomes a plain zero
    lists: dict[str, Any] = {}
    for name, values in columns.items():
        lists[name] = values.tolist()
    return ScoreStatistics.from_dict({**state, **lists, **total})

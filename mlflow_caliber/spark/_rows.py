"""The columns of a Spark frame that a report reads, as numbers, and the sentence for what cannot be read.

Whether a row can be read is an expression beside the sums, so that no pass over the data is made for it alone. Only
when some row cannot, a second pass finds out what to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mlflow_caliber._validation import (
    LARGEST_WEIGHT,
    SMALLEST_WEIGHT,
    check_addable_weights,
    check_binary_labels,
    check_class_names,
    check_scores,
)
from mlflow_caliber.exceptions import InvalidInputError, OptionalDependencyError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = [
    "ScoredColumns",
    "check_frame",
    "column_of",
    "group_column",
    "number_column",
    "number_of",
    "segment_column",
    "type_of",
]

_ENDS = ("low", "tiny", "high")
_TRUTHS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class ScoredColumns:
    """The label, the probability, the raw score and the weight of each row; doubles, null where there is none."""

    df: DataFrame
    y: Column
    p: Column
    raw: Column | None
    weight: Column | None
    labels: tuple[Column, tuple[str, ...]] | None = None
    """The labels as they came, and the classes of which they have to be; None for 0 and 1."""

    @classmethod
    def of(
        cls,
        df: DataFrame,
        y_true: str,
        y_proba: str,
        *,
        raw: str | None = None,
        sample_weight: str | None = None,
        classes: Sequence[Any] | None = None,
    ) -> ScoredColumns:
        """Find the columns of a report."""
        check_frame(df)
        names = None if classes is None else check_class_names(classes, 2)
        y, labels = _labels(df, y_true, names)
        return cls(
            df,
            y,
            number_column(df, y_proba, "y_proba"),
            None if raw is None else number_column(df, raw, "raw"),
            None if sample_weight is None else number_column(df, sample_weight, "sample_weight"),
            labels,
        )

    @property
    def readable(self) -> Column:
        """Whether all numbers of a row are what they have to be; never null."""
        from pyspark.sql import functions as sf

        # In Spark's order NaN is greater than every number, and so is not between two.
        found = self.y.isin(0.0, 1.0)
        for score in (self.p, self.raw):
            found = found if score is None else found & score.between(0.0, 1.0)
        if self.weight is not None:
            found = found & ((self.weight == 0.0) | self.weight.between(SMALLEST_WEIGHT, LARGEST_WEIGHT))
        return sf.coalesce(found, sf.lit(False))

    @property
    def counts(self) -> Column:
        """Whether a row that can be read has a weight."""
        from pyspark.sql import functions as sf

        return sf.lit(True) if self.weight is None else self.weight > 0.0

    def refuse(self) -> NoReturn:
        """Say of the first column that cannot be read why not, in the words of the checks of arrays."""
        from pyspark.sql import functions as sf

        found = self.df.agg(sf.count(sf.lit(1)).alias("n"), *self._questions()).first()
        assert found is not None
        n = int(found["n"])
        if not n:
            raise InvalidInputError("y_proba must hold at least one value, got none.")
        for name in ("y_proba", "raw", "y_true", "sample_weight"):
            if f"{name}.bad" in found:
                _refuse_number(name, n, {end: found[f"{name}.{end}"] for end in ("bad", *_ENDS)})
            if name == "y_true":
                self._refuse_label(found)
            if name == "sample_weight" and self.weight is not None and not found["sample_weight.high"]:
                raise InvalidInputError("sample_weight must hold at least one positive value, got only zeros.")
        raise InvalidInputError("Every row must be the same whenever it is read, got rows that change: persist() them.")

    def _questions(self) -> Iterator[Column]:
        from pyspark.sql import functions as sf

        given = {"y_proba": self.p, "raw": self.raw, "y_true": self.y, "sample_weight": self.weight}
        for name, column in given.items():
            if column is None or (name == "y_true" and self.labels):
                continue
            finite = column.isNotNull() & (sf.abs(column) < float("inf"))
            shown = sf.when(finite & ~column.isin(0.0, 1.0), column) if name == "y_true" else sf.when(finite, column)
            yield sf.count(sf.when(~finite, 1)).alias(f"{name}.bad")
            tiny = sf.when((column > 0.0) & (column < SMALLEST_WEIGHT), column)
            for end, value in zip(_ENDS, (sf.min(shown), sf.min(tiny), sf.max(shown)), strict=True):
                yield value.alias(f"{name}.{end}")
        if self.labels:
            label, _ = self.labels
            yield sf.count(sf.when(label.isNull(), 1)).alias("y_true.missing")
            yield sf.min(sf.when(self.y.isNull(), label.cast("string"))).alias("y_true.stranger")

    def _refuse_label(self, found: Any) -> None:
        if not self.labels:
            return
        if found["y_true.missing"]:
            raise InvalidInputError(
                f"y_true must not be missing, got {found['y_true.missing']} missing of {found['n']} values."
            )
        if found["y_true.stranger"] is not None:
            wanted = " and ".join(map(repr, self.labels[1]))
            raise InvalidInputError(f"y_true must hold only the classes {wanted}, got {found['y_true.stranger']!r}.")


def check_frame(df: Any, name: str = "df") -> None:
    """A Spark frame, classic or of Spark Connect."""
    try:
        from pyspark.sql import DataFrame
    except ModuleNotFoundError as error:
        raise OptionalDependencyError("Spark frames need PySpark: pip install 'mlflow-caliber[spark]'.") from error
    if not isinstance(df, DataFrame):
        raise InvalidInputError(f"{name} must be a Spark DataFrame, got a {type(df).__name__}.")


def column_of(df: DataFrame, name: str, what: str) -> Column:
    """The column of that very name, dots and all."""
    from pyspark.sql import functions as sf

    if df.columns.count(name) != 1:
        raise InvalidInputError(
            f"{what}: the data must hold the column {name!r} once, got {', '.join(df.columns[:20])}."
        )
    twins = [each for each in df.columns if each.lower() == name.lower()]
    if len(twins) > 1 and df.sparkSession.conf.get("spark.sql.caseSensitive", "false") != "true":
        raise InvalidInputError(
            f"{what}: Spark takes {' and '.join(map(repr, twins))} for one column: rename one, or set "
            "spark.sql.caseSensitive."
        )
    return sf.col("`" + name.replace("`", "``") + "`")


def group_column(df: DataFrame, name: str, what: str) -> Column:
    """A column of single values, by which rows can be grouped."""
    from pyspark.sql.types import ArrayType, MapType, StructType

    column, kind = column_of(df, name, what), type_of(df, name)
    if isinstance(kind, ArrayType | MapType | StructType) or kind.typeName() == "variant":
        raise InvalidInputError(f"{what}: {name!r} must hold single values, got values of type {kind.simpleString()}.")
    return column


def segment_column(df: DataFrame, name: str) -> Column:
    """The column of a segment; times are named as the session's clocks show them, as in a pandas frame."""
    from pyspark.sql.types import TimestampType

    column = group_column(df, name, "segments")
    return column.cast("timestamp_ntz") if isinstance(type_of(df, name), TimestampType) else column


def type_of(df: DataFrame, name: str) -> Any:
    """The Spark type of a column."""
    return next(field.dataType for field in df.schema.fields if field.name == name)


def number_column(df: DataFrame, name: str, what: str) -> Column:
    """The column as doubles."""
    from pyspark.sql.types import BooleanType, NumericType

    column, kind = column_of(df, name, what), type_of(df, name)
    if not isinstance(kind, NumericType | BooleanType):
        raise InvalidInputError(f"{what} must be numbers, got values of type {kind.simpleString()}.")
    return column.cast("double")


def _labels(
    df: DataFrame, name: str, classes: tuple[str, ...] | None
) -> tuple[Column, tuple[Column, tuple[str, ...]] | None]:
    from pyspark.sql import functions as sf
    from pyspark.sql.types import StringType

    if classes is None:
        return number_column(df, name, "y_true"), None
    label = column_of(df, name, "y_true")
    if isinstance(type_of(df, name), StringType):
        return sf.when(label == classes[1], 1.0).when(label == classes[0], 0.0), (label, classes)
    value, (zero, one) = number_column(df, name, "y_true"), map(number_of, classes)
    if zero is None or one is None or (zero, one) == (0.0, 1.0):  # what spells no number has its index for one
        return value, None
    return sf.when(value == sf.lit(one), 1.0).when(value == sf.lit(zero), 0.0), (label, classes)


def number_of(label: str) -> float | None:
    """The number that a class spells, as 1 or True; None if it spells none."""
    if label.lower() in _TRUTHS:
        return _TRUTHS[label.lower()]
    try:
        return float(label)
    except ValueError:
        return None


def _refuse_number(name: str, n: int, found: dict[str, Any]) -> None:
    if found["bad"]:
        raise InvalidInputError(f"{name} must be finite, got {found['bad']} NaN or infinite of {n} values.")
    ends = np.array([found[end] for end in _ENDS if found[end] is not None])
    if not ends.size:
        return
    if name == "y_true":
        check_binary_labels(ends[:1], name)
    elif name == "sample_weight":
        check_addable_weights(ends, ends.size)
    else:
        check_scores(ends, name)

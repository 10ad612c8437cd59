"""From a lake to the store: the predictions of years become a few sums a day, and no row is written."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.spark._rows import ScoredColumns, check_frame, column_of, number_column, number_of, type_of
from mlflow_caliber.spark._sums import ByGroup, summed
from mlflow_caliber.store import AddedHistory, HistoryDay, Stream

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["backfill", "history_days"]

# As the store's own history: a day stays small, and days add up to any number of rows.
_EXACT_UP_TO = 1_000
_EPOCH = date(1970, 1, 1)
_DAY = 86_400
_YEARS = (-62_135_596_800, 253_402_300_799)  # those that a date can name, 1 to 9999


def backfill(
    df: DataFrame,
    stream: Stream,
    *,
    source: str,
    y_true: str = "outcome",
    predicted_at: str = "predicted_at",
    probability: str = "probability",
    raw: str = "raw_probability",
    base: str | None = None,
    prediction: str = "prediction",
    overlap: bool = False,
    actor: str = "backfill",
) -> AddedHistory:
    """Add the predictions of a Spark frame to a stream's history, day by day, exactly once.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        One row a prediction, with its outcome where that is known.
    stream : Stream
        The model version's, from ``open_store(uri).stream(model, version, classes=...)``.
    source : str
        The name of the load. The same load again changes nothing.
    y_true : str
        The outcome: one of the stream's classes, or null.
    predicted_at : str
        When it was predicted: a time, a date, or seconds since 1970. Days are those of UTC.
    probability, raw, base : str
        What was served, what the model gave, and what the shipped calibrator made of it; by default that was served.
    prediction : str
        The predicted label. It is read for streams that do not have two classes, whose probabilities are about it.
    overlap, actor
        As for :meth:`mlflow_caliber.store.Stream.add_history`.

    Returns
    -------
    AddedHistory
        How much the load holds, and whether it was new.

    Raises
    ------
    InvalidInputError
        If a row cannot be read; nothing is then added.
    ConflictError
        If the store has predictions of one of the days, or another load of that name.

    Examples
    --------
    >>> backfill(spark.read.parquet("s3://lake/2025"), stream, source="lake/2025")  # doctest: +SKIP
    """
    days = history_days(
        df,
        stream,
        y_true=y_true,
        predicted_at=predicted_at,
        probability=probability,
        raw=raw,
        base=base,
        prediction=prediction,
    )
    return stream.add_history(days, source=source, overlap=overlap, actor=actor)


def history_days(
    df: DataFrame,
    stream: Stream,
    *,
    y_true: str = "outcome",
    predicted_at: str = "predicted_at",
    probability: str = "probability",
    raw: str = "raw_probability",
    base: str | None = None,
    prediction: str = "prediction",
) -> list[HistoryDay]:
    """What :func:`backfill` adds, by day; its parameters and errors are those of there."""
    from pyspark.sql import functions as sf

    check_frame(df)
    outcome, day = column_of(df, y_true, "y_true"), _day(df, predicted_at)
    happened, told = _happened(df, y_true, prediction, stream), df.where(outcome.isNotNull())
    given = {"served": probability, "raw": raw} | ({} if base is None else {"base": base})
    sums: dict[str, ByGroup] = {}
    for name, column in given.items():
        labels = (outcome, stream.classes or ())
        scored = ScoredColumns(told, happened, number_column(df, column, column), None, None, labels)
        sums[name] = summed(scored, [day], exact_up_to=_EXACT_UP_TO)
    sums.setdefault("base", sums["served"])
    counted = df.groupBy(day.alias("day")).agg(
        sf.count(sf.lit(1)).alias("n"), sf.count(sf.when(outcome.isNull(), 1)).alias("unlabelled")
    )
    counts = {row["day"]: row for row in counted.collect()}
    if None in counts:
        raise InvalidInputError(
            f"{predicted_at}: every row must say when, as a time or in seconds since 1970, got {counts[None]['n']} "
            "without a time, or one beyond the years 1 to 9999."
        )
    nothing = ScoreStatistics(exact_up_to=_EXACT_UP_TO)
    return [
        HistoryDay(
            day=(_EPOCH + timedelta(days=number)).isoformat(),
            n=row["n"],
            unlabelled=row["unlabelled"],
            **{name: found.get((number,), nothing) for name, found in sums.items()},
        )
        for number, row in sorted(counts.items())
    ]


def _day(df: DataFrame, name: str) -> Column:
    """The number of the UTC day since 1970."""
    from pyspark.sql import functions as sf
    from pyspark.sql.types import DateType, NumericType, TimestampNTZType, TimestampType

    column, kind = column_of(df, name, "predicted_at"), type_of(df, name)
    if isinstance(kind, DateType):
        return sf.unix_date(column)
    if isinstance(kind, TimestampNTZType):  # without a zone it is taken for UTC
        return sf.unix_date(column.cast("date"))
    if isinstance(kind, TimestampType):
        column = sf.unix_seconds(column)
    elif not isinstance(kind, NumericType):
        raise InvalidInputError(
            f"{name} must be a time or seconds since 1970, got values of type {kind.simpleString()}."
        )
    seconds = sf.when(column.between(*_YEARS), column)  # in Spark's order NaN is greater than every number
    return sf.floor(seconds / sf.lit(_DAY)).cast("int")


def _happened(df: DataFrame, y_true: str, prediction: str, stream: Stream) -> Column:
    """1 where the positive class came true, or what was predicted; 0 where not, null for what is no class."""
    from pyspark.sql import functions as sf

    came = column_of(df, y_true, "y_true")
    if stream.positive is None:
        said, came = column_of(df, prediction, "prediction").cast("string"), came.cast("string")
        known = came.isin(*stream.classes) if stream.classes else sf.lit(True)
        return sf.when(known, sf.coalesce(said == came, sf.lit(False)).cast("double"))
    assert stream.classes is not None
    negative = next(label for label in stream.classes if label != stream.positive)
    if isinstance(type_of(df, y_true), _text_type()):
        return sf.when(came == stream.positive, 1.0).when(came == negative, 0.0)
    came = number_column(df, y_true, "y_true")
    return sf.when(came == _number_of(stream.positive), 1.0).when(came == _number_of(negative), 0.0)


def _text_type() -> Any:
    from pyspark.sql.types import StringType

    return StringType


def _number_of(label: str) -> float:
    number = number_of(label)
    if number is None:
        raise InvalidInputError(f"y_true must hold texts such as the class {label!r}, got numbers.")
    return number

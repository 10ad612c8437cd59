"""Reports of Spark frames: partial sums in the cluster, one report on the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from mlflow_caliber._validation import check_choice, check_count, segment_names
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.batches import ReportStatistics
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.report import ReliabilityReport
from mlflow_caliber.spark._rows import ScoredColumns, check_frame, group_column, segment_column, type_of
from mlflow_caliber.spark._sums import summed

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["reliability_report", "report_statistics", "windowed_statistics"]

EXACT_UP_TO = 10_000
MOST_GROUPS = 1_000
"""Values of a segment column, and windows: what the driver has to hold grows with them."""

_EVERY = ("hour", "day", "week", "month", "quarter", "year")
_MISSING = "(missing)"
_Parts = dict[str, ScoreStatistics]


class _Sums(NamedTuple):
    whole: ScoreStatistics
    segments: dict[str, _Parts]


def reliability_report(
    df: DataFrame,
    y_true: str = "label",
    y_proba: str = "probability",
    *,
    raw: str | None = None,
    segments: Sequence[str] = (),
    sample_weight: str | None = None,
    classes: Sequence[Any] | None = None,
    policy: AbstainPolicy | None = None,
    n_bins: int = 10,
    strategy: Literal["quantile", "uniform"] = "quantile",
    confidence: float = 0.95,
    random_state: int = 0,
    exact_up_to: int = EXACT_UP_TO,
) -> ReliabilityReport:
    """The report of all rows of a Spark frame; no row leaves the cluster, and none is left out.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        Scored rows of two classes. It is read once for each segment column (once without any), and as often again for
        `raw`.
    y_true, y_proba : str
        Columns of the label and of the probability of class 1. Labels are 0 and 1, or truth values; texts where
        `classes` names them.
    raw : str, optional
        The probability before calibration; gives ``report.raw``, and the AUC.
    segments : sequence of str
        Columns by whose values the rows are reported on, too; at most 1000 values a column.
    sample_weight : str, optional
        Weights: 0, which leaves a row out, or in [1e-100, 1e100].
    classes : sequence of two, optional
        Names of class 0 and class 1. Where they spell numbers or truth values, labels of these types are compared by
        value; else labels that are no texts are their indices.
    policy, n_bins, strategy, confidence, random_state
        As for :func:`mlflow_caliber.report.report_from_statistics`.
    exact_up_to : int, default=10000
        Distinct scores up to which each is kept, and all numbers are those of the rows.

    Returns
    -------
    ReliabilityReport
        As :func:`mlflow_caliber.reliability_report` of the same rows, within the tolerances of
        ``docs/user-guide/statistics-at-scale.md``; ``change`` is empty.

    Raises
    ------
    InvalidInputError
        If a column is missing, or a row holds a null, NaN, a score outside [0, 1] or another label.

    Examples
    --------
    >>> report = reliability_report(spark.read.parquet("s3://lake/scored"), segments=["region"])  # doctest: +SKIP
    """
    statistics = report_statistics(
        df,
        y_true,
        y_proba,
        raw=raw,
        segments=segments,
        sample_weight=sample_weight,
        classes=classes,
        exact_up_to=exact_up_to,
    )
    return statistics.report(
        classes=classes,
        policy=policy,
        n_bins=n_bins,
        strategy=strategy,
        confidence=confidence,
        random_state=random_state,
    )


def report_statistics(
    df: DataFrame,
    y_true: str = "label",
    y_proba: str = "probability",
    *,
    raw: str | None = None,
    segments: Sequence[str] = (),
    sample_weight: str | None = None,
    classes: Sequence[Any] | None = None,
    exact_up_to: int = EXACT_UP_TO,
) -> ReportStatistics:
    """What the report of a Spark frame is made of: it can be kept as JSON, and added to that of other rows.

    Parameters and errors are those of :func:`reliability_report`.

    Examples
    --------
    >>> week = sum(report_statistics(day) for day in days)  # doctest: +SKIP
    >>> week.report().metrics["ece"]  # doctest: +SKIP
    """
    columns = ScoredColumns.of(df, y_true, y_proba, raw=raw, sample_weight=sample_weight, classes=classes)
    return _by_window(columns, None, segments, exact_up_to)[None]


def windowed_statistics(
    df: DataFrame,
    window: str,
    y_true: str = "label",
    y_proba: str = "probability",
    *,
    every: str | None = None,
    raw: str | None = None,
    segments: Sequence[str] = (),
    sample_weight: str | None = None,
    classes: Sequence[Any] | None = None,
    exact_up_to: int = EXACT_UP_TO,
) -> dict[Any, ReportStatistics]:
    """The same for each window of a column: one pass for all windows, not one for each.

    Parameters
    ----------
    df, y_true, y_proba, raw, segments, sample_weight, classes, exact_up_to
        As for :func:`reliability_report`.
    window : str
        Column whose values are the windows, at most 1000: a date, a week's number, a model version.
    every : {"hour", "day", "week", "month", "quarter", "year"}, optional
        Cut the column, which then holds times, down to the beginning of each; in the time zone of the Spark session.

    Returns
    -------
    dict of value to ReportStatistics
        In the order of the windows. ``.report()`` makes the report of one, ``+`` and ``sum`` join several.

    Raises
    ------
    InvalidInputError
        As there, and if a window is null.

    Examples
    --------
    >>> days = windowed_statistics(df, "predicted_at", every="day")  # doctest: +SKIP
    >>> {day: statistics.report().metrics["ece"] for day, statistics in days.items()}  # doctest: +SKIP
    """
    columns = ScoredColumns.of(df, y_true, y_proba, raw=raw, sample_weight=sample_weight, classes=classes)
    column = group_column(df, window, "window")
    if every is not None:
        from pyspark.sql import functions as sf
        from pyspark.sql.types import DateType, TimestampNTZType, TimestampType

        kind = type_of(df, window)
        if not isinstance(kind, DateType | TimestampType | TimestampNTZType):
            raise InvalidInputError(f"every: {window!r} must hold times, got values of type {kind.simpleString()}.")
        column = sf.date_trunc(check_choice(every, "every", _EVERY), column)
    zone = df.sparkSession.conf.get("spark.sql.session.timeZone")
    found = {_local(key, zone): part for key, part in _by_window(columns, column, segments, exact_up_to).items()}
    if None in found:
        raise InvalidInputError(f"window: every row must have a value of {window!r}, got {found[None].n} without.")
    return {key: found[key] for key in sorted(found)}


def _local(key: Any, zone: str | None) -> Any:
    """A time as the session's clocks show it."""
    if not isinstance(key, datetime) or key.tzinfo is None or zone is None:
        return key
    try:
        return key.astimezone(ZoneInfo(zone))
    except (ValueError, ZoneInfoNotFoundError):  # Spark knows more names than Python
        return key


def _by_window(
    columns: ScoredColumns, window: Column | None, segments: Sequence[str], exact_up_to: int
) -> dict[Any, ReportStatistics]:
    """Statistics by window; without windows all are of the window None."""
    check_count(exact_up_to, "exact_up_to", minimum=0)
    empty = ReportStatistics(raw=columns.raw is not None, segments=segments, exact_up_to=exact_up_to)
    by_segment = {name: segment_column(columns.df, name) for name in empty.segments}
    windows = [] if window is None else [window]
    _check_few(columns.df, {**({} if window is None else {"window": window}), **by_segment})
    after = _sums(columns, windows, by_segment, exact_up_to)
    if not after:
        columns.refuse()  # there is no row, or none has a weight
    before: dict[Any, _Sums] = {}
    if columns.raw is not None:
        before = _sums(replace(columns, p=columns.raw, raw=None), windows, by_segment, exact_up_to)
    return {key: _together(sums, before.get(key), exact_up_to) for key, sums in after.items()}


def _sums(
    columns: ScoredColumns, windows: list[Column], by_segment: Mapping[str, Column], exact_up_to: int
) -> dict[Any, _Sums]:
    """By window, of all rows and of each value of the segment columns."""
    views = {name: _of_segment(columns, windows, column, exact_up_to) for name, column in by_segment.items()}
    if not views:
        whole = summed(columns, windows, exact_up_to=exact_up_to)
        return {_window(key): _Sums(found, {}) for key, found in whole.items()}
    nothing = ScoreStatistics(exact_up_to=exact_up_to)
    return {
        key: _Sums(sum(parts.values(), start=nothing), {name: view[key] for name, view in views.items()})
        for key, parts in next(iter(views.values())).items()
    }


def _of_segment(columns: ScoredColumns, windows: list[Column], column: Column, exact_up_to: int) -> dict[Any, _Parts]:
    """By window and by the segment's name; values of one name are added."""
    found: dict[Any, _Parts] = {}
    for (*key, value), statistics in summed(columns, [*windows, column], exact_up_to=exact_up_to).items():
        parts, name = found.setdefault(_window(tuple(key)), {}), _name(value)
        parts[name] = parts[name] + statistics if name in parts else statistics
    return found


def _together(after: _Sums, before: _Sums | None, exact_up_to: int) -> ReportStatistics:
    for name, parts in after.segments.items():
        if len(parts) > MOST_GROUPS:
            raise _too_many(f"segments[{name!r}]", str(len(parts)))
    statistics = ReportStatistics(raw=before is not None, segments=list(after.segments), exact_up_to=exact_up_to)
    statistics.statistics, statistics.segments = after
    if before is not None:
        statistics.raw, statistics.raw_segments = before
    return statistics


def _check_few(df: DataFrame, groups: Mapping[str, Column]) -> None:
    """Refuse columns of far too many values before their sums are collected; the exact count comes after."""
    from pyspark.sql import functions as sf

    check_frame(df)
    if not groups:
        return
    about = df.agg(*(sf.approx_count_distinct(column).alias(name) for name, column in groups.items())).first()
    assert about is not None
    for name in groups:
        if about[name] > 1.2 * MOST_GROUPS:
            raise _too_many(name if name == "window" else f"segments[{name!r}]", f"about {about[name]}")


def _too_many(what: str, got: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what} must have at most {MOST_GROUPS} distinct values, got {got}: cut it into ranges or groups first."
    )


def _window(key: tuple[Any, ...]) -> Any:
    return key[0] if key else None


def _name(value: Any) -> str:
    """The name that a report of rows gives a segment; a pandas frame has spans of time of a type of its own."""
    column = np.empty(1, dtype=object)
    column[0] = pd.Timedelta(value) if isinstance(value, timedelta) else value
    name = segment_names(column)[0]
    return _MISSING if name is None else str(name)

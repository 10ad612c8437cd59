"""Drift of a Spark frame: Arrow batches into mergeable counts, and one report from their sum.

Columns are read batch by batch with the code that reads a pandas frame, whatever they hold, so that a level or a time
has one name on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from mlflow_caliber.drift import DriftReport, DriftStatistics, feature_profile
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.spark._rows import check_frame, column_of

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

__all__ = ["drift_report", "drift_statistics"]

# The driver adds up so many sums; each is of many partitions.
_MERGERS = 4


def drift_report(
    reference: Mapping[str, Any] | pd.DataFrame,
    df: DataFrame,
    *,
    columns: Iterable[str] | None = None,
    method: str | Iterable[str] = "psi",
    alpha: float = 0.05,
    min_effect: float = 0.02,
    min_rows: int = 50,
    random_state: int = 0,
) -> DriftReport:
    """How far a Spark frame is from the reference; no row leaves the cluster.

    Parameters
    ----------
    reference : mapping or pandas.DataFrame
        The profile that :func:`~mlflow_caliber.drift.feature_profile` gave, which is the ``reference`` of a saved
        caliber model too; of a frame, the profile is made.
    df : pyspark.sql.DataFrame
        The current rows.
    columns, method, alpha, min_effect, min_rows, random_state
        As for :func:`~mlflow_caliber.drift.drift_from_profile`.

    Returns
    -------
    DriftReport
        As ``drift_from_profile`` gives of the same rows in pandas: see
        :class:`~mlflow_caliber.drift.DriftStatistics`.

    Raises
    ------
    StateError
        If the profile cannot be read.
    InvalidInputError
        As for ``drift_from_profile``.

    Examples
    --------
    >>> drift_report(profile, spark.read.parquet("s3://lake/today")).drifted  # doctest: +SKIP
    """
    wanted = None if columns is None else list(columns)
    profile = feature_profile(reference) if isinstance(reference, pd.DataFrame) else reference
    statistics = drift_statistics(profile, df)
    return statistics.report(
        columns=wanted,
        method=method,
        alpha=alpha,
        min_effect=min_effect,
        min_rows=min_rows,
        random_state=random_state,
    )


def drift_statistics(profile: Mapping[str, Any], df: DataFrame) -> DriftStatistics:
    """What drift of a Spark frame is measured from: it can be kept as JSON, and added to that of other rows.

    Examples
    --------
    >>> week = sum(drift_statistics(profile, day) for day in days)  # doctest: +SKIP
    """
    check_frame(df)
    empty = DriftStatistics(profile, columns=df.columns)
    twice = [name for name in df.columns if df.columns.count(name) > 1]
    if twice:
        raise InvalidInputError(f"df must have distinct column names, got {twice[0]!r} more than once.")
    known = {column["column"] for column in profile["columns"]}
    # (A frame of no columns at all would have no rows to count in Arrow.)
    names = [name for name in df.columns if name in known] or df.columns[:1]
    # PySpark reads a dot in a name as a field of a struct when it hands rows to Python.
    rows = df.select(*(column_of(df, name, "df").alias(f"column_{k}") for k, name in enumerate(names)))
    counted = partial(_counted, empty.to_dict(), names)
    sums = rows.mapInArrow(counted, "sums string").repartition(_MERGERS).mapInArrow(_merged, "sums string")
    parts = [DriftStatistics.from_dict(json.loads(row.sums)) for row in sums.collect()]
    return sum(parts, start=empty)


def _counted(empty: Mapping[str, Any], names: list[str], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The sums of one partition, as JSON."""
    statistics = DriftStatistics.from_dict(empty)
    for batch in batches:
        statistics.update(batch.rename_columns(names).to_pandas())
    yield _batch(statistics)


def _merged(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The sum of the sums."""
    total: DriftStatistics | None = None
    for batch in batches:
        for state in batch.column(0).to_pylist():
            part = DriftStatistics.from_dict(json.loads(state))
            total = part if total is None else total + part
    if total is not None:
        yield _batch(total)


def _batch(statistics: DriftStatistics) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_pydict({"sums": [json.dumps(statistics.to_dict())]})

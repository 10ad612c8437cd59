"""Columns that Arrow holds are read like any others."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber.drift import drift_report

pa = pytest.importorskip("pyarrow")

N = 120
TIMES = pd.date_range("2020-01-01", periods=N, freq="h")
KINDS = {
    "int64": (pa.int64(), range(N), "numeric"),
    "float": (pa.float32(), np.linspace(0, 1, N), "numeric"),
    "double": (pa.float64(), np.linspace(0, 1, N), "numeric"),
    "decimal": (pa.decimal128(10, 2), [Decimal(i) for i in range(N)], "numeric"),
    "duration": (pa.duration("us"), [datetime.timedelta(hours=i) for i in range(N)], "numeric"),
    "time of day": (pa.time64("us"), [datetime.time(i // 60, i % 60) for i in range(N)], "numeric"),
    "bool": (pa.bool_(), np.arange(N) % 3 == 0, "boolean"),
    "string": (pa.string(), list("abc") * 40, "categorical"),
    "timestamp": (pa.timestamp("us"), TIMES, "datetime"),
    "timestamp with zone": (pa.timestamp("us", tz="Europe/Berlin"), TIMES.tz_localize("UTC"), "datetime"),
    "date": (pa.date32(), [datetime.date(2020, 1, 1) + datetime.timedelta(days=i) for i in range(N)], "datetime"),
}


@pytest.mark.parametrize(("dtype", "values", "kind"), KINDS.values(), ids=KINDS)
def test_an_arrow_column_is_compared_by_its_kind(dtype, values, kind):
    values = pd.Series(list(values), dtype=pd.ArrowDtype(dtype))
    frame = pd.DataFrame({"x": values.mask(values.index % 10 == 0)})
    (column,) = drift_report(frame, frame, min_effect=0).columns
    assert column.kind == kind
    assert column.n_reference == column.n_current == 108
    assert all(value == 0.0 for value in column.statistics.values())


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_missing_times_are_missing_in_pandas_and_in_arrow(zone):
    times = pd.Series(TIMES.tz_localize(zone)).mask(np.arange(N) < 30)
    values = [None if pd.isna(time) else time for time in times]
    arrow = pd.Series(values, dtype=pd.ArrowDtype(pa.timestamp("us", tz=zone)))
    (column,) = drift_report(times.to_frame("x"), arrow.to_frame("x")).columns
    assert column.n_reference == column.n_current == 90
    assert all(value == 0.0 for value in column.statistics.values())


def test_lists_in_arrow_are_named_with_a_reason():
    frame = pd.DataFrame({"x": pd.Series([[1]] * N, dtype=pd.ArrowDtype(pa.list_(pa.int64())))})
    assert drift_report(frame, frame).skipped == {
        "x": "It holds values of type list, which cannot be counted as a level."
    }

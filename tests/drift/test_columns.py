"""Every dtype is either compared or named with a reason, on pandas 2 and 3 alike."""

import datetime
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber.drift import drift_report, feature_profile

N = 120
MIXED = np.arange(N) % 3


def only_column(frame):
    (column,) = feature_profile(frame)["columns"]
    return column


def times(**kwargs):
    return pd.Series(pd.date_range("2020-01-01", periods=N, freq="h", **kwargs))


NUMBERS = np.linspace(0, 1, N)
KINDS = {
    "float64": (pd.Series(NUMBERS), "numeric"),
    "float32": (pd.Series(NUMBERS, dtype="float32"), "numeric"),
    "int64": (pd.Series(range(N)), "numeric"),
    "Int64": (pd.Series([*range(N - 1), None], dtype="Int64"), "numeric"),
    "Float64": (pd.Series([*NUMBERS[1:], None], dtype="Float64"), "numeric"),
    "uint8": (pd.Series(np.arange(N, dtype="uint8")), "numeric"),
    "timedelta": (pd.Series(pd.to_timedelta(np.arange(N), unit="h")), "numeric"),
    "timedeltas in object": (pd.Series([datetime.timedelta(hours=i) for i in range(N)], dtype=object), "numeric"),
    "times of day": (pd.Series([*[datetime.time(i // 60, i % 60) for i in range(N - 1)], None]), "numeric"),
    "float16": (pd.Series(NUMBERS, dtype="float16"), "numeric"),
    "sparse": (pd.Series(pd.arrays.SparseArray(np.arange(N))), "numeric"),
    "integers in object": (pd.Series([*range(N - 1), None], dtype=object), "numeric"),
    "Decimal": (pd.Series([Decimal(i) for i in range(N)]), "numeric"),
    "NA in object": (pd.Series([*range(N - 1), pd.NA], dtype=object), "numeric"),
    "bool": (pd.Series(MIXED == 0), "boolean"),
    "boolean": (pd.Series([*(MIXED[1:] == 0), None], dtype="boolean"), "boolean"),
    "booleans in object": (pd.Series([*(MIXED[1:] == 0), None], dtype=object), "boolean"),
    "object": (pd.Series(np.array(list("abc"), dtype=object)[MIXED], dtype=object), "categorical"),
    "string": (pd.Series(np.array(list("abc"))[MIXED], dtype="string"), "categorical"),
    "inferred text": (pd.Series(list("abc") * (N // 3)), "categorical"),
    "category": (pd.Series(list("abc") * (N // 3), dtype="category"), "categorical"),
    "category of booleans": (pd.Series(MIXED == 0, dtype="category"), "categorical"),
    "mixed": (pd.Series([1, "a", 2.5] * (N // 3), dtype=object), "categorical"),
    "datetime64": (times(), "datetime"),
    "datetime64 with zone": (times(tz="Europe/Berlin"), "datetime"),
    "period": (pd.Series(pd.period_range("2020-01-01", periods=N, freq="D")), "datetime"),
    "years after 2262": (
        pd.Series([datetime.datetime(9000, 1, 1) + datetime.timedelta(days=i) for i in range(N)]),
        "datetime",
    ),
    "date": (pd.Series([datetime.date(2020, 1, 1) + datetime.timedelta(days=i) for i in range(N)]), "datetime"),
}


@pytest.mark.parametrize(("series", "kind"), KINDS.values(), ids=KINDS)
def test_a_column_is_compared_by_its_kind(series, kind):
    frame = series.to_frame("x")
    assert only_column(frame)["kind"] == kind
    report = drift_report(frame, frame)
    assert report.columns[0].kind == kind
    assert report.columns[0].statistic == 0.0


SAME = {
    "Int64 then float64": (pd.Series([1, 2, 3] * 40, dtype="Int64"), pd.Series([1.0, 2.0, 3.0] * 40)),
    "int64 then object": (pd.Series(range(N)), pd.Series(range(N), dtype=object)),
    "int64 then text": (pd.Series(range(N)), pd.Series([str(i) for i in range(N)])),
    "float64 then float32": (pd.Series(np.arange(N) / 10), pd.Series(np.arange(N) / 10, dtype="float32")),
    "few float64 then float32": (pd.Series(MIXED / 10), pd.Series(MIXED / 10, dtype="float32")),
    "bool then int64": (pd.Series(MIXED == 0), pd.Series((MIXED == 0).astype(int))),
    "category then object": (pd.Series(list("abc") * 40, dtype="category"), pd.Series(list("abc") * 40, dtype=object)),
    "category of codes then float64": (pd.Series(MIXED, dtype="category"), pd.Series(MIXED, dtype=float)),
    "times then ISO text": (times(), times().dt.strftime("%Y-%m-%dT%H:%M:%S")),
    "zone then UTC": (times(tz="Europe/Berlin"), times(tz="Europe/Berlin").dt.tz_convert("UTC")),
    "times then times of Python": (times(), pd.Series(list(times().dt.to_pydatetime()), dtype=object)),
    "timedelta then object": (
        pd.Series(pd.to_timedelta(np.arange(N), unit="h")),
        pd.Series([datetime.timedelta(hours=i) for i in range(N)], dtype=object),
    ),
    "nanoseconds then seconds": (times().astype("datetime64[ns]"), times().astype("datetime64[s]")),
}


@pytest.mark.parametrize(("before", "now"), SAME.values(), ids=SAME)
def test_the_same_values_in_another_dtype_have_not_drifted(before, now):
    report = drift_report(before.to_frame("x"), now.to_frame("x"))
    assert report.skipped == {}
    assert report.columns[0].statistic == 0.0


SKIPPED = {
    "all missing": (pd.Series([None] * N, dtype=float), None, "Every value of the reference is missing."),
    "lists": (pd.Series([[1]] * N), None, "It holds values of type list, which cannot be counted"),
    "complex": (pd.Series([1j] * N), None, "complex numbers"),
    "identifier": (pd.Series([f"id-{i}" for i in range(N)]), None, "It holds 120 levels in 120 rows"),
    "constant": (pd.Series(["a"] * N), None, "one and the same value"),
    "numbers, now text": (
        pd.Series(range(N)),
        pd.Series(["a"] * N),
        "numeric in the reference, but .* of type str",
    ),
    "numbers, now times": (pd.Series(range(N)), times(), "numeric in the reference, but .* Timestamp"),
    "times, now numbers": (times(), pd.Series(range(N)), "datetime in the reference, but"),
    "times, now free text": (times(), pd.Series(["last week"] * N), "datetime in the reference, but .* of type str"),
    "text, now lists": (pd.Series(list("abc") * 40), pd.Series([[1]] * N), "It holds values of type list,"),
}


@pytest.mark.parametrize(("before", "now", "sentence"), SKIPPED.values(), ids=SKIPPED)
def test_what_cannot_be_compared_is_named_with_a_reason(before, now, sentence):
    report = drift_report(before.to_frame("x"), (before if now is None else now).to_frame("x"))
    assert report.columns == ()
    assert list(report.skipped) == ["x"]
    assert re.search(sentence, report.skipped["x"])
    assert report.share is None


def test_a_changed_constant_is_drift():
    for before, now in [(0.5, 0.7), (3, 4), ("a", "b"), (pd.Timestamp("2020-01-01"), pd.Timestamp("2021-01-01"))]:
        report = drift_report(pd.DataFrame({"x": [before] * N}), pd.DataFrame({"x": [now] * N}))
        assert report.drifted == ("x",), (before, now)
        assert report.columns[0].note.endswith("went from 100.0 % to 0.0 % of rows.")


def test_missing_values_are_a_cell_of_their_own():
    before, now = pd.DataFrame({"x": NUMBERS}), pd.DataFrame({"x": np.where(MIXED == 0, np.nan, NUMBERS)})
    (column,) = drift_report(before, now).columns
    assert column.drifted
    assert column.n_reference == N
    assert column.n_current == 80
    assert column.note == "Largest change: missing values went from 0.0 % to 33.3 % of rows."


def test_a_column_that_is_now_all_missing_has_drifted():
    for before in (NUMBERS, list("abc") * 40, MIXED == 0, times()):
        report = drift_report(pd.DataFrame({"x": before}), pd.DataFrame({"x": [None] * N}))
        assert report.drifted == ("x",), report.skipped
        assert report.columns[0].n_current == 0


def test_few_distinct_numbers_are_levels_and_more_are_bins():
    assert only_column(pd.DataFrame({"x": np.arange(1000) % 20}))["levels"][:3] == ["0", "1", "10"]
    assert len(only_column(pd.DataFrame({"x": np.arange(1000) % 21}))["edges"]) == 9
    # Twenty values in sixty rows: cells of three rows would all be pooled into one.
    assert only_column(pd.DataFrame({"x": np.arange(60) % 20}))["counts"] == [6] * 10


def test_ties_are_never_split():
    values = np.r_[np.zeros(900), np.arange(1, 101)]
    column = only_column(pd.DataFrame({"x": values}))
    assert column["edges"] == [0.5]
    assert column["counts"] == [900, 100]


def test_a_spike_at_the_top_is_cut_off_from_what_is_below():
    values = np.r_[np.full(970, 100.0), np.arange(30)]
    column = only_column(pd.DataFrame({"x": values}))
    assert column["edges"] == [64.5]
    assert column["counts"] == [30, 970]


def test_infinite_values_fall_into_the_end_bins():
    column = only_column(pd.DataFrame({"x": np.r_[[-np.inf] * 50, NUMBERS, [np.inf] * 50]}))
    assert sum(column["counts"]) == N + 100
    assert np.isfinite(column["edges"]).all()


def test_rare_and_unseen_levels_share_a_cell():
    before = pd.DataFrame({"x": ["a"] * 500 + ["b"] * 496 + ["c"] * 4})
    assert only_column(before)["levels"] == ["a", "b"]
    assert only_column(before)["counts"] == [500, 496, 4]
    now = pd.DataFrame({"x": ["a"] * 450 + ["b"] * 450 + ["new"] * 100})
    assert (
        drift_report(before, now).columns[0].note == "Largest change: other levels went from 0.4 % to 10.0 % of rows."
    )


def test_many_frequent_levels_are_kept_to_thirty():
    frame = pd.DataFrame({"x": np.repeat([f"level {i:02}" for i in range(60)], 20)})
    column = only_column(frame)
    assert column["levels"] == [f"level {i:02}" for i in range(30)]
    assert column["counts"][-1] == 600


def test_a_sentence_holds_no_value_of_the_data():
    frame = pd.DataFrame({"x": [["secret"], "secret", 1] * 40})
    assert feature_profile(frame)["skipped"] == {
        "x": "It holds values of type int, list, str, which cannot be counted as a level."
    }

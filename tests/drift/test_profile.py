"""The stored profile: its format, its size, and what is refused when it is read."""

import copy
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber.drift import drift_from_profile, drift_report, feature_profile
from mlflow_caliber.exceptions import StateError

FRAME = pd.DataFrame({"x": np.arange(100.0), "c": list("ab") * 50})


FORMAT = {
    "format_version": 2,
    "n": 100,
    "columns": [
        {
            "column": "x",
            "kind": "numeric",
            "edges": [9.5, 19.5, 29.5, 39.5, 49.5, 59.5, 69.5, 79.5, 89.5],
            "counts": [10] * 10,
            "missing": 0,
            "ladder": {
                "edges": [4.5 + 5 * i for i in range(19)],
                "counts": [5] * 20,
                "means": [2.0 + 5 * i for i in range(20)],
                "spread": [1.414, 1.414],
                "sd": pytest.approx(math.sqrt((100**2 - 1) / 12), rel=1e-12),
            },
        },
        {"column": "c", "kind": "categorical", "levels": ["a", "b"], "counts": [50, 50, 0], "missing": 0},
    ],
    "skipped": {},
}


def test_the_profile_is_what_the_format_says():
    """Ten bins of ten rows and twenty cells of five, cut half way between the values: readers depend on this."""
    assert feature_profile(FRAME) == FORMAT


def test_a_profile_of_format_version_1_is_still_read():
    """What 0.1.0 saved: no ladder, so PSI decides whatever was asked for, and says why."""
    profile = copy.deepcopy(feature_profile(FRAME)) | {"format_version": 1}
    del profile["columns"][0]["ladder"]
    now = FRAME.assign(x=FRAME["x"] + 50)
    old, new = drift_from_profile(profile, now), drift_report(FRAME, now)
    assert list(old.columns[0].statistics) == ["psi", "jensen_shannon"]
    assert old.columns[0].shift is None
    for name in ("statistic", "threshold", "p_value", "drifted", "jensen_shannon"):
        assert getattr(old.columns[0], name) == getattr(new.columns[0], name)
    assert old.columns[1] == new.columns[1]
    (column, _) = drift_from_profile(profile, now, method="ks").columns
    assert column.method == "psi"
    assert column.note.endswith("psi decides: the stored profile is of an older format.")


def test_thirty_columns_take_less_than_forty_five_kilobytes():
    rng = np.random.default_rng(0)
    columns = {f"a numeric column {i}": rng.normal(size=20_000) for i in range(20)}
    columns |= {f"a category {i}": rng.choice([f"level {j}" for j in range(200)], 20_000) for i in range(10)}
    assert len(json.dumps(feature_profile(pd.DataFrame(columns)))) < 45_000


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(10, 3000), st.integers(1, 400))
def test_no_cell_of_a_ladder_tells_of_fewer_than_five_rows(seed, n, distinct):
    values = np.random.default_rng(seed).integers(0, distinct, n).astype(float)
    (column,) = feature_profile(pd.DataFrame({"x": values}))["columns"]
    assert min(column["ladder"]["counts"]) >= 5
    assert sum(column["ladder"]["counts"]) == n


def test_few_values_get_few_bins():
    values = np.full(1000, np.nan)
    values[:30] = np.linspace(0, 1, 30)
    (column,) = feature_profile(pd.DataFrame({"x": values}))["columns"]
    assert column["counts"] == [5] * 6
    assert column["missing"] == 970


def test_an_empty_frame_has_a_profile_and_no_drift():
    profile = feature_profile(FRAME.iloc[:0])
    assert set(profile["skipped"]) == {"x", "c"}
    assert drift_from_profile(profile, FRAME).columns == ()
    assert set(drift_report(FRAME, FRAME.iloc[:0]).skipped) == {"x", "c"}


def test_times_are_named_as_times():
    before = pd.DataFrame({"t": pd.date_range("2020-01-01", periods=100, freq="D")})
    now = pd.DataFrame({"t": pd.date_range("2020-03-31", periods=100, freq="D")})
    (column,) = drift_report(before, now).columns
    assert column.note == (
        "Up by 3.12 reference standard deviations on average. "
        "Largest change: (2020-03-30T12:00:00, inf] went from 10.0 % to 100.0 % of rows."
    )


def column_with(i, **changes):
    def spoil(profile):
        profile["columns"][i] |= changes

    return spoil


def ladder_with(**changes):
    def spoil(profile):
        profile["columns"][0]["ladder"] |= changes

    return spoil


def without(i, key):
    def spoil(profile):
        del profile["columns"][i][key]

    return spoil


BAD = {
    "version": (lambda p: p.update(format_version=3), "The drift profile must have a format version of 1 to 2, got 3"),
    "no version": (lambda p: p.pop("format_version"), "must have 'format_version', got only"),
    "n": (lambda p: p.update(n=-1), "must have a finite 'n' of at least 0, got -1"),
    "n a float": (lambda p: p.update(n=100.0), "must have 'n' of type int, got 100.0"),
    "columns": (lambda p: p.update(columns={}), "must have 'columns' of type list, got {}"),
    "column": (lambda p: p.update(columns=["x"]), "must have 'columns' of type list of dict, got 'x'"),
    "twice": (lambda p: p["skipped"].update(x="again"), "must name each column once, got 1 repeated"),
    "no name": (without(0, "column"), "A column of the drift profile must have 'column'"),
    "kind": (column_with(0, kind="text"), "Column 'x' .* must have a kind of numeric, .*, got 'text'"),
    "neither": (without(0, "edges"), "must have either edges .* or levels"),
    "both": (column_with(0, levels=[]), "must have either edges .* or levels"),
    "edges of a category": (column_with(0, kind="categorical"), "must have either edges .* or levels"),
    "unsorted": (column_with(0, edges=[2.0, 1.0]), "finite, increasing edges, got"),
    "NaN": (column_with(0, edges=[math.nan]), "finite, increasing edges, got"),
    "text edges": (column_with(0, edges=["1"]), "'edges' of type list of int or float, got '1'"),
    "fewer counts": (column_with(0, counts=[100]), "must have 10 counts, one a cell, got 1"),
    "negative": (column_with(1, counts=[-1, 100, 1]), "counts that are not negative, got -1"),
    "sum": (column_with(1, counts=[50, 50, 1]), "add up to 100 rows, got 101"),
    "missing": (column_with(1, missing=1), "add up to 99 rows, got 100"),
    "ladder": (column_with(0, ladder=[]), "Column 'x' of the drift profile must have 'ladder' of type dict"),
    "ladder's edges": (ladder_with(edges=[2, 1]), "The ladder of column 'x' .* finite, increasing edges, got"),
    "ladder's counts": (ladder_with(counts=[5] * 19 + [6]), "The ladder .* add up to 100 rows, got 101"),
    "fewer means": (ladder_with(means=[1.0]), "must have 20 finite means, one a cell, got"),
    "NaN mean": (ladder_with(means=[math.nan] * 20), "must have 20 finite means, one a cell, got"),
    "spreads": (ladder_with(spread=[1.0]), "must have two finite spreads of at least 0, got"),
    "negative spread": (ladder_with(spread=[1.0, -1.0]), "must have two finite spreads of at least 0, got"),
    "sd": (ladder_with(sd=-1.0), "The ladder .* must have a finite 'sd' of at least 0, got -1"),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD.values(), ids=BAD)
def test_a_spoilt_profile_is_refused(spoil, sentence):
    profile = copy.deepcopy(feature_profile(FRAME))
    spoil(profile)
    with pytest.raises(StateError, match=sentence):
        drift_from_profile(profile, FRAME)


def test_a_profile_that_is_no_object_is_refused():
    with pytest.raises(StateError, match="The drift profile must be a JSON object, got a list"):
        drift_from_profile([], FRAME)

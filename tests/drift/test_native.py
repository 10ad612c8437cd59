"""Whether the verdict is right: golden numbers, independent implementations, and rates by simulation."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, false_discovery_control

from mlflow_caliber.drift import ColumnDrift, DriftReport, drift_from_profile, drift_report, feature_profile
from mlflow_caliber.drift._methods import METHODS
from mlflow_caliber.drift._nulls import benjamini_hochberg_level
from mlflow_caliber.exceptions import InvalidInputError, StateError

VALUES = np.array([np.nan, 0.5, 1e300, np.inf, -np.inf, *range(-3, 40)])
LEVELS = np.array([None, "a", "b", "c", "", "other levels"], dtype=object)
COLUMNS = {
    "number": lambda rng, n: rng.choice(VALUES, n),
    "level": lambda rng, n: rng.choice(LEVELS, n),
    "flag": lambda rng, n: rng.random(n) < rng.random(),
    "spread": lambda rng, n: rng.normal(rng.integers(3), 1, n).astype(rng.choice(["float32", "float64"])),
    "code": lambda rng, n: rng.integers(0, rng.integers(1, 40), n),
    "gone": lambda rng, n: np.full(n, np.nan),
    "id": lambda rng, n: [f"row {i}" for i in range(n)],
    "list": lambda rng, n: [[i] for i in range(n)],
}


@st.composite
def frames(draw):
    """Any mix of columns; the values come from a drawn seed, because drawing each of them takes minutes."""
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), unique=True, min_size=1))
    rng, n = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.integers(1, 200))
    return pd.DataFrame({name: COLUMNS[name](rng, n) for name in names})


@settings(deadline=None)
@given(frames(), frames(), st.sampled_from([1, 50]))
def test_every_column_is_reported_exactly_once(reference, current, min_rows):
    report = drift_report(reference, current, min_rows=min_rows)
    names = [column.column for column in report.columns] + list(report.skipped)
    assert sorted(names) == sorted({*reference.columns, *current.columns})
    assert all(reason.endswith(".") for reason in report.skipped.values())


@settings(deadline=None)
@given(frames(), frames())
def test_what_a_report_says_is_consistent(reference, current):
    report = drift_report(reference, current, min_rows=1)
    for column in report.columns:
        assert column.statistic >= 0.0
        assert 0.0 <= column.p_value <= 1.0
        assert 0.0 <= column.jensen_shannon <= 1.0
        assert column.threshold >= report.min_effect
        assert column.statistic == column.statistics[column.method]
        assert column.drifted == (column.statistic >= column.threshold) == ("Largest change" in column.note)
        assert column.n_current == current[column.column].notna().sum()
        assert column.n_reference == reference[column.column].notna().sum()


@settings(deadline=None)
@given(frames())
def test_identical_frames_have_no_drift(frame):
    report = drift_report(frame, frame, min_rows=1, min_effect=0.0)
    assert all(column.statistic == 0.0 and column.p_value == 1.0 for column in report.columns)
    assert report.drifted == ()


@settings(deadline=None)
@given(frames(), frames(), st.integers(0, 2**32 - 1))
def test_row_order_and_index_do_not_matter(reference, current, seed):
    shuffled = [frame.sample(frac=1.0, random_state=seed) for frame in (reference, current)]
    assert drift_report(*shuffled, min_rows=1) == drift_report(reference, current, min_rows=1)


def without_gap(report):
    """The report without what a profile only approximates, and what is said of it."""
    columns = []
    for column in report.columns:
        kept = {name: value for name, value in column.statistics.items() if name not in {"ks", "wasserstein"}}
        note = column.note[column.note.find("Largest change") :] if column.drifted else column.note
        columns.append(replace(column, statistics=kept, shift=None, note=note))
    return replace(report, columns=tuple(columns))


@settings(deadline=None)
@given(frames(), frames(), st.sampled_from(["psi", "jensen_shannon", ["chi_square", "psi"], "cramers_v"]))
def test_a_profile_through_json_stands_for_its_data(reference, current, method):
    profile = json.loads(json.dumps(feature_profile(reference), allow_nan=False, sort_keys=True))
    stored = drift_from_profile(profile, current, min_rows=1, method=method)
    assert without_gap(stored) == without_gap(drift_report(reference, current, min_rows=1, method=method))


@settings(deadline=None)
@given(frames(), frames(), st.sampled_from(sorted(METHODS)))
def test_a_report_through_json_is_the_same(reference, current, method):
    report = drift_report(reference, current, min_rows=1, method=method)
    assert DriftReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report


def test_golden_psi_by_hand():
    """20 and 30 rows over two levels, half a row added to each cell; the logarithms by hand.

    e = (12.5/21, 8.5/21), a = (9.5/31, 21.5/31): PSI = (12.5/21 - 9.5/31) ln((12.5 * 21.5) / (8.5 * 9.5)),
    since both cells have the same |a - e|.
    """
    reference = pd.DataFrame({"x": ["a"] * 12 + ["b"] * 8})
    current = pd.DataFrame({"x": ["a"] * 9 + ["b"] * 21})
    (column,) = drift_report(reference, current, min_rows=20).columns
    expected = (12.5 / 21 - 9.5 / 31) * math.log(12.5 * 21.5 / (8.5 * 9.5))
    assert column.statistic == pytest.approx(expected, rel=1e-12)
    assert column.statistic == pytest.approx(0.347244, abs=1e-6)
    # One column: no correction; one degree of freedom, whose 95 % quantile is 3.841459.
    assert column.threshold == pytest.approx(3.841459 * (1 / 20 + 1 / 30), rel=1e-6)
    assert column.drifted
    assert column.jensen_shannon == pytest.approx(jensenshannon([12 / 20, 8 / 20], [9 / 30, 21 / 30], base=2))
    assert column.p_value == pytest.approx(chi2.sf(expected * 12, 1))


def test_psi_of_a_shifted_normal_is_near_its_known_value():
    """Without binning, PSI of N(d, 1) against N(0, 1) is d^2 (both Kullback-Leibler divergences); bins lose some."""
    rng = np.random.default_rng(3)
    reference, current = (pd.DataFrame({"x": rng.normal(d, 1, 200_000)}) for d in (0.0, 0.5))
    (column,) = drift_report(reference, current).columns
    assert 0.22 < column.statistic < 0.25


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.01, 0.5))
def test_the_level_is_that_of_benjamini_and_hochberg(p_values, alpha):
    """scipy's adjusted p-values reject the same hypotheses, except within rounding of the limit."""
    adjusted = false_discovery_control(p_values)
    level = benjamini_hochberg_level(p_values, alpha)
    for p, q in zip(p_values, adjusted, strict=True):
        if abs(q - alpha) > 1e-9:
            assert (p <= level) == (q <= alpha)


def samples(rng, n, shift=0.0):
    return pd.DataFrame(
        {
            "normal": rng.normal(shift, 1, n),
            "skewed": rng.lognormal(0, 2, n),
            "count": rng.poisson(3, n),
            "gaps": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "region": rng.choice(list("abcde"), n, p=[0.5, 0.3, 0.1, 0.08, 0.02]),
            "flag": rng.random(n) < 0.03,
        }
    )


@pytest.mark.parametrize(("n", "m"), [(60, 60), (1000, 80), (300, 300), (2000, 1000)])
def test_false_alarms_are_held_to_alpha(n, m):
    """150 pairs without drift: at most 15 reports name a column, which 5 % exceed with probability .004."""
    rng = np.random.default_rng(20)
    alarms = sum(bool(drift_report(samples(rng, n), samples(rng, m), min_effect=0).drifted) for _ in range(150))
    assert alarms <= 15


def test_a_shift_is_found_and_only_there():
    rng = np.random.default_rng(21)
    found = [drift_report(samples(rng, 1000), samples(rng, 500, shift=0.4)).drifted for _ in range(40)]
    assert sum("normal" in names for names in found) >= 38
    assert sum(len(set(names) - {"normal"}) for names in found) <= 12


def test_large_samples_do_not_alarm_on_nothing():
    rng = np.random.default_rng(22)
    reference, current = (pd.DataFrame({"x": rng.normal(d, 1, 200_000)}) for d in (0.0, 0.03))
    assert drift_report(reference, current, min_effect=0.0).drifted == ("x",)
    assert drift_report(reference, current).drifted == ()


def test_more_columns_ask_for_more_evidence():
    rng = np.random.default_rng(23)
    one, many = ({f"x{i}": rng.normal(size=200) for i in range(k)} for k in (1, 40))
    thresholds = [drift_report(pd.DataFrame(data), pd.DataFrame(data)).columns[0].threshold for data in (one, many)]
    assert thresholds[0] == pytest.approx(chi2.isf(0.05, 9) * 2 / 200)
    assert thresholds[1] == pytest.approx(chi2.isf(0.05 / 40, 9) * 2 / 200)


def test_too_few_rows_are_a_sentence():
    frame = pd.DataFrame({"x": range(49)})
    report = drift_report(frame, frame)
    assert report.skipped == {"x": "It takes at least 50 rows on each side, got 49 in the reference and 49 now."}
    assert report.share is None


def test_a_column_of_one_side_only_is_named():
    report = drift_report(
        pd.DataFrame({"a": range(60), "b": range(60)}), pd.DataFrame({"b": range(60), "c": range(60)})
    )
    assert report.skipped == {"a": "It is not in the current data.", "c": "It is not in the reference."}
    assert [column.column for column in report.columns] == ["b"]
    assert report.share == 0.0


def test_columns_restrict_the_report():
    frame = pd.DataFrame({"a": range(60), "b": range(60), "c": [[1]] * 60})
    report = drift_report(frame, frame, columns=["b", "c"])
    assert [column.column for column in report.columns] == ["b"]
    assert list(report.skipped) == ["c"]
    assert drift_from_profile(feature_profile(frame), frame, columns=iter(["b", "c"])) == report


def test_column_names_need_not_be_text():
    frame = pd.DataFrame(np.arange(120).reshape(60, 2))
    assert [column.column for column in drift_report(frame, frame).columns] == ["0", "1"]


FRAME = pd.DataFrame({"x": range(60)})
REFUSED = {
    "no frame": ({"reference": [1, 2]}, "reference must be a pandas DataFrame, got a list"),
    "a name twice": ({"current": pd.DataFrame([[1, 2]], columns=["x", "x"])}, "distinct column names, got 'x' more"),
    "names alike as text": ({"current": pd.DataFrame([[1, 2]], columns=["1", 1])}, "distinct column names, got '1'"),
    "no number for a frame": ({"reference": 5}, "reference must be a pandas DataFrame, got a int"),
    "method": ({"method": "kolmogorov"}, "method must be one of psi, .*, got 'kolmogorov'"),
    "method of a list": ({"method": ["psi", "wassertein"]}, "got 'wassertein'. Did you mean 'wasserstein'"),
    "method None": ({"method": None}, "method must be one of .*, got None"),
    "seed": ({"random_state": -1}, "random_state must be a whole number >= 0, got -1"),
    "unknown column": ({"columns": ["x", "y"]}, "got 'y', which neither frame has"),
    "alpha": ({"alpha": 1.0}, "alpha must be a number strictly between 0 and 1, got 1"),
    "min_effect": ({"min_effect": -0.1}, "min_effect must be a finite number of at least 0, got -0.1"),
    "min_effect text": ({"min_effect": "0.1"}, "min_effect must be a finite number of at least 0, got '0.1'"),
    "min_rows": ({"min_rows": 0}, "min_rows must be a whole number >= 1, got 0"),
}


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED.values(), ids=REFUSED)
def test_wrong_arguments_are_refused(arguments, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        drift_report(**{"reference": FRAME, "current": FRAME, **arguments})


def test_the_shape_of_a_report_on_disk():
    reference = pd.DataFrame({"x": ["a"] * 60 + ["b"] * 40, "y": [None] * 100})
    current = pd.DataFrame({"x": ["a"] * 20 + ["b"] * 80, "y": [1.0] * 100})
    state = drift_report(reference, current).to_dict()
    (column,) = state.pop("columns")
    assert state == {
        "format_version": 2,
        "n_reference": 100,
        "n_current": 100,
        "alpha": 0.05,
        "min_effect": 0.02,
        "share": 1.0,
        "skipped": {"y": "Every value of the reference is missing."},
    }
    assert list(column) == list(ColumnDrift.__dataclass_fields__)
    assert column["note"] == "Largest change: level 'a' went from 60.0 % to 20.0 % of rows."


def with_column(state, **changes):
    return state | {"columns": [state["columns"][0] | changes]}


BAD_REPORTS = {
    "no object": (lambda _: [], "The drift report must be a JSON object, got a list"),
    "version": (lambda s: s | {"format_version": 3}, "must have a format version of 1 to 2, got 3"),
    "no columns": (lambda s: {k: v for k, v in s.items() if k != "columns"}, "must have 'columns', got only"),
    "NaN": (lambda s: s | {"alpha": math.nan}, "must have a finite 'alpha' of at least 0, got nan"),
    "kind": (
        lambda s: s | {"columns": [s["columns"][0] | {"kind": "odd"}]},
        "must have a kind of numeric.*, got 'odd'",
    ),
    "no statistics": (lambda s: with_column(s, statistics=[]), "must have 'statistics' of type dict, got \\[\\]"),
    "NaN among them": (
        lambda s: with_column(s, statistics={"psi": math.nan}),
        "The statistics of column 'x' of the drift report must have a finite 'psi' of at least 0, got nan",
    ),
    "endless shift": (lambda s: with_column(s, shift=-math.inf), "must have a finite 'shift', got -inf"),
    "truth": (lambda s: s | {"columns": [s["columns"][0] | {"drifted": 1}]}, "must have 'drifted' of type bool, got 1"),
    "true": (lambda s: s | {"n_current": True}, "must have 'n_current' of type int, got True"),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD_REPORTS.values(), ids=BAD_REPORTS)
def test_a_spoilt_report_is_refused(spoil, sentence):
    with pytest.raises(StateError, match=sentence):
        DriftReport.from_dict(spoil(drift_report(FRAME, FRAME).to_dict()))


def test_a_report_of_format_version_1_is_still_read():
    """What 0.1.0 wrote."""
    column = {
        "column": "x",
        "kind": "categorical",
        "method": "psi",
        "statistic": 0.25,
        "threshold": 0.1,
        "drifted": True,
        "p_value": 0.001,
        "jensen_shannon": 0.125,
        "n_reference": 90,
        "n_current": 100,
        "note": "Largest change: level 'a' went from 60.0 % to 20.0 % of rows.",
    }
    head = {"n_reference": 100, "n_current": 100, "alpha": 0.05, "min_effect": 0.02, "share": 1.0, "skipped": {}}
    report = DriftReport.from_dict({"format_version": 1, **head, "columns": [column]})
    (read,) = report.columns
    assert read.statistics == {"psi": 0.25, "jensen_shannon": 0.125}
    assert read.jensen_shannon == 0.125
    assert read.shift is None
    assert report.drifted == ("x",)
    assert DriftReport.from_dict(report.to_dict()) == report
    with pytest.raises(StateError, match="Column 'x' of the drift report must have 'statistic', got only"):
        DriftReport.from_dict(
            {"format_version": 1, **head, "columns": [{k: v for k, v in column.items() if k != "statistic"}]}
        )

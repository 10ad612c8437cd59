"""Statistics of a report: the sum depends on the rows and on nothing else."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.batches import ReportStatistics
from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.report import reliability_report

ROW = st.tuples(
    st.integers(0, 1),
    st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]),
    st.sampled_from([0.25, 0.5, 1.0]),
    st.sampled_from(["north", "south", None]),
    st.sampled_from([0.0, 1.0, 2.0]),
)


def added(rows, *, exact_up_to=10_000):
    """Statistics of these rows alone."""
    y, p, raw, region, weight = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    columns = {"region": np.array(region, dtype=object)}
    empty = ReportStatistics(raw=True, segments=["region"], exact_up_to=exact_up_to)
    return empty.update(y, p, raw=raw, segments=columns, sample_weight=weight)


def assert_alike(left: ReportStatistics, right: ReportStatistics) -> None:
    """Equal, but for the rounding of sums."""

    def flat(state):
        return pd.json_normalize(state).iloc[0].to_dict()

    left, right = flat(left.to_dict()), flat(right.to_dict())
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert right[key] == (value if value is None else pytest.approx(value, rel=1e-12, abs=1e-12)), key


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(ROW, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    seed=st.randoms(use_true_random=False),
)
@pytest.mark.parametrize("exact_up_to", [0, 3, 10_000])
def test_any_cut_and_any_order_give_the_same(
    rows: list, cuts: list[int], seed: random.Random, exact_up_to: int
) -> None:
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    parts = [added(rows[a:b], exact_up_to=exact_up_to) for a, b in itertools.pairwise(edges)]
    seed.shuffle(parts)
    whole = added(rows, exact_up_to=exact_up_to)
    assert_alike(sum(parts, added([], exact_up_to=exact_up_to)), whole)
    state = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert ReportStatistics.from_dict(state) == whole


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(7)
    n = 6000
    raw = rng.random(n)
    p = np.round(0.05 + 0.9 * raw, 1)  # ties that the raw scores do not have
    return {
        "y": (rng.random(n) < p).astype(int),
        "p": p,
        "raw": raw,
        "weight": rng.integers(0, 3, n).astype(float),
        "region": rng.choice(np.array(["north", "south", None], dtype=object), n, p=[0.5, 0.4, 0.1]),
        "store": rng.integers(0, 3, n).astype(float),
    }


def report_of(rows, weight):
    statistics = ReportStatistics(raw=True, segments=["region", "store"])
    for part in np.array_split(np.arange(rows["y"].size), 5):
        statistics.update(
            rows["y"][part],
            rows["p"][part],
            raw=rows["raw"][part],
            segments={"region": pd.Series(rows["region"][part], dtype="category"), "store": rows["store"][part]},
            sample_weight=None if weight is None else weight[part],
        )
    return statistics.report(classes=["stays", "leaves"], policy=AbstainPolicy(0.7))


@pytest.mark.parametrize("weighted", [False, True])
def test_report_is_that_of_the_rows(rows, weighted):
    weight = rows["weight"] if weighted else None
    ours = report_of(rows, weight)
    theirs = reliability_report(
        rows["y"],
        rows["p"],
        raw=rows["raw"],
        segments={"region": rows["region"], "store": rows["store"]},
        sample_weight=weight,
        classes=["stays", "leaves"],
        policy=AbstainPolicy(0.7),
    )
    assert ours.exact
    assert (ours.n, ours.weighted, ours.histogram) == (theirs.n, theirs.weighted, theirs.histogram)
    drawn = {"ece_null_mean", "ece_null_p95"}
    for key, value in theirs.metrics.items():
        assert ours.metrics[key] == pytest.approx(value, rel=0.15 if key in drawn else 1e-9, abs=1e-12), key
    assert [(part.column, part.value, part.n) for part in ours.segments] == [
        (part.column, part.value, part.n) for part in theirs.segments
    ]
    assert {part.value for part in ours.segments} == {"north", "south", "(missing)", "0", "1", "2"}
    for mine, other in ((ours.segments, theirs.segments), (ours.raw.segments, theirs.raw.segments)):
        assert len(mine) == len(other) == 6
        for part, wanted in zip(mine, other, strict=True):
            assert (part.column, part.value, part.n) == (wanted.column, wanted.value, wanted.n)
            for key in ("brier", "roc_auc", "ece"):
                assert part.metrics[key] == pytest.approx(wanted.metrics[key], rel=1e-9), key


def test_merging_keeps_the_least_limit_in_every_part():
    coarse = ReportStatistics(segments=["k"], exact_up_to=2).update([0, 1], [0.1, 0.2], segments={"k": ["a", "a"]})
    fine = ReportStatistics(segments=["k"]).update([0, 1, 1], [0.3, 0.4, 0.5], segments={"k": ["b", "b", "b"]})
    both, other = coarse + fine, fine + coarse
    assert both == other
    assert both.exact_up_to == 2
    assert [part.exact for part in both.segments["k"].values()] == [True, False]
    assert fine.segments["k"].keys() == {"b"}  # neither is changed


def test_values_that_read_alike_are_one_segment():
    statistics = ReportStatistics(segments=["k"])
    statistics.update([0, 1], [0.1, 0.2], segments={"k": np.array([1.0, 2.0])})
    statistics.update([0, 1, 1], [0.1, 0.2, 0.2], segments={"k": ["1", 1, np.nan]})
    statistics.update([0, 1], [0.1, 0.2], segments={"k": pd.Categorical([1, None])})
    assert {value: part.n for value, part in statistics.segments["k"].items()} == {"1": 4, "2": 1, "(missing)": 2}


def test_a_value_of_no_weight_is_no_segment():
    statistics = ReportStatistics(segments=["k"])
    statistics.update([0, 1], [0.1, 0.2], segments={"k": ["a", "b"]}, sample_weight=[1.0, 0.0])
    assert list(statistics.segments["k"]) == ["a"]


@pytest.mark.parametrize(
    ("made", "given", "sentence"),
    [
        ({}, {"raw": [0.1, 0.2]}, "raw must not be given: the statistics were made with raw=False"),
        ({"raw": True}, {}, "raw must be given: the statistics were made with raw=True"),
        ({"raw": True}, {"raw": [0.1]}, "raw must have one value a row, got 1 values for 2 rows"),
        ({"raw": True}, {"raw": [0.1, 1.5]}, "raw must lie in"),
        ({"segments": ["k"]}, {}, "segments must be k, got none"),
        ({}, {"segments": {"k": ["a", "b"]}}, "segments must be none, got k"),
        ({"segments": ["k"]}, {"segments": {"k": ["a"]}}, r"segments\['k'\] must have one value a row"),
        ({}, {"sample_weight": [1.0, -1.0]}, "sample_weight must not be negative"),
    ],
)
def test_a_chunk_with_a_fault_changes_nothing(made, given, sentence):
    statistics = ReportStatistics(**made)
    before = statistics.to_dict()
    with pytest.raises(InvalidInputError, match=sentence):
        statistics.update([0, 1], [0.2, 0.7], **given)
    assert statistics.to_dict() == before


def test_too_many_values_are_refused_and_change_nothing():
    statistics = ReportStatistics(segments=["k"])
    statistics.update([0, 1], [0.2, 0.7], segments={"k": [-1, -2]})
    before = statistics.to_dict()
    with pytest.raises(InvalidInputError, match=r"segments\['k'\] must have at most 1000 distinct values"):
        statistics.update(np.zeros(1500), np.full(1500, 0.5), segments={"k": np.arange(1500)})
    assert statistics.to_dict() == before
    half = [
        ReportStatistics(segments=["k"]).update(
            np.zeros(600), np.full(600, 0.5), segments={"k": np.arange(600) + start}
        )
        for start in (0, 600)
    ]
    with pytest.raises(InvalidInputError, match="cut it into ranges or groups first"):
        half[0].merge(half[1])


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (ScoreStatistics(), "other must be ReportStatistics, got a ScoreStatistics"),
        (ReportStatistics(raw=True), "got raw scores and no segments"),
        (ReportStatistics(segments=["k"]), "got no raw scores and segments k"),
    ],
)
def test_only_what_is_alike_can_be_merged(other, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        ReportStatistics().merge(other)


@pytest.mark.parametrize(("segments", "sentence"), [("ab", "the text 'ab'"), (["a", "a"], "distinct"), ([1], "text")])
def test_names_of_columns(segments, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        ReportStatistics(segments=segments)


def broken(**changes):
    state = added([(1, 0.5, 0.25, "north", 1.0), (0, 0.25, 0.5, "south", 2.0)]).to_dict()
    return {key: value for key, value in (state | changes).items() if value != "gone"}


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ([], "must be an object"),
        (broken(raw="gone"), "must hold 'raw', which is missing"),
        (broken(more=1), "must hold only"),
        (broken(format_version=1, raw_segments="gone"), "'format_version' must be 2, got 1"),
        (broken(raw_segments={}), "raw_segments must be of the same rows as segments"),
        (broken(raw=ScoreStatistics().to_dict()), "raw must be of the same 2 rows, got 0"),
        (broken(segments={"region": {}}), r"segments\['region'\] must hold the same 2 rows, got 0"),
        (broken(segments={"region": {"north": {}}}), "format_version"),
    ],
)
def test_reading_back_is_strict(state, sentence):
    with pytest.raises(StateError, match=sentence):
        ReportStatistics.from_dict(state)

"""Statistics that can be added: parts in any order give the whole, and JSON gives back what it was given."""

import copy
import functools
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber import metrics
from mlflow_caliber.calibrators import make_calibrator
from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.metrics import METRICS, ScoreStatistics
from mlflow_caliber.metrics._grid import EDGES, N_CELLS, N_GAPS, cell_of, within_cell
from mlflow_caliber.metrics._statistics import EXACT_UP_TO

quick = settings(max_examples=40, deadline=None)

PROBABILITIES = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 0.01, 0.99, 5e-324, 1e-8, np.nextafter(0.5, 1), np.nextafter(1.0, 0)]),
    st.integers(0, 20).map(lambda k: k / 20),
    st.floats(0, 1),
)
ROWS = st.lists(st.tuples(st.integers(0, 1), PROBABILITIES, st.integers(0, 3)), max_size=60)


def columns(rows):
    y, p, w = (np.array([row[k] for row in rows], dtype=float) for k in range(3))
    return y, p, w


def of(rows, *, weighted=False, grid=False):
    """Statistics of rows, by distinct score or, as after too many of them, by cell."""
    y, p, w = columns(rows)
    w = w if weighted else None
    return ScoreStatistics.from_rows(y, p, sample_weight=w, exact_up_to=0 if grid else EXACT_UP_TO)


def on_grid(statistics):
    return statistics + ScoreStatistics(exact_up_to=0)


def assert_same(left, right):
    """Same cells and counts; sums up to the order in which they were rounded."""
    assert left.exact == right.exact
    a, b = left._tally, right._tally
    np.testing.assert_array_equal(a.keys, b.keys)
    np.testing.assert_allclose(a.sums, b.sums, rtol=1e-12)
    np.testing.assert_array_equal(a.sums[0], b.sums[0])
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-12, atol=1e-15)


def many_scores(n=3 * EXACT_UP_TO, seed=0):
    """More distinct scores than are kept one by one."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.7, 1.3, n)
    return (rng.random(n) < p).astype(float), p


class TestGrid:
    def test_every_edge_and_gap_is_a_cell(self):
        number = np.arange(N_GAPS)
        np.testing.assert_array_equal(cell_of(EDGES), 2 * np.arange(N_GAPS + 1))
        np.testing.assert_array_equal(cell_of(np.nextafter(EDGES[:-1], 1.0)), 2 * number + 1)
        np.testing.assert_array_equal(cell_of(np.nextafter(EDGES[1:], 0.0)), 2 * number + 1)
        assert (EDGES[0], EDGES[-1], N_CELLS) == (0.0, 1.0, 2 * N_GAPS + 1)
        assert np.all(np.diff(EDGES) > 0.0)

    @pytest.mark.parametrize("n_bins", [1, 2, 4, 5, 10, 12, 15, 16, 20, 25, 50, 100, 1000])
    def test_edges_of_common_bins_are_edges(self, n_bins):
        assert np.isin(np.arange(n_bins + 1) / n_bins, EDGES).all()

    def test_scores_with_few_digits_are_edges(self):
        two_digits = [float(f"{digits}e-{power}") for digits in range(1, 100) for power in range(3, 14)]
        assert np.isin(two_digits, EDGES).all()
        assert np.isin([round(1.0 - score, 13) for score in two_digits], EDGES).all()

    def test_gaps_are_narrow_everywhere(self):
        middle, width = (EDGES[1:] + EDGES[:-1]) / 2, np.diff(EDGES)
        assert width.max() == pytest.approx(1 / 6000)
        inside = (EDGES[:-1] >= 1e-12) & (EDGES[1:] <= 1 - 1e-12)
        assert np.all((width / np.minimum(middle, 1 - middle))[inside] <= 1 / 60)
        assert EDGES[1] == pytest.approx(1 / 6e14)

    @quick
    @given(p=st.lists(PROBABILITIES, min_size=1, max_size=50))
    def test_a_cell_is_found_as_by_searching_the_edges(self, p):
        below = np.searchsorted(EDGES, p, side="right") - 1
        np.testing.assert_array_equal(ScoreStatistics.cell_of(p), 2 * below + (np.array(p) != EDGES[below]))

    def test_a_rounded_mean_stays_in_its_cell(self):
        cells = np.array([0, 1, 1, 2 * N_GAPS, N_GAPS])
        values = within_cell(cells, np.array([0.3, 0.0, 1e-5, 2.0, 0.5 + 1e-17]))
        np.testing.assert_array_equal(cell_of(values), cells)
        assert values[0] == 0.0
        assert values[3] == 1.0

    def test_scores_out_of_range_get_a_sentence(self):
        with pytest.raises(InvalidInputError, match=r"y_proba must lie in \[0, 1\], got a maximum of 1\.7\."):
            ScoreStatistics.cell_of([0.5, 1.7])


class TestMerging:
    @pytest.mark.parametrize("grids", [(0, 0, 0), (0, 1, 0), (1, 1, 1)])
    @pytest.mark.parametrize("weighted", [False, True])
    @quick
    @given(parts=st.tuples(ROWS, ROWS, ROWS))
    def test_is_associative_and_commutative(self, parts, weighted, grids):
        a, b, c = (of(part, weighted=weighted, grid=grid) for part, grid in zip(parts, grids, strict=True))
        assert_same(a.merge(b).merge(c), a.merge(b.merge(c)))
        assert_same(a + b, b + a)
        assert_same(sum([a, b, c]), functools.reduce(ScoreStatistics.merge, [c, a, b]))

    @pytest.mark.parametrize("weighted", [False, True])
    @quick
    @given(parts=st.lists(ROWS, max_size=4))
    def test_parts_give_the_whole(self, parts, weighted):
        whole = of([row for part in parts for row in part], weighted=weighted)
        merged = sum((of(part, weighted=weighted) for part in parts), ScoreStatistics())
        assert_same(merged, whole)

    @pytest.mark.parametrize("size", [777, 5000, 40_000])
    def test_chunks_do_not_matter_when_scores_are_many(self, size):
        y, p = many_scores()
        chunked = ScoreStatistics()
        for start in range(0, y.size, size):
            chunked.update(y[start : start + size], p[start : start + size])
        assert_same(chunked, ScoreStatistics.from_rows(y, p))
        assert not chunked.exact

    def test_what_is_exact_depends_on_all_rows_and_not_on_their_order(self):
        p = np.linspace(0, 1, EXACT_UP_TO)
        few = ScoreStatistics.from_rows(np.ones(EXACT_UP_TO), p)
        one_more = ScoreStatistics.from_rows([0], [0.123456789])
        assert few.exact
        assert (few + few).exact
        assert not (few + one_more).exact
        assert_same(few + one_more, one_more + few)
        assert_same(few + one_more, on_grid(few) + on_grid(one_more))

    def test_merging_leaves_the_parts_alone(self):
        a, b = of([(1, 0.3, 1)]), of([(0, 0.4, 1)])
        before = copy.deepcopy(a.to_dict())
        a.merge(b).update([1], [0.9])
        (0 + a).update([1], [0.9])
        assert a.to_dict() == before

    def test_only_statistics_merge(self):
        with pytest.raises(InvalidInputError, match=r"other must be ScoreStatistics, got a float\."):
            ScoreStatistics().merge(0.5)
        with pytest.raises(TypeError, match="unsupported operand"):
            ScoreStatistics() + 1
        with pytest.raises(TypeError, match="unsupported operand"):
            1 + ScoreStatistics()

    @quick
    @given(rows=ROWS)
    def test_weights_are_repeated_rows(self, rows):
        y, p, w = columns(rows)
        weighted = of(rows, weighted=True)._tally
        times = w.astype(int)
        repeated = ScoreStatistics.from_rows(np.repeat(y, times), np.repeat(p, times))._tally
        np.testing.assert_array_equal(weighted.keys, repeated.keys)
        np.testing.assert_allclose(weighted.sums[[1, 3]], repeated.sums[[1, 3]], rtol=1e-12)
        np.testing.assert_allclose(weighted.losses, repeated.losses, rtol=1e-12)


class TestRows:
    def test_counts_are_exact(self):
        y, p = many_scores()
        statistics = ScoreStatistics.from_rows(y, p)
        cells = statistics.cells()
        assert statistics.n == y.size == cells.rows.sum()
        assert cells.positive.sum() == y.sum()
        np.testing.assert_array_equal(cells.weight, cells.rows)
        np.testing.assert_array_equal(cells.positive_sq, cells.positive)
        assert cells.weight @ cells.value == pytest.approx(p.sum(), rel=1e-12)
        assert np.all(np.diff(cells.value) > 0)

    def test_columns_of_any_kind(self):
        y, p = [True, False, True], [0.25, 0.5, 0.75]
        expected = ScoreStatistics.from_rows(np.array([1.0, 0.0, 1.0]), np.array(p))
        assert ScoreStatistics.from_rows(y, p) == expected
        assert ScoreStatistics.from_rows(np.array(y), np.array(p, dtype=np.float32)) == expected
        assert ScoreStatistics.from_rows(np.array([1, 7, 0, 7, 1])[::2], np.array(p)) == expected
        assert ScoreStatistics.from_rows(y, p, sample_weight=[1, 1, 1]) == expected

    def test_an_empty_chunk_adds_nothing(self):
        statistics = of([(1, 0.3, 1)])
        before = statistics.to_dict()
        statistics.update([], []).update([0, 1], [0.1, 0.9], sample_weight=[0, 0])
        assert statistics.to_dict() == before

    @pytest.mark.parametrize(
        ("y", "p", "w", "sentence"),
        [
            ([0, 1], [0.5, np.nan], None, r"y_proba must be finite, got 1 NaN or infinite of 2 values\."),
            ([0, 1], [0.5, 1.7], None, r"y_proba must lie in \[0, 1\], got a maximum of 1\.7\."),
            ([0, 2], [0.5, 0.6], None, r"y_true must hold only 0 and 1, got 2\."),
            ([0, 1, 1], [0.5, 0.6], None, r"same length: y_true has 3, y_proba has 2\."),
            ([0, 1], [[0.5], [0.6]], None, r"y_proba must be one-dimensional, got shape \(2, 1\)\."),
            (1, 0.5, None, r"y_true must be one-dimensional, got shape \(\)\."),
            (["no", "yes"], [0.5, 0.6], None, r"y_true must be numbers"),
            ([0, 1], [0.5, 0.6], [1.0], r"same length: y_true has 2, sample_weight has 1\."),
            ([0, 1], [0.5, 0.6], [1.0, -1.0], r"sample_weight must not be negative, got a minimum of -1\."),
            ([0, 1], [0.5, 0.6], [1e-200, 1.0], r"sample_weight must be 0 or lie in \[1e-100, 1e\+100\], got 1e-200\."),
            ([0, 1], [0.5, 0.6], [1e200, 1.0], r"sample_weight must be 0 or lie in \[1e-100, 1e\+100\], got 1e\+200\."),
        ],
    )
    def test_a_bad_chunk_gets_a_sentence_and_adds_nothing(self, y, p, w, sentence):
        statistics = of([(1, 0.3, 1)])
        before = statistics.to_dict()
        with pytest.raises(InvalidInputError, match=sentence):
            statistics.update(y, p, sample_weight=w)
        assert statistics.to_dict() == before

    def test_a_fault_deep_in_a_chunk_is_told_of_the_whole_chunk(self):
        y, p = many_scores()
        p[-1] = np.nan
        statistics = ScoreStatistics()
        with pytest.raises(InvalidInputError, match=rf"got 1 NaN or infinite of {p.size} values\."):
            statistics.update(y, p)
        assert statistics.n == 0

    def test_repr(self):
        assert repr(ScoreStatistics()) == "ScoreStatistics(n=0, 0 distinct scores)"
        assert repr(on_grid(of([(1, 0.3, 1), (0, 0.3, 1)]))) == "ScoreStatistics(n=2, 1 cells)"


class TestGroupedElsewhere:
    """What a database's GROUP BY over ``cell_of`` has added up."""

    def grouped(self, y, p, w=None):
        import pandas as pd

        frame = pd.DataFrame({"cell": ScoreStatistics.cell_of(p), "rows": 1, "positive": y, "predicted": p})
        frame["squared_error"] = (p - y) ** 2
        frame["log_loss"] = -np.log(np.maximum(np.where(y == 1, p, 1 - p), np.finfo(float).eps))
        if w is not None:
            frame[["positive", "predicted", "squared_error", "log_loss"]] = frame[
                ["positive", "predicted", "squared_error", "log_loss"]
            ].mul(w, axis=0)
            frame = frame.assign(weight=w, weight_sq=w**2, positive_sq=w**2 * y)
        return frame.groupby("cell", sort=False).sum().reset_index().to_dict("series")

    @pytest.mark.parametrize("weighted", [False, True])
    def test_gives_the_statistics_of_the_rows(self, weighted):
        y, p = many_scores()
        w = np.random.default_rng(1).gamma(2.0, 1.0, y.size) if weighted else None
        sums = self.grouped(y, p, w)
        statistics = ScoreStatistics.from_cells(sums.pop("cell"), **sums)
        assert_same(statistics, ScoreStatistics.from_rows(y, p, sample_weight=w))

    def test_a_cell_may_come_in_parts(self):
        y, p = many_scores(2000)
        halves = [self.grouped(y[k::2], p[k::2]) for k in range(2)]
        both = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
        statistics = ScoreStatistics.from_cells(both.pop("cell"), **both)
        assert_same(statistics, ScoreStatistics.from_rows(y, p, exact_up_to=0))

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"cell": [0.5]}, r"cell must hold whole numbers from 0 to 35760, got 0\.5\."),
            ({"cell": [35_761]}, r"cell must hold whole numbers from 0 to 35760, got 35761\."),
            ({"rows": [0]}, r"rows must hold whole numbers from 1 to \d+, got 0\."),
            ({"positive": [3]}, r"positive must be a sum over rows, here between 0 and 2, got 3\."),
            ({"positive": [0.5]}, r"positive must hold whole numbers"),
            ({"predicted": [1.5]}, r"predicted must be a sum over rows, here between 1 and 1, got 1\.5\."),
            ({"squared_error": [3.0]}, r"squared_error must be a sum over rows, here between 0 and 2, got 3\."),
            ({"log_loss": [-1.0]}, r"log_loss must be a sum over rows, here between 0 and 72\.1, got -1\."),
            ({"rows": [1, 1]}, r"same length: key has 1, rows has 2"),
            ({"weight": [2.0]}, r"weight, weight_sq, positive_sq must come together, got only weight\."),
            (
                {"weight": [2.0], "weight_sq": [9.0], "positive_sq": [1.0]},
                r"weight_sq must be a sum over rows, here between 2 and 4, got 9\.",
            ),
            (
                {"weight": [2e120], "weight_sq": [9.0], "positive_sq": [1.0]},
                r"weight must be a sum over rows, here between 2e-100 and 2e\+100, got 2e\+120\.",
            ),
            ({"predicted": [math.nan]}, r"predicted must be finite, got 1 NaN"),
        ],
    )
    def test_impossible_sums_get_a_sentence(self, changes, sentence):
        sums = {"cell": [N_GAPS], "rows": [2], "positive": [1], "predicted": [1.0]}
        sums |= {"squared_error": [0.5], "log_loss": [2 * math.log(2)], **changes}
        with pytest.raises(InvalidInputError, match=sentence):
            ScoreStatistics.from_cells(sums.pop("cell"), **sums)


class TestState:
    @pytest.mark.parametrize("grid", [False, True])
    @pytest.mark.parametrize("weighted", [False, True])
    @quick
    @given(rows=ROWS, scale=st.sampled_from([1.0, 1 / 3, 1e-90, 1e90]))
    def test_json_gives_back_every_bit(self, rows, scale, weighted, grid):
        y, p, w = columns(rows)
        w = w * scale if weighted else None
        statistics = ScoreStatistics.from_rows(y, p, sample_weight=w, exact_up_to=0 if grid else EXACT_UP_TO)
        text = json.dumps(statistics.to_dict(), allow_nan=False)
        back = ScoreStatistics.from_dict(json.loads(text))
        assert back == statistics
        for ours, theirs in zip(vars(back._tally).values(), vars(statistics._tally).values(), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_is_readable_and_small(self):
        assert of([(1, 0.3, 1), (0, 0.3, 1), (1, 1.0, 1)]).to_dict() == {
            "format_version": 1,
            "exact_up_to": 10_000,
            "exact": True,
            "key": [0.3, 1.0],
            "rows": [2, 1],
            "weight": None,
            "weight_sq": None,
            "positive": [1, 1],
            "positive_sq": None,
            "predicted": None,
            "squared_error": pytest.approx(0.58),
            "log_loss": pytest.approx(-math.log(0.3) - math.log(0.7)),
        }
        y, p = many_scores(300_000)
        assert len(json.dumps(ScoreStatistics.from_rows(y, p).to_dict())) < 600_000

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"format_version": 2}, r"must have format_version 1, got 2\."),
            ({"rows": None}, r"rows must be a list of numbers, got a NoneType\."),
            ({"rows": [1, True]}, r"rows must hold only finite numbers, got True\."),
            ({"rows": [1, "2"]}, r"rows must hold only finite numbers, got '2'\."),
            ({"rows": [1]}, r"same length: key has 2, rows has 1"),
            ({"rows": [1, -2]}, r"rows must hold whole numbers from 1 to \d+, got -2\."),
            ({"exact": 1}, r"exact must be True or False, got 1\."),
            ({"key": [0.4, 0.3]}, r"key must increase strictly"),
            ({"key": [0.3, 0.3]}, r"key must increase strictly"),
            ({"key": [0.3, 1.3]}, r"key must lie in \[0, 1\], got a maximum of 1\.3\."),
            ({"positive": [2, 1]}, r"positive must be a sum over rows, here between 0 and 1, got 2\."),
            ({"predicted": [0.3, 0.4]}, r"predicted must be null for exact scores"),
            ({"log_loss": math.inf}, r"log_loss must hold only finite numbers, got inf"),
            ({"log_loss": "1"}, r"log_loss must hold only finite numbers, got '1'\."),
            ({"squared_error": 10**400}, r"squared_error must hold only finite numbers, got 1000"),
            ({"strange": 1}, r"unknown key 'strange'"),
            ({"exact": False, "key": [0.3, 0.4]}, r"cell must hold whole numbers from 0 to 35760, got 0\.3\."),
        ],
    )
    def test_malformed_state_gets_a_sentence(self, changes, sentence):
        state = of([(1, 0.3, 1), (0, 0.4, 1)]).to_dict()
        with pytest.raises(StateError, match=sentence):
            ScoreStatistics.from_dict(state | changes)

    @pytest.mark.parametrize("key", sorted(ScoreStatistics().to_dict()))
    def test_every_key_is_wanted(self, key):
        state = of([(1, 0.3, 1)]).to_dict()
        del state[key]
        with pytest.raises(StateError, match=key):
            ScoreStatistics.from_dict(state)

    @pytest.mark.parametrize("state", [None, [], "statistics", 1])
    def test_only_a_mapping_is_read(self, state):
        with pytest.raises(StateError, match=r"must be read from a mapping, got a"):
            ScoreStatistics.from_dict(state)

    def test_too_many_exact_scores_are_refused(self):
        n = EXACT_UP_TO + 1
        state = of([]).to_dict() | {"key": (np.arange(n) / n).tolist(), "rows": [1] * n, "positive": [0] * n}
        with pytest.raises(StateError, match=r"key must hold at most 10000 exact scores, got 10001\."):
            ScoreStatistics.from_dict(state)


THRESHOLD = 0.8


def from_rows(y, p, w=None, *, n_bins=10, strategy="quantile"):
    """The metrics that statistics give, from rows."""
    binning = {"n_bins": n_bins, "sample_weight": w}
    confidence, correct = np.maximum(p, 1 - p), ((p > 0.5) == y).astype(float)
    given = confidence >= THRESHOLD
    weights = np.ones_like(p) if w is None else w
    values = {
        "ece": metrics.expected_calibration_error(y, p, strategy=strategy, **binning),
        "ece_upper": metrics.expected_calibration_error_upper(y, p, **binning),
        "ece_l2_debiased": metrics.expected_calibration_error(y, p, norm="l2", debias=True, **binning),
        "smooth_ece": metrics.smooth_calibration_error(y, p, sample_weight=w),
        "spiegelhalter_z": metrics.spiegelhalter_test(y, p, sample_weight=w).statistic,
        "calibration_p": metrics.calibration_score_test(y, p, sample_weight=w).p_value,
        "brier": metrics.brier_score(y, p, sample_weight=w),
        "log_loss": metrics.log_loss(y, p, sample_weight=w),
        **dict(zip(("mcb", "dsc", "unc"), metrics.brier_decomposition(y, p, sample_weight=w), strict=True)),
        "aurc": metrics.aurc(confidence, correct, sample_weight=w),
        "e_aurc": metrics.e_aurc(confidence, correct, sample_weight=w),
        "augrc": metrics.augrc(confidence, correct, sample_weight=w),
        "coverage": np.average(given, weights=weights),
        "abstain_rate": np.average(~given, weights=weights),
        "accuracy": np.average(correct, weights=weights),
        "prevalence": np.average(y, weights=weights),
    }
    if weights[given].sum():
        values["selective_risk"] = np.average(1 - correct[given], weights=weights[given])
    if 0 < values["prevalence"] < 1:
        values["roc_auc"] = metrics.roc_auc(y, p, sample_weight=w)
    return values


def intervals_from_rows(y, p, w=None):
    confidence, correct = np.maximum(p, 1 - p), (p > 0.5) == y
    return {
        "ece": metrics.expected_calibration_error_interval(y, p, sample_weight=w),
        "roc_auc": metrics.roc_auc_interval(y, p, sample_weight=w),
        **metrics.score_intervals(y, p, sample_weight=w),
        **metrics.selective_intervals(confidence, correct, sample_weight=w),
    }


def assert_metrics(statistics, expected, **kwargs):
    found = statistics.metrics(threshold=THRESHOLD, **kwargs)
    noise_floor = {"ece_null_mean", "ece_null_p95"}
    assert found.keys() - noise_floor == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-9, abs=1e-7), key


class TestReading:
    @pytest.mark.parametrize("weighted", [False, True])
    @quick
    @given(rows=ROWS.filter(lambda rows: any(w for *_, w in rows)), strategy=st.sampled_from(["quantile", "uniform"]))
    def test_few_scores_give_the_metrics_of_the_rows(self, rows, weighted, strategy):
        y, p, w = columns(rows)
        expected = from_rows(y, p, w if weighted else None, strategy=strategy)
        assert_metrics(of(rows, weighted=weighted), expected, strategy=strategy)

    @pytest.mark.parametrize("n_bins", [10, 15, 20])
    @pytest.mark.parametrize("strategy", ["quantile", "uniform"])
    def test_the_grid_gives_them_for_scores_of_three_decimals(self, n_bins, strategy):
        y, p = many_scores(3000)
        p = p.round(3)
        statistics = ScoreStatistics.from_rows(y, p, exact_up_to=0)
        assert not statistics.exact
        expected = from_rows(y, p, n_bins=n_bins, strategy=strategy)
        assert_metrics(statistics, expected, n_bins=n_bins, strategy=strategy)

    @pytest.mark.parametrize("n_bins", [2, 10, 15, 20, 100])
    def test_the_grid_is_exact_in_what_lies_on_it(self, n_bins):
        y, p = many_scores(20_000)
        p[:300] = np.repeat([0.0, 0.5, 1.0], 100)
        statistics = ScoreStatistics.from_rows(y, p, exact_up_to=0)
        expected = from_rows(y, p, n_bins=n_bins, strategy="uniform")
        found = statistics.metrics(n_bins=n_bins, strategy="uniform", threshold=THRESHOLD)
        exact = {
            "ece",
            "brier",
            "log_loss",
            "unc",
            "accuracy",
            "coverage",
            "selective_risk",
            "abstain_rate",
            "prevalence",
        }
        for key in exact:
            assert found[key] == pytest.approx(expected[key], abs=1e-13), key
        histogram = np.histogram(p, np.arange(n_bins + 1) / n_bins)[0]
        np.testing.assert_array_equal(statistics.histogram(n_bins), histogram)
        curve = metrics.reliability_curve(y, p, n_bins=n_bins, strategy="uniform")
        ours = statistics.reliability_curve(n_bins=n_bins, strategy="uniform")
        np.testing.assert_array_equal(ours.count, curve.count)
        for field in ("lower_edge", "mean_predicted", "mean_observed", "interval_low", "interval_high"):
            np.testing.assert_allclose(getattr(ours, field), getattr(curve, field), rtol=1e-11, atol=1e-15)

    @pytest.mark.parametrize("threshold", [0.5, 0.6, 0.666, 0.7, 0.93, 0.999, 1.0])
    def test_decisions_at_three_decimals_are_exact(self, threshold):
        rng = np.random.default_rng(4)
        p = np.where(rng.random(4000) < 0.5, rng.uniform(size=4000), rng.integers(0, 1001, 4000) / 1000)
        y = rng.random(4000) < p
        given = np.maximum(p, 1 - p) >= threshold
        found = ScoreStatistics.from_rows(y, p, exact_up_to=0).metrics(threshold=threshold)
        assert found["coverage"] == np.mean(given)
        assert found["abstain_rate"] == pytest.approx(np.mean(~given), abs=1e-15)
        assert found["selective_risk"] == pytest.approx(np.mean((p > 0.5)[given] != y[given]), abs=1e-15)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_intervals_are_those_of_the_rows(self, weighted):
        y, p = many_scores(4000)
        w = np.random.default_rng(3).gamma(2.0, 1.0, y.size) if weighted else None
        p = p.round(3)
        expected = intervals_from_rows(y, p, w)
        for limit in (0, EXACT_UP_TO):
            statistics = ScoreStatistics.from_rows(y, p, sample_weight=w, exact_up_to=limit)
            found, values = statistics.intervals(), statistics.metrics()
            for key, interval in expected.items():
                assert found[key] == pytest.approx(interval, abs=1e-9), key
            assert found.keys() - expected.keys() == {
                "coverage",
                "selective_risk",
                "abstain_rate",
                "accuracy",
                "prevalence",
            }
            for key, (low, high) in found.items():
                assert low <= values[key] <= high, key

    def test_intervals_of_shares(self):
        statistics = ScoreStatistics.from_rows([1, 0, 1, 1], [0.9, 0.8, 0.6, 0.3])
        found = statistics.intervals(threshold=0.75, confidence=0.9)
        assert found["selective_risk"] == metrics.proportion_interval(1, 2, confidence=0.9)
        assert found["coverage"] == found["abstain_rate"] == metrics.proportion_interval(2, 4, confidence=0.9)
        assert found["prevalence"] == metrics.proportion_interval(3, 4, confidence=0.9)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_curves_are_those_of_the_rows(self, weighted):
        y, p = many_scores(4000)
        w = np.random.default_rng(3).gamma(2.0, 1.0, y.size) if weighted else None
        statistics = ScoreStatistics.from_rows(y, p, sample_weight=w)
        confidence, correct = np.maximum(p, 1 - p), (p > 0.5) == y
        for ours, theirs in (
            (statistics.reliability_curve(), metrics.reliability_curve(y, p, sample_weight=w)),
            (statistics.corp_curve(), metrics.corp_curve(y, p, sample_weight=w)),
            (statistics.risk_coverage_curve(), metrics.risk_coverage_curve(confidence, correct, sample_weight=w)),
        ):
            assert len(ours) == len(theirs)
            for name, column in ours.to_dict().items():
                np.testing.assert_allclose(column, getattr(theirs, name), rtol=1e-9, atol=1e-12)

    def test_noise_floor_is_that_of_the_rows(self):
        y, p = many_scores(2000)
        found = ScoreStatistics.from_rows(y, p).metrics(random_state=5)
        floor = metrics.calibration_error_null(p, random_state=5)
        assert (found["ece_null_mean"], found["ece_null_p95"]) == pytest.approx(floor)

    def test_winning_classes(self):
        rng = np.random.default_rng(0)
        proba = rng.dirichlet([1, 1, 1], 500)
        y = rng.integers(0, 3, 500)
        confidence, correct = proba.max(axis=1), proba.argmax(axis=1) == y
        statistics = ScoreStatistics.from_rows(correct, confidence)
        found, intervals = statistics.metrics(top_label=True), statistics.intervals(top_label=True)
        assert found["ece"] == pytest.approx(metrics.top_label_calibration_error(y, proba))
        assert found["aurc"] == pytest.approx(metrics.aurc(confidence, correct))
        assert found["accuracy"] == pytest.approx(correct.mean())
        assert intervals["accuracy"] == pytest.approx(metrics.proportion_interval(correct.sum(), 500))
        assert not {"brier", "log_loss", "roc_auc", "prevalence"} & (found.keys() | intervals.keys())
        curve = metrics.risk_coverage_curve(confidence, correct)
        np.testing.assert_allclose(statistics.risk_coverage_curve(top_label=True).risk, curve.risk, atol=1e-15)

    def test_one_class_is_said(self):
        measured = ScoreStatistics.from_rows([1, 1, 1], [0.2, 0.7, 1.0]).measure(threshold=1.0)
        assert measured.not_computed == {"roc_auc": "roc_auc needs both classes, got only class 1 in 3 rows."}
        assert measured.metrics.keys() | measured.not_computed.keys() == METRICS.keys() - {
            "classwise_ece",
            "classwise_ece_max",
            "drift_share",
        }
        assert "roc_auc" not in ScoreStatistics.from_rows([0], [0.5]).intervals()

    def test_everything_withheld_is_said(self):
        measured = ScoreStatistics.from_rows([1, 0], [0.6, 0.5]).measure(threshold=0.9)
        assert measured.not_computed == {
            "selective_risk": "selective_risk needs an answered row, got none: all are withheld."
        }
        assert measured.metrics["coverage"] == 0.0

    @pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("label", [0, 1])
    def test_a_single_row(self, p, label):
        found = ScoreStatistics.from_rows([label], [p]).metrics()
        assert found["accuracy"] == float((p > 0.5) == label)
        assert found["brier"] == (p - label) ** 2
        assert found["ece"] == abs(p - label)
        assert all(low <= found[key] <= high for key, (low, high) in of([(label, p, 1)]).intervals().items())

    def test_weights_that_differ_are_told_from_equal_ones(self):
        y, p = many_scores(500)
        assert not ScoreStatistics.from_rows(y, p).weighted
        assert not ScoreStatistics.from_rows(y, p, sample_weight=np.full(500, 0.1)).weighted
        assert ScoreStatistics.from_rows(y, p, sample_weight=np.linspace(1, 1.001, 500)).weighted

    @pytest.mark.parametrize(
        ("question", "sentence"),
        [
            (lambda s: s.metrics(n_bins=0), r"n_bins must be a whole number >= 1, got 0\."),
            (lambda s: s.metrics(strategy="mass"), r"strategy must be one of quantile, uniform, got 'mass'\."),
            (lambda s: s.metrics(threshold=1.5), r"threshold must be a number in \[0, 1\], got 1\.5\."),
            (lambda s: s.measure(top_label="yes"), r"top_label must be True or False, got 'yes'\."),
            (lambda s: s.intervals(confidence=1.0), r"confidence must be a number strictly between 0 and 1, got 1\."),
            (lambda s: s.reliability_curve(strategy="mass"), r"strategy must be one of quantile, uniform"),
            (lambda s: s.corp_curve(n_resamples=2), r"n_resamples must be a whole number >= 20, got 2\."),
            (lambda s: s.histogram(0), r"n_bins must be a whole number >= 1, got 0\."),
            (lambda s: s.psi(s, n_bins=0), r"n_bins must be a whole number >= 1, got 0\."),
            (lambda s: ScoreStatistics(exact_up_to=-1), r"exact_up_to must be a whole number >= 0, got -1\."),
        ],
    )
    def test_impossible_questions_get_a_sentence(self, question, sentence):
        with pytest.raises(InvalidInputError, match=sentence):
            question(of([(1, 0.3, 1)]))

    @pytest.mark.parametrize(
        "ask", ["metrics", "intervals", "reliability_curve", "corp_curve", "histogram", "weighted_rows"]
    )
    def test_nothing_seen_is_said(self, ask):
        with pytest.raises(InvalidInputError, match=r"must have seen a row of positive weight, got none so far\."):
            getattr(ScoreStatistics(), ask)()


def naive_psi(reference, current, n_bins):
    """In a loop: bins of equal mass that split no ties, a tie going where its middle lies."""
    values, counts = np.unique(reference, return_counts=True)
    before, lowest = 0, {}
    for value, count in zip(values, counts, strict=True):
        k = min(int((before + count / 2) * n_bins / reference.size + 1e-9), n_bins - 1)
        lowest.setdefault(k, value)
        before += count
    edges = [-np.inf, *list(lowest.values())[1:], np.inf]
    total = 0.0
    for low, high in itertools.pairwise(edges):
        e = (np.sum((reference >= low) & (reference < high)) + 0.5) / (reference.size + 0.5 * len(lowest))
        a = (np.sum((current >= low) & (current < high)) + 0.5) / (current.size + 0.5 * len(lowest))
        total += (a - e) * math.log(a / e)
    return total


class TestShift:
    @quick
    @given(
        reference=st.lists(PROBABILITIES, min_size=1, max_size=40),
        current=st.lists(PROBABILITIES, min_size=1, max_size=40),
        n_bins=st.integers(1, 12),
    )
    def test_psi_is_the_naive_one(self, reference, current, n_bins):
        a, b = (ScoreStatistics.from_rows(np.zeros(len(p)), p) for p in (reference, current))
        expected = naive_psi(np.array(reference), np.array(current), n_bins)
        assert a.psi(b, n_bins=n_bins) == pytest.approx(expected, abs=1e-12)
        assert a.psi(a, n_bins=n_bins) == 0.0

    @pytest.mark.parametrize("grids", [(0, EXACT_UP_TO), (EXACT_UP_TO, 0), (0, 0)])
    def test_psi_on_the_grid_is_exact_for_three_decimals(self, grids):
        p, q = (many_scores(5000, seed)[1].round(3) for seed in (0, 1))
        a, b = (
            ScoreStatistics.from_rows(np.zeros(p.size), scores, exact_up_to=limit)
            for scores, limit in zip((p, q**1.1), grids, strict=True)
        )
        assert a.psi(b) == pytest.approx(naive_psi(p, q**1.1, 10), abs=2e-4)
        c = ScoreStatistics.from_rows(np.zeros(q.size), q, exact_up_to=grids[1])
        assert a.psi(c) == pytest.approx(naive_psi(p, q, 10), abs=1e-12)

    def test_equal_weights_change_nothing_and_unequal_ones_count(self):
        p, q = many_scores(300, 0)[1], many_scores(300, 1)[1]
        a, b = (ScoreStatistics.from_rows(np.zeros(300), scores) for scores in (p, q))
        c = ScoreStatistics.from_rows(np.zeros(300), q, sample_weight=np.full(300, 7.0))
        d = ScoreStatistics.from_rows(np.zeros(300), q, sample_weight=np.where(q > 0.5, 9.0, 1.0))
        assert a.psi(c) == pytest.approx(a.psi(b))
        assert a.psi(d) > 2 * a.psi(b)

    def test_psi_needs_rows_on_both_sides(self):
        for a, b in ((ScoreStatistics(), of([(1, 0.3, 1)])), (of([(1, 0.3, 1)]), ScoreStatistics())):
            with pytest.raises(InvalidInputError, match=r"must have seen a row"):
                a.psi(b)


class TestFits:
    """Calibrators fitted to the rows that stand for all."""

    @pytest.mark.parametrize("name", ["isotonic", "centered_isotonic", "sigmoid", "beta", "temperature", "auto"])
    @pytest.mark.parametrize("digits", [3, 16])
    def test_few_scores_give_the_fit_of_the_rows(self, name, digits):
        y, p = many_scores(5000)
        p = p.round(digits)
        statistics = ScoreStatistics.from_rows(y, p, exact_up_to=0 if digits == 3 else EXACT_UP_TO)
        x = np.linspace(0, 1, 301)
        expected = make_calibrator(name).fit(p, y).predict(x)
        found = make_calibrator(name).fit(*statistics.weighted_rows()).predict(x)
        np.testing.assert_allclose(found, expected, atol=1e-8)

    @pytest.mark.parametrize(("name", "tolerance"), [("sigmoid", 1e-4), ("beta", 1e-4), ("temperature", 1e-4)])
    def test_many_scores_give_nearly_the_same_parametric_fit(self, name, tolerance):
        y, p = many_scores()
        x = np.linspace(0, 1, 301)
        expected = make_calibrator(name).fit(p, y).predict(x)
        found = make_calibrator(name).fit(*ScoreStatistics.from_rows(y, p).weighted_rows()).predict(x)
        np.testing.assert_allclose(found, expected, atol=tolerance)

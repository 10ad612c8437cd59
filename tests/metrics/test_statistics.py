"""Statistics that can be added: parts in any order give the whole, and JSON gives back what it was given."""

import copy
import functools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merged_statistics import ROWS, columns, many_scores, of, on_grid, quick
from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.metrics._grid import N_GAPS
from mlflow_caliber.metrics._statistics import EXACT_UP_TO


def assert_same(left, right):
    """Same cells and counts; sums up to the order in which they were rounded."""
    assert left.exact == right.exact
    a, b = left._tally, right._tally
    np.testing.assert_array_equal(a.keys, b.keys)
    np.testing.assert_allclose(a.sums, b.sums, rtol=1e-12)
    np.testing.assert_array_equal(a.sums[0], b.sums[0])
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-12, atol=1e-15)


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

"""Bins: exact edges, ties kept together, and the fast ways of many rows against the plain way of few."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlflow_caliber import _cells
from mlflow_caliber._cells import bin_sums, bin_sums_of_cells, bins_of, tie_groups
from mlflow_caliber.metrics import expected_calibration_error
from scored_rows import ROW

quick = settings(max_examples=60, deadline=None)

ROWS = st.lists(ROW, min_size=1, max_size=60).filter(lambda rows: any(w for _, _, w in rows))


def columns(rows):
    y, p, w = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    return y, p, w


def around(edges):
    """Edges and the floats next to them."""
    steps = [edges]
    for _ in range(3):
        steps = [np.nextafter(steps[0], -1), *steps, np.nextafter(steps[-1], 2)]
    values = np.concatenate(steps)
    return values[(values >= 0) & (values <= 1)]


def test_equal_width_bins_are_exact_next_to_every_edge():
    """A bin is [k/n, (k+1)/n) with the edges as floats: for every n up to 200, three floats on either side."""
    for n_bins in range(1, 201):
        edges = np.arange(n_bins + 1) / n_bins
        p = around(edges)
        expected = np.minimum(np.searchsorted(edges, p, side="right") - 1, n_bins - 1)
        bins = bins_of(np.zeros(p.size), p, None, n_bins, "uniform")
        count = np.bincount(expected, minlength=n_bins)
        assert bins.lower_edge.tolist() == edges[:-1][count > 0].tolist()
        assert bins.rows.tolist() == count[count > 0].tolist()
        predicted = np.bincount(expected, p)[count > 0]
        np.testing.assert_allclose(bins.mean_predicted, predicted / count[count > 0], rtol=1e-12)


@quick
@given(rows=ROWS, n_bins=st.integers(1, 12))
@example(rows=[(1, 0.0, 1), (0, np.nextafter(0.9, 0), 1), (1, 0.9, 1), (0, 1.0, 1)], n_bins=10)
def test_the_quick_pass_is_the_plain_one(rows, n_bins):
    y, p, w = columns(rows)
    for weights in (None, w):
        bins = bins_of(y, p, weights, n_bins, "uniform")
        plain = bins.share @ np.abs(bins.mean_predicted - bins.mean_observed)
        for labels in (y, y.astype(bool), y.astype(np.int8)):
            quick_one = expected_calibration_error(labels, p, n_bins=n_bins, strategy="uniform", sample_weight=weights)
            assert quick_one == pytest.approx(plain, rel=1e-9, abs=1e-12)


SCORES = {
    "even": lambda rng, n: rng.random(n),
    "rare events": lambda rng, n: rng.beta(0.3, 200, n),
    "near the ends": lambda rng, n: 1 / (1 + np.exp(-6 * rng.standard_normal(n))),
    "hundredths": lambda rng, n: rng.integers(0, 101, n) / 100,
    "one large tie": lambda rng, n: np.where(rng.random(n) < 0.6, 0.37, rng.random(n)),
    "two values": lambda rng, n: rng.choice([0.0, 1.0], n),
    "one value": lambda _, n: np.full(n, 0.3),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())
def test_bins_of_many_rows_are_those_of_few(scores, weighted, monkeypatch):
    """Sorting only the rows near boundaries gives the bins that sorting all rows gives."""
    rng = np.random.default_rng(5)
    n = 40_000
    p = scores(rng, n)
    y = (rng.random(n) < p).astype(float)
    weights = rng.integers(0, 4, n) * rng.choice([1.0, 1e-3], n) if weighted else None
    for n_bins in (1, 7, 10, 500):
        monkeypatch.setattr(_cells, "_MANY_ROWS", n + 1)
        plain = bin_sums(y, p, weights, n_bins, "quantile")
        monkeypatch.setattr(_cells, "_MANY_ROWS", 1)
        fast = bin_sums(y, p, weights, n_bins, "quantile")
        for ours, theirs in zip(fast, plain, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@quick
@given(rows=ROWS, n_bins=st.integers(1, 12), strategy=st.sampled_from(["uniform", "quantile"]))
def test_bins_of_tie_groups_are_those_of_their_rows(rows, n_bins, strategy):
    y, p, w = columns(rows)
    for weights in (None, w):
        of_rows = bin_sums(y, p, weights, n_bins, strategy)
        of_cells = bin_sums_of_cells(tie_groups(y, p, weights), n_bins, strategy)
        for ours, theirs in zip(of_cells, of_rows, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
        for ours, theirs in zip(of_rows.bins, bins_of(y, p, weights, n_bins, strategy), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@quick
@given(rows=ROWS)
def test_sums_are_what_their_names_say(rows):
    y, p, w = columns(rows)
    relative = w / w.max()
    sums = bin_sums(y, p, w, 1, "uniform")
    for label in (0, 1):
        of = relative * (y == label)
        moments = [of.sum(), of @ of, of @ p, (of * of) @ p, (of * of) @ (p * p)]
        assert [column[0, label] for column in sums[3:]] == pytest.approx(moments, rel=1e-9, abs=1e-12)
    assert sums.rows.tolist() == [np.count_nonzero(w)]


@quick
@given(rows=ROWS)
def test_tie_groups_hold_the_rows_of_one_score(rows):
    y, p, w = columns(rows)
    relative = w / w.max()
    groups = tie_groups(y, p, w)
    assert groups.value.tolist() == np.unique(p[w > 0] + 0.0).tolist()
    for value, *sums in zip(*groups, strict=True):
        of = relative * (p == value)
        assert sums == pytest.approx([np.count_nonzero(of), of.sum(), of @ of, of @ y, (of * of) @ y], rel=1e-9)

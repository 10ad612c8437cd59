"""The smooth calibration error, against its definition by direct integration and against the paper authors' package."""

import numpy as np
import pytest
import relplot
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import smooth_calibration_error
from scored_rows import columns

I = np.arange(1000)  # noqa: E741
WAVE_P = ((7919 * I % 1000) + 0.5) / 1000
WAVE_Y = (((104729 * I + 31) % 1009) / 1009 < WAVE_P**2 * (3 - 2 * WAVE_P)).astype(int)

# Few distinct values, the ends among them.
ROW = st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda k: k / 20), st.integers(0, 3))
ROWS = st.lists(ROW, min_size=1, max_size=30).filter(lambda rows: any(w for _, _, w in rows))


def by_definition(y, p, w, bandwidth, n_points=2000):
    """The integral at a bandwidth, by the midpoint rule, with each score's mirror images one by one."""
    t = (np.arange(n_points)[:, None] + 0.5) / n_points
    scores = np.unique(p)
    gaps = np.array([np.sum((w * (y - p))[p == score]) for score in scores]) / w.sum()
    images = [2 * turn + sign * scores for turn in range(-3, 4) for sign in (1, -1)]
    kernel = sum(stats.norm.pdf(t, image, bandwidth) for image in images)
    return np.abs(kernel @ gaps).mean()


@pytest.mark.parametrize("power", [0.5, 1.7, 3.0])
def test_is_the_fixed_point_of_the_definition(power):
    """To the step of the authors' search and sum; for errors of .4, which no model has, that is up to a tenth off."""
    rng = np.random.default_rng(3)
    p = rng.random(300)
    y = (rng.random(300) < p**power).astype(int)
    error = smooth_calibration_error(y, p)
    assert by_definition(y, p, np.ones(300), error) == pytest.approx(error, abs=3e-3)


def test_wave():
    # By relplot 1.0.3, the implementation of the paper's authors; direct integration has its fixed point at .0638875.
    error = smooth_calibration_error(WAVE_Y, WAVE_P)
    assert error == pytest.approx(0.063770195562, abs=1e-12)
    assert by_definition(WAVE_Y, WAVE_P, np.ones(1000), error) == pytest.approx(error, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_authors(seed):
    """Inside (0, 1): relplot's grid loses half of the rows that lie exactly on an end."""
    rng = np.random.default_rng(seed)
    p = rng.random(2000)
    y = (rng.random(2000) < p ** (0.4, 0.6, 1.5, 2.0)[seed]).astype(int)
    assert smooth_calibration_error(y, p) == pytest.approx(relplot.smECE(p, y), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(rows=ROWS, random=st.randoms(use_true_random=False))
def test_weights_are_repeated_rows_in_any_order(rows, random):
    y, p, w = columns(rows)
    shuffled = list(zip(np.repeat(y, w), np.repeat(p, w), strict=True))
    random.shuffle(shuffled)
    repeated = smooth_calibration_error(*zip(*shuffled, strict=True))
    # (The background is of a row, so a step of the bisection can go the other way.)
    assert smooth_calibration_error(y, p, sample_weight=w) == pytest.approx(repeated, abs=2e-3)
    scaled = smooth_calibration_error(y, p, sample_weight=w * 1e200)
    assert scaled == pytest.approx(smooth_calibration_error(y, p, sample_weight=w), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(rows=ROWS, moves=st.lists(st.floats(-0.01, 0.01), min_size=30, max_size=30))
def test_small_changes_make_small_differences(rows, moves):
    """The distance to calibration moves by at most the mean move, and smECE is Lipschitz too (a binned error jumps)."""
    y, p, w = columns(rows)
    moved = np.clip(p + np.array(moves[: p.size]), 0.0, 1.0)
    change = smooth_calibration_error(y, moved, sample_weight=w) - smooth_calibration_error(y, p, sample_weight=w)
    assert abs(change) <= 0.03


@pytest.mark.parametrize(
    ("y", "p", "error"),
    [([1, 1], [0.0, 0.0], 1.0), ([0], [1.0], 1.0), ([0, 1], [0.0, 1.0], 0.0), ([0, 1] * 9, [0.5] * 18, 0.0)],
)
def test_ends_of_the_scale(y, p, error):
    assert smooth_calibration_error(y, p) == pytest.approx(error, abs=1e-3)


def test_a_constant_gap_is_found_at_any_size():
    """All rows say p and the frequency is p - gap: nothing to smooth away, however small the gap is."""
    for positives, gap in [(499, 1e-3), (45, 0.455)]:
        y = np.repeat([1, 0], [positives, 1000 - positives])
        spread = smooth_calibration_error(y, np.full(1000, 0.5))
        assert spread == pytest.approx(gap, rel=2e-3)


@pytest.mark.parametrize(
    ("y", "p", "sentence"),
    [
        ([0, 1], [0.5, 1.5], r"y_proba must lie in \[0, 1\], got a maximum of 1\.5"),
        ([0, 2], [0.5, 0.5], r"y_true must hold only 0 and 1, got 2"),
        ([0.0, 0.5], [0.5, 0.5], r"y_true must hold only 0 and 1, got 0\.5"),
        ([0, 1], [0.5, np.nan], r"y_proba must be finite"),
        ([0], [0.5, 0.5], r"same length: y_true has 1, y_proba has 2"),
        ([], [], r"y_true must hold at least one value"),
    ],
)
def test_bad_input_is_refused(y, p, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        smooth_calibration_error(np.array(y), np.array(p))

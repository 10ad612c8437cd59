"""Statistics to merge and to read, for their tests."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from mlflow_caliber.metrics import ScoreStatistics
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


def many_scores(n=3 * EXACT_UP_TO, seed=0):
    """More distinct scores than are kept one by one."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.7, 1.3, n)
    return (rng.random(n) < p).astype(float), p

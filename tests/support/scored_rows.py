"""Rows of outcomes, probabilities and weights for the tests of metrics: by Hypothesis, and drawn from a known truth."""

import numpy as np
from hypothesis import strategies as st

# Tenths tie often and lie on edges of bins; the others are anything, the ends included.
PROBABILITIES = st.one_of(st.integers(0, 10).map(lambda k: k / 10), st.floats(0, 1))
ROW = st.tuples(st.integers(0, 1), PROBABILITIES, st.integers(0, 3))
ROWS = st.lists(ROW, min_size=1, max_size=40).filter(lambda rows: any(w for _, _, w in rows))


def columns(rows):
    """Outcomes, probabilities and whole weights."""
    y, p, w = (np.array(column) for column in zip(*rows, strict=True))
    return y, p.astype(float), w


def sample(n, seed, truth=lambda p: p):
    """Outcomes and uniform probabilities; an outcome is 1 with probability ``truth(p)``."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return (rng.random(n) < truth(p)).astype(int), p

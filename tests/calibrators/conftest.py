"""Data whose calibrated values are known."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def sixteen():
    """Sixteen rows small enough to pool by hand; one score is exactly 1."""
    scores = [0.05, 0.1, 0.2, 0.3, 0.35, 0.4, 0.55, 0.6, 0.65, 0.7, 0.8, 0.85, 0.88, 0.9, 0.95, 1.0]
    y = [0, 0, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1]
    return np.array(scores), np.array(y)


@pytest.fixture(scope="session")
def thousand():
    """A thousand rows without ties or randomness; the truth is the S-curve p^2 (3 - 2p)."""
    i = np.arange(1000)
    p = (7919 * i % 1000 + 0.5) / 1000
    y = ((104729 * i + 31) % 1009) / 1009 < p**2 * (3 - 2 * p)
    assert y.sum() == 501
    return p, y.astype(int)

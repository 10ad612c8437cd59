"""Streams for the online tests."""

from __future__ import annotations

import numpy as np
import pytest

from mlflow_caliber.online import HedgedRecalibrator, RollingRecalibrator


@pytest.fixture(params=[HedgedRecalibrator, RollingRecalibrator], ids=["hedged", "rolling"])
def recalibrator(request):
    """One of each kind."""
    return request.param()


@pytest.fixture
def stream():
    """Scores, outcomes of drifted probabilities, segments."""
    rng = np.random.default_rng(5)
    p = rng.random(700)
    segments = rng.choice(["north", "south", "west"], 700)
    y = (rng.random(700) < np.where(segments == "north", p**2, 0.6 * p)).astype(int)
    return p, y, segments


@pytest.fixture
def trained(stream):
    """A hedged recalibrator that has seen them, the last outcomes outstanding."""
    hedged = HedgedRecalibrator()
    forecasts = []
    for p, y, segment in zip(*stream, strict=True):
        forecasts.append((hedged.forecast(p, segment), int(y)))
        if len(forecasts) > 5:
            hedged.update(*forecasts.pop(0))
    return hedged

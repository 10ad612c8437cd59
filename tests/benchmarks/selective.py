"""Risk-coverage areas against the floor and against MAPIE: rows for the table that ``numerics.py`` prints."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from mapie.metrics.uncertainty import auarc

from mlflow_caliber import metrics

Row = tuple[str, int, float, float, float, str]


def table() -> list[Row]:
    """Work, rows, our milliseconds, the peer's, how many times faster ours is, and the peer."""
    return [row for n in (100_000, 1_000_000) for row in _of(n)]


def _of(n: int) -> list[Row]:
    confidence, correct = _draw(n)
    thousandths = confidence.round(3)
    floor = "np.sort (floor)"
    return [
        _compared("AURC", n, lambda: metrics.aurc(confidence, correct), lambda: np.sort(confidence), floor),
        _compared("AURC, ties", n, lambda: metrics.aurc(thousandths, correct), lambda: np.sort(thousandths), floor),
        _compared("E-AURC", n, lambda: metrics.e_aurc(confidence, correct), lambda: np.sort(confidence), floor),
        _compared("AUGRC", n, lambda: metrics.augrc(confidence, correct), lambda: np.sort(confidence), floor),
        _compared(
            "AURC", n, lambda: metrics.aurc(confidence, correct), lambda: auarc(correct, confidence), "MAPIE auarc"
        ),
        _compared(
            "intervals of the areas",
            n,
            lambda: metrics.selective_intervals(confidence, correct),
            lambda: metrics.aurc(confidence, correct),
            "our AURC",
        ),
    ]


def _draw(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    p = 1.0 / (1.0 + np.exp(-rng.normal(-0.1, 1.35, n)))
    return np.maximum(p, 1.0 - p), ((rng.random(n) < p) == (p > 0.5)).astype(np.int64)


def _compared(work: str, n: int, ours: Callable[[], object], peer: Callable[[], object], against: str) -> Row:
    """Medians of calls in turn, so that whatever else the machine does hits both."""
    times = [(_milliseconds(ours), _milliseconds(peer)) for _ in range(9)]
    mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    return work, n, mine, theirs, theirs / mine, against


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)

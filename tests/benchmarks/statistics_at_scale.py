"""Mergeable statistics against the exact metrics of the same rows, and against the floor: ``table()``.

``python tests/benchmarks/numerics.py statistics_at_scale`` prints it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from mlflow_caliber import metrics
from mlflow_caliber.metrics import ScoreStatistics

CHUNK = 1_000_000
Rows = tuple[np.ndarray, np.ndarray]


def rows(n: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.7, 1.3, n)
    return (rng.random(n) < p).astype(np.int64), p


def in_chunks(y: np.ndarray, p: np.ndarray) -> ScoreStatistics:
    total = ScoreStatistics()
    for start in range(0, y.size, CHUNK):
        total.update(y[start : start + CHUNK], p[start : start + CHUNK])
    return total


def exactly(y: np.ndarray, p: np.ndarray) -> list[Any]:
    functions = (metrics.brier_score, metrics.log_loss, metrics.roc_auc, metrics.brier_decomposition)
    confidence, correct = np.maximum(p, 1 - p), (p > 0.5) == y
    areas = [area(confidence, correct) for area in (metrics.aurc, metrics.augrc)]
    return [metrics.expected_calibration_error(y, p), *(function(y, p) for function in functions), *areas]


def by_scikit_learn(y: np.ndarray, p: np.ndarray) -> list[Any]:
    return [
        calibration_curve(y, p, n_bins=10, strategy="quantile"),
        sk.brier_score_loss(y, p),
        sk.log_loss(y, p),
        sk.roc_auc_score(y, p),
    ]


def milliseconds(ours: Callable[[], Any], peer: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Medians, taken in turn: the machine may be busy with something else."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, found in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            function()
            found.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])


def line(work: str, n: int, ours: Callable[[], Any], peer: Callable[[], Any], against: str, repeats: int) -> Any:
    mine, theirs = milliseconds(ours, peer, repeats)
    return work, n, mine, theirs, theirs / mine, against


def table() -> list[tuple[str, int, float, float, float, str]]:
    n, n_many = CHUNK, 10 * CHUNK
    many, some = rows(n_many), rows(n)
    short = (some[0], some[1].round(3))
    whole, parts = in_chunks(*some), [in_chunks(*rows(20_000, seed)) for seed in range(100)]
    read = "metrics of a report through statistics"

    def read_many() -> dict[str, float]:
        return in_chunks(*many).metrics()

    return [
        line("statistics in 10 chunks", n_many, lambda: in_chunks(*many), lambda: np.sort(many[1]), "np.sort", 3),
        line(read, n_many, read_many, lambda: exactly(*many), "seven of them from rows", 3),
        line(read, n_many, read_many, lambda: by_scikit_learn(*many), "four of them by scikit-learn", 1),
        line("statistics", n, lambda: in_chunks(*some), lambda: np.sort(some[1]), "np.sort", 7),
        line("statistics, three decimals", n, lambda: in_chunks(*short), lambda: np.sort(some[1]), "np.sort", 7),
        line("metrics of statistics", n, whole.metrics, lambda: exactly(*some), "seven of them from rows", 5),
        line("merge of 100", 2 * n, lambda: sum(parts), lambda: in_chunks(*rows(2 * n)), "statistics of rows", 3),
    ]

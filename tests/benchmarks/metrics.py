"""Calibration error and what belongs to it against scikit-learn and the floor: rows for ``numerics.py``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from sklearn.calibration import calibration_curve

from mlflow_caliber import metrics

Row = tuple[str, int, float, float, float, str]
Work = Callable[[], object]


def table() -> list[Row]:
    """Work, rows, our milliseconds, the peer's, how many times faster ours is, and the peer."""
    n = 1_000_000
    rng = np.random.default_rng(0)
    p = rng.random(n)
    y = (rng.random(n) < p).astype(int)
    error = partial(metrics.expected_calibration_error, y, p)
    curve = partial(calibration_curve, y, p)
    sort = partial(np.sort, p)
    works: list[tuple[str, Work, Work, str]] = [
        ("ECE, 15 equal-width bins", partial(error, n_bins=15, strategy="uniform"), partial(curve, n_bins=15), _PEER),
        ("ECE, 10 equal-mass bins", error, partial(curve, n_bins=10, strategy="quantile"), _PEER),
        ("ECE interval, 1000 replicates", partial(metrics.expected_calibration_error_interval, y, p), error, "the ECE"),
        ("ECE noise floor", partial(metrics.calibration_error_null, p), sort, _FLOOR),
        ("smooth ECE", partial(metrics.smooth_calibration_error, y, p), sort, _FLOOR),
        ("Brier decomposition", partial(metrics.brier_decomposition, y, p), sort, _FLOOR),
        ("CORP curve and band", partial(metrics.corp_curve, y, p), sort, _FLOOR),
        ("intervals of scores", partial(metrics.score_intervals, y, p), sort, _FLOOR),
    ]
    return [_compared(name, n, ours, peer, against) for name, ours, peer, against in works]


_PEER, _FLOOR = "calibration_curve", "np.sort (floor)"


def _compared(work: str, n: int, ours: Work, peer: Work, against: str) -> Row:
    """Medians of runs in turn, so that both meet the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(9):
        for run, found in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            run()
            found.append(1e3 * (time.perf_counter() - start))
    mine, theirs = (statistics.median(found) for found in times)
    return work, n, mine, theirs, theirs / mine, against


if __name__ == "__main__":
    for row in table():
        print(*row, sep=" | ")

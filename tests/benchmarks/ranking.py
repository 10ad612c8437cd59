"""Ranking and label-free performance against scikit-learn: rows for the table that ``numerics.py`` prints."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from mlflow_caliber import metrics
from mlflow_caliber.drift import estimate_performance

Row = tuple[str, int, float, float, float, str]


def table() -> list[Row]:
    """Work, rows, our milliseconds, the peer's, how many times faster ours is, and the peer."""
    return [row for n in (100_000, 1_000_000) for row in _of(n)] + [_label_free()]


def _of(n: int) -> list[Row]:
    y, p = _draw(n)
    return [
        _compared("ROC AUC", n, lambda: metrics.roc_auc(y, p), lambda: np.sort(p), "np.sort (floor)"),
        _compared("ROC AUC", n, lambda: metrics.roc_auc(y, p), lambda: roc_auc_score(y, p), "roc_auc_score"),
        _compared(
            "DeLong interval", n, lambda: metrics.roc_auc_interval(y, p), lambda: roc_auc_score(y, p), "roc_auc_score"
        ),
        _compared(
            "calibration score test",
            n,
            lambda: metrics.calibration_score_test(y, p),
            lambda: roc_auc_score(y, p),
            "roc_auc_score",
        ),
    ]


def _label_free() -> Row:
    """The peer has the labels that ours does without."""
    y, p = _draw(1_000_000)
    chunks = list(zip(np.split(y, 10), np.split(p, 10), strict=True))

    def ours() -> None:
        for _, part in chunks:
            estimate_performance(part)

    def labelled() -> None:
        for labels, part in chunks:
            guess = part > 0.5
            accuracy_score(labels, guess), f1_score(labels, guess), roc_auc_score(labels, part)

    return _compared(
        "label-free accuracy, F1 and AUC, 10 chunks", 1_000_000, ours, labelled, "scikit-learn, with labels"
    )


def _draw(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    p = rng.beta(2.0, 3.0, n)
    return (rng.random(n) < p).astype(np.int64), p


def _compared(work: str, n: int, ours: Callable[[], object], peer: Callable[[], object], against: str) -> Row:
    """Medians of calls in turn, so that whatever else the machine does hits both."""
    times = [(_milliseconds(ours), _milliseconds(peer)) for _ in range(7)]
    mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    return work, n, mine, theirs, theirs / mine, against


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000

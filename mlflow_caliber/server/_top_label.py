"""Calibration of the confidence, of any number of streams together: as the Caliber app defines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlflow_caliber.live import Reports
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.store import Stream

__all__ = ["calibration_of", "risk_coverage_of"]

_BINS, _POINTS = 10, 200


def calibration_of(reports: Reports, streams: Sequence[Stream]) -> dict[str, Any]:
    """ECE over ten bins of equal width, and the bins; null when nothing is labelled."""
    n_labelled, statistics = _confidence(reports, streams)
    bins = [_bin(i, 0, 0.0, 0.0) for i in range(_BINS)]
    if not n_labelled:
        return {"ece": None, "n_labeled": 0, "bins": bins}
    scores, right, weight = statistics.weighted_rows()
    place = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    n, said, hits = (np.bincount(place, values, _BINS) for values in (weight, weight * scores, weight * right))
    error = float(np.abs(said - hits).sum() / n.sum())
    bins = [_bin(i, round(n[i]), said[i], hits[i]) for i in range(_BINS)]
    return {"ece": round(error, 4), "n_labeled": n_labelled, "bins": bins}


def risk_coverage_of(reports: Reports, streams: Sequence[Stream]) -> dict[str, Any]:
    """The curve, drawn with at most 200 points, and the area under it."""
    n_labelled, statistics = _confidence(reports, streams)
    if not n_labelled:
        return {"aurc": None, "points": []}
    curve = statistics.risk_coverage_curve()
    drawn = curve.downsample(_POINTS)
    points = [
        {"coverage": round(float(coverage), 4), "risk": round(float(risk), 4)}
        for coverage, risk in zip(drawn.coverage, drawn.risk, strict=True)
    ]
    return {"aurc": round(statistics.metrics()["aurc"], 4), "points": points}


def _confidence(reports: Reports, streams: Sequence[Stream]) -> tuple[int, ScoreStatistics]:
    """How many rows, and their statistics of the probability of the predicted class and whether it was right."""
    found = [(reports.labelled(stream), stream) for stream in streams]
    added = sum((_top_label(statistics, stream) for statistics, stream in found), ScoreStatistics())
    return sum(statistics.n for statistics, _ in found), added


def _top_label(statistics: ScoreStatistics, stream: Stream) -> ScoreStatistics:
    if stream.positive is None or not statistics.n:
        return statistics
    scores, positive, weight = statistics.weighted_rows()
    sure = scores >= 0.5
    confidence, right = np.where(sure, scores, 1.0 - scores), np.where(sure, positive, 1.0 - positive)
    return ScoreStatistics().update(right, confidence, sample_weight=weight)


def _bin(i: int, n: int, said: float, hits: float) -> dict[str, Any]:
    return {
        "bin_lo": round(i / _BINS, 2),
        "bin_hi": round((i + 1) / _BINS, 2),
        "confidence": round(float(said / n), 4) if n else None,
        "accuracy": round(float(hits / n), 4) if n else None,
        "count": n,
    }

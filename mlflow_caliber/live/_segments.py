"""Hours, days and segments of a stream next to each other: read off coarse sums, in bins of equal width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlflow_caliber._validation import check_count
from mlflow_caliber.live._news import OTHER, OTHERS
from mlflow_caliber.live._summary import StreamSummary, split_segment_key
from mlflow_caliber.live._tallies import N_BINS, CoarseRow, CoarseTable
from mlflow_caliber.metrics import ScoreStatistics

__all__ = ["segments_of", "timeline_of"]

_SECONDS = {"hour": 3_600, "day": 86_400}
_RESAMPLES = 100
_NOTE = (
    "Labelled rows as they are, without weights. Predictions without a segment are in no row; beyond 50 segments, the "
    "rest is (other)."
)


def timeline_of(summary: StreamSummary, by: str, last: int) -> list[dict[str, Any]]:
    """The last points that there are, the oldest first."""
    table = summary.hours if by == "hour" else summary.dates
    keys = sorted(table.rows)[-check_count(last, "last") :]
    return [_point(table, key, _SECONDS[by], top_label=summary.top_label) for key in keys]


def segments_of(summary: StreamSummary, since: int | None) -> dict[str, Any]:
    """The segments of the days from ``since`` on, the largest first."""
    names = {number: name for name, number in summary.names.items()} | {OTHER: OTHERS}
    keys: dict[int, list[int]] = {}
    for key in summary.segments.rows:
        segment, day = split_segment_key(key)
        if since is None or day >= since:
            keys.setdefault(segment, []).append(key)
    rows = {names[segment]: summary.segments.read(sorted(of_it)) for segment, of_it in sorted(keys.items())}
    return {"segments": _table(rows, top_label=summary.top_label), "note": _NOTE if rows else "There are no segments."}


def _point(table: CoarseTable, key: int, seconds: int, *, top_label: bool) -> dict[str, Any]:
    served, shipped = table.read([key], 0), table.read([key], 1)
    return {
        "at": float(key * seconds),
        "n": served.n,
        "n_predictions": served.n_predictions,
        "n_abstained": served.n_abstained,
        "ece": served.ece,
        "ece_shipped": shipped.ece,
        "log_loss": None if top_label else served.mean_loss(1),
        "log_loss_shipped": None if top_label else shipped.mean_loss(1),
        "brier": None if top_label else served.mean_loss(0),
    }


def _table(rows: Mapping[str, CoarseRow], *, top_label: bool) -> list[dict[str, Any]]:
    largest_first = sorted(rows.items(), key=lambda item: -item[1].n_predictions)
    return [_segment(name, row, top_label=top_label) for name, row in largest_first]


def _segment(name: str, row: CoarseRow, *, top_label: bool) -> dict[str, Any]:
    low, high = _interval(row)
    return {
        "segment": name,
        "n": row.n,
        "n_predictions": row.n_predictions,
        "abstain_rate": row.n_abstained / row.n_predictions if row.n_predictions else None,
        "predicted": row.mean(2),
        "observed": row.mean(1),
        "ece": row.ece,
        "ece_low": low,
        "ece_high": high,
        "log_loss": None if top_label else row.mean_loss(1),
    }


def _interval(row: CoarseRow) -> tuple[float | None, float | None]:
    """The interval of the calibration error: each bin is as good as rows that all have its mean."""
    if not row.n:
        return None, None
    n, positive, predicted = row.bins[:, row.bins[0] > 0.0]
    cell = ScoreStatistics.cell_of(np.clip(predicted / n, 0.0, 1.0))
    losses = {"squared_error": [0.0], "log_loss": [0.0]}
    rows = ScoreStatistics.from_cells(cell, rows=n, positive=positive, predicted=predicted, **losses)
    how: dict[str, Any] = {"n_bins": N_BINS, "strategy": "uniform", "only": ("ece",), "n_resamples": _RESAMPLES}
    low, high = rows.intervals(**how)["ece"]
    return low, high

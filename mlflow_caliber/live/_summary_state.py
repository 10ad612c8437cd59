"""A summary as parts of bytes, and back: only what has changed is written, and all is checked when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlflow_caliber.exceptions import StateError
from mlflow_caliber.live._news import News
from mlflow_caliber.live._packed import pack, unpack
from mlflow_caliber.live._rollups import readable_or_state_error, tally_from_bytes, tally_to_bytes
from mlflow_caliber.live._summary import StreamSummary
from mlflow_caliber.live._tallies import CoarseTable

__all__ = ["summary_from_parts", "summary_to_parts"]

_TABLES = ("hours", "dates", "segments")


def summary_to_parts(summary: StreamSummary, *, whole: bool = False) -> dict[str, bytes]:
    """The parts that have changed since they were saved, or all."""
    wanted = None if whole else summary.changed
    days = {"older": summary.older, **{f"day:{day}": tally for day, tally in summary.days.items()}}
    parts = {name: tally_to_bytes(tally) for name, tally in days.items() if wanted is None or name in wanted}
    for name in _TABLES:
        if wanted is None or name in wanted:
            names = {"names": list(summary.names)} if name == "segments" else {}
            parts[name] = _table_to_bytes(getattr(summary, name), names)
    return {**parts, "head": _head(summary)}


def summary_from_parts(parts: Mapping[str, bytes], positive: str | None) -> StreamSummary:
    """The summary of all parts.

    Raises
    ------
    StateError
        If one is missing, cannot be read, or is of a stream whose probabilities are about something else.
    """
    missing = [name for name in ("head", "older", *_TABLES) if name not in parts]
    if missing:
        raise StateError(f"The summary must have the part {missing[0]!r}, which is missing.")
    with readable_or_state_error():
        return _read(parts, positive)


def _read(parts: Mapping[str, bytes], positive: str | None) -> StreamSummary:
    head, (early,) = unpack(parts["head"], 1)
    if head["positive"] != positive:
        raise StateError(f"The summary must be about {positive!r}, and is about {head['positive']!r}.")
    summary = StreamSummary(positive)
    summary.position, summary.compacted = int(head["position"]), int(head["compacted"])
    summary.news = News(summary.position)
    for name in ("at", "last_prediction_at", "last_outcome_at"):
        setattr(summary, name, None if head[name] is None else float(head[name]))
    # Beside the rows that are numbered by them: processes number the names in orders of their own.
    summary.names = {str(name): k for k, name in enumerate(unpack(parts["segments"], 2)[0]["names"])}
    summary.early, summary.early_overflowed = set(early.tolist()), bool(head["early_overflowed"])
    summary.older = tally_from_bytes(parts["older"])
    for name, n_kinds in zip(_TABLES, (2, 2, 1), strict=True):
        setattr(summary, name, _table_from_bytes(parts[name], n_kinds))
    for day in head["days"]:
        if f"day:{day}" not in parts:
            raise StateError(f"The summary must have the part 'day:{day}', which is missing.")
        summary.days[int(day)] = tally_from_bytes(parts[f"day:{day}"])
    summary.changed = set()
    return summary


def _head(summary: StreamSummary) -> bytes:
    names = ("positive", "position", "at", "last_prediction_at", "last_outcome_at", "early_overflowed", "compacted")
    told = {name: getattr(summary, name) for name in names}
    told |= {"days": sorted(summary.days)}
    return pack(told, [np.array(sorted(summary.early), dtype=np.uint64)])


def _table_to_bytes(table: CoarseTable, told: Mapping[str, Any]) -> bytes:
    keys = sorted(table.rows)
    rows = np.stack([table.rows[key] for key in keys]) if keys else np.empty((0, table.width))
    return pack(told, [np.array(keys, dtype=np.int64), rows])


def _table_from_bytes(content: bytes, n_kinds: int) -> CoarseTable:
    _, (keys, rows) = unpack(content, 2)
    table = CoarseTable(n_kinds)
    if rows.shape != (keys.size, table.width) or not np.isfinite(rows).all():
        raise StateError("The summary cannot be read: a table has another shape than it must have.")
    table.rows = {key: row.copy() for key, row in zip(keys.tolist(), rows, strict=True)}
    return table

"""Answers of ``mlflow models serve``, written by the column.

MLflow's scoring server turns a DataFrame into a list of dictionaries and writes it with ``json.dump``, which in the
standard library is a pure-Python generator: for a thousand prediction frames it takes three times as long as the
prediction itself, and makes the served model slower than its base by two thirds. In that process, and only there, the
server's function is replaced by one that writes the same bytes for a prediction frame and leaves everything else to
MLflow's. ``docs/benchmarks.md`` has the figures with and without.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

import pandas as pd

from mlflow_caliber.model import FRAME_COLUMNS

__all__ = ["frame_json", "in_scoring_server", "speed_up_scoring_server"]

_SERVER = "mlflow.pyfunc.scoring_server"
_WRITER = "predictions_to_json"


def in_scoring_server() -> bool:
    """Whether this process is a worker of ``mlflow models serve``."""
    return f"{_SERVER}.app" in sys.modules


def speed_up_scoring_server() -> None:
    """Replace the writer of the scoring server that is loading us; do nothing in any other process.

    Should MLflow rename its function, nothing is found to replace and its own writer stays.
    """
    server = sys.modules.get(_SERVER)
    if not in_scoring_server() or not hasattr(server, _WRITER):
        return
    original = getattr(server, _WRITER)
    if not hasattr(original, "__wrapped__"):
        setattr(server, _WRITER, _with_fast_frames(original))


def _with_fast_frames(original: Any) -> Any:
    @functools.wraps(original)
    def predictions_to_json(raw_predictions: Any, output: TextIO, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or not _is_prediction_frame(raw_predictions):
            return original(raw_predictions, output, *args, **kwargs)
        return output.write(f'{{"predictions": {frame_json(raw_predictions)}}}')

    return predictions_to_json


def _is_prediction_frame(value: Any) -> bool:
    return type(value) is pd.DataFrame and tuple(value.columns[: len(FRAME_COLUMNS)]) == FRAME_COLUMNS


def frame_json(frame: pd.DataFrame) -> str:
    """The rows as a JSON list of objects: column by column, since a column holds one type and few distinct words."""
    row = "{" + ", ".join(f"{json.dumps(name)}: %s" for name in frame.columns) + "}"
    columns = [_ENCODERS.get(column.dtype.kind, _words)(column.tolist()) for _, column in frame.items()]
    return "[" + ", ".join(map(row.__mod__, zip(*columns, strict=True))) + "]"


def _words(values: list[Any]) -> Iterable[str]:
    try:
        known = {value: json.dumps(value) for value in set(values)}
    except TypeError:  # lists of probabilities
        return map(json.dumps, values)
    return map(known.__getitem__, values)


_ENCODERS: dict[str, Callable[[list[Any]], Iterable[str]]] = {
    "b": lambda values: ["true" if value else "false" for value in values],
    "f": lambda values: map(float.__repr__, values),
    "i": lambda values: map(int.__repr__, values),
    "u": lambda values: map(int.__repr__, values),
}

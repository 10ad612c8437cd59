"""Reports, drift, refits, scoring and backfills of Spark frames: sums are made in the cluster, numbers from the sums.

* :func:`reliability_report` reads a frame as the function of that name reads arrays; :func:`report_statistics` and
  :func:`windowed_statistics` give what it is made from, which can be kept and added.
* :func:`drift_report` and :func:`drift_statistics` do the same for drift against a stored profile.
* :func:`fit_calibrator` fits to merged statistics, :func:`score` applies a saved model.
* :func:`backfill` adds days of a lake to a store's history; :func:`history_days` are those days.

PySpark is imported when a function is called: ``pip install 'mlflow-caliber[spark]'``. Names are imported when they are
first used, because Spark's Python workers read this file too, and need few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_caliber.spark._backfill import backfill, history_days
    from mlflow_caliber.spark._calibrator import fit_calibrator
    from mlflow_caliber.spark._drift import drift_report, drift_statistics
    from mlflow_caliber.spark._report import reliability_report, report_statistics, windowed_statistics
    from mlflow_caliber.spark._score import score

_HOME = {
    "backfill": "_backfill",
    "drift_report": "_drift",
    "drift_statistics": "_drift",
    "fit_calibrator": "_calibrator",
    "history_days": "_backfill",
    "reliability_report": "_report",
    "report_statistics": "_report",
    "score": "_score",
    "windowed_statistics": "_report",
}

__all__ = [
    "backfill",
    "drift_report",
    "drift_statistics",
    "fit_calibrator",
    "history_days",
    "reliability_report",
    "report_statistics",
    "score",
    "windowed_statistics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

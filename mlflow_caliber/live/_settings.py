"""When the monitor is satisfied, and what ``caliber.yaml`` says of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from mlflow_caliber.config import ENVIRONMENT_VARIABLE, FILE_NAME, check_section, find_config, read_config

__all__ = ["MonitorSettings", "live_section", "retention_section"]


@dataclass(frozen=True, kw_only=True)
class MonitorSettings:
    """What the monitor looks at, and what it calls an alarm: the section ``live`` of ``caliber.yaml``.

    Parameters
    ----------
    window_days : float, default=7
        It looks at the predictions of so many days,
    max_rows : int, default=100000
        of which it reads the last so many.
    min_rows : int, default=100
        Fewer rows decide nothing: no report, no drift, no diagnosis.
    drift_share : float, default=0.3
        The share of drifted features that is an alarm. Drifted scores are one in any case.
    silence_outcomes_days, silence_predictions_days : float, default=3 and 1
        Nothing for longer is an alarm.
    silence_replicas_minutes : float, default=5
        Serving processes that all say nothing for longer are an alarm.
    lag_minutes : float, default=15
        What is recorded has to be learned within this time.
    cooldown_hours : float, default=24
        An alarm that stays open is told again after so long.
    resolve_after_minutes : float, default=10
        An alarm is over when its cause was not seen for so long.
    monitor_every_seconds : float, default=60
        How often the monitor looks.

    Raises
    ------
    ConfigError
        For a value out of range.

    Examples
    --------
    >>> MonitorSettings(window_days=14).max_rows
    100000
    >>> MonitorSettings(window_days=0)
    Traceback (most recent call last):
    mlflow_caliber.exceptions.ConfigError: live.window_days must be a number above 0, got 0.
    """

    window_days: float = 7.0
    max_rows: int = 100_000
    min_rows: int = 100
    drift_share: float = 0.3
    silence_outcomes_days: float = 3.0
    silence_predictions_days: float = 1.0
    silence_replicas_minutes: float = 5.0
    lag_minutes: float = 15.0
    cooldown_hours: float = 24.0
    resolve_after_minutes: float = 10.0
    monitor_every_seconds: float = 60.0

    def __post_init__(self) -> None:
        check_section("live", asdict(self))

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> Self:
        """The settings of a section; who is told of alarms is another matter."""
        checked = check_section("live", section)
        return cls(**{key: value for key, value in checked.items() if key != "alerts"})


def live_section(path: str | Path | None = None) -> dict[str, Any]:
    """The section ``live`` of a configuration; empty when there is none, and when none is named and none is there.

    Raises
    ------
    ConfigError
        For a named file that is missing, and for one that cannot be read.
    """
    return _section("live", path)


def retention_section(path: str | Path | None = None) -> dict[str, Any]:
    """The section ``retention``, like :func:`live_section`."""
    return _section("retention", path)


def _section(name: str, path: str | Path | None) -> dict[str, Any]:
    if path is None and ENVIRONMENT_VARIABLE not in os.environ and not Path(FILE_NAME).is_file():
        return {}
    section: dict[str, Any] = read_config(find_config(path)).get(name, {})
    return section

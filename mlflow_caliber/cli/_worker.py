"""``worker``: learn from the outcomes in a store, until stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_caliber.cli._common import PASSED, Command, emit, mlflow_options, told_to_stop, use_mlflow
from mlflow_caliber.cli._store import open_store_at, store_option
from mlflow_caliber.exceptions import SchemaVersionError, StoreError

if TYPE_CHECKING:
    from mlflow_caliber.live import Monitor, RetentionPolicy, Worker
    from mlflow_caliber.store import Store

__all__ = ["worker"]

Function = TypeVar("Function", bound=Callable[..., Any])
_PATIENCE = 5.0
# Seconds for which a store that is away at the start is waited for, and between two tries.
_STARTING, _PAUSE = 300.0, 2.0
_logger = logging.getLogger(__name__)


def _number(name: str, default: float, text: str, low: float = 0.0) -> Callable[[Function], Function]:
    return click.option(name, type=click.FloatRange(min=low), default=default, show_default=True, help=text)


@click.command(cls=Command, example="mlflow-caliber worker --store sqlite:///caliber.db")
@store_option
@click.option("--every-outcomes", type=click.IntRange(min=1), default=100, show_default=True, help="Publish so often,")
@_number("--every-seconds", 60.0, "or after so long.")
@_number("--horizon-days", 30.0, "Wait no longer for an outcome.")
@_number("--max-harm", 25.0, "Nats that it may cost against the shipped model.")
@_number("--lease-seconds", 30.0, "Another worker may take over after so long.", low=1.0)
@click.option("--config", metavar="FILE", help="caliber.yaml with a section live [CALIBER_CONFIG, ./caliber.yaml].")
@mlflow_options
@click.option("--once", is_flag=True, help="Learn what is there, then stop.")
def worker(
    *,
    store_uri: str | None,
    every_outcomes: int,
    every_seconds: float,
    horizon_days: float,
    max_harm: float,
    lease_seconds: float,
    config: str | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    once: bool,
    as_json: bool,
) -> int:
    """
    Learn from outcomes, and publish what was learned to every serving process.

    Any number of workers may run: each model is learned by one of them, and by another when that one dies. What goes
    wrong is told as the section live of caliber.yaml says; without one, to the log. The section retention says how
    long the store keeps what; without one, for ever.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if tracking_uri is not None or registry_uri is not None:  # importing MLflow takes seconds
        use_mlflow(tracking_uri, registry_uri)
    stop = threading.Event() if once else told_to_stop()
    with _reached(store_uri, stop, patience=0.0 if once else _STARTING) as store:
        from mlflow_caliber.live import (
            Monitor,
            MonitorSettings,
            RetentionPolicy,
            Worker,
            WorkerSettings,
            live_section,
            retention_section,
            sinks_from_dict,
        )

        section, policy = live_section(config), RetentionPolicy.from_dict(retention_section(config))
        settings = WorkerSettings(
            every_outcomes=every_outcomes,
            every_seconds=every_seconds,
            horizon=horizon_days * 86_400.0,
            max_harm=max_harm,
            lease=lease_seconds,
        )
        working = Worker(store, settings)
        sinks = sinks_from_dict(section.get("alerts", {}))
        monitor = Monitor(store, MonitorSettings.from_dict(section), sinks, name=working.name)
        entries = _drain(working, monitor) if once else _serve(working, monitor, policy, stop)
    emit({"entries": entries}, f"{entries} entries read.", as_json=as_json)
    return PASSED


def _drain(working: Worker, monitor: Monitor) -> int:
    entries = 0
    while new := working.turn():
        entries += new
    working.close()
    monitor.turn()
    return entries


def _reached(store_uri: str | None, stop: threading.Event, patience: float) -> Store:
    """The store; one that is away is waited for, since it may be starting at the same time as we are."""
    end = time.monotonic() + patience
    while True:
        try:
            return open_store_at(store_uri, create=True)
        except SchemaVersionError:
            raise
        except StoreError as error:
            if time.monotonic() > end or stop.wait(_PAUSE):
                raise
            _logger.warning("Waiting for the store: %s", error)


def _serve(working: Worker, monitor: Monitor, policy: RetentionPolicy, stop: threading.Event) -> int:
    from mlflow_caliber.live import run_retention

    # A thread of its own, as a receiver of alerts may be slow; a daemon, as learning has to stop at once when told to.
    watching = threading.Thread(target=monitor.run, args=(stop,), name="caliber-monitor", daemon=True)
    pruning = (working.store, policy, stop)
    threading.Thread(target=run_retention, args=pruning, name="caliber-retention", daemon=True).start()
    watching.start()
    entries = working.run(stop)
    watching.join(_PATIENCE)
    return entries

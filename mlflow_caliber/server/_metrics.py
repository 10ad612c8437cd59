"""Counters and times for Prometheus; the names are in the user guide."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["FOLDER_VARIABLE", "Metrics"]

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_EVENTS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)


class Metrics:
    """The metrics of one process; with several, each writes to a folder that all read."""

    def __init__(self) -> None:
        shared = FOLDER_VARIABLE in os.environ
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "caliber_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "caliber_http_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._events = Counter("caliber_events", "Events taken in.", ["kind", "result"], registry=registry)
        self._batch = Histogram(
            "caliber_ingest_batch_events", "Events in one commit.", buckets=_EVENTS, registry=registry
        )
        self._ingest_seconds = Histogram(
            "caliber_ingest_seconds", "Time of one commit.", buckets=_SECONDS, registry=registry
        )
        live = {"multiprocess_mode": "livesum", "registry": registry}
        newest = {"multiprocess_mode": "mostrecent" if shared else "all", "registry": registry}
        self.connections = Gauge("caliber_live_connections", "Open WebSockets.", **live)  # type: ignore[arg-type]
        self.dropped = Counter("caliber_live_frames_dropped", "Frames not sent to slow readers.", registry=registry)
        self._up = Gauge("caliber_store_up", "Whether the store answers.", **newest)  # type: ignore[arg-type]
        self._alarms = Gauge("caliber_open_alarms", "Alarms not resolved.", ["severity"], **newest)  # type: ignore[arg-type]
        self._reviews = Gauge("caliber_open_reviews", "Cases waiting for a reviewer.", **newest)  # type: ignore[arg-type]
        self._position = Gauge("caliber_log_position", "Last entry.", ["model", "version"], **newest)  # type: ignore[arg-type]
        self._exported = CollectorRegistry() if shared else registry
        if shared:
            MultiProcessCollector(self._exported)  # type: ignore[no-untyped-call]

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def commit(self, events: int, seconds: float) -> None:
        """A batch was recorded."""
        self._batch.observe(events)
        self._ingest_seconds.observe(seconds)

    def took(self, kind: str, *, recorded: int, duplicates: int, refused: int) -> None:
        """What became of the events of a caller."""
        for result, n in (("recorded", recorded), ("duplicate", duplicates), ("refused", refused)):
            if n:
                self._events.labels(kind, result).inc(n)

    def store(self, up: bool, alarms: dict[str, int], reviews: int, positions: dict[tuple[str, str], int]) -> None:
        """How the store is."""
        self._up.set(up)
        for severity, n in alarms.items():
            self._alarms.labels(severity).set(n)
        self._reviews.set(reviews)
        for (model, version), position in positions.items():
            self._position.labels(model, version).set(position)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._exported)

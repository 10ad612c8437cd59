"""Which version was made from which: from MLflow's registry where there is one, else from the streams themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from typing import Any

from starlette.requests import HTTPConnection

from mlflow_caliber.server._service import service_of
from mlflow_caliber.store import Store, Stream

__all__ = ["Lineage", "lineage_of"]

_BELIEVED, _PATIENCE, _MOST = 30.0, 3.0, 1_000
_MOST_VERSIONS = 200
_TAGS = {
    "parent_version": "caliber_parent_version",
    "gate_status": "caliber_gate_status",
    "calibrator_revision": "caliber_calibrator_revision",
}


class Lineage:
    """The versions of a model. A registry that is slow or away costs three seconds, and a note; never an error."""

    def __init__(self, store: Store, registry: Any = None) -> None:
        self._store, self._registry = store, registry
        self._known: dict[str, tuple[float, list[dict[str, Any]], str]] = {}
        self._asked: dict[str, Future[list[dict[str, Any]]]] = {}
        self._pool = ThreadPoolExecutor(2, "caliber-lineage")
        self._lock = threading.Lock()

    def of(self, stream: Stream) -> dict[str, Any]:
        """The versions of the stream's model, the oldest first; ``here`` marks the stream's own."""
        registered, note = self._registered(stream.model)
        nodes = {node["version"]: dict(node) for node in registered}
        for other in self._store.streams():
            if other.model == stream.model:
                _add_stream(nodes, other)
        for version, node in nodes.items():
            node["here"] = version == stream.version
        return {"nodes": sorted(nodes.values(), key=_age), "note": note}

    def _registered(self, model: str) -> tuple[list[dict[str, Any]], str]:
        if self._registry is None:
            return [], "From the streams alone: the service was started without a registry."
        known, asked = self._known.get(model), self._asked.get(model)
        has_answered = asked is not None and asked.done()  # later than whoever asked first had patience for
        if known is not None and time.monotonic() < known[0] and not has_answered:
            return known[1], known[2]
        found, note = self._asked_now(model)
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[model] = (time.monotonic() + _BELIEVED, found, note)
        return found, note

    def _asked_now(self, model: str) -> tuple[list[dict[str, Any]], str]:
        with self._lock:
            # Whoever asks while the registry has not answered yet waits for the same answer.
            asked = self._asked.get(model)
            if asked is None:
                asked = self._asked[model] = self._pool.submit(_versions, self._registry, model)
        found: list[dict[str, Any]] = []
        note = ""
        try:
            found = asked.result(_PATIENCE)
        except TooLate:
            return [], f"From the streams alone: the registry has not answered within {_PATIENCE:g} s."
        except Exception as error:  # a registry, a network, and whatever they raise
            note = f"From the streams alone: the registry could not be asked ({type(error).__name__})."
        with self._lock:
            if self._asked.get(model) is asked:
                del self._asked[model]
        return found, note


def lineage_of(connection: HTTPConnection) -> Lineage:
    """The application's own: what it has asked the registry is remembered from request to request."""
    state = connection.app.state
    if not hasattr(state, "lineage"):
        service = service_of(connection)
        state.lineage = Lineage(service.store, service.registry)
    lineage: Lineage = state.lineage
    return lineage


def _versions(registry: Any, model: str) -> list[dict[str, Any]]:
    from mlflow.exceptions import MlflowException

    try:
        aliases = dict(registry.get_registered_model(model).aliases)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return []
        raise
    quote = '"' if "'" in model else "'"
    found = registry.search_model_versions(f"name = {quote}{model}{quote}", max_results=_MOST_VERSIONS)
    return [_node(version, aliases) for version in found]


def _node(version: Any, aliases: dict[str, Any]) -> dict[str, Any]:
    number = str(version.version)
    stage = version.current_stage
    return {
        "version": number,
        "stage": "" if stage in {None, "None"} else str(stage),
        "aliases": sorted(name for name, holder in aliases.items() if str(holder) == number),
        "created_at": version.creation_timestamp / 1000.0,
        **{name: version.tags.get(tag) for name, tag in _TAGS.items()},
    }


def _add_stream(nodes: dict[str, dict[str, Any]], stream: Stream) -> None:
    """What the stream's settings say, where the registry says nothing."""
    told = stream.settings()
    node = nodes.setdefault(
        stream.version,
        {"version": stream.version, "stage": "", "aliases": [], "created_at": None, **dict.fromkeys(_TAGS)},
    )
    node["stage"] = node["stage"] or told.stage
    node["parent_version"] = node["parent_version"] or told.parent_version


def _age(node: dict[str, Any]) -> tuple[float, Iterable[Any]]:
    created, version = node["created_at"], node["version"]
    number = int(version) if version.isascii() and version.isdigit() else 0
    return (float("inf") if created is None else created, (number, version))

"""What the routes work with: made when a process starts, the same for every request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from fastapi import Depends
from starlette.requests import HTTPConnection

from mlflow_caliber.server._ingest import Ingest
from mlflow_caliber.server._live import Broadcaster
from mlflow_caliber.server._metrics import Metrics
from mlflow_caliber.server._settings import ServerSettings
from mlflow_caliber.store import Store, Stream, Token

if TYPE_CHECKING:
    from mlflow_caliber.live import Reports

__all__ = ["Remembered", "Served", "Service", "service_of"]

# For so long a token or a stream is believed to be what it was: a revoked token works for two seconds more at most.
_BELIEVED = 2.0
_MOST = 10_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """What was looked up lately and found."""

    def __init__(self, look_up: Callable[[K], V], seconds: float = _BELIEVED) -> None:
        self._look_up, self._seconds = look_up, seconds
        self._known: dict[K, tuple[float, V]] = {}
        self._lock = threading.Lock()

    def known(self, key: K) -> tuple[V] | None:
        """What is remembered, in a tuple; None when it has to be looked up."""
        found = self._known.get(key)
        return None if found is None or found[0] < time.monotonic() else (found[1],)

    def get(self, key: K) -> V:
        """What is remembered, or looked up now."""
        found = self.known(key)
        if found is not None:
            return found[0]
        value = self._look_up(key)
        if value is None:
            return value  # what is not there may be there at once
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.clear()  # whoever sends ever new keys gains nothing but a look-up each
            self._known[key] = (time.monotonic() + self._seconds, value)
        return value

    def forget(self) -> None:
        """Look everything up anew."""
        with self._lock:
            self._known.clear()


@dataclass
class Service:
    """The parts of a running service."""

    store: Store
    settings: ServerSettings
    ingest: Ingest
    live: Broadcaster
    reports: Reports
    metrics: Metrics
    clock: Callable[[], float]
    registry: Any = None
    tokens: Remembered[str, Token | None] = field(init=False)
    streams: Remembered[tuple[str, str], Stream | None] = field(init=False)
    numbers: Remembered[int, Stream | None] = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = Remembered(self.store.find_token)
        self.streams = Remembered(lambda key: self.store.find_stream(*key))
        self.numbers = Remembered(self._by_number)

    def forget(self) -> None:
        """Look up streams and tokens anew."""
        for each in (self.tokens, self.streams, self.numbers):
            each.forget()

    def _by_number(self, number: int) -> Stream | None:
        return next((stream for stream in self.store.streams() if stream.id == number), None)


def service_of(connection: HTTPConnection) -> Service:
    """The service that a request or a WebSocket came to."""
    service: Service = connection.app.state.service
    return service


async def _service(connection: HTTPConnection) -> Service:
    # Not a plain function: FastAPI would hand it to another thread, which takes longer than most of what we answer.
    return service_of(connection)


Served = Annotated[Service, Depends(_service)]
"""A parameter of a route: the service."""

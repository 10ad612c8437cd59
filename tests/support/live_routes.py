"""Every address of the live service, found and not listed: a route that is added later is tested too."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.routing import Mount, WebSocketRoute

# What anybody may ask without a token.
OPEN = {"/healthz", "/readyz", "/health", "/openapi.json", "/login"}
_VALUES = {
    "model": "churn",
    "version": "1",
    "prediction_id": "a",
    "number": "0",
    "alarm_id": "1",
    "token_id": "0123456789ab",
}


@dataclass(frozen=True)
class Operation:
    """A method of an address; ``role`` is the least that is needed, None when any token will do."""

    method: str
    path: str

    @property
    def name(self):
        return f"{self.method} {self.path}"

    @property
    def is_page(self):
        return self.method == "GET" and not self.path.startswith(("/api/", "/metrics"))

    def url(self, **values):
        """The address, with values in the place of its parameters."""
        told = {**_VALUES, **values}
        if self.path.startswith("/api/review/"):
            told["prediction_id"] = str(values.get("number_of_prediction", 1))
        return re.sub(r"{(\w+)(?::\w+)?}", lambda found: told[found[1]], self.path)


def _leaves(routes, prefix=""):
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            context = getattr(route, "include_context", None)
            yield from _leaves(inner.routes, prefix + getattr(context, "prefix", ""))
        else:
            yield prefix, route


def operations(app, *, open_too=False):
    """All methods of all addresses that need a token."""
    found = [
        Operation(method, prefix + route.path)
        for prefix, route in _leaves(app.routes)
        if not isinstance(route, (Mount, WebSocketRoute)) and getattr(route, "methods", None)
        for method in sorted(route.methods - {"HEAD"})
    ]
    return [each for each in found if open_too or each.path not in OPEN]


def sockets(app):
    """The addresses of all WebSockets."""
    return [prefix + route.path for prefix, route in _leaves(app.routes) if isinstance(route, WebSocketRoute)]

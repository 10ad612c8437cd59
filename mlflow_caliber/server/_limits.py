"""What every request passes first: size, rate, headers that browsers obey, and the count of it all."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlflow_caliber.server._access import KNOWN, offered
from mlflow_caliber.server._errors import problem, unforeseen
from mlflow_caliber.server._metrics import Metrics

__all__ = ["Limits", "Rates"]

# Where a request's scope has the path as the routes spell it, if no route of FastAPI's answered.
TEMPLATE = "mlflow_caliber.template"
_MOST_CALLERS = 10_000
# Guesses at tokens, a minute and address.
_GUESSES = 20.0
_LOGIN = "/login"
_API = "/api/v1"
# Longer than any token is.
_LONGEST_KEY = 200
_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
_NOT_KNOWN = {401, 4401}
_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_UNCACHED = [*_HEADERS, (b"cache-control", b"no-store")]
_requests = logging.getLogger("mlflow_caliber.requests")


class Rates:
    """A bucket of tokens for each caller: full, it allows twice what drops in each second.

    Examples
    --------
    >>> rates = Rates(per_second=1.0)
    >>> [rates.wait("a", now=0.0) for _ in range(3)]
    [0.0, 0.0, 1.0]
    """

    def __init__(self, per_second: float, burst: float | None = None) -> None:
        self._per_second = per_second
        self._burst = max(1.0, 2.0 * per_second) if burst is None else burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, caller: str, now: float, cost: float = 1.0) -> float:
        """Take one; how many seconds to wait for it if there is none. With a cost of 0, only ask."""
        if self._per_second == 0.0:
            return 0.0
        left, since = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        allowed = left >= 1.0
        self._left[caller] = (left - cost if allowed else left, now)
        if len(self._left) > _MOST_CALLERS:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self._per_second


class Limits:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, rate: float, max_body: int, access_log: bool) -> None:
        self._app, self._metrics, self._max_body, self._access_log = app, metrics, max_body, access_log
        self._rates, self._guesses = Rates(rate), Rates(_GUESSES / 60.0, burst=_GUESSES)
        self._good: OrderedDict[str, None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        start, seen = time.perf_counter(), {"status": 0}

        async def sending(message: Message) -> None:
            if message["type"].endswith("http.response.start"):
                seen["status"] = message["status"]
                given = message["headers"]
                kept = any(name == b"cache-control" for name, _ in given)
                message["headers"] = [*given, *(_HEADERS if kept else _UNCACHED)]
            elif message["type"] == "websocket.close":
                seen["status"] = message.get("code", 1000)
            await send(message)

        headers, address = Headers(scope=scope), (scope.get("client") or ("unknown",))[0]
        shown = _shown(scope)
        refusal = self._refusal(headers, address, shown, scope)
        try:
            await (refusal or self._app)(scope, self._limited(scope, receive), sending)
        except Exception as error:
            # Further out, the answer would lack our headers, and nobody would count it.
            if seen["status"] or scope["type"] != "http":
                raise
            await unforeseen(error)(scope, receive, sending)
        self._learn(shown, address, seen["status"], known=bool(scope.get(KNOWN)))
        if scope["type"] == "http":
            self._count(scope, seen["status"], time.perf_counter() - start)

    def _refusal(self, headers: Headers, address: str, shown: str | None, scope: Scope) -> ASGIApp | None:
        now = time.monotonic()
        # Only a token that is known has a bucket of its own: of others, one could show a new one each time.
        waits = self._rates.wait(address if shown is None or shown not in self._good else shown, now)
        if waits:
            return problem(429, "Too many requests; wait.", {"Retry-After": str(int(waits) + 1)})
        # A token that was good the last time is no guess: it goes on working beside somebody who tries some.
        waits = 0.0 if shown is None or shown in self._good else self._guesses.wait(address, now, cost=0.0)
        if waits:
            return problem(429, "Too many tokens that are not known; wait.", {"Retry-After": str(int(waits) + 1)})
        if headers.get("content-encoding", "identity").lower() != "identity":
            return problem(
                415, f"The body must come as it is, got Content-Encoding {headers['content-encoding'][:80]}."
            )
        length = headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > self._max_body and not _is_stream(scope):
            return problem(413, f"The body must have at most {self._max_body} bytes, got {length[:20]}.")
        return None

    def _learn(self, shown: str | None, address: str, status: int, *, known: bool) -> None:
        """Count bad tokens by address, and remember good ones."""
        if shown is None:
            return
        if status in _NOT_KNOWN:
            self._good.pop(shown, None)
            self._guesses.wait(address, time.monotonic())
        elif known:
            self._good[shown] = None
            self._good.move_to_end(shown)
            if len(self._good) > _MOST_CALLERS:
                self._good.popitem(last=False)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Receive, but no more than is allowed: bodies without a length are counted as they come."""
        if _is_stream(scope) or scope["type"] != "http":
            return receive
        got = 0

        async def receiving() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._max_body:
                raise HTTPException(413, f"The body must have at most {self._max_body} bytes.")
            return message

        return receiving

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # Whoever may invent methods could else make counters without end.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.request(method, _template(scope), status, seconds)
        if self._access_log:
            told = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": round(seconds, 6)}
            _requests.info("request", extra={"told": told})


def _template(scope: Scope) -> str:
    """The path as the reference of the API spells it; "none" where no route is."""
    if scope["path"] == getattr(scope.get("app"), "openapi_url", None):
        return str(scope["path"])
    path = str(scope.get(TEMPLATE) or getattr(scope.get("route"), "path", "none"))
    # A route of FastAPI's knows its path within its router only.
    is_inner = scope["path"].startswith(f"{_API}/") and path.startswith("/") and not path.startswith(_API)
    return (_API if is_inner else "") + path.replace(":path}", "}")


def _is_stream(scope: Scope) -> bool:
    """Whether lines come, of any number: a version may be called "events" too."""
    return scope.get("method") == "POST" and bool(scope["path"].endswith("/events"))


def _shown(scope: Scope) -> str | None:
    """What is shown to be let in; nothing when the request comes without."""
    if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(_LOGIN):
        return ""
    text = offered(HTTPConnection(scope))
    return None if text is None else text[:_LONGEST_KEY]

"""Who asks, and what they may do: a bearer token, a session cookie, or nobody."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from fastapi import HTTPException
from starlette.requests import HTTPConnection

from mlflow_caliber.exceptions import NotFoundError
from mlflow_caliber.server._service import Service, service_of
from mlflow_caliber.store import Stream, Token

__all__ = [
    "COOKIE",
    "KNOWN",
    "Caller",
    "allow",
    "caller_of",
    "check_still",
    "csrf_of",
    "is_foreign",
    "offered",
    "stream_for",
]

COOKIE = "caliber_session"
CSRF_HEADER = "x-csrf-token"
SUBPROTOCOL = "caliber.bearer."
# In the scope of a request whose token or session is known.
KNOWN = "caliber.known"
# A token has 62 characters: what is much longer is none, and nobody has to remember it.
_LONGEST_TOKEN = 200
_SAFE = {"GET", "HEAD", "OPTIONS"}
# Whoever decides or governs may also look.
_IMPLIED = {"view": {"view", "review", "admin"}, "review": {"review", "admin"}, "ingest": {"ingest", "admin"}}
_LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}
_NOT_KNOWN = "The token is not known, revoked or expired."
_WHO = {"WWW-Authenticate": 'Bearer realm="mlflow-caliber"'}


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks: ``models`` are those they may see, None for all; ``via`` is "token", "session" or "anonymous"."""

    name: str
    roles: tuple[str, ...]
    models: tuple[str, ...] | None
    via: str
    csrf: str | None = None

    def may(self, role: str) -> bool:
        """Whether the role is among theirs, or implied by one that is."""
        return not _IMPLIED.get(role, {role}).isdisjoint(self.roles)

    def sees(self, model: str) -> bool:
        """Whether the model is one of theirs."""
        return self.models is None or model in self.models


def allow(role: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who must have the role."""

    async def caller(connection: HTTPConnection) -> Caller:
        found = await caller_of(connection)
        if not found.may(role):
            raise HTTPException(403, f"The role {role} is needed, and {_spelled(found)}.")
        return found

    return caller


def stream_for(role: str) -> Callable[..., Awaitable[Stream]]:
    """A dependency: the stream that the path names, which the caller must be allowed to use in that role."""
    allowed = allow(role)

    async def stream(connection: HTTPConnection, model: str, version: str) -> Stream:
        caller = await allowed(connection)
        return await find_stream(service_of(connection), caller, model, version)

    return stream


async def find_stream(service: Service, caller: Caller, model: str, version: str) -> Stream:
    """The stream; what is not the caller's is not there for them."""
    if caller.sees(model):
        known = service.streams.known((model, version))
        found = known[0] if known else await run_sync(service.streams.get, (model, version))
        if found is not None:
            return found
    raise NotFoundError(f"There is no version {version[:80]!r} of a model {model[:80]!r} here: PUT it first.")


async def caller_of(connection: HTTPConnection) -> Caller:
    """Who asks; an error 401 for a token that is not known, and for none where one is needed."""
    service = service_of(connection)
    bearer, session = _bearer(connection), connection.cookies.get(COOKIE)
    if bearer is not None:
        token = await _token(service, bearer)
        if token is None or token.kind != "token":
            raise HTTPException(401, _NOT_KNOWN, _WHO)
        connection.scope[KNOWN] = True
        return _caller(token, "token")
    if session is not None:
        token = await _token(service, session)
        if token is not None and token.kind == "session":
            connection.scope[KNOWN] = True
            _check_same_site(connection, csrf_of(session))
            return _caller(token, "session", csrf_of(session))
    if service.settings.anonymous:
        _check_own_page(connection)
        return Caller(name="anonymous", roles=service.settings.anonymous, models=None, via="anonymous")
    raise HTTPException(401, "A token is needed: Authorization: Bearer cal_..., or log in at /login.", _WHO)


async def check_still(connection: HTTPConnection, caller: Caller) -> None:
    """An error 401 once a long connection is no longer the caller's: its session may have ended where anonymous may."""
    if await caller_of(connection) != caller:
        raise HTTPException(401, _NOT_KNOWN, _WHO)


def csrf_of(session: str) -> str:
    """What a page of the session has to send along with all that changes anything."""
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()


def is_foreign(connection: HTTPConnection) -> bool:
    """Whether a page of another site asks, as far as its browser tells."""
    site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
    if site is not None and site not in {"same-origin", "none"}:
        return True
    return origin is not None and urlsplit(origin).netloc != connection.headers.get("host")


def offered(connection: HTTPConnection) -> str | None:
    """What the caller shows: the text of a token or of a session."""
    bearer = _bearer(connection)
    return connection.cookies.get(COOKIE) if bearer is None else bearer


def _bearer(connection: HTTPConnection) -> str | None:
    kind, _, text = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return text.strip()
    # A browser's WebSocket can send no header of its own but this one.
    for name in connection.headers.get("sec-websocket-protocol", "").split(","):
        if name.strip().startswith(SUBPROTOCOL):
            return name.strip().removeprefix(SUBPROTOCOL)
    return None


async def _token(service: Service, text: str) -> Token | None:
    if len(text) > _LONGEST_TOKEN:
        return None
    known = service.tokens.known(text)
    return known[0] if known else await run_sync(service.tokens.get, text)


def _caller(token: Token, via: str, csrf: str | None = None) -> Caller:
    return Caller(name=token.name, roles=token.roles, models=token.models, via=via, csrf=csrf)


def _check_same_site(connection: HTTPConnection, csrf: str) -> None:
    if connection.scope["type"] == "websocket":
        if is_foreign(connection):
            raise HTTPException(403, "Another site's page may not use your session.")
        return
    if connection.scope["method"] in _SAFE:
        return
    # As bytes: of texts, only those in ASCII can be compared.
    shown = connection.headers.get(CSRF_HEADER, "").encode()
    if not hmac.compare_digest(shown, csrf.encode()) or is_foreign(connection):
        raise HTTPException(403, "The page is too old or not ours: load it again. (X-CSRF-Token is missing or wrong.)")


def _check_own_page(connection: HTTPConnection) -> None:
    """Without a token, only programs and pages of this machine: a page from elsewhere must not act in one's name."""
    host = connection.headers.get("host", "")
    if host.rpartition(":")[0] not in _LOOPBACK and host not in _LOOPBACK:
        raise HTTPException(403, "Without a token the service answers under the name localhost only.")
    unsafe = connection.scope["type"] == "websocket" or connection.scope["method"] not in _SAFE
    if unsafe and is_foreign(connection):
        raise HTTPException(403, "Another site's page may not act without a token.")


def _spelled(caller: Caller) -> str:
    return f"{caller.name} has {', '.join(caller.roles) or 'none'}"

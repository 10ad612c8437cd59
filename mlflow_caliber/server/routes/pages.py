"""The dashboard's pages, and the way in. Figures come through the API, which asks for the same session."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from mlflow_caliber._version import __version__
from mlflow_caliber.exceptions import NotFoundError
from mlflow_caliber.server._access import COOKIE, Caller, caller_of, find_stream, is_foreign
from mlflow_caliber.server._service import Served, Service, service_of

router = APIRouter()

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
)
_HOURS = 3_600.0
_LONGEST_FORM = 4_000


@router.get("/login")
async def login_page(request: Request, next: str = "/") -> HTMLResponse:
    """Where a token becomes a session."""
    return _page("login.html", request, None, next=_own_page(next), error=None)


@router.post("/login")
async def login(request: Request, service: Served) -> Response:
    """Open a session with a token, and go where one wanted to."""
    if is_foreign(request):
        raise HTTPException(403, "Another site's page may not log you in.")
    body = (await request.body())[:_LONGEST_FORM].decode("utf-8", "replace")
    form = {name: values[0] for name, values in parse_qs(body).items()}
    return await run_sync(_log_in, request, service, form.get("token", "").strip(), _own_page(form.get("next", "/")))


def _log_in(request: Request, service: Service, token: str, wanted: str) -> Response:
    found = service.store.find_token(token)
    if found is None or found.kind != "token":
        said = "That token is not known, revoked or expired."
        return _page("login.html", request, None, status=401, next=wanted, error=said)
    seconds = service.settings.session_hours * _HOURS
    answer = RedirectResponse(_base(request) + wanted, 303)
    answer.set_cookie(
        COOKIE,
        service.store.open_session(found, seconds),
        max_age=int(seconds),
        path=_base(request) or "/",
        httponly=True,
        secure=service.settings.https,
        samesite="lax",
    )
    return answer


@router.post("/logout")
def logout(request: Request, service: Served, _: Annotated[Caller, Depends(caller_of)]) -> Response:
    """End the session."""
    session = request.cookies.get(COOKIE)
    if session is not None:
        service.store.close_session(session)
        service.forget()
    answer = RedirectResponse(f"{_base(request)}/login", 303)
    answer.delete_cookie(COOKIE, path=_base(request) or "/")
    return answer


@router.get("/")
async def overview(request: Request) -> Response:
    """All models."""
    return await _for_caller("overview.html", request)


@router.get("/models/{model}/{version}")
async def model(request: Request, model: str, version: str) -> Response:
    """One model version; what is not the caller's is not there for them."""
    return await _for_caller("model.html", request, about=(model, version), model=model, model_version=version)


@router.get("/reviews")
async def reviews(request: Request) -> Response:
    """The review queue."""
    return await _for_caller("reviews.html", request)


@router.get("/audit")
async def audit(request: Request) -> Response:
    """Who did what."""
    return await _for_caller("audit.html", request)


@router.get("/tokens")
async def tokens(request: Request) -> Response:
    """Tokens, for admins."""
    return await _for_caller("tokens.html", request)


async def _for_caller(template: str, request: Request, about: tuple[str, str] | None = None, **values: Any) -> Response:
    try:
        caller = await caller_of(request)
    except HTTPException as error:
        if error.status_code != 401:
            return _page("error.html", request, None, status=error.status_code, title="No", sentence=error.detail)
        wanted = request.url.path.removeprefix(_base(request)) + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{_base(request)}/login?next={quote(wanted, safe='')}", 303)
    if not caller.may("view"):
        sentence = f"These pages need the role view, and {caller.name} has {', '.join(caller.roles)}."
        return _page("error.html", request, None, status=403, title="Not for this token", sentence=sentence)
    if about is not None:
        try:
            await find_stream(service_of(request), caller, *about)
        except NotFoundError:
            name, version = (text[:80] for text in about)
            sentence = f"There is no version {version} of a model {name} here, or this token may not see it."
            return _page("error.html", request, caller, status=404, sentence=sentence)
    return _page(template, request, caller, **values)


def _page(template: str, request: Request, caller: Caller | None, *, status: int = 200, **values: Any) -> HTMLResponse:
    told = {
        "base": _base(request),
        "version": __version__,
        "name": None if caller is None else caller.name,
        "roles": [] if caller is None else list(caller.roles),
        "csrf": None if caller is None else caller.csrf,
        "here": None,
        "title": None,
        "sentence": None,
    }
    return HTMLResponse(_TEMPLATES.get_template(template).render({**told, **values}), status)


def _base(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


def _own_page(address: str) -> str:
    """A page of ours: whatever could lead elsewhere becomes the first one."""
    ours = address.startswith("/") and not address.startswith("//") and "\\" not in address
    return address if ours and address.isprintable() else "/"

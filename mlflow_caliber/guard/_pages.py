"""The pages under ``/caliber/``: server-side HTML that reads and never writes, and what it fetches.

Whatever a page shows of names, tags, reasons and comments was typed by somebody; the templates escape it, the scripts
put it in as text, and the policy in the header lets no script but our own files run.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from flask import Blueprint, Flask, Response, make_response, render_template, request
from mlflow.exceptions import MlflowException
from mlflow.server import handlers
from mlflow.server.handlers import _add_static_prefix, _get_paths

from mlflow_caliber._version import __version__
from mlflow_caliber.exceptions import CaliberError
from mlflow_caliber.guard._catalog import Catalog
from mlflow_caliber.guard._chronicle import Chronicle
from mlflow_caliber.guard._closeup import audit, compare, comparison, examined, figure, measured, version
from mlflow_caliber.guard._desk import Desk, base, link
from mlflow_caliber.guard._files import ServerClient
from mlflow_caliber.guard._governor import Governor
from mlflow_caliber.guard._measured import Measured
from mlflow_caliber.guard._overview import index, model
from mlflow_caliber.guard._routes import Route, _view, add_route
from mlflow_caliber.guard._words import moment, shown
from mlflow_caliber.theme import static_folder

__all__ = ["PAGES", "Page", "add_pages", "page_routes"]

_logger = logging.getLogger(__name__)

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# matplotlib writes its styles into the image; nothing else may come out of one.
_IMAGE_HEADERS = {**_HEADERS, "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
_STATIC = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_TITLES = {
    400: "This cannot be shown",
    403: "Not for you",
    404: "Not found",
    409: "Somebody else was faster",
    500: "This page could not be made",
}


@dataclass(frozen=True)
class Page:
    """
    One page.

    ``permission`` is what it takes to see the model that the address names; None asks for nothing but a login, as the
    page then shows only what its reader may read.
    """

    path: str
    permission: Callable[[Mapping[str, str]], str | None]
    content: Callable[[Desk, Mapping[str, str]], dict[str, Any]]
    template: str


def _read(_: Mapping[str, str]) -> str:
    return "read"


def _read_or_admin(arguments: Mapping[str, str]) -> str:
    return "read" if arguments.get("name") else "admin"


PAGES: tuple[Page, ...] = (
    Page("/caliber", lambda _: None, index, "index.html"),
    Page("/caliber/", lambda _: None, index, "index.html"),
    Page("/caliber/model", _read, model, "model.html"),
    Page("/caliber/version", _read, version, "version.html"),
    Page("/caliber/compare", _read, compare, "compare.html"),
    Page("/caliber/audit", _read_or_admin, audit, "audit.html"),
)


def page_routes(desk: Desk) -> tuple[Route, ...]:
    """What the pages fetch, under ``/api/2.0`` and ``/ajax-api/2.0``; nothing of it writes."""

    def of(answer: Callable[[Desk, Mapping[str, Any]], Any]) -> Callable[[Governor, Mapping[str, Any]], Any]:
        return functools.wraps(answer)(lambda _, body: answer(desk, body))

    return (
        Route(
            "GET", "/caliber/examine", "read", of(examined), "Hold the policy against a version; nothing is written."
        ),
        Route("GET", "/caliber/measured", "read", of(measured), "A version's numbers, for a list."),
        Route("GET", "/caliber/comparison", "read", of(comparison), "Two versions beside each other."),
    )


def add_pages(app: Flask, governor: Governor, *, people: bool) -> None:
    """Add the pages, their files and what they fetch to MLflow's app."""
    desk = _desk(governor, people)
    app.register_blueprint(Blueprint("caliber_pages", __name__, template_folder="templates"))
    for page in PAGES:
        add_route(app, _add_static_prefix(page.path), "GET", _page_view(page, desk), people=people)
    add_route(app, _add_static_prefix("/caliber/figure"), "GET", _figure_view(desk), people=people)
    for name, content, kind in _static_files():
        add_route(app, _add_static_prefix(f"/caliber/static/{name}"), "GET", _file_view(content, kind), people=people)
    for route in page_routes(desk):
        for path in _get_paths(route.path):
            add_route(app, path, route.method, _view(route, governor, people), people=people)


def _desk(governor: Governor, people: bool) -> Desk:
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR

    store: Any = handlers._get_model_registry_store()  # the guard refused any other than a database's
    client = ServerClient(os.environ[BACKEND_STORE_URI_ENV_VAR], store.db_uri)
    return Desk(
        governor=governor,
        catalog=Catalog(store.engine),
        chronicle=Chronicle(governor.ledger),
        measured=Measured(client, governor),
        people=people,
    )


# --- views -----------------------------------------------------------------------------------------------------------


def _page_view(page: Page, desk: Desk) -> Callable[[], Response]:
    def view() -> Response:
        try:
            desk.check(page.permission(request.args))
            content = page.content(desk, request.args)
            response = make_response(_rendered(desk, page.template, **content))
        except Exception as error:
            return _failed(desk, error)
        response.headers.update(_HEADERS)
        return response

    return view


def _figure_view(desk: Desk) -> Callable[[], Response]:
    def view() -> Response:
        try:
            desk.check("read")
            response = Response(figure(desk, request.args), mimetype="image/svg+xml")
        except Exception as error:
            return _failed(desk, error)
        response.headers.update(_IMAGE_HEADERS)
        return response

    return view


def _file_view(content: bytes, kind: str) -> Callable[[], Response]:
    def view() -> Response:
        response = Response(content, mimetype=kind)
        response.headers.update({**_HEADERS, "Cache-Control": "no-cache"})
        response.add_etag()
        response.make_conditional(request)
        return response

    return view


def _failed(desk: Desk, error: Exception) -> Response:
    """A page with one sentence; what nobody foresaw goes to the log only."""
    if isinstance(error, MlflowException):
        sentence, status = str(error.message), error.get_http_status_code()
    elif isinstance(error, CaliberError):
        sentence, status = str(error), 400
    else:
        _logger.error("A page could not be made.", exc_info=error)
        sentence, status = "The server's log says why.", 500
    title = _TITLES.get(status, _TITLES[400])
    response = make_response(_rendered(desk, "error.html", title=title, sentence=shown(sentence, 2000)), status)
    response.headers.update(_HEADERS)
    return response


def _rendered(desk: Desk, template: str, **content: Any) -> str:
    return render_template(
        f"caliber/{template}",
        base=base(),
        link=link,
        shown=shown,
        moment=moment,
        caliber_version=__version__,
        person=desk.person,
        sees_all=desk.sees_all,
        **content,
    )


def _static_files() -> Iterator[tuple[str, bytes, str]]:
    """Each by a path of its own: behind basic-auth a path with a variable part asks for more than a login."""
    own = files(__package__).joinpath("static")
    for file in (*static_folder().iterdir(), *own.iterdir()):
        kind = _STATIC.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            yield file.name, file.read_bytes(), kind

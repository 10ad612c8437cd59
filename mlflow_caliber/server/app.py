"""The application, and how it is run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles

from mlflow_caliber._version import __version__
from mlflow_caliber.exceptions import CaliberError, ServiceError
from mlflow_caliber.live import MonitorSettings, Reports, live_section
from mlflow_caliber.server._errors import PROBLEMS, Problem, handle_errors
from mlflow_caliber.server._express import Express
from mlflow_caliber.server._ingest import Ingest
from mlflow_caliber.server._limits import Limits
from mlflow_caliber.server._live import Broadcaster
from mlflow_caliber.server._logs import configure_logging
from mlflow_caliber.server._metrics import FOLDER_VARIABLE, Metrics
from mlflow_caliber.server._service import Service
from mlflow_caliber.server._settings import ENVIRONMENT_VARIABLE, ServerSettings
from mlflow_caliber.server.routes import (
    audit,
    compat,
    health,
    ingest,
    live,
    models,
    overview,
    pages,
    reports,
    reviews,
    tokens,
)
from mlflow_caliber.store import Store, open_store
from mlflow_caliber.theme import static_folder

__all__ = ["create_app", "from_environment", "serve"]

API = "/api/v1"
_STATIC = Path(__file__).parent / "static"
_ABOUT = (
    "Predictions and outcomes in, reliability out. Times are seconds since 1970 (UTC). Errors are problem JSON: "
    "`detail` says what was wanted and what came."
)
# uvicorn waits so long for requests that are being answered when it is told to end.
_LAST_ANSWERS = 20
_logger = logging.getLogger(__name__)


def create_app(store: Store, settings: ServerSettings, *, clock: Callable[[], float] | None = None) -> FastAPI:
    """The service over a store, which stays the caller's to close.

    Parameters
    ----------
    store : Store
        Open.
    settings : ServerSettings
        How it runs; where it listens is not its own matter.
    clock : callable, optional
        Seconds since 1970, for tests.

    Returns
    -------
    FastAPI
        An ASGI application.

    Examples
    --------
    >>> from mlflow_caliber.server import ServerSettings
    >>> from mlflow_caliber.store import open_store
    >>> create_app(open_store("sqlite://"), ServerSettings(store_uri="sqlite://")).title
    'mlflow-caliber'
    """
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        monitor = MonitorSettings.from_dict(live_section(settings.config))
        now = clock or time.time
        service = Service(
            store=store,
            settings=settings,
            ingest=Ingest(store, metrics.commit),
            live=Broadcaster(store, metrics.dropped.inc),
            reports=Reports(store, now, monitor),
            metrics=metrics,
            registry=_registry(settings),
            clock=now,
        )
        app.state.service = service
        async with _running(service):
            yield

    app = FastAPI(
        title="mlflow-caliber",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.settings = settings
    _add_routes(app)
    handle_errors(app)
    app.add_middleware(
        Express,
        owner=app,
        posts={
            f"{API}/models/{{model}}/versions/{{version}}/predictions": ingest.predictions,
            f"{API}/models/{{model}}/versions/{{version}}/outcomes": ingest.outcomes,
            "/api/predictions": compat.ingest,
        },
    )
    if settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allow_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(
        Limits,
        metrics=metrics,
        rate=settings.rate,
        max_body=int(settings.max_body_mb * 1_000_000),
        access_log=settings.access_log,
    )
    return app


def from_environment() -> FastAPI:
    """The application of a process that :func:`serve` started."""
    settings = ServerSettings.from_environment()
    configure_logging(access_log=settings.access_log)
    try:
        return create_app(open_store(settings.store_uri), settings)
    except CaliberError as error:
        _logger.error("The service cannot start: %s", error)
        # Not 3, upon which uvicorn ends all processes: the others go on, and the database may come back.
        sys.exit(1)


def serve(settings: ServerSettings) -> None:
    """Run the service until it is told to end; requests that are being answered are finished first.

    Parameters
    ----------
    settings : ServerSettings
        How it runs.

    Raises
    ------
    ServiceError
        If it cannot start; the log says why.
    """
    os.environ[ENVIRONMENT_VARIABLE] = settings.to_json()
    configure_logging(access_log=settings.access_log)
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises the signal again when all is answered: as an interrupt it takes it for a good end.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        if settings.workers > 1 and FOLDER_VARIABLE not in os.environ:
            os.environ[FOLDER_VARIABLE] = stack.enter_context(tempfile.TemporaryDirectory(prefix="caliber-metrics-"))
        try:
            uvicorn.run(
                "mlflow_caliber.server.app:from_environment",
                factory=True,
                host=settings.host,
                port=settings.port,
                workers=settings.workers,
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
                proxy_headers=settings.behind_proxy,
                server_header=False,
                log_config=None,
                access_log=False,
                ws_max_size=65_536,
                timeout_graceful_shutdown=_LAST_ANSWERS,
                timeout_worker_healthcheck=60,
            )
        except SystemExit as end:
            if end.code:
                raise ServiceError(None, "The service could not start; its log says why.") from None


@contextlib.asynccontextmanager
async def _running(service: Service) -> AsyncIterator[None]:
    """What works beside the requests; at the end, everything that was taken in is on disk."""
    stop = threading.Event()
    follower = threading.Thread(target=service.reports.run, args=(stop,), name="caliber-reports", daemon=True)
    follower.start()
    telling = asyncio.create_task(service.live.run())
    try:
        yield
    finally:
        stop.set()
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await asyncio.to_thread(service.ingest.close)
        await asyncio.to_thread(follower.join, 10.0)


def _add_routes(app: FastAPI) -> None:
    app.include_router(ingest.router, prefix=API, responses=PROBLEMS)
    app.include_router(compat.router, responses=PROBLEMS)
    for part in (models, overview, reports, reviews, tokens, audit, live):
        app.include_router(part.router, prefix=API, responses=PROBLEMS)
    app.include_router(health.router, responses=PROBLEMS)
    app.include_router(pages.router, include_in_schema=False)
    app.mount("/static/theme", StaticFiles(directory=static_folder()), name="theme")
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    _describe(app)


def _describe(app: FastAPI) -> None:
    """Put into the document what is not said route by route."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        parts = document.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _registry(settings: ServerSettings) -> Any:
    """MLflow's client, where it was named: the service works without."""
    if settings.tracking_uri is None and settings.registry_uri is None:
        return None
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.registry_uri)

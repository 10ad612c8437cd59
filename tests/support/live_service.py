"""The live service: in this process with a client, or as the process that users start."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from answers import Answer
from mlflow_caliber.server import ServerSettings, create_app
from mlflow_caliber.store import ROLES, open_store

API = "/api/v1"


@contextlib.contextmanager
def service(uri="sqlite://", clock=None, **settings):
    """A service in this process, and a client of it that carries an admin's token."""
    from starlette.testclient import TestClient

    with open_store(uri, clock=clock) as store:
        _, text = store.create_token("root", ROLES, actor="test")
        app = create_app(store, ServerSettings(store_uri=uri, **settings), clock=clock)
        with TestClient(app, raise_server_exceptions=False) as client:
            client.headers["Authorization"] = f"Bearer {text}"
            client.store, client.token = store, text
            client.service = app.state.service
            yield client


def token_for(store, name="mia", roles=("view",), models=None):
    """The header of a new token."""
    return {"Authorization": f"Bearer {store.create_token(name, roles, models, actor='test')[1]}"}


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class LiveService:
    """`mlflow-caliber server`, really running."""

    def __init__(self, store_uri, log, *options, port=None, environment=None):
        self.store_uri, self.port, self.log = store_uri, port or free_port(), log
        self.url = f"http://127.0.0.1:{self.port}"
        self.options, self.environment = options, environment or {}
        with open_store(store_uri) as store:
            self.token = store.create_token("root", ROLES, actor="test")[1]
        self.process = None
        self.start()

    def start(self):
        """Start it, or start it again at the same place, and wait until it answers."""
        script = str(Path(sys.executable).with_name("mlflow-caliber"))
        command = [script, "server", "--store", self.store_uri]
        command += ["--port", str(self.port), *self.options]
        with open(self.log, "a", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **self.environment}, start_new_session=True
            )
        try:
            self.wait()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def wait(self, seconds=120):
        """Until it is ready."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if self.ask("/readyz", token=None).status == 200:
                    return
            assert self.process.poll() is None, self._said()
            time.sleep(0.1)
        raise AssertionError(f"not ready after {seconds} s: {self._said()}")

    def _said(self):
        return Path(self.log).read_text(encoding="utf-8")[-4_000:]

    def stop(self, how=signal.SIGTERM, patience=40):
        """End it and all its processes, and return its exit code."""
        if how == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, how)
        else:
            self.process.send_signal(how)
        try:
            return self.process.wait(patience)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def ask(self, path, body=None, method=None, token="root", headers=None, data=None):
        """One request; ``token`` is the root's, a text, or None."""
        told = dict(headers or {})
        if token is not None:
            told["Authorization"] = f"Bearer {self.token if token == 'root' else token}"
        if body is not None:
            data = json.dumps(body).encode()
            told.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(f"{self.url}{path}", data, told, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.read().decode(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), dict(error.headers))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def routes_of(app):
    """(method, path) of everything but pages and files that the service answers, WebSockets too."""
    found = [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
    return [*found, ("WS", f"{API}/live"), ("WS", "/ws/live")]

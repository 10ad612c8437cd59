"""A guarded server of one thread pool, up in seconds: the app that ``mlflow server`` would run, behind Werkzeug.

Run as a program it serves; imported, it starts itself and fills its registry.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
import warnings
from pathlib import Path

from answers import Answer


class Guarded:
    """Short ways to ask a guarded server and to fill its registry, whoever runs it."""

    def __init__(self, uri, folder, database):
        self.uri, self.folder, self.database = uri, folder, database
        self.prefix = urllib.parse.urlsplit(uri).path

    def get(self, path, user=None, **values):
        """A page or JSON, as a user (name, or name and password)."""
        query = f"?{urllib.parse.urlencode(values)}" if values else ""
        return self._ask(urllib.request.Request(f"{self.uri}{path}{query}"), user)

    def post(self, path, body, user=None, kind="application/json"):
        """JSON to one of the guard's routes."""
        data = json.dumps(body).encode()
        url = f"{self.uri}{path if path.startswith('/') else f'/ajax-api/2.0/{path}'}"
        return self._ask(urllib.request.Request(url, data, {"Content-Type": kind}), user)

    def act(self, what, user=None, **body):
        """One of the guard's own acts, which has to succeed."""
        answer = self.post(f"caliber/{what}", body, user)
        assert answer.status == 200, answer.text
        return answer.json

    def _ask(self, request, user):
        from registry_servers import ADMIN, PASSWORD

        if user is not None:
            name, password = user if isinstance(user, tuple) else (user, PASSWORD)
            token = base64.b64encode(f"{name or ADMIN}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, response.read().decode(), dict(response.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode(), dict(error.headers))

    # --- filling it ---

    def add_user(self, name):
        """A user, made by the administrator; MLflow 3.10 has the route without the prefix."""
        from registry_servers import ADMIN, PASSWORD

        body, host = {"username": name, "password": PASSWORD}, self.uri.removesuffix(self.prefix)
        for start in (self.uri, host):
            answer = Guarded(start, self.folder, self.database).post("/api/2.0/mlflow/users/create", body, ADMIN)
            if answer.status != 404:
                break
        assert answer.status == 200, answer.text

    def world(self):
        """The registry by way of its database, as hand-made evidence needs it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow and its imports warn of themselves while they are imported
            from mlflow import MlflowClient

        from registry_world import World

        client = MlflowClient(self.database, self.database)
        found = client.get_experiment_by_name("pages")
        location = (self.folder / "evidence").as_uri()
        experiment = client.create_experiment("pages", artifact_location=location) if found is None else found
        return World(self.folder, client, getattr(experiment, "experiment_id", experiment))

    def version(self, world, name, rows, author="mia"):
        """A version with evidence, and an author whom the guard knows."""
        import sqlalchemy as sa

        from mlflow_caliber.ledger import Ledger

        folder = world.model()
        run_id = world.evaluate(folder, rows)
        try:
            world.client.get_registered_model(name)
        except Exception:
            world.client.create_registered_model(name)
        made = world.client.create_model_version(name, source=folder.as_uri())
        engine = sa.create_engine(self.database)
        with engine.begin() as connection:
            Ledger(engine).set_author(connection, name, str(made.version), made.creation_timestamp, author)
        engine.dispose()
        return str(made.version), run_id


class PageServer(Guarded):
    """A server in a folder, with users if it is asked for them."""

    def __init__(self, folder, policy, *, auth=False, prefix=""):
        from live_processes import Process, until
        from registry_servers import SECRETS, _auth_config, _without_mlflow

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "caliber.yaml").write_text(policy)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        super().__init__(f"http://127.0.0.1:{port}{prefix}", folder, f"sqlite:///{folder}/mlflow.db")
        surroundings = {
            **_without_mlflow(),
            **SECRETS,
            "CALIBER_CONFIG": str(folder / "caliber.yaml"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "_MLFLOW_SERVER_FILE_STORE": self.database,
            "_MLFLOW_SERVER_REGISTRY_STORE": self.database,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_STATIC_PREFIX": prefix,
            "CALIBER_BASE_APP": "basic-auth" if auth else "",
            "MLFLOW_AUTH_CONFIG_PATH": str(_auth_config(folder)) if auth else "",
        }
        if auth:  # each request checks the password several times, which takes long on purpose
            with (folder / "auth.ini").open("a") as settings:
                settings.write("auth_cache_ttl_seconds = 600\n")
        log = folder / "server.log"
        self.process = Process([sys.executable, __file__, str(port)], log, surroundings)
        try:
            until(lambda: self._answers(log), 120.0, f"the server starts ({log})")
        except AssertionError:
            self.stop()
            raise

    def stop(self):
        self.process.process.kill()
        self.process.process.wait()

    def _answers(self, log):
        assert self.process.process.poll() is None, log.read_text()[-3000:]
        try:
            return self.get("/health").status in (200, 401)  # MLflow 3.10 asks for a login under a prefix
        except OSError:
            return False


def fill(server, *, users=(), versions=None):
    """Users, and a version of each model for each set of rows; by mia. The server may be any that is guarded."""
    guarded = Guarded(server.uri, server.folder, server.database)
    for user in users:
        guarded.add_user(user)
    world = guarded.world()
    for name, several in (versions or {}).items():
        for rows in several:
            guarded.version(world, name, rows)


def serve(port):
    """Serve until killed."""
    warnings.simplefilter("ignore")
    from werkzeug.serving import make_server

    from mlflow_caliber.guard.app import create_app

    make_server("127.0.0.1", port, create_app(), threaded=True).serve_forever()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    serve(int(sys.argv[1]))

"""One registered model on one server, what an attempt heard, and what became of the model."""

from __future__ import annotations

import hashlib
import http.client
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from requests.auth import _basic_auth_str

from registry_servers import ADMIN, PASSWORD

from ._site import BAD, GOOD, MALLORY, UNKNOWN, Site


@dataclass(frozen=True)
class Answer:
    """What a server said: to a request of our own, or to one of MLflow's client."""

    status: int
    text: str
    body: Any
    kind: str = "application/json"

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.body.get("error_code", "")) if isinstance(self.body, dict) else ""

    @property
    def message(self) -> str:
        """The sentence of an error."""
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else ""


@dataclass
class Target:
    """A registered model of its own: version 1 passes and is champion, 2 fails, 3 was never evaluated."""

    site: Site
    name: str
    answers: list[Answer] = field(default_factory=list)
    keep: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def on(cls, site: Site) -> Target:
        target = cls(site, f"risk-{next(site.counter)}")
        site.client.create_registered_model(target.name)
        for version in (GOOD, BAD, UNKNOWN):
            target.register(site.sources[version])
        site.client.set_registered_model_alias(target.name, "champion", GOOD)
        return target

    @property
    def client(self) -> MlflowClient:
        """MLflow's own client."""
        return self.site.client

    def register(self, source: str, name: str | None = None, run_id: str | None = None, **more: Any) -> str:
        """A further version; its number."""
        run_id = run_id or self.site.run_id
        made = self.client.create_model_version(name or self.name, source, run_id=run_id, await_creation_for=0, **more)
        return str(made.version)

    def fresh(self, *, good: bool = True, signed: bool = True, **fields: Any) -> tuple[Path, str, str]:
        """A further version with files and evidence of its own: the folder, its number, the run of the evidence."""
        folder = self.site.model()
        run_id = self.site.evaluate(folder, good=good, signed=signed, **fields)
        return folder, self.register(self.site.upload(folder)), run_id

    # --- attacking ---

    def post(self, path: str, body: Any = None, *, method: str = "POST", user: str = MALLORY, **more: Any) -> Answer:
        """A request to a path of the server; what it said is kept."""
        given = {"data": more.pop("data")} if "data" in more else {"json": body}
        answer = requests.request(method, self.site.uri + path, auth=(user, PASSWORD), timeout=120, **given, **more)
        return self._keep(answer.status_code, answer.text, answer.headers.get("Content-Type", ""))

    def call(self, path: str, *, user: str = MALLORY, **body: Any) -> Answer:
        """A request about this model in the usual form: ``registered-models/alias`` or ``caliber/promote``."""
        prefix = "" if path.startswith("caliber/") else "mlflow/"
        return self.post(f"/api/2.0/{prefix}{path}", {"name": self.name, **body}, user=user)

    def alias(self, version: str = BAD, alias: str = "champion", **more: Any) -> Answer:
        """Ask for an alias in the usual form."""
        return self.call("registered-models/alias", alias=alias, version=version, **more)

    def raw(self, line: str, body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> Answer:
        """A request whose line nobody tidies up."""
        at = urlsplit(self.site.uri)
        given = {"Content-Type": "application/json", "Authorization": _basic_auth_str(MALLORY, PASSWORD)}
        with closing(http.client.HTTPConnection(str(at.hostname), at.port, timeout=120)) as connection:
            connection.request(method, at.path + line if line.startswith("/") else line, body, given | (headers or {}))
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            if response.status in (301, 307, 308):
                return self.raw(
                    urlsplit(str(response.getheader("Location")))._replace(scheme="", netloc="").geturl(),
                    body,
                    headers,
                    method,
                )
            return self._keep(response.status, text, response.getheader("Content-Type", ""))

    def attempt(self, act: Callable[[MlflowClient], Any]) -> Any:
        """Do something with MLflow's client; an error of the server is kept."""
        try:
            return act(self.client)
        except RestException as error:
            self.answers.append(Answer(error.get_http_status_code(), str(error), error.json))
        except MlflowException as error:
            self.answers.append(Answer(500, str(error), None, "not JSON"))
        return None

    def _keep(self, status: int, text: str, kind: str) -> Answer:
        try:
            body = requests.models.complexjson.loads(text)
        except ValueError:
            body = None
        self.answers.append(Answer(status, text, body, kind))
        return self.answers[-1]

    # --- judging ---

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What stands in the registry's database."""
        path = self.site.server.database.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            return connection.execute(statement, values).fetchall()

    def holder(self, alias: str = "champion", name: str | None = None) -> str | None:
        """The version that an alias points to, as the database and a new request say alike."""
        name = name or self.name
        rows = self.query("select version from registered_model_aliases where name = ? and alias = ?", name, alias)
        found = str(rows[0][0]) if rows else None
        said = self._get("registered-models/alias", name=name, alias=alias)
        assert (None if said is None else said["version"]) == found, (said, found)
        return found

    def in_stage(self, version: str, stage: str = "Production", name: str | None = None) -> bool:
        """Whether a version is in a stage, as the database and a new request say alike."""
        name = name or self.name
        rows = self.query("select current_stage from model_versions where name = ? and version = ?", name, version)
        said = self._get("model-versions/get", name=name, version=version)
        assert (None if said is None else said["current_stage"]) == (rows[0][0] if rows else None)
        return bool(said is not None and said["current_stage"] == stage)

    def _get(self, path: str, **query: str) -> dict[str, Any] | None:
        """A version; None if there is none."""
        url = f"{self.site.uri}/api/2.0/mlflow/{path}"
        body = requests.get(url, params=query, auth=(ADMIN, PASSWORD), timeout=60).json()
        assert "model_version" in body or body["error_code"] in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
        found: dict[str, Any] | None = body.get("model_version")
        return found

    def tags(self, version: str, name: str | None = None) -> dict[str, str]:
        """The tags of a version, as the database and a fresh client say alike."""
        name = name or self.name
        rows = self.query("select key, value from model_version_tags where name = ? and version = ?", name, version)
        said = dict(MlflowClient(self.site.uri, self.site.uri).get_model_version(name, version).tags)
        assert said == dict(rows)
        return said

    def model_tags(self, name: str | None = None) -> dict[str, str]:
        """The tags of a registered model."""
        return dict(self.query("select key, value from registered_model_tags where name = ?", name or self.name))

    def loads(self, which: str = "@champion", name: str | None = None) -> str | None:
        """The digest of every byte that ``models:/<name>@champion`` would load now; None if there is none."""
        mlflow.set_tracking_uri(self.site.uri)
        mlflow.set_registry_uri(self.site.uri)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                place = mlflow.artifacts.download_artifacts(f"models:/{name or self.name}{which}", dst_path=scratch)
            except (MlflowException, OSError):
                return None
            return whole(Path(place))


def whole(folder: Path) -> str:
    """A digest of all files of a folder, but the one that MLflow adds when it downloads."""
    return hashlib.sha256(b"".join(_contents(folder))).hexdigest()


def _contents(folder: Path) -> Iterator[bytes]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.relative_to(folder).as_posix() != "registered_model_meta":
            yield f"{path.relative_to(folder).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode()

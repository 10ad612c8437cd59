"""Servers to attack, each with three models: one that the policy lets pass, one that fails, one never evaluated."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient
from werkzeug.security import generate_password_hash

from mlflow_caliber._signing import Keyring
from registry_servers import ADMIN, PASSWORD, MlflowServer
from registry_world import World, make_rows

EVIDENCE_KEYS = "evaluator:" + "e" * 40
POLICY = """
gate:
  targets:
    champion:
      max_age_days: 30
      rules:
        - {metric: caliber_brier, max: 0.25}
    Production:
      rules:
        - {metric: caliber_brier, max: 0.25}
    signed:
      signed_evidence: true
      rules:
        - {metric: caliber_brier, max: 0.25}
        - {metric: caliber_brier, versus: signed, max_regression: 0.0}
    challenged:
      rules:
        - {metric: caliber_brier, max: 0.5}
        - {metric: caliber_brier, versus: challenged, max_regression: 0.0}
"""
WITH_PEOPLE = """    approved:
      approvals: {count: 2, not_author: true}
      rules:
        - {metric: caliber_brier, max: 0.25}
"""
# A worker that is still importing must not be taken for a dead one on a busy machine.
PATIENT = ("--uvicorn-opts", "--timeout-worker-healthcheck 300")
MALLORY, ERIN, NOOR, OLU = "mallory", "erin", "noor", "olu"  # the author, an editor, two approvers
GOOD, BAD, UNKNOWN = "1", "2", "3"  # the versions of every model that is attacked
ROWS = 300


def start(folder: Path, kind: str) -> MlflowServer:
    """A server of a kind, which may not answer yet."""
    policy = {"plain": None, "people": POLICY + WITH_PEOPLE}.get(kind, POLICY)
    return MlflowServer(
        folder,
        policy,
        auth=kind == "people",
        options=("--gunicorn-opts", "--timeout 300") if kind == "gunicorn" else PATIENT,
        prefix="/ml" if kind == "prefix" else "",
        environment={"MLFLOW_CALIBER_EVIDENCE_KEYS": EVIDENCE_KEYS},
    )


@dataclass
class Site:
    """A running server, and what every attempt on it shares."""

    kind: str
    server: MlflowServer
    scratch: Path
    counter: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.server.wait(400)
        self.uri = self.server.uri
        if self.kind == "people":
            for name in (MALLORY, ERIN, NOOR, OLU):
                self.ask("users/create", {"username": name, "password": PASSWORD}, user=ADMIN).raise_for_status()
            self._hash_cheaply()
        self.client = MlflowClient(self.uri, self.uri)
        self.scratch.mkdir(parents=True)
        self.experiment = self.client.create_experiment("attempts")
        self.world = World(self.scratch, self.client, self.experiment)
        self.run_id = self.client.create_run(self.experiment).info.run_id
        self.root = self.client.get_run(self.run_id).info.artifact_uri
        self.folders = {GOOD: self.model(), BAD: self.model(), UNKNOWN: self.model()}
        self.sources = {version: self.upload(folder) for version, folder in self.folders.items()}
        self.evidence = {GOOD: self.evaluate(self.folders[GOOD]), BAD: self.evaluate(self.folders[BAD], good=False)}

    def _hash_cheaply(self) -> None:
        """Each request is authenticated anew: with MLflow's usual hash that is most of what these tests would do."""
        cheap = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1")
        with closing(sqlite3.connect(self.server.folder / "auth.db", timeout=30)) as connection:
            connection.execute("update users set password_hash = ?", (cheap,))
            connection.commit()

    @property
    def guarded(self) -> bool:
        """Whether an attempt has to fail here."""
        return self.kind != "plain"

    def ask(self, path: str, body: Any, *, user: str = MALLORY, method: str = "POST") -> requests.Response:
        """A request in the usual form."""
        url = f"{self.uri}/api/2.0/mlflow/{path}"
        return requests.request(method, url, json=body, auth=(user, PASSWORD), timeout=120)

    def model(self, content: str = "weights") -> Path:
        """A folder with a model that nobody else has."""
        return Path(self.world.model(f"{content} {self.kind} "))

    def upload(self, folder: Path, place: str | None = None, run_id: str | None = None) -> str:
        """Put a model into the artifacts of a run; its address."""
        place = place or folder.name
        self.client.log_artifacts(run_id or self.run_id, str(folder), place)
        return f"{self.client.get_run(run_id or self.run_id).info.artifact_uri}/{place}"

    def evaluate(self, folder: Path, *, good: bool = True, rows: Any = None, signed: bool = True, **fields: Any) -> str:
        """Evidence of a trusted evaluator on a model; its run."""
        run_id = str(self.world.evaluate(folder, scores(good=good) if rows is None else rows, **fields))
        if signed:
            self.sign(run_id, Keyring.parse(EVIDENCE_KEYS))
        return run_id

    def sign(self, run_id: str, keys: Keyring, *, content: bytes | None = None, purpose: str = "evidence") -> None:
        """Put a signature beside the report of a run."""
        report = (self.scratch / run_id / "report.json").read_bytes() if content is None else content
        self.put(run_id, "report.sig", keys.sign(purpose, report).encode())

    def put(self, run_id: str, name: str, content: bytes) -> None:
        """Write a file of the evidence in a run."""
        path = self.scratch / f"put-{next(self.counter)}" / name
        path.parent.mkdir()
        path.write_bytes(content)
        self.client.log_artifact(run_id, str(path), "caliber")

    def report(self, run_id: str) -> bytes:
        """The report of a run as its evaluator wrote it."""
        return (self.scratch / run_id / "report.json").read_bytes()

    def rows(self, run_id: str) -> bytes:
        """The rows of a run as its evaluator wrote them."""
        return (self.scratch / run_id / "rows.parquet").read_bytes()


def scores(*, good: bool, seed: int = 0) -> Any:
    """What a model said of some rows; one of the two kinds is much too sure."""
    return make_rows(ROWS, temperature=1.0 if good else 0.05, seed=seed)

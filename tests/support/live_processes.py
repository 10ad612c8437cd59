"""Real processes of the live loop, to be killed: a server with two workers, a learner, a database; and traffic."""

from __future__ import annotations

import heapq
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mlflow_caliber.exceptions import StoreError
from mlflow_caliber.store import Outcome, open_store

BINARIES = Path(sys.executable).parent
OUTCOMES = {True: "yes", False: "no"}


def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """How long it took until the condition held."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.05)
    return time.monotonic() - start


def children(pid: int) -> list[int]:
    """Linux says who they are."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended
        return []


class Process:
    """A process in a group of its own, with its output in a file."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self.log = log
        path = f"{BINARIES}{os.pathsep}{os.environ['PATH']}"
        with log.open("a") as out:
            self.process = subprocess.Popen(
                command, env={**os.environ, "PATH": path, **environment}, stdout=out, stderr=out, start_new_session=True
            )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Server(Process):
    """``mlflow models serve`` with some workers."""

    def __init__(self, model_uri: str, log: Path, environment: dict[str, str], workers: int = 2) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [str(BINARIES / "mlflow"), "models", "serve", "-m", model_uri, "-p", str(self.port)]
        super().__init__([*command, "-w", str(workers), "--env-manager", "local"], log, environment)

    def wait(self, seconds: float = 120.0) -> None:
        until(self._answers, seconds, f"the server starts ({self.log})")

    def serving(self) -> list[int]:
        """The processes that answer requests."""
        below = children(self.process.pid)
        found = []
        while below:
            pid = below.pop()
            below += children(pid)
            command = Path(f"/proc/{pid}/cmdline").read_bytes() if Path(f"/proc/{pid}").exists() else b""
            if b"spawn_main" in command:
                found.append(pid)
        return found

    def ask(self, rows: list[list[object]], columns: list[str]) -> list[dict[str, object]]:
        body = json.dumps({"dataframe_split": {"columns": columns, "data": rows}}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)["predictions"]

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False


def worker(store_uri: str, log: Path) -> Process:
    """``mlflow-caliber worker``, eager to publish and quick to take over."""
    pace = ["--every-outcomes", "100", "--every-seconds", "2", "--lease-seconds", "3"]
    return Process([str(BINARIES / "mlflow-caliber"), "worker", "--store", store_uri, *pace], log, {})


class Traffic:
    """Requests one after another, and for each row an outcome after a random time; what was acknowledged is kept."""

    def __init__(self, server: Server, store_uri: str, model: str, *, rows: int, batch: int, seed: int = 0) -> None:
        self.predicted: dict[str, dict[str, object]] = {}
        self.told: dict[str, str] = {}
        self.errors = 0
        self._server, self._uri, self._model = server, store_uri, model
        self._rows, self._batch = rows, batch
        self._rng = np.random.default_rng(seed)
        self._delays = random.Random(seed)
        self._due: list[tuple[float, str, str]] = []
        self._turn = threading.Lock()
        self._asked = threading.Event()
        self._threads = [threading.Thread(target=part, daemon=True) for part in (self._ask, self._tell)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        for thread in self._threads:
            thread.join(seconds)
            assert not thread.is_alive(), f"{len(self.predicted)} of {self._rows} predicted, {len(self.told)} told"

    def _ask(self) -> None:
        while len(self.predicted) < self._rows:
            age = self._rng.normal(40.0, 10.0, self._batch)
            region = self._rng.choice(["north", "south"], self._batch)
            happens = self._rng.random(self._batch) < 1.0 / (1.0 + np.exp(-0.05 * (age - 45.0)))
            try:
                rows = [list(row) for row in zip(age.tolist(), region.tolist(), strict=True)]
                answers = self._server.ask(rows, ["age", "region"])
            except (OSError, http.client.HTTPException):  # also an answer that breaks off in the middle
                self.errors += 1
                time.sleep(0.2)
                continue
            for answer, y in zip(answers, happens.tolist(), strict=True):
                self.predicted[str(answer["prediction_id"])] = answer
                delay = self._delays.expovariate(0.5)
                with self._turn:
                    heapq.heappush(self._due, (time.monotonic() + delay, str(answer["prediction_id"]), OUTCOMES[y]))
        self._asked.set()

    def _tell(self) -> None:
        stream, due = None, []
        while due or self._due or not self._asked.is_set():
            due = due or self._next()
            if not due:
                time.sleep(0.05)
                continue
            try:
                stream = stream or open_store(self._uri, create=False, timeout=5.0).stream(self._model, "1")
                receipt = stream.record_outcomes(
                    [Outcome(prediction_id=key, outcome=y, observed_at=time.time()) for _, key, y in due]
                )
            except StoreError:
                self.errors += 1
                stream = None
                time.sleep(0.2)
                continue
            assert not receipt.refused, receipt
            self.told.update({key: y for _, key, y in due})
            due = []

    def _next(self) -> list[tuple[float, str, str]]:
        now, due = time.monotonic(), []
        with self._turn:
            while self._due and self._due[0][0] <= now and len(due) < 500:
                due.append(heapq.heappop(self._due))
        return due

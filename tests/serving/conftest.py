"""Models behind MLflow's scoring server: two real ``mlflow models serve`` processes, the others in this process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

NUMBERS = ["age", "income"]
POLICY = {"threshold": 0.6, "segment_thresholds": {"south": 0.95}}


def _refuse(token):
    raise AssertionError(f"The answer holds {token}, which is not JSON.")


@dataclass
class Answer:
    status: int
    text: str

    @property
    def body(self):
        return json.loads(self.text, parse_constant=_refuse)

    @property
    def predictions(self):
        assert self.status == 200, self.text
        return self.body["predictions"]


class RealServer:
    """A ``mlflow models serve`` process in a group of its own."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        binaries = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
        command = [binaries / "mlflow", "models", "serve", "-m", folder, "-p", str(self.port), "--env-manager", "local"]
        self.log = Path(f"{folder}.log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def wait(self, seconds=120):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5).status
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"The server did not start:\n{self.log.read_text()[-2000:]}")

    def post(self, content, content_type="application/json"):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/invocations", content.encode(), {"Content-Type": content_type}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, response.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode())

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)


class LocalServer:
    """What such a server does with a request, without the process: anything but MLflow's own errors is raised."""

    def __init__(self, folder):
        import mlflow.pyfunc

        self.model = mlflow.pyfunc.load_model(str(folder))

    def post(self, content, content_type="application/json"):
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc.scoring_server import invocations

        schema = self.model.metadata.get_input_schema()
        try:
            response = invocations(content.encode(), content_type, self.model, schema)
        except MlflowException as error:
            return Answer(error.get_http_status_code(), error.serialize_as_json())
        return Answer(response.status, response.response)


def make_rows(n, seed):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "age": rng.normal(40.0, 10.0, n),
            "income": rng.lognormal(1.0, 0.5, n),
            "job": rng.choice(["clerk", "smith"], n),
            "region": rng.choice(["north", "south"], n),
        }
    )
    p = 1.0 / (1.0 + np.exp(-0.1 * (X["age"] - 40.0) - (X["job"] == "smith")))
    return X, np.where(rng.random(n) < p, "repaid", "defaulted")


@pytest.fixture(scope="session")
def rows():
    """Six rows to predict: three from either region."""
    X, _ = make_rows(100, 2)
    return X.sort_values("region", kind="stable").iloc[[0, 1, 2, 97, 98, 99]].reset_index(drop=True)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Saved models: a base that refuses missing values, one that takes them, and three with a broken file."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    import mlflow_caliber as caliber

    folder = tmp_path_factory.mktemp("served")
    (X0, y0), (X1, y1) = make_rows(300, 0), make_rows(300, 1)
    encoder = ColumnTransformer([("n", "passthrough", NUMBERS), ("c", OneHotEncoder(), ["job"])])
    strict = make_pipeline(encoder, LogisticRegression(max_iter=1000)).fit(X0, y0)
    tolerant = HistGradientBoostingClassifier(max_iter=5).fit(X0[NUMBERS], y0)
    shared = {"calibrator": "isotonic", "segment_column": "region"}
    for name, on_error in (("strict", "abstain"), ("raw", "raw")):
        policy = caliber.AbstainPolicy(**POLICY, on_calibrator_error=on_error)
        caliber.save_model(strict, str(folder / name), calibration_data=(X1, y1), policy=policy, **shared)
    caliber.save_model(tolerant, str(folder / "tolerant"), calibration_data=(X1[NUMBERS], y1))
    for name, source, state in (
        ("broken_calibrator_abstain", "strict", "calibrator"),
        ("broken_calibrator_raw", "raw", "calibrator"),
        ("broken_policy", "strict", "policy"),
        ("broken_reference", "strict", "reference"),
    ):
        shutil.copytree(folder / source, folder / name)
        file = folder / name / "caliber" / f"{state}.json"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return folder


@pytest.fixture(scope="session")
def local(folders):
    """In-process servers by name, each started once."""
    started = {}

    def get(name):
        if name not in started:
            started[name] = LocalServer(folders / name)
        return started[name]

    return get


@pytest.fixture(scope="module")
def real(folders):
    """The two real servers, started together and always stopped."""
    servers = {}
    try:
        for name in ("strict", "broken_calibrator_abstain"):
            servers[name] = RealServer(folders / name)
        for server in servers.values():
            assert server.wait() == 200
        yield servers
    finally:
        for server in servers.values():
            server.stop()

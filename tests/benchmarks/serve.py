"""HTTP latency of a served caliber model against its own base, served as plain ``mlflow.sklearn`` with a signature.

Both servers run at the same time and are asked in turn, so that whatever else the machine does hits both. Printed are
medians and the median of the pairwise ratios. With ``--live`` the same caliber model is asked twice: alone, and with
its predictions recorded in an SQLite store and a revision of its calibrator served.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

import mlflow_caliber as caliber
from mlflow_caliber.online import HedgedRecalibrator
from mlflow_caliber.store import NewRevision, open_store

BASES = {"LogisticRegression": LogisticRegression(), "HistGradientBoosting": HistGradientBoostingClassifier()}
TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=600, help="pairs of requests of one row; a third for 1000 rows")
    parser.add_argument("--live", action="store_true", help="what recording and following revisions cost")
    options = parser.parse_args()
    if options.live:
        compare_live(options.features, options.pairs)
        return
    print("| base | rows | base, ms | caliber, ms | ratio of medians | median of ratios |\n|---|---|---|---|---|---|")
    for name, base in BASES.items():
        with tempfile.TemporaryDirectory() as folder:
            X = save_both(base, Path(folder), options.features)
            with served(f"{folder}/plain") as plain, served(f"{folder}/caliber") as ours:
                for n_rows, pairs in ((1, options.pairs), (1000, options.pairs // 3)):
                    report(name, n_rows, measure(plain, ours, X[:n_rows], pairs))


def compare_live(features: int, pairs: int) -> None:
    print("| base | rows | alone, ms | live, ms | ratio of medians | median of ratios |\n|---|---|---|---|---|---|")
    for name, base in BASES.items():
        with tempfile.TemporaryDirectory() as folder:
            X = save_both(base, Path(folder), features)
            uri = f"sqlite:///{folder}/caliber.db"
            place = {"MLFLOW_CALIBER_STORE_URI": uri, "MLFLOW_CALIBER_SPOOL_DIR": f"{folder}/spool"}
            with served(f"{folder}/caliber") as alone, served(f"{folder}/caliber", place) as live:
                publish(uri, live, json.dumps({"dataframe_split": X[:1].to_dict(orient="split")}))
                for n_rows, n_pairs in ((1, pairs), (1000, pairs // 3)):
                    report(name, n_rows, measure(alone, live, X[:n_rows], n_pairs))


def publish(uri: str, port: int, body: str) -> None:
    """A revision, and the server answering with it."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    ask(connection, body)
    store = open_store(uri)
    while not store.streams():
        time.sleep(0.2)
    (stream,) = store.streams()
    lease = stream.lease("benchmark", 60.0)
    assert lease is not None
    snapshot = HedgedRecalibrator().snapshot().to_dict()
    revision = lease.checkpoint(0, b"", NewRevision(revision="benchmark", map=snapshot, n_learned=0))
    assert revision is not None
    while not any(replica.revision == "benchmark" for replica in stream.replicas()):
        time.sleep(0.2)
    store.close()


def save_both(base: object, folder: Path, n_features: int) -> pd.DataFrame:
    X, y = make_classification(4000, n_features, random_state=0)
    X = pd.DataFrame(X, columns=[f"feature_{i}" for i in range(n_features)])
    base.fit(X[:2000], y[:2000])
    mlflow.sklearn.save_model(
        base,
        str(folder / "plain"),
        signature=infer_signature(X, base.predict(X)),
        pip_requirements=[],
        skops_trusted_types=TRUSTED,
    )
    policy = caliber.AbstainPolicy(threshold=0.8)
    caliber.save_model(base, str(folder / "caliber"), calibration_data=(X[2000:], y[2000:]), policy=policy)
    return X


def measure(plain: int, ours: int, X: pd.DataFrame, pairs: int) -> list[tuple[float, float]]:
    body = json.dumps({"dataframe_split": X.to_dict(orient="split")})
    connections = [http.client.HTTPConnection("127.0.0.1", port) for port in (plain, ours)]
    for connection in connections:
        for _ in range(20):
            ask(connection, body)
    times = []
    for i in range(pairs):
        order = (0, 1) if i % 2 else (1, 0)
        took = {which: ask(connections[which], body) for which in order}
        times.append((took[0], took[1]))
    return times


def ask(connection: http.client.HTTPConnection, body: str) -> float:
    start = time.perf_counter()
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    took = time.perf_counter() - start
    assert response.status == 200, answer[:500]
    return took


def report(name: str, n_rows: int, times: list[tuple[float, float]]) -> None:
    base, ours = (statistics.median(column) * 1000 for column in zip(*times, strict=True))
    paired = statistics.median(b / a for a, b in times)
    print(f"| {name} | {n_rows} | {base:.2f} | {ours:.2f} | {ours / base:.2f} | {paired:.2f} |", flush=True)


@contextlib.contextmanager
def served(model: str, place: Mapping[str, str] | None = None) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **(place or {})}
    server = subprocess.Popen(
        ["mlflow", "models", "serve", "-m", model, "-p", str(port), "--env-manager", "local"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(400):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.25)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


if __name__ == "__main__":
    main()

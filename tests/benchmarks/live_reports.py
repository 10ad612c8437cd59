"""What the reports of the service cost, by the number of labelled rows: over HTTP, while rows come in.

Run ``python tests/benchmarks/live_reports.py 10000 100000 1000000``. The store is filled directly, a month of rows, of
which a tenth is withheld.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.request

import numpy as np
import uvicorn

from mlflow_caliber.live import Reports
from mlflow_caliber.server import ServerSettings, create_app
from mlflow_caliber.store import Outcome, Prediction, open_store

DAYS, DAY = 30, 86_400.0
PLACE = "/api/v1/models/churn/versions/1"


def fill(path, n):
    """Write n predictions of the last days, and their outcomes, as the store would have."""
    uri = f"sqlite:///{path}"
    with open_store(uri) as store:
        store.stream("churn", "1", classes=[0, 1])
    rng = np.random.default_rng(0)
    p, now = rng.beta(1.2, 2.0, n), time.time()
    y, held = rng.random(n) < p**1.1, rng.random(n) < 0.1
    at = now - DAYS * DAY + np.sort(rng.random(n)) * DAYS * DAY
    said, told = [], []
    for i in range(n):
        q, t, name = float(p[i]), float(at[i]), f"id{i}"
        answer = (str(int(q >= 0.5)), max(q, 1.0 - q), bool(held[i]), "", f"s{i % 20}", "r")
        said.append((1, 2 * i + 1, name, t, t, min(q * 1.05, 1.0), q, q**1.05, *answer))
        told.append((1, 2 * i + 2, name, str(int(y[i])), t, t, "review" if held[i] else "observed", True, False))
    with sqlite3.connect(path) as connection:
        names = (
            "stream_id, seq, prediction_id, predicted_at, recorded_at, raw_probability, base_probability, probability, "
            "prediction, confidence, abstained, reason, segment, calibrator_revision"
        )
        connection.executemany(f"INSERT INTO predictions ({names}) VALUES ({', '.join('?' * 14)})", said)
        names = "stream_id, seq, prediction_id, outcome, observed_at, recorded_at, source, known, correction"
        connection.executemany(f"INSERT INTO outcomes ({names}) VALUES ({', '.join('?' * 9)})", told)
        connection.execute("UPDATE streams SET next_seq = ?, last_recorded_at = ?", (2 * n + 1, now))
    connection.close()
    return uri


def served(app):
    """The address of the application, running in a thread, and a function that ends it."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def end():
        server.should_exit = True
        thread.join(30)

    return f"http://127.0.0.1:{port}", end


def sending(store, stop):
    """Record ten rows and their outcomes ten times a second."""
    stream, rng, k = store.stream("churn", "1"), np.random.default_rng(1), 0
    while not stop.wait(0.1):
        events = []
        for _ in range(10):
            q, k = float(rng.random()), k + 1
            scores = {"raw_probability": q, "base_probability": q, "probability": q}
            answer = {"prediction": int(q >= 0.5), "confidence": max(q, 1.0 - q)}
            events.append(Prediction(prediction_id=f"new{k}", predicted_at=time.time(), **scores, **answer))
            events.append(Outcome(prediction_id=f"new{k}", outcome=int(rng.random() < q), observed_at=time.time()))
        stream.record(events)


def timed(address, n):
    """Milliseconds of n requests, and the length of the last answer."""
    took = []
    for _ in range(n):
        start = time.perf_counter()
        with urllib.request.urlopen(address) as answer:
            body = answer.read()
        took.append((time.perf_counter() - start) * 1e3)
        time.sleep(0.11)  # so that something new has come
    return np.array(took), len(body)


def measured(n):
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        uri = fill(os.path.join(folder, "caliber.db"), n)
        store = open_store(uri)
        start = time.perf_counter()
        reports = Reports(store)
        while reports.turn():
            pass
        reports.save()
        built = time.perf_counter() - start
        nbytes = reports.summary(store.stream("churn", "1")).nbytes
        start = time.perf_counter()
        Reports(store).report(store.stream("churn", "1"))
        loaded = time.perf_counter() - start
        kept = sum(len(part) for part in store.stream("churn", "1").summary()[1].values())
        address, end = served(create_app(store, ServerSettings(store_uri=uri, anonymous=("view",))))
        stop = threading.Event()
        sender = threading.Thread(target=sending, args=(store, stop))
        sender.start()
        row = {
            "rows": n,
            "build_s": built,
            "memory_mb": nbytes / 1e6,
            "stored_mb": kept / 1e6,
            "restart_ms": loaded * 1e3,
        }
        for name, path, times in (
            ("quick", "/report", 40),
            ("quick_7d", "/report?window=7d", 20),
            ("full", "/report?detail=full", 3),
            ("overview", "", 20),
            ("timeline", "/timeline", 20),
            ("segments", "/segments", 20),
        ):
            timed(address + PLACE + path, 2)
            took, length = timed(address + PLACE + path, times)
            row[name] = f"{np.median(took):.1f} ms (p95 {np.quantile(took, 0.95):.1f}), {length / 1e3:.1f} kB"
        stop.set()
        sender.join()
        end()
        store.close()
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return row


if __name__ == "__main__":
    for rows in map(int, sys.argv[1:] or ["10000", "100000", "1000000"]):
        print(json.dumps(measured(rows), indent=1), flush=True)

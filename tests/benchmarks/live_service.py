"""Ingest and reports of the live service, beside the Caliber app if one is running: the same clients, the same bodies.

    python tests/benchmarks/live_service.py [--peer http://127.0.0.1:8000] [--rows 1000000] [--store URI]

The peer is asked for what both can do; ours is also asked for batches, and for reports of a large model. Rounds of the
two alternate, and medians are shown.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
import urllib.parse
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import numpy as np

from live_service import LiveService
from mlflow_caliber.store import Outcome, Prediction, open_store

ROUNDS, EVENTS, VIEWERS = 5, 400, 200
BASE = "/api/v1/models/large/versions/1"
BATCHES = "/api/v1/models/batches/versions/1"


class Place:
    """A service of either kind."""

    def __init__(self, name, url, token=None):
        self.name, self.url = name, url
        address = urllib.parse.urlsplit(url)
        self.host, self.port = address.hostname, address.port
        self.headers = {"Content-Type": "application/json"}
        if token is not None:
            self.headers["Authorization"] = f"Bearer {token}"
        self.number = self.post("/api/models", {"name": "bench", "version": uuid.uuid4().hex})["id"]

    def connection(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=120)

    def post(self, path, body):
        return send(self.connection(), "POST", path, json.dumps(body), self.headers)


def send(connection, method, path, body, headers):
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, (answer.status, text[:300])
    return json.loads(text)


def client(place, n):
    """Events one after the other over one connection."""
    connection = place.connection()
    for i in range(n):
        truth = "pos" if i % 4 else "neg"
        body = {
            "model_version_id": place.number,
            "sample_id": uuid.uuid4().hex,
            "predicted_label": "pos",
            "confidence": 0.75 + (i % 20) / 100,
            "uncertainty": 0.2,
            "ground_truth": truth if i % 2 else None,
        }
        send(connection, "POST", "/api/predictions", json.dumps(body), place.headers)


def rate(place, clients, n):
    """Events a second of so many clients, each a process of its own."""
    processes = [multiprocessing.Process(target=client, args=(place, n // clients)) for _ in range(clients)]
    start = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert all(process.exitcode == 0 for process in processes)
    return n / (time.perf_counter() - start)


def viewers(place, stop, ready):
    """Two hundred readers of the live stream, in a process of their own."""
    import asyncio

    import websockets

    async def one():
        told = {"Authorization": place.headers["Authorization"]} if "Authorization" in place.headers else {}
        async with websockets.connect(f"ws://{place.host}:{place.port}/ws/live", additional_headers=told) as socket:
            while True:
                await socket.recv()

    async def every():
        tasks = [asyncio.create_task(one()) for _ in range(VIEWERS)]
        await asyncio.sleep(3.0)
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(every())


def watched_rate(place, n):
    """The rate of one client while two hundred look on."""
    stop, ready = multiprocessing.Event(), multiprocessing.Event()
    crowd = multiprocessing.Process(target=viewers, args=(place, stop, ready))
    crowd.start()
    ready.wait(60)
    try:
        return rate(place, 1, n)
    finally:
        stop.set()
        crowd.join()


def batches(service, total, size=1_000):
    """Predictions with outcomes a second, in arrays."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=300)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {service.token}"}
    bodies = [
        json.dumps(
            [
                {"prediction_id": uuid.uuid4().hex, "probability": 0.8, "prediction": "yes", "outcome": "yes"}
                for _ in range(size)
            ]
        )
        for _ in range(total // size)
    ]
    start = time.perf_counter()
    for body in bodies:
        send(connection, "POST", f"{BATCHES}/predictions", body, headers)
    return total / (time.perf_counter() - start)


def fill(store, rows):
    """A model with so many labelled rows."""
    stream = store.stream("large", "1", classes=["no", "yes"])
    rng = np.random.default_rng(0)
    n = stream.log_end() // 2
    while n < rows:
        many = min(5_000, rows - n)
        p = rng.beta(2.0, 2.0, many)
        happened = rng.random(many) < p
        events = []
        for k, (each, y) in enumerate(zip(p.tolist(), happened.tolist(), strict=True)):
            said = Prediction(
                prediction_id=f"{n + k:012d}",
                predicted_at=None,
                raw_probability=each,
                base_probability=each,
                probability=each,
                prediction="yes" if each >= 0.5 else "no",
                confidence=max(each, 1.0 - each),
            )
            events += [said, Outcome(prediction_id=said.prediction_id, outcome="yes" if y else "no", observed_at=0.0)]
        store.record([(stream, events)])
        n += many


def reports(service, count=40):
    """Milliseconds of a report, each time after one more event, and the length of its body."""
    took, length = [], 0
    for _ in range(count):
        service.ask(f"{BASE}/predictions", {"probability": 0.7, "outcome": "yes"})
        start = time.perf_counter()
        answer = service.ask(f"{BASE}/report")
        took.append((time.perf_counter() - start) * 1_000)
        assert answer.status == 200, answer.text
        length = len(answer.text)
    return statistics.median(took), length


def beside(ours, peer):
    places = [ours] if peer is None else [peer, ours]
    measures = {
        "1 client": lambda place: rate(place, 1, EVENTS),
        "8 clients": lambda place: rate(place, 8, 2 * EVENTS),
        f"1 client, {VIEWERS} viewers": lambda place: watched_rate(place, EVENTS),
    }
    for name, measure in measures.items():
        found = {place.name: [] for place in places}
        for _ in range(ROUNDS):
            for place in places:
                found[place.name].append(measure(place))
        medians = {key: statistics.median(values) for key, values in found.items()}
        line = ", ".join(f"{key} {value:.0f}/s" for key, value in medians.items())
        if peer is not None:
            pairs = zip(found[ours.name], found[peer.name], strict=True)
            line += f"; ratio of medians {medians[ours.name] / medians[peer.name]:.2f}, of pairs "
            line += f"{statistics.median(a / b for a, b in pairs):.2f}"
        print(f"{name}: {line}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--store")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uri = asked.store or f"sqlite:///{folder}/caliber.db"
        with open_store(uri) as store:
            for name in ("large", "batches"):
                store.stream(name, "1", classes=["no", "yes"])
        with LiveService(uri, f"{folder}/log") as service:
            ours = Place("ours", service.url, service.token)
            beside(ours, Place("peer", asked.peer) if asked.peer else None)
            print(f"batches of 1000: {statistics.median(batches(service, 20_000) for _ in range(5)):.0f} rows/s")
            for rows in (10_000, 100_000, 1_000_000):
                if rows <= asked.rows:
                    with open_store(uri) as store:
                        fill(store, rows)
                    while json.loads(service.ask(f"{BASE}/report").text)["as_of"]["behind"]:
                        time.sleep(0.5)
                    took, length = reports(service)
                    print(f"report of {rows} labelled rows: {took:.1f} ms, {length} bytes", flush=True)


if __name__ == "__main__":
    main()

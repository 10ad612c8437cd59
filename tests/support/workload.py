"""A fixed amount of work, with everything in it that senders do wrong, and the account of what became of it."""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import requests

from mlflow_caliber.live import Reports
from mlflow_caliber.store import (
    Outcome,
    Prediction,
    open_store,
    outcome_from_message,
    prediction_from_message,
)

MODELS = (("churn", "1", ("no", "yes")), ("fraud", "2", ("fine", "fraud")))
SEGMENTS = (None, "north", "south", "east")
BAD = (
    {"kind": "prediction", "prediction_id": "bad", "probability": 7.3},
    {"kind": "prediction", "prediction_id": "bad", "probability": "NaN"},
    {"kind": "prediction", "prediction_id": "bad"},
    {"kind": "prediction", "prediction_id": "bad", "probability": 0.5, "colour": "red"},
    {"kind": "outcome", "prediction_id": "bad", "outcome": "banana"},
    {"kind": "outcome", "prediction_id": "bad"},
    {"kind": "banana"},
)


@dataclass
class Work:
    """Messages of one model version in the order in which they are sent, the good ones each once in :attr:`good`."""

    model: str
    version: str
    classes: tuple[str, str]
    messages: list[dict] = field(default_factory=list)
    good: list[dict] = field(default_factory=list)
    n_bad: int = 0
    n_twice: int = 0


def make_work(n_predictions, seed, *, bad=0.01, twice=0.05, late=0.85, corrected=0.02, window=400):
    """Work for all :data:`MODELS`: unordered, with duplicates, corrections and things that cannot be taken.

    Outcomes come before and after their predictions. A correction alone comes after what it corrects, as whoever
    corrects has been told of it.
    """
    return [
        _work(*model, n_predictions, seed + k, bad, twice, late, corrected, window) for k, model in enumerate(MODELS)
    ]


def _work(model, version, classes, n, seed, bad, twice, late, corrected, window):
    chance = np.random.default_rng(seed)
    work, placed = Work(model, version, classes), []
    p = np.round(chance.beta(0.8, 1.6, n), 3)
    happens = chance.random(n) < p**1.3
    for k in range(n):
        identity = f"{model}-{seed}-{k:07d}"
        said = {"kind": "prediction", "prediction_id": identity, "probability": float(p[k])}
        said |= {"predicted_at": 1.7e9 + k, "segment": SEGMENTS[k % 4], "features": {"age": k % 90}}
        if p[k] > 0.4 and p[k] < 0.6:
            said |= {"abstained": True, "reason": "low_confidence"}
        placed.append((k + chance.uniform(0, window), said))
        if chance.random() < late:
            told = {"kind": "outcome", "prediction_id": identity, "outcome": classes[int(happens[k])]}
            at = k + chance.uniform(0, 4 * window)
            placed.append((at, {**told, "observed_at": 1.7e9 + k + 60.0}))
            if chance.random() < corrected:
                other = {**told, "outcome": classes[1 - int(happens[k])], "observed_at": 1.7e9 + k + 3_600.0}
                placed.append((at + 4 * window, other))
    work.good = [message for _, message in sorted(placed, key=lambda each: each[0])]
    again = [(at + chance.uniform(1, 6 * window), said) for at, said in placed if chance.random() < twice]
    wrong = [(chance.uniform(0, n), {**BAD[k % len(BAD)]}) for k in range(int(bad * n)) if work.good]
    work.n_twice, work.n_bad = len(again), len(wrong)
    work.messages = [message for _, message in sorted(placed + again + wrong, key=lambda each: each[0])]
    return work


def lanes(messages, n):
    """The messages dealt to so many senders. Those about one prediction stay in their order, with one sender."""
    dealt = [[] for _ in range(n)]
    for message in messages:
        key = message.get("prediction_id", "")
        dealt[sum(key.encode()) % n].append(message)
    return dealt


class RestSender(threading.Thread):
    """Sends its lane in batches; each again until it is acknowledged.

    ``share()`` is how much of the lane may have been sent by now. Who is ahead sends what was sent before.
    """

    def __init__(self, server, work, messages, share, *, batch, seed):
        super().__init__(daemon=True)
        self._url = f"{server.url}/api/v1/models/{work.model}/versions/{work.version}/events"
        self._session = requests.Session()
        self._session.headers.update(
            {"Authorization": f"Bearer {server.token}", "Content-Type": "application/x-ndjson"}
        )
        self._messages, self._share, self._batch = messages, share, batch
        self._chance = random.Random(seed)
        self.n_acknowledged = self.n_refused = self.n_tries = self.n_batches = self.n_events = 0
        self.error = None

    def run(self):
        try:
            self._send_all()
        except BaseException as error:
            self.error = error
        self._session.close()

    def _send_all(self):
        sent = 0
        while sent < len(self._messages):
            size = self._chance.randint(1, 2 * self._batch)
            allowed = int(self._share() * len(self._messages))
            new = self._messages[sent : min(sent + size, allowed)]
            start = self._chance.randint(0, sent)
            batch = new or self._messages[start : min(start + size, sent)]
            if not batch:
                time.sleep(0.05)
                continue
            n_bad = sum(message.get("prediction_id", "bad") == "bad" for message in batch)
            answer = self._send(batch)
            assert (answer["lines"], answer["n_refused"]) == (len(batch), n_bad), answer
            self.n_batches += 1
            self.n_events += len(batch)
            sent += len(new)
            if new:
                self.n_refused += n_bad
                self.n_acknowledged += len(new) - n_bad

    def _send(self, batch):
        body = "\n".join(map(json.dumps, batch)).encode()
        end = time.monotonic() + 240
        while True:
            self.n_tries += 1
            try:
                answer = self._session.post(self._url, data=body, timeout=20)
                if answer.status_code == 200:
                    return answer.json()
                assert answer.status_code in {429, 502, 503, 504}, (answer.status_code, answer.text[:300])
            except requests.RequestException:
                assert time.monotonic() < end, "not acknowledged for four minutes"
            time.sleep(0.1)


def calm(works, folder):
    """The store of a run in which nothing went wrong: the good messages, each once, in their order."""
    store = open_store(f"sqlite:///{folder}/calm.db")
    for work in works:
        stream = store.stream(work.model, work.version, classes=work.classes)
        events = []
        for message in work.good:
            told = {key: value for key, value in message.items() if key != "kind"}
            read = prediction_from_message if message["kind"] == "prediction" else outcome_from_message
            events += read(told, stream, 0.0)
        for start in range(0, len(events), 5_000):
            receipt = stream.record(events[start : start + 5_000])
            assert not receipt.refused, receipt.refused[:3]
    return store


def account(works, store, folder):
    """That everything is stored exactly once, and every number is that of a calm run; the figures of it."""
    stored = 0
    # (A clock that was days ahead is told, and right so.)
    assert [fault for fault in store.faults() if "a clock was wrong" not in fault] == []
    with calm(works, folder) as reference:
        for work in works:
            stream, twin = (each.find_stream(work.model, work.version) for each in (store, reference))
            stored += _same_log(stream, twin)
            assert _numbers(store, stream) == _nearly(_numbers(reference, twin))
    return stored


def _same_log(stream, twin):
    """Each event once, with what it said. An outcome may have been told again after its correction, as it was sent."""
    said, told = _content(stream)
    expected_said, expected_told = _content(twin)
    assert len(said) == len(set(said)), "a prediction is stored twice"
    assert set(said) == set(expected_said)
    assert len(told) == len(set(told)), "an outcome is stored twice"
    assert set(told) == set(expected_told)
    return len(said) + len(told)


def _content(stream):
    said, told = [], []
    for entry in stream.log(limit=100_000_000):
        event = entry.event
        if isinstance(event, Prediction):
            values = (event.probability, event.raw_probability, event.prediction, event.confidence, event.abstained)
            features = json.dumps(event.features, sort_keys=True)
            said.append((event.prediction_id, event.predicted_at, *values, event.reason, event.segment, features))
        elif isinstance(event, Outcome):
            told.append((event.prediction_id, event.outcome, event.observed_at, event.source))
    return said, told


def _numbers(store, stream):
    """What the service would tell about the stream, but for the times at which it was recorded."""
    reports = Reports(store)
    while reports.turn():
        pass
    whole = reports.report(stream, "all", "all", "full")
    assert whole.pop("as_of")["behind"] == 0
    segments = sorted(reports.segments(stream, "all")["segments"], key=lambda each: str(each["segment"]))
    counts = stream.counts()
    return {
        "report": whole,
        "segments": segments,
        "counts": [counts.predictions, counts.outcomes, counts.unmatched, counts.unlabelled, counts.corrections],
    }


class _Near(float):
    """A number that equals whatever differs from it by rounding."""

    def __eq__(self, other):
        return isinstance(other, int | float) and math.isclose(float(self), float(other), rel_tol=1e-9, abs_tol=1e-9)

    __hash__ = None


def _nearly(value):
    if isinstance(value, dict):
        return {key: _nearly(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_nearly(each) for each in value]
    return _Near(value) if isinstance(value, float) else value


def keep_account(name, figures):
    """Say it, and keep it where CALIBER_ACCOUNTS names a folder; the table of docs/reliability.md is made of these."""
    text = json.dumps({"suite": name, **figures}, sort_keys=True)
    print(text)
    folder = os.environ.get("CALIBER_ACCOUNTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with Path(folder, f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(text + "\n")


__all__ = ["MODELS", "RestSender", "Work", "account", "calm", "keep_account", "lanes", "make_work"]

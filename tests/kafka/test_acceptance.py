"""Real processes, killed and joined by others: every event once, every dead letter once, and the batch's report."""

from __future__ import annotations

import random
import signal
import time

import numpy as np
import pytest

from kafka_broker import churn
from kafka_processes import Consumer
from live_processes import until
from mlflow_caliber.store import Prediction

EXACT = ("ece", "brier", "log_loss", "mcb", "dsc", "aurc", "e_aurc", "augrc", "accuracy", "roc_auc")


@pytest.fixture
def consumer(broker, topic, uri, tmp_path):
    """Starts one; all are ended with the test."""
    started = []

    def start(*options):
        started.append(Consumer(broker, topic, uri, tmp_path, f"consumer-{len(started)}", *options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end(signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_finishes_and_says_what_it_did(broker, topic, consumer, holds, done, how):
    broker.send(topic, [churn(kind="prediction", prediction_id=f"a{i}", probability=0.5) for i in range(50)])
    running = consumer()
    holds(50, 60)
    assert running.end(how) == 0
    tally = running.tally()
    assert (tally["messages"], tally["recorded"], tally["lag"]) == (50, 50, 0)
    done(50)


def made_up(n, seed=0):
    """Predictions, their outcomes somewhat later, and one in a hundred that is nothing; scores and outcomes."""
    chance = np.random.default_rng(seed)
    p = np.round(chance.uniform(0.0, 1.0, n), 3)
    y = chance.random(n) < p**1.2
    messages, waiting = [], []
    for i in range(n):
        key = f"id-{i}"
        said = churn(kind="prediction", prediction_id=key, predicted_at=1.7e9 + i, probability=float(p[i]))
        messages.append({"value": said, "key": key})
        happened = churn(
            kind="outcome", prediction_id=key, outcome="yes" if y[i] else "no", observed_at=1.7e9 + i + 60.0
        )
        waiting.append({"value": happened, "key": key})
        if i % 100 == 99:
            messages += waiting
            waiting = []
    for i in range(len(messages) // 99):
        messages.insert(100 * i + 50, {"value": b"poison %d" % i, "key": f"bad-{i}"})
    return messages, p, y


def check_accounts(broker, topic, stream, messages, p, y):
    """Everything is there once, and nothing else."""
    poison = [each["value"] for each in messages if each["value"].startswith(b"poison")]
    log = stream.log(limit=10_000_000)
    said = [entry.event.prediction_id for entry in log if isinstance(entry.event, Prediction)]
    assert len(log) == len(messages) - len(poison) == 2 * len(p)
    assert sorted(said) == sorted(f"id-{i}" for i in range(len(p)))
    counts = stream.counts()
    assert (counts.outcomes, counts.corrections, counts.unmatched, counts.refused) == (len(p), 0, 0, 0)
    letters = broker.read(f"{topic}.dead", len(poison), seconds=60)
    assert sorted(each.value() for each in letters) == sorted(poison)
    places = [(dict(each.headers())["caliber.partition"], dict(each.headers())["caliber.offset"]) for each in letters]
    assert len(set(places)) == len(places)
    assert len(letters) == len(poison)


def check_report(uri, stream, p, y):
    """The service's report is that of the rows as they were sent."""
    from live_service import API, service
    from mlflow_caliber.report import reliability_report

    expected = reliability_report(y.astype(int), p, raw=p)
    with service(uri) as client:
        until(
            lambda: client.get(f"{API}/models/churn/versions/1/report").json()["n"] == len(p), 60, "all rows are summed"
        )
        found = client.get(f"{API}/models/churn/versions/1/report").json()["metrics"]["served"]
    for key in EXACT:
        assert found[key] == pytest.approx(expected.metrics[key], abs=1e-9), key


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "strategy"), [(0, "range"), (1, "cooperative-sticky")])
def test_killed_five_times_and_rebalanced(broker, topic, consumer, uri, store, stream, done, seed, strategy):
    messages, p, y = made_up(99_000, seed)
    assert len(messages) == 200_000
    part = -(-len(messages) // 6)
    chance, start = random.Random(seed), time.monotonic()
    second, ends, killed = None, [], []
    shared = ("--lag-every", "1", "--property", f"partition.assignment.strategy={strategy}")
    for k in range(5):
        running = consumer(*shared)
        until(running.has_partitions, 60, "it begins")
        broker.send(topic, messages[k * part : (k + 1) * part])
        goal = stream.log_end() + chance.randrange(1_000, part // 2)
        until(lambda goal=goal: stream.log_end() >= goal, 120, "it goes on")
        if k == 1:
            second = consumer(*shared)
            until(second.has_partitions, 60, "a second one joins")
        if k == 2:  # it does not know that its partitions go to others meanwhile
            second.process.send_signal(signal.SIGSTOP)
            time.sleep(3.0)
            second.process.send_signal(signal.SIGCONT)
        if k == 3:
            ends.append(second.end(signal.SIGTERM))
        time.sleep(chance.uniform(0.0, 0.4))
        running.end(signal.SIGKILL)
        killed.append(running.last_word())
    last = consumer(*shared)
    broker.send(topic, messages[5 * part :])
    done(len(messages), seconds=300)
    ends.append(last.end(signal.SIGTERM))
    assert ends == [0, 0]
    tallies = [each.tally() for each in (second, last)]
    print(f"{time.monotonic() - start:.1f} s", *killed, *tallies, sep="\n")
    check_accounts(broker, topic, stream, messages, p, y)
    check_report(uri, stream, p, y)

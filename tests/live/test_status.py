"""The page of a live model, and its exit code."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from live_streams import DAY, Clock, fill, learn, said
from mlflow_caliber.cli import main
from mlflow_caliber.store import open_store


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def clock():
    return Clock(time.time() - 3 * DAY)


def live(uri, clock, n=600, **given):
    with open_store(uri, clock=clock) as store:
        stream = store.stream("credit", "3", classes=[0, 1])
        fill(stream, clock, n, days=2.5, **given)
        clock.now = time.time()
        learn(store, every_outcomes=50)
        stream.report_replica("host:1", stream.current().revision if stream.current() else "", 0, "")


def test_a_page_for_a_person(uri, clock):
    live(uri, clock)
    result = run("status", "--store", uri)
    assert result.exit_code == 0, result.output
    lines = {line.strip().split("  ")[0]: line for line in result.stdout.splitlines()}
    assert "revision 1 (" in lines["served"]
    assert "600 outcomes, published" in lines["served"]
    assert "600; 0 predictions wait, 0 late, 0 expired, 0 corrected" in lines["outcomes learned"]
    assert "nats," in lines["against the shipped"]
    assert "600 of 600 predictions, median delay 1.0 h" in lines["outcomes in the window"]
    assert lines["ece"].count(" to ") == 2
    assert {"brier", "log_loss", "host:1"} <= set(lines)
    assert "Nothing to do" in result.stdout
    assert "open alarms: none" in result.stdout


def test_an_open_critical_alarm_is_an_exit_code(uri, clock):
    live(uri, clock)
    with open_store(uri) as store:
        store.streams()[0].raise_alarm("drift", "score:1", "warning", "Drifted.", {})
    assert run("status", "--store", uri).exit_code == 0
    with open_store(uri) as store:
        store.streams()[0].raise_alarm("harm", "served", "critical", "It cost\ntoo much.", {"excess": 11.0})
    result = run("status", "--store", uri, "--model", "credit", "--version", 3)
    assert result.exit_code == 1
    assert "CRITICAL harm (served), since" in result.stdout
    assert "      It cost too much." in result.stdout


def test_json(uri, clock):
    live(uri, clock)
    result = run("status", "--store", uri, "--days", 1, "--json")
    value = json.loads(result.stdout)
    [stream] = value["streams"]
    assert (value["critical"], stream["alarms"]) == (False, [])
    assert stream["window"]["maturity"]["predictions"] < 600
    assert stream["learning"]["learned"] == 600
    assert stream["replicas"][0]["name"] == "host:1"


def test_it_only_reads(uri, clock, tmp_path):
    with open_store(uri, clock=clock) as store:
        stream = store.stream("credit", "3", classes=[0, 1])
        stream.report_replica("host:1", "", 9, "The store does not answer: <away>.")
        stream.record([said("a", 0.4, clock.now)])
    before = {file.name for file in tmp_path.iterdir()}
    result = run("status", "--store", uri)
    assert result.exit_code == 0
    assert "9 dropped; The store does not answer" in result.stdout
    assert "SILENT" in result.stdout
    assert "nobody has learned from this stream" in result.stdout
    assert "There is no report" in result.stdout
    with open_store(uri) as store:
        assert store.streams()[0].open_alarms() == ()
    assert {file.name for file in tmp_path.iterdir()} == before


def test_what_is_not_there(uri, tmp_path):
    assert run("status", "--store", uri).exit_code == 2  # no store is made
    assert list(tmp_path.iterdir()) == []
    with open_store(uri) as store:
        assert run("status", "--store", uri).stdout == "The store holds no stream.\n"
        store.stream("credit", "3")
    result = run("status", "--store", uri, "--model", "churn", "--version", 1)
    assert result.exit_code == 2
    assert "The store must hold churn version 1, it holds credit/3." in result.stderr
    assert run("status").exit_code == 2


def test_the_worker_watches(uri, clock, tmp_path):
    with open_store(uri, clock=clock) as store:
        stream = store.stream("credit", "3", classes=[0, 1])
        clock.now = time.time()
        stream.report_replica("host:1", "", 9, "")
    result = run("worker", "--store", uri, "--once")
    assert result.exit_code == 0, result.output
    with open_store(uri) as store:
        [alarm] = store.streams()[0].open_alarms()
    assert (alarm.kind, alarm.notified_at is None) == ("dropped", False)
    config = tmp_path / "caliber.yaml"
    config.write_text("live: {alerts: {webhook: {url: 'https://example.org', secret_env: CALIBER_NO_SUCH}}}")
    result = run("worker", "--store", uri, "--once", "--config", config)
    assert result.exit_code == 2
    assert "the environment variable CALIBER_NO_SUCH, which must be set and is not" in result.stderr

"""The report routes: what they answer is what they promise, and acts are kept in the audit trail."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from live_service import service, token_for
from mlflow_caliber.server import _lineage
from mlflow_caliber.server._lineage import Lineage
from mlflow_caliber.server.routes.reports import ReportOut
from mlflow_caliber.store import StreamSettings
from summed_streams import happened, said

AT = "/api/v1/models/churn/versions/1"


@pytest.fixture
def client():
    with service() as client:
        stream = client.store.stream("churn", "1", classes=[0, 1])
        stream.record([said(f"id{k}", k / 50, segment="eu") for k in range(50)])
        stream.record([happened(f"id{k}", k % 3 == 0) for k in range(50)])
        yield client


@pytest.mark.parametrize("detail", ["quick", "full"])
def test_a_report_is_what_it_promises(client, detail):
    answer = client.get(f"{AT}/report", params={"detail": detail})
    assert answer.status_code == 200
    assert len(answer.content) < 50_000
    told = ReportOut.model_validate_json(answer.content)
    assert (told.n, told.as_of.seq, told.detail) == (50, 100, detail)


@pytest.mark.parametrize(
    "path", ["", "/timeline", "/segments", "/drift", "/diagnosis", "/alarms", "/revisions", "/lineage"]
)
def test_every_address_answers_and_hides_what_is_not_the_callers(client, path):
    assert client.get(AT + path).status_code == 200
    foreign = token_for(client.store, models=["other"])
    assert client.get(AT + path, headers=foreign).status_code == 404
    assert client.get("/api/v1/models", headers=foreign).json() == {"models": []}


def test_a_version_without_outcomes_has_a_report(client):
    client.store.stream("churn", "2")
    told = client.get("/api/v1/models/churn/versions/2/report").json()
    assert (told["n"], told["metrics"]["shipped"], told["reliability"]) == (0, None, {"served": [], "shipped": []})


def test_a_window_that_there_is_not_is_a_sentence(client):
    answer = client.get(f"{AT}/report?window=2d")
    assert answer.status_code == 422
    assert "got '2d'" in answer.json()["detail"]


def test_alarms_and_pins_leave_a_trail(client):
    stream = client.store.stream("churn", "1")
    alarm = stream.raise_alarm("drift", "age", "warning", "Drifted.", {})
    assert client.post(f"{AT}/alarms/{alarm.id}/resolve").json()["resolved_at"] is not None
    assert client.post(f"{AT}/revisions/0/pin").json()["pinned"]
    assert not client.post(f"{AT}/revisions/unpin").json()["pinned"]
    trail = [(entry.actor, entry.action) for entry in client.store.audit_trail(3)]
    assert trail == [("root", "unpin"), ("root", "pin"), ("root", "resolve_alarm")]
    assert client.post(f"{AT}/alarms/999/resolve").status_code == 404
    assert client.post(f"{AT}/revisions/999/pin").status_code == 404
    viewer = token_for(client.store)
    assert client.post(f"{AT}/revisions/0/pin", headers=viewer).status_code == 403


def test_lineage_without_a_registry_is_the_streams_own(client):
    client.store.stream("churn", "2").change_settings(StreamSettings(parent_version="1", stage="shadow"), "mia")
    nodes = client.get(f"{AT}/lineage").json()["nodes"]
    assert [(n["version"], n["parent_version"], n["stage"], n["here"]) for n in nodes] == [
        ("1", None, "", True),
        ("2", "1", "shadow", False),
    ]


def test_the_registry_tells_who_was_made_from_whom(client):
    from mlflow import MlflowClient

    registry = MlflowClient()
    registry.create_registered_model("churn")
    for tags in ({}, {"caliber_parent_version": "1", "caliber_gate_status": "approved"}):
        registry.create_model_version("churn", "file:///nowhere", tags=tags)
    registry.set_registered_model_alias("churn", "champion", "2")
    lineage = Lineage(client.store, registry)
    wanted = [("1", None, [], None, True), ("2", "1", ["champion"], "approved", False)]
    for _ in range(100):  # the first look of a process at a registry may take longer than anybody waits
        found = lineage.of(client.store.stream("churn", "1"))
        if not found["note"]:
            break
        time.sleep(0.1)
    names = ("version", "parent_version", "aliases", "gate_status", "here")
    assert [tuple(node[name] for name in names) for node in found["nodes"]] == wanted
    assert all(node["created_at"] > 0.0 for node in found["nodes"])
    assert lineage.of(client.store.stream("unknown", "1"))["nodes"][0]["here"]
    registry.delete_registered_model("churn")


def test_an_answer_that_comes_late_is_there_the_next_time(client, monkeypatch):
    monkeypatch.setattr(_lineage, "_PATIENCE", 0.01)
    go, asked = threading.Event(), []

    class Slow:
        def get_registered_model(self, name):
            asked.append(name)
            go.wait(10)
            return SimpleNamespace(aliases={"champion": "7"})

        def search_model_versions(self, *_, **__):
            return [SimpleNamespace(version="7", current_stage="None", creation_timestamp=5_000, tags={})]

    lineage, stream = Lineage(client.store, Slow()), client.store.stream("churn", "1")
    for _ in range(2):
        assert lineage.of(stream)["note"] == "From the streams alone: the registry has not answered within 0.01 s."
    go.set()
    lineage._asked["churn"].result(10)
    found = lineage.of(stream)
    assert (found["note"], asked) == ("", ["churn"])
    assert [(node["version"], node["aliases"]) for node in found["nodes"]] == [("7", ["champion"]), ("1", [])]


def test_alarms_are_told_as_they_are(client):
    stream = client.store.stream("churn", "1")
    first = stream.raise_alarm("drift", "age", "warning", "Drifted.", {"score": 0.3, "threshold": 0.25})
    second = stream.raise_alarm("harm", "served", "critical", "It cost.", {})
    stream.close_alarm(first.id, "mia")
    told = client.get(f"{AT}/alarms").json()["alarms"]
    assert [(alarm["id"], alarm["severity"]) for alarm in told] == [(second.id, "critical")]
    every = client.get(f"{AT}/alarms?state=all").json()["alarms"]
    assert [(alarm["id"], alarm["resolved_at"] is None) for alarm in every] == [(second.id, True), (first.id, False)]
    assert every[1]["evidence"] == {"score": 0.3, "threshold": 0.25}
    seen = client.get(AT).json()
    assert (seen["state"], seen["alarms"]) == ("investigate", {"critical": 1, "warning": 0, "info": 0})


def test_a_registry_that_fails_is_a_note(client):
    class Broken:
        def get_registered_model(self, name):
            raise ConnectionError

    found = Lineage(client.store, Broken()).of(client.store.stream("churn", "1"))
    assert found["note"] == "From the streams alone: the registry could not be asked (ConnectionError)."
    assert [node["version"] for node in found["nodes"]] == ["1"]


def test_a_report_of_any_span_says_which_hours_it_is_of(client):
    now = client.store.stream("churn", "1").rows()["recorded_at"].iloc[0]
    answer = client.get(f"{AT}/report", params={"since": now - 10.0, "until": now + 3_600.0, "segment": "eu"})
    told = ReportOut.model_validate_json(answer.content)
    assert (told.n, told.segment, told.window.name) == (50, "eu", "range")
    assert told.window.since % 3_600 == told.window.until % 3_600 == 0.0
    assert told.window.since <= now - 10.0 < now + 3_600.0 <= told.window.until
    year = client.get(f"{AT}/report", params={"window": "365d"}).json()
    assert (year["n"], year["window"]["name"], year["window"]["until"]) == (50, "365d", None)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("since=20&until=10", "until must be behind since, got since 20 and until 10."),
        ("since=-1", "since"),
        ("since=1&window=7d", "window of a report with since or until must be"),
    ],
)
def test_spans_that_there_are_not_are_sentences(client, query, why):
    answer = client.get(f"{AT}/report?{query}")
    assert answer.status_code == 422
    assert why in answer.json()["detail"]

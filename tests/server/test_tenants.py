"""Two models, two owners: neither learns that the other's is there; and a stolen database opens no door."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from starlette.websockets import WebSocketDisconnect

from live_routes import operations, sockets
from live_service import API, service, token_for
from live_streams import Clock, said
from mlflow_caliber.server._access import csrf_of
from mlflow_caliber.store import Outcome, StreamSettings
from mlflow_caliber.store._schema import streams

# Words that only the other's stream holds; "there" is what exists, "none" is what does not.
MINE, THEIRS, NONE = ("mine", "1"), ("theirs-secret", "7"), ("nowhere-secret", "7")
SECRETS = ("theirs", "segment-s", "prediction-s", "rita", "label-s", "stage-s", "feature-s", "note-s")
BODIES = {
    "/predictions": {"prediction_id": "new", "probability": 0.9},
    "/outcomes": {"prediction_id": "prediction-s", "outcome": "yes"},
    "/events": {"kind": "outcome", "prediction_id": "prediction-s", "outcome": "yes"},
    "/settings": {"abstain_threshold": 0.1},
    "/decide": {"answer": "confirm"},
    "/label-studio": [],
    "/versions/{version}": {"settings": {"abstain_threshold": 0.1}},
    "/api/v1/tokens": {"name": "spy", "roles": ["admin"]},
    "/api/models": {"name": THEIRS[0], "version": THEIRS[1]},
    "/api/review/{prediction_id}": {"ground_truth": "yes"},
}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A service on disk with both models; the other's has one of everything that has a name."""
    clock = Clock(1_700_000_000.0)
    uri = f"sqlite:///{tmp_path_factory.mktemp('tenants')}/caliber.db"
    with service(uri, clock) as client:
        for model, version in (MINE, THEIRS):
            other = model == THEIRS[0]
            label = "label-s" if other else "no"
            stream = client.store.stream(model, version, classes=[label, "yes"])
            told = StreamSettings(abstain_threshold=0.7, stage="stage-s" if other else "production")
            stream.change_settings(told, "rita" if other else "mia")
            name = "prediction-s" if other else "p"
            rows = [
                said(
                    f"{name}{i or ''}",
                    0.6,
                    clock.now,
                    prediction="yes",
                    abstained=None,
                    segment="segment-s" if other else "eu",
                )
                for i in range(30)
            ]
            stream.record([*rows, Outcome(prediction_id=f"{name}1", outcome=label, observed_at=clock.now)])
            stream.answer_review(f"{name}2", "rita" if other else "mia", "correct", label, "note-s" if other else "")
            stream.raise_alarm("drift", "feature-s" if other else "age", "warning", "It drifts.", {"score": 0.3})
        client.mine = token_for(client.store, "mia", ["ingest", "review", "view", "admin"], [MINE[0]])
        client.theirs = token_for(client.store, "rita", ["ingest", "review", "view", "admin"], [THEIRS[0]])
        client.number = client.store.find_stream(*THEIRS).id
        client.app.state.root = client.headers.pop("Authorization")
        yield client


@pytest.fixture(autouse=True)
def unthrottled(monkeypatch):
    monkeypatch.setattr("mlflow_caliber.server._limits.Rates.wait", lambda *args, **given: 0.0)


def body_of(operation):
    found = [body for end, body in BODIES.items() if operation.path.endswith(end)]
    return found[0] if found and operation.method != "GET" else None


def ask(client, operation, headers, place, prediction_id="prediction-s", number=None, **given):
    body = body_of(operation)
    if operation.path == "/api/models" and body:
        body = {**body, "name": place[0]}
    number = client.number if number is None else number
    url = operation.url(
        model=place[0], version=place[1], prediction_id=prediction_id, number_of_prediction=number << 32 | 1
    )
    data = (
        {}
        if body is None
        else {"content": json.dumps(body), "headers": {"Content-Type": "application/json", **headers}}
    )
    return client.request(operation.method, url, **{"headers": headers, "follow_redirects": False, **data, **given})


def everything(store):
    """All that the streams hold that could be changed from outside."""
    return [
        (
            stream.subject,
            stream.log_end(),
            stream.settings(),
            stream.open_alarms(),
            stream.review(name),
            stream.figures(),
        )
        for stream, name in ((store.find_stream(*MINE), "p"), (store.find_stream(*THEIRS), "prediction-s"))
    ]


def names_the_stream(operation):
    return "{model}" in operation.path and not operation.is_page


def test_what_is_anothers_is_not_there(client):
    before = everything(client.store)
    for operation in filter(names_the_stream, operations(client.app)):
        there, none = (ask(client, operation, client.mine, place) for place in (THEIRS, NONE))
        assert (there.status_code, none.status_code) == (404, 404), (operation.name, there.text, none.text)
        assert there.text.replace(THEIRS[0], NONE[0]) == none.text, operation.name
        assert sorted(there.headers) == sorted(none.headers)
    assert everything(client.store) == before


def test_what_lists_lists_ones_own(client):
    for operation in operations(client.app):
        if names_the_stream(operation) or operation.method != "GET":
            continue
        answer = ask(client, operation, client.mine, MINE)
        leaks = [word for word in SECRETS if word in answer.text and word not in operation.url()]
        assert leaks == [], (operation.name, answer.text[:300])


def test_ones_own_answers_hold_nothing_of_the_other(client):
    for operation in filter(names_the_stream, operations(client.app)):
        if operation.method == "GET":
            answer = ask(client, operation, client.mine, MINE, prediction_id="p")
            assert answer.status_code == 200, (operation.name, answer.text)
            assert [word for word in SECRETS if word in answer.text] == [], operation.name


@pytest.mark.parametrize(
    "query", ["model=theirs-secret", "version=7", "model=theirs-secret&version=7", "model=%25", "model="]
)
def test_filters_open_nothing(client, query):
    none = query.replace("theirs", "nowhere").replace("=7", "=8")
    there, nowhere = (client.get(f"{API}/reviews?{each}", headers=client.mine) for each in (query, none))
    assert (there.status_code, nowhere.status_code) == (404, 404)
    assert there.text == nowhere.text.replace("nowhere", "theirs").replace("'8'", "'7'")


def test_the_other_apps_numbers_open_nothing(client):
    before = everything(client.store)
    ways = [
        ("GET", "/api/predictions?model_version_id={}", None),
        ("GET", "/api/review-queue?model_version_id={}", None),
        ("GET", "/api/calibration?model_version_id={}", None),
        ("GET", "/api/risk-coverage?model_version_id={}", None),
        ("GET", "/api/drift-alerts?model_version_id={}", None),
        ("POST", "/api/models", {"name": "mine", "version": "2", "parent_id": 0}),
        (
            "POST",
            "/api/predictions",
            {"model_version_id": 0, "sample_id": "x", "predicted_label": "yes", "confidence": 0.9},
        ),
    ]
    for method, path, body in ways:
        texts = []
        for number in (client.number, 999):
            told = body and {key: number if key in {"parent_id", "model_version_id"} else body[key] for key in body}
            answer = client.request(method, path.format(number), json=told, headers=client.mine)
            assert answer.status_code == 404, (path, answer.text)
            texts.append(answer.text.replace(str(number), "N"))
        assert texts[0] == texts[1], path
    for number in (client.number, 999):
        answer = client.post(f"/api/review/{number << 32 | 1}", json={"ground_truth": "yes"}, headers=client.mine)
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"There is no model version {number}."
    assert everything(client.store) == before
    assert client.store.find_stream("mine", "2") is None


def test_the_others_ids_on_ones_own_model_are_not_there(client):
    alarm = client.store.find_stream(*THEIRS).open_alarms()[0].id
    base = f"{API}/models/mine/versions/1"
    assert client.post(f"{base}/alarms/{alarm}/resolve", headers=client.mine).status_code == 404
    assert client.get(f"{base}/reviews/prediction-s", headers=client.mine).status_code == 404
    task = {"data": {"prediction_id": "prediction-s", "model": THEIRS[0], "version": THEIRS[1]}, "annotations": []}
    refused = client.post(f"{base}/reviews/label-studio", json=[task], headers=client.mine).json()["refused"]
    assert "must be about mine/1" in refused[0]["sentence"]
    assert client.store.find_stream(*THEIRS).open_alarms()[0].id == alarm


def test_metrics_are_for_those_who_see_all(client):
    assert client.get("/metrics", headers=client.mine).status_code == 403
    assert THEIRS[0] in client.get("/metrics", headers={"Authorization": client.app.state.root}).text


def test_the_audit_trail_keeps_to_ones_own(client):
    mine, theirs = (
        client.get(f"{API}/audit?limit=1000", headers=each).json()["entries"] for each in (client.mine, client.theirs)
    )
    assert {entry["subject"] for entry in mine} == {"mine/1"}
    assert {entry["subject"] for entry in theirs} == {"theirs-secret/7"}


def test_a_model_that_is_called_like_a_part_of_another(client):
    """Tokens, and models with a slash of stores that took such names, have subjects that begin like a model's."""
    store = client.store
    store.stream("old", "1")
    with store._database.write() as connection:
        connection.execute(sa.update(streams).where(streams.c.model == "old").values(model="mine/eu"))
    for model in ("token", "mine/eu", "mine_", "mineX", "mi%"):
        store.stream(model, "1").change_settings(StreamSettings(abstain_threshold=0.4), "secret-actor")
    for model in ("token", "mine", "mine_", "mi%"):
        headers = token_for(store, "odd", ["view"], [model])
        entries = client.get(f"{API}/audit?limit=1000", headers=headers).json()["entries"]
        assert {entry["subject"] for entry in entries} == {f"{model}/1"}, model


def test_a_token_for_a_model_that_is_not_there_sees_nothing(client):
    headers = token_for(client.store, "early", ["ingest", "review", "view", "admin"], ["not-yet"])
    assert client.get(f"{API}/models", headers=headers).json() == {"models": []}
    assert client.get(f"{API}/reviews", headers=headers).json()["waiting"] == 0
    assert client.get("/api/predictions", headers=headers).json() == []
    assert client.get("/api/calibration", headers=headers).json()["n_labeled"] == 0
    assert client.get(f"{API}/audit", headers=headers).json()["entries"] == []


def heard(client, path, headers, frames=3):
    """What a WebSocket says while both streams are written to."""
    texts = []
    try:
        with client.websocket_connect(path, headers=dict(headers)) as socket:
            if path.startswith(API):
                texts.append(socket.receive_text())
            for k in range(frames):
                for model, version, name in ((*THEIRS, "prediction-s"), (*MINE, "p")):
                    client.store.find_stream(model, version).record(
                        [said(f"{name}-{path}-{len(headers)}-{k}-{i}", 0.9, 1.0, prediction="yes") for i in range(3)]
                    )
                texts.append(socket.receive_text())
                if path.startswith(API):
                    texts.append(socket.receive_text())
    except WebSocketDisconnect:
        pass
    return texts


def test_sockets_tell_of_ones_own(client):
    path = f"{API}/live"
    for query in ("", "?model=theirs-secret", "?model=theirs-secret&version=7", "?version=7"):
        texts = heard(client, path + query, client.mine, frames=1 if query else 3)
        assert len(texts) > 1
        assert [word for text in texts for word in SECRETS if word in text] == []
        spoken = [each["model"] for text in texts for each in json.loads(text).get("streams", [])]
        assert set(spoken) == (set() if query else {"mine"})
    for path in sockets(client.app):
        if not path.startswith(API):
            assert path == "/ws/live"


def test_the_other_apps_socket_tells_of_ones_own(client):
    mine = client.store.find_stream(*MINE)
    with client.websocket_connect("/ws/live", headers=dict(client.mine)) as socket:
        client.store.find_stream(*THEIRS)
        for k in range(60):
            for stream, name in ((client.store.find_stream(*THEIRS), "prediction-s"), (mine, "p")):
                stream.record([said(f"{name}-ws-{k}", 0.9, 1.0, prediction="yes")])
            if k == 59 or socket._send_rx.statistics().current_buffer_used:
                break
            time.sleep(0.05)
        assert json.loads(socket.receive_text())["model_version_id"] == mine.id


def test_a_stolen_database_opens_no_door(client):
    token, text = client.store.create_token("thief", ["admin"], actor="test")
    session = client.store.open_session(token, 3_600)

    csrf = csrf_of(session)
    answer = client.put(
        f"{API}/models/mine/versions/9", json={}, headers={"Cookie": f"caliber_session={session}", "X-CSRF-Token": csrf}
    )
    assert answer.status_code == 200
    log_in = client.post("/login", data={"token": text}, follow_redirects=False)
    cookie = client.cookies.pop("caliber_session")
    assert log_in.status_code == 303
    path = client.service.settings.store_uri.removeprefix("sqlite:///")
    stolen = b"".join(part.read_bytes() for part in Path(path).parent.iterdir())
    assert token.id.encode() in stolen, "the files are those of the store"
    for secret in (text, session, cookie, client.app.state.root, *client.mine.values()):
        last = secret.removeprefix("Bearer ").split("_", 2)[2]
        for part in (last, last[:20], last[-20:]):
            assert part.encode() not in stolen
            assert part.encode("utf-16-le") not in stolen
    assert csrf.encode() not in stolen

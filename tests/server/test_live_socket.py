"""What viewers of the live stream are told, and that a viewer who does not listen costs nobody anything."""

from __future__ import annotations

import base64
import json
import os
import socket as sockets
import threading
import time

import pytest
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect

from live_service import API, LiveService, service
from live_streams import said
from mlflow_caliber.exceptions import StoreError
from mlflow_caliber.server._live import Broadcaster, Viewer
from mlflow_caliber.store import open_store

pytestmark = pytest.mark.system

LIVE = f"{API}/live"


@pytest.fixture
def client(tmp_path):
    with service(f"sqlite:///{tmp_path}/caliber.db") as client:
        client.store.stream("churn", "1", classes=["no", "yes"])
        yield client


def opened(client, path=LIVE, **given):
    return client.websocket_connect(path, headers={"Authorization": client.headers["Authorization"]}, **given)


def next_news(socket):
    """The streams of the next frame that has any; heartbeats are passed over, but not for ever."""
    for _ in range(20):
        frame = socket.receive_json()
        if frame.get("streams"):
            return frame["streams"]
    pytest.fail("twenty texts, and nothing new in them")


def read_on(socket):
    """What was on its way; then the socket is closed, or a heartbeat comes each second."""
    for _ in range(6):
        socket.receive_text()


def test_hello_and_a_frame_each_second(client):
    with opened(client) as socket:
        assert socket.receive_json()["type"] == "hello"
        socket.receive_json()
        times = []
        for _ in range(3):
            frame = socket.receive_json()
            assert (frame["type"], frame["streams"]) == ("frame", [])
            times.append(time.monotonic())
        assert times[-1] - times[0] < 6.0


def test_events_of_another_process_are_told(client):
    with opened(client) as socket, open_store(client.service.settings.store_uri) as other:
        assert socket.receive_json()["type"] == "hello"
        assert socket.receive_json()["streams"] == []
        stream = other.find_stream("churn", "1")
        stream.record([said(f"p{i}", 0.9, 1e9, prediction="yes") for i in range(30)])
        (told,) = next_news(socket)
        assert (told["model"], told["version"], told["n_predictions"], told["n_outcomes"]) == ("churn", "1", 30, 0)
        assert len(told["sample"]) == 20
        assert set(told["sample"][0]) == {"prediction_id", "confidence", "prediction", "abstained", "predicted_at"}
        assert told["rate"] > 0


def test_an_alarm_is_told_without_any_traffic(client):
    with opened(client) as socket:
        assert [socket.receive_json()["type"] for _ in range(3)] == ["hello", "frame", "frame"]
        stream = client.store.find_stream("churn", "1")
        stream.raise_alarm("silence", "outcomes", "warning", "No outcomes.", {})
        (told,) = next_news(socket)
        assert (told["open_alarms"], told["n_predictions"], told["sample"]) == (1, 0, [])
        stream.raise_alarm("drift", "features", "warning", "Drift.", {})
        stream.resolve_alarm("silence", "outcomes")
        (other,) = next_news(socket)
        assert other["newest_alarm"] > told["newest_alarm"]


def test_a_full_queue_is_counted_and_nobody_waits():
    viewer = Viewer(wants=lambda stream: True, write=lambda at, frames: [], group="x")
    assert sum(viewer.offer(["frame"]) for _ in range(20)) == 12
    assert (viewer.missed, viewer.queue.qsize()) == (12, 8)


def test_many_viewers_of_single_predictions_are_each_shown_the_newest(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/caliber.db") as store:
        broadcaster = Broadcaster(store)
        many = [Viewer(lambda stream: True, lambda at, frames: list("abcdefgh"), group="x") for _ in range(100)]
        for viewer in many:
            broadcaster.add(viewer)
        broadcaster._tell([])
        assert {tuple(viewer.queue.get_nowait() for _ in range(4)) for viewer in many} == {tuple("efgh")}
        assert all(viewer.queue.empty() and viewer.missed == 0 for viewer in many)


def test_a_socket_is_told_to_come_again_while_the_store_is_away(client, monkeypatch):
    def away(*_):
        raise StoreError("The database is away.")

    monkeypatch.setattr(client.service.tokens, "_look_up", away)
    client.service.forget()
    with opened(client) as socket, pytest.raises(WebSocketDisconnect) as end:
        socket.receive_text()
    assert end.value.code == 1013


def test_who_catches_up_is_told_what_they_missed(client):
    with opened(client) as socket:
        socket.receive_json()
        (viewer,) = client.service.live._viewers
        viewer.missed = 5
        told = next(text for text in (socket.receive_json() for _ in range(20)) if text["type"] == "dropped")
        assert told == {"type": "dropped", "frames": 5}
        assert viewer.missed == 0


def test_a_revoked_token_ends_its_socket(client):
    token, text = client.store.create_token("mia", ["view"], actor="test")
    with client.websocket_connect(LIVE, headers={"Authorization": f"Bearer {text}"}) as socket:
        assert socket.receive_json()["name"] == "mia"
        client.store.revoke_token(token.id, "test")
        client.service.forget()
        with pytest.raises(WebSocketDisconnect) as end:
            read_on(socket)
        assert end.value.code == 1001
    assert client.service.live._viewers == set()


def deaf(server):
    """A viewer that asks for frames and never reads one."""
    line = sockets.socket()
    line.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 1_024)
    line.connect(("127.0.0.1", server.port))
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {LIVE} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {server.token}\r\n\r\n"
    )
    line.sendall(request.encode())
    return line


def rate_of(server, seconds, name):
    """Predictions taken a second."""
    start, n = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        rows = [{"prediction_id": f"{name}-{n}-{i}", "probability": 0.9} for i in range(100)]
        n += server.ask(f"{API}/models/churn/versions/1/predictions", rows).json["recorded"]
    return n / (time.monotonic() - start)


def test_viewers_who_never_read_slow_nobody(tmp_path):
    with LiveService(f"sqlite:///{tmp_path}/caliber.db", tmp_path / "log") as server:
        server.ask(f"{API}/models/churn/versions/1", {"classes": ["no", "yes"]}, method="PUT")
        rate_of(server, 0.5, "warm")
        alone = rate_of(server, 2.0, "alone")
        dead = [deaf(server) for _ in range(20)]
        frames = []
        header = {"Authorization": f"Bearer {server.token}"}
        with connect(f"ws://127.0.0.1:{server.port}{LIVE}", additional_headers=header) as live:

            def listen():
                frames.extend(json.loads(text) for text in live)

            thread = threading.Thread(target=listen, daemon=True)
            thread.start()
            start = time.monotonic()
            beside = rate_of(server, 4.0, "beside")
            spent = time.monotonic() - start
        thread.join(5)
        for line in dead:
            line.close()
        told = [frame for frame in frames if frame["type"] == "frame" and frame["streams"]]
        assert len(told) >= spent / 2
        assert not any(frame["type"] == "dropped" for frame in frames)
        assert beside > alone / 4, (alone, beside)

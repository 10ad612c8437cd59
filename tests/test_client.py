"""The client against a service that is scripted: what it sends, what it sends again, and what it never does."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from mlflow_caliber.client import CaliberClient, Recorded
from mlflow_caliber.exceptions import CaliberError, InvalidInputError, ServiceError

TAKEN = {"recorded": 1, "duplicates": 0, "corrections": 0, "refused": [], "predictions": []}


class Scripted:
    """Answers in turn with what it was told to, the last one for ever; remembers what came."""

    def __init__(self):
        self.answers = [(200, TAKEN, {})]
        self.seen = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen = SimpleNamespace(method=self.command, path=self.path, head=dict(self.headers), body=body)
                script.seen.append(seen)
                turn = min(len(script.seen), len(script.answers)) - 1
                status, content, head = script.answers[turn]
                if status is None:  # hangs up
                    self.close_connection = True
                    return
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**head, "Content-Length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def bodies(self):
        return [json.loads(each.body) for each in self.seen]


@pytest.fixture
def service():
    scripted = Scripted()
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def client(service, pauses):
    with CaliberClient(service.url, "cal_text", retries=3) as client:
        client._transport.sleep = pauses.append
        yield client


def test_a_prediction_has_an_id_and_a_time_before_it_is_sent(client, service):
    said = client.record_prediction(
        "churn", "3", probability=np.float64(0.8), features={"age": np.int64(4), "x": np.nan}
    )
    (sent,) = service.seen
    body = json.loads(sent.body)
    assert (sent.method, sent.path) == ("POST", "/api/v1/models/churn/versions/3/predictions")
    assert sent.head["Authorization"] == "Bearer cal_text"
    assert body["prediction_id"] == said.prediction_ids[0]
    assert (body["prediction_id"][14], body["predicted_at"] > 1e9) == ("7", True)
    assert body["features"] == {"age": 4, "x": None}
    assert said == Recorded(1, 0, 0, (), (), said.prediction_ids)


def test_an_id_that_is_given_is_kept_and_no_time_is_added(client, service):
    assert client.record_prediction("churn", "3", prediction_id="mine", probability=0.5).prediction_ids == ("mine",)
    assert service.bodies() == [{"prediction_id": "mine", "probability": 0.5}]


@pytest.mark.parametrize("trouble", [(503, {}, {}), (429, {}, {}), (None, {}, {})])
def test_what_carries_an_id_is_sent_again_as_it_was(client, service, pauses, trouble):
    service.answers = [trouble, trouble, (200, TAKEN, {})]
    assert client.record_prediction("churn", "3", probability=0.8).recorded == 1
    assert len(service.seen) == 3
    assert len({each.body for each in service.seen}) == 1
    assert pauses == [0.2, 0.4]


def test_it_waits_as_long_as_it_is_asked_to(client, service, pauses):
    service.answers = [(503, {}, {"Retry-After": "3"}), (503, {}, {"Retry-After": "soon"}), (200, {"models": []}, {})]
    assert client.models() == []
    assert pauses == [3.0, 0.4]


def test_it_gives_up_with_the_sentence_of_the_service(client, service, pauses):
    service.answers = [(503, {"detail": "The store is away."}, {})]
    with pytest.raises(ServiceError, match="The store is away") as caught:
        client.models()
    assert caught.value.status == 503
    assert isinstance(caught.value, CaliberError)
    assert pauses == [0.2, 0.4, 0.8]


def test_what_was_refused_is_not_tried_again(client, service, pauses):
    service.answers = [(422, {"detail": "probability must be a number in [0, 1], got 7.3."}, {})]
    with pytest.raises(ServiceError, match=r"got 7\.3"):
        client.record_prediction("churn", "3", probability=7.3)
    assert (len(service.seen), pauses) == (1, [])


def test_a_decision_is_sent_once(client, service):
    service.answers = [(503, {"detail": "Away."}, {})]
    with pytest.raises(ServiceError, match="Away"):
        client.decide("churn", "3", "a/b", "correct", label="stays", note="Seen.")
    assert len(service.seen) == 1
    assert service.seen[0].path == "/api/v1/models/churn/versions/3/reviews/a%2Fb/decide"
    assert service.bodies() == [{"answer": "correct", "label": "stays", "note": "Seen."}]


def test_nobody_there():
    with (
        CaliberClient("http://127.0.0.1:9", retries=0) as client,
        pytest.raises(ServiceError, match="does not answer") as e,
    ):
        client.models()
    assert e.value.status is None


def test_a_token_goes_nowhere_else(client, service):
    service.answers = [(302, {}, {"Location": "http://127.0.0.1:9/"})]
    with pytest.raises(ServiceError, match="must answer with JSON, got status 302"):
        client.models()
    assert len(service.seen) == 1
    assert "cal_text" not in repr(client) + repr(vars(client))


def test_no_netrc_takes_the_tokens_place(client, service, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login mia password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.answers = [(200, {"models": []}, {})]
    client.models()
    assert service.seen[0].head["Authorization"] == "Bearer cal_text"


def test_an_answer_that_is_no_json(client, service):
    service.answers = [(200, b"<html>", {})]
    with pytest.raises(ServiceError, match="must answer with JSON, got status 200"):
        client.models()


def test_many_go_in_parts_and_refusals_keep_their_places(client, service):
    refused = {"index": 1, "prediction_id": "x", "kind": "prediction", "sentence": "No."}
    service.answers = [(200, {**TAKEN, "recorded": 9_999, "refused": [refused]}, {})]
    total = client.record_predictions("churn", "3", ({"probability": 0.5} for _ in range(12_000)))
    assert [len(body) for body in service.bodies()] == [10_000, 2_000]
    assert [each["index"] for each in total.refused] == [1, 10_001]
    assert (total.recorded, len(set(total.prediction_ids))) == (19_998, 12_000)


def test_outcomes(client, service):
    client.record_outcome("churn", "3", "a", 1, source="audit", observed_at=5.0)
    client.record_outcomes("churn", "3", [{"prediction_id": "b", "outcome": "yes"}])
    one, (other,) = service.bodies()
    assert one == {"prediction_id": "a", "outcome": 1, "source": "audit", "observed_at": 5.0}
    assert (other["outcome"], other["observed_at"] > 1e9) == ("yes", True)
    with pytest.raises(InvalidInputError, match="must have prediction_id"):
        client.record_outcomes("churn", "3", [{"outcome": "yes"}])


def test_a_stream_of_events_is_never_held_whole(client, service):
    held = []

    def events():
        for number in range(2_500):
            held.append(number - sum(each.body.count(b"\n") for each in service.seen))
            kind = "prediction" if number % 2 == 0 else "outcome"
            yield (
                {"kind": kind, "prediction_id": str(number // 2), "probability": 0.5}
                if kind == "prediction"
                else {"kind": kind, "prediction_id": str(number // 2), "outcome": 1}
            )

    total = client.stream_events("churn", "3", events())
    assert max(held) <= 1_000
    assert [each.body.count(b"\n") for each in service.seen] == [1_000, 1_000, 500]
    assert {each.head["Content-Type"] for each in service.seen} == {"application/x-ndjson"}
    assert (total.recorded, total.prediction_ids) == (3, ())
    with pytest.raises(InvalidInputError, match="kind must be one of prediction, outcome, got None"):
        client.stream_events("churn", "3", [{"prediction_id": "a"}])


def test_questions(client, service):
    service.answers = [(200, {"models": [{}], "alarms": [], "reviews": []}, {})]
    client.register("a model", "1", ["no", "yes"], settings={"stage": "new"})
    client.model("a model", "1")
    client.report("churn", "3", window="7d")
    client.report("churn", "3")
    client.report("churn", "3", since=7_200.0, segment="eu & uk")
    client.timeline("churn", "3", by="hour", last=5)
    client.revisions("churn", "3")
    client.claim("churn", "3", "a")
    assert client.models() == [{}]
    assert client.alarms("churn", "3") == []
    client.reviews(model="churn", limit=3, version=None)
    assert [(each.method, each.path.removeprefix("/api/v1")) for each in service.seen] == [
        ("PUT", "/models/a%20model/versions/1"),
        ("GET", "/models/a%20model/versions/1"),
        ("GET", "/models/churn/versions/3/report?window=7d&labels=all&detail=quick"),
        ("GET", "/models/churn/versions/3/report?window=30d&labels=all&detail=quick"),
        (
            "GET",
            "/models/churn/versions/3/report?window=all&labels=all&detail=quick&since=7200.0&segment=eu+%26+uk",
        ),
        ("GET", "/models/churn/versions/3/timeline?by=hour&last=5"),
        ("GET", "/models/churn/versions/3/revisions"),
        ("POST", "/models/churn/versions/3/reviews/a/claim"),
        ("GET", "/models"),
        ("GET", "/models/churn/versions/3/alarms?state=open"),
        ("GET", "/reviews?model=churn&limit=3"),
    ]
    assert json.loads(service.seen[0].body) == {"classes": ["no", "yes"], "settings": {"stage": "new"}}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"url": "caliber.example.org"}, "url must be the service's address"),
        ({"url": "ftp://example.org"}, "got 'ftp://example.org'"),
        ({"url": "https://mia:secret@example.org"}, "without user and password"),
        ({"timeout": 0}, "timeout must be"),
        ({"retries": -1}, "retries must be"),
        ({"token": 7}, "token must be"),
    ],
)
def test_what_makes_no_client(wrong, sentence):
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        CaliberClient(**{"url": "https://example.org", **wrong})
    assert "secret" not in str(caught.value)


def test_what_is_no_json_is_not_sent(client, service):
    with pytest.raises(InvalidInputError, match="must be plain JSON values"):
        client.record_prediction("churn", "3", probability=0.5, features={"x": object()})
    assert service.seen == []

"""Telling of alarms over a real connection: signed, tried again, and once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlflow_caliber.exceptions import ConfigError, StoreError
from mlflow_caliber.live import (
    DeliveryError,
    LogSink,
    Monitor,
    Notice,
    Reference,
    SlackSink,
    WebhookSink,
    sinks_from_dict,
    verify_webhook,
)
from mlflow_caliber.store import Alarm, open_store

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Receiver:
    """A web server that answers as told, and keeps what it was sent."""

    def __init__(self):
        self.requests, self.answers = [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append(
                    (self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                )
                answer = receiver.answers.pop(0) if receiver.answers else 200
                if answer == "silence":
                    receiver.ended.wait(30.0)
                    return
                self.send_response(answer)
                self.send_header("Location", f"{receiver.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                receiver.requests.append((self.path, {}, b""))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.ended = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def events(self):
        return [json.loads(body)["type"].rsplit(".")[-1] for _, _, body in self.requests]


@contextmanager
def running():
    receiver = Receiver()
    receiver.thread.start()
    try:
        yield receiver
    finally:
        receiver.ended.set()
        receiver.server.shutdown()
        receiver.server.server_close()
        receiver.thread.join()


@pytest.fixture
def receiver():
    with running() as receiver:
        yield receiver


def notice(event="opened", **changed):
    alarm = {
        "id": 7,
        "kind": "drift",
        "key": "score:1",
        "severity": "warning",
        "sentence": "The scores have drifted.",
        "evidence": {"psi": 0.3},
        "opened_at": 1_700_000_000.0,
        "last_seen_at": 1_700_000_060.0,
        "resolved_at": None,
        "notified_at": None,
    }
    return Notice(event=event, model="churn", version="1", alarm=Alarm(**{**alarm, **changed}))


def watching(store, *sinks):
    return Monitor(store, sinks=sinks, references=lambda stream, now: Reference(None))


# --- the webhook ------------------------------------------------------------------------------------------------------


def test_a_webhook_is_signed(receiver):
    WebhookSink(receiver.url, SECRET).send(notice(), 1_700_000_100.9)
    [(_, headers, body)] = receiver.requests
    assert headers["content-type"] == "application/json"
    assert verify_webhook(headers, body, SECRET, now=1_700_000_200.0)
    assert headers["webhook-timestamp"] == "1700000100"
    content = f"{headers['webhook-id']}.1700000100.{body.decode()}".encode()
    digest = hmac.new(bytes(range(32)), content, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert json.loads(body) == {
        "type": "caliber.alarm.opened",
        "timestamp": "2023-11-14T22:14:20+00:00",
        "data": {
            "model": "churn",
            "version": "1",
            "id": 7,
            "kind": "drift",
            "key": "score:1",
            "severity": "warning",
            "sentence": "The scores have drifted.",
            "evidence": {"psi": 0.3},
            "opened_at": 1_700_000_000.0,
            "last_seen_at": 1_700_000_060.0,
            "resolved_at": None,
        },
    }


def test_the_example_of_standard_webhooks():
    """The vector of the specification's own libraries."""
    headers = {
        "Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "Webhook-Timestamp": "1614265330",
        "Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert verify_webhook(headers, b'{"test": 2432232314}', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", now=1_614_265_330)


def test_what_is_not_ours_is_refused(receiver):
    WebhookSink(receiver.url, SECRET).send(notice(), 1_000.0)
    [(_, headers, body)] = receiver.requests

    def verify(body=body, secret=SECRET, now=1_000.0, **changed):
        changed = {name.replace("_", "-"): value for name, value in changed.items()}
        return verify_webhook({**headers, **changed}, body, secret, now=now)

    assert verify()
    assert verify(now=1_300.0)
    assert verify(webhook_signature=f"v1,old {headers['webhook-signature']} v2,x")
    assert not verify(body=body + b" ")
    assert not verify(secret="whsec_" + base64.b64encode(bytes(32)).decode())
    assert not verify(now=1_301.0)
    assert not verify(now=699.0)
    assert not verify(webhook_id="msg_other")
    assert not verify(webhook_timestamp="1001")
    assert not verify(webhook_timestamp="now")
    assert not verify(webhook_timestamp="-1000")
    assert not verify(webhook_signature="")
    assert not verify(webhook_signature="v1,é")


@pytest.mark.parametrize("answer", [400, 404, 500, 503])
def test_a_refusal_is_an_error_without_the_address(receiver, answer):
    receiver.answers = [answer]
    with pytest.raises(DeliveryError, match=f"the receiver answered {answer}") as caught:
        WebhookSink(receiver.url, SECRET).send(notice(), 0.0)
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("answer", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(receiver, answer):
    receiver.answers = [answer]
    with pytest.raises(DeliveryError, match=f"answered {answer}"):
        WebhookSink(receiver.url, SECRET).send(notice(), 0.0)
    assert len(receiver.requests) == 1


def test_a_receiver_that_says_nothing_and_one_that_is_not_there(receiver):
    receiver.answers = ["silence"]
    with pytest.raises(DeliveryError, match=r"did not answer \(TimeoutError\)"):
        WebhookSink(receiver.url, SECRET, timeout=0.2).send(notice(), 0.0)
    with running() as gone:
        url = gone.url
    with pytest.raises(DeliveryError, match=r"was not reached \(ConnectionRefusedError\)"):
        WebhookSink(url, SECRET).send(notice(), 0.0)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a", "https://", "example.org", ""])
def test_addresses_that_are_refused(url):
    with pytest.raises(ConfigError, match="must begin with http:// or https://"):
        WebhookSink(url, SECRET)
    with pytest.raises(ConfigError, match="must begin with http:// or https://"):
        SlackSink(url)


@pytest.mark.parametrize("secret", ["", "swordfish", "whsec_", "whsec_???", "whsec_c2hvcnQ=", SECRET[6:]])
def test_secrets_that_are_refused(secret):
    with pytest.raises(ConfigError, match="must be whsec_ and 24 to 64 bytes in base64") as caught:
        WebhookSink("https://example.org", secret)
    assert "swordfish" not in str(caught.value)


# --- Slack and the log ------------------------------------------------------------------------------------------------


def test_slack_gets_escaped_text(receiver):
    SlackSink(f"{receiver.url}/services/T/B/x").send(notice(sentence="<!channel> a & b\nc", key="<b>"), 0.0)
    [(path, _, body)] = receiver.requests
    message = json.loads(body)
    assert path == "/services/T/B/x"
    assert message["text"] == "churn/1 drift (&lt;b&gt;) opened: &lt;!channel&gt; a &amp; b c"
    assert message["blocks"][0]["text"]["text"] == (
        ":warning: *churn/1: drift (&lt;b&gt;) opened*\n&lt;!channel&gt; a &amp; b\nc"
    )
    assert message["blocks"][1]["elements"][0]["text"] == "warning, since 2023-11-14 22:13 UTC"


def test_slack_s_limit_holds(receiver):
    SlackSink(receiver.url).send(notice("resolved", sentence="< " * 1_000), 0.0)
    message = json.loads(receiver.requests[0][2])
    assert message["blocks"][0]["text"]["text"].startswith(":white_check_mark:")
    assert all(len(text) <= 3_000 for text in (message["text"], message["blocks"][0]["text"]["text"]))


def test_the_log_has_one_line_a_notice(caplog):
    with caplog.at_level(logging.INFO):
        LogSink().send(notice(severity="critical", sentence="Bad.\nroot: all is well"), 0.0)
        LogSink().send(notice("resolved"), 0.0)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "churn/1 drift (score:1) opened: Bad. root: all is well"),
        ("INFO", "churn/1 drift (score:1) is resolved: The scores have drifted."),
    ]


# --- what the file says -----------------------------------------------------------------------------------------------


def test_sinks_take_their_secrets_from_the_environment(monkeypatch):
    alerts = {
        "log": False,
        "webhook": {"url": "https://example.org", "secret_env": "HOOK_SECRET"},
        "slack": {"url_env": "SLACK_URL"},
    }
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with pytest.raises(ConfigError, match="url_env names the environment variable SLACK_URL, which must be set"):
        sinks_from_dict(alerts)
    monkeypatch.setenv("SLACK_URL", "https://hooks.slack.com/services/x")
    assert [type(sink) for sink in sinks_from_dict(alerts)] == [WebhookSink, SlackSink]
    assert sinks_from_dict({"log": False}) == []


# --- with the monitor -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [500, "silence"])
def test_what_was_not_taken_is_sent_again_at_the_next_turn(store, stream, clock, receiver, answer, caplog):
    stream.report_replica("host:1", "", 3, "")
    monitor = watching(store, WebhookSink(receiver.url, SECRET, timeout=0.3))
    receiver.answers = [answer, answer, 200]
    now = clock.now
    for k in range(4):
        monitor.turn(now + k)
    assert receiver.events == ["opened"] * 3
    ids = {headers["webhook-id"] for _, headers, _ in receiver.requests}
    stamps = [int(headers["webhook-timestamp"]) - int(now) for _, headers, _ in receiver.requests]
    assert (len(ids), stamps) == (1, [0, 1, 2])
    assert stream.open_alarms()[0].notified_at == now + 2
    assert "WebhookSink could not tell of an alarm and tries again: the receiver" in caplog.text
    assert receiver.url not in caplog.text
    assert SECRET not in caplog.text


def test_one_sink_that_fails_does_not_repeat_the_other(store, stream, clock, receiver):
    stream.report_replica("host:1", "", 3, "")
    with running() as slack:
        slack.answers = [500]
        monitor = watching(store, WebhookSink(receiver.url, SECRET), SlackSink(slack.url))
        monitor.turn(clock.now)
        assert stream.open_alarms()[0].notified_at is None
        monitor.turn(clock.now + 60.0)
        assert (len(receiver.requests), len(slack.requests)) == (1, 2)
        assert stream.open_alarms()[0].notified_at == clock.now + 60.0


def test_a_restart_tells_nothing_twice_and_what_was_lost_once_more(uri, clock, receiver):
    with open_store(uri, clock=clock) as store:
        store.stream("churn", "1", classes=[0, 1]).report_replica("host:1", "", 3, "")
        receiver.answers = [500]
        watching(store, WebhookSink(receiver.url, SECRET)).turn(clock.now)
    for k in (1, 2, 3):
        with open_store(uri, clock=clock) as store:
            watching(store, WebhookSink(receiver.url, SECRET)).turn(clock.now + k)
    assert receiver.events == ["opened", "opened"]
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1


def test_opened_reminded_resolved(store, stream, clock, receiver):
    monitor = watching(store, WebhookSink(receiver.url, SECRET))
    for hours in range(60):
        stream.report_replica("host:1", "", 0, "Full." if hours < 50 else "")
        monitor.turn(clock.now)
        clock.now += 3_600.0
    assert receiver.events == ["opened", "reminder", "reminder", "resolved"]
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 4
    last = json.loads(receiver.requests[-1][2])
    assert last["data"]["resolved_at"] == last["data"]["last_seen_at"] + 3_600.0


def test_an_alarm_that_ends_while_nobody_could_be_told_is_told_in_order(store, stream, clock, receiver):
    monitor = watching(store, WebhookSink(receiver.url, SECRET))
    receiver.answers = [500, 500]
    stream.report_replica("host:1", "", 0, "Full.")
    monitor.turn(clock.now)
    clock.now += 3_600.0
    stream.report_replica("host:1", "", 0, "")
    monitor.turn(clock.now)
    monitor.turn(clock.now + 1.0)
    assert receiver.events == ["opened", "opened", "opened", "resolved"]


def test_a_sink_of_somebody_else_s_may_fail_in_its_own_way(store, stream, clock, caplog):
    class Broken:
        def send(self, notice, now):
            raise ZeroDivisionError(SECRET)

    stream.report_replica("host:1", "", 3, "")
    watching(store, Broken()).turn(clock.now)
    assert "Broken could not tell of an alarm and tries again: ZeroDivisionError." in caplog.text
    assert SECRET not in caplog.text


def test_a_notice_that_could_not_be_noted_is_not_sent_again(store, stream, clock, receiver, monkeypatch):
    stream.report_replica("host:1", "", 3, "")
    monitor = watching(store, WebhookSink(receiver.url, SECRET))
    with monkeypatch.context() as patch:

        def busy(*_):
            raise StoreError("The store is busy.")

        patch.setattr(type(stream), "mark_notified", busy)
        monitor.turn(clock.now)
    monitor.turn(clock.now + 1.0)
    assert receiver.events == ["opened"]
    assert stream.open_alarms()[0].notified_at == clock.now + 1.0


def test_without_sinks_nothing_is_noted_as_told(store, stream, clock):
    stream.report_replica("host:1", "", 3, "")
    watching(store).turn(clock.now)
    assert stream.open_alarms()[0].notified_at is None

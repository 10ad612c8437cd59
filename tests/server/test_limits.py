"""How much anybody may send, and how often; and what every answer says to browsers."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from live_routes import operations
from live_service import API, service, token_for
from mlflow_caliber.server._limits import Rates
from mlflow_caliber.server.app import _STATIC

BASE = f"{API}/models/churn/versions/1"
JSON = {"Content-Type": "application/json"}
WRONG = {"Authorization": f"Bearer cal_0123456789ab_{'x' * 43}"}
BROWSERS = {
    "content-security-policy": "default-src 'self'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def pieces(n):
    """A body without a length, in n pieces of 10 kB."""
    return (b" " * 10_000 for _ in range(n))


@pytest.fixture
def small():
    with service(max_body_mb=0.1) as client:
        client.put(BASE, json={"classes": ["no", "yes"]}).raise_for_status()
        yield client


def test_long_bodies_are_refused_with_a_length_and_without(small):
    for content in (b" " * 100_001, pieces(20)):
        answer = small.post(f"{BASE}/predictions", content=content, headers=JSON)
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith("The body must have at most 100000 bytes")
    for method, path in (("PUT", BASE), ("PATCH", f"{BASE}/settings"), ("POST", f"{API}/tokens")):
        assert small.request(method, path, content=pieces(20), headers=JSON).status_code == 413, path
    assert small.post("/login", content=pieces(20)).status_code == 413
    fits = small.post(f"{BASE}/predictions", content=b'{"probability": 0.9}' + b" " * 99_000, headers=JSON)
    assert fits.json()["recorded"] == 1


def test_a_version_that_is_called_events_has_no_longer_body(small):
    assert small.put(f"{API}/models/churn/versions/events", content=pieces(20), headers=JSON).status_code == 413


def test_a_stream_of_lines_is_as_long_as_it_likes_and_its_lines_are_not(small, monkeypatch):
    lines = (b'{"kind": "prediction", "prediction_id": "l%d", "probability": 0.9}\n' % i for i in range(3_000))
    assert small.post(f"{BASE}/events", content=lines).json()["recorded"] == 3_000
    monkeypatch.setattr("mlflow_caliber.server.routes.ingest._LONGEST_LINE", 50_000)
    answer = small.post(f"{BASE}/events", content=pieces(10))
    assert (answer.status_code, answer.json()["detail"]) == (413, "A line must have at most 50000 bytes.")


def test_a_bucket_for_each_token():
    with service(rate=2.0) as client:
        one, other = (token_for(client.store, name) for name in ("one", "other"))
        seen = [client.get(f"{API}/me", headers=one) for _ in range(10)]
        codes = [answer.status_code for answer in seen]
        assert codes[:4] == [200] * 4
        assert codes[-1] == 429
        assert int(seen[-1].headers["retry-after"]) >= 1
        assert seen[-1].headers["content-type"] == "application/problem+json"
        assert client.get(f"{API}/me", headers=other).status_code == 200


def test_ever_new_tokens_share_the_bucket_of_their_address():
    with service(rate=0.1, anonymous=("view",)) as client:
        root = {"Authorization": client.headers.pop("Authorization")}
        ask = lambda shown: client.get(f"{API}/models", headers={"Host": "localhost", **shown}).status_code  # noqa: E731
        assert ask(root) == 200, "seen for the first time, and from then on it has a bucket of its own"
        shown = [{"Authorization": f"x{i}"} for i in range(5)] + [{"Cookie": f"caliber_session={i}"} for i in range(5)]
        assert [ask(each) for each in shown] == [429] * 10
        assert ask(root) == 200


def test_buckets_fill_again():
    rates = Rates(per_second=2.0)
    assert [rates.wait("a", now=0.0) for _ in range(5)] == [0.0] * 4 + [0.5]
    assert rates.wait("a", now=0.0, cost=0.0) == 0.5
    assert [rates.wait("a", now=0.6, cost=0.0) for _ in range(3)] == [0.0] * 3, "who only asks takes none"
    assert rates.wait("a", now=0.6) == 0.0
    assert Rates(per_second=0.0).wait("a", now=0.0) == 0.0


def looked_up(client, monkeypatch):
    """The texts that the store is asked about."""
    texts = []
    known = client.service.tokens._look_up

    def look_up(text):
        texts.append(text)
        return known(text)

    monkeypatch.setattr(client.service.tokens, "_look_up", look_up)
    return texts


def guess(client, i):
    text = f"cal_{i:012x}_{'x' * 43}"
    return client.get(f"{API}/me", headers={"Authorization": f"Bearer {text}"})


def test_guessing_tokens_is_stopped_before_they_are_looked_up(monkeypatch):
    with service() as client:
        good, root = token_for(client.store), client.headers["Authorization"]
        assert client.get(f"{API}/me").status_code == 200
        texts = looked_up(client, monkeypatch)
        codes = [guess(client, i).status_code for i in range(40)]
        assert codes == [401] * 20 + [429] * 20
        assert len(texts) == 20
        stopped = guess(client, 99)
        assert stopped.json()["detail"] == "Too many tokens that are not known; wait."
        assert int(stopped.headers["retry-after"]) >= 1
        # A token that nobody has seen yet could be a guess; one that was good, and who has none, go on.
        assert client.get(f"{API}/me", headers=good).status_code == 429
        assert client.get(f"{API}/me", headers={"Authorization": root}).status_code == 200
        client.headers.pop("Authorization")
        assert client.get("/healthz").status_code == 200
        assert client.get(f"{API}/me").status_code == 401
        # After a while it may be tried again.
        limits = client.app.middleware_stack
        while not hasattr(limits, "_guesses"):
            limits = getattr(limits, "app", None) or limits._app
        limits._guesses._left.clear()
        assert client.get(f"{API}/me", headers=good).status_code == 200


@pytest.mark.parametrize("way", ["login", "cookie", "socket", "subprotocol"])
def test_no_way_in_can_be_guessed_at(way):
    ways = {
        "login": lambda client, text: client.post("/login", data={"token": text}).status_code,
        "cookie": lambda client, text: (
            client.get(f"{API}/me", headers={"Cookie": f"caliber_session={text}"}).status_code
        ),
        "socket": lambda client, text: code_of(client, headers={"Authorization": f"Bearer {text}"}),
        "subprotocol": lambda client, text: code_of(client, headers={}, subprotocols=[f"caliber.bearer.{text}"]),
    }
    with service() as client:
        client.headers.pop("Authorization")
        codes = [ways[way](client, f"cal_{i:012x}_{'x' * 43}") for i in range(30)]
        bad = 4401 if way in {"socket", "subprotocol"} else 401
        assert codes == [bad] * 20 + [429] * 10


def code_of(client, **given):
    try:
        with client.websocket_connect(f"{API}/live", **given) as socket:
            socket.receive_text()
    except WebSocketDenialResponse as answer:
        return answer.status_code
    except WebSocketDisconnect as end:
        return end.code
    return 0


def test_what_answers_without_a_token_marks_no_token_as_good():
    with service() as client:
        for i in range(30):
            client.get("/healthz", headers={"Authorization": f"Bearer cal_{i:012x}_{'x' * 43}"})
        assert [guess(client, i).status_code for i in range(30)] == [401] * 20 + [429] * 10


def test_endless_headers_are_remembered_nowhere():
    with service() as client:
        for i in range(10):
            client.get(f"{API}/me", headers={"Authorization": f"Bearer {i}{'x' * 50_000}"})
        assert not any(len(text) > 1_000 for text in client.service.tokens._known)


def test_other_sites_pages_get_nothing_by_default():
    with service() as client:
        for headers in ({}, {"Access-Control-Request-Method": "GET"}):
            answer = client.options(f"{API}/models", headers={"Origin": "https://app.example", **headers})
            assert not any(name.startswith("access-control") for name in answer.headers)
        assert (
            "access-control-allow-origin"
            not in client.get(f"{API}/me", headers={"Origin": "https://app.example"}).headers
        )


def test_named_sites_pages_may_ask():
    with service(allow_origins=("https://app.example",)) as client:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        allowed = client.options(f"{BASE}/predictions", headers={"Origin": "https://app.example", **asked})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://app.example")
        assert "access-control-allow-credentials" not in allowed.headers, "never with the cookie"
        answer = client.get(f"{API}/me", headers={"Origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        for origin in ("https://evil.example", "https://app.example.evil.example", "http://app.example", "null"):
            refused = client.options(f"{BASE}/predictions", headers={"Origin": origin, **asked})
            assert refused.status_code == 400
            assert "access-control-allow-origin" not in refused.headers
            assert "access-control-allow-origin" not in client.get(f"{API}/me", headers={"Origin": origin}).headers


def check_headers(answer, what):
    for name, value in BROWSERS.items():
        assert answer.headers.get_list(name) == [answer.headers[name]], (what, name)
        assert answer.headers[name].startswith(value), (what, name)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "server" not in answer.headers


def test_every_answer_says_what_browsers_must_not_do(small):
    @small.app.get("/api/v1/broken")
    def broken():
        raise RuntimeError("the secret of the inside")

    for operation in operations(small.app, open_too=True):
        body = {"json": {}} if operation.method in {"POST", "PUT", "PATCH"} else {}
        answer = small.request(operation.method, operation.url(), follow_redirects=False, **body)
        check_headers(answer, operation.name)
        assert "no-store" in answer.headers["cache-control"], operation.name
    for status, method, path, given in (
        (404, "GET", "/nowhere", {}),
        (405, "DELETE", f"{API}/models", {}),
        (413, "POST", f"{BASE}/predictions", {"content": b" " * 200_000}),
        (401, "GET", f"{API}/models", {"headers": WRONG}),
        (415, "POST", f"{BASE}/predictions", {"content": b"", "headers": {"Content-Encoding": "br"}}),
        (500, "GET", f"{API}/broken", {}),
        (404, "GET", "/static/nothing.js", {}),
        (404, "GET", "/static/theme/nothing.js", {}),
    ):
        answer = small.request(method, path, **given)
        assert answer.status_code == status, (path, answer.text)
        check_headers(answer, path)
    assert "secret" not in small.get(f"{API}/broken").text
    assert f'route="{API}/broken",status="500"' in small.get("/metrics").text


@pytest.mark.parametrize("path", ["/static/dashboard.js", "/static/theme/caliber.css", "/login"])
def test_files_too(small, path):
    if path == "/static/dashboard.js":
        path = f"/static/{next(each.name for each in sorted(_STATIC.iterdir()) if each.is_file())}"
    answer = small.get(path)
    assert answer.status_code == 200
    check_headers(answer, path)


def test_routes_are_counted_as_the_reference_spells_them(small):
    for path in ("/reviews", f"{API}/reviews", "/openapi.json", "/healthz", "/nowhere", f"{BASE}/report"):
        small.get(path)
    small.get(f"{BASE}/reviews/a/b")
    small.post(f"{BASE}/predictions", json={"probability": 0.9})
    counted = set(re.findall(r'caliber_http_requests_total\{method="(\w+)",route="(.*?)"', small.get("/metrics").text))
    of_version = f"{API}/models/{{model}}/versions/{{version}}"
    gets = {"/reviews", f"{API}/reviews", "/openapi.json", "/healthz", "none"}
    gets |= {f"{of_version}/report", f"{of_version}/reviews/{{prediction_id}}"}
    assert {route for method, route in counted if method == "GET"} == gets
    assert {route for method, route in counted if method == "POST"} == {f"{of_version}/predictions"}


def test_invented_methods_make_no_counters_without_end(small):
    for i in range(20):
        assert small.request(f"METHOD{i}", f"{API}/models").status_code == 405
    assert "METHOD" not in small.get("/metrics").text

"""Who may do what: every address is found by itself, and asked by everybody who may not."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import uuid

import pytest
from starlette.routing import Mount
from starlette.websockets import WebSocketDisconnect

from live_routes import OPEN, operations, sockets
from live_service import API, service, token_for
from live_streams import Clock, said
from mlflow_caliber.server._access import SUBPROTOCOL, csrf_of

BASE = f"{API}/models/churn/versions/1"
# What an address needs; what is not named here needs the role view.
INGEST = {"/predictions", "/outcomes", "/events", "/api/models", "/api/predictions", "/versions/{version}"}
REVIEW = {"/claim", "/release", "/decide", "/label-studio", "/api/review/{prediction_id}"}
ANY = {"/api/v1/me", "/logout"}


def role_of(operation):
    method, path = operation.method, operation.path
    if path in ANY:
        return None
    if "/tokens" in path and path.startswith(API):
        return "admin"
    if path.endswith("/label-studio"):
        return "review"
    if method == "GET":
        return "view"
    if any(path.endswith(end) for end in INGEST):
        return "ingest"
    return "review" if any(path.endswith(end) for end in REVIEW) else "admin"


@pytest.fixture(scope="module")
def clock():
    return Clock(1_700_000_000.0)


@pytest.fixture(scope="module")
def shared(clock):
    """A service whose caller tries many tokens, with one case for a reviewer."""
    with service(clock=clock) as client:
        stream = client.store.stream("churn", "1", classes=["no", "yes"])
        stream.record([said("a", 0.6, clock.now, prediction="yes", abstained=True)])
        client.app.state.root = client.headers.pop("Authorization")
        yield client


@pytest.fixture(autouse=True)
def unthrottled(monkeypatch):
    """Bad tokens come here by the hundred; what stops them is tested elsewhere."""
    monkeypatch.setattr("mlflow_caliber.server._limits.Rates.wait", lambda *args, **given: 0.0)


def ask(client, operation, headers=None):
    body = {"json": {}} if operation.method in {"POST", "PUT", "PATCH"} else {}
    return client.request(operation.method, operation.url(), headers=headers, follow_redirects=False, **body)


def refused(client, headers, status, only=lambda operation: True):
    """The addresses that do not answer with the status."""
    wrong = []
    for operation in filter(only, operations(client.app)):
        answer = ask(client, operation, headers)
        if operation.is_page and status == 401:
            ok = answer.status_code == 303 and answer.headers["location"].startswith("/login?next=")
        else:
            ok = answer.status_code == status
        if not ok:
            wrong.append((operation.name, answer.status_code, answer.text[:100]))
    return wrong


@contextlib.contextmanager
def traffic(store):
    """Predictions, so that a socket has something to say."""
    stream, end = store.stream("churn", "1"), threading.Event()

    def go_on():
        while not end.wait(0.1):
            stream.record([said(uuid.uuid4().hex, 0.9, 1.0, prediction="yes")])

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def code_of(client, path, headers=None, **given):
    """The code that a WebSocket is closed with; 0 when it speaks."""
    with client.websocket_connect(path, headers=dict(headers or {}), **given) as socket, traffic(client.store):
        try:
            socket.receive_text()
        except WebSocketDisconnect as end:
            return end.code
    return 0


def read_on(socket):
    """What was on its way, and more if it goes on."""
    for _ in range(60):
        socket.receive_text()


def bad_tokens(client, clock):
    """Headers that let nobody in."""
    store = client.store
    whole = client.app.state.root
    revoked, text = store.create_token("gone", ["admin"], actor="test")
    store.revoke_token(revoked.id, "test")
    _, short = store.create_token("short", ["admin"], days=1, actor="test")
    alive, _ = store.create_token("alive", ["admin"], actor="test")
    clock.now += 2 * 86_400.0
    return {
        "none": None,
        "empty": {"Authorization": "Bearer "},
        "broken": {"Authorization": whole[:-1] + ("A" if whole[-1] != "A" else "B")},
        "cut": {"Authorization": whole[:-1]},
        "longer": {"Authorization": f"{whole}A"},
        "endless": {"Authorization": f"Bearer {'x' * 10_000}"},
        "of another": {"Authorization": f"Bearer cal_{alive.id}_{whole.rpartition('_')[2]}"},
        "basic": {"Authorization": f"Basic {whole.removeprefix('Bearer ')}"},
        "bare": {"Authorization": whole.removeprefix("Bearer ")},
        "letters": {"Authorization": "Bearer \xe4\xf6\xfc".encode("latin-1")},
        "revoked": {"Authorization": f"Bearer {text}"},
        "expired": {"Authorization": f"Bearer {short}"},
        "session as token": {"Authorization": f"Bearer {store.open_session(alive, 3_600)}"},
        "token as session": {"Cookie": f"caliber_session={whole.removeprefix('Bearer ')}"},
        "empty session": {"Cookie": "caliber_session="},
    }


def test_everything_is_found(shared):
    names = {operation.name for operation in operations(shared.app)}
    assert {f"PUT {API}/models/{{model}}/versions/{{version}}", "GET /api/models", "GET /metrics", "GET /"} <= names
    assert set(sockets(shared.app)) == {f"{API}/live", "/ws/live"}
    # What the document describes, and what answers, are the same.
    documented = {
        f"{method.upper()} {path}"
        for path, methods in shared.app.openapi()["paths"].items()
        for method in methods
        if path not in OPEN
    }
    found = {re.sub(":path}", "}", name) for name in names}
    assert documented <= found
    assert all(
        name.endswith(("/logout", "/", "/{version}", "/reviews", "/audit", "/tokens")) for name in found - documented
    )
    mounts = [route.path for route in shared.app.routes if isinstance(route, Mount)]
    assert mounts == ["/static/theme", "/static"]


def test_a_route_that_is_added_later_is_tested_too():
    with service() as client:

        @client.app.get("/api/v1/secrets")
        def secrets():
            return "all of them"

        client.headers.pop("Authorization")
        assert [name for name, *_ in refused(client, None, 401)] == ["GET /api/v1/secrets"]


def test_nobody_comes_in_without_a_token_that_is_good(shared, clock):
    for name, headers in bad_tokens(shared, clock).items():
        assert refused(shared, headers, 401) == [], name
        for path in sockets(shared.app):
            assert code_of(shared, path, headers) == 4401, (name, path)
    text = shared.get(BASE).json()["detail"]
    assert text == "A token is needed: Authorization: Bearer cal_..., or log in at /login."
    assert shared.get(BASE).headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("role", ["ingest", "review", "view", "admin"])
def test_each_role_may_do_its_part_and_nothing_else(shared, role):
    headers = token_for(shared.store, f"only-{role}", [role])
    may = {"view": {"view"}, "review": {"view", "review"}, "ingest": {"ingest"}}.get(role)
    allowed = {None, *(may or {"view", "review", "ingest", "admin"})}
    assert refused(shared, headers, 403, lambda each: role_of(each) not in allowed) == []
    for operation in operations(shared.app):
        if role_of(operation) in allowed:
            assert ask(shared, operation, headers).status_code not in {401, 403}, operation.name
    for path in sockets(shared.app):
        assert code_of(shared, path, headers) == (4401 if role == "ingest" else 0)


def log_in(client, token=None, **form):
    text = client.app.state.root.removeprefix("Bearer ") if token is None else token
    return client.post("/login", data={"token": text, **form}, follow_redirects=False)


@pytest.fixture
def session(shared):
    """A browser that has logged in; afterwards it has forgotten."""
    answer = log_in(shared)
    assert answer.status_code == 303
    yield shared.cookies["caliber_session"]
    shared.cookies.clear()


def test_login(shared):
    bad = log_in(shared, "cal_0123456789ab_" + "x" * 43)
    assert (bad.status_code, "set-cookie" in bad.headers) == (401, False)
    assert "That token is not known" in bad.text
    good = log_in(shared, next="/reviews")
    cookie = good.headers["set-cookie"].lower()
    assert good.headers["location"] == "/reviews"
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie, "without TLS the browser would not send it"
    shared.cookies.clear()
    assert log_in(shared, shared.store.open_session(shared.store.tokens()[0], 60)).status_code == 401
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = shared.post("/login", data={"token": "x"}, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")


def test_behind_tls_the_cookie_is_for_tls_only():
    with service(behind_proxy=True) as client:
        client.app.state.root = client.headers.pop("Authorization")
        assert "secure" in log_in(client).headers["set-cookie"].lower()


ELSEWHERE = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/\n/evil.example",
    "/\r\nLocation: https://evil.example",
    "https:evil.example",
    "https://evil.example",
    "HTTPS://evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "%2f%2fevil.example",
    "/\u2028/evil.example",
    "/\x00/evil.example",
    "@evil.example",
    "evil.example",
    "",
]


@pytest.mark.parametrize("wanted", ELSEWHERE)
def test_login_leads_nowhere_else(shared, wanted):
    answer = log_in(shared, next=wanted)
    shared.cookies.clear()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = shared.get("/login", params={"next": wanted}).text
    assert re.search(r'name="next" value="([^"]*)"', page)[1] == "/"


def test_encoded_slashes_stay_on_this_site(shared):
    answer = log_in(shared, next="/%2fevil.example")
    shared.cookies.clear()
    assert answer.headers["location"] == "/%2fevil.example", "a path of ours, however it is spelled"


def test_a_session_changes_nothing_without_the_word_of_its_page(shared, session):
    me = shared.get(f"{API}/me").json()
    assert (me["via"], me["csrf"]) == ("session", csrf_of(session))
    unsafe = lambda each: each.method != "GET"  # noqa: E731
    for headers in (
        {},
        {"X-CSRF-Token": "x"},
        {"X-CSRF-Token": b"\xe9\xe9"},
        {"X-CSRF-Token": me["csrf"][:-1]},
        {"X-CSRF-Token": csrf_of(session + "x")},
        {"X-CSRF-Token": me["csrf"], "Origin": "https://evil.example"},
        {"X-CSRF-Token": me["csrf"], "Origin": "null"},
        {"X-CSRF-Token": me["csrf"], "Origin": "http://testserver.evil.example"},
        {"X-CSRF-Token": me["csrf"], "Origin": "http://testserver:8000"},
        {"X-CSRF-Token": me["csrf"], "Sec-Fetch-Site": "cross-site"},
        {"X-CSRF-Token": me["csrf"], "Sec-Fetch-Site": "same-site"},
    ):
        assert refused(shared, headers, 403, unsafe) == [], headers
    own = {"X-CSRF-Token": me["csrf"], "Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    assert shared.put(BASE, json={}, headers=own).status_code == 200


def test_another_sites_page_may_not_listen(shared, session):
    for path in sockets(shared.app):
        assert code_of(shared, path, {"Origin": "http://testserver"}) == 0
        assert code_of(shared, path, {"Origin": "https://evil.example"}) == 4401
        assert code_of(shared, path, {"Sec-Fetch-Site": "cross-site"}) == 4401


def test_logout_kills_the_session(shared, session):
    cookie = {"Cookie": f"caliber_session={session}"}
    done = shared.post("/logout", headers={"X-CSRF-Token": csrf_of(session)}, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, "/login")
    shared.cookies.clear()
    assert shared.get(f"{API}/me", headers=cookie).status_code == 401


def test_a_revoked_token_takes_its_sessions_along(shared):
    token, text = shared.store.create_token("mia", ["admin"], actor="test")
    session = {"Cookie": f"caliber_session={shared.store.open_session(token, 3_600)}"}
    both = (session, {"Authorization": f"Bearer {text}"})
    assert [shared.get(f"{API}/me", headers=each).status_code for each in both] == [200, 200]
    revoked = shared.delete(f"{API}/tokens/{token.id}", headers={"Authorization": shared.app.state.root})
    assert revoked.status_code == 200
    assert [shared.get(f"{API}/me", headers=each).status_code for each in both] == [401, 401]


def test_what_another_process_revokes_is_believed_for_two_seconds(shared, monkeypatch):
    token, text = shared.store.create_token("mia", ["view"], actor="test")
    headers = {"Authorization": f"Bearer {text}"}
    assert shared.get(f"{API}/me", headers=headers).status_code == 200
    shared.store.revoke_token(token.id, "test")
    now = time.monotonic()
    monkeypatch.setattr("mlflow_caliber.server._service.time.monotonic", lambda: now + 2.1)
    assert shared.get(f"{API}/me", headers=headers).status_code == 401


@pytest.mark.parametrize("path", [f"{API}/live", "/ws/live"])
def test_a_revoked_session_ends_its_socket_where_anybody_may_look(path):
    with service(anonymous=("view",)) as client:
        client.headers.pop("Authorization")
        token, _ = client.store.create_token("mia", ["view"], actor="test")
        headers = {"Host": "localhost", "Cookie": f"caliber_session={client.store.open_session(token, 60.0)}"}
        with client.websocket_connect(path, headers=headers) as socket, traffic(client.store):
            socket.receive_text()
            client.store.revoke_token(token.id, "test")
            client.service.forget()
            with pytest.raises(WebSocketDisconnect) as end:
                read_on(socket)
            assert end.value.code == 1001


def test_a_session_ends_in_time(shared, clock):
    token, _ = shared.store.create_token("mia", ["view"], actor="test")
    session = {"Cookie": f"caliber_session={shared.store.open_session(token, 3_600)}"}
    assert shared.get(f"{API}/me", headers=session).status_code == 200
    clock.now += 3_601.0
    shared.service.forget()
    assert shared.get(f"{API}/me", headers=session).status_code == 401


def test_whoever_makes_tokens_is_an_admin_of_all_models(shared):
    some = token_for(shared.store, "half", ["admin"], ["churn"])
    for method, path in (("GET", "/tokens"), ("POST", "/tokens"), ("DELETE", "/tokens/0123456789ab")):
        body = {"json": {"name": "x", "roles": ["admin"]}} if method == "POST" else {}
        assert shared.request(method, API + path, headers=some, **body).status_code == 403
    before = len(shared.store.tokens())
    made = shared.post(
        f"{API}/tokens", json={"name": "x", "roles": ["root"]}, headers={"Authorization": shared.app.state.root}
    )
    assert (made.status_code, len(shared.store.tokens())) == (422, before)


def test_without_a_token_only_this_machine_comes_in():
    with service(anonymous=("view", "ingest")) as client:
        client.headers.pop("Authorization")
        put = lambda **headers: client.put(BASE, json={}, headers=headers).status_code  # noqa: E731
        for host in ("localhost", "localhost:8600", "127.0.0.1:8600", "[::1]:8600", "[::1]"):
            assert put(Host=host) == 200, host
            assert put(Host=host, Origin=f"http://{host}") == 200
            assert put(Host=host, Origin="https://evil.example") == 403
            assert put(Host=host, **{"Sec-Fetch-Site": "cross-site"}) == 403
        for host in ("evil.example", "evil.example:8600", "localhost.evil.example", "127.0.0.1.evil.example:8600", ""):
            assert put(Host=host) == 403, host
            assert refused(client, {"Host": host}, 403) == [], host
            for path in sockets(client.app):
                assert code_of(client, path, {"Host": host}) == 4401
        assert client.get(f"{API}/tokens", headers={"Host": "localhost"}).status_code == 403
        for path in sockets(client.app):
            assert code_of(client, path, {"Host": "localhost", "Origin": "https://evil.example"}) == 4401


def test_a_token_of_a_socket_may_be_its_subprotocol(shared):
    text = shared.app.state.root.removeprefix("Bearer ")
    with shared.websocket_connect(f"{API}/live", subprotocols=[f"{SUBPROTOCOL}{text}"]) as socket:
        assert socket.receive_json() == {
            "type": "hello",
            "name": "root",
            "roles": ["ingest", "review", "view", "admin"],
        }
    assert code_of(shared, f"{API}/live", subprotocols=[f"{SUBPROTOCOL}{text}x"]) == 4401

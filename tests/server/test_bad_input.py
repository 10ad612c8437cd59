"""What cannot be used is refused in a sentence, and leaves everything as it was."""

from __future__ import annotations

import gzip
import hashlib
import json
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from live_service import API, service
from live_streams import Clock, said
from mlflow_caliber.store import StreamSettings

BASE = f"{API}/models/churn/versions/1"
JSON = {"Content-Type": "application/json"}
HUGE = "9" * 400
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    clock = Clock(1_700_000_000.0)
    with service(f"sqlite:///{tmp_path_factory.mktemp('bad')}/caliber.db", clock, max_body_mb=1.0) as client:
        stream = client.store.stream("churn", "1", classes=["no", "yes"])
        stream.change_settings(StreamSettings(abstain_threshold=0.7), "root")
        stream.record([said("a", 0.6, clock.now, prediction="yes", abstained=None)])
        client.store.stream("free", "1")
        client.number = stream.id
        client.get(f"{BASE}/predictions").raise_for_status()
        yield client


def content_of(client):
    """A digest of all rows of all tables but the sums, which are taken of the log at a time of their own."""
    engine = sa.create_engine(client.service.settings.store_uri)
    tables = sa.MetaData()
    tables.reflect(engine)
    digest = hashlib.sha256()
    with engine.connect() as connection:
        for table in tables.sorted_tables:
            if table.name == "summaries":
                continue
            rows = sorted(repr(tuple(row)) for row in connection.execute(sa.select(table)))
            digest.update(f"{table.name} {len(rows)} {rows}".encode())
    engine.dispose()
    return digest.hexdigest()


def prediction(**values):
    return json.dumps({"prediction_id": "x", "probability": 0.9, **values})


def written(text):
    """A prediction whose probability is written like that."""
    return '{"prediction_id": "x", "probability": %s}' % text  # noqa: UP031


# Method, address, body, and what the sentence must say.
PREDICTIONS = [
    (written("NaN"), "JSON, which has no NaN"),
    (written("Infinity"), "JSON, which has no Infinity"),
    (written("-Infinity"), "JSON, which has no -Infinity"),
    (written("1e400"), "must be a number in"),
    (written("-5"), r"must be a number in \[0, 1\], got -5"),
    (written("7.3"), r"must be a number in \[0, 1\], got 7.3"),
    (written('"0.5"'), "must be a number"),
    (written("true"), "must be a number"),
    (written("null"), "must have probability or confidence"),
    (written("[0.5]"), "must be a number"),
    (written("{}"), "must be a number"),
    (written(HUGE), "must be a number in"),
    (written("9" * 5_000), "cannot be read"),
    (prediction(prediction_id=""), "prediction_id must not be empty"),
    (prediction(prediction_id="x" * 201), "at most 200 characters"),
    (prediction(prediction_id="x" * 100_000), "at most 200 characters"),
    (prediction(prediction_id="a\0b"), "must not hold the character NUL"),
    (prediction(prediction_id="\ud800"), "text that UTF-8 can hold"),
    (prediction(prediction_id=7), "prediction_id must be"),
    (prediction(prediction_id=None), "prediction_id must be"),
    (prediction(prediction_id=["x"]), "prediction_id must be"),
    (prediction(prediction_id={"x": "y"}), "prediction_id must be"),
    (prediction(segment="\udfff"), "UTF-8"),
    (prediction(segment="x" * 2_001), "at most 2000 characters"),
    (prediction(segment=7), "segment must be"),
    (prediction(reason="\0"), "NUL"),
    (prediction(reason=7), "reason must be"),
    (prediction(features=[1]), "features must map"),
    (prediction(features="x"), "features must map"),
    (prediction(features={"a": "x" * 1_000_000}), "at most"),
    (prediction(abstained="yes"), "abstained must be"),
    (prediction(abstained=1), "abstained must be"),
    (prediction(prediction="perhaps"), "one of the classes 'no', 'yes'"),
    (prediction(prediction=["yes"]), "label"),
    (prediction(prediction={}), "label"),
    (prediction(confidence=0.2), "must be the probability of the predicted label"),
    (prediction(confidence=7), "confidence must be"),
    (prediction(predicted_at=-1), "seconds since 1970"),
    (prediction(predicted_at=1e300), "seconds since 1970"),
    (prediction(predicted_at="2026-01-01"), "predicted_at must be"),
    (prediction(predicted_at=int(HUGE)), "seconds since 1970"),
    (prediction(probabilities=[0.5]), "probabilities"),
    (prediction(probabilities="x"), "probabilities"),
    (prediction(probabilities=[0.9, 0.9]), "probabilities"),
    (prediction(probabilities=[7, -6]), "probabilities"),
    (prediction(probabilities=[None, None]), "probabilities"),
    (prediction(probabilities=[0.9, 0.1]), "must be the probability of the predicted label, 0.1, got 0.9"),
    (prediction(raw_probability=-0.1), "raw_probability must be"),
    (prediction(base_probability=1.1), "probability must be a number in"),
    (prediction(calibrator_revision="x" * 2_001), "at most 2000 characters"),
    (prediction(score=1), "score"),
    (prediction(**{"probabilty": 0.5}), "probabilty"),
    ("{}", "must have probability or confidence"),
    ("[]", "must hold 1 to 10000 predictions, got 0"),
    (json.dumps([{"probability": 0.5}] * 10_001), "must hold 1 to 10000 predictions, got 10001"),
    ("[[]]", "must be a JSON object"),
    ("null", "must be a JSON object"),
    ("7", "must be a JSON object"),
    ('"x"', "must be a JSON object"),
    ("true", "must be a JSON object"),
    ("", "must be JSON"),
    (" ", "must be JSON"),
    ("{", "must be JSON"),
    ("{'a': 1}", "must be JSON"),
    ('{"probability": 0.5,}', "must be JSON"),
    (b"\xff\xfe\xff", "must be JSON"),
    (prediction().encode("utf-16"), "must be JSON in UTF-8, and is no UTF-8"),
    ('{"probability": 0.1, "probability": 0.9}', "must be JSON that names each key once, got 'probability' twice"),
    (prediction(features={})[:-3] + '{"a": 1, "a": 1}}', "names each key once, got 'a' twice"),
    (b'{"prediction_id": "\xff", "probability": 0.9}', "must be JSON"),
    (DEEP, "must be JSON"),
    (prediction(features={"a": json.loads("[" * 500 + "]" * 500)}), "nested at most 100 deep"),
]
OUTCOMES = [
    ('{"prediction_id": "a"}', "outcome, which is missing"),
    ('{"outcome": "yes"}', "prediction_id, which is missing"),
    ('{"prediction_id": "a", "outcome": null}', "outcome, which is missing"),
    ('{"prediction_id": "a", "outcome": "perhaps"}', "one of the classes"),
    ('{"prediction_id": "a", "outcome": NaN}', "has no NaN"),
    ('{"prediction_id": "a", "outcome": 1e400}', "outcome must be"),
    ('{"prediction_id": "a", "outcome": []}', "outcome must be a label"),
    ('{"prediction_id": "a", "outcome": "yes", "observed_at": -1}', "seconds since 1970"),
    ('{"prediction_id": "a", "outcome": "yes", "observed_at": "now"}', "observed_at must be"),
    ('{"prediction_id": "a", "outcome": "yes", "source": "rumour"}', "source must be one of"),
    ('{"prediction_id": "a", "outcome": "yes", "source": []}', "source must be"),
    ('{"prediction_id": "a", "outcome": "yes", "note": "x"}', "note"),
    ('{"prediction_id": "\\ud800", "outcome": "yes"}', "UTF-8"),
    ("[]", "1 to 10000 outcomes"),
]
SETTINGS = [
    ('{"abstain_threshold": NaN}', "abstain_threshold"),
    ('{"abstain_threshold": 7}', "abstain_threshold"),
    ('{"abstain_threshold": -0.1}', "abstain_threshold"),
    ('{"abstain_threshold": 1e400}', "abstain_threshold"),
    ('{"abstain_threshold": "high"}', "abstain_threshold"),
    ('{"stage": 7}', "stage"),
    (json.dumps({"stage": "x" * 10_000}), "stage"),
    ('{"stage": "\\u0000"}', "stage"),
    ('{"stage": "\\ud800"}', "stage"),
    ('{"parent_version": "\\u0000"}', "parent_version"),
    ('{"review": {"answers": 0}}', "answers"),
    ('{"review": {"answers": 10}}', "answers"),
    ('{"review": {"answers": 1.5}}', "answers"),
    ('{"review": {"lease_minutes": -1}}', "lease_minutes"),
    ('{"review": {"lease_minutes": 0}}', "lease_minutes"),
    ('{"review": {"lease_minutes": Infinity}}', "lease_minutes"),
    ('{"review": {"capacity_per_day": -1}}', "capacity_per_day"),
    ('{"review": {"capacity_per_day": %s}}' % HUGE, "capacity_per_day"),  # noqa: UP031
    ('{"review": {"audit_share": 2}}', "audit_share"),
    ('{"review": {"audit_share": NaN}}', "audit_share"),
    ('{"review": {"costs": {"yes": -1}}}', "costs"),
    ('{"review": {"costs": {"yes": NaN}}}', "costs"),
    ('{"review": {"order": "random"}}', "order"),
    ('{"review": {"colour": "red"}}', "colour"),
    ('{"review": 7}', "review"),
    ('{"colour": "red"}', "colour"),
    ("[]", "The body"),
    ("null", "body"),
    ("", "body"),
    (DEEP, "body"),
    (b"\xff", "body"),
]
DECISIONS = [
    ("{}", "answer is missing"),
    ('{"answer": "maybe"}', "answer"),
    ('{"answer": "correct"}', "label"),
    ('{"answer": "correct", "label": "perhaps"}', "one of the classes"),
    ('{"answer": "correct", "label": ""}', "label"),
    ('{"answer": "correct", "label": {}}', "label"),
    ('{"answer": "correct", "label": NaN}', "label"),
    ('{"answer": "correct", "label": 1e400}', "label"),
    ('{"answer": "confirm", "label": "no"}', "agrees with the prediction"),
    ('{"answer": "escalate"}', "note"),
    (json.dumps({"answer": "confirm", "note": "x" * 2_001}), "note"),
    ('{"answer": "confirm", "note": "\\u0000"}', "NUL"),
    ('{"answer": "confirm", "note": "\\ud800"}', "note"),
    ('{"answer": "confirm", "mood": "good"}', "mood"),
]
TOKENS = [
    ("{}", "name is missing"),
    ('{"name": "", "roles": ["view"]}', "name"),
    ('{"name": "x", "roles": []}', "role"),
    ('{"name": "x", "roles": "view"}', "roles"),
    ('{"name": "x", "roles": ["god"]}', "god"),
    ('{"name": "x", "roles": ["view"], "days": 0}', "days"),
    ('{"name": "x", "roles": ["view"], "days": -3}', "days"),
    ('{"name": "x", "roles": ["view"], "days": NaN}', "days"),
    ('{"name": "x", "roles": ["view"], "days": 1e400}', "days"),
    ('{"name": "x", "roles": ["view"], "days": 1e300}', "days"),
    ('{"name": "x", "roles": ["view"], "models": []}', "models"),
    ('{"name": "x", "roles": ["view"], "models": [""]}', "models"),
    ('{"name": "x", "roles": ["view"], "models": ["\\u0000"]}', "NUL"),
    ('{"name": "\\ud800", "roles": ["view"]}', "name"),
    ('{"name": "x", "roles": ["view"], "admin": true}', "admin"),
]
STREAMS = [
    ('{"classes": []}', "at least two classes"),
    ('{"classes": ["yes"]}', "at least two classes"),
    ('{"classes": ["yes", "yes"]}', "classes"),
    ('{"classes": ["yes", ""]}', "classes"),
    ('{"classes": "yes"}', "classes"),
    ('{"classes": [NaN, 1]}', "classes"),
    ('{"positive": "yes"}', "classes"),
    ('{"classes": ["no", "yes"], "positive": "perhaps"}', "positive"),
    ('{"classes": ["a", "b"]}', "a"),
    ('{"settings": {"abstain_threshold": 7}}', "abstain_threshold"),
    ('{"kind": "binary"}', "kind"),
]
QUERIES = [
    "report?window=banana",
    "report?labels=mine",
    "report?detail=all",
    "timeline?by=year",
    "timeline?last=0",
    "timeline?last=-1",
    "timeline?last=801",
    "timeline?last=x",
    "segments?window=0d",
    "alarms?state=shut",
    "predictions?limit=0",
    "predictions?limit=-1",
    "predictions?limit=1001",
    f"predictions?limit={HUGE}",
    "predictions?limit=1.5",
    "predictions?before=-1",
    f"predictions?before={HUGE}",
    "predictions?abstained=perhaps",
    "predictions?segment=%00",
    f"predictions?segment={'x' * 2_001}",
    f"reviews/{'x' * 201}",
    "reviews/label-studio?limit=0",
    f"alarms/{HUGE}/resolve",
    "alarms/-1/resolve",
    "alarms/x/resolve",
    f"revisions/{HUGE}/pin",
    "revisions/-1/pin",
    "revisions/1.5/pin",
]
ELSEWHERE = [
    ("GET", f"{API}/audit?limit=0", None),
    ("GET", f"{API}/audit?limit=-5", None),
    ("GET", f"{API}/audit?before={HUGE}", None),
    ("GET", f"{API}/reviews?status=lost", None),
    ("GET", f"{API}/reviews?order=random", None),
    ("GET", f"{API}/reviews?limit=501", None),
    ("GET", "/api/predictions?status=lost", None),
    ("GET", "/api/predictions?model_version_id=-1", None),
    ("GET", f"/api/calibration?model_version_id={HUGE}", None),
    ("POST", f"/api/review/{HUGE}", '{"ground_truth": "yes"}'),
    ("POST", "/api/review/-1", '{"ground_truth": "yes"}'),
    ("POST", "/api/review/x", '{"ground_truth": "yes"}'),
    ("POST", f"/api/review/{1 << 32 | 1}", '{"ground_truth": ""}'),
    ("POST", f"/api/review/{1 << 32 | 1}", '{"ground_truth": "perhaps"}'),
    ("POST", "/api/models", "{}"),
    ("POST", "/api/models", '{"name": "", "version": "1"}'),
    ("POST", "/api/models", '{"name": "m", "version": "1", "abstain_threshold": 7}'),
    ("POST", "/api/models", '{"name": "a/b", "version": "c"}'),
    ("POST", "/api/models", '{"name": "a", "version": "b/c"}'),
    ("POST", "/api/models", '{"name": "..", "version": "1"}'),
    ("POST", "/api/models", '{"name": "m", "version": "1", "parent_id": 1}'),
    ("POST", "/api/models", '{"name": "m", "version": "1", "abstain_threshold": NaN}'),
    ("POST", "/api/models", '{"name": "m\\u0000", "version": "1"}'),
    ("POST", "/api/models", '{"name": "m", "version": "1", "stage": "\\u0000"}'),
    ("POST", "/api/models", '{"name": "m", "version": "1", "parent_id": %s}' % HUGE),  # noqa: UP031
    ("POST", "/api/predictions", "{}"),
    ("POST", "/api/predictions", "[]"),
    ("POST", "/api/predictions", '{"model_version_id": true}'),
    (
        "POST",
        "/api/predictions",
        '{"model_version_id": 1, "sample_id": "s", "predicted_label": "yes", "confidence": 7}',
    ),
    (
        "POST",
        "/api/predictions",
        '{"model_version_id": 1, "sample_id": "s", "predicted_label": "yes", "confidence": NaN}',
    ),
    (
        "POST",
        "/api/predictions",
        '{"model_version_id": 1, "sample_id": "s", "predicted_label": "yes", "confidence": 0.9, "uncertainty": -1}',
    ),
    ("POST", "/api/predictions", '{"model_version_id": 1, "sample_id": "s", "predicted_label": {}, "confidence": 0.9}'),
    ("POST", "/api/predictions", '{"model_version_id": 1, "sample_id": "s", "predicted_label": "yes", "colour": 1}'),
    ("PUT", f"{API}/models/%00/versions/1", "{}"),
    ("PUT", f"{API}/models/{'m' * 201}/versions/1", "{}"),
    ("PUT", f"{API}/models/m/versions/{'1' * 10_000}", "{}"),
    ("GET", f"{API}/models/{'m' * 10_000}/versions/1", None),
    ("GET", f"{API}/models/%ff%fe/versions/1", None),
    ("GET", f"{API}/models/..%2f..%2fetc/versions/passwd", None),
    ("GET", "/static/..%2f..%2fapp.py", None),
    ("GET", "/static/theme/../../app.py", None),
    ("DELETE", f"{API}/tokens/%00", None),
    ("DELETE", f"{API}/tokens/{'0' * 5_000}", None),
    ("POST", f"{BASE}/reviews/label-studio", "{}"),
    ("POST", f"{BASE}/reviews/label-studio", "7"),
    ("POST", f"{BASE}/reviews/label-studio", "[7]"),
    ("POST", f"{BASE}/reviews/nobody/claim", None),
    ("DELETE", BASE, None),
    ("TRACE", BASE, None),
]
ALL = [
    *(("POST", f"{BASE}/predictions", *each) for each in PREDICTIONS),
    *(("POST", f"{BASE}/outcomes", *each) for each in OUTCOMES),
    *(("PATCH", f"{BASE}/settings", *each) for each in SETTINGS),
    *(("POST", f"{BASE}/reviews/a/decide", *each) for each in DECISIONS),
    *(("POST", f"{API}/tokens", *each) for each in TOKENS),
    *(("PUT", BASE, *each) for each in STREAMS),
    *(("POST" if each.endswith(("resolve", "pin")) else "GET", f"{BASE}/{each}", None, "") for each in QUERIES),
    *((*each, "") for each in ELSEWHERE),
]


def check_refused(answer, wanted):
    """A problem in a sentence, which tells nothing of what is inside."""
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail"}
    assert problem["status"] == answer.status_code
    assert wanted.lower().replace("\\", "") in problem["detail"].lower(), problem
    assert len(problem["detail"]) > 15
    assert problem["detail"].rstrip(")").endswith((".", "`")), problem
    assert not any(word in answer.text for word in ("Traceback", "sqlalchemy", "pydantic", "site-packages", 'File "'))


def test_there_are_enough():
    assert len(ALL) > 200


def test_what_cannot_be_used_is_refused_and_changes_nothing(client):
    before, wrong = content_of(client), []
    for method, path, body, wanted in ALL:
        content = body.encode() if isinstance(body, str) else body
        answer = client.request(method, path, content=content, headers=JSON if body is not None else None)
        try:
            check_refused(answer, wanted)
        except AssertionError as error:
            wrong.append(
                f"{method} {path[:100]} {str(body)[:100]} -> {answer.status_code} {answer.text[:200]}: {error}"[:700]
            )
    if content_of(client) != before:
        wrong.append("the store has changed")
    assert wrong == [], "\n\n".join(wrong)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "multipart/form-data", "application/x-www-form-urlencoded"]
)
def test_other_kinds_of_bodies(client, kind):
    before = content_of(client)
    for method, path in (("POST", "/predictions"), ("POST", "/outcomes"), ("PATCH", "/settings"), ("PUT", "")):
        check_refused(client.request(method, BASE + path, content=prediction(), headers={"Content-Type": kind}), "")
    assert content_of(client) == before


def test_packed_bodies_are_not_unpacked(client):
    before = content_of(client)
    bomb = gzip.compress(b" " * 50_000_000)
    for path in ("predictions", "outcomes", "events"):
        answer = client.post(f"{BASE}/{path}", content=bomb, headers={**JSON, "Content-Encoding": "gzip"})
        check_refused(answer, "must come as it is, got Content-Encoding gzip")
        assert answer.status_code == 415
    assert content_of(client) == before


def test_bad_lines_are_named_one_by_one(client):
    before = content_of(client)
    lines = [
        b"{",
        b"\xff",
        b"7",
        b"null",
        b'{"kind": "rumour"}',
        b'{"kind": ["prediction"]}',
        b'{"kind": "prediction", "probability": NaN}',
        b'{"kind": "prediction", "prediction_id": "\\ud800", "probability": 0.9}',
        b'{"kind": "outcome", "prediction_id": "a", "outcome": "perhaps"}',
        DEEP.encode(),
        b'{"kind": "prediction", "probability": 1e400}',
        b"\0",
    ]
    answer = client.post(f"{BASE}/events", content=b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["recorded"], told["n_refused"]) == (0, len(lines))
    assert [each["index"] for each in told["refused"]] == list(range(len(lines)))
    assert all(each["sentence"].endswith(".") for each in told["refused"]), told["refused"]
    assert content_of(client) == before


def test_a_bad_row_among_good_ones_never_costs_the_answer():
    with service() as client:
        client.put(BASE, json={"classes": ["no", "yes"]}).raise_for_status()
        rows = '[{"prediction_id": "good", "probability": 0.9}, {"prediction_id": "\\ud800", "probability": 0.9}]'
        told = client.post(f"{BASE}/predictions", content=rows, headers=JSON).json()
        assert (told["recorded"], told["refused"][0]["prediction_id"]) == (1, "?")


@pytest.mark.parametrize(
    "name", ["a b", "ü", "日本", "<script>", "a'b", 'a"b', "a;b", "a?b", "a#b", "%", ".", "\u202e"]
)
def test_names_with_odd_characters_are_names(client, name):
    path = f"{API}/models/{quote(name, safe='') if name != '.' else 'a.b'}/versions/1"
    assert client.put(path, json={}).status_code == 200
    made = client.get(path).json()
    assert made["model"] == (name if name != "." else "a.b")
    page = client.get(path.removeprefix(API).replace("/versions/", "/"), headers={"Accept": "text/html"})
    assert "<script>/" not in page.text

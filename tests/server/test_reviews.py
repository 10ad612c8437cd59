"""Reviewing over HTTP: what a reviewer sees, who gets a case, and what an answer does."""

from __future__ import annotations

import threading

import pytest

from live_service import API, service, token_for
from live_streams import Clock, said
from mlflow_caliber.store import Outcome, ReviewSettings, StreamSettings

BASE = f"{API}/models/churn/versions/3/reviews"


@pytest.fixture
def clock():
    return Clock(1_700_000_000.0)


@pytest.fixture
def client(tmp_path, clock):
    with service(f"sqlite:///{tmp_path}/caliber.db", clock) as client:
        yield client


@pytest.fixture
def stream(client, clock):
    """Three cases, of which "b" is the least certain, and a prediction that was answered."""
    stream = client.store.stream("churn", "3", classes=["no", "yes"])
    settings = StreamSettings(abstain_threshold=0.8, review=ReviewSettings(costs={"yes": 5.0}))
    stream.change_settings(settings, "admin")
    cases = [("a", 0.7), ("b", 0.55), ("c", 0.25), ("sure", 0.95)]
    stream.record(
        [
            said(name, p, clock.now, prediction="yes" if p >= 0.5 else "no", abstained=None, features={"age": 44})
            for name, p in cases
        ]
    )
    return stream


@pytest.fixture
def mia(client):
    return token_for(client.store, "mia", ["review"])


@pytest.fixture
def max_(client):
    return token_for(client.store, "max", ["review"])


def queue(client, headers=None, **asked):
    answer = client.get(f"{API}/reviews", params=asked, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(found):
    return [each["prediction_id"] for each in found["reviews"]]


def test_the_queue_says_why_each_case_came(client, stream, mia):
    found = queue(client, mia)
    assert ids(found) == ["b", "a", "c"]
    assert (found["waiting"], found["today"]) == (3, {"decided": 0, "capacity": None, "left": None})
    first = found["reviews"][0]
    assert first["rule"] == "The confidence 0.550 was below the threshold at the time (now 0.8)."
    assert first["runner_up"] == {"label": "no", "probability": pytest.approx(0.45)}
    assert (first["prediction"], first["classes"], first["features"]) == ("yes", ["no", "yes"], {"age": 44})
    assert ids(queue(client, mia, order="cost")) == ["c", "b", "a"]
    assert queue(client, mia, order="cost")["reviews"][0]["expected_cost"] == pytest.approx(1.25)
    assert ids(queue(client, mia, order="oldest", limit=2)) == ["a", "b"]
    least = said("least", 0.5, 0.0, confidence=3.6e-4, prediction="yes", abstained=None)
    stream.record([least])
    rule = queue(client, mia)["reviews"][0]["rule"]
    assert rule == "The confidence 3.6e-4 was below the threshold at the time (now 0.8)."


def test_whose_eyes(client, stream, clock):
    client.store.stream("fraud", "1", classes=["no", "yes"]).record(
        [said("x", 0.6, clock.now, abstained=True, prediction="yes")]
    )
    viewer = token_for(client.store, "vera", ["view"], ["churn"])
    found = queue(client, viewer)
    assert {each["model"] for each in found["reviews"]} == {"churn"}
    assert all(each["features"] is None for each in found["reviews"])
    assert client.get(f"{BASE}/a", headers=viewer).json()["features"] is None
    assert client.post(f"{BASE}/a/claim", headers=viewer).status_code == 403
    assert client.get(f"{API}/reviews", params={"model": "fraud"}, headers=viewer).status_code == 404
    assert client.get(f"{API}/reviews", params={"model": "other"}, headers=viewer).status_code == 404
    reviewer = token_for(client.store, "rita", ["review"], ["fraud"])
    assert client.post(f"{BASE}/a/claim", headers=reviewer).status_code == 404
    assert ids(queue(client)) == ["b", "x", "a", "c"]


def test_a_case_is_one_reviewers(client, stream, mia, max_, clock):
    taken = client.post(f"{BASE}/a/claim", headers=mia).json()
    assert (taken["status"], taken["claimed_by"]) == ("claimed", "mia")
    assert taken["lease_expires_at"] == clock.now + 900.0
    assert ids(queue(client, mia, status="mine")) == ["a"]
    assert ids(queue(client, max_)) == ["b", "c"]
    for act, body in (("claim", None), ("release", None), ("decide", {"answer": "confirm"})):
        lost = client.post(f"{BASE}/a/{act}", json=body, headers=max_)
        assert (lost.status_code, lost.json()["detail"]) == (409, "The review of 'a' is claimed by 'mia'.")
    assert client.post(f"{BASE}/a/release", headers=mia).json()["status"] == "open"
    assert client.post(f"{BASE}/a/claim", headers=max_).json()["claimed_by"] == "max"
    clock.now += 901.0
    assert client.post(f"{BASE}/a/claim", headers=mia).json()["claimed_by"] == "mia"


def test_an_answer_shows_what_it_did(client, stream, mia, clock):
    stream.record([Outcome(prediction_id="sure", outcome="yes", observed_at=clock.now)])
    done = client.post(f"{BASE}/b/decide", json={"answer": "correct", "label": "no", "note": "called"}, headers=mia)
    review, effect = done.json()["review"], done.json()["effect"]
    assert (review["status"], review["outcome"], review["reviewer"], review["note"]) == ("done", "no", "mia", "called")
    assert effect["recorded"]
    assert effect["sentence"] == "The outcome 'no' was recorded for churn/3."
    assert (effect["n_labelled_before"], effect["n_labelled_after"]) == (1, 2)
    assert effect["metrics_after"]["log_loss"] > effect["metrics_before"]["log_loss"]
    assert ids(queue(client, mia, status="done")) == ["b"]
    assert queue(client, mia)["today"]["decided"] == 1
    again = client.post(f"{BASE}/b/decide", json={"answer": "correct", "label": "no"}, headers=mia).json()
    assert not again["effect"]["recorded"]
    assert again["effect"]["sentence"] == "Nothing has changed: that is what was decided."


def test_what_was_observed_meanwhile_is_said(client, stream, mia, clock):
    happened = [Outcome(prediction_id=name, outcome="yes", observed_at=clock.now) for name in ("a", "b")]
    stream.record(happened)
    agreed = client.post(f"{BASE}/a/decide", json={"answer": "confirm"}, headers=mia).json()["effect"]
    assert agreed["sentence"] == "The outcome 'yes' was known already (observed meanwhile), and the review agrees."
    replaced = client.post(f"{BASE}/b/decide", json={"answer": "correct", "label": "no"}, headers=mia).json()["effect"]
    assert replaced["recorded"]
    assert replaced["sentence"] == (
        "The outcome 'no' was recorded for churn/3, and replaces 'yes' (observed meanwhile)."
    )


def test_more_than_one_answer(client, stream, mia, max_):
    stream.change_settings(StreamSettings(review=ReviewSettings(answers=2)), "admin")
    first = client.post(f"{BASE}/b/decide", json={"answer": "confirm"}, headers=mia).json()
    assert first["effect"]["sentence"] == "The answer is kept: 1 so far, and 2 reviewers must agree."
    assert (first["review"]["status"], first["review"]["answers_wanted"]) == ("open", 2)
    assert "b" not in ids(queue(client, mia))
    client.post(f"{BASE}/b/decide", json={"answer": "correct", "label": "no"}, headers=max_)
    first = queue(client)["reviews"][0]
    assert (first["prediction_id"], first["disputed"]) == ("b", True)
    assert first["rule"].endswith(" The reviewers disagree.")
    passed = client.post(f"{BASE}/c/decide", json={"answer": "escalate", "note": "too close"}, headers=mia).json()
    assert passed["effect"]["sentence"] == "The case is passed on: it waits among the escalated ones."
    escalated = queue(client, max_, status="escalated")["reviews"]
    assert [(each["prediction_id"], each["note"]) for each in escalated] == [("c", "too close")]
    for who in (mia, max_):
        closed = client.post(f"{BASE}/a/decide", json={"answer": "cant_judge"}, headers=who).json()
    assert closed["review"]["status"] == "declined"
    assert closed["effect"]["sentence"].startswith("Nobody could judge it")
    known = client.post(f"{BASE}/a/decide", json={"answer": "confirm"}).json()
    assert known["review"]["status"] == "declined"
    assert known["effect"]["sentence"] == "The answer is kept, and the case stays closed until 2 reviewers agree."
    stream.change_settings(StreamSettings(review=ReviewSettings(answers=1)), "admin")
    tied = client.post(f"{BASE}/b/decide", json={"answer": "cant_judge"}).json()
    assert tied["effect"]["sentence"] == "The answer is kept: 3 so far, and they disagree, so that nothing is decided."


def test_the_days_capacity(client, stream, mia):
    stream.change_settings(StreamSettings(review=ReviewSettings(capacity_per_day=1)), "admin")
    client.post(f"{BASE}/a/claim", headers=mia)
    refused = client.post(f"{BASE}/b/claim", headers=mia)
    assert refused.status_code == 409
    assert "capacity of 1 cases a day" in refused.json()["detail"]
    assert queue(client, mia)["today"] == {"decided": 0, "capacity": 1, "left": 0}


def test_eight_reviewers_at_once(client, stream):
    headers = [token_for(client.store, f"r{number}", ["review"]) for number in range(8)]
    found = []

    def work(header):
        for name in "abc":
            answer = client.post(f"{BASE}/{name}/decide", json={"answer": "confirm"}, headers=header)
            found.append((name, answer.status_code, answer.json()))

    threads = [threading.Thread(target=work, args=(header,)) for header in headers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name, status, _ in found if status == 200) == ["a", "b", "c"]
    lost = [body["detail"] for _, status, body in found if status == 409]
    assert len(lost) == 21
    assert all("is done, by 'r" in detail for detail in lost)
    assert client.store.stream("churn", "3").counts().outcomes == 3


def test_a_case_alone_tells_how_often_its_like_came_true(client, stream, clock):
    stream.record([said(f"n{k}", 0.56, clock.now, prediction="yes", abstained=False) for k in range(40)])
    stream.record([Outcome(prediction_id=f"n{k}", outcome="no", observed_at=clock.now) for k in range(40)])
    low, high = client.get(f"{BASE}/b").json()["interval"]
    assert 0.0 <= low < high < 0.2
    assert queue(client)["reviews"][0]["interval"] is None


def test_ids_of_any_kind(client, stream, mia, clock):
    stream.record([said("x/y 1%?", 0.6, clock.now, prediction="yes", abstained=None)])
    assert client.get(f"{BASE}/x%2Fy%201%25%3F", headers=mia).json()["prediction_id"] == "x/y 1%?"
    assert client.post(f"{BASE}/x%2Fy%201%25%3F/claim", headers=mia).json()["claimed_by"] == "mia"


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"answer": "maybe"}, 422, "answer"),
        ({"answer": "correct"}, 422, "label must say what is right"),
        ({"answer": "correct", "label": "perhaps"}, 422, "label must be one of the classes 'no', 'yes'"),
        ({"answer": "correct", "label": "yes"}, 422, "label must differ from the prediction 'yes'"),
        ({"answer": "escalate"}, 422, "note must say why"),
        ({"answer": "confirm", "verdict": 1}, 422, "verdict"),
    ],
)
def test_answers_that_cannot_be(client, stream, mia, body, status, detail):
    answer = client.post(f"{BASE}/a/decide", json=body, headers=mia)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]
    assert client.post(f"{BASE}/nothing/decide", json={"answer": "confirm"}, headers=mia).status_code == 404
    assert client.get(f"{API}/reviews", params={"order": "new"}, headers=mia).status_code == 422


# --- Label Studio -----------------------------------------------------------------------------------------------------


def annotated(task, *annotations):
    """A task as Label Studio exports it: predictions are numbers then, and `meta` may be lost."""
    return {"id": 1, "data": task["data"], "predictions": [7], "meta": {}, "annotations": list(annotations)}


def annotation(who, label=None, at="2023-11-14T22:20:00.5Z", **changed):
    value = {"choices": [label]}
    region = {"id": "Dx_aB91ISN", "from_name": "label", "to_name": "case", "type": "choices", "value": value}
    ordinary = {"completed_by": who, "was_cancelled": label is None, "updated_at": at, "ground_truth": False}
    return {**ordinary, "result": [] if label is None else [region], **changed}


@pytest.fixture
def tasks(client, stream, mia):
    return {each["meta"]["prediction_id"]: each for each in client.get(f"{BASE}/label-studio", headers=mia).json()}


def imported(client, headers, *tasks, **asked):
    answer = client.post(f"{BASE}/label-studio", json=list(tasks), headers=headers, params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_tasks_for_label_studio(tasks):
    assert list(tasks) == ["b", "a", "c"]
    task = tasks["b"]
    assert task["meta"] == {"prediction_id": "b", "model": "churn", "version": "3"}
    assert task["data"] == {
        "text": "age: 44",
        "rule": "The confidence 0.550 was below the threshold at the time (now 0.8).",
        **task["meta"],
    }
    (prediction,) = task["predictions"]
    assert prediction["score"] == pytest.approx(0.55)
    (region,) = prediction["result"]
    assert (region["from_name"], region["to_name"], region["type"]) == ("label", "case", "choices")
    assert region["value"] == {"choices": ["yes"]}


def test_annotations_are_answers_and_come_once(client, stream, mia, tasks, clock):
    file = [
        annotated(tasks["a"], annotation({"id": 3, "email": "ann@example.com"}, "yes")),
        annotated(tasks["b"], annotation(10, "no")),
        annotated(tasks["c"], annotation(10)),
    ]
    assert imported(client, mia, *file) == {"decided": 3, "skipped": 0, "refused": []}
    assert stream.review("a").reviewer == "label-studio:ann@example.com"
    assert (stream.review("b").outcome, stream.review("b").reviewer) == ("no", "label-studio:10")
    assert stream.review("c").status == "declined"
    assert stream.log()[-1].event.observed_at == 1_700_000_400.5 or clock.now < 1_700_000_400.5
    before, trail = stream.log(), client.store.audit_trail()
    assert imported(client, mia, *file) == {"decided": 0, "skipped": 3, "refused": []}
    assert (stream.log(), client.store.audit_trail()) == (before, trail)


def test_a_newer_annotation_corrects_only_when_the_caller_says_so(client, stream, mia, max_, tasks, clock):
    clock.now += 7_200.0
    first = annotated(tasks["a"], annotation(10, "yes"))
    second = annotated(tasks["a"], annotation(10, "no", "2023-11-14T23:20:00Z"))
    assert imported(client, mia, first)["decided"] == 1
    left = imported(client, max_, second)
    assert (left["decided"], [each["sentence"] for each in left["refused"]]) == (
        0,
        ["The review of 'a' is done, by 'label-studio:10'. Only a correction changes it."],
    )
    assert stream.review("a").outcome == "yes"
    assert imported(client, max_, second, correction=True)["decided"] == 1
    assert imported(client, max_, first, second, correction=True) == {"decided": 0, "skipped": 2, "refused": []}
    assert stream.review("a").outcome == "no"
    acts = [(each.action, each.actor, each.detail.get("brought_by")) for each in client.store.audit_trail()]
    assert ("decide_review", "label-studio:10", "mia") in acts
    assert ("correct_review", "label-studio:10", "max") in acts


def test_several_annotators_are_several_answers(client, stream, tasks):
    stream.change_settings(StreamSettings(review=ReviewSettings(answers=2)), "admin")
    task = annotated(tasks["a"], *(annotation(who, label) for who, label in ((1, "yes"), (2, "no"), (3, "yes"))))
    assert imported(client, dict(client.headers), task)["decided"] == 3
    assert (stream.review("a").status, stream.review("a").outcome) == ("done", "yes")
    assert stream.review("a").disputed


def test_annotations_that_cannot_be_used_cost_no_others(client, stream, mia, tasks):
    other = {"prediction_id": "b", "model": "churn", "version": "4"}
    good = annotated(tasks["a"], annotation(10, "yes"))
    found = imported(
        client,
        mia,
        {"data": {"text": "x"}, "annotations": []},
        {**good, "annotations": None},
        {**annotated(tasks["b"], annotation(10, "yes")), "meta": other},
        annotated(tasks["b"], annotation(10, "perhaps"), annotation(None, "yes"), annotation(10, "yes", "soon")),
        annotated(tasks["b"], annotation(10, "yes", result=[]), "scribble"),
        annotated(tasks["b"], annotation(10, "yes", was_cancelled="false"), annotation(10, "yes", "2024-W01")),
        annotated({"data": {"prediction_id": "sure"}}, annotation(10, "yes")),
        good,
        annotated(tasks["a"], annotation(11, "no"), annotation(12, "yes")),
    )
    assert (found["decided"], found["skipped"]) == (1, 1)
    sentences = [(each["index"], each["sentence"]) for each in found["refused"]]
    for (index, sentence), (wanted, part) in zip(
        sentences,
        [
            (0, "must name its prediction_id, got None"),
            (1, "annotations must be a list, got None"),
            (2, "The task must be about churn/3, got one about ('churn', '4')"),
            (3, "label must be one of the classes 'no', 'yes', got 'perhaps'"),
            (3, "completed_by must say who annotated, got None"),
            (3, "updated_at must be a time such as"),
            (4, "An annotation must choose one 'label', got []"),
            (4, "Each annotation must be a JSON object, got 'scribble'"),
            (5, "was_cancelled must be true or false, got 'false'"),
            (5, "updated_at must be a time such as 2026-01-31T12:00:00Z, got '2024-W01'"),
            (6, "churn/3 has no review of 'sure'"),
            (8, "The review of 'a' is done, by 'label-studio:10'"),
        ],
        strict=True,
    ):
        assert (index, part in sentence) == (wanted, True), sentence
    assert client.post(f"{BASE}/label-studio", json={"data": {}}, headers=mia).status_code == 422


def test_where_several_must_agree_only_an_admin_imports(client, stream, mia):
    client.patch(f"{BASE.removesuffix('/reviews')}/settings", json={"review": {"answers": 2}}).raise_for_status()
    refused = client.post(f"{BASE}/label-studio", json=[], headers=mia)
    assert refused.status_code == 403
    assert "only an admin may bring answers of others" in refused.json()["detail"]
    assert client.post(f"{BASE}/label-studio", json=[]).status_code == 200

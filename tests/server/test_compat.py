"""The Caliber app's clients, asking as they always have."""

from __future__ import annotations

import pytest

from live_service import service, token_for
from live_streams import said

PREDICTION = {
    "id",
    "model_version_id",
    "sample_id",
    "predicted_label",
    "confidence",
    "uncertainty",
    "ground_truth",
    "correct",
    "status",
    "created_at",
}


@pytest.fixture
def client():
    with service() as client:
        yield client


@pytest.fixture
def number(client):
    body = {"name": "MedProbCLIP", "version": "v1.1.0", "stage": "production", "abstain_threshold": 0.7}
    return client.post("/api/models", json=body).json()["id"]


def post(client, number, sample, confidence=0.9, truth=None, **values):
    body = {
        "model_version_id": number,
        "sample_id": sample,
        "predicted_label": "pos",
        "confidence": confidence,
        "uncertainty": round(1 - confidence, 3),
        "ground_truth": truth,
        **values,
    }
    return client.post("/api/predictions", json=body)


def test_model_versions_with_parent_stage_and_threshold(client, number):
    child = client.post("/api/models", json={"name": "MedProbCLIP", "version": "v1.2.0", "parent_id": number}).json()
    assert child["parent_id"] == number
    assert (child["stage"], child["abstain_threshold"]) == ("staging", 0.7)
    listed = client.get("/api/models").json()
    assert [each["version"] for each in listed] == ["v1.1.0", "v1.2.0"]
    assert set(listed[0]) == {"id", "name", "version", "parent_id", "stage", "abstain_threshold", "created_at"}
    again = client.post("/api/models", json={"name": "MedProbCLIP", "version": "v1.2.0", "parent_id": number})
    assert again.json()["id"] == child["id"]
    other = client.post("/api/models", json={"name": "MedProbCLIP", "version": "v1.2.0", "abstain_threshold": 0.9})
    assert other.status_code == 409
    # The next prediction of the new version finds it at once.
    assert post(client, child["id"], "s1").status_code == 200


@pytest.mark.parametrize(
    ("confidence", "truth", "status", "correct"),
    [
        (0.9, None, "auto", None),
        (0.6, None, "review", None),
        (0.9, "pos", "resolved", True),
        (0.9, "neg", "resolved", False),
        (0.6, "pos", "review", True),
    ],
)
def test_the_threshold_and_the_status(client, number, confidence, truth, status, correct):
    row = post(client, number, "s1", confidence, truth).json()
    assert set(row) == PREDICTION
    assert (row["status"], row["correct"], row["ground_truth"]) == (status, correct, truth)
    assert row["uncertainty"] == pytest.approx(1 - confidence)
    again = post(client, number, "s1", confidence, truth).json()
    listed = client.get(f"/api/predictions?model_version_id={number}").json()
    assert listed == [again]
    assert {key: again[key] for key in PREDICTION - {"created_at"}} == {
        key: row[key] for key in PREDICTION - {"created_at"}
    }
    assert client.get(f"/api/predictions?status={status}").json() == listed
    assert client.get("/api/predictions?status=banana").status_code == 422


def test_a_review_is_decided_once_and_feeds_calibration(client, number):
    for i in range(20):
        post(client, number, f"s{i}", 0.5 + i / 100).raise_for_status()
    waiting = client.get("/api/review-queue").json()
    assert len(waiting) == 20
    first = waiting[-1]["id"]
    resolved = client.post(f"/api/review/{first}", json={"ground_truth": "neg"}).json()
    assert (resolved["status"], resolved["ground_truth"], resolved["correct"]) == ("resolved", "neg", False)
    assert client.post(f"/api/review/{first}", json={"ground_truth": "neg"}).status_code == 200
    second = client.post(
        f"/api/review/{first}", json={"ground_truth": "pos"}, headers=token_for(client.store, "max", ["review"])
    )
    assert second.status_code == 409
    assert "is decided already, by root: neg" in second.json()["detail"]
    assert len(client.get("/api/review-queue").json()) == 19
    assert client.get(f"/api/calibration?model_version_id={number}").json()["n_labeled"] == 1
    assert client.post("/api/review/123456789012", json={"ground_truth": "pos"}).status_code == 404


def test_what_waits_is_found_however_much_was_decided_since(client, number):
    (stream,) = client.store.streams()
    stream.record([said(f"s{i}", 0.6, 1e9, prediction="pos", abstained=True) for i in range(230)])
    for i in range(20, 230):
        stream.decide_review(f"s{i}", "pos", "mia")
    stream.answer_review("s5", "mia", "cant_judge")
    stream.record([said(f"late{i}", 0.9, 1e9, prediction="pos") for i in range(3)])
    ids = lambda status: [each["sample_id"] for each in listed(client, status)]  # noqa: E731
    assert ids("review") == [f"s{i}" for i in range(19, -1, -1) if i != 5]
    assert ids("auto") == ["late2", "late1", "late0"]
    assert ids("resolved") == [f"s{i}" for i in range(229, 29, -1)], "the newest 200"
    assert client.get("/api/review-queue").json() == listed(client, "review")
    assert stream.prediction("s5").stage == "resolved", "nobody could judge it, and nobody need look again"
    assert [each.prediction.prediction_id for each in stream.predictions(5, stage="resolved", before=7)] == ["s5"]
    assert [each.seq for each in stream.predictions(2, stage="review", before=7)] == [5, 4]


def listed(client, status):
    found = client.get("/api/predictions", params={"status": status}).json()
    assert {each["status"] for each in found} == {status}
    return found


def test_calibration_and_risk_coverage(client, number):
    rows = [(0.95, "pos")] * 19 + [(0.95, "neg")] + [(0.75, "pos")] * 6 + [(0.75, "neg")] * 4
    for i, (confidence, truth) in enumerate(rows):
        post(client, number, f"s{i}", confidence, truth).raise_for_status()
    found = client.get("/api/calibration").json()
    assert found["n_labeled"] == 30
    assert found["ece"] == pytest.approx((20 * 0.0 + 10 * 0.15) / 30, abs=1e-4)
    assert [(b["bin_lo"], b["bin_hi"], b["count"]) for b in found["bins"] if b["count"]] == [
        (0.7, 0.8, 10),
        (0.9, 1.0, 20),
    ]
    assert found["bins"][9] == {"bin_lo": 0.9, "bin_hi": 1.0, "confidence": 0.95, "accuracy": 0.95, "count": 20}
    curve = client.get(f"/api/risk-coverage?model_version_id={number}").json()
    assert curve["points"][-1] == {"coverage": 1.0, "risk": pytest.approx(5 / 30, abs=1e-4)}
    assert 0.05 < curve["aurc"] < 5 / 30


def test_two_classes_are_judged_by_the_predicted_one(client):
    client.put("/api/v1/models/credit/versions/1", json={"classes": ["no", "yes"]}).raise_for_status()
    (number,) = [each["id"] for each in client.get("/api/models").json() if each["name"] == "credit"]
    for i, (label, truth) in enumerate([("no", "no"), ("no", "yes"), ("yes", "yes"), ("yes", "yes")]):
        post(client, number, f"s{i}", 0.8, truth, predicted_label=label).raise_for_status()
    stored = client.get("/api/v1/models/credit/versions/1/predictions").json()["predictions"]
    assert [round(row["probability"], 6) for row in stored] == [0.8, 0.8, 0.2, 0.2]
    found = client.get(f"/api/calibration?model_version_id={number}").json()
    assert (found["n_labeled"], found["bins"][8]["accuracy"]) == (4, 0.75)


def test_without_labels_nothing_is_claimed(client, number):
    assert client.get("/api/calibration").json()["ece"] is None
    assert client.get("/api/risk-coverage").json() == {"aurc": None, "points": []}
    assert client.get("/health").json() == {"status": "ok"}


def test_what_broke_the_app_for_good_is_refused(client, number):
    for confidence in (-5, 7.3, "NaN", None, True):
        body = {"model_version_id": number, "sample_id": "bad", "predicted_label": "pos", "confidence": confidence}
        assert client.post("/api/predictions", json=body).status_code == 422
    body = b'{"model_version_id": %d, "sample_id": "x", "predicted_label": "pos", "confidence": Infinity}' % number
    assert (
        client.post("/api/predictions", content=body, headers={"Content-Type": "application/json"}).status_code == 422
    )
    for threshold in ("NaN", 7, -1):
        assert (
            client.post("/api/models", json={"name": "m", "version": "1", "abstain_threshold": threshold}).status_code
            == 422
        )
    assert post(client, 999, "x").status_code == 404
    client.put("/api/v1/models/MedProbCLIP/versions/two", json={"classes": ["neg", "pos"]}).raise_for_status()
    assert post(client, number + 1, "x", 0.9, "perhaps").status_code == 422
    assert client.get(f"/api/predictions?model_version_id={number + 1}").json() == []
    assert post(client, number, "x" * 201).status_code == 422
    assert post(client, number, "again", 0.9).status_code == 200
    assert post(client, number, "again", 0.8).status_code == 409
    assert client.get("/api/models").json()[0]["abstain_threshold"] == 0.7
    assert client.get("/api/calibration").status_code == 200


def test_drift_alarms(client, number):
    (stream,) = client.store.streams()
    evidence = {"score": 0.52, "threshold": 0.3}
    stream.raise_alarm("drift", "score:pos", "critical", "The scores have drifted.", evidence)
    stream.raise_alarm("silence", "outcomes", "warning", "No outcomes.", {})
    (alert,) = client.get(f"/api/drift-alerts?model_version_id={number}").json()
    assert {key: alert[key] for key in ("feature", "drift_score", "threshold", "severity")} == {
        "feature": "score:pos",
        "drift_score": 0.52,
        "threshold": 0.3,
        "severity": "critical",
    }


def test_the_live_stream(client, number):
    with client.websocket_connect("/ws/live") as socket:
        client.get("/health")
        post(client, number, "s0").raise_for_status()
        post(client, number, "s1", 0.6).raise_for_status()
        messages = [socket.receive_json() for _ in range(1)]
        assert set(messages[0]) == {"type", "id", "model_version_id", "confidence", "uncertainty", "status", "ts"}
        assert messages[0]["type"] == "prediction"


def test_a_token_sees_its_own_models_only(client, number):
    client.post("/api/models", json={"name": "other", "version": "1"}).raise_for_status()
    mine = token_for(client.store, "mia", ["view", "ingest", "review"], ["other"])
    assert [each["name"] for each in client.get("/api/models", headers=mine).json()] == ["other"]
    for path in ("calibration", "risk-coverage", "drift-alerts", "predictions", "review-queue"):
        assert client.get(f"/api/{path}?model_version_id={number}", headers=mine).status_code == 404
    body = {"model_version_id": number, "sample_id": "a", "predicted_label": "pos", "confidence": 0.9}
    assert client.post("/api/predictions", json=body, headers=mine).status_code == 404

"""What comes in is recorded once, whatever it comes as, and only then acknowledged."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from live_service import API, service
from mlflow_caliber.exceptions import StoreError
from mlflow_caliber.server._ingest import Ingest
from mlflow_caliber.server.routes.ingest import _chunks
from mlflow_caliber.store import Outcome, Prediction, open_store

BASE = f"{API}/models/churn/versions/1"
LINES = {"Content-Type": "application/x-ndjson"}


def said(prediction_id="a", **values):
    return {"prediction_id": prediction_id, "probability": 0.9, **values}


def test_one_prediction_and_what_follows_from_it(client):
    answer = client.post(f"{BASE}/predictions", json=said(segment="eu", features={"age": 44})).json()
    assert answer["predictions"] == [{"prediction_id": "a", "abstained": False, "reason": ""}]
    assert answer["recorded"] == 1
    (row,) = client.get(f"{BASE}/predictions").json()["predictions"]
    assert row["prediction"] == "yes"
    assert row["confidence"] == row["raw_probability"] == row["base_probability"] == 0.9
    assert (row["segment"], row["features"], row["outcome"]) == ("eu", {"age": 44}, None)


def test_the_threshold_decides_and_a_decision_of_its_own_stays(client):
    post = lambda **values: client.post(f"{BASE}/predictions", json=said(**values)).json()["predictions"][0]  # noqa: E731
    assert post(prediction_id="low", probability=0.6) == {
        "prediction_id": "low",
        "abstained": True,
        "reason": "low_confidence",
    }
    assert not post(prediction_id="served", probability=0.6, abstained=False)["abstained"]
    assert post(prediction_id="own", probability=0.99, abstained=True, reason="rule 7")["reason"] == "rule 7"
    client.patch(f"{BASE}/settings", json={"abstain_threshold": 0.5}).raise_for_status()
    assert not post(prediction_id="after", probability=0.6)["abstained"]
    assert post(prediction_id="low", probability=0.6)["abstained"], "sent again, it is what it was"
    assert client.get(f"{API}/reviews").json()["waiting"] == 2


def test_sent_again_it_is_known_and_changed_it_is_a_conflict(client):
    first = client.post(f"{BASE}/predictions", json=said()).json()
    again = client.post(f"{BASE}/predictions", json=said())
    assert (first["recorded"], again.status_code, again.json()["duplicates"]) == (1, 200, 1)
    changed = client.post(f"{BASE}/predictions", json=said(probability=0.8))
    assert changed.status_code == 409
    assert "was recorded with another raw_probability: 0.9, now came 0.8" in changed.json()["detail"]
    assert client.get(f"{BASE}/predictions").json()["predictions"][0]["probability"] == 0.9


def test_outcomes_before_after_and_corrected(client):
    happened = lambda outcome: client.post(f"{BASE}/outcomes", json={"prediction_id": "a", "outcome": outcome})  # noqa: E731
    assert happened("no").json()["recorded"] == 1
    client.post(f"{BASE}/predictions", json=said()).raise_for_status()
    assert happened("no").json()["duplicates"] == 1
    assert happened("yes").json()["corrections"] == 1
    assert client.get(f"{BASE}/predictions").json()["predictions"][0]["outcome"] == "yes"


def test_an_array_loses_nothing_to_its_bad_rows(client):
    rows = [said(f"r{i}", outcome="yes") for i in range(50)]
    rows[7] = said("r7", probability=7.3)
    rows[9] = {"prediction_id": "r9"}
    rows[11] = "nonsense"
    rows[13] = said("r13", outcome="perhaps")
    answer = client.post(f"{BASE}/predictions", json=rows).json()
    assert [each["index"] for each in answer["refused"]] == [7, 9, 11, 13]
    assert answer["refused"][0]["sentence"] == "raw_probability must be a number in [0, 1], got 7.3."
    assert answer["recorded"] == 2 * 46
    assert client.store.find_stream("churn", "1").prediction("r13") is None, "together with its outcome or not at all"


def test_a_prediction_and_its_outcome_are_taken_together_or_not_at_all(client):
    before = client.store.ends()
    for bad in ({"outcome": "perhaps"}, {"outcome": "yes", "source": "rumour"}, {"outcome": "yes", "probability": 7}):
        assert client.post(f"{BASE}/predictions", json=said("both", **bad)).status_code == 422
    assert client.store.ends() == before
    client.post(f"{BASE}/predictions", json=said("both", outcome="yes")).raise_for_status()
    conflict = client.post(f"{BASE}/predictions", json=said("both", probability=0.8, outcome="no"))
    assert conflict.status_code == 409
    assert client.store.find_stream("churn", "1").prediction("both").outcome.outcome == "yes"


def test_an_array_of_which_nothing_can_be_taken_changes_nothing(client):
    before = client.store.ends()
    answer = client.post(f"{BASE}/predictions", json=[said(probability=-5), said("b", probability=2)])
    assert answer.status_code == 422
    assert "The first of 2 rows, none of which can be taken" in answer.json()["detail"]
    assert client.store.ends() == before
    assert client.service.store.find_stream("churn", "1").refusals() == ()


def test_a_stream_of_lines_in_pieces_that_fit_nothing(client):
    lines = [json.dumps({"kind": "prediction", **said(f"l{i}")}) for i in range(2_500)]
    lines += [json.dumps({"kind": "outcome", "prediction_id": f"l{i}", "outcome": "no"}) for i in range(0, 2_500, 5)]
    lines.insert(1_700, "{broken")
    lines.insert(20, '{"kind": "rumour"}')
    body = ("\n".join(lines) + "\n\n").encode()
    pieces = (body[start : start + 777] for start in range(0, len(body), 777))
    answer = client.post(f"{BASE}/events", content=pieces, headers=LINES).json()
    assert (answer["lines"], answer["recorded"], answer["n_refused"]) == (3_002, 3_000, 2)
    assert [each["index"] for each in answer["refused"]] == [20, 1_701]
    again = client.post(f"{BASE}/events", content=body, headers=LINES).json()
    assert (again["recorded"], again["duplicates"]) == (0, 3_000)


def lines(n):
    return b"".join(json.dumps({"kind": "prediction", **said(f"l{i}")}).encode() + b"\n" for i in range(n))


def test_a_token_that_is_revoked_meanwhile_records_no_more(client, monkeypatch):
    token, text = client.store.create_token("loader", ["ingest"], actor="test")
    record = client.service.ingest.record

    async def and_revoke(*given):
        receipt = await record(*given)
        client.store.revoke_token(token.id, "test")
        client.service.forget()
        return receipt

    monkeypatch.setattr(client.service.ingest, "record", and_revoke)
    answer = client.post(f"{BASE}/events", content=lines(3_000), headers={"Authorization": f"Bearer {text}"})
    assert (answer.status_code, answer.json()["detail"]) == (401, "The token is not known, revoked or expired.")
    assert client.store.find_stream("churn", "1").log_end() == 1_000, "what was recorded stays"


def test_of_long_lines_few_are_held_at_a_time():
    class Body:
        async def stream(self):
            for _ in range(10):
                yield b"x" * 1_000_000 + b"\n"

    async def sizes():
        return [len(chunk) async for chunk in _chunks(Body())]

    assert asyncio.run(sizes()) == [4, 4, 2]


@pytest.mark.parametrize(("way", "kept"), [("events", 1_000), ("predictions", 0)])
def test_who_breaks_off_is_nobodys_error(client, caplog, way, kept):
    messages = iter(
        [{"type": "http.request", "body": lines(1_500), "more_body": True}, {"type": "http.disconnect"}],
    )
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{BASE}/{way}",
        "query_string": b"",
        "headers": [(b"authorization", client.headers["Authorization"].encode())],
    }

    async def receive():
        return next(messages)

    async def send(message):
        pass

    client.portal.call(client.app, scope, receive, send)
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []
    assert client.store.find_stream("churn", "1").log_end() == kept


def test_without_an_id_each_is_another_one(client):
    answers = [client.post(f"{BASE}/predictions", json={"probability": 0.9}).json() for _ in "ab"]
    ids = {answer["predictions"][0]["prediction_id"] for answer in answers}
    assert len(ids) == 2
    assert all(len(each) == 36 and each[14] == "7" for each in ids)


def test_more_than_two_classes_and_no_classes():
    with service() as client:
        client.put(f"{API}/models/digits/versions/1", json={"classes": [0, 1, 2]}).raise_for_status()
        client.put(f"{API}/models/free/versions/1", json={}).raise_for_status()
        many = {"prediction": 2, "confidence": 0.5, "probabilities": [0.2, 0.3, 0.5], "outcome": 2}
        assert client.post(f"{API}/models/digits/versions/1/predictions", json=many).json()["recorded"] == 2
        assert client.post(
            f"{API}/models/free/versions/1/predictions", json={"prediction": "cat", "confidence": 0.5}
        ).is_success
        untrue = client.post(f"{API}/models/digits/versions/1/predictions", json=many | {"confidence": 0.7})
        assert (untrue.status_code, untrue.json()["detail"]) == (
            422,
            "confidence must be the probability of the predicted label, 0.5, got 0.7.",
        )
        missing = client.post(f"{API}/models/free/versions/1/predictions", json={"confidence": 0.5})
        assert missing.json()["detail"] == "A prediction must have prediction, the predicted label, which is missing."


def test_audits_are_drawn_by_the_hash_of_the_id(client):
    client.patch(f"{BASE}/settings", json={"review": {"audit_share": 0.2}}).raise_for_status()
    rows = [said(f"q{i}") for i in range(1_000)]
    client.post(f"{BASE}/predictions", json=rows).raise_for_status()
    drawn = client.get(f"{API}/reviews?limit=500").json()["reviews"]
    assert {each["origin"] for each in drawn} == {"audit"}
    assert 150 < len(drawn) < 250


def test_metrics_count_what_came(client):
    client.post(f"{BASE}/predictions", json=[said("a"), said("b", probability=3)])
    client.post(f"{BASE}/predictions", json=said("a"))
    text = client.get("/metrics").text
    assert 'caliber_events_total{kind="prediction",result="recorded"} 1.0' in text
    assert 'caliber_events_total{kind="prediction",result="duplicate"} 1.0' in text
    assert 'caliber_events_total{kind="prediction",result="refused"} 1.0' in text
    assert 'caliber_log_position{model="churn",version="1"} 1.0' in text
    assert "caliber_store_up 1.0" in text


# --- many callers, one commit -----------------------------------------------------------------------------------------


def prediction(name):
    return Prediction(
        prediction_id=name,
        predicted_at=0.0,
        raw_probability=0.5,
        base_probability=0.5,
        probability=0.5,
        prediction="yes",
        confidence=0.5,
    )


def test_callers_share_a_commit_and_get_their_own_receipts():
    commits = []
    with open_store("sqlite://") as store:
        streams = [store.stream("churn", version, classes=["no", "yes"]) for version in "12"]
        ingest = Ingest(store, lambda events, seconds: commits.append(events))
        holding = threading.Event()
        record, store.record = store.record, lambda *a, **k: (holding.wait(10), record(*a, **k))[1]

        async def main():
            tasks = [asyncio.create_task(ingest.record(streams[i % 2], [prediction(f"p{i // 4}")])) for i in range(40)]
            await asyncio.sleep(0.1)
            holding.set()
            return await asyncio.gather(*tasks)

        receipts = asyncio.run(main())
        ingest.close()
        assert sum(receipt.recorded for receipt in receipts) == sum(stream.log_end() for stream in streams) == 20
        assert sum(receipt.duplicates for receipt in receipts) == 20
        assert len(commits) <= 2
        assert sum(commits) == 40


def test_a_store_that_is_away_is_told_to_everybody_and_what_ends_is_drained():
    with open_store("sqlite://") as store:
        stream = store.stream("churn", "1", classes=["no", "yes"])
        ingest = Ingest(store)
        record = store.record

        def away(*_, **__):
            raise StoreError("The store is busy.")

        async def main():
            store.record = away
            with pytest.raises(StoreError, match="busy"):
                await ingest.record(stream, [prediction("a")])
            store.record = record
            tasks = [asyncio.create_task(ingest.record(stream, [prediction(f"p{i}")])) for i in range(20)]
            await asyncio.sleep(0)
            await asyncio.to_thread(ingest.close)
            await asyncio.gather(*tasks)
            with pytest.raises(StoreError, match="send them again"):
                await ingest.record(stream, [prediction("late")])

        asyncio.run(main())
        assert stream.log_end() == 20


def test_what_nobody_foresaw_costs_only_its_own_caller():
    with open_store("sqlite://") as store:
        stream = store.stream("churn", "1", classes=["no", "yes"])
        ingest = Ingest(store)

        async def main():
            good = [asyncio.create_task(ingest.record(stream, [prediction(f"p{i}")])) for i in range(5)]
            bad = asyncio.create_task(ingest.record(stream, ["no event"]))
            with pytest.raises(Exception, match="Each row must be a Prediction or Outcome, got a str"):
                await bad
            return await asyncio.gather(*good)

        receipts = asyncio.run(main())
        ingest.close()
        assert [receipt.recorded for receipt in receipts] == [1] * 5
        assert [entry.event.prediction_id for entry in stream.log()] == [f"p{i}" for i in range(5)]


def test_outcomes_and_predictions_of_one_request_are_one_transaction():
    with open_store("sqlite://") as store:
        stream = store.stream("churn", "1", classes=["no", "yes"])
        happened = Outcome(prediction_id="a", outcome="yes", observed_at=1.0)
        (receipt,) = store.record([(stream, [prediction("a"), happened])])
        assert receipt.seqs == (1, 2)
        (receipt,) = store.record([(stream, [prediction("a"), prediction("b")])])
        assert receipt.seqs == (None, 3)


def test_another_page_may_send_predictions_only_where_it_was_named():
    path, page = f"{API}/models/churn/versions/1/predictions", {"Origin": "https://shop.example"}
    for named, told in ((("https://shop.example",), "https://shop.example"), (("https://other.example",), None)):
        with service(allow_origins=named) as client:
            client.store.stream("churn", "1", classes=["no", "yes"])
            answer = client.post(path, json={"probability": 0.9}, headers=page)
            assert answer.status_code == 200
            assert answer.headers.get("access-control-allow-origin") == told


def test_a_model_that_was_not_there_is_found_as_soon_as_it_is(client):
    path = f"{API}/models/new/versions/1"
    assert client.get(path).status_code == 404
    client.store.stream("new", "1", classes=["no", "yes"])  # as another process would
    assert client.get(path).status_code == 200

"""From a topic into the store: all of it once, and what cannot be taken to the dead letters, whatever happens."""

from __future__ import annotations

import json
import sqlite3
import threading
import time

import pytest

from kafka_broker import PACE, Written, bare, churn, letters_of, outcome, prediction
from live_processes import until
from mlflow_caliber.exceptions import ConfigError, SchemaVersionError, ServiceError, StoreError
from mlflow_caliber.kafka import _forward, _record, _source, consume
from mlflow_caliber.kafka._clients import Clients
from mlflow_caliber.kafka._messages import Letter
from mlflow_caliber.kafka._tally import Tally
from mlflow_caliber.store import Outcome, Prediction, Store, open_store

POISON = {
    b"{": "cannot be read as such",
    b"": "cannot be read as such",
    b'{"kind": "prediction", "kind": "outcome"}': "got 'kind' twice",
    b"[1]": "got a list",
    b"null": "got a null",
    b"7": "got a number",
    '{"kind": "prediction", "segment": "München"}'.encode("latin-1"): "is no UTF-8",
    b"[" * 100_000: "cannot be read as such",
    b'{"a": "' + b"x" * 1_000_000 + b'"}': "at most 1000000 bytes",
    bare(kind="prediction", model="churn", version="1", probability=float("nan")): "has no NaN",
    churn(kind="prediction"): "must have probability or confidence",
    churn(kind="prediction", probability=1.5): "must be a number in [0, 1]",
    churn(kind="prediction", probability=0.5, probabilty=0.5): "unknown key 'probabilty'",
    churn(kind="prediction", probability=0.5, prediction="maybe"): "must be one of the classes",
    churn(kind="outcome", outcome="no"): "must have prediction_id",
    churn(kind="outcome", prediction_id="a", outcome="maybe"): "must be one of the classes",
    churn(kind="opinion"): '"kind"',
    churn(probability=0.5): '"kind"',
    bare(kind="prediction", probability=0.5): "must name its model",
    bare(kind="prediction", model="churn", version=1, probability=0.5): "must name its version",
    bare(kind="prediction", model="churn", version="9", probability=0.5): "There is no version '9'",
    bare(model_version_id=99, sample_id="a", predicted_label="yes", confidence=0.5): "There is no model version 99",
}


def test_everything_is_recorded_once_and_the_rest_is_a_dead_letter(broker, topic, consuming, holds, stream):
    good = [each for i in range(1_000) for each in (prediction(i), outcome(i))]
    poison = [{"value": value, "key": f"k{i}", "headers": [("from", b"test")]} for i, value in enumerate(POISON)]
    poison.append({"value": None, "key": "tombstone", "headers": [("from", b"test")], "timestamp": 1_700_000_000_000})
    broker.send(topic, [*good[:999], *poison, *good[999:]], **{"message.max.bytes": 2_000_000})
    running = consuming()
    holds(2_000)
    found = letters_of(broker, topic, len(poison))
    tally = running.stop()
    assert (tally.messages, tally.recorded, tally.dead_letters) == (2_000 + len(poison), 2_000, len(poison))
    assert (tally.lag, tally.outages, tally.duplicates) == (0, 0, 0)
    counts = stream.counts()
    assert (counts.predictions, counts.outcomes, counts.unmatched, counts.refused) == (1_000, 1_000, 0, 0)
    assert sorted((each.value() or b"", each.key()) for each in found) == sorted(
        (each["value"] or b"", each["key"].encode()) for each in poison
    )
    for letter in found:
        told = {name: value.decode() for name, value in letter.headers()}
        assert POISON.get(letter.value(), "a tombstone") in told["caliber.reason"]
        assert (told["from"], told["caliber.topic"], told["caliber.group"]) == ("test", topic, topic)
        assert letter.partition() == int(told["caliber.partition"])
        assert {"caliber.offset", "caliber.timestamp"} <= told.keys()


def test_a_row_that_the_store_refuses_is_a_dead_letter_with_its_sentence(broker, topic, consuming, holds, stream):
    broker.send(
        topic, [{"value": prediction(0), "partition": 0}, {"value": prediction(0, probability=0.9), "partition": 0}]
    )
    broker.send(topic, [{"value": prediction(1, predicted_at=-1.0, outcome="no"), "partition": 0}])
    running = consuming()
    holds(1)
    found = letters_of(broker, topic, 2)
    running.stop()
    reasons = [dict(each.headers())["caliber.reason"].decode() for each in found]
    assert "was recorded with another" in reasons[0]
    assert "predicted_at must be seconds since 1970" in reasons[1]
    assert stream.log_end() == 1


def test_what_the_message_leaves_open_follows_from_its_place(
    broker, topic, consuming, settings, holds, done, stream, run, uri
):
    when = 1_750_000_000_500
    said = churn(kind="prediction", probability=0.8, outcome="no")
    broker.send(topic, [{"value": said, "partition": k, "timestamp": when} for k in (0, 0, 1)])
    consuming()
    holds(6)
    again = run(consume, settings(group=f"{topic}-again"), lambda: open_store(uri))
    done(3, f"{topic}-again")
    assert again.stop().duplicates == 6
    rows = stream.rows()
    assert stream.log_end() == 6
    assert rows["prediction_id"].nunique() == 3
    assert set(rows["predicted_at"]) == set(rows["observed_at"]) == {when / 1000.0}
    assert all(each[14] == "8" for each in rows["prediction_id"])


def test_messages_of_the_caliber_app(broker, topic, consuming, store, holds):
    stream = store.find_stream("churn", "1")
    told = {"model_version_id": stream.id, "sample_id": "live-1", "predicted_label": "no", "confidence": 0.8}
    rest = {"sample_id": "live-2", "uncertainty": 0.2, "ground_truth": "no"}
    bad = [{"uncertainty": -1.0}, {"confidence": None}, {"model_version_id": "1"}, {"extra": 1}]
    broker.send(topic, [json.dumps({**told, **more}).encode() for more in ({}, rest, *bad)])
    running = consuming()
    holds(3)
    assert len(letters_of(broker, topic, 4)) == 4
    running.stop()
    said = {row["prediction_id"]: row for row in stream.rows().to_dict("records")}
    assert said["live-1"]["probability"] == pytest.approx(0.2)
    assert (said["live-2"]["outcome"], said["live-2"]["features"]) == ("no", {"uncertainty": 0.2})


def test_a_default_name_and_versions_that_are_made(broker, topic, consuming, store):
    broker.send(topic, [bare(kind="outcome", prediction_id="a", outcome=1)])
    broker.send(topic, [bare(kind="outcome", model="fraud", version="2", prediction_id="a", outcome=1)])
    running = consuming(model="churn2", version="7", create=True)
    until(lambda: len(store.streams()) == 3 and store.streams()[-1].log_end(), 20, "two new streams")
    assert running.stop().dead_letters == 0
    assert {each.subject for each in store.streams()} == {"churn/1", "churn2/7", "fraud/2"}


class KilledError(BaseException):
    """Ends the consumer as if it had been killed, as far as Kafka and the store can see."""


@pytest.mark.parametrize("moment", ["after the rows", "after the dead letters"])
def test_who_dies_before_the_commit_changes_nothing(broker, topic, consuming, done, stream, monkeypatch, moment):
    messages = [{"value": prediction(i), "partition": i % 4} for i in range(100)]
    messages += [{"value": b"{", "partition": i % 4} for i in range(12)]
    broker.send(topic, messages)
    name = "confirm" if moment == "after the rows" else "commit"
    with monkeypatch.context() as patch:

        def dies(source):
            raise KilledError

        patch.setattr(_source.Source, name, dies)
        assert isinstance(consuming().ended(), KilledError)
    before = stream.log_end()
    assert before > 0
    running = consuming()
    done(112)
    tally = running.stop()
    assert len(letters_of(broker, topic, 12)) == 12
    assert stream.counts().predictions == stream.log_end() == 100
    assert tally.duplicates == before
    # A batch may hold but a part of the messages; what it held is not written again.
    assert tally.dead_letters + tally.forwarded_before == 12
    if moment == "after the dead letters":
        assert tally.forwarded_before >= 1


def test_what_was_written_long_ago_is_found(broker, topic, settings, run, uri, done, monkeypatch):
    monkeypatch.setattr(_forward, "_WINDOW", 3)
    broker.send(topic, [{"value": b"{", "partition": 0}] * 40)
    for group in (topic, f"{topic}-2", topic):
        running = run(consume, settings(group=group), lambda: open_store(uri))
        done(40, group)
        tally = running.stop()
        if group != topic:
            broker.rewind(topic, topic)
    assert (tally.dead_letters, tally.forwarded_before) == (0, 40)
    assert len(letters_of(broker, topic, 80)) == 80


def test_a_fault_of_ours_costs_one_message(broker, topic, consuming, holds, stream, monkeypatch):
    broker.send(topic, [{"value": prediction(i), "partition": 0} for i in range(20)])
    record = Store.record

    def fails(self, batches, **options):
        ids = [each.prediction_id for _, items in batches for item in items for each in item]
        if "id-7" in ids:
            raise ArithmeticError("broken")
        return record(self, batches, **options)

    monkeypatch.setattr(Store, "record", fails)
    running = consuming()
    holds(19)
    found = letters_of(broker, topic, 1)
    running.stop()
    assert found[0].value() == prediction(7)
    assert dict(found[0].headers())["caliber.reason"] == b"The message cannot be recorded: ArithmeticError."


def test_a_letter_that_is_too_large_leaves_its_value_out(broker, topic, consuming, done):
    value = b'{"a": "' + b"x" * 990_000 + b'"}'
    broker.send(topic, [{"value": value, "key": "k"}, b"{"])
    running = consuming(changed={"properties": {**PACE, "message.max.bytes": "900000"}})
    done(2)
    assert running.stop().dead_letters == 2
    letters = {each.key(): each for each in letters_of(broker, topic, 2)}
    assert letters[b"k"].value() is None
    assert dict(letters[b"k"].headers())["caliber.left_out"] == b"990009 bytes, too large for this topic"
    assert letters[None].value() == b"{"


def test_a_letter_whose_key_is_too_large_is_written_without_it(broker, topic, consuming, done):
    broker.send(topic, [{"value": b"{", "key": b"k" * 899_900}, b"{"])
    running = consuming(changed={"properties": {**PACE, "message.max.bytes": "900000"}})
    done(2)
    assert running.stop().dead_letters == 2
    bare = next(each for each in letters_of(broker, topic, 2) if each.value() is None)
    headers = dict(bare.headers())
    assert (bare.key(), headers["caliber.left_out"]) == (None, b"value, key and headers, too large for this topic")
    assert headers["caliber.reason"]


def test_what_others_write_among_the_letters_is_passed_over(settings):
    class Record:
        def __init__(self, **told):
            self.told = [(f"caliber.{name}", value) for name, value in told.items()]

        def headers(self):
            return self.told

    clients = Clients(settings())
    forwarder = _forward.Forwarder(clients, "t.dead", 1, "g")
    ours = {"group": b"g", "topic": b"t", "partition": b"0"}
    record = Record(**ours, offset=b"7", timestamp=b"1700000000000")
    assert forwarder._told(record, ("t", 0)) == [(7, 1_700_000_000_000)]
    for odd in ({"offset": b"seven", "timestamp": b"1"}, {"offset": None, "timestamp": b"1"}, {"offset": b"7"}):
        assert forwarder._told(Record(**ours, **odd), ("t", 0)) == []
    forwarder.close()


def test_the_group_is_asked_last(settings, monkeypatch):
    """Who was frozen while it looked up what is there has lost its partitions, and writes nothing."""
    asked = []

    def not_ours():
        asked.append("confirm")
        raise ServiceError(None, "Others have the partitions.")

    forwarder = _forward.Forwarder(Clients(settings()), "t.dead", 1, "g")
    monkeypatch.setattr(forwarder, "_look_up", lambda *_: asked.append("look up") or set())
    monkeypatch.setattr(forwarder, "_produce", lambda *_: asked.append("produce"))
    letter = _forward.dead_letter(Letter(Written(b"{"), "It is no JSON."))
    with pytest.raises(ServiceError, match="Others have"):
        forwarder.write([letter], {("t", 0): 0}, not_ours)
    assert asked == ["look up", "confirm"]
    forwarder.close()


@pytest.mark.parametrize("what", ["confirm", "write"])
def test_nothing_is_committed_while_no_letter_can_be_written(
    broker, topic, consuming, holds, done, stream, monkeypatch, what
):
    home = {"confirm": _source.Source, "write": _forward.Forwarder}[what]
    real, fails = getattr(home, what), threading.Event()

    def away(self, *given):
        if not fails.is_set():
            raise ServiceError(None, "Kafka is away.")
        return real(self, *given)

    monkeypatch.setattr(home, what, away)
    broker.send(topic, [{"value": value, "partition": 0} for value in (prediction(0), b"{", b"[")])
    running = consuming()
    holds(1)
    assert broker.committed(topic, topic) == 0
    fails.set()
    done(3)
    tally = running.stop()
    assert (tally.outages, tally.dead_letters, tally.recorded, tally.duplicates) == (1, 2, 1, 0)
    assert [each.value() for each in letters_of(broker, topic, 2)] == [b"{", b"["]


def test_a_locked_database_is_waited_for(broker, topic, consuming, holds, stream, tmp_path):
    running = consuming(timeout=0.2)
    broker.send(topic, [prediction(0)])
    holds(1)
    connection = sqlite3.connect(tmp_path / "caliber.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    broker.send(topic, [prediction(i) for i in range(1, 500)])
    until(lambda: stream.log_end() == 1, 1, "nothing is recorded")
    time.sleep(2.5)  # longer than the group would wait for a member that is silent
    assert stream.log_end() == 1
    connection.execute("ROLLBACK")
    connection.close()
    holds(500)
    tally = running.stop()
    assert (tally.outages, tally.duplicates, tally.recorded, tally.rebalances) == (1, 0, 500, 2)


def test_told_to_stop_while_the_database_is_away_it_stops(broker, topic, consuming, stream, holds, tmp_path):
    broker.send(topic, [prediction(0)])
    running = consuming(timeout=0.2)
    holds(1)
    connection = sqlite3.connect(tmp_path / "caliber.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    broker.send(topic, [prediction(1)])
    time.sleep(0.8)
    assert running.stop().recorded == 1
    connection.execute("ROLLBACK")
    connection.close()
    second = consuming()
    holds(2)
    assert second.stop().duplicates == 0


def test_a_broker_that_is_silent_is_waited_for(broker, topic, consuming, holds):
    # The group must not forget us meanwhile, or the test would wait for a rebalance too.
    running = consuming(changed={"properties": {"session.timeout.ms": "6000", "socket.timeout.ms": "1000"}})
    broker.send(topic, [prediction(0)])
    holds(1)
    broker.freeze()
    time.sleep(1.5)
    broker.thaw()
    broker.send(topic, [prediction(i) for i in range(1, 100)])
    holds(100)
    assert running.stop().recorded == 100


def test_two_consumers_share_the_partitions(broker, topic, consuming, holds, done, stream, caplog):
    caplog.set_level("INFO", "mlflow_caliber.kafka")
    first = consuming()
    broker.send(topic, [*(prediction(i) for i in range(200)), b"{"])
    holds(200)
    second = consuming()
    until(lambda: shared_out(caplog) == [2, 2], 20, "each has two partitions")
    broker.send(topic, [{"value": prediction(i), "partition": i % 4} for i in range(200, 600)])
    broker.send(topic, [{"value": b"{", "partition": i % 4} for i in range(8)])
    holds(600)
    done(609)
    tallies = [second.stop(), first.stop()]
    assert [each.messages > 0 for each in tallies] == [True, True]
    assert sum(each.recorded for each in tallies) == stream.log_end() == 600
    assert sum(each.dead_letters for each in tallies) == len(letters_of(broker, topic, 9)) == 9


def shared_out(caplog):
    """How many partitions the last two that were given any were given."""
    told = [each.getMessage() for each in caplog.records if "ours now" in each.getMessage()]
    return [1 + each.count(",") for each in told[-2:]]


def test_two_messages_a_second_are_shown_at_once(broker, topic, consuming, uri, holds):
    from live_service import API, service

    consuming()
    broker.send(topic, [prediction(0)])
    holds(1)
    with service(uri) as client:
        took = []
        for i in range(1, 7):
            start = time.monotonic()
            broker.send(topic, [prediction(i, outcome="no")])
            until(
                lambda n=i: client.get(f"{API}/models/churn/versions/1/report").json()["n"] == n,
                2.0,
                "the report has it",
            )
            took.append(time.monotonic() - start)
            time.sleep(max(0.0, 0.5 - took[-1]))
    assert max(took) < 2.0


# --- what cannot work -------------------------------------------------------------------------------------------------


def test_without_kafka_it_ends_with_a_sentence(run, settings, uri):
    wrong = settings(bootstrap="127.0.0.1:1", starting=0.5)
    error = run(consume, wrong, lambda: open_store(uri)).ended()
    assert isinstance(error, ConfigError)
    assert str(error).startswith("Kafka at 127.0.0.1:1 does not answer: ")


def test_without_the_topic_it_ends_with_a_sentence(run, settings, uri):
    error = run(consume, settings(topic="nothing", starting=0.5), lambda: open_store(uri)).ended()
    assert str(error).endswith("has no topic 'nothing': make it first.")


def test_a_property_that_is_not_known_and_a_secret_that_is_not_shown(run, settings, uri):
    error = run(consume, settings(properties={"no.such": "x"}), lambda: open_store(uri)).ended()
    assert isinstance(error, ConfigError)
    assert "no.such" in str(error)
    secret = settings(properties={"sasl.password": "hunter2", "security.protocol": "hunter2"})
    error = run(consume, secret, lambda: open_store(uri)).ended()
    assert isinstance(error, ConfigError)
    assert "hunter2" not in str(error)


def test_a_store_that_is_none(run, settings, tmp_path):
    error = run(consume, settings(starting=0.0), lambda: open_store("sqlite:////no/such/folder/x.db")).ended()
    assert isinstance(error, StoreError)

    def newer():
        raise SchemaVersionError("The store is newer.")

    assert isinstance(run(consume, settings(), newer).ended(), SchemaVersionError)


def test_the_kinds_that_are_recorded_are_those_of_rest(stream):
    told = {"probability": 0.8, "outcome": "no"}
    said, happened = _record.prediction_from_message(told, stream, 60.0)
    assert isinstance(said, Prediction)
    assert isinstance(happened, Outcome)


def test_a_batch_is_over_when_its_messages_are_large(broker, topic, consuming, holds, monkeypatch):
    sizes, record = [], _record.Recorder.__call__

    def counted(recorder, messages, tally):
        sizes.append(sum(len(each) for each in messages))
        return record(recorder, messages, tally)

    monkeypatch.setattr(_record.Recorder, "__call__", counted)
    monkeypatch.setattr(_source, "_MOST_BYTES", 1_000_000)
    monkeypatch.setattr(_source, "_PORTION", 10)
    broker.send(topic, [prediction(i, features={"text": "x" * 50_000}) for i in range(100)])
    running = consuming()
    holds(100)
    assert running.stop().recorded == 100
    assert len(sizes) > 3
    assert max(sizes) < 1_600_000


def test_keys_and_headers_count_too(broker, topic, settings):
    broker.send(topic, [{"value": None, "partition": 0, "headers": [("h", b"x" * 50_000)]} for _ in range(60)])
    source = _source.Source(settings(), Clients(settings()), Tally(), lambda places: None)
    try:
        _bounded(source, 500_000, 10)
    finally:
        source.close()


def _bounded(source, most, portion):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_source, "_MOST_BYTES", most)
        patch.setattr(_source, "_PORTION", portion)
        until(lambda: source.fill() or source.hand, 20, "messages")
        assert len(source.hand) <= most // 50_000 + portion


def test_messages_that_come_while_the_store_is_away_do_not_pile_up(broker, topic, settings, monkeypatch):
    monkeypatch.setattr(_source, "_MOST_AHEAD", 5)
    broker.send(topic, [{"value": b"%d" % k, "partition": k % 2} for k in range(200)])
    source = _source.Source(settings(batch=3), Clients(settings()), Tally(), lambda places: None)
    try:
        until(lambda: source.fill() or source.hand, 20, "messages")
        seen = [(each.partition(), each.offset()) for each in source.hand]
        for _ in range(40):
            source.idle(0.02)
        assert len(source._ahead) == 5
        source.commit()
        end = time.monotonic() + 20
        while len(seen) < 200 and time.monotonic() < end:
            source.fill()
            assert len(source.hand) <= 3
            seen += [(each.partition(), each.offset()) for each in source.hand]
            source.commit()
    finally:
        source.close()
    assert sorted(seen) == [(place, k) for place in (0, 1) for k in range(100)]
    for place in (0, 1):
        assert [k for each, k in seen if each == place] == list(range(100))


def test_a_broker_that_is_slow_is_no_end_of_a_topic(broker, topic, consuming, run, settings, monkeypatch):
    broker.send(topic, [{"value": b"{", "partition": 0} for _ in range(5)])
    running = consuming()
    assert len(letters_of(broker, topic, 5)) == 5
    running.stop()
    broker.rewind(topic, topic)
    monkeypatch.setattr(_forward, "_QUIET", 0.4)
    monkeypatch.setattr(_forward, "_ASKING", 4.0)
    read_back = _forward.Forwarder._read_back

    def slowly(forwarder, *given):
        monkeypatch.setattr(_forward.Forwarder, "_read_back", read_back)
        broker.freeze()
        thawing = threading.Timer(0.8, broker.thaw)
        thawing.start()
        try:
            return read_back(forwarder, *given)
        finally:
            thawing.join()

    monkeypatch.setattr(_forward.Forwarder, "_read_back", slowly)
    running = consuming()
    until(lambda: broker.committed(topic, topic) >= 5, 30, "all are done again")
    tally = running.stop()
    assert (tally.dead_letters, tally.forwarded_before) == (0, 5)
    assert len(letters_of(broker, topic, 5)) == 5

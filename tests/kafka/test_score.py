"""Features in, frames out, frames into the store: a model in the stream."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pandas as pd
import pytest

import mlflow_caliber as caliber
from kafka_broker import PACE, Written, bare, churn, letters_of
from live_processes import until
from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.kafka import KafkaSettings, Tally, _source, consume, score
from mlflow_caliber.kafka import _score as score_module
from mlflow_caliber.kafka._record import Recorder
from mlflow_caliber.kafka._score import Scorer
from mlflow_caliber.online import HedgedRecalibrator
from mlflow_caliber.store import NewRevision, open_store
from segmented_model import save_segmented


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"age": np.round(rng.normal(40.0, 10.0, 600), 3), "region": rng.choice(["north", "south"], 600)}
    )


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    return save_segmented(rows, tmp_path_factory.mktemp("scored") / "m")


@pytest.fixture
def scoring(run, settings, folder, topic, broker):
    """A scorer of the topic into another one."""
    broker.create(f"{topic}-frames", partitions=2)

    def start(**options):
        return run(
            lambda stop: score(settings(), folder, f"{topic}-frames", stop, model="churn", version="1", **options)
        )

    return start


def frames_of(broker, topic, n):
    return [json.loads(each.value()) for each in broker.read(f"{topic}-frames", n)]


def test_from_features_to_the_store(broker, topic, rows, folder, scoring, settings, run, uri, stream, holds, done):
    records = rows.to_dict("records")
    broker.send(topic, [{"value": json.dumps(each).encode(), "key": str(i)} for i, each in enumerate(records)])
    odd = [b"{", b"{}", bare(region="north"), bare(age="old", region="north"), bare(features={"age": 1}, more=1)]
    broker.send(topic, odd)
    running = scoring(keep_features=True)
    done(len(records) + len(odd))
    tally = running.stop()
    assert (tally.scored, tally.dead_letters, tally.recorded) == (600, len(odd), 0)
    reasons = [dict(each.headers())["caliber.reason"].decode() for each in letters_of(broker, topic, len(odd))]
    assert sum(each.startswith("The model cannot score this: ") for each in reasons) == 2
    run(consume, settings(topic=f"{topic}-frames", group=f"{topic}-2"), lambda: open_store(uri))
    holds(600)
    found = stream.rows()
    expected = caliber.load_model(folder).predict_frame(pd.DataFrame(found["features"].tolist())[["age", "region"]])
    for name in ("probability", "raw_probability", "confidence"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-12)
    assert found["prediction"].tolist() == expected["prediction"].tolist()
    assert found["base_probability"].tolist() == found["probability"].tolist()
    assert [each["region"] for each in found["features"]] == found["segment"].tolist()
    assert found["prediction_id"].nunique() == 600


def test_raw_scores_and_what_a_message_says_of_itself(broker, topic, folder, scoring):
    told = {"raw_probability": 0.7, "segment": "south", "prediction_id": "mine", "predicted_at": 7.0}
    bad = [{"raw_probability": 1.7}, {"raw_probability": 0.7, "features": {"age": 1}}, {**told, "segment": 3}]
    broker.send(topic, [bare(**each) for each in (told, {"features": {"age": 50, "region": "north"}}, *bad)])
    broker.send(topic, [b'{"raw_probability": ' + b"9" * 400 + b"}"])  # no float is so large
    scoring()
    frames = {each["prediction_id"]: each for each in frames_of(broker, topic, 2)}
    assert len(letters_of(broker, topic, 4)) == 4
    model = caliber.load_model(folder)
    expected = model.calibrate(np.array([[0.3, 0.7]]), np.array(["south"], dtype=object))[0, 1]
    mine = frames.pop("mine")
    assert (mine["raw_probability"], mine["segment"], mine["predicted_at"]) == (0.7, "south", 7.0)
    assert mine["probability"] == pytest.approx(expected)
    assert "features" not in mine
    assert [(each["segment"], each["model"], each["version"]) for each in frames.values()] == [("north", "churn", "1")]


def test_what_the_store_would_refuse_is_not_written(folder):
    odd = [{"predicted_at": each} for each in ("tomorrow", [1], -5, True, 10**400)]
    odd += [{"prediction_id": each} for each in ("x" * 600, "a\0b", "\ud800", "")] + [{"segment": "a\0b"}]
    features = {"age": 40, "region": "north", "deep": json.loads("[" * 200 + "]" * 200)}
    store = open_store("sqlite://")
    store.stream("churn", "1", classes=["no", "yes"])
    # A prediction with the same value, and what the store says of it.
    said = [churn(kind="prediction", probability=0.7, **each) for each in (*odd, {"features": features})]
    sentences = [each.sentence for each in Recorder(store)([Written(each) for each in said], Tally()).letters]
    asked = [bare(features={"age": 40, "region": "north"}, **each) for each in odd] + [bare(features=features)]
    asked += [bare(age=40, region="a\0b"), bare(features={"age": 40, "region": "north"}, prediction_id="good")]
    scorer = Scorer(folder, model="churn", version="1", keep_features=True)
    handled = scorer([Written(each, offset=k) for k, each in enumerate(asked)], Tally())
    letters = {each.message.offset(): each.sentence for each in handled.letters}
    assert [letters[k] for k in range(len(sentences))] == sentences
    assert letters[len(sentences)] == "segment must not hold the character NUL, got 'a\\x00b'."
    assert [json.loads(each.value)["prediction_id"] for each in handled.outgoing] == ["good"]
    assert Recorder(store)([Written(each.value) for each in handled.outgoing], Tally()).letters == []


@pytest.mark.parametrize(("output", "which"), [("t", "the one that is read"), ("t.dead", "that of the dead letters")])
def test_frames_go_to_a_topic_of_their_own(folder, output, which):
    settings = KafkaSettings(bootstrap="127.0.0.1:1", topic="t", group="g", starting=0.0)
    with pytest.raises(ConfigError, match=f"output must be another topic than {which}, got '{output}'"):
        score(settings, folder, output, threading.Event(), model="churn", version="1")


class KilledError(BaseException):
    """Ends the scorer as if it had been killed."""


def test_who_dies_before_the_commit_writes_no_frame_twice(broker, topic, rows, scoring, done, monkeypatch):
    records = rows[:200].to_dict("records")
    broker.send(topic, [{"value": json.dumps(each).encode(), "partition": i % 4} for i, each in enumerate(records)])
    with monkeypatch.context() as patch:

        def dies(source):
            raise KilledError

        patch.setattr(_source.Source, "commit", dies)
        assert isinstance(scoring().ended(), KilledError)
    running = scoring()
    done(200)
    tally = running.stop()
    assert tally.forwarded_before > 0
    assert tally.scored + tally.forwarded_before == 200
    frames = frames_of(broker, topic, 200)
    assert len(frames) == len({each["prediction_id"] for each in frames}) == 200


def test_a_linked_model_follows_its_revisions_and_records_nothing_itself(broker, topic, scoring, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_CALIBER_SPOOL_DIR", str(tmp_path / "spool"))
    linked = f"sqlite:///{tmp_path}/linked.db"
    scoring(store_uri=linked)
    with open_store(linked) as store:
        until(store.streams, 20, "the model is known to the store")
        stream = store.streams()[0]
        learned = HedgedRecalibrator()
        for _ in range(60):
            learned.update(learned.forecast(0.9), 0)
        revision = NewRevision(revision="r1", map=learned.snapshot().to_dict(), n_learned=60)
        stream.lease("test", 60.0).checkpoint(0, b"", revision)
        until(lambda: any(each.revision == "r1" for each in stream.replicas()), 20, "the model has it")
        broker.send(topic, [bare(raw_probability=0.9, segment="north")])
        frame = frames_of(broker, topic, 1)[0]
        assert frame["calibrator_revision"] == "r1"
        assert frame["probability"] < frame["base_probability"]
        assert stream.log_end() == 0


def test_a_model_without_a_name_is_asked_for_one(run, settings, folder):
    error = run(lambda stop: score(settings(), folder, "frames", stop)).ended()
    assert isinstance(error, ConfigError)
    assert "name it by --model and --version" in str(error)


def test_a_frame_that_is_too_large_is_a_dead_letter(broker, topic, settings, folder, run, done):
    broker.create(f"{topic}-frames", partitions=2)
    long = {"age": 40, "region": "north", "note": "\u00e9" * 2_000}
    values = [
        bare(features=each, prediction_id=f"p{k}") for k, each in enumerate((long, {"age": 1, "region": "south"}))
    ]
    broker.send(topic, [{"value": value, "partition": 0, "key": "k"} for value in values])
    small = {**PACE, "message.max.bytes": "2500"}
    running = run(
        lambda stop: score(
            settings(properties=small),
            folder,
            f"{topic}-frames",
            stop,
            model="churn",
            version="1",
            keep_features=True,
        )
    )
    done(2)
    tally = running.stop()
    assert (tally.scored, tally.dead_letters) == (1, 1)
    assert [each["prediction_id"] for each in frames_of(broker, topic, 1)] == ["p1"]
    (letter,) = letters_of(broker, topic, 1)
    told = dict(letter.headers())
    assert told["caliber.reason"].decode().startswith("Its frame of ")
    assert f"is too large for {topic}-frames" in told["caliber.reason"].decode()


@pytest.mark.slow
def test_a_model_that_is_slower_than_the_group_is_patient_gets_smaller_batches(
    broker, topic, settings, folder, run, done, monkeypatch
):
    """A batch of the first size takes twice as long as the group waits."""
    broker.create(f"{topic}-frames", partitions=2)
    frames_at_once = score_module.Scorer._frames

    def slowly(scorer, group):
        time.sleep(0.015 * len(group))
        return frames_at_once(scorer, group)

    monkeypatch.setattr(score_module.Scorer, "_frames", slowly)
    values = [bare(features={"age": k % 80, "region": "north"}, prediction_id=f"p{k}") for k in range(700)]
    broker.send(topic, [{"value": value, "partition": 0} for value in values])
    patience = {**PACE, "max.poll.interval.ms": "3500"}
    running = run(
        lambda stop: score(settings(properties=patience), folder, f"{topic}-frames", stop, model="churn", version="1")
    )
    done(700, seconds=90.0)
    running.stop()
    assert [each["prediction_id"] for each in frames_of(broker, topic, 700)] == [f"p{k}" for k in range(700)]

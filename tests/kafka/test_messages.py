"""The published schema and the reader say the same of every message."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_broker import Written, bare
from mlflow_caliber.exceptions import ConfigError, InvalidInputError
from mlflow_caliber.kafka import KafkaSettings, Tally, read_properties
from mlflow_caliber.kafka._messages import id_of
from mlflow_caliber.kafka._record import Recorder
from mlflow_caliber.kafka._settings import hidden
from mlflow_caliber.store import OUTCOME_KEYS, PREDICTION_KEYS, open_store

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = json.loads((ROOT / "docs/reference/message.schema.json").read_text(encoding="utf-8"))
PREDICTION, OUTCOME, APP = SCHEMA["oneOf"]


@pytest.fixture(scope="module")
def valid():
    return pytest.importorskip("jsonschema_rs").validator_for(SCHEMA).is_valid


@pytest.fixture(scope="module")
def reader():
    """Why a message is refused; None when it is taken."""
    with open_store("sqlite://") as store:
        store.stream("app", "1")
        record, tally = Recorder(store, create=True), Tally()

        def why(told):
            letters = record([Written(json.dumps(told).encode())], tally).letters
            return letters[0].sentence if letters else None

        yield why


def test_the_schema_knows_the_keys_of_the_reader():
    assert PREDICTION["properties"].keys() == {*PREDICTION_KEYS, "kind", "model", "version"}
    assert OUTCOME["properties"].keys() == {*OUTCOME_KEYS, "kind", "model", "version"}


def test_the_schema_says_what_the_document_of_the_service_says():
    document = pytest.importorskip("mlflow_caliber.server._messages")

    def rules(properties):
        text = json.dumps({key: value for key, value in properties.items() if key not in {"kind", "model", "version"}})
        text = re.sub(r'"description": "[^"]*",? ?|"type": "string", (?="enum")|, "maximum": 253402300799', "", text)
        return json.loads(re.sub(r",\s*}", "}", text))

    for ours, theirs in ((PREDICTION, document._PREDICTION), (OUTCOME, document._OUTCOME)):
        found, wanted = rules(ours["properties"]), rules(theirs["properties"])
        found["predicted_at"] = wanted.get("predicted_at")  # null is the same as nothing, and REST's does not say so
        assert {key: found[key] for key in wanted} == wanted
    body = document.APP_PREDICTION_BODY["content"]["application/json"]["schema"]
    assert rules(APP["properties"]) == rules(body["properties"])
    assert APP["required"] == body["required"]


@pytest.mark.parametrize("example", [each for kind in SCHEMA["oneOf"] for each in kind["examples"]])
def test_examples_are_taken(example, valid, reader):
    assert valid(example)
    assert reader({"prediction": "yes", **example} if example.get("kind") == "prediction" else example) is None


TEXTS = st.sampled_from(["", "a", "x" * 200, "x" * 201, "x" * 2001, "ü"])
NUMBERS = st.sampled_from([0, 1, 0.5, -0.1, 1.1, 2.0e9, 3.0e11, -1])
ODD = st.sampled_from([None, True, [], {}, ["a"], {"a": 1}, [0.5, 0.5]])
VALUES = st.one_of(TEXTS, NUMBERS, ODD)
KINDS = st.sampled_from(["prediction", "outcome", "opinion", None, 1])
# In reach of a schema: two values that contradict each other are the reader's business alone.
SAID = sorted(PREDICTION_KEYS - {"confidence", "probabilities"})


def whole(i):
    """A message in which every value can be taken, of either kind."""
    both = {"model": "churn", "version": "1", "prediction_id": f"id-{i}", "outcome": "no", "observed_at": 1.0}
    said = {"probability": 0.5, "prediction": "yes", "features": {}, "segment": None, "reason": "", "abstained": None}
    return {"kind": "prediction", **both, **said}, {"kind": "outcome", **both}


_ids = iter(range(10_000_000))


@given(st.sampled_from([0, 1]), st.sampled_from([*SAID, "kind", "model", "version", "extra"]), st.one_of(VALUES, KINDS))
def test_a_value_that_one_takes_the_other_takes(valid, reader, kind, key, value):
    told = {**whole(next(_ids))[kind], key: value}
    if key in {"prediction", "outcome"} and value is None:
        return  # whether it follows from the rest is not a schema's business
    if key == "prediction_id" and isinstance(value, str) and value:
        value = told[key] = f"{value}{next(_ids)}"[-len(value) :] if len(value) < 3 else value
        told["probability"] = 0.5
    why = reader(told)
    if why is not None and "was recorded with another" in why:
        return
    assert valid(told) == (why is None), (told, why)


@given(st.sampled_from([*APP["properties"], "extra"]), VALUES)
def test_a_value_of_the_app_that_one_takes_the_other_takes(valid, reader, key, value):
    told = {**APP["examples"][0], "sample_id": f"s{next(_ids)}", key: value}
    if key == "model_version_id" and isinstance(value, int | float):
        return  # numbers of versions are known to the store alone
    why = reader(told)
    if why is not None and "was recorded with another" in why:
        return
    assert valid(told) == (why is None), (told, why)


@pytest.mark.parametrize("missing", ["kind", "prediction_id", "outcome"])
def test_what_is_missing_is_missed_by_both(missing, valid, reader):
    told = {key: value for key, value in OUTCOME["examples"][0].items() if key != missing}
    assert not valid(told)
    assert reader(told) is not None
    assert not valid({"kind": "prediction", "model": "churn", "version": "3", "probability": None})
    assert reader({"kind": "prediction", "model": "churn", "version": "3", "probability": None}) is not None


@pytest.mark.parametrize("name", ["\0", "a\0b", "\ud800", "x" * 201, "", 1, None])
def test_a_name_that_no_database_can_hold_is_refused(name, reader):
    assert "must name its model by a text" in reader({"kind": "outcome", "model": name, "version": "1"})


@pytest.mark.parametrize("name", ["a/b", "/", ".", ".."])
def test_a_name_that_no_address_can_hold_is_refused_by_both(name, valid, reader):
    for key in ("model", "version"):
        told = {"kind": "outcome", "model": "a", "version": "1", "prediction_id": "a", "outcome": "no", key: name}
        assert f"{key} must hold no '/' and be neither '.' nor '..'" in reader(told)
        assert not valid(told)


HOSTILE = [
    {"features": {"a": "\0"}},
    {"features": {"\0": 1}},
    {"features": {"a": "\ud800"}},
    {"features": {"a": 10**300}},
    {"features": json.loads("[" * 90 + "]" * 90)},
    {"features": {"a": json.loads("[" * 300 + "]" * 300)}},
    {"features": {"a": "x" * 900_000}},
    {"segment": "\0"},
    {"segment": "\ud800"},
    {"reason": "a\0b"},
    {"prediction_id": "\ud800"},
    {"prediction_id": "a\0"},
    {"prediction": "\0"},
    {"prediction": 10**300},
    {"prediction": {"a": 1}},
    {"probability": 10**300},
    {"probability": -0.0},
    {"predicted_at": 10**300},
    {"outcome": "\ud800"},
    {"outcome": "no", "observed_at": 10**300},
    {"probabilities": [10**300]},
    {"probabilities": {"a": 1}},
]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_no_value_is_mistaken_for_a_database_that_is_away(database, request):
    # A database that refused a value would look like one that is away, and the message would be tried for ever.
    uri = "sqlite://" if database == "sqlite" else request.getfixturevalue("postgres")()
    with open_store(uri) as store:
        record = Recorder(store, create=True)
        batch = [
            Written(
                bare(
                    **{"kind": "prediction", "model": "churn", "version": "1", "probability": 0.5, "prediction": "no"}
                    | each
                ),
                offset=i,
            )
            for i, each in enumerate(HOSTILE)
        ]
        tally = Tally()
        letters = record([*batch, Written(bare(kind="outcome", model="a\0", version="1"))], tally).letters
        assert len(letters) > 10
        assert tally.recorded >= len(batch) + 1 - len(letters) > 0
        assert "cannot be re" not in "".join(each.sentence for each in letters)


# --- ids and times ----------------------------------------------------------------------------------------------------


def test_ids_follow_from_the_place_and_the_time():
    places = [
        Written(b"", topic=topic, partition=partition, offset=offset, at=at)
        for topic in ("a", "b")
        for partition in (0, 1)
        for offset in (0, 1)
        for at in (1_000, 2_000)
    ]
    ids = [id_of(each) for each in places]
    assert len(set(ids)) == 16
    assert ids == [id_of(each) for each in places]
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}", each) for each in ids)
    assert id_of(Written(b"", offset=9, at=1_000)) < id_of(Written(b"", offset=1, at=2_000))


def test_without_a_time_the_store_says_when(reader):
    with open_store("sqlite://", clock=lambda: 77.0) as store:
        told = bare(kind="prediction", model="churn", version="1", prediction="yes", probability=0.5)
        assert Recorder(store, create=True)([Written(told, at=None)], Tally()).letters == []
        assert store.find_stream("churn", "1").rows()["predicted_at"].tolist() == [77.0]


# --- settings ---------------------------------------------------------------------------------------------------------

ORDINARY = {"bootstrap": "kafka:9092", "topic": "t", "group": "g"}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"bootstrap": ""}, "bootstrap must not be empty"),
        ({"dead_letters": "t"}, "dead_letters must be another topic"),
        ({"batch": 0}, "batch must be"),
        ({"lag_every": -1.0}, "lag_every must be at least 0 seconds, got -1"),
        ({"properties": {"enable.auto.commit": "true"}}, "enable.auto.commit is set by mlflow-caliber itself"),
        ({"properties": {"group.id": "x"}}, "its option is --group"),
    ],
)
def test_settings_are_checked(changed, why):
    with pytest.raises((InvalidInputError, ConfigError), match=why):
        KafkaSettings(**{**ORDINARY, **changed})


def test_properties_of_a_file_and_of_the_command(tmp_path):
    file = tmp_path / "client.properties"
    file.write_text("# who we are\n\nsasl.username = caliber\nsasl.password=a=b\n")
    assert read_properties(["sasl.username=other"], file) == {"sasl.username": "other", "sasl.password": "a=b"}
    with pytest.raises(ConfigError, match=r"--property number 1 does not") as error:
        read_properties(["hunter2"], file)
    assert "hunter2" not in str(error.value)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="must be a readable text file"):
        read_properties([], file)


def test_secrets_are_not_shown():
    settings = KafkaSettings(**ORDINARY, properties={"sasl.password": "hunter2"})
    assert "hunter2" not in repr(settings)
    told = "Invalid value hunter2 for ssl.key.password, user caliber"
    secrets = {"ssl.key.password": "hunter2", "sasl.username": "caliber"}
    assert hidden(told, secrets) == "Invalid value *** for ssl.key.password, user caliber"

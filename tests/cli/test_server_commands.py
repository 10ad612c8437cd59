"""The commands around the service: who gets in, how the store is kept, and traffic for it."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time

import pytest

from commands import ok, run
from mlflow_caliber import store as stores
from mlflow_caliber.cli import _simulate as simulating
from mlflow_caliber.cli._server import check_exposure, first_token, server
from mlflow_caliber.cli._simulate import DRIFTS
from mlflow_caliber.cli._token import ROLES
from mlflow_caliber.cli._traffic import send_at_their_times
from mlflow_caliber.exceptions import ConfigError, OptionalDependencyError, ServiceError
from mlflow_caliber.kafka import kafka_sender
from mlflow_caliber.live import simulation
from mlflow_caliber.server import ServerSettings, app
from mlflow_caliber.store import Outcome, Prediction, open_store

DAY = 86_400.0


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.fixture
def uri(tmp_path):
    uri = f"sqlite:///{tmp_path}/caliber.db"
    open_store(uri).close()
    return uri


def said(prediction_id, **changed):
    ordinary = dict.fromkeys(("raw_probability", "base_probability", "probability", "confidence"), 0.7)
    given = {"prediction_id": prediction_id, "predicted_at": 0.0, "prediction": 1, **ordinary, **changed}
    return Prediction(**given)


# Who gets in


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"])
def test_ones_own_machine_asks_for_nothing(host):
    check_exposure(host, has_token=False, https=False, anonymous=("admin",), proxy=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "caliber.example.org", ""])
def test_others_need_a_token_and_no_wire_in_the_clear(host):
    open_to_all = {"has_token": True, "https": True, "anonymous": (), "proxy": False}
    check_exposure(host, **open_to_all)
    with pytest.raises(
        ConfigError, match="must not travel in the clear: give --tls-cert and --tls-key, or --behind-proxy"
    ):
        check_exposure(host, **open_to_all | {"https": False})
    with pytest.raises(ConfigError, match="nobody has a token: make one by `mlflow-caliber token create"):
        check_exposure(host, **open_to_all | {"has_token": False})
    with pytest.raises(ConfigError, match="--anonymous is for one's own machine only, and --host"):
        check_exposure(host, **open_to_all | {"anonymous": ("view",)})


def test_nobody_is_anonymous_behind_a_proxy():
    with pytest.raises(ConfigError, match="--behind-proxy lets others in"):
        check_exposure("127.0.0.1", has_token=True, https=True, anonymous=("view",), proxy=True)


def test_the_first_run_makes_one_token(uri):
    with open_store(uri) as store:
        text = first_token(store)
        token = store.find_token(text)
        assert (token.name, token.roles, token.models) == ("first-run", ("admin",), None)
        assert first_token(store) is None
        store.revoke_token(token.id, "mia")
        assert first_token(store) is None, "who revokes the last token does not want another in a log"


def test_the_server_refuses_before_it_listens(uri, tmp_path):
    assert "must not travel in the clear" in refused("server", "--store", uri, "--host", "0.0.0.0")
    assert "nobody has a token" in refused("server", "--store", uri, "--host", "0.0.0.0", "--behind-proxy")
    assert "must be some of" in refused("server", "--store", uri, "--anonymous", "root")
    assert "A store must be named" in refused("server")
    assert "allow_origins must be scheme://host[:port], got 'foo'" in refused(
        "server", "--store", uri, "--allow-origin", "foo"
    )
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    told = refused("server", "--store", uri, "--tls-cert", junk, "--tls-key", junk)
    assert "must be a certificate and its key in PEM" in told
    config = tmp_path / "caliber.yaml"
    config.write_text("live: {nonsense: 3}")
    assert "live: unknown key 'nonsense'" in refused("server", "--store", uri, "--config", config)
    assert "must be a file (--config)" in refused("server", "--store", uri, "--config", tmp_path / "nope.yaml")
    with open_store(uri) as store:
        assert store.tokens() == ()


def test_what_the_server_is_told(uri, monkeypatch):
    from mlflow_caliber import server as service

    told = []
    monkeypatch.setattr(service, "serve", told.append)
    result = run(
        *("server", "--store", uri, "--port", 0, "--workers", 2, "--anonymous", "view, review"),
        *("--allow-origin", "https://a.example", "--allow-origin", "https://b.example", "--rate", 7, "--access-log"),
    )
    assert result.exit_code == 0, result.output
    (settings,) = told
    assert (settings.store_uri, settings.port, settings.workers) == (uri, 0, 2)
    assert (settings.anonymous, settings.rate) == (("view", "review"), 7.0)
    assert (settings.allow_origins, settings.access_log) == (("https://a.example", "https://b.example"), True)
    assert "shown this once: cal_" in result.stderr
    assert "cal_" not in result.stdout
    assert "cal_" not in run("server", "--store", uri).output


def test_the_defaults_are_the_services_own():
    from mlflow_caliber.server import ServerSettings

    given = {each.name: each.default for each in server.params}
    ours = ServerSettings(store_uri="sqlite://")
    for option, name in {"max_body": "max_body_mb"}.items() | {(n, n) for n in ("host", "port", "workers", "rate")}:
        assert given[option] == getattr(ours, name), option
    assert stores.ROLES == ROLES
    assert simulation.DRIFTS == DRIFTS


# Tokens


def test_tokens_are_made_listed_and_revoked(uri):
    made = ok("token", "create", "loader", "--role", "ingest", "--model", "credit", "--days", 7, "--store", uri)
    with open_store(uri) as store:
        assert store.find_token(made["token"]).id == made["id"]
    assert (made["roles"], made["models"]) == (["ingest"], ["credit"])
    text = run("token", "create", "mia", "--role", "admin", "--store", uri)
    assert text.stdout.startswith("cal_")
    assert "of mia may admin; models: all." in text.stderr
    listed = ok("token", "list", "--store", uri)["tokens"]
    assert [each["name"] for each in listed] == ["loader", "mia"]
    assert ok("token", "revoke", made["id"], "--store", uri)["revoked_at"] is not None
    lines = run("token", "list", "--store", uri).stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["state", "revoked", "alive"]
    assert made["token"][17:] not in "".join(lines)
    assert "There must be a token 'nobody'" in refused("token", "revoke", "nobody", "--store", uri)


def test_who_made_a_token_is_known(uri):
    ok("token", "create", "loader", "--role", "ingest", "--store", uri)
    with open_store(uri) as store:
        (entry,) = store.audit_trail()
    assert (entry.action, bool(entry.actor)) == ("create_token", True)


# The database


def test_a_new_database_becomes_a_store(tmp_path):
    uri = f"sqlite:///{tmp_path}/new.db"
    assert "There is no store" in ok_or_failed("db", "check", "--store", uri)
    assert ok("db", "upgrade", "--store", uri)["schema"] >= "0003"
    assert ok("db", "check", "--store", uri) == {"faults": []}
    assert run("db", "check", "--store", uri).stdout == "The store is whole.\n"


def ok_or_failed(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 1, result.output
    return " ".join(json.loads(result.stdout)["faults"])


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (
            "DELETE FROM predictions WHERE seq = 2",
            "churn/1: The log must have no gaps, and 1 of its 3 numbers are missing",
        ),
        ("UPDATE outcomes SET seq = 1", "Each number of the log must be there once, and 1 are there twice"),
        ("UPDATE predictions SET seq = 99 WHERE seq = 2", "must have the numbers 1 to 3, got 1 to 99"),
        ("UPDATE learners SET position = 99", "the learner's position must be in the log, which ends at 3, got 99"),
        ("UPDATE streams SET pinned_revision = 7", "pinned_revision must be a revision that is there, got 7"),
        ("UPDATE learners SET stream_id = 99", "learners must refer to rows of streams that are there"),
        ("UPDATE caliber_schema SET version_num = '0001'", "run `mlflow-caliber db upgrade`"),
    ],
)
def test_what_is_wrong_is_said(uri, harm, sentence):
    with open_store(uri) as store:
        stream = store.stream("churn", "1", classes=[0, 1])
        stream.record([said("a"), said("b"), Outcome(prediction_id="a", outcome=1, observed_at=1.0)])
        stream.lease("mia", 60.0)
    assert ok("db", "check", "--store", uri) == {"faults": []}
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
        connection.execute(harm)
    connection.close()
    assert sentence in ok_or_failed("db", "check", "--store", uri)


def test_a_damaged_file_is_said(uri, tmp_path):
    with open_store(uri) as store:
        store.stream("churn", "1").record([said(str(k)) for k in range(2_000)])
    file = tmp_path / "caliber.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(file.read_bytes())
    content[-200_000:-100_000] = bytes(100_000)
    file.write_bytes(content)
    assert ok_or_failed("db", "check", "--store", uri)


def test_a_process_that_finds_no_database_may_be_tried_again(tmp_path, monkeypatch, caplog):
    """uvicorn ends all processes when one ends with 3, and starts another in the place of any other."""
    settings = ServerSettings(store_uri=f"sqlite:///{tmp_path}/nowhere/caliber.db")
    monkeypatch.setenv("MLFLOW_CALIBER_SERVER_SETTINGS", settings.to_json())
    monkeypatch.setattr(app, "configure_logging", lambda **_: None)
    with pytest.raises(SystemExit) as end:
        app.from_environment()
    assert end.value.code == 1
    assert "The service cannot start: The store at" in caplog.text


def test_pruning_makes_old_rows_small_and_forgets_dead_tokens(uri):
    now = time.time()
    clock = [now - 40 * DAY]
    with open_store(uri, clock=lambda: clock[0]) as store:
        for model in ("churn", "credit"):
            stream = store.stream(model, "1", classes=[0, 1])
            stream.record([said("a"), Outcome(prediction_id="a", outcome=1, observed_at=1.0)])
        store.create_token("old", ["view"], days=1, actor="mia")
        store.create_token("living", ["view"], actor="mia")
    assert ok("db", "prune", "--store", uri, "--days", 60) == {"compacted": 0, "tokens": 0}
    assert ok("db", "prune", "--store", uri, "--days", 30, "--model", "credit") == {"compacted": 1, "tokens": 0}
    assert ok("db", "prune", "--store", uri, "--days", 30) == {"compacted": 1, "tokens": 1}
    assert ok("db", "check", "--store", uri) == {"faults": []}
    with open_store(uri) as store:
        assert [token.name for token in store.tokens()] == ["living"]
        assert [stream.counts().compacted for stream in store.streams()] == [1, 1]
    assert "--version needs --model" in refused("db", "prune", "--store", uri, "--days", 1, "--version", "1")
    assert "must hold nothing" in refused("db", "prune", "--store", uri, "--days", 1, "--model", "nothing")


def test_what_pruning_leaves_is_explained(uri):
    with open_store(uri) as store:
        for model in ("churn", "credit"):
            store.stream(model, "1", classes=[0, 1]).record([said(str(k), abstained=k == 1) for k in range(2_001)])
        store.stream("credit", "1").lease("mia", 60.0)
        store.stream("churn", "1").claim_review("1", "mia")
    lines = run("db", "prune", "--store", uri, "--days", 0).stdout.splitlines()
    assert lines[0].startswith("2000 predictions are only in statistics now; ")
    assert lines[1].startswith("churn/1 keeps rows of that age: somebody is at their review")
    assert lines[2].startswith("credit/1 keeps rows of that age: its learner is not done with them")
    assert "more than 2,000 unread" in run("status", "--store", uri, "--model", "credit").stdout


def test_nothing_is_made_for_what_cannot_be_done(tmp_path):
    uri, table = f"sqlite:///{tmp_path}/new.db", tmp_path / "s.csv"
    table.write_text("y,p\n0,0.2\n1,0.7\n")
    assert "must end in .parquet or .jsonl" in refused("store", "import", table, "--store", uri)
    nowhere = ("consume", "--bootstrap", "127.0.0.1:1", "--starting", 0, "--store", uri)
    assert "does not answer" in refused(*nowhere)
    assert [file.name for file in tmp_path.iterdir()] == ["s.csv"]
    inside = table / "inside"
    assert "--output must be a folder that can be written to" in refused(
        "report", table, "--target", "y", "--proba", "p", "--output", inside
    )
    assert "--folder must be a folder that can be written to" in refused("demo-server", "--folder", inside)


# Traffic


def messages(n, start, step):
    return iter(
        [{"kind": "prediction", "prediction_id": str(k), "predicted_at": start + k * step} for k in range(n)]
        + [{"kind": "outcome", "prediction_id": "0", "observed_at": math.inf}]
    )


def test_events_are_sent_when_their_time_has_come():
    start = time.time()
    came = []

    def send(batch):
        came.extend((time.time() - start, float(each["prediction_id"]) * 0.1) for each in batch)
        return []

    sent = send_at_their_times(messages(8, start, 0.1), send, threading.Event(), start + 0.75)
    assert vars(sent) == {"predictions": 8, "outcomes": 0, "refused": 0}
    assert all(when >= due for when, due in came)


def test_a_service_that_is_away_gets_everything_later(capsys):
    start = time.time()
    came, troubles = [], [None, 503]

    def send(batch):
        if troubles:
            raise ServiceError(troubles.pop(), "Away.")
        came.extend(each["prediction_id"] for each in batch)
        return [{"sentence": "No."}] if len(came) == 3 else []

    sent = send_at_their_times(messages(3, start, 0.0), send, threading.Event(), start)
    assert (came, vars(sent)) == (["0", "1", "2"], {"predictions": 3, "outcomes": 0, "refused": 1})
    assert "Away. 3 events wait; trying again in 0.4 s." in capsys.readouterr().err


def test_what_another_try_does_not_mend_ends_it():
    def send(_):
        raise ServiceError(403, "The role ingest is needed.")

    with pytest.raises(ServiceError, match="The role ingest is needed"):
        send_at_their_times(messages(3, 0.0, 0.0), send, threading.Event(), math.inf)


def test_a_service_that_stays_away_ends_it():
    def send(_):
        raise ServiceError(None, "Away.")

    with pytest.raises(ServiceError, match="Away"):
        send_at_their_times(messages(3, 0.0, 0.0), send, threading.Event(), time.time() - 1.0, patience=0.0)


def test_being_told_to_stop_ends_it():
    stop = threading.Event()

    def send(_):
        stop.set()
        return []

    assert send_at_their_times(messages(3, 0.0, 0.0), send, stop, math.inf).predictions == 3


class Kafka:
    """As much of confluent_kafka as is used."""

    class KafkaException(Exception):
        pass

    def __init__(self, *, answers=True, takes=True):
        self.taken = []
        kafka = self

        class Producer:
            def __init__(self, settings):
                assert settings["bootstrap.servers"] == "kafka:9092"

            def list_topics(self, timeout):
                if not answers:
                    raise Kafka.KafkaException

            def produce(self, topic, value, key, on_delivery):
                kafka.taken.append((topic, json.loads(value), key))
                on_delivery(None if takes else "full", None)

            def flush(self, timeout):
                return 0

        self.Producer = Producer


def test_events_for_kafka(monkeypatch):
    kafka = Kafka()
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", kafka)
    assert kafka_sender("kafka:9092", "events", "churn", "3")([{"kind": "outcome", "prediction_id": "a"}]) == ()
    event = {"model": "churn", "version": "3", "kind": "outcome", "prediction_id": "a"}
    assert kafka.taken == [("events", event, b"a")]


def test_kafka_that_takes_nothing_or_does_not_answer_or_is_not_installed(monkeypatch):
    modules = __import__("sys").modules
    monkeypatch.setitem(modules, "confluent_kafka", Kafka(takes=False))
    with pytest.raises(ServiceError, match="did not take all events"):
        kafka_sender("kafka:9092", "events", "churn", "3")([{"prediction_id": "a"}])
    monkeypatch.setitem(modules, "confluent_kafka", Kafka(answers=False))
    with pytest.raises(ServiceError, match="does not answer"):
        kafka_sender("kafka:9092", "events", "churn", "3")
    monkeypatch.setitem(modules, "confluent_kafka", None)
    with pytest.raises(OptionalDependencyError, match="Kafka needs confluent-kafka"):
        kafka_sender("kafka:9092", "events", "churn", "3")


def test_without_kafka_the_service_gets_the_events(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", None)
    _, way = simulating._sender(None, "kafka:9092", "events", "churn", "3")
    assert way == "rest"
    assert "Kafka needs confluent-kafka" in capsys.readouterr().err
    assert simulating._sender(None, None, "events", "churn", "3")[1] == "rest"


def test_a_service_that_is_not_there_is_said(monkeypatch):
    from mlflow_caliber.client import _transport

    monkeypatch.setattr(_transport, "_FIRST_PAUSE", 0.0)
    assert "does not answer" in refused("simulate", "--url", "http://127.0.0.1:9", "--seconds", 1)

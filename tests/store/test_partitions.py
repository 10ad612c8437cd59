"""The log in partitions on PostgreSQL: what was recorded before stays, and every id is there once, whoever sends it."""

from __future__ import annotations

import multiprocessing

import psycopg
import pytest

from mlflow_caliber.store import Outcome, Prediction, downgrade, open_store, upgrade

TABLES = ("predictions", "outcomes")


@pytest.fixture
def older(postgres, new_uri, said, happened):
    """A store with schema 0003 and rows of several streams."""
    if not new_uri("empty").startswith("postgresql"):
        pytest.skip("SQLite has no partitions")
    uri = new_uri("store")
    assert downgrade(uri, "0003") == "0003"
    with psycopg.connect(uri) as connection:
        for number in range(1, 41):
            connection.execute(
                "INSERT INTO streams (id, model, version, classes, positive, created_at, next_seq, last_recorded_at) "
                "VALUES (%s, 'churn', %s, '[\"0\", \"1\"]', '1', 0, 3, 5)",
                (number, str(number)),
            )
            connection.execute(
                "INSERT INTO predictions VALUES "
                "(%s, 1, 'a', 1, 5, .5, .6, .7, '1', .7, false, '', 'eu', 'r', NULL, '{\"x\": 1}')",
                (number,),
            )
            connection.execute(
                "INSERT INTO outcomes VALUES (%s, 2, 'a', '1', 2, 5, 'observed', true, false)", (number,)
            )
        connection.execute("SELECT setval('streams_id_seq', 40)")
        connection.execute("INSERT INTO summaries VALUES (1, 'head', 2, 'old')")
    return uri


def test_an_older_store_keeps_its_rows_and_is_cut_into_partitions(older):
    assert upgrade(older) == "0004"
    with psycopg.connect(older) as connection:
        for table in TABLES:
            filled = connection.execute(f"SELECT count(DISTINCT tableoid), count(*) FROM {table}").fetchone()
            assert filled[0] > 8
            assert filled[1] == 40
    with open_store(older) as store:
        assert store.faults() == ()
        stream = store.find_stream("churn", "7")
        (row,) = stream.rows().to_dict("records")
        assert (row["prediction_id"], row["probability"], row["features"], row["outcome"]) == ("a", 0.7, {"x": 1}, "1")
        assert stream.summary() is None, "it is made anew, and the rollups with it"
        assert (
            store.stream("churn", "41").record([Outcome(prediction_id="b", outcome=1, observed_at=1.0)]).recorded == 1
        )
    assert downgrade(older, "0003") == "0003"
    with psycopg.connect(older) as connection:
        for table, rows in zip(TABLES, (40, 41), strict=True):
            kind = connection.execute("SELECT relkind FROM pg_class WHERE relname = %s", (table,)).fetchone()
            assert kind == ("r",)
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (rows,)
    assert upgrade(older) == "0004"


def test_a_look_up_reads_one_partition(older):
    upgrade(older)
    with psycopg.connect(older) as connection:
        plan = connection.execute("EXPLAIN SELECT * FROM predictions WHERE stream_id = 7 AND prediction_id = 'a'")
        named = {word for (line,) in plan for word in line.split() if word.startswith("predictions_p")}
    assert len({name[:15] for name in named}) == 1


def record_some(uri, results):
    """What one process sends; the other sends the same."""
    with open_store(uri) as store:
        stream = store.stream("churn", "1")
        recorded = duplicates = 0
        for first in range(0, 400, 20):
            scores = {"raw_probability": 0.5, "base_probability": 0.5, "probability": 0.5}
            events = [
                Prediction(prediction_id=f"id{k}", predicted_at=1.0, prediction=1, confidence=0.5, **scores)
                for k in range(first, first + 20)
            ]
            receipt = stream.record(events)
            recorded, duplicates = recorded + receipt.recorded, duplicates + receipt.duplicates
        results.put((recorded, duplicates))


def test_two_processes_that_send_the_same_ids_store_them_once(uri):
    with open_store(uri) as store:
        stream = store.stream("churn", "1", classes=[0, 1])
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        senders = [context.Process(target=record_some, args=(uri, results)) for _ in range(2)]
        for sender in senders:
            sender.start()
        told = [results.get(timeout=120) for _ in senders]
        for sender in senders:
            sender.join(30)
        assert sum(recorded for recorded, _ in told) == 400
        assert sum(duplicates for _, duplicates in told) == 400
        assert stream.counts().predictions == 400
        assert store.faults() == ()

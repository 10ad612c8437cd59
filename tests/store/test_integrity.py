"""A store that is whole says nothing, one that is not says what is wrong, on both databases."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa

from mlflow_caliber.store import open_store


@pytest.fixture
def filled(store, said, happened):
    stream = store.stream("churn", "1", classes=[0, 1])
    stream.record([said("a"), said("b"), happened("a"), happened("ghost")])
    stream.lease("mia", 60.0)
    store.stream("credit", "1").record([said("a")])
    store.stream("empty", "1")
    return stream


def execute(uri, statement):
    if uri.startswith("postgresql"):
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute(statement)
        return
    engine = sa.create_engine(uri)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_whole_store_has_no_faults(store, filled):
    assert store.faults() == ()


def test_compaction_is_no_fault(store, clock, filled):
    with open_store("sqlite://") as other:
        assert other.faults() == ()
    stream = store.streams()[1]
    clock.now += 100.0
    assert stream.compact(clock.now) == 1
    assert store.faults() == ()


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        ("DELETE FROM predictions WHERE seq = 2", "The log must have no gaps, and 1 of its 4 numbers are missing."),
        (
            "UPDATE outcomes SET seq = 2 WHERE seq = 3",
            "Each number of the log must be there once, and 1 are there twice.",
        ),
        ("UPDATE streams SET next_seq = 4 WHERE id = 1", "The log must have the numbers 1 to 3, got 1 to 4."),
        ("UPDATE learners SET position = 9", "the learner's position must be in the log, which ends at 4, got 9."),
        ("UPDATE learners SET settled = -1", "the learner's settled must be in the log, which ends at 4, got -1."),
        (
            "UPDATE streams SET current_revision = 3 WHERE id = 1",
            "current_revision must be a revision that is there, got 3.",
        ),
    ],
)
def test_what_is_wrong(uri, store, filled, harm, fault):
    execute(uri, harm)
    assert f"churn/1: {fault}" in store.faults()
    assert all(each.startswith("churn/1: ") for each in store.faults())


def test_a_clock_that_was_wrong_is_told(store, clock, filled, said):
    clock.now += 400 * 86_400.0
    filled.record([said("future", predicted_at=None)])
    clock.now -= 400 * 86_400.0
    filled.record([said("now", predicted_at=None)])
    assert filled.log()[-1].event.predicted_at == clock.now  # it is the prediction's own time, wherever the log is
    (fault,) = store.faults()
    assert fault.startswith("churn/1: Its last entry was recorded 9,600 hours from now: a clock was wrong")

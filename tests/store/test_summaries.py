"""What a log adds up to and what was last seen, kept: the newest wins, whoever writes."""

from __future__ import annotations

import threading

import pytest

from mlflow_caliber.exceptions import InvalidInputError, NotFoundError
from mlflow_caliber.store import Figures, NewRevision, open_store


def test_there_is_nothing_at_first(stream):
    assert (stream.summary(), stream.summary_position(), stream.observation(), stream.observed_at()) == (None,) * 4


def test_parts_are_replaced_one_by_one(stream):
    assert stream.save_summary(3, {"head": b"h3", "day:1": b"a", "day:2": b"b"})
    assert stream.save_summary(7, {"head": b"h7", "day:2": b"c"}, gone=["day:1"])
    assert stream.summary() == (7, {"head": b"h7", "day:2": b"c"})
    assert stream.summary_position() == 7


@pytest.mark.parametrize("position", [3, 5])
def test_what_is_as_new_is_kept(stream, position):
    stream.save_summary(5, {"head": b"first", "day:1": b"a"})
    assert not stream.save_summary(position, {"head": b"second"}, gone=["day:1"])
    assert stream.summary() == (5, {"head": b"first", "day:1": b"a"})


def test_a_whole_summary_replaces_one_that_cannot_be_read(stream):
    stream.save_summary(5, {"head": b"broken", "day:1": b"a"})
    assert stream.save_summary(5, {"head": b"sound"}, whole=True)
    assert stream.summary() == (5, {"head": b"sound"})


def test_a_summary_needs_a_position_and_names(stream):
    with pytest.raises(InvalidInputError, match="position must be"):
        stream.save_summary(-1, {"head": b""})
    with pytest.raises(InvalidInputError, match="part must not be empty"):
        stream.save_summary(1, {"head": b"", "": b""})


def test_of_many_who_save_at_once_the_furthest_wins(uri):
    def save(position):
        with open_store(uri) as store:
            of_it = {"head": str(position).encode(), "day:1": str(position).encode()}
            store.stream("churn", "1").save_summary(position, of_it)

    with open_store(uri) as store:
        store.stream("churn", "1")
    threads = [threading.Thread(target=save, args=(position,)) for position in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_store(uri) as store:
        assert store.stream("churn", "1").summary() == (8, {"head": b"8", "day:1": b"8"})


def test_the_columns_that_are_added_up_are_those_of_the_log(stream, said, happened):
    stream.record([happened("b", 0), said("a", segment="eu", abstained=True, reason="why"), happened("a"), said("b")])
    stream.record([happened("a", 0, source="review")])
    rows = stream.summary_rows(0, 100)
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5]
    assert rows[1][3:] == (0.9, 0.8, 0.7, "1", True, "why", "eu")
    assert [row[2:] for row in rows if row.seq in (1, 3, 5)] == [
        ("b", "0", "observed", False, False),
        ("a", "1", "observed", True, False),
        ("a", "0", "review", True, True),
    ]
    assert [row.seq for row in stream.summary_rows(1, 2)] == [2, 3]
    assert stream.said(["a", "c"]) == {"a": rows[1]}
    assert stream.told(["a", "b", "c"]) == {"a": [rows[2], rows[4]], "b": [rows[0]]}
    assert (stream.said([]), stream.told([])) == ({}, {})


def test_figures_follow_what_is_recorded_and_served(stream, said):
    stream.record([said("a", abstained=True), said("b")])
    lease = stream.lease("worker", 30)
    for number in (1, 2):
        lease.checkpoint(2, b"", NewRevision(revision=f"r{number}", map={"k": number}, n_learned=number))
    assert stream.figures() == Figures(log_end=2, revision=2, pinned=False, open_reviews=1)
    stream.pin(1, "mia")
    assert stream.figures()[1:3] == (1, True)
    assert [(each.number, each.revision, each.map) for each in stream.last_revisions(1)] == [(2, "r2", None)]


def test_the_last_observation_is_kept(stream):
    stream.save_observation({"seen": 1}, at=10.0)
    stream.save_observation({"seen": float("nan")}, at=20.0)
    stream.save_observation({"seen": 0}, at=15.0)
    assert stream.observation() == (20.0, {"seen": None})
    assert stream.observed_at() == 20.0


def test_a_person_closes_an_alarm_once(stream, clock):
    alarm = stream.raise_alarm("drift", "age", "warning", "Drifted.", {}, now=10.0)
    clock.now = 2_000.0
    assert stream.close_alarm(alarm.id, "mia").resolved_at == 2_000.0
    clock.now = 3_000.0
    assert stream.close_alarm(alarm.id, "mia").resolved_at == 2_000.0
    assert stream.open_alarms() == ()
    assert [each.id for each in stream.last_alarms()] == [alarm.id]
    with pytest.raises(NotFoundError, match="has no alarm 999"):
        stream.close_alarm(999, "mia")

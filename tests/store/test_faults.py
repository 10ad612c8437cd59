"""Processes that die, collide and fork; databases that are busy or away."""

from __future__ import annotations

import multiprocessing
import threading
import time

import psycopg
import pytest

from mlflow_caliber.exceptions import InvalidInputError, StoreError
from mlflow_caliber.store import open_store
from mlflow_caliber.store._record import locked_stream, record

FORK = multiprocessing.get_context("fork")  # a new interpreter takes seconds


@pytest.fixture
def write(said, happened):
    """A process that records batches and says the number of each that is acknowledged."""

    def batches(uri, name, n_batches, size, acknowledged):
        with open_store(uri) as store:
            stream = store.stream("churn", "3", classes=[0, 1])
            for batch in range(n_batches):
                keys = [f"{name}-{batch}-{row}" for row in range(size // 2)]
                events = [event for key in keys for event in (said(key, abstained=True), happened(key))]
                assert stream.record(events).recorded == size
                acknowledged.send(batch)

    def start(uri, name, n_batches, size):
        here, there = FORK.Pipe(duplex=False)
        process = FORK.Process(target=batches, args=(uri, name, n_batches, size, there))
        process.start()
        there.close()
        return process, here

    return start


def everything(stream):
    entries = []
    while found := stream.log(after=entries[-1].seq if entries else 0, limit=10_000):
        entries += found
    return entries


def rest_of(pipe):
    with pipe:
        while True:
            try:
                yield pipe.recv()
            except EOFError:
                return


def test_a_killed_writer_leaves_whole_batches(uri, write):
    size, counts = 40, {}
    with open_store(uri) as store:
        for number, batches in enumerate((1, 12, 30)):
            process, acknowledged = write(uri, f"w{number}", 100_000, size)
            for _ in range(batches):
                acknowledged.recv()
            time.sleep(0.005 * number)
            process.kill()
            process.join()
            counts[f"w{number}"] = batches + len(list(rest_of(acknowledged)))
        stream = store.stream("churn", "3")
        entries = everything(stream)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        for name, batches in counts.items():
            mine = [entry.event.prediction_id for entry in entries if entry.event.prediction_id.startswith(name)]
            assert len(mine) % size == 0
            assert batches <= len(mine) // size <= batches + 1  # one may be on disk and not yet acknowledged
            ids = [f"{name}-{batch}-{row}" for batch in range(len(mine) // size) for row in range(size // 2)]
            assert mine == [key for key in ids for _ in range(2)]
        assert len(stream.open_reviews(limit=100_000)) == len(entries) // 2


def test_two_processes_write_one_sequence(new_uri, write):
    uri = new_uri()  # they create the store together, too
    processes, pipes = zip(*(write(uri, name, 25, 20) for name in ("one", "two")), strict=True)
    seen = []
    while any(process.is_alive() for process in processes):
        try:
            store = open_store(uri, create=False)
        except StoreError:
            time.sleep(0.05)
            continue
        with store:
            stream = store.stream("churn", "3", classes=[0, 1])
            while any(process.is_alive() for process in processes):
                seen += [entry.seq for entry in stream.log(after=seen[-1] if seen else 0)]
                time.sleep(0.005)
    for process, pipe in zip(processes, pipes, strict=True):
        process.join()
        assert process.exitcode == 0
        assert list(rest_of(pipe)) == list(range(25))
    assert seen == list(range(1, len(seen) + 1)), "no gap was ever seen that filled later"
    with open_store(uri) as store:
        entries = everything(store.stream("churn", "3"))
    assert [entry.seq for entry in entries] == list(range(1, 1_001))
    times = [entry.recorded_at for entry in entries]
    assert times == sorted(times)


def test_threads_share_a_store(uri, said):
    with open_store(uri) as store:
        share(store, said)


def test_threads_share_a_store_in_memory(said):
    with open_store("sqlite://") as store:
        share(store, said)


def share(store, said):
    receipts = []

    def write(name):
        stream = store.stream("churn", "3")
        receipts.extend(stream.record([said(f"{name}-{batch}"), said(f"common-{batch}")]) for batch in range(5))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(receipt.recorded for receipt in receipts) == 25
    assert sum(receipt.duplicates for receipt in receipts) == 15
    assert [entry.seq for entry in store.stream("churn", "3").log()] == list(range(1, 26))


def test_a_fork_goes_on_with_connections_of_its_own(uri, happened):
    with open_store(uri) as store:
        stream = store.stream("churn", "3")

        def tell(name):
            for number in range(20):
                assert stream.record([happened(f"{name}-{number}")]).recorded == 1

        tell("before")
        child = FORK.Process(target=tell, args=("child",))
        child.start()
        tell("parent")
        child.join()
        assert child.exitcode == 0
        tell("after")
        assert [entry.seq for entry in stream.log()] == list(range(1, 81))


def test_a_busy_database_is_a_sentence_and_leaves_nothing(uri, said):
    with open_store(uri) as holder, open_store(uri, timeout=0.2) as store:
        stream = holder.stream("churn", "3")
        with holder._database.write() as connection:
            locked_stream(connection, 1)
            stream = store.streams()[0]
            with pytest.raises(StoreError, match=r"is busy: somebody else has held it for over 0\.2 s\.") as raised:
                stream.record([said()])
            assert raised.value.__cause__ is not None
            assert stream.log() == [], "readers do not wait"
        assert stream.record([said()]).recorded == 1


def test_an_exception_halfway_leaves_nothing(stream, said, monkeypatch):
    def broken(*_):
        raise RuntimeError("halfway")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow_caliber.store._log.record", lambda *args: (record(*args), broken())[0])
        with pytest.raises(RuntimeError, match="halfway"):
            stream.record([said(abstained=True)])
    assert stream.log() == []
    assert stream.open_reviews() == ()
    assert stream.record([said()]).recorded == 1
    assert stream.log()[0].seq == 1


def test_a_server_that_came_back_is_asked_again(postgres, said):
    with psycopg.connect(postgres(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE came_back")
        with open_store(postgres("came_back")) as store:
            stream = store.stream("churn", "3")
            gone = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'came_back'"
            assert connection.execute(gone).fetchall()
            assert stream.record([said()]).recorded == 1


def test_timeouts_that_cannot_be():
    with pytest.raises(InvalidInputError, match="timeout must be above 0 seconds, got 0"):
        open_store("sqlite://", timeout=0)

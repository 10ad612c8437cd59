"""Real processes that write at once and are killed: the chain has no gap and no fork."""

from __future__ import annotations

import multiprocessing
import time

from mlflow_caliber.ledger import open_ledger

FORK = multiprocessing.get_context("fork")  # a new interpreter takes seconds


def _write(uri, keys, name, n, acknowledged):
    with open_ledger(uri, keys=keys) as ledger:
        for number in range(n):
            ledger.record(actor=name, action="gate", model="churn", detail={"number": number})
            acknowledged.send(number)


def start(uri, keys, name, n):
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_write, args=(uri, keys, name, n, there))
    process.start()
    there.close()
    return process, here


def rest_of(pipe):
    with pipe:
        while True:
            try:
                yield pipe.recv()
            except EOFError:
                return


def numbers(ledger, name):
    return [entry.detail["number"] for entry in ledger.entries() if entry.actor == name]


def test_processes_that_write_at_once_make_one_chain(uri, keys):
    """They also start at once, on a database without tables."""
    started = [start(uri, keys, name, 60) for name in ("a", "b", "c")]
    for process, acknowledged in started:
        assert len(list(rest_of(acknowledged))) == 60
        process.join(60)
        assert process.exitcode == 0
    with open_ledger(uri, keys=keys) as ledger:
        verification = ledger.verify()
        assert verification.problems == ()
        assert verification.n == verification.signed == 180
        assert all(numbers(ledger, name) == list(range(60)) for name in ("a", "b", "c"))


def test_killed_writers_leave_a_chain_that_verifies(uri, keys):
    acknowledged = {}
    for round_number, wanted in enumerate((1, 9, 23)):
        names = [f"{name}{round_number}" for name in ("a", "b")]
        started = [start(uri, keys, name, 100_000) for name in names]
        for _, pipe in started:
            for _ in range(wanted):
                pipe.recv()
        time.sleep(0.003 * round_number)
        for name, (process, pipe) in zip(names, started, strict=True):
            process.kill()
            process.join()
            acknowledged[name] = wanted + len(list(rest_of(pipe)))
    with open_ledger(uri, keys=keys) as ledger:
        assert ledger.verify().problems == ()
        for name, n in acknowledged.items():
            written = numbers(ledger, name)
            assert written == list(range(len(written)))
            assert n <= len(written) <= n + 1  # one may be on disk and not yet acknowledged

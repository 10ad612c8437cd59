"""What an event costs when the store is full: no more than when it was new."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from mlflow_caliber.store import Outcome, Prediction, open_store

BATCH = 500  # predictions, and as many outcomes
FEW, MANY = 10_000, 1_000_000

_COUNT = "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :last)"
_ID = "printf('0192f0c1-%012d-7000', i)"
FILL = (
    f"""INSERT INTO predictions {_COUNT} SELECT 1, 2 * i + 1, {_ID}, 1.7e9 + i, 1.0, (i % 997) / 997.0,
    (i % 991) / 991.0, (i % 983) / 983.0, '1', 0.75, 0, '', 'eu', '3f2a91c07b1d', NULL, NULL FROM n""",
    "INSERT INTO outcomes (stream_id, seq, prediction_id, outcome, observed_at, recorded_at, source, known, correction)"
    f"{_COUNT} SELECT 1, 2 * i + 2, {_ID}, '1', 1.7e9 + i, 1.0, 'observed', 1, 0 FROM n",
    "UPDATE streams SET next_seq = 2 * :last + 1 WHERE :first < :last",
)


def filled(store, n_entries):
    """A stream in which so many entries have been recorded, as if one by one."""
    stream = store.stream("churn", "3", classes=[0, 1])
    with store._database.write() as connection:
        for statement in FILL:
            connection.execute(sa.text(statement), {"first": 0, "last": n_entries // 2})
    with store._database._engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    return stream


def batch(first):
    """Predictions with ids that sort by time, as the flavor makes them, and their outcomes."""
    for number in range(first, first + BATCH):
        yield Prediction(
            prediction_id=f"0192f0c1-{number:012d}-7000",
            predicted_at=1.7e9 + number,
            raw_probability=number % 997 / 997,
            base_probability=number % 991 / 991,
            probability=number % 983 / 983,
            prediction=number % 2,
            confidence=0.75,
            segment="eu",
            calibrator_revision="3f2a91c07b1d",
        )
        yield Outcome(prediction_id=f"0192f0c1-{number:012d}-7000", outcome=number % 2, observed_at=1.7e9 + number)


def cost(stream, first):
    """Processor time per event, in seconds."""
    events = list(batch(first))
    start = time.process_time()
    assert stream.record(events).recorded == len(events)
    return (time.process_time() - start) / len(events)


@pytest.mark.slow
def test_an_event_costs_the_same_at_a_million(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/few.db") as new, open_store(f"sqlite:///{tmp_path}/many.db") as old:
        streams = {FEW: filled(new, FEW), MANY: filled(old, MANY)}
        # In turns: whatever else the machine does, it does to both.
        costs = [[cost(stream, n // 2 + turn * BATCH) for n, stream in streams.items()] for turn in range(40)]
        few, many = (sorted(column)[len(costs) // 2] for column in zip(*costs, strict=True))
        start = time.process_time()
        page = streams[MANY].log(after=MANY - 2_000, limit=1_000)
        reading = (time.process_time() - start) / len(page)
    print(f"{few * 1e6:.1f} µs an event at {FEW:,}, {many * 1e6:.1f} at {MANY:,}; {reading * 1e6:.1f} µs to read one")
    assert len(page) == 1_000
    assert many <= 1.5 * few

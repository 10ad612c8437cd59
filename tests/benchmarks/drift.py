"""How long native drift takes, against Evidently's DataDriftPreset and against a loop over scipy, in one process.

Run it by hand: ``python tests/benchmarks/drift.py [rows]``. Twenty numeric columns, as many rows in the reference as
now. The parties take turns on the same frames; what is printed is the median of each and of their ratio. Ours computes
all statistics of a report and judges them; Evidently gets its columns declared and its default methods, and draws
nothing; scipy computes KS and Wasserstein, and judges nothing. The last line is the floor: sorting every column once.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable

os.environ |= {"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, wasserstein_distance

from mlflow_caliber.drift import drift_from_profile, drift_report, feature_profile

COLUMNS = 20


def people(n: int, seed: int) -> pd.DataFrame:
    """Twenty normal columns."""
    return pd.DataFrame({f"x{i}": np.random.default_rng([seed, i]).normal(size=n) for i in range(COLUMNS)})


def evidently(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    """The preset with its defaults, on declared columns; without the page."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=list(reference.columns))
    both = (Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference))
    Report([DataDriftPreset()]).run(*both)


def scipy_loop(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    """KS and Wasserstein of every column."""
    for name in reference.columns:
        ks_2samp(reference[name], current[name], method="asymp")
        wasserstein_distance(reference[name], current[name])


def sorts(reference: pd.DataFrame, current: pd.DataFrame) -> None:
    """What no exact statistic of order can do without."""
    for frame in (reference, current):
        for name in frame.columns:
            np.sort(frame[name].to_numpy())


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def row(work: str, n: int, ours: Callable[[], object], peer: Callable[[], object], name: str, rounds: int) -> tuple:
    """(work, rows, our milliseconds, the peer's, peer / ours, the peer), by medians over rounds after a first one."""
    pairs = [(seconds(ours), seconds(peer)) for _ in range(rounds + 1)][1:]
    ms = [1e3 * statistics.median(times) for times in zip(*pairs, strict=True)]
    return work, n, *ms, statistics.median(theirs / mine for mine, theirs in pairs), name


def table(n: int = 100_000, rounds: int = 3) -> list[tuple[str, int, float, float, float, str]]:
    """One line for each comparison."""
    reference, current = people(n, 0), people(n, 1)
    profile = feature_profile(reference)
    both = f"drift of {COLUMNS} columns"
    stored = f"drift of {COLUMNS} columns from a stored profile"

    def native() -> object:
        return drift_report(reference, current)

    def from_profile() -> object:
        return drift_from_profile(profile, current)

    def preset() -> None:
        evidently(reference, current)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            row(both, n, native, preset, "Evidently DataDriftPreset", rounds),
            row(stored, n, from_profile, preset, "Evidently DataDriftPreset", 1),
            row(
                both, n, native, lambda: scipy_loop(reference, current), "scipy ks_2samp + wasserstein_distance", rounds
            ),
            row(both, n, native, lambda: sorts(reference, current), "np.sort of every column (floor)", 2 * rounds + 1),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=int, nargs="?", default=100_000)
    for work, n, ours, theirs, ratio, peer in table(parser.parse_args().rows):
        print(f"{work:45} {n:>8} rows {ours:9.1f} ms {theirs:9.1f} ms {ratio:7.2f} x  {peer}")


if __name__ == "__main__":
    main()

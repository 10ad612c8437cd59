"""The numerics against their peers and the machine's floor: one table of ratios, as in docs/benchmarks.md.

Run it by hand: ``python tests/benchmarks/numerics.py [area ...]``, with the areas calibrators, metrics, ranking,
selective, drift and statistics_at_scale. Every line was measured in one process on one core, ours and the peer in turn
on the same data; times are medians. A ratio above 1 says how many times faster ours is; where the peer is a floor such
as ``np.sort``, a ratio below 1 says what fraction of our time the floor is.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # one core, ours and the peers alike; before numpy is loaded
sys.path.insert(0, str(Path(__file__).resolve().parent))

AREAS = ("calibrators", "metrics", "ranking", "selective", "drift", "statistics_at_scale")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("areas", nargs="*", default=AREAS, metavar="area", help=f"one of {', '.join(AREAS)}")
    print("| work | rows | ours, ms | peer, ms | ratio | peer |\n|---|---|---|---|---|---|", flush=True)
    for area in arguments.parse_args().areas:
        for work, rows, ours, peer, ratio, against in importlib.import_module(area).table():
            print(f"| {work} | {rows} | {ours:.3g} | {peer:.3g} | {ratio:.2f} | {against} |", flush=True)


if __name__ == "__main__":
    main()

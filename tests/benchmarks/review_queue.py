"""How long a reviewer waits for the queue: `python tests/benchmarks/review_queue.py [cases]`, on SQLite."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time

import numpy as np

from mlflow_caliber.store import Prediction, ReviewSettings, StreamSettings, open_store, review_queue


def case(number: int, p: float) -> Prediction:
    said = {"raw_probability": p, "base_probability": p, "probability": p, "confidence": max(p, 1.0 - p)}
    label = "leaves" if p >= 0.5 else "stays"
    return Prediction(
        prediction_id=f"{number:08d}", predicted_at=float(number), prediction=label, abstained=True,
        reason="low_confidence", features={"age": 44, "plan": "gold", "spent": p}, **said,
    )  # fmt: skip


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, open_store(f"sqlite:///{folder}/caliber.db") as store:
        stream = store.stream("churn", "1", classes=["stays", "leaves"])
        stream.change_settings(StreamSettings(review=ReviewSettings(costs={"leaves": 5.0})), "admin")
        for start in range(0, n, 5_000):
            stream.record([case(k, float(rng.uniform())) for k in range(start, min(start + 5_000, n))])
        print(f"{n:,} cases wait; milliseconds of processor time for the first 50 of them")
        for order in ("uncertain", "oldest", "cost"):
            took = []
            for turn in range(31):
                began = time.process_time()
                found = review_queue([stream], order=order, reviewer="mia", limit=50)
                took.append(1_000.0 * (time.process_time() - began))
                stream.answer_review(found.reviews[0].prediction_id, "mia", "confirm")
                stream.record([case(n + 100 * turn + len(order), float(rng.uniform()))])
            first, rest = took[0], sorted(took[1:])
            print(f"{order:10} first {first:6.1f}   p50 {statistics.median(rest):6.1f}   p95 {rest[28]:6.1f}")


if __name__ == "__main__":
    main()

"""How long a caliber evaluation takes, against MLflow's default evaluator without SHAP, in one process.

Run it by hand: ``python tests/benchmarks/evaluator.py [rows ...]``. The two take turns on the same scikit-learn model,
data and run store; what is printed is the median of each and of their ratio, which a busy machine disturbs less. Two
lines for each number of rows: the evaluators alone, and ``mlflow.models.evaluate`` around them, whose own work on the
data set (it looks at every value in Python) both pay. ``--profile`` prints where our evaluator spends its time.
"""

from __future__ import annotations

import argparse
import cProfile
import logging
import os
import pstats
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models.evaluation.evaluators.classifier import ClassifierEvaluator
from sklearn.linear_model import LogisticRegression

from mlflow_caliber.evaluator import CaliberEvaluator

EVALUATORS = {"default": ClassifierEvaluator, "caliber": CaliberEvaluator}


def people(n: int, seed: int = 0) -> pd.DataFrame:
    """Twenty features of which a few matter, and an outcome."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 20)), columns=[f"x{i}" for i in range(20)])
    logit = frame["x0"] + 0.5 * frame["x1"] * frame["x2"] - 0.3
    return frame.assign(y=(rng.random(n) < 1.0 / (1.0 + np.exp(-logit))).astype(float))


CONFIGS = {
    "default": {"log_model_explainability": False},
    "caliber": {"reference": people(10_000, seed=2), "evidently": False},
}


class Bench:
    """One model, one data set, and the seconds that a call takes."""

    def __init__(self, uri: str, frame: pd.DataFrame) -> None:
        self.uri, self.frame = uri, frame
        self.model = mlflow.pyfunc.load_model(uri)
        self.dataset = mlflow.data.from_pandas(frame, targets="y").to_evaluation_dataset()

    def whole(self, name: str) -> None:
        """What a user calls."""
        how = {"evaluators": name, "evaluator_config": CONFIGS[name]}
        mlflow.models.evaluate(self.uri, self.frame, targets="y", model_type="classifier", **how)

    def alone(self, name: str) -> None:
        """What MLflow then calls."""
        EVALUATORS[name]().evaluate(
            model_type="classifier",
            dataset=self.dataset,
            run_id=mlflow.active_run().info.run_id,
            evaluator_config=CONFIGS[name],
            model=self.model,
            extra_metrics=None,
            custom_artifacts=None,
            predictions=None,
        )

    def seconds(self, call: Callable[[str], None], name: str) -> float:
        with mlflow.start_run():
            start = time.perf_counter()
            call(name)
            return time.perf_counter() - start

    def compare(self, call: Callable[[str], None], repeats: int) -> str:
        for name in CONFIGS:  # imports and caches
            self.seconds(call, name)
        pairs = [[self.seconds(call, name) for name in CONFIGS] for _ in range(repeats)]
        default, caliber = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(ours / theirs for theirs, ours in pairs)
        return f"default {default:.2f} s, caliber {caliber:.2f} s, ratio {ratio:.2f}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("rows", nargs="*", type=int, default=[10_000, 100_000])
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--profile", action="store_true")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        train = people(5000)
        model = LogisticRegression().fit(train.drop(columns="y"), train["y"])
        uri = mlflow.sklearn.log_model(model, name="model", pip_requirements=[]).model_uri
        for n in options.rows:
            bench = Bench(uri, people(n, seed=1))
            print(f"{n:>7} rows, evaluator alone: {bench.compare(bench.alone, options.repeats)}")
            print(f"{n:>7} rows, whole evaluation: {bench.compare(bench.whole, options.repeats)}")
            if options.profile:
                profile = cProfile.Profile()
                profile.runcall(bench.seconds, bench.alone, "caliber")
                pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
        os.chdir("/")


if __name__ == "__main__":
    main()

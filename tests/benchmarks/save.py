"""Seconds that ``save_model`` adds to saving the base with its own flavor: ``python -m tests.benchmarks.save``.

Both are given the same requirements, so that neither infers them by running the model. The first save of a process also
pays for imports and for reading the list of installed packages; it is shown apart.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd
import skops.io
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

N_ROWS, N_FEATURES, REPEATS = 10_000, 20, 3


def bases() -> dict[str, object]:
    return {
        "LogisticRegression": LogisticRegression(max_iter=500),
        "HistGradientBoosting, 100 trees": HistGradientBoostingClassifier(max_iter=100),
        "RandomForest, 100 trees": RandomForestClassifier(100, n_jobs=2, random_state=0),
    }


def save_base(model: object, folder: str, X: pd.DataFrame, trusted: list[str]) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    mlflow.sklearn.save_model(
        model,
        folder,
        signature=infer_signature(X),
        pip_requirements=["scikit-learn", "skops"],
        skops_trusted_types=trusted,
    )


def seconds(function, *arguments, **keywords) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        function(*arguments, str(Path(folder, "model")), **keywords)
        return time.perf_counter() - start


def main() -> None:
    import mlflow_caliber as caliber

    warnings.simplefilter("ignore")
    X, y = make_classification(2 * N_ROWS, N_FEATURES, flip_y=0.1, random_state=0)
    X = pd.DataFrame(X, columns=[f"f{k}" for k in range(N_FEATURES)])
    fit, calibration = slice(0, N_ROWS), slice(N_ROWS, None)
    data = (X[calibration], y[calibration])
    print(f"{N_ROWS:,} calibration rows, {N_FEATURES} features, calibrator auto; medians of {REPEATS}")
    first = True
    for name, model in bases().items():
        model.fit(X[fit], y[fit])
        if first:
            print(f"first save of the process: {seconds(caliber.save_model, model, calibration_data=data):.2f} s")
            first = False
        trusted = skops.io.get_untrusted_types(data=skops.io.dumps(model))
        alone = [
            seconds(lambda folder, model=model, trusted=trusted: save_base(model, folder, X[:100], trusted))
            for _ in range(REPEATS)
        ]
        whole = [seconds(caliber.save_model, model, calibration_data=data) for _ in range(REPEATS)]
        base, ours = statistics.median(alone), statistics.median(whole)
        print(f"{name:34s} base {base:5.2f} s, calibrated {ours:5.2f} s, added {ours - base:5.2f} s")


if __name__ == "__main__":
    main()

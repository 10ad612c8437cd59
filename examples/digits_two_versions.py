"""Ten classes: a well-calibrated and an over-confident digits classifier as two versions, told apart by the gate.

Version 1 is a regularised logistic regression behind a calibrator. Version 2 is hardly regularised and serves its
probabilities as they come: it still names eight digits in ten, and is far too sure of them. Run it with
``make demo-multiclass``.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "demo" / "digits"
STORE = f"sqlite:///{DEMO / 'mlflow.db'}"
NAME = "digits"

os.environ |= {"MLFLOW_TRACKING_URI": STORE, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

import mlflow_caliber as caliber  # noqa: E402
from mlflow_caliber.gate import gate_version  # noqa: E402

POLICY = caliber.GatePolicy.from_dict(
    {
        "targets": {
            "champion": {
                "min_rows": 400,
                "rules": [
                    {"metric": "caliber_accuracy", "min": 0.8},
                    {"metric": "caliber_ece_upper", "max": 0.05},
                ],
            }
        }
    }
)


def main() -> None:
    """Log both versions, evaluate them on the same rows, and ask the gate."""
    warnings.filterwarnings("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir(parents=True)
    mlflow.set_experiment(experiment_id=MlflowClient().create_experiment(NAME, (DEMO / "artifacts").as_uri()))
    train, calibration, test = digits()
    for strength, calibrator in ((1.0, "auto"), (100.0, "identity")):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000)).fit(*train)
        caliber.log_model(
            model, name=NAME, calibrator=calibrator, calibration_data=calibration, registered_model_name=NAME
        )
    print(pd.DataFrame([judge(version, test) for version in (1, 2)]).to_string(index=False))


def digits() -> tuple[tuple[pd.DataFrame, Any], ...]:
    """Digits in three parts: for the base model, for the calibrator, for the judgement."""
    X, y = load_digits(return_X_y=True, as_frame=True)
    X = X.iloc[:, ::2]  # every other pixel, or no model would ever be wrong
    rest, test_X, rest_y, test_y = train_test_split(X, y, test_size=900, random_state=0, stratify=y)
    train_X, cal_X, train_y, cal_y = train_test_split(rest, rest_y, test_size=500, random_state=0, stratify=rest_y)
    return (train_X, train_y), (cal_X, cal_y), (test_X, test_y)


def judge(version: int, test: tuple[pd.DataFrame, Any]) -> dict[str, Any]:
    """Evaluate one version and gate it."""
    X, y = test
    with mlflow.start_run(run_name=f"version {version}"):
        result = mlflow.models.evaluate(
            f"models:/{NAME}/{version}",
            X.assign(digit=y),
            targets="digit",
            model_type="classifier",
            evaluators="caliber",
        )
    decision = gate_version(NAME, version, "champion", POLICY)
    for reason in decision.reasons:
        print(f"version {version}: {reason}")
    shown = {key: round(result.metrics[f"caliber_{key}"], 4) for key in ("accuracy", "ece", "ece_upper", "log_loss")}
    return {"version": version, **shown, "gate": decision.verdict}


if __name__ == "__main__":
    main()

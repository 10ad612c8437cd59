"""The main job on real data: calibrate, evaluate, gate, promote, serve, learn from outcomes, promote again.

US Census ACS, Massachusetts: is a person employed? A gradient-boosted classifier is trained on 2015 and lives through
2016, 2017 and 2018. Run it with ``make demo``; everything it makes is in the folder ``demo/``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "demo"
STORE = f"sqlite:///{DEMO / 'mlflow.db'}"
POLICY = HERE / "caliber.yaml"
NAME = "employment"

# Set before MLflow is imported, and inherited by the model server.
os.environ |= {"MLFLOW_TRACKING_URI": STORE, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402
from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: E402

import mlflow_caliber as caliber  # noqa: E402
from mlflow_caliber.gate import gate_version  # noqa: E402

START = time.perf_counter()


def main() -> None:
    """Run the story and end with one table."""
    quiet()
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    mlflow.set_experiment(experiment_id=MlflowClient().create_experiment(NAME, (DEMO / "artifacts").as_uri()))
    people = {year: rows.drop(columns="year") for year, rows in load().groupby("year")}
    train, held_out = people[2015][:15_000], people[2015][15_000:]

    say("1. Train a gradient-boosted classifier on 2015, and wrap it with an isotonic calibrator: version 1")
    base_uri = log_base(train)
    caliber.log_model(
        base_uri,
        name=NAME,
        calibrator="isotonic",
        calibration_data=split(held_out),
        policy=caliber.AbstainPolicy(threshold=0.7),
        registered_model_name=NAME,
    )

    say("2. Evaluate base and calibrated model on each later year, with drift against 2015")
    rows = []
    for year in (2016, 2017, 2018):
        rows.append(evaluate("base model", base_uri, year, people[year]))
        rows.append(evaluate("version 1", f"models:/{NAME}/1", year, people[year], reference=train))

    say("3. Gate version 1 on the evidence of 2016 and promote it to champion")
    move = caliber.promote(NAME, 1, "champion", POLICY, evidence_run=rows[1]["run"])
    verdicts = [verdict("version 1", "2016", move.decision)]
    say(f"   {move.sentence}")

    say("4. Serve the champion with `mlflow models serve` and ask it about three people of 2017")
    for answer in ask_served(f"models:/{NAME}@champion", people[2017].drop(columns="employed")[:3]):
        print(f"   {json.dumps(answer)}")

    say("5. The outcomes of 2017 come back: refit the calibrator, the base untouched: version 2")
    result = caliber.recalibrate(f"models:/{NAME}@champion", people[2017], "employed")
    say(f"   log loss on these outcomes {result.log_loss_before:.4f} -> {result.log_loss_after:.4f} (cross-fitted)")
    rows.append(evaluate("version 2", result.model_uri, 2018, people[2018], reference=train, evidently=True))

    say("6. Gate version 2 against the champion, on the same rows of 2018")
    decision = gate_version(NAME, 2, "champion", POLICY, evidence_run=rows[-1]["run"])
    verdicts.append(verdict("version 2", "2018", decision))
    if decision.verdict == "pass":
        say(f"   {caliber.promote(NAME, 2, 'champion', POLICY, evidence_run=rows[-1]['run']).sentence}")
    finish(rows, verdicts)


def load() -> pd.DataFrame:
    """The sample that ships with the project, features as floats so that a missing value can be sent as JSON."""
    table = pd.read_parquet(HERE / "data" / "acs_employment_ma.parquet")
    return table.astype({name: float for name in table if name not in ("year", "employed")})


def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """Features and label."""
    return rows.drop(columns="employed"), rows["employed"]


def log_base(train: pd.DataFrame) -> str:
    """Train the base model without early stopping, so that it is too sure of itself, and log it to MLflow."""
    X, y = split(train)
    model = HistGradientBoostingClassifier(learning_rate=0.2, max_iter=300, early_stopping=False, random_state=0)
    model.fit(X, y)
    info = mlflow.sklearn.log_model(
        model,
        name=f"{NAME}-base",
        signature=infer_signature(X, model.predict(X)),
        pip_requirements=mlflow.sklearn.get_default_pip_requirements(include_skops=True),
        skops_trusted_types=["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
    )
    return str(info.model_uri)


def evaluate(
    who: str, uri: str, year: int, people: pd.DataFrame, reference: pd.DataFrame | None = None, evidently: bool = False
) -> dict[str, Any]:
    """Evaluate one model on one year with MLflow, and keep the row of the table."""
    config: dict[str, Any] = {"segments": ["SEX"], "evidently": evidently}
    if reference is not None:
        config["reference"] = reference.drop(columns="employed")
    with mlflow.start_run(run_name=f"{who} on {year}") as run:
        result = mlflow.models.evaluate(
            uri,
            people,
            targets="employed",
            model_type="classifier",
            evaluators="caliber",
            evaluator_config=config,
        )
    shown = {key: result.metrics.get(f"caliber_{key}") for key in ("ece", "log_loss", "roc_auc", "coverage")}
    say(f"   {who} on {year}: ECE {shown['ece']:.4f}, log loss {shown['log_loss']:.4f}")
    return {
        "model": who,
        "year": year,
        **shown,
        "selective_risk": result.metrics["caliber_selective_risk"],
        "drift_share": result.metrics.get("caliber_drift_share"),
        "run": run.info.run_id,
    }


def ask_served(uri: str, people: pd.DataFrame) -> list[dict[str, Any]]:
    """Start the real model server, post rows, and stop it again."""
    with served(uri) as url:
        body = json.dumps({"dataframe_split": people.to_dict(orient="split", index=False)}).encode()
        request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: list[dict[str, Any]] = json.load(response)["predictions"]
    return answer


@contextlib.contextmanager
def served(uri: str) -> Iterator[str]:
    """``mlflow models serve`` as a process of its own; it and its workers are gone when the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["mlflow", "models", "serve", "-m", uri, "-p", str(port), "--env-manager", "local"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with (DEMO / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/ping", server)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def wait_for(url: str, server: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    """Return when the server answers; raise when it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"The model server ended with code {server.returncode}; see {DEMO / 'server.log'}.")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.3)
    raise RuntimeError(f"The model server did not answer within {seconds:.0f} s; see {DEMO / 'server.log'}.")


def verdict(who: str, evidence: str, decision: Any) -> str:
    """A decision and its rules, a line each."""
    lines = [f"{who}, on the evidence of {evidence}: {decision.verdict}"]
    return "\n".join([*lines, *(f"     {outcome.sentence}" for outcome in decision.rules)])


def finish(rows: list[dict[str, Any]], verdicts: list[str]) -> None:
    """Print what happened and how to look at it."""
    table = pd.DataFrame(rows).sort_values(["year", "model"], kind="stable")
    columns = {
        "model": "model",
        "year": "evaluated on",
        "ece": "ECE",
        "log_loss": "log loss",
        "roc_auc": "AUC",
        "coverage": "answered",
        "selective_risk": "error when answered",
        "drift_share": "drifted columns",
    }
    print("\nGate")
    for text in verdicts:
        print(f"   {text}")
    champion = MlflowClient().get_model_version_by_alias(NAME, "champion").version
    print(f"   champion is now version {champion}\n\nWhat happened, in {time.perf_counter() - START:.0f} s\n")
    shown = table[list(columns)].rename(columns=columns)
    print(shown.to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.4f}"))
    command = Path(sys.executable).parent / "mlflow"
    shown_command = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command
    print(f"\nLook at it:  {shown_command} ui --backend-store-uri {STORE}")


def say(text: str) -> None:
    """One line of progress, with the time since the start."""
    print(f"[{time.perf_counter() - START:5.1f} s] {text}", flush=True)


def quiet() -> None:
    """Leave only what this script says: MLflow's own progress is not the story here."""
    warnings.filterwarnings("ignore")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()

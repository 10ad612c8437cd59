"""The pages of the guarded server with many models and a long audit log: seconds for each page.

The server knows no users, so that no password is checked; it runs behind Werkzeug, in a process of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from mlflow_caliber._signing import Keyring
from mlflow_caliber.ledger import Ledger
from page_server import PageServer
from registry_servers import SECRETS

POLICY = "gate: {targets: {champion: {expires_after_days: 30, rules: [{metric: caliber_brier, max: 0.3}]}}}"
PAGES = (
    *["/caliber/"] * 4,
    *["/caliber/model?name=model-000"] * 2,
    "/caliber/audit?name=model-000",
    "/caliber/audit",
    "/ajax-api/2.0/caliber/verify",
)
DIGEST = "sha256:" + "0" * 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--gatings", type=int, default=50, help="of each model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = PageServer(Path(folder) / "server", POLICY)
        try:
            fill(server.database, options.models, options.gatings)
            for path in PAGES:
                begun = time.perf_counter()
                answer = server.get(path)
                print(f"{time.perf_counter() - begun:7.3f} s  {answer.status}  {len(answer.text):8,} bytes  {path}")
        finally:
            server.stop()


def fill(database: str, models: int, gatings: int) -> None:
    """Models of five versions (the first has sixty), of which the third is champion, and what led to that."""
    engine = sa.create_engine(database)
    ledger = Ledger(engine, Keyring.parse(SECRETS["MLFLOW_CALIBER_DECISION_KEYS"]))
    names = [f"model-{i:03}" for i in range(models)]
    versions = [(name, v) for name in names for v in range(1, 61 if name == names[0] else 6)]
    with engine.begin() as connection:
        registry = sa.MetaData()
        registry.reflect(connection, only=["registered_models", "model_versions", "registered_model_aliases"])
        tables, times = registry.tables, {"creation_time": 0, "last_updated_time": 0}
        connection.execute(sa.insert(tables["registered_models"]), [{"name": name, **times} for name in names])
        made = {"current_stage": "None", "source": "x", "status": "READY", **times}
        rows = [{"name": name, "version": version, **made} for name, version in versions]
        connection.execute(sa.insert(tables["model_versions"]), rows)
        aliases = [{"name": name, "alias": "champion", "version": 3} for name in names]
        connection.execute(sa.insert(tables["registered_model_aliases"]), aliases)
        log(ledger, connection, names, gatings)
    engine.dispose()


def log(ledger: Ledger, connection: sa.Connection, names: list[str], gatings: int) -> None:
    """Gatings of every model, and three promotions of each."""
    for name in names * gatings:
        detail = {"identity": identity(name, 3), "decision": decision()}
        ledger.append(connection, actor="ci", action="gate", model=name, version="3", target="champion", detail=detail)
    for name in names:
        for v in (1, 2, 3):
            detail = {"identity": identity(name, v), "decision": decision(), "former": str(v - 1) if v > 1 else None}
            detail |= {"override": None, "signature_key": None}
            act = {"action": "promote", "version": str(v), "target": "champion", "detail": detail}
            ledger.append(connection, actor="mia", model=name, **act)


def identity(name: str, version: int) -> dict:
    return {
        "name": name,
        "version": str(version),
        "created_at": 0,
        "source": "x",
        "run_id": None,
        "model_digest": DIGEST,
    }


def decision() -> dict:
    """One that passes, of six rules."""
    return {
        "target": "champion",
        "status": "passed",
        "verdict": "pass",
        "rules": [{"rule": f"rule {i}", "verdict": "pass", "sentence": "x" * 120} for i in range(6)],
        "policy_sha256": DIGEST,
        "evidence_sha256": DIGEST,
        "evidence_run_id": "0" * 32,
        "champion_evidence_sha256": None,
        "approvals": [],
        "expires_at": "2099-01-01T00:00:00+00:00",
    }


if __name__ == "__main__":
    main()

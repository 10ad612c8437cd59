"""A guarded server with users, as they use it: the command line, a serving host, the audit."""

import json
import warnings
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

from registry_servers import ADMIN, KEYS, PASSWORD, MlflowServer

pytestmark = pytest.mark.system

POLICY = """
gate:
  targets:
    champion:
      approvals: {count: 1}
      expires_after_days: 90
      rules: [{metric: caliber_brier, max: 0.3}]
    emergency:
      rules: [{metric: caliber_brier, max: 0.0001}]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = MlflowServer(tmp_path_factory.mktemp("guarded"), POLICY, auth=True)
    try:
        yield server.wait()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def people(server):
    """Two users beside the administrator."""
    import requests

    for name in ("noor", "olu"):
        body = {"username": name, "password": PASSWORD}
        answer = requests.post(
            f"{server.uri}/api/2.0/mlflow/users/create", json=body, auth=(ADMIN, PASSWORD), timeout=30
        )
        assert answer.status_code == 200, answer.text
    body = {"username": "olu", "is_admin": True}
    answer = requests.patch(
        f"{server.uri}/api/2.0/mlflow/users/update-admin", json=body, auth=(ADMIN, PASSWORD), timeout=30
    )
    assert answer.status_code == 200, answer.text
    return ("noor", "olu")


def surroundings(server, user):
    return {
        "MLFLOW_TRACKING_URI": server.uri,
        "MLFLOW_REGISTRY_URI": server.uri,
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        "MLFLOW_CALIBER_DECISION_KEYS": KEYS,
        "CALIBER_CONFIG": str(server.folder / "caliber.yaml"),
    }


@pytest.fixture
def as_user(server, people, monkeypatch):
    """This process, as a user of the server."""
    import mlflow

    def become(user, **environment):
        for name, value in {**surroundings(server, user), **environment}.items():
            monkeypatch.setenv(name, value)
        mlflow.set_tracking_uri(server.uri)
        mlflow.set_registry_uri(server.uri)

    return become


@pytest.fixture
def command(as_user):
    """Runs ``mlflow-caliber`` as a user: its exit code and what it printed as JSON."""
    from mlflow_caliber.cli import main

    def run(user, *arguments, **environment):
        as_user(user, **environment)
        done = CliRunner().invoke(main, [*arguments, "--json"])
        assert "Traceback" not in done.output
        return done.exit_code, json.loads(done.stdout)

    return run


@pytest.fixture
def churn(as_user):
    """A model of which version 1 has evidence, made by the administrator."""
    import mlflow
    from sklearn.linear_model import LogisticRegression

    import mlflow_caliber as caliber

    as_user(ADMIN)
    if not mlflow.MlflowClient().search_registered_models("name = 'churn'"):
        rng = np.random.default_rng(0)
        X = pd.DataFrame({"age": rng.normal(40.0, 10.0, 3000)})
        y = (rng.random(3000) < 1.0 / (1.0 + np.exp(-0.1 * (X["age"] - 40.0)))).astype(int)
        base = LogisticRegression().fit(X[:1000], y[:1000])
        held_out = X[1000:2000], y[1000:2000]
        with mlflow.start_run(experiment_id="0"):  # other tests of this process may have chosen one of their server
            caliber.log_model(
                base, name="churn", calibrator="sigmoid", calibration_data=held_out, registered_model_name="churn"
            )
            rest = X[2000:].assign(y=y[2000:])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of MLflow's own evaluation
                mlflow.models.evaluate(
                    "models:/churn/1", rest, targets="y", model_type="classifier", evaluators="caliber"
                )
    return "churn"


def test_the_whole_way_of_a_version(server, command, churn):
    code, found = command(ADMIN, "gate", churn, "1")
    assert (code, found["verdict"]) == (3, "inconclusive")
    code, found = command(ADMIN, "promote", churn, "1")
    assert code == 3
    assert "1 more approval" in found["error"] or "approval" in found["error"]
    code, found = command(ADMIN, "approve", churn, "1")
    assert (code, "must not be its author" in found["error"]) == (1, True)
    assert command("noor", "approve", churn, "1", "--comment", "read it")[1]["approvals"] == ["noor"]
    code, found = command(ADMIN, "promote", churn, "1")
    assert (code, found["version"], found["changed"]) == (0, "1", True)

    assert command("noor", "verify", "models:/churn@champion")[1]["verified"] is True
    other = {"MLFLOW_CALIBER_DECISION_KEYS": "test:" + "x" * 40}
    code, found = command("noor", "verify", "models:/churn@champion", **other)
    assert (code, found["verified"]) == (1, False)

    code, found = command("noor", "freeze", churn, "--reason", "x")
    assert (code, "permission to manage" in found["error"]) == (1, True)
    assert command(ADMIN, "freeze", churn, "--reason", "audit week")[0] == 0
    code, found = command(ADMIN, "promote", churn, "1")
    assert (code, "frozen by admin: audit week" in found["error"]) == (1, True)
    assert command(ADMIN, "unfreeze", churn)[0] == 0

    code, found = command(ADMIN, "promote", churn, "1", "--target", "emergency")
    assert code == 1
    assert command("olu", "override", churn, "1", "--target", "emergency", "--reason", "fire", "--days", "1")[0] == 0
    assert command(ADMIN, "promote", churn, "1", "--target", "emergency")[0] == 0
    assert command(ADMIN, "expire", churn)[1] == {"expired": {"churn": []}}

    code, found = command(ADMIN, "audit", "verify")
    assert code == 0, found
    code, found = command(ADMIN, "audit", "champion", churn, "--on", datetime.now(UTC).isoformat())
    assert (code, [each["version"] for each in found["held"]]) == (0, ["1"])


def test_a_serving_host_loads_only_what_was_signed_for_it(as_user, command, churn):
    import mlflow

    as_user("noor", MLFLOW_CALIBER_VERIFY="champion")
    assert mlflow.pyfunc.load_model(f"models:/{churn}/1") is not None
    as_user("noor", MLFLOW_CALIBER_VERIFY="challenger")
    with pytest.raises(MlflowException, match="must be challenger to be used as that"):
        mlflow.pyfunc.load_model(f"models:/{churn}/1")
    as_user("noor", MLFLOW_CALIBER_VERIFY="champion", MLFLOW_CALIBER_DECISION_KEYS="test:" + "x" * 40)
    with pytest.raises(MlflowException, match="must be of this very content"):
        mlflow.pyfunc.load_model(f"models:/{churn}/1")

"""What the README shows is run as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression

from mlflow_caliber.cli import main
from mlflow_caliber.model import FRAME_COLUMNS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
N_ROWS = 20_000


def block(language: str, holding: str) -> str:
    """The one block of a language that holds a text."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in text]
    return str(found)


def loans(seed: int) -> pd.DataFrame:
    """Loans with two features, a region that is no feature, and whether they were repaid."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N_ROWS, 2))
    repaid = rng.random(N_ROWS) < 1 / (1 + np.exp(-(2 * X[:, 0] - X[:, 1])))
    region = rng.choice(["north", "south"], N_ROWS)
    return pd.DataFrame({"income": X[:, 0], "debt": X[:, 1], "region": region, "repaid": repaid.astype(int)})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, the policy of the README and the files that its shell commands read."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "caliber.yaml").write_text(block("yaml", "gate:"), encoding="utf-8")
    outcomes = loans(3).drop(columns="region")
    outcomes.to_parquet(folder / "outcomes.parquet")
    scores = np.random.default_rng(4).random(500)
    pd.DataFrame({"y": (scores > 0.5).astype(int), "p": scores}).to_parquet(folder / "scores.parquet")
    return folder


@pytest.mark.filterwarnings(r"ignore::UserWarning:mlflow\.")
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:mlflow\.")
@pytest.mark.filterwarnings("ignore:.*noload")
def test_python_then_shell(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    uri = f"sqlite:///{world / 'mlflow.db'}"
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # other tests have models of the same name
        monkeypatch.setenv(name, uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("readme", (world / "artifacts").as_uri()))
    train, calibration, df = loans(0), loans(1), loans(2)
    features = ["income", "debt"]
    classifier = LogisticRegression(C=0.001).fit(train[features], train["repaid"])
    given = {
        "classifier": classifier,
        "X_cal": calibration[features],
        "y_cal": calibration["repaid"],
        "df": df,
        "outcomes": loans(3)[[*features, "repaid"]],
    }
    exec(compile(block("python", "log_model"), "README.md", "exec"), given)
    client = mlflow.MlflowClient()
    assert str(client.get_model_version_by_alias("credit", "champion").version) == "1"
    assert client.get_model_version("credit", "2").tags["caliber_parent_version"] == "1"
    mlflow.models.evaluate(
        "models:/credit/2", df, targets="repaid", model_type="classifier", evaluators="caliber",
        evaluator_config={"segments": ["region"]},
    )  # fmt: skip
    mlflow.end_run()
    for line in block("bash", "rollback").splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == "mlflow-caliber":
            done = CliRunner().invoke(main, words[1:])
            assert done.exit_code == 0, f"{line}\n{done.output}"
    assert str(client.get_model_version_by_alias("credit", "champion").version) == "1"
    assert {file.name for file in (world / "report").iterdir()} >= {"report.json", "report.html", "reliability.png"}


def test_the_frame_shown_is_the_frame() -> None:
    header = next(line for line in README.splitlines() if line.startswith("| prediction |"))
    assert tuple(cell.strip() for cell in header.strip("|").split("|")) == FRAME_COLUMNS


def test_commands_of_the_readme_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert shutil.which("bash") is None or "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_client(tmp_path: Path) -> None:
    from live_service import LiveService

    with LiveService(f"sqlite:///{tmp_path}/caliber.db", tmp_path / "log") as service:
        text = block("python", "CaliberClient")
        text = text.replace("http://127.0.0.1:8600", service.url).replace("cal_...", service.token)
        given: dict[str, object] = {}
        exec(compile(text, "README.md", "exec"), given)
        assert service.ask("/api/v1/models/credit/versions/3/report").json["n"] == 1

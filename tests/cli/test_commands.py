"""The command as a whole, and the commands that need no registry."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from mlflow_caliber.cli import main
from mlflow_caliber.cli._common import exit_code
from mlflow_caliber.cli._doctor import EXTRAS, REQUIRED, find_missing, find_problems
from mlflow_caliber.exceptions import ConfigError, EvidenceError, OneClassError, PromotionError
from mlflow_caliber.report import reliability_report

COMMANDS = [
    *("report", "gate", "promote", "rollback", "recalibrate", "worker", "outcomes", "status", "doctor"),
    *(f"revision {name}" for name in ("list", "show", "pin", "unpin", "undo", "save")),
    *(f"store {name}" for name in ("upgrade", "import", "export", "compact")),
    *("approve", "override", "freeze", "unfreeze", "expire", "verify"),
    *(f"audit {name}" for name in ("verify", "log", "export", "champion", "pack")),
]


def found(group=main, path=""):
    """Commands by their full names."""
    leaves = {}
    for name, command in group.commands.items():
        full = f"{path}{name}"
        leaves |= found(command, f"{full} ") if isinstance(command, click.Group) else {full: command}
    return leaves


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_commands():
    assert sorted(found()) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_json(command):
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert re.search(rf"Example:\n  +mlflow-caliber {command}\b", result.stdout)
    assert "--json" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_is_a_valid_call(command):
    example = shlex.split(re.search(r"Example:\n +mlflow-caliber (.*)", run(*command.split(), "--help").stdout)[1])
    example = example[len(command.split()) :]
    # Names of files are for the reader; everything else has to parse.
    parameters = [p for p in found()[command].params if p.name not in ("data", "file")]
    given = [word for word in example if not word.endswith((".parquet", ".csv", ".jsonl"))]
    parser = click.Command(command, params=parameters)
    with parser.make_context(command, given) as context:
        assert context.args == []


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys; from mlflow_caliber.cli import main\n"
        "try: main(['gate', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('mlflow', 'pandas', 'numpy', 'scipy', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.endswith("[]\n")


def test_every_option_is_on_the_reference_page():
    page = REFERENCE.read_text()
    options = {opt for command in main.commands.values() for p in command.params for opt in p.opts if opt[0] == "-"}
    assert "--evidence-run" in options
    missing = [name for name in [*COMMANDS, *sorted(options)] if f"`{name}" not in page and f" {name}" not in page]
    assert missing == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (EvidenceError("x"), 1),
        (PromotionError("x"), 1),
        (OneClassError("x"), 3),
        (KeyError("x"), 2),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code


# --- report ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(0)
    n = 400
    raw = rng.random(n)
    p = np.clip(0.1 + 0.8 * raw, 0, 1)
    return pd.DataFrame(
        {
            "y": (rng.random(n) < p).astype(int),
            "p": p,
            "raw": raw,
            "w": rng.integers(1, 4, n),
            "region": np.where(np.arange(n) % 2, "north", "south"),
        }
    )


@pytest.fixture(params=[".csv", ".parquet"])
def data(request, scored, tmp_path):
    path = tmp_path / f"scored{request.param}"
    scored.to_csv(path, index=False) if request.param == ".csv" else scored.to_parquet(path)
    return path


def test_report_prints_what_the_library_computes(data, scored):
    result = run(
        "report",
        data,
        "--target",
        "y",
        "--proba",
        "p",
        "--raw",
        "raw",
        "--weight",
        "w",
        "--segments",
        "region",
        "--json",
    )
    assert result.exit_code == 0, result.output
    expected = reliability_report(
        scored["y"],
        scored["p"],
        raw=scored["raw"],
        segments=scored[["region"]],
        sample_weight=scored["w"],
        classes=["0", "1"],
    )
    got = json.loads(result.stdout)
    # The last bit of a number in a CSV file can turn a random draw of the noise floor.
    assert got["metrics"] == pytest.approx(expected.metrics, rel=2e-3)
    assert got["raw"]["metrics"] == pytest.approx(expected.raw.metrics, rel=2e-3)
    assert [segment["value"] for segment in got["segments"]] == ["north", "south"]


def test_report_prints_a_table(data, scored):
    result = run("report", data, "--target", "y", "--proba", "p")
    assert result.stdout == str(reliability_report(scored["y"], scored["p"])) + "\n"


def test_report_writes_a_folder(data, tmp_path):
    result = run("report", data, "--target", "y", "--proba", "p", "--output", tmp_path / "out" / "report")
    assert result.exit_code == 0, result.output
    written = {path.name: path.read_bytes() for path in (tmp_path / "out" / "report").iterdir()}
    assert sorted(written) == ["reliability.png", "report.html", "report.json", "risk_coverage.png"]
    assert json.loads(written["report.json"])["n"] == 400
    assert b"<h1>scored</h1>" in written["report.html"]
    assert all(written[name].startswith(b"\x89PNG") for name in ("reliability.png", "risk_coverage.png"))


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (["no", "yes"], ["--class", "no", "--class", "yes"]),
        ([2.0, 1.0], ["--class", "2", "--class", "1"]),
        ([False, True], []),
        ([0.0, 1.0], []),
    ],
    ids=str,
)
def test_report_takes_any_labels(scored, tmp_path, labels, options):
    path = tmp_path / "data.parquet"
    scored.assign(y=[labels[y] for y in scored["y"]]).to_parquet(path)
    result = run("report", path, "--target", "y", "--proba", "p", "--json", *options)
    expected = reliability_report(scored["y"], scored["p"]).metrics
    assert json.loads(result.stdout)["metrics"] == pytest.approx(expected), result.output


def test_report_of_three_classes(tmp_path):
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1, 1, 1], 200)
    y = np.array([rng.choice(3, p=row) for row in proba])
    frame = pd.DataFrame({"kind": np.array(["a", "b", "c"])[y], "a": proba[:, 0], "b": proba[:, 1], "c": proba[:, 2]})
    path = tmp_path / "data.parquet"
    frame.to_parquet(path)
    options = [word for name in "abc" for word in ("--proba", name, "--class", name)]
    got = json.loads(run("report", path, "--target", "kind", "--json", *options).stdout)
    assert got["metrics"] == pytest.approx(reliability_report(y, proba).metrics)
    assert got["classes"] == ["a", "b", "c"]


def test_report_scores_with_a_model(tmp_path):
    import warnings

    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow and its imports warn of themselves while they are imported
        import mlflow.pyfunc
        import mlflow.sklearn
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(200, 2)), columns=["a", "b"])
    y = np.where(X["a"] + rng.normal(size=200) > 0, "yes", "no")
    model = LogisticRegression().fit(X, y)
    mlflow.sklearn.save_model(model, tmp_path / "model", pip_requirements=["scikit-learn"])
    X.assign(left=y, w=1.0).to_parquet(tmp_path / "data.parquet")
    result = run(
        "report",
        tmp_path / "data.parquet",
        "--target",
        "left",
        "--weight",
        "w",
        "--model",
        tmp_path / "model",
        "--json",
    )
    assert result.exit_code == 0, result.output
    expected = reliability_report(y == "yes", model.predict_proba(X)[:, 1], sample_weight=np.ones(200))
    assert json.loads(result.stdout)["metrics"] == pytest.approx(expected.metrics)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--target", "y"], "Exactly one of --proba and --model must be given."),
        (["--target", "y", "--proba", "p", "--model", "m"], "Exactly one of --proba and --model"),
        (
            ["--target", "label", "--proba", "p"],
            "--target must name a column of DATA, got 'label'; there are y, p, raw",
        ),
        (["--target", "y", "--proba", "q"], "--proba must name a column of DATA, got 'q'"),
        (["--target", "y", "--proba", "p", "--segments", "area"], "--segments must name a column of DATA, got 'area'"),
        (
            ["--target", "region", "--proba", "p"],
            "--target must hold only 0, 1, got 'north': name the labels with --class",
        ),
        (["--target", "y", "--proba", "p", "--class", "0"], "--class must be given 2 times, got 1."),
        (["--target", "y", "--proba", "w"], "y_proba must lie in [0, 1], got a maximum of 3."),
    ],
)
def test_report_refuses_with_a_sentence(scored, tmp_path, options, sentence):
    path = tmp_path / "data.csv"
    scored.to_csv(path, index=False)
    result = run("report", path, *options, "--json")
    assert result.exit_code == 2
    assert sentence in re.sub(r"\s+", " ", result.stderr)
    assert sentence in json.loads(result.stdout)["error"]
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("name", "content"), [("data.parquet", b"no parquet"), ("data.csv", b""), ("data.xls", b"1")])
def test_report_of_a_file_that_cannot_be_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    result = run("report", tmp_path / name, "--target", "y", "--proba", "p")
    assert result.exit_code == 2
    assert "DATA must be a" in result.stderr


def test_recalibrate_looks_at_the_data_before_mlflow(tmp_path, scored):
    scored.to_csv(tmp_path / "data.csv")
    result = run("recalibrate", "models:/churn/1", tmp_path / "data.csv", "--target", "outcome")
    assert result.exit_code == 2
    assert "--target must name a column of DATA, got 'outcome'" in result.stderr


# --- doctor ----------------------------------------------------------------------------------------------------------

SOUND = dict.fromkeys([*REQUIRED, *EXTRAS["evaluate"], *EXTRAS["evidently"]], "3.0.0")


def test_doctor_here():
    result = run("doctor", "--json")
    content = json.loads(result.stdout)
    assert content["versions"]["numpy"] == np.__version__
    assert (result.exit_code == 0) is (content["problems"] == [])
    assert "pandas" in run("doctor").stdout


def test_doctor_finds_nothing_in_a_sound_environment():
    assert list(find_problems(SOUND)) == []
    assert list(find_missing(SOUND)) == []


@pytest.mark.parametrize(
    ("versions", "problem"),
    [
        ({"pandas": "3.1.0"}, "evidently 3.0.0 does not import with pandas 3.1.0: pip install 'pandas<3.1'"),
        ({"pandas": "4.0.0rc1"}, "evidently 3.0.0 does not import with pandas 4.0.0rc1"),
        ({"scipy": None}, "scipy is required and not installed"),
        ({"mlflow": "3.18.0"}, r"mlflow 3.18.0 needs mlflow-skinny 3.18.0, got 3.0.0: .*'mlflow<3.18'"),
        ({"mlflow": "3.17.2"}, "mlflow 3.17.2 needs mlflow-skinny 3.17.2, got 3.0.0: pip install --upgrade 'mlflow'"),
    ],
)
def test_doctor_knows_what_does_not_go_together(versions, problem):
    (found,) = find_problems(SOUND | versions)
    assert re.match(problem, found)


def test_doctor_with_a_problem_is_exit_code_2(monkeypatch):
    monkeypatch.setattr("mlflow_caliber.cli._doctor.installed", lambda: SOUND | {"pandas": "3.1.1"})
    result = run("doctor")
    assert result.exit_code == 2
    assert "PROBLEM: evidently 3.0.0 does not import with pandas 3.1.1" in result.stdout


def test_doctor_says_how_to_get_what_is_missing():
    assert list(find_missing(SOUND | {"mlflow": None, "matplotlib": None})) == [
        "mlflow, matplotlib are not installed: pip install 'mlflow-caliber[evaluate]'"
    ]

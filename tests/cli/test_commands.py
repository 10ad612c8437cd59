"""The command as a whole, and the commands that need no registry."""

import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
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
    *(f"store {name}" for name in ("import", "export")),
    *(f"db {name}" for name in ("upgrade", "check", "prune")),
    *(f"token {name}" for name in ("create", "list", "revoke")),
    *("server", "simulate", "demo-server", "consume", "score"),
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
    options = ["--target", "left", "--weight", "w", "--model", tmp_path / "model", "--json"]
    expected = reliability_report(y == "yes", model.predict_proba(X)[:, 1], sample_weight=np.ones(200))
    result = run("report", tmp_path / "data.parquet", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["metrics"] == pytest.approx(expected.metrics)
    in_batches = json.loads(run("report", tmp_path / "data.parquet", *options, "--in-memory-rows", 0).stdout)
    assert in_batches["classes"] == ["no", "yes"]
    for key in ("brier", "log_loss", "roc_auc", "ece"):
        assert in_batches["metrics"][key] == pytest.approx(expected.metrics[key], rel=1e-9), key


def test_a_bad_row_is_named_in_memory_and_in_batches(tmp_path):
    for name, bad in (("a", 0.5), ("b", 1.5)):
        (tmp_path / f"r={name}").mkdir()
        frame = pd.DataFrame({"y": [0, 1] * 50, "p": [0.25] * 70 + [bad] + [0.5] * 29, "w": [1.0] * 100})
        frame.to_parquet(tmp_path / f"r={name}" / "rows.parquet")
    options = ["report", tmp_path, "--target", "y", "--proba", "p"]
    for more in ((), ("--in-memory-rows", 0)):
        result = run(*options, *more)
        assert result.exit_code == 2
        assert "r=b/rows.parquet, row 71: y_proba must lie in [0, 1], got a maximum of 1.5" in result.stderr
    result = run(*options, "--segments", "w", "--segments", "w")
    assert "--segments must name each column once, got w, w." in result.stderr


@pytest.mark.parametrize("classes", [2, 3])
def test_a_file_is_read_alike_in_memory_and_in_batches(tmp_path, classes):
    """Cells of labels and segments are texts, as they are written: 007 is not 7, and a label may be "true"."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(classes), 300)
    names = ["false", "true", "01"][:classes]
    label = [rng.choice(names, p=row) for row in p]
    frame = pd.DataFrame({"y": label, "region": rng.choice(["007", "7", "", "1.0"], 300)})
    frame = frame.assign(**{f"p{k}": p[:, k] for k in range(classes)})
    for day, rows in (("day=01", frame[:100]), ("day=2", frame[100:])):
        (tmp_path / "data" / day).mkdir(parents=True)
        rows.to_csv(tmp_path / "data" / day / "rows.csv", index=False)
    options = ["--target", "y", "--segments", "region", "--segments", "day", "--json"]
    options += [part for k in range(classes) for part in ("--proba", f"p{k}", "--class", names[k])]
    in_memory = run("report", tmp_path / "data", *options)
    assert in_memory.exit_code == 0, in_memory.output
    told = json.loads(in_memory.stdout)
    assert told["n"] == 300
    assert {(each["column"], each["value"]) for each in told["segments"]} == {
        *(("region", value) for value in ("007", "7", "(missing)", "1.0")),
        *(("day", value) for value in ("1", "2")),
    }
    in_batches = run("report", tmp_path / "data", *options, "--in-memory-rows", 0)
    if classes == 3:
        assert "is measured in memory" in in_batches.stderr
        return
    batched = json.loads(in_batches.stdout)
    assert batched["metrics"]["brier"] == pytest.approx(told["metrics"]["brier"], rel=1e-9)
    sizes = [{(each["column"], each["value"]): each["n"] for each in found["segments"]} for found in (told, batched)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--target", "y"], "Exactly one of --proba and --model must be given."),
        (["--target", "y", "--proba", "p", "--model", "m"], "Exactly one of --proba and --model"),
        (["--target", "y", "--model", "m", "--class", "0"], "--raw and --class go with --proba"),
        (
            ["--target", "label", "--proba", "p"],
            "--target must name a column of DATA, got 'label'; there are y, p, raw",
        ),
        (["--target", "y", "--proba", "q"], "--proba must name a column of DATA, got 'q'"),
        (["--target", "y", "--proba", "p", "--segments", "area"], "--segments must name a column of DATA, got 'area'"),
        (
            ["--target", "region", "--proba", "p"],
            "data.csv, row 1: region must hold only 0, 1, got 'south': name the labels with --class",
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


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_report_of_more_rows_than_fit_in_memory(scored, tmp_path, kind):
    for region, part in scored.groupby("region"):
        (tmp_path / "data" / f"region={region}").mkdir(parents=True)
        path = tmp_path / "data" / f"region={region}" / f"part{kind}"
        rows = part.drop(columns="region").assign(y=part["y"].map({0: "stays", 1: "leaves"}))
        rows.to_csv(path, index=False) if kind == ".csv" else rows.to_parquet(path, index=False)
    options = ["--target", "y", "--proba", "p", "--raw", "raw", "--segments", "region", "--weight", "w"]
    options += ["--class", "stays", "--class", "leaves", "--json"]
    loaded, added = (
        json.loads(run("report", tmp_path / "data", *options, "--in-memory-rows", limit).stdout) for limit in (400, 399)
    )
    drawn = {"ece_null_mean", "ece_null_p95"}
    for key, value in loaded["metrics"].items():
        assert added["metrics"][key] == pytest.approx(value, rel=0.2 if key in drawn else 1e-9), key
    assert [(part["value"], part["n"]) for part in added["segments"]] == [("north", 200), ("south", 200)]
    for one, other in ((loaded, added), (loaded["raw"], added["raw"])):
        for part, wanted in zip(other["segments"], one["segments"], strict=True):
            assert part["metrics"]["roc_auc"] == pytest.approx(wanted["metrics"]["roc_auc"], rel=1e-9)
    assert (loaded["n"], loaded["classes"]) == (added["n"], added["classes"]) == (400, ["stays", "leaves"])
    assert (bool(loaded["change"]), bool(added["change"])) == (True, False)


def test_report_says_where_scores_are_rounded(tmp_path):
    rng = np.random.default_rng(1)
    p = rng.random(20_000)
    pd.DataFrame({"y": rng.random(20_000) < p, "p": p}).to_parquet(tmp_path / "data.parquet")
    options = ["--target", "y", "--proba", "p", "--in-memory-rows", 1000]
    result = run("report", tmp_path / "data.parquet", *options, "--output", tmp_path / "out")
    assert "counted on a fine grid" in result.stdout
    assert json.loads((tmp_path / "out" / "report.json").read_text())["exact"] is False
    assert "merged statistics" in (tmp_path / "out" / "report.html").read_text()


def test_report_of_more_classes_stays_in_memory(tmp_path):
    pd.DataFrame({"y": [0, 1, 2], "a": [0.5, 0.2, 0.1], "b": [0.3, 0.6, 0.1], "c": [0.2, 0.2, 0.8]}).to_csv(
        tmp_path / "data.csv", index=False
    )
    options = [part for name in "abc" for part in ("--proba", name)]
    result = run("report", tmp_path / "data.csv", "--target", "y", *options, "--in-memory-rows", 2)
    assert result.exit_code == 2
    assert "DATA of 3 classes is measured in memory" in re.sub(r"\s+", " ", result.stderr)


def test_report_names_the_row_that_is_wrong(scored, tmp_path):
    scored.assign(p=scored["p"].where(scored.index != 7)).to_csv(tmp_path / "data.csv", index=False)
    result = run("report", tmp_path / "data.csv", "--target", "y", "--proba", "p", "--in-memory-rows", 10)
    assert result.exit_code == 2
    assert "data.csv, row 8: y_proba must be finite" in result.stderr


def test_recalibrate_looks_at_the_data_before_mlflow(tmp_path, scored):
    scored.to_csv(tmp_path / "data.csv")
    result = run("recalibrate", "models:/churn/1", tmp_path / "data.csv", "--target", "outcome")
    assert result.exit_code == 2
    assert "--target must name a column of DATA, got 'outcome'" in result.stderr


# --- doctor ----------------------------------------------------------------------------------------------------------

SOUND = dict.fromkeys([*REQUIRED, *itertools.chain.from_iterable(EXTRAS.values())], "3.0.0")


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


def test_doctor_knows_every_extra_and_what_it_brings():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {
        extra: {re.match(r"[\w-]+", each)[0].lower() for each in requirements}
        for extra, requirements in project["optional-dependencies"].items()
        if extra != "all"
    }
    assert EXTRAS.keys() == wanted.keys()
    for extra, names in EXTRAS.items():
        assert {name.lower() for name in names} <= wanted[extra], extra


def test_doctor_with_a_problem_is_exit_code_2(monkeypatch):
    monkeypatch.setattr("mlflow_caliber.cli._doctor.installed", lambda: SOUND | {"pandas": "3.1.1"})
    result = run("doctor")
    assert result.exit_code == 2
    assert "PROBLEM: evidently 3.0.0 does not import with pandas 3.1.1" in result.stdout


def test_doctor_says_how_to_get_what_is_missing():
    assert list(find_missing(SOUND | {"mlflow": None, "matplotlib": None})) == [
        "mlflow, matplotlib are not installed: pip install 'mlflow-caliber[evaluate]'"
    ]

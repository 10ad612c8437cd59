"""``mlflow-caliber gate``, ``promote`` and ``rollback`` against a registry."""

import json

import pytest
from click.testing import CliRunner

from mlflow_caliber.cli import main

# SQLAlchemy 2.1 warns of how MLflow 3.17 queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

PASSES = "{metric: caliber_brier, max: 0.3}"
FAILS = "{metric: caliber_brier, max: 0.01}"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command in a folder with a caliber.yaml of the given rules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIBER_CONFIG", raising=False)

    def run(*arguments, rules=PASSES, demands=""):
        (tmp_path / "caliber.yaml").write_text(f"gate: {{targets: {{champion: {{{demands} rules: [{rules}]}}}}}}")
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def name(world, rows):
    folder = world.model()
    world.evaluate(folder, rows)
    return world.register(folder, folder)


def test_gate_passes(run, name, world):
    result = run("gate", name, 1)
    assert result.exit_code == 0
    assert result.stdout.startswith(
        f"PASS: version 1 of '{name}' as champion\n  pass  caliber_brier must be at most 0.3"
    )
    assert world.tags(name, 1)["caliber_gate_status"] == "passed"


def test_gate_fails_with_exit_code_1_and_the_sentence(run, name):
    result = run("gate", name, 1, rules=f"{PASSES}, {FAILS}")
    assert result.exit_code == 1
    assert "  fail  caliber_brier must be at most 0.01, got 0." in result.stdout


def test_comparisons_can_be_made_sequential_for_once(run, name, world):
    """Version 2 is the very model that is champion, so there is one data set of both."""
    assert run("promote", name, 1).exit_code == 0
    rules = "{metric: caliber_brier, versus: champion, max_regression: 0.002}"
    assert "paired rows)" in run("gate", name, 2, rules=rules).stdout
    result = run("gate", "--sequential", name, 2, rules=rules)
    assert result.exit_code == 3
    assert "1000 paired rows of 1 data set, valid however often it is looked at" in result.stdout
    assert "caliber_sequential" in world.tags(name, 2)


def test_too_few_rows_are_exit_code_3(run, name):
    result = run("gate", name, 1, demands="min_rows: 5000,")
    assert result.exit_code == 3
    assert "inconclusive  The evaluation must have at least 5000 rows, got 1000." in result.stdout


def test_promote_moves_the_alias_and_rollback_gives_it_back(run, name, world):
    assert run("promote", name, 1).exit_code == 0
    result = run("promote", name, 2)
    assert result.exit_code == 0
    assert result.stdout.endswith(f"Version 2 of '{name}' is now champion, instead of version 1.\n")
    result = run("rollback", name)
    assert (result.exit_code, world.aliases(name)) == (0, {"champion": "1"})
    assert result.stdout == f"Version 1 of '{name}' is champion again, instead of version 2.\n"
    result = run("rollback", name)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: A rollback of '{name}' must know the champion before version 1")


def test_promote_refuses_with_exit_code_1_and_the_sentence_on_stderr(run, name, world):
    result = run("promote", name, 1, rules=FAILS)
    assert result.exit_code == 1
    assert "does not become champion: failed. caliber_brier must be at most 0.01, got 0." in result.stderr
    assert "Traceback" not in result.output
    assert world.aliases(name) == {}


def test_promote_without_enough_data_is_exit_code_3(run, name):
    assert run("promote", name, 1, demands="min_rows: 5000,").exit_code == 3


def test_foreign_evidence_is_refused(run, name, world, rows):
    foreign = world.evaluate(world.model(), rows)
    result = run("promote", name, 1, "--evidence-run", foreign)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: Evidence for version 1 of")


def test_a_misspelled_key_is_exit_code_2_and_names_the_nearest(run, name):
    result = run("gate", name, 1, rules="{metric: caliber_brier, maxx: 1}")
    assert result.exit_code == 2
    assert "unknown key 'maxx'. Did you mean 'max'?" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gate", "nobody", 1], "not found"),
        (["gate", "nobody", 1, "--target", "champoin"], "Did you mean 'champion'?"),
        (["gate", "nobody", 1, "--config", "gone.yaml"], "must be a file (--config), got 'gone.yaml'"),
        (["gate", "nobody", 0], "Invalid value for 'VERSION'"),
        (["rollback", "nobody"], "not found"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_one_clean_sentence(run, world, arguments, sentence):
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_json_of_every_outcome(run, name):
    passed = json.loads(run("gate", name, 1, "--json").stdout)
    assert (passed["name"], passed["version"], passed["verdict"]) == (name, "1", "pass")
    moved = json.loads(run("promote", name, 1, "--json").stdout)
    assert (moved["changed"], moved["decision"]["verdict"]) == (True, "pass")
    refused = run("promote", name, 2, "--json", rules=FAILS)
    content = json.loads(refused.stdout)
    assert refused.exit_code == 1
    assert content["decision"]["rules"][0]["wanted"] == "at most 0.01"
    assert content["error"] in refused.stderr
    assert json.loads(run("rollback", name, "--json").stdout)["error"].startswith("A rollback of")


def test_addresses_can_be_given(run, world, tmp_path):
    import mlflow

    uri = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    mlflow.set_registry_uri(f"sqlite:///{tmp_path}/other.db")
    name = world.register(world.model())
    result = run("rollback", name, "--tracking-uri", uri, "--registry-uri", uri)
    assert "must find a champion to roll back from" in result.stderr


def test_an_unexpected_error_is_a_sentence_too(run, name, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyError("oops")

    monkeypatch.setattr("mlflow_caliber.gate.registry.rollback", broken)
    result = run("rollback", name)
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: Unexpected KeyError: 'oops' (set CALIBER_DEBUG=1 for the stack trace)\n",
    )
    monkeypatch.setenv("CALIBER_DEBUG", "1")
    assert isinstance(run("rollback", name).exception, KeyError)

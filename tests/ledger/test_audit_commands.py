"""``mlflow-caliber audit`` on a registry with a story."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from audit_story import HOSTILE, KEYS_TEXT, make_story
from mlflow_caliber.cli._audit import audit
from mlflow_caliber.evidence import load_evidence
from mlflow_caliber.gate import Governance
from mlflow_caliber.gate.pack import audit_pack
from registry_world import make_policy

# SQLAlchemy 2.1 warns of how MLflow 3.17 queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return make_story(tmp_path_factory.mktemp("story"))


@pytest.fixture
def run(story, monkeypatch):
    """A command of the group, on the story's registry unless it names a ledger."""
    monkeypatch.delenv("MLFLOW_CALIBER_LEDGER_URI", raising=False)
    monkeypatch.setenv("MLFLOW_CALIBER_DECISION_KEYS", KEYS_TEXT)

    def run(*arguments):
        at = () if "--ledger" in arguments or "--file" in arguments else ("--registry-uri", story.uri)
        return CliRunner().invoke(audit, [str(each) for each in (*arguments, *at)])

    return run


@pytest.fixture
def tampered(story):
    """SQL on the ledger's database that is undone at the end."""
    statements = []

    def tamper(statement, undo):
        statements.append(undo)
        with story.ledger._engine.begin() as connection:
            connection.execute(sa.text(statement))

    yield tamper
    for undo in reversed(statements):
        with story.ledger._engine.begin() as connection:
            connection.execute(sa.text(undo))


def n_of(story):
    return story.ledger.head().seq


# --- verify ----------------------------------------------------------------------------------------------------------


def test_an_honest_log_is_verified_against_the_registry(run, story):
    result = run("verify")
    n = n_of(story)
    assert result.exit_code == 0
    assert result.stdout == (
        f"OK: {n} entries, {n} of them signed\n"
        "  Aliases and stages of the registry are as the log says.\n"
        f"  anchor  {story.ledger.head().anchor}\n"
    )


def test_without_keys_it_says_so(run, monkeypatch):
    monkeypatch.delenv("MLFLOW_CALIBER_DECISION_KEYS")
    assert "signatures not looked at: no keys are set" in run("verify").stdout


def test_an_edited_entry_is_exit_code_1(run, tampered):
    tampered(
        "UPDATE caliber_ledger SET actor = 'eve' WHERE seq = 2", "UPDATE caliber_ledger SET actor = 'ann' WHERE seq = 2"
    )
    result = run("verify")
    assert result.exit_code == 1
    assert "NOT OK: " in result.stdout
    assert "  problem  Entry 2 was changed: its content does not have the hash" in result.stdout
    assert "anchor" not in result.stdout
    found = json.loads(run("verify", "--json").stdout)
    assert (found["ok"], found["anchor"]) == (False, None)


def test_an_alias_that_was_set_around_the_guard_is_found(run, story):
    story.world.client.set_registered_model_alias(story.name, "champion", "1")
    try:
        result = run("verify")
    finally:
        story.world.client.set_registered_model_alias(story.name, "champion", "2")
    assert result.exit_code == 1
    assert (
        f"problem  The champion of '{story.name}' must be version 2, as the ledger says, got version 1."
        in result.stdout
    )


def test_an_alias_that_the_ledger_has_never_heard_of_is_found_where_the_policy_names_it(run, story, tmp_path):
    config = tmp_path / "caliber.yaml"
    config.write_text("gate: {targets: {challenger: {rules: [{metric: caliber_brier, max: 0.3}]}}}")
    story.world.client.set_registered_model_alias(story.name, "challenger", "1")
    try:
        assert run("verify").exit_code == 0
        result = run("verify", "--config", config)
    finally:
        story.world.client.delete_registered_model_alias(story.name, "challenger")
    assert result.exit_code == 1
    assert f"The challenger of '{story.name}' must be no version, as the ledger says, got version 1." in result.stdout


def test_anchors(run, story):
    first = story.ledger.entries(limit=1)[0].sha256
    assert run("verify", "--anchor", f"1:{first}").exit_code == 0
    cut = run("verify", "--anchor", f"{n_of(story) + 5}:{first}")
    assert cut.exit_code == 1
    assert f"The anchor is entry {n_of(story) + 5}, but the ledger ends at {n_of(story)}" in cut.stdout
    wrong = run("verify", "--anchor", "nothing")
    assert wrong.exit_code == 2
    assert "anchor must be <number>:<64 hexadecimal digits>" in wrong.stderr


def test_a_ledger_by_its_own_address(run, story, monkeypatch):
    result = run("verify", "--ledger", story.uri)
    assert result.exit_code == 0
    assert "The registry was not looked at: name it by --registry-uri." in result.stdout
    monkeypatch.setenv("MLFLOW_CALIBER_LEDGER_URI", story.uri)
    assert CliRunner().invoke(audit, ["verify"]).exit_code == 0


def test_a_registry_that_is_away_is_no_fault_of_the_log(run, story, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = run("verify", "--ledger", story.uri, "--registry-uri", "http://127.0.0.1:1")
    assert result.exit_code == 0
    assert "The registry could not be looked at: " in result.stdout


def test_a_registry_without_a_ledger(run, tmp_path):
    result = run("verify", "--ledger", f"sqlite:///{tmp_path}/nothing.db")
    assert result.exit_code == 2
    assert "There is no ledger at " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_registry_that_is_no_database(run):
    result = CliRunner().invoke(audit, ["log", "--registry-uri", "file:///mia/hunter2"])
    assert result.exit_code == 2
    assert "where the registry's address is neither a guarded server nor a database, got file." in result.stderr
    assert "hunter2" not in result.stderr


def test_a_server_that_does_not_answer(run):
    result = CliRunner().invoke(audit, ["log", "--registry-uri", "http://mia:hunter2@localhost:1"])
    assert result.exit_code == 2
    assert "The registry's server must answer, got no answer." in result.stderr
    assert "hunter2" not in result.stderr


def test_exported_files_are_verified(run, story, tmp_path):
    file = tmp_path / "ledger.jsonl"
    result = run("export", file)
    assert (result.exit_code, result.stdout) == (0, f"{n_of(story)} entries in {file}.\n")
    assert run("verify", "--file", file).exit_code == 0
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    cut = run("verify", "--file", file)
    assert cut.exit_code == 1
    assert "The log must have its head, got none: it was taken out or cut off." in cut.stdout


# --- log and champion ------------------------------------------------------------------------------------------------


def test_the_log_is_shown_newest_last(run, story):
    result = run("log", "--limit", 3)
    assert result.exit_code == 0
    assert [line.split()[3] for line in result.stdout.splitlines()] == ["gate", "override", "promote"]
    assert "Version 1 is down; the risk committee agreed." in result.stdout
    shown = json.loads(run("log", "--model", story.name, "--json").stdout)["entries"]
    assert [entry["seq"] for entry in shown] == list(range(1, n_of(story) + 1))
    assert run("log", "--model", "other").stdout == "The ledger holds no such entry.\n"


@pytest.mark.parametrize(
    ("on", "versions"),
    [
        ("2026-10-31", []),
        ("2026-11-01", ["1"]),
        ("2026-11-01T09:00+00:00", []),
        ("2026-11-04", ["1"]),
        ("2026-11-05", ["1", "2"]),
        ("2026-11-05T00:00:00+00:00", ["1"]),
        ("2030-01-01", ["2"]),
    ],
)
def test_who_was_champion(run, story, on, versions):
    result = run("champion", story.name, "--on", on, "--json")
    assert result.exit_code == 0
    assert [held["version"] for held in json.loads(result.stdout)["held"]] == versions


def test_who_was_champion_in_words(run, story):
    lines = run("champion", story.name, "--on", "2026-11-05").stdout.splitlines()
    assert lines[0].startswith("Version 1, promoted by mia: since 2026-11-01T09:50:00.000000+00:00, until 2026-11-05T")
    assert lines[1].endswith(", and still is.")
    assert run("champion", "other", "--on", "2026-11-05").stdout == "No version of 'other' was champion then.\n"


@pytest.mark.parametrize("on", ["yesterday", "2026-11-05T12:00"])
def test_a_day_that_is_none(run, story, on):
    result = run("champion", story.name, "--on", on)
    assert result.exit_code == 2
    assert "--on must be " in result.stderr


# --- pack ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(run, story, tmp_path):
    """The pack of a version, and the page."""

    def packed(*arguments):
        result = run("pack", story.name, *arguments, "--tracking-uri", story.uri, "--output", tmp_path / "audit")
        assert result.exit_code == 0, result.output
        content = json.loads((tmp_path / "audit/audit.json").read_bytes())
        return content, (tmp_path / "audit/audit.html").read_text(encoding="utf-8")

    return packed


def test_the_pack_of_the_champion_holds_everything(packed, story):
    content, page = packed("--store", story.store_uri)
    parts = content["parts"]
    assert set(content["sha256"]) == set(parts)
    assert (parts["subject"]["version"], parts["subject"]["holds_now"]) == ("2", True)
    assert parts["decision"]["decision"]["verdict"] == "fail"
    assert parts["decision"]["override"]["actor"] == "ann"
    assert parts["policy"]["content"] == story.policy.to_dict()
    assert parts["evidence"]["matches"] is True
    assert parts["evidence"]["content"]["report"]["metrics"]["ece"] > 0.05
    assert [act["action"] for act in parts["freezes"]] == ["freeze", "unfreeze"]
    assert parts["ledger"]["verification"]["ok"] is True
    assert len(parts["ledger"]["entries"]) == n_of(story)
    assert parts["live"]["counts"]["outcomes"] == 1_000
    assert parts["live"]["window"]["report"]["metrics"]["ece"] > 0.05
    assert len(page.encode()) < 400_000
    for text in (
        "mia made version 2 champion instead of version 1",
        "ann overrode the gate until 2026-11-25",
        "It is champion since 2026-11-05 10:50 UTC. What it rests on ",
        "It is the very evidence that was decided on.",
        "entries of the ledger are in one unbroken chain",
        "1,000 predictions, of which 1,000 have an outcome",
        "Over 1,000 settled outcomes the calibration error (ECE) is 0.",
        "Live, as served",
        "metric: caliber_brier",
    ):
        assert text in page, text


def test_digests_are_those_of_the_parts(packed, story):
    content, _ = packed()
    for name, part in content["parts"].items():
        again = json.dumps(part, sort_keys=True, separators=(",", ":")).encode()
        assert content["sha256"][name] == f"sha256:{sha256(again).hexdigest()}"


def test_the_pack_of_a_former_champion(packed, story):
    content, page = packed("1")
    assert content["parts"]["approvals"]["counted"] == ["ann", "bob"]
    assert len(content["parts"]["approvals"]["words"]) == 4
    assert content["parts"]["live"]["note"].startswith("No store was given")
    for text in ("Approved by ann, bob.", "No: by the ledger, version 2 is champion now.", "No store was given"):
        assert text in page
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_a_version_that_was_never_decided_on(packed, run, story, tmp_path):
    content, page = packed("9", "--store", story.store_uri)
    assert content["parts"]["subject"]["identity"] is None
    assert "The ledger holds no decision about version 9 as champion." in page
    assert "The version never held the target" in page


def test_a_version_that_is_not_in_the_store(packed, story):
    content, _ = packed("1", "--store", story.store_uri)
    assert content["parts"]["live"]["note"].startswith("What happened since could not be read: The store must hold")


def test_nobody_holds_the_target(run, story, tmp_path):
    result = run("pack", story.name, "--target", "other", "--output", tmp_path / "audit")
    assert result.exit_code == 2
    assert f"The ledger must know who is other of '{story.name}', or VERSION must be given" in result.stderr


def test_a_pack_of_a_broken_log_says_so(run, story, tampered, tmp_path):
    tampered(
        "UPDATE caliber_ledger SET actor = 'eve' WHERE seq = 2", "UPDATE caliber_ledger SET actor = 'ann' WHERE seq = 2"
    )
    result = run("pack", story.name, "--tracking-uri", story.uri, "--output", tmp_path)
    assert result.exit_code == 1
    assert "No: Entry 2 was changed" in (tmp_path / "audit.html").read_text(encoding="utf-8")


def test_evidence_that_was_replaced_is_said(story):
    entries = story.ledger.entries(model=story.name)
    runs = [entry.detail["decision"]["evidence_run_id"] for entry in entries if entry.action == "promote"]
    other = load_evidence(runs[0], story.world.client)
    made = audit_pack(story.name, "2", "champion", entries=entries, now=story.now, evidence=lambda _: other)
    assert made.parts["evidence"]["matches"] is False
    assert "The run now holds other evidence" in made.to_html()
    assert Governance.of(entries).holder("champion").version == "2"


def test_a_policy_that_is_another_one_is_not_shown(story):
    entries = story.ledger.entries(model=story.name)
    without = [entry for entry in entries if entry.action == "gate"]
    same = audit_pack(story.name, "2", "champion", entries=without, now=story.now, policy=story.policy)
    assert same.parts["policy"]["content"] == story.policy.to_dict()
    stricter = make_policy({"metric": "caliber_brier", "max": 0.2})
    other = audit_pack(story.name, "2", "champion", entries=without, now=story.now, policy=stricter)
    assert other.parts["policy"]["content"] is None
    assert other.parts["policy"]["note"] == "Only the digest is known. The policy that was given is another one."
    none = audit_pack(story.name, "2", "champion", entries=without, now=story.now)
    assert none.parts["policy"]["note"] == "Only the digest is known. No policy was given."
    assert none.parts["evidence"]["note"] == "No registry was asked for it."

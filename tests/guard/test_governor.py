"""Who may hold a guarded alias: decided from evidence, written with its audit entry together or not at all."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from mlflow_caliber._signing import Keyring
from mlflow_caliber.exceptions import SignatureError
from mlflow_caliber.gate import VersionIdentity
from mlflow_caliber.signed_decision import SignedDecision
from refusals import refused
from registry_world import make_rows

KEYS = Keyring.parse("test:" + "k" * 40)
FAILS = {"metric": "caliber_brier", "max": 0.01}
WORSE = 0.2  # the temperature of a model that is much too sure


def test_a_version_that_passes_gets_the_alias_its_tags_and_its_entry(guard):
    guarded = guard(keys=KEYS)
    name, version = guarded.version()
    guarded.store.set_registered_model_alias(name, "champion", version)
    assert guarded.world.aliases(name) == {"champion": "1"}
    tags = guarded.world.tags(name, 1)
    assert tags["caliber_gate_status"] == "passed"
    signed = SignedDecision.from_tags(tags, "champion", KEYS)
    assert (signed.name, signed.version, signed.target, signed.status) == (name, "1", "champion", "passed")
    (entry,) = guarded.ledger.entries(model=name)
    assert (entry.action, entry.actor, entry.version, entry.target) == ("promote", "mia", "1", "champion")
    assert entry.detail["decision"]["evidence_run_id"] == tags["caliber_evidence_run_id"]
    assert entry.detail["signature_key"] == "test"
    holding = guarded.governor.governance(name).holder("champion")
    assert VersionIdentity.from_dict(entry.detail["identity"]) == holding.identity


def test_a_version_that_fails_gets_nothing_and_the_attempt_is_kept(guard):
    guarded = guard(FAILS)
    name, version = guarded.version()
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", version), "at most 0.01, got")
    assert guarded.world.aliases(name) == guarded.world.tags(name, 1) == {}
    (entry,) = guarded.ledger.entries(model=name)
    assert entry.action == "refuse"
    assert "caliber_brier must be at most 0.01" in entry.detail["reason"]


def test_a_version_without_evidence_gets_nothing(guard):
    guarded = guard()
    name = guarded.world.register(guarded.world.model())
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", "1"), "must have evidence, got no run")


def test_evidence_of_another_model_does_not_help(guard):
    guarded = guard()
    name = guarded.world.register(guarded.world.model())
    other = guarded.world.model()
    run_id = guarded.world.evaluate(other, make_rows())
    refused(lambda: guarded.governor.promote(name, "1", "champion", evidence_run=run_id), "which is about another one")


def test_files_changed_after_the_evaluation_have_no_evidence(guard):
    guarded = guard()
    folder = guarded.world.model()
    guarded.world.evaluate(folder, make_rows())
    name = guarded.world.register(folder)
    (folder / "weights.txt").write_text("others")
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", "1"), "must have evidence")


def test_emptying_the_place_does_not_take_the_comparison_away(guard):
    guarded = guard({"metric": "caliber_brier", "versus": "champion", "max_regression": 0.002})
    name, _ = guarded.version()
    guarded.version(make_rows(temperature=WORSE), name)
    guarded.store.set_registered_model_alias(name, "champion", "1")
    guarded.store.delete_registered_model_alias(name, "champion")
    refused(
        lambda: guarded.store.set_registered_model_alias(name, "champion", "2"), "at most 0.002 worse than champion"
    )
    guarded.store.delete_model_version(name, "1")
    refused(
        lambda: guarded.store.set_registered_model_alias(name, "champion", "2"), "at most 0.002 worse than champion"
    )
    assert guarded.world.aliases(name) == {}


def test_a_run_of_a_stranger_neither_helps_nor_hinders(guard):
    guarded = guard()
    name, version = guarded.version()
    digest = guarded.governor.identify(name, version).model_digest
    for _ in range(2):  # newer than any, and empty
        run = guarded.client.create_run(guarded.world.experiment, start_time=4102444800000)
        guarded.client.set_tag(run.info.run_id, "caliber_model_digest", digest)
    guarded.store.set_registered_model_alias(name, "champion", version)
    assert guarded.world.aliases(name) == {"champion": "1"}


def test_where_signatures_are_demanded_the_opponents_evidence_has_one_too(guard, monkeypatch):
    evidence_keys = Keyring.parse("lab:" + "e" * 40)
    rule = {"metric": "caliber_brier", "versus": "champion", "max_regression": 0.0}
    guarded = guard(rule, signed_evidence=True)
    guarded.governor._examiner._evidence_keys = evidence_keys
    name, _ = guarded.version(keys=evidence_keys)
    guarded.version(make_rows(temperature=WORSE), name, keys=evidence_keys)
    guarded.store.set_registered_model_alias(name, "champion", "1")
    source = Path(guarded.client.get_model_version(name, "1").source.removeprefix("file://"))
    guarded.world.evaluate(source, make_rows(temperature=0.05))  # unsigned: the champion made to look awful
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", "2"), "at most 0 worse than champion")


def test_files_with_code_that_no_digest_covers_are_refused(guard):
    guarded = guard()
    name, version = guarded.version()
    source = Path(guarded.client.get_model_version(name, version).source.removeprefix("file://"))
    (source / "code" / "__pycache__").mkdir(parents=True)
    (source / "code" / "__pycache__" / "model.pyc").write_bytes(b"x")
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", version), "must hold no __pycache__")


def test_the_verdict_alone_is_written_by_gate(guard):
    guarded = guard(FAILS)
    name, version = guarded.version()
    case = guarded.governor.gate(name, version, "champion")
    assert case.status is None
    assert guarded.world.tags(name, 1)["caliber_gate_status"] == "failed"
    assert "caliber_decision_champion" not in guarded.world.tags(name, 1)
    assert guarded.actions(name) == ["gate"]


def test_a_stage_is_guarded_alike(guard):
    guarded = guard(target="Production")
    name, _ = guarded.version()
    guarded.version(name=name)
    guarded.world.register(guarded.world.model())
    moved = guarded.store.transition_model_version_stage(name, "1", "production", True)
    assert moved.current_stage == "Production"
    guarded.store.transition_model_version_stage(name, "2", "Production", False)  # a guarded stage has one holder
    assert [guarded.store.get_model_version(name, v).current_stage for v in "12"] == ["Archived", "Production"]
    assert guarded.actions(name) == ["promote", "promote"]
    guarded.store.transition_model_version_stage(name, "2", "Staging", False)
    assert guarded.actions(name) == ["promote", "promote", "remove"]
    unproven = guarded.client.create_model_version(name, source=guarded.world.model().as_uri())
    refused(
        lambda: guarded.store.transition_model_version_stage(name, unproven.version, "PRODUCTION", False),
        "must have evidence",
    )


def test_rollback_goes_back_step_by_step_to_what_was_promoted(guard):
    guarded = guard()
    name, _ = guarded.version()
    for _ in range(2):
        guarded.version(name=name)
    for version in "123":
        guarded.store.set_registered_model_alias(name, "champion", version)
    assert guarded.world.aliases(name) == {"champion": "3", "previous": "2"}
    guarded.governor.rollback(name, "champion")
    assert guarded.world.aliases(name) == {"champion": "2", "previous": "1"}
    assert guarded.governor.rollback(name, "champion").version == "1"
    assert guarded.world.aliases(name) == {"champion": "1"}
    refused(lambda: guarded.governor.rollback(name, "champion"), "got no earlier promotion")
    assert guarded.actions(name) == ["promote"] * 3 + ["rollback"] * 2


def test_rollback_refuses_files_that_are_not_those_that_were_promoted(guard):
    guarded = guard()
    name, _ = guarded.version()
    guarded.version(name=name)
    for version in "12":
        guarded.store.set_registered_model_alias(name, "champion", version)
    source = guarded.client.get_model_version(name, "1").source.removeprefix("file://")
    with open(f"{source}/weights.txt", "a") as file:
        file.write("!")
    refused(lambda: guarded.governor.rollback(name, "champion"), "as it was promoted, got other files")
    assert guarded.world.aliases(name)["champion"] == "2"


def test_rollback_passes_over_versions_that_were_deleted(guard):
    guarded = guard()
    name, _ = guarded.version()
    for _ in range(2):
        guarded.version(name=name)
    for version in "123":
        guarded.store.set_registered_model_alias(name, "champion", version)
    guarded.store.delete_model_version(name, "2")
    assert guarded.governor.rollback(name, "champion").version == "1"
    assert guarded.world.aliases(name) == {"champion": "1"}


def test_evidence_of_a_deleted_run_is_none(guard):
    guarded = guard()
    name, version = guarded.version()
    run_id = guarded.governor.examine(name, version, "champion").examined.run_id
    guarded.client.delete_run(run_id)
    refused(lambda: guarded.governor.promote(name, version, "champion", evidence_run=run_id), "of a run that is there")
    refused(lambda: guarded.governor.promote(name, version, "champion"), "must have evidence")


def test_a_pass_expires_and_keeps_the_alias_unless_the_policy_demotes(guard):
    guarded = guard(expires_after_days=30)
    name, version = guarded.version()
    guarded.store.set_registered_model_alias(name, "champion", version)
    guarded.governor.expire(name, now=datetime.now(UTC) + timedelta(days=31))
    assert guarded.world.aliases(name) == {"champion": "1"}
    assert guarded.world.tags(name, 1)["caliber_gate_status"] == "expired"
    assert guarded.governor.expire(name, now=datetime.now(UTC) + timedelta(days=31)) == ()


def test_of_two_promoters_one_wins_and_the_other_hears_of_it(guard, monkeypatch):
    guarded = guard()
    name, _ = guarded.version()
    guarded.version(name=name)
    meet = threading.Barrier(2)
    move = guarded.governor._move

    def together(case):
        meet.wait(30)
        return move(case)

    monkeypatch.setattr(guarded.governor, "_move", together)
    answers = {}

    def promote(version):
        try:
            answers[version] = guarded.governor.promote(name, version, "champion")
        except MlflowException as error:
            answers[version] = error

    threads = [threading.Thread(target=promote, args=(version,)) for version in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    lost = [version for version, answer in answers.items() if isinstance(answer, MlflowException)]
    assert len(lost) == 1
    assert answers[lost[0]].error_code == "RESOURCE_CONFLICT"
    assert "somebody else was faster" in answers[lost[0]].message
    (won,) = set(answers) - set(lost)
    assert guarded.world.aliases(name) == {"champion": won}
    assert guarded.actions(name) == ["promote"]


def test_an_alias_that_was_moved_around_the_guard_meanwhile_is_a_conflict(guard, monkeypatch):
    guarded = guard()
    name, version = guarded.version()
    guarded.version(name=name)
    move = guarded.governor._move

    def late(case):
        with guarded.store.engine.begin() as connection:  # somebody who holds the database's address
            aliases = "INSERT INTO registered_model_aliases (workspace, name, alias, version) VALUES (?, ?, ?, ?)"
            connection.exec_driver_sql(aliases, ("default", name, "champion", 2))
        return move(case)

    monkeypatch.setattr(guarded.governor, "_move", late)
    refused(lambda: guarded.governor.promote(name, version, "champion"), "got version 2", "RESOURCE_CONFLICT")
    assert guarded.world.aliases(name) == {"champion": "2"}


def test_a_model_is_not_renamed_under_a_promotion(guard, monkeypatch):
    guarded = guard()
    name, version = guarded.version()
    append, promoting, answers = guarded.ledger.append, threading.Event(), []

    def slowly(connection, **what):
        promoting.set()  # the ledger is locked, and nothing is committed
        time.sleep(0.5)
        return append(connection, **what)

    def rename():
        promoting.wait(30)
        try:
            answers.append(guarded.client.rename_registered_model(name, "other"))
        except MlflowException as error:
            answers.append(error)

    monkeypatch.setattr(guarded.ledger, "append", slowly)
    thread = threading.Thread(target=rename)
    thread.start()
    guarded.governor.promote(name, version, "champion")
    thread.join(60)
    assert "must hold no guarded alias" in str(answers[0])
    assert guarded.world.aliases(name) == {"champion": "1"}


def test_a_freeze_between_decision_and_move_wins(guard, monkeypatch):
    guarded = guard()
    name, version = guarded.version()
    move = guarded.governor._move

    def late(case):
        guarded.governor.freeze(name, "champion", reason="now")
        return move(case)

    monkeypatch.setattr(guarded.governor, "_move", late)
    refused(
        lambda: guarded.governor.promote(name, version, "champion"), "somebody else was faster", "RESOURCE_CONFLICT"
    )
    assert guarded.world.aliases(name) == {}


def test_a_version_made_anew_between_decision_and_move_is_refused(guard, monkeypatch):
    guarded = guard()
    name, version = guarded.version()
    move = guarded.governor._move

    def late(case):
        guarded.client.delete_registered_model(name)
        guarded.client.create_registered_model(name)
        guarded.client.create_model_version(name, source=guarded.world.model().as_uri())
        return move(case)

    monkeypatch.setattr(guarded.governor, "_move", late)
    refused(lambda: guarded.governor.promote(name, version, "champion"), "must still be|made anew", "RESOURCE_CONFLICT")
    assert guarded.world.aliases(name) == {}


def test_what_cannot_be_written_leaves_nothing(guard, monkeypatch):
    guarded = guard()
    name, version = guarded.version()

    def broken(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr(guarded.ledger, "append", broken)
    refused(
        lambda: guarded.store.set_registered_model_alias(name, "champion", version),
        "could not decide, so nothing was changed",
        "INTERNAL_ERROR",
    )
    assert guarded.world.aliases(name) == guarded.world.tags(name, 1) == {}


def test_a_signature_on_another_version_is_worth_nothing(guard):
    guarded = guard(keys=KEYS)
    name, version = guarded.version()
    guarded.store.set_registered_model_alias(name, "champion", version)
    signed = SignedDecision.from_tags(guarded.world.tags(name, 1), "champion", KEYS)
    here = {field: getattr(signed, field) for field in ("name", "version", "created_at", "model_digest", "target")}
    now = datetime.now(UTC)
    signed.check(**here, now=now)
    for field, other in (("name", "x"), ("version", "2"), ("created_at", 1), ("model_digest", "x"), ("target", "y")):
        with pytest.raises(SignatureError, match=f"must be about {field}"):
            signed.check(**{**here, field: other}, now=now)
    forged = guarded.world.tags(name, 1)
    forged["caliber_decision_champion"] = json.dumps(
        {**json.loads(forged["caliber_decision_champion"]), "version": "2"}
    )
    with pytest.raises(SignatureError, match="must be of this very content"):
        SignedDecision.from_tags(forged, "champion", KEYS)

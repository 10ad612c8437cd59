"""What people say of a version, and what it is worth: approvals, overrides, freezes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlflow_caliber.exceptions import InvalidInputError
from refusals import refused
from registry_world import make_rows

FAILS = {"metric": "caliber_brier", "max": 0.01}


def test_a_freeze_stops_promotions_and_not_rollbacks(guard):
    guarded = guard()
    name, _ = guarded.version()
    guarded.version(name=name)
    guarded.version(name=name)
    for version in "12":
        guarded.store.set_registered_model_alias(name, "champion", version)
    guarded.governor.freeze(name, "*", reason="audit week")
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", "3"), "frozen by mia: audit week")
    guarded.governor.rollback(name, "champion")
    guarded.governor.unfreeze(name, "*")
    guarded.store.set_registered_model_alias(name, "champion", "3")
    assert guarded.world.aliases(name)["champion"] == "3"


def test_a_freeze_ends_by_itself(guard):
    guarded = guard()
    name, version = guarded.version()
    guarded.governor.freeze(name, "champion", reason="x", until=datetime.now(UTC) - timedelta(seconds=1))
    guarded.store.set_registered_model_alias(name, "champion", version)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"reason": " ", "days": 1.0}, "must have a reason"), ({"reason": "x", "days": 0.0}, "a minute to 365 days")],
)
def test_an_override_needs_a_reason_and_an_end(guard, options, match):
    guarded = guard(FAILS)
    name, version = guarded.version()
    with pytest.raises(InvalidInputError, match=match):
        guarded.governor.override(name, version, "champion", **options)


def test_an_override_stands_in_for_a_pass_until_it_expires(guard):
    guarded = guard(FAILS, expires_after_days=30, on_expiry="demote")
    name, version = guarded.version()
    refused(
        lambda: guarded.governor.override(name, version, "champion", reason="x", days=1.0),
        "must not come from its author",
    )
    guarded.user = "olu"
    made = guarded.governor.override(name, version, "champion", reason="outage", days=2.0)
    guarded.store.set_registered_model_alias(name, "champion", version)
    tags = guarded.world.tags(name, 1)
    assert tags["caliber_gate_status"] == "overridden"
    assert (tags["caliber_override_reason"], tags["caliber_expires_at"]) == ("outage", made.expires_at)
    assert guarded.governor.expire(name) == ()
    (gone,) = guarded.governor.expire(name, now=datetime.now(UTC) + timedelta(days=3))
    assert (gone.version, gone.target) == ("1", "champion")
    assert guarded.world.aliases(name) == {}
    assert guarded.world.tags(name, 1)["caliber_gate_status"] == "expired"
    assert guarded.actions(name) == ["override", "promote", "expire"]


def test_nobody_answers_for_a_version_on_a_server_without_users(guard):
    guarded = guard(FAILS)
    name, version = guarded.version()
    guarded.user = None
    for words in (
        lambda: guarded.governor.override(name, version, "champion", reason="x", days=1.0),
        lambda: guarded.governor.freeze(name, "*", reason="x"),
        lambda: guarded.governor.unfreeze(name, "*"),
    ):
        refused(words, "a person that the server knows")
    assert guarded.actions(name) == []


def test_rollback_leads_to_no_expired_override(guard, monkeypatch):
    guarded = guard(FAILS)
    name, _ = guarded.version()
    guarded.version(name=name)
    guarded.user = "olu"
    for version, days in (("1", 1.0), ("2", 9.0)):
        guarded.governor.override(name, version, "champion", reason="outage", days=days)
        guarded.store.set_registered_model_alias(name, "champion", version)

    class Later(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(days=2)

    monkeypatch.setattr("mlflow_caliber.guard._governor.datetime", Later)
    refused(lambda: guarded.governor.rollback(name, "champion"), "whose override expired at")
    assert guarded.world.aliases(name)["champion"] == "2"


def test_a_frozen_model_keeps_its_name(guard):
    guarded = guard()
    name, _ = guarded.version()
    guarded.governor.freeze(name, "champion", reason="audit")
    refused(lambda: guarded.client.rename_registered_model(name, "other"), "must not be frozen to be renamed")
    guarded.governor.unfreeze(name, "champion")
    guarded.client.rename_registered_model(name, "other")


def test_an_override_is_for_one_version(guard):
    guarded = guard(FAILS)
    name, version = guarded.version()
    guarded.version(name=name)
    guarded.user = "olu"
    guarded.governor.override(name, version, "champion", reason="outage", days=2.0)
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", "2"), "at most 0.01")


def test_an_override_is_not_for_a_version_of_the_same_number_made_anew(guard):
    guarded = guard(FAILS)
    name, version = guarded.version()
    guarded.user = "olu"
    guarded.governor.override(name, version, "champion", reason="outage", days=2.0)
    guarded.client.delete_registered_model(name)
    guarded.client.create_registered_model(name)
    guarded.version(name=name)
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", "1"), "at most 0.01")


def test_approvals_are_of_others_and_of_this_evidence(guard):
    guarded = guard(approvals={"count": 2, "approvers": ["noor", "olu", "mia"]})
    name, version = guarded.version()
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", version), "inconclusive")
    refused(lambda: guarded.governor.approve(name, version, "champion"), "must not be its author, got 'mia'")
    guarded.user = "eve"
    refused(lambda: guarded.governor.approve(name, version, "champion"), "one that the policy names, got 'eve'")
    guarded.user = None
    refused(lambda: guarded.governor.approve(name, version, "champion"), "a person that the server knows")
    for guarded.user in ("noor", "noor", "olu"):
        assert guarded.user in guarded.governor.approve(name, version, "champion", comment="read it")
    assert guarded.governor.examine(name, version, "champion").examined.decision.approvals == ("noor", "olu")
    guarded.user = "mia"
    guarded.store.set_registered_model_alias(name, "champion", version)
    assert guarded.world.tags(name, 1)["caliber_approved_by"] == "noor, olu"


def test_whoever_trained_it_may_not_approve_either_and_a_new_name_hides_nobody(guard):
    guarded = guard(approvals={"count": 1})
    run = guarded.client.create_run(guarded.world.experiment, tags={"mlflow.user": "olu"})
    folder = guarded.world.model()
    guarded.world.evaluate(folder, make_rows())
    guarded.client.create_registered_model("m")
    guarded.client.create_model_version("m", source=folder.as_uri(), run_id=run.info.run_id)
    guarded.client.rename_registered_model("m", "n")
    for guarded.user in ("mia", "olu"):
        refused(lambda: guarded.governor.approve("n", "1", "champion"), f"must not be its author, got '{guarded.user}'")


def test_words_that_change_nothing_are_not_written(guard):
    guarded = guard(approvals={"count": 1})
    name, version = guarded.version()
    guarded.user = "noor"
    for withdraw in (True, False, False, True, True):
        guarded.governor.approve(name, version, "champion", withdraw=withdraw)
    assert guarded.actions(name) == ["approve", "withdraw"]


def test_an_approval_is_of_the_evidence_that_was_looked_at(guard):
    guarded = guard(approvals={"count": 1})
    name, version = guarded.version()
    guarded.user = "noor"
    seen = guarded.governor.examine(name, version, "champion").examined.decision.evidence_sha256
    source = Path(guarded.client.get_model_version(name, version).source.removeprefix("file://"))
    guarded.world.evaluate(source, make_rows(seed=5))
    refused(
        lambda: guarded.governor.approve(name, version, "champion", evidence_sha256=seen),
        "newer evidence",
        "RESOURCE_CONFLICT",
    )


def test_nobody_approves_where_the_policy_asks_for_no_approval(guard):
    guarded = guard()
    name, version = guarded.version()
    refused(lambda: guarded.governor.approve(name, version, "champion"), "one that the policy asks for")


def test_a_withdrawn_approval_and_one_of_older_evidence_do_not_count(guard):
    guarded = guard(approvals={"count": 1})
    name, version = guarded.version()
    guarded.user = "noor"
    guarded.governor.approve(name, version, "champion")
    guarded.governor.approve(name, version, "champion", withdraw=True)
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", version), "inconclusive")
    guarded.governor.approve(name, version, "champion")
    source = guarded.client.get_model_version(name, version).source.removeprefix("file://")
    guarded.world.evaluate(Path(source), make_rows(seed=5))
    refused(lambda: guarded.store.set_registered_model_alias(name, "champion", version), "inconclusive")

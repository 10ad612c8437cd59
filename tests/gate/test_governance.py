"""Governance is a fold over entries: who holds what, where a rollback leads, whose word counts."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.gate._governance import DETAILS, Governance, VersionIdentity, disagreements
from mlflow_caliber.ledger import ACTIONS, open_ledger

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
BOUND = {"policy_sha256": "sha256:p", "evidence_sha256": "sha256:e"}


def at(hours):
    return START + timedelta(hours=hours)


def iso(hours):
    return at(hours).isoformat(timespec="microseconds")


def identity(version=1, **changed):
    ordinary = {"name": "churn", "version": str(version), "created_at": 1_000, "source": f"models:/m-{version}"}
    return VersionIdentity(**{**ordinary, "run_id": None, "model_digest": f"sha256:{version}", **changed})


class Entries(list):
    """Entries an hour apart, by what they say."""

    def add(self, action, *, target="champion", version=None, actor="mia", **detail):
        seq = len(self) + 1
        entry = SimpleNamespace(seq=seq, at=iso(seq), actor=actor, action=action, version=version, target=target)
        entry.detail = detail
        self.append(entry)
        return self

    def promote(self, version, *, expires_at=None, override=None, verdict="pass", target="champion", **changed):
        decision = {"verdict": verdict, "expires_at": expires_at, "policy_sha256": "sha256:p"}
        who = identity(version, **changed).to_dict()
        detail = {"identity": who, "decision": decision, "former": None, "override": override, "signature_key": None}
        return self.add("promote", target=target, version=str(version), **detail)

    def rollback(self, version):
        return self.add("rollback", version=str(version), identity=identity(version).to_dict(), former=None)

    def remove(self):
        return self.add("remove", former=None)

    def expire(self, version, *, demoted):
        return self.add("expire", version=str(version), identity=identity(version).to_dict(), demoted=demoted)

    def delete(self, *versions):
        return self.add("delete", target=None, versions=[str(each) for each in versions])

    def say(self, action, actor, version=1, target="champion", **changed):
        detail = {"identity": identity(version).to_dict(), **BOUND, "comment": "", **changed}
        return self.add(action, actor=actor, target=target, version=str(version), **detail)

    def override(self, expires_at, version=1, actor="mia", **changed):
        detail = {"identity": identity(version).to_dict(), "policy_sha256": "sha256:p", "reason": "outage"}
        return self.add(
            "override", actor=actor, version=str(version), **{**detail, "expires_at": expires_at, **changed}
        )

    @property
    def governance(self):
        return Governance.of(self)


@pytest.fixture
def entries():
    return Entries()


def version_of(holding):
    return None if holding is None else holding.version


# --- who holds a target ----------------------------------------------------------------------------------------------


def test_nobody_holds_anything_at_first(entries):
    governance = entries.governance
    assert governance.holder("champion") is governance.previous("champion") is None
    assert governance.history("champion") == governance.targets == governance.expirations(at(0)) == ()


def test_the_last_promotion_holds(entries):
    governance = entries.promote(1).promote(2).promote(7, target="challenger").governance
    assert [(each.version, each.since, each.until) for each in governance.history("champion")] == [
        ("1", iso(1), iso(2)),
        ("2", iso(2), None),
    ]
    assert version_of(governance.holder("champion")) == "2"
    assert governance.holder("champion").identity == identity(2)
    assert governance.targets == ("challenger", "champion")


@pytest.mark.parametrize(
    ("hours", "version"),
    [(0.5, None), (1, "1"), (1.9, "1"), (2, "2"), (2.5, "2"), (3, "1"), (4, None), (5, "3"), (100, "3")],
)
def test_who_held_it_at_a_time(entries, hours, version):
    governance = entries.promote(1).promote(2).rollback(1).remove().promote(3).governance
    assert version_of(governance.holder_at("champion", at(hours))) == version


def test_acts_at_the_same_moment_leave_the_last_one(entries):
    entries.promote(1).promote(2)
    entries[1].at = entries[0].at
    assert version_of(entries.governance.holder_at("champion", at(1))) == "2"


def test_a_time_without_its_zone_is_refused(entries):
    naive = datetime(2026, 11, 22)
    governance = entries.promote(1).governance
    with pytest.raises(InvalidInputError, match="when must be a time with its zone, got"):
        governance.holder_at("champion", naive)
    for ask in (governance.expirations, lambda now: governance.freeze("champion", now)):
        with pytest.raises(InvalidInputError, match="now must be a time with its zone, got"):
            ask(naive)


def test_a_deleted_version_holds_nothing(entries):
    governance = entries.promote(1).promote(2).promote(7, target="challenger").delete(2, 7).governance
    assert governance.holder("champion") is governance.holder("challenger") is None
    assert governance.history("champion")[-1].until == iso(4)
    entries.promote(3)
    assert version_of(entries.governance.previous("champion")) == "1"


def test_a_deleted_model_holds_nothing(entries):
    governance = entries.promote(1).add("delete", target=None, versions=None).promote(3).governance
    assert version_of(governance.holder("champion")) == "3"
    assert governance.previous("champion") is None


# --- expiry ----------------------------------------------------------------------------------------------------------


def test_a_pass_expires_and_is_told_of_once(entries):
    entries.promote(1, expires_at=iso(10)).promote(2, target="challenger")
    assert entries.governance.expirations(at(9.9)) == ()
    assert [each.version for each in entries.governance.expirations(at(10))] == ["1"]
    entries.expire(1, demoted=False)
    assert entries.governance.expirations(at(10)) == ()
    assert entries.governance.holder("champion").expired
    entries.promote(1, expires_at=iso(20))  # gated anew
    assert not entries.governance.holder("champion").expired
    assert [each.version for each in entries.governance.expirations(at(20))] == ["1"]


def test_an_expired_pass_can_demote(entries):
    governance = entries.promote(1).promote(2, expires_at=iso(10)).expire(2, demoted=True).governance
    assert governance.holder("champion") is None
    last = governance.history("champion")[-1]
    assert (last.version, last.until, last.expired) == ("2", iso(3), True)


def test_an_expiry_of_another_version_changes_nothing(entries):
    governance = entries.promote(1).promote(2).expire(1, demoted=True).governance
    assert version_of(governance.holder("champion")) == "2"
    assert not governance.holder("champion").expired


@pytest.mark.parametrize(("verdict", "end"), [("pass", iso(10)), ("fail", iso(8)), ("inconclusive", iso(8))])
def test_what_rests_on_an_override_ends_with_it(entries, verdict, end):
    override = {"actor": "mia", "reason": "outage", "expires_at": iso(8)}
    governance = entries.promote(1, expires_at=iso(10), override=override, verdict=verdict).governance
    assert governance.holder("champion").expires_at == end
    assert governance.holder("champion").to_dict()["expires_at"] == end


def test_a_rollback_brings_back_the_pass_with_its_end(entries):
    governance = entries.promote(1, expires_at=iso(5)).promote(2).rollback(1).governance
    assert governance.holder("champion").expires_at == iso(5)
    assert [each.version for each in governance.expirations(at(6))] == ["1"]


# --- rollback --------------------------------------------------------------------------------------------------------


def test_each_rollback_goes_one_promotion_further_back(entries):
    entries.promote(1).promote(2).promote(3)
    for wanted in ("2", "1"):
        assert version_of(entries.governance.previous("champion")) == wanted
        entries.rollback(wanted)
        assert version_of(entries.governance.holder("champion")) == wanted
    assert entries.governance.previous("champion") is None


def test_a_rollback_never_leads_to_what_was_rolled_back_from(entries):
    assert version_of(entries.promote(1).promote(2).rollback(1).promote(3).governance.previous("champion")) == "1"
    assert version_of(entries.promote(2).promote(4).governance.previous("champion")) == "2"  # gated anew


def test_a_version_that_was_rolled_back_from_is_no_step_further_down_either(entries):
    entries.promote(1).promote(2).promote(1).rollback(2)
    assert entries.governance.previous("champion") is None


def test_a_renewed_pass_is_no_step(entries):
    entries.promote(1).promote(2).promote(2)
    assert version_of(entries.governance.previous("champion")) == "1"
    assert len(entries.governance.history("champion")) == 3


def test_what_was_removed_is_no_step(entries):
    entries.promote(1).promote(2).remove()
    assert entries.governance.previous("champion") is None  # nobody to roll back from
    assert version_of(entries.promote(3).governance.previous("champion")) == "1"


def test_a_rollback_by_more_than_one_step(entries):
    entries.promote(1).promote(2).promote(3).rollback(1)
    assert entries.governance.previous("champion") is None
    entries.rollback(9)  # set by hand to a version that never held it
    assert version_of(entries.governance.holder("champion")) == "9"


MOVES = st.lists(st.tuples(st.sampled_from(["promote", "back", "remove", "delete"]), st.integers(1, 4)), max_size=25)


@given(MOVES)
def test_rollbacks_keep_their_promise_whatever_happens(moves):
    """A rollback leads to a version that held the target and has not been taken off it since its last promotion."""
    entries, banned = Entries(), set()
    for move, version in moves:
        governance = entries.governance
        held, back = version_of(governance.holder("champion")), governance.previous("champion")
        if back is not None:
            assert back.version not in banned | {held}
            assert back.version in {each.version for each in governance.history("champion")}
        if move == "promote":
            entries.promote(version)
            banned.discard(str(version))
        elif move == "delete":
            entries.delete(version)
            banned.add(str(version))
        elif held is not None and (move == "remove" or back is not None):
            entries.remove() if move == "remove" else entries.rollback(back.version)
            banned.add(held)
    history = entries.governance.history("champion")
    assert all(each.until is not None for each in history[:-1])
    assert all(one.until <= other.since for one, other in itertools.pairwise(history))


@given(MOVES, st.floats(0, 26, allow_nan=False))
def test_who_held_it_then_is_who_held_it_in_the_log_of_then(moves, hours):
    entries = Entries()
    for move, version in moves:
        if move == "promote":
            entries.promote(version)
        elif move == "remove":
            entries.remove()
    of_then = Governance.of(entry for entry in entries if datetime.fromisoformat(entry.at) <= at(hours))
    assert version_of(entries.governance.holder_at("champion", at(hours))) == version_of(of_then.holder("champion"))


# --- approvals -------------------------------------------------------------------------------------------------------


def approvals(entries, who=None, target="champion", **bound):
    return entries.governance.approvals(who or identity(), target, **{**BOUND, **bound})


def test_the_latest_word_of_each_approver_counts(entries):
    entries.say("approve", "ann").say("approve", "bob").say("approve", "ann").say("withdraw", "bob")
    assert approvals(entries) == ("ann",)
    assert approvals(entries.say("approve", "bob")) == ("ann", "bob")


@pytest.mark.parametrize(
    "other",
    [
        {"who": identity(2)},
        {"who": identity(1, created_at=2_000)},
        {"who": identity(1, source="models:/m-9")},
        {"who": identity(1, model_digest="sha256:9")},
        {"who": identity(1, run_id="r")},
        {"who": identity(1, name="other")},
        {"target": "challenger"},
        {"policy_sha256": "sha256:q"},
        {"evidence_sha256": "sha256:f"},
    ],
)
def test_an_approval_is_of_exactly_what_was_seen(entries, other):
    entries.say("approve", "ann")
    assert approvals(entries) == ("ann",)
    assert approvals(entries, **other) == ()


def test_a_withdrawal_takes_back_what_was_approved_on_other_evidence(entries):
    entries.say("approve", "ann", evidence_sha256="sha256:old").say("approve", "ann").say("withdraw", "ann")
    assert approvals(entries) == approvals(entries, evidence_sha256="sha256:old") == ()


def test_a_withdrawal_for_another_version_changes_nothing(entries):
    entries.say("approve", "ann").say("withdraw", "ann", version=2).say("withdraw", "ann", target="challenger")
    assert approvals(entries) == ("ann",)


WORDS = st.lists(st.tuples(st.sampled_from(["approve", "withdraw"]), st.sampled_from("abc")), max_size=12)


@given(WORDS)
def test_approvals_are_the_last_words(words):
    entries = Entries()
    for word, who in words:
        entries.say(word, who)
    assert set(approvals(entries)) == {
        who for who, word in {who: word for word, who in words}.items() if word == "approve"
    }


# --- overrides and freezes -------------------------------------------------------------------------------------------


def overridden(entries, hours, who=None, policy_sha256="sha256:p"):
    return entries.governance.override(who or identity(), "champion", policy_sha256=policy_sha256, now=at(hours))


def test_an_override_ends(entries):
    found = overridden(entries.override(iso(5), actor="ann"), 4.9)
    assert (found.actor, found.reason, found.expires_at, found.at, found.seq) == ("ann", "outage", iso(5), iso(1), 1)
    assert found.to_dict()["reason"] == "outage"
    assert overridden(entries, 5) is None


def test_an_override_is_of_exactly_one_version_target_and_policy(entries):
    entries.override(iso(5))
    assert overridden(entries, 2, who=identity(2)) is None
    assert overridden(entries, 2, policy_sha256="sha256:q") is None
    assert entries.governance.override(identity(), "other", policy_sha256="sha256:p", now=at(2)) is None


def test_the_last_override_counts_also_when_it_is_shorter(entries):
    assert overridden(entries.override(iso(9)).override(iso(3)), 4) is None
    assert overridden(entries.override(iso(12)), 4).seq == 3


def freeze(entries, hours, target="champion"):
    return entries.governance.freeze(target, at(hours))


def test_a_freeze_holds_until_it_is_lifted_or_over(entries):
    entries.add("freeze", reason="audit", until=iso(5))
    assert (freeze(entries, 4).reason, freeze(entries, 4).until, freeze(entries, 4).target) == (
        "audit",
        iso(5),
        "champion",
    )
    assert freeze(entries, 5) is freeze(entries, 4, "challenger") is None
    entries.add("freeze", reason="longer", until=None)
    assert freeze(entries, 1_000).to_dict()["reason"] == "longer"
    entries.add("unfreeze", reason="done", until=None)
    assert freeze(entries, 4) is None


@pytest.mark.parametrize("everything", ["*", None])
def test_all_targets_can_be_frozen(entries, everything):
    entries.add("freeze", target=everything, reason="holidays", until=None)
    assert freeze(entries, 4).target == freeze(entries, 4, "challenger").target == "*"
    entries.add("unfreeze", reason="only its own", until=None)
    assert freeze(entries, 4) is not None
    entries.add("unfreeze", target=everything, reason="over", until=None)
    assert freeze(entries, 4) is None


def test_one_freeze_that_is_over_does_not_hide_another(entries):
    entries.add("freeze", target="*", reason="long", until=None).add("freeze", reason="short", until=iso(3))
    assert freeze(entries, 4).reason == "long"


def test_everything_as_json(entries):
    entries.promote(1).promote(2, expires_at=iso(9)).add("freeze", reason="audit", until=iso(5)).remove()
    state = json.loads(json.dumps(entries.promote(3).governance.to_dict()))
    champion = state["targets"]["champion"]
    assert (champion["holder"]["version"], champion["previous"], len(champion["history"])) == ("3", "1", 3)
    assert [freeze["reason"] for freeze in state["freezes"]] == ["audit"]


# --- entries ---------------------------------------------------------------------------------------------------------


def test_every_action_of_the_ledger_has_its_detail():
    assert set(DETAILS) == set(ACTIONS)


@pytest.mark.parametrize("action", sorted(DETAILS))
def test_an_entry_that_lacks_something_is_refused(entries, action):
    with pytest.raises(StateError, match=rf"Entry 1 of the ledger \({action}\) must have {DETAILS[action][0]}"):
        entries.add(action).governance  # noqa: B018


def test_a_promotion_without_a_target_is_refused(entries):
    with pytest.raises(StateError, match="must have a target, got none"):
        entries.promote(1, target=None).governance  # noqa: B018


def test_a_time_that_is_none_is_refused(entries):
    with pytest.raises(StateError, match="A time in the ledger must be ISO 8601, got 'soon'"):
        overridden(entries.override("soon"), 1)


def test_an_unknown_action_of_a_later_version_is_let_through(entries):
    assert version_of(entries.promote(1).add("praise").governance.holder("champion")) == "1"


def test_an_identity_is_read_back_strictly():
    state = identity().to_dict()
    assert VersionIdentity.from_dict(state) == identity()
    assert identity().sha256 != replace(identity(), source="elsewhere").sha256
    with pytest.raises(StateError, match="must hold 'source', which is missing"):
        VersionIdentity.from_dict({key: value for key, value in state.items() if key != "source"})
    with pytest.raises(StateError, match="got also"):
        VersionIdentity.from_dict({**state, "more": 1})


def test_entries_of_a_real_ledger_fold_the_same(entries):
    entries.promote(1).say("approve", "ann", version=2).promote(2).rollback(1)
    with open_ledger("sqlite://") as ledger:
        for each in entries:
            said = {key: getattr(each, key) for key in ("actor", "action", "version", "target", "detail")}
            ledger.record(model="churn", **said)
        governance = Governance.of(ledger.entries(model="churn"))
    assert [each.version for each in governance.history("champion")] == ["1", "2", "1"]
    assert approvals(entries, identity(2)) == governance.approvals(identity(2), "champion", **BOUND) == ("ann",)


# --- the registry ----------------------------------------------------------------------------------------------------


def test_a_registry_as_the_ledger_says(entries):
    governance = {"churn": entries.promote(1).promote(2).governance}
    assert disagreements(governance, {("churn", "champion"): "2"}) == ()


def test_aliases_that_were_set_around_the_guard(entries):
    governance = {
        "churn": entries.promote(1).promote(2, target="challenger").remove().governance,
        "loans": Governance.of([]),
    }
    aliases = {("churn", "champion"): "1", ("loans", "champion"): "4"}
    assert disagreements(governance, aliases) == (
        "The challenger of 'churn' must be version 2, as the ledger says, got no version.",
        "The champion of 'churn' must be no version, as the ledger says, got version 1.",
        "The champion of 'loans' must be no version, as the ledger says, got version 4.",
    )

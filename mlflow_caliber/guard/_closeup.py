"""What stands on the pages about one version, about two, and about the audit log; and the JSON that they fetch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_caliber.evidence import Evidence
from mlflow_caliber.exceptions import CaliberError
from mlflow_caliber.gate import ApprovalPolicy, TargetPolicy
from mlflow_caliber.gate.registry import TAG_GATE_STATUS
from mlflow_caliber.guard._case import Case
from mlflow_caliber.guard._desk import Desk, link, run_link
from mlflow_caliber.guard._measured import FIGURES, IN_LISTS, described, numbers
from mlflow_caliber.guard._overview import PER_PAGE, held, page_number, pages
from mlflow_caliber.guard._words import age, in_words, moment, said_more, shown
from mlflow_caliber.ledger import Entry

__all__ = ["audit", "compare", "comparison", "examined", "figure", "measured", "version"]

Arguments = Mapping[str, Any]
_READ_AT_ONCE = 5_000
"""Entries that are verified whenever somebody looks; a longer log takes seconds, so it is verified when asked for."""


# --- one version -----------------------------------------------------------------------------------------------------


def version(desk: Desk, arguments: Arguments) -> dict[str, Any]:
    """One version, without its decision: that takes a moment, so the page fetches it."""
    name, number = _needed(arguments, "name"), _needed(arguments, "version")
    listed, now = desk.listed(name, number), desk.now()
    place = _target(desk, arguments)
    governance = desk.governor.governance(name)
    holders = desk.catalog.holders(desk.targets(), name).get(name, {})
    frozen, before = governance.freeze(place.target, now), governance.previous(place.target)
    about = [each for each in desk.governor.ledger.entries(model=name) if each.version == number]
    holds, may_update = holders.get(place.target) == number, desk.may("update")
    return {
        "name": name,
        "listed": listed,
        "created": moment(listed.created_at),
        "status": listed.tags.get(TAG_GATE_STATUS),
        "target": place.target,
        "targets": [
            {"target": each, "url": link("version", name=name, version=number, target=each)}
            for each, _ in desk.targets()
        ],
        "held": held(name, place.target, holders.get(place.target), governance, now),
        "holds": holds,
        "frozen": frozen,
        "back_to": before.version if holds and before is not None else None,
        "trail": [_said(each) for each in reversed(about)][:PER_PAGE],
        "others": [each.version for each in desk.catalog.versions(name, limit=20) if each.version != number],
        "run_url": run_link(desk.measured.experiment(listed.run_id), listed.run_id) if listed.run_id else None,
        "may_update": may_update,
        "may_manage": may_update and desk.may("manage"),  # who may not even update need not be asked about
    }


def examined(desk: Desk, arguments: Arguments) -> dict[str, Any]:
    """The policy held against a version, without writing anything."""
    name, number = _needed(arguments, "name"), _needed(arguments, "version")
    place, listed = _target(desk, arguments), desk.listed(name, number)
    case = desk.governor.examine(name, number, place.target)
    decision, run_id = case.examined.decision, case.examined.run_id
    _, evidence = desk.measured.evidence(name, listed, run_id)
    return {
        "name": name,
        "version": number,
        "target": place.target,
        "verdict": decision.verdict,
        "status": case.status,
        "holder": case.holder,
        "rules": list(decision.to_dict()["rules"]),
        "policy_sha256": decision.policy_sha256,
        "model_digest": decision.model_digest,
        "expires_at": decision.expires_at,
        "override": None if case.override is None else case.override.to_dict(),
        "evidence": _evidence(desk, evidence, run_id),
        "approvals": _approvals(desk, case),
    }


def _evidence(desk: Desk, evidence: Evidence, run_id: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "run_url": run_link(desk.measured.experiment(run_id), run_id),
        "sha256": evidence.sha256,
        "age": age(evidence.created_at, desk.now()),
        "written": moment(evidence.created_at),
        **{key: value for key, value in described(evidence).items() if key != "curve"},
    }


def _approvals(desk: Desk, case: Case) -> dict[str, Any]:
    decision, place, name = case.examined.decision, case.target, case.identity.name
    grounds = {"policy_sha256": decision.policy_sha256, "evidence_sha256": decision.evidence_sha256}
    given = case.governance.approvals(case.identity, place.target, **grounds)
    last = {entry.actor: entry for entry in desk.governor.ledger.entries(model=name) if entry.action == "approve"}
    person = desk.person
    return {
        "wanted": 0 if place.approvals is None else place.approvals.count,
        "counted": list(decision.approvals),
        "given": [_approval(last.get(who), who) for who in given],
        "mine": person in given,
        "why_not": _why_not(desk, case, person),
    }


def _approval(entry: Entry | None, who: str) -> dict[str, str]:
    at, comment = ("", "") if entry is None else (moment(entry.at), shown(entry.detail.get("comment", ""), 1000))
    return {"by": who, "at": at, "comment": comment}


def _why_not(desk: Desk, case: Case, person: str | None) -> str | None:
    """Why the reader cannot approve; None if, as far as is known, they can."""
    demand: ApprovalPolicy | None = case.target.approvals
    if person is None:
        return "Approvals take a server that knows its users."
    if demand is None:
        return f"The policy asks for no approvals for {case.target.target}."
    if demand.approvers and _same(person) not in {_same(each) for each in demand.approvers}:
        return f"The policy names who approves: {', '.join(demand.approvers)}."
    identity = case.identity
    authors = desk.governor.ledger.authors(identity.name, identity.version, identity.created_at)
    if demand.not_author and _same(person) in {_same(each) for each in authors}:
        return "This version is yours, so somebody else has to approve it."
    return None


def _same(person: str) -> str:
    return person.strip().casefold()


def measured(desk: Desk, arguments: Arguments) -> dict[str, Any]:
    """The numbers of one version for a list, from the evidence that the gate last decided on."""
    listed = desk.listed(_needed(arguments, "name"), _needed(arguments, "version"))
    evidence = desk.measured.brief(listed)
    if evidence is None:
        return {"evidence": None}
    about = {"age": age(evidence.created_at, desk.now()), "written": moment(evidence.created_at)}
    return {"evidence": {**about, "n": evidence.data.n, "numbers": numbers(evidence.reliability, IN_LISTS)}}


def figure(desk: Desk, arguments: Arguments) -> str:
    """A figure of a version's evidence."""
    name = _needed(arguments, "name")
    listed = desk.listed(name, _needed(arguments, "version"))
    _, evidence = desk.measured.evidence(name, listed, arguments.get("run"))
    return desk.measured.figure(evidence, arguments.get("figure", next(iter(FIGURES))))


# --- two versions ----------------------------------------------------------------------------------------------------


def compare(desk: Desk, arguments: Arguments) -> dict[str, Any]:
    """The page that compares two versions; it fetches the comparison."""
    name = _needed(arguments, "name")
    versions = desk.catalog.versions(name, limit=200)
    numbered = [each.version for each in versions]
    first, second = (arguments.get(key) or None for key in ("a", "b"))
    return {"name": name, "numbered": numbered, "a": first, "b": second, "ready": first and second}


def comparison(desk: Desk, arguments: Arguments) -> dict[str, Any]:
    """Two versions beside each other."""
    name = _needed(arguments, "name")
    found = desk.measured.compare(
        name, desk.listed(name, _needed(arguments, "a")), desk.listed(name, _needed(arguments, "b"))
    )
    for side in ("a", "b"):
        found[side]["age"] = age(found[side]["created_at"], desk.now())
        found[side]["run_url"] = run_link(desk.measured.experiment(found[side]["run_id"]), found[side]["run_id"])
    return found


# --- the audit log ---------------------------------------------------------------------------------------------------


def audit(desk: Desk, arguments: Arguments) -> dict[str, Any]:
    """The trail of a model, or of all of them, the newest first."""
    name, number = arguments.get("name") or None, page_number(arguments)
    try:
        entries, total = _entries(desk, name, number)
        length, problem = desk.governor.ledger.head().seq, None
    except CaliberError as error:
        entries, total, length, problem = (), 0, 0, str(error)
    return {
        "name": name,
        "entries": [_said(each) for each in entries],
        "total": total,
        "turn": pages("audit", number, total, PER_PAGE, name=name),
        "problem": problem,
        "length": length,
        "at_once": length <= _READ_AT_ONCE,
    }


def _entries(desk: Desk, name: str | None, number: int) -> tuple[tuple[Entry, ...], int]:
    """One page of entries, the newest first, and how many there are in all."""
    ledger, newest = desk.governor.ledger, number * PER_PAGE
    if name is not None:
        every = ledger.entries(model=name)
        return every[::-1][newest : newest + PER_PAGE], len(every)
    # Of all models the numbers have no gaps, so that a page of them can be read by itself.
    total = ledger.head().seq
    end = total - newest
    if end <= 0:
        return (), total
    begin = max(0, end - PER_PAGE)
    return ledger.entries(after=begin, limit=end - begin)[::-1], total


def _said(entry: Entry) -> dict[str, Any]:
    signed = None if entry.signature is None else entry.signature.split(",")[1:2]
    return {
        "seq": entry.seq,
        "at": moment(entry.at),
        "exactly": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "model": entry.model,
        "model_url": link("model", name=entry.model),
        "words": in_words(entry),
        "more": said_more(entry),
        "sha256": entry.sha256,
        "previous": entry.previous_sha256,
        "signed": signed[0] if signed else None,
    }


# --- arguments -------------------------------------------------------------------------------------------------------


def _needed(arguments: Arguments, key: str) -> str:
    value = arguments.get(key)
    if not isinstance(value, str) or not value:
        raise MlflowException.invalid_parameter_value(f"{key} must be in the address, got none.")
    return value


def _target(desk: Desk, arguments: Arguments) -> TargetPolicy:
    first = next(iter(desk.governor.policy.targets))
    return desk.governor.policy.target(arguments.get("target") or first)

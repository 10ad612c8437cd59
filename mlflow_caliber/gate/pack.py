"""The audit pack: everything about one version's hold on one target, as one JSON and one page.

Pure but for the loader of the evidence that it is given: what the ledger, the registry and the store say comes in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import yaml

from mlflow_caliber._version import __version__
from mlflow_caliber.evidence import Evidence
from mlflow_caliber.exceptions import CaliberError
from mlflow_caliber.gate._governance import ALL_TARGETS, Governance, Holding
from mlflow_caliber.gate.policy import GatePolicy

if TYPE_CHECKING:
    from mlflow_caliber.ledger import Entry, Verification

__all__ = ["AuditPack", "audit_pack"]

FORMAT = 1
NO_STORE = "No store was given, so nothing is said of what happened since."


@dataclass(frozen=True, kw_only=True)
class AuditPack:
    """
    What :func:`audit_pack` has put together.

    Attributes
    ----------
    created_at : str
        ISO 8601, with its zone.
    parts : mapping
        ``subject``, ``decision``, ``policy``, ``evidence``, ``approvals``, ``overrides``, ``freezes``, ``ledger`` and
        ``live``; where something is missing its ``note`` says why.
    """

    created_at: str
    parts: Mapping[str, Any]

    @property
    def sha256(self) -> dict[str, str]:
        """The digest of the canonical JSON of each part."""
        return {name: f"sha256:{hashlib.sha256(_canonical(part)).hexdigest()}" for name, part in self.parts.items()}

    def to_json(self) -> bytes:
        """Canonical JSON, with the digests of the parts."""
        head = {"format_version": FORMAT, "caliber_version": __version__, "created_at": self.created_at}
        return _canonical({**head, "parts": dict(self.parts), "sha256": self.sha256})

    def to_html(self) -> str:
        """One page that loads nothing from anywhere."""
        from mlflow_caliber.gate._pack_page import render_pack  # it draws, which takes seconds to import

        return render_pack(self)


def audit_pack(
    name: str,
    version: str,
    target: str,
    *,
    entries: Sequence[Entry],
    now: datetime,
    verification: Verification | None = None,
    policy: GatePolicy | None = None,
    evidence: Callable[[str], Evidence] | None = None,
    live: Mapping[str, Any] | None = None,
) -> AuditPack:
    """
    Put together what there is to know of a version's hold on a target.

    Parameters
    ----------
    name, version, target : str
        The registered model, its version, and the alias or stage.
    entries : sequence of Entry
        All entries of the model, from the ledger.
    now : datetime
        The time, with its zone.
    verification : Verification, optional
        What a verification of the whole ledger found.
    policy : GatePolicy, optional
        The policy as it is now; shown if it is the one that was decided on. The ledger's own copy goes first.
    evidence : callable, optional
        Gives the evidence of a run by the run's id; a CaliberError is noted.
    live : mapping, optional
        ``Observation.to_dict()`` of what production said since, or a ``note`` why there is none.

    Returns
    -------
    AuditPack

    Examples
    --------
    >>> from datetime import UTC
    >>> pack = audit_pack("churn", "3", "champion", entries=[], now=datetime(2026, 11, 22, tzinfo=UTC))
    >>> pack.parts["decision"]["note"]
    'The ledger holds no decision about version 3 as champion.'
    >>> sorted(pack.sha256) == sorted(pack.parts)
    True
    """
    about = [entry for entry in entries if entry.version == version and entry.target == target]
    decided = _last(about, "promote") or _last(about, "gate")
    decision = {} if decided is None else decided.detail["decision"]
    parts = {
        "subject": _subject(name, version, target, Governance.of(entries), decided),
        "decision": _decision(version, target, decided),
        "policy": _policy(decision.get("policy_sha256"), decided, policy),
        "evidence": _evidence(decision, evidence),
        "approvals": _approvals(about, decision),
        "overrides": [_said(entry) for entry in about if entry.action == "override"],
        "freezes": [_said(entry) for entry in entries if _freezes(entry, target)],
        "ledger": _ledger(entries, verification),
        "live": {"note": NO_STORE} if live is None else dict(live),
    }
    return AuditPack(created_at=now.isoformat(timespec="seconds"), parts=parts)


def _subject(name: str, version: str, target: str, governance: Governance, decided: Entry | None) -> dict[str, Any]:
    holder = governance.holder(target)
    held = [holding for holding in governance.history(target) if holding.version == version]
    return {
        "name": name,
        "version": version,
        "target": target,
        "identity": _identity(held, decided),
        "holds_now": holder is not None and holder.version == version,
        "holder": None if holder is None else holder.version,
        "holdings": [holding.to_dict() for holding in held],
    }


def _identity(held: Sequence[Holding], decided: Entry | None) -> dict[str, Any] | None:
    if held:
        return held[-1].identity.to_dict()
    return None if decided is None else dict(decided.detail["identity"])


def _decision(version: str, target: str, decided: Entry | None) -> dict[str, Any]:
    if decided is None:
        return {"note": f"The ledger holds no decision about version {version} as {target}."}
    note = "" if decided.action == "promote" else "The version was gated and not promoted."
    return {**_said(decided), "note": note}


def _policy(sha256: str | None, decided: Entry | None, given: GatePolicy | None) -> dict[str, Any]:
    """The policy that was decided on, if it can be had: its digest says whether it is the one."""
    if sha256 is None or decided is None:
        return {"sha256": None, "content": None, "text": "", "note": "There is no decision, so there is no policy."}
    for found in (_kept(decided), given):
        if found is not None and found.sha256 == sha256:
            content = found.to_dict()
            text = yaml.safe_dump({"gate": content}, sort_keys=False, allow_unicode=True)
            return {"sha256": sha256, "content": content, "text": text, "note": ""}
    other = "The policy that was given is another one." if given is not None else "No policy was given."
    return {"sha256": sha256, "content": None, "text": "", "note": f"Only the digest is known. {other}"}


def _kept(decided: Entry) -> GatePolicy | None:
    """The copy that the entry holds."""
    content = decided.detail.get("policy")
    try:
        return None if content is None else GatePolicy.from_dict(deepcopy(content))
    except CaliberError:
        return None  # of another version of this package; the digest stays


def _evidence(decision: Mapping[str, Any], load: Callable[[str], Evidence] | None) -> dict[str, Any]:
    run_id, sha256 = decision.get("evidence_run_id"), decision.get("evidence_sha256")
    part: dict[str, Any] = {"run_id": run_id, "sha256": sha256, "matches": None, "content": None}
    if run_id is None or load is None:
        why = "There is no decision, so there is no evidence." if run_id is None else "No registry was asked for it."
        return {**part, "note": why}
    try:
        found = load(run_id)
    except CaliberError as error:
        return {**part, "note": str(error)}
    matches = found.sha256 == sha256
    note = "" if matches else f"The run now holds other evidence ({found.sha256}) than was decided on."
    return {**part, "matches": matches, "content": found.to_dict(), "note": note}


def _approvals(about: Iterable[Entry], decision: Mapping[str, Any]) -> dict[str, Any]:
    words = [_said(entry) for entry in about if entry.action in ("approve", "withdraw")]
    return {"counted": list(decision.get("approvals") or ()), "words": words}


def _ledger(entries: Sequence[Entry], verification: Verification | None) -> dict[str, Any]:
    checked = None if verification is None else verification.to_dict()
    note = "" if checked else "The chain was not verified."
    return {"entries": [entry.to_dict() for entry in entries], "verification": checked, "note": note}


def _freezes(entry: Entry, target: str) -> bool:
    return entry.action in ("freeze", "unfreeze") and (entry.target or ALL_TARGETS) in (target, ALL_TARGETS)


def _last(entries: Sequence[Entry], action: str) -> Entry | None:
    return next((entry for entry in reversed(entries) if entry.action == action), None)


def _said(entry: Entry) -> dict[str, Any]:
    """An act: who, when, what, and its own detail."""
    names = ("seq", "at", "actor", "action", "target")
    return {**{name: getattr(entry, name) for name in names}, **entry.detail}


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

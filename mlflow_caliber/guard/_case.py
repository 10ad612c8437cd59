"""What a promotion is decided on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from mlflow_caliber.gate import Examination, Governance, Override, TargetPolicy, VersionIdentity
from mlflow_caliber.guard._registry import Registry

__all__ = ["BINDING", "Case", "Facts", "condensed", "facts_of", "holder_of"]

BINDING = frozenset({"promote", "rollback", "remove", "withdraw", "freeze", "expire", "delete", "rename"})
"""Acts after which a decision made before them may be another one; what only helps a version needs no new look."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that a promotion is decided on; what of it may change meanwhile is checked again in the transaction."""

    target: TargetPolicy
    identity: VersionIdentity
    holder: str | None
    governance: Governance
    seq: int
    examined: Examination
    override: Override | None

    @property
    def status(self) -> str | None:
        """``passed`` or ``overridden``; None if the version may not have the target."""
        if self.examined.decision.verdict == "pass":
            return "passed"
        return None if self.override is None else "overridden"


@dataclass(frozen=True)
class Facts:
    """A version's row: who it is, where its files are, and its tags."""

    described: dict[str, Any]
    location: str
    tags: dict[str, str]

    def identity(self, model_digest: str) -> VersionIdentity:
        """Who it is, with these files."""
        return VersionIdentity(**self.described, model_digest=model_digest)


def facts_of(session: Session, name: str, version: str) -> Facts:
    """What the registry says of a version now."""
    registry = Registry(session, name)
    row = registry.version(version)
    described = {
        "name": row.name,
        "version": str(row.version),
        "created_at": int(row.creation_time),
        "source": str(row.source),
        "run_id": row.run_id or None,
    }
    return Facts(described, str(row.storage_location or row.source), registry.tags(str(row.version)))


def holder_of(session: Session, name: str, target: str, kind: str) -> str | None:
    """Who holds an alias or stage now."""
    registry = Registry(session, name)
    return registry.alias_holder(target) if kind == "alias" else registry.stage_holder(target)


def condensed(case: Case) -> dict[str, Any]:
    """The decision as the ledger keeps it: what was asked, what was found, and on what."""
    decision = case.examined.decision
    rules = [{"rule": each.rule, "verdict": each.verdict, "sentence": each.sentence[:500]} for each in decision.rules]
    return {
        "target": decision.target,
        "status": case.status or decision.verdict,
        "verdict": decision.verdict,
        "rules": rules[:50],
        "policy_sha256": decision.policy_sha256,
        "evidence_sha256": decision.evidence_sha256,
        "evidence_run_id": case.examined.run_id,
        "champion_evidence_sha256": decision.champion_evidence_sha256,
        "approvals": list(decision.approvals),
        "expires_at": decision.expires_at,
    }

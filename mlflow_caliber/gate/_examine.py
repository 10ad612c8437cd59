"""Evidence is found, believed and held against the policy; nothing is written.

The gate of a client and the guard of a server differ in how they know versions, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

from mlflow import MlflowClient

from mlflow_caliber._signing import Keyring
from mlflow_caliber.evidence import TAG_MODEL_DIGEST, Evidence, load_rows, short_digest
from mlflow_caliber.exceptions import EvidenceError
from mlflow_caliber.gate._comparison import PairedRows
from mlflow_caliber.gate._decision import GateDecision, decide
from mlflow_caliber.gate._facts import evidence_facts, paired_history, sequential_tag, used_before
from mlflow_caliber.gate._finder import EvidenceFinder
from mlflow_caliber.gate.policy import GatePolicy

__all__ = ["Examination", "Opponent", "VersionFacts", "examine"]

TAG_GATE_STATUS = "caliber_gate_status"
TAG_POLICY_SHA256 = "caliber_policy_sha256"
TAG_EVIDENCE_RUN_ID = "caliber_evidence_run_id"
TAG_EVIDENCE_SHA256 = "caliber_evidence_sha256"


class Opponent(NamedTuple):
    """The version to compare with: the digest of its files, and who it is, for sentences."""

    digest: str
    who: str


class VersionFacts(Protocol):
    """What is known of the version that asks."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def model_digest(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Examination:
    """
    A decision, and where its evidence lies.

    Parameters
    ----------
    decision : GateDecision
        On the version.
    run_id : str
        The run with the evidence.
    champion : str or None
        The digest of the model that it was compared with.
    """

    decision: GateDecision
    run_id: str
    champion: str | None

    def tags(self, status: str | None = None) -> dict[str, str]:
        """
        What a version shows of it: the verdict (or another status) and what it rests on.

        The status is the last one, so that it never stands above older hashes.
        """
        return {
            TAG_MODEL_DIGEST: self.decision.model_digest,
            TAG_POLICY_SHA256: self.decision.policy_sha256,
            TAG_EVIDENCE_RUN_ID: self.run_id,
            TAG_EVIDENCE_SHA256: self.decision.evidence_sha256,
            **sequential_tag(self.decision, self.champion or ""),
            TAG_GATE_STATUS: status or self.decision.status,
        }


def examine(
    client: MlflowClient,
    version: VersionFacts,
    target: str,
    policy: GatePolicy,
    *,
    opponent_of: Callable[[str], Opponent | None],
    now: datetime,
    approved: Callable[[str], Collection[str]] | None = None,
    authors: Collection[str] = (),
    tags: Mapping[str, str],
    evidence_run: str | None = None,
    evidence_keys: Keyring | None = None,
) -> Examination:
    """
    Hold a policy against a version.

    Parameters
    ----------
    client : MlflowClient
        Reads runs and their artifacts.
    version : VersionFacts
        The version that asks, with the digest of its files.
    target : str
        The alias or stage that it asks for.
    policy : GatePolicy
        The policy.
    opponent_of : callable
        Whom to compare with: the version that an alias or stage belongs to, if any.
    now : datetime
        The time, with its zone.
    approved : callable, optional
        Who approved the version on the evidence with this digest.
    authors : collection of str
        Who made it.
    tags : mapping of str to str
        Of the version.
    evidence_run : str, optional
        The run with the evidence; by default the newest one on this very model.
    evidence_keys : Keyring, optional
        Verify evidence.

    Returns
    -------
    Examination

    Raises
    ------
    ConfigError
        If the policy does not name the target.
    EvidenceError
        If there is no evidence on this version, or none that can be believed.
    """
    wanted = policy.target(target)
    finder = EvidenceFinder(client, evidence_keys, demanded=wanted.signed_evidence)
    who = f"version {version.version} of {version.name!r}"
    if evidence_run is not None:
        found: tuple[str, Evidence] | None = (evidence_run, finder.bound(evidence_run, version.model_digest, who))
    else:
        found = finder.newest(version.model_digest, who)
    if found is None:
        raise EvidenceError(
            f"Version {version.version} of {version.name!r} must have evidence, got no run that evaluated its model "
            f"({short_digest(version.model_digest)}): evaluate it with evaluators='caliber'."
        )
    run_id, evidence = found
    opponent = None if wanted.versus is None else opponent_of(wanted.versus)
    theirs = {} if opponent is None else _compared_with(finder, opponent, evidence, tags)
    decision = decide(
        policy,
        evidence,
        target=target,
        now=now,
        candidate_rows=partial(load_rows, evidence, run_id, client),
        approvals=() if approved is None else approved(evidence.sha256),
        authors=authors,
        tags=tags,
        **evidence_facts(client, wanted, evidence, run_id, evidence_keys),
        **theirs,
    )
    return Examination(decision=decision, run_id=run_id, champion=None if opponent is None else opponent.digest)


def _compared_with(
    finder: EvidenceFinder, opponent: Opponent, ours: Evidence, tags: Mapping[str, str]
) -> dict[str, Any]:
    """The arguments of :func:`decide` about the version to compare with."""
    history = partial(_history, finder, ours, opponent.digest, tags)
    found = finder.newest(opponent.digest, opponent.who, data_digest=ours.data.digest, strict=True)
    if found is None:
        data = ours.data.name or short_digest(ours.data.digest)
        return {
            "no_evidence": f"{opponent.who}, which was never evaluated on the same data ({data})",
            "history": history,
        }
    run_id, theirs = found
    return {"champion": theirs, "champion_rows": partial(load_rows, theirs, run_id, finder.client), "history": history}


def _history(finder: EvidenceFinder, ours: Evidence, champion: str, tags: Mapping[str, str]) -> tuple[PairedRows, ...]:
    candidate = "" if ours.model is None else ours.model.digest
    return paired_history(finder, candidate, champion, used=used_before(tags, champion))

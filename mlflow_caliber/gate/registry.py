"""The gate and MLflow's registry: evidence is read, tags are written, aliases and legacy stages are moved.

Evidence is bound to a version by the digest of the version's own files, recomputed here at every call; tags are the
visible record of a decision and never its ground. MLflow offers no compare-and-set on aliases, so every move looks
before and after, and says so when somebody else moved in between. Nothing here stops a person who may write to the
registry from moving an alias by hand; that takes a guard inside the server.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mlflow import MlflowClient

from mlflow_caliber.evidence import (
    TAG_MODEL_DIGEST,
    Evidence,
    find_evidence,
    identify_model,
    load_evidence,
    load_rows,
    short_digest,
)
from mlflow_caliber.exceptions import EvidenceError, PromotionError
from mlflow_caliber.gate._decision import GateDecision, decide
from mlflow_caliber.gate.policy import GatePolicy, canonical_stage

__all__ = [
    "TAG_EVIDENCE_RUN_ID",
    "TAG_EVIDENCE_SHA256",
    "TAG_GATE_STATUS",
    "TAG_POLICY_SHA256",
    "Move",
    "gate_version",
    "promote",
    "rollback",
]

# Tags of a model version, beside TAG_MODEL_DIGEST.
TAG_GATE_STATUS = "caliber_gate_status"
TAG_POLICY_SHA256 = "caliber_policy_sha256"
TAG_EVIDENCE_RUN_ID = "caliber_evidence_run_id"
TAG_EVIDENCE_SHA256 = "caliber_evidence_sha256"

_STATUS = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}


@dataclass(frozen=True, kw_only=True)
class Move:
    """
    What a promotion or rollback did.

    Parameters
    ----------
    name, target : str
        The registered model, and the alias or stage.
    version : str
        The version that now holds the target.
    former : str or None
        The version that held it before; None if none did.
    changed : bool
        False when the version held the target already.
    sentence : str
        The same for people.
    decision : GateDecision, optional
        The gate's, for a promotion.
    """

    name: str
    target: str
    version: str
    former: str | None
    changed: bool
    sentence: str
    decision: GateDecision | None = None

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)


# --- gate ------------------------------------------------------------------------------------------------------------


def gate_version(
    name: str,
    version: str | int,
    target: str,
    policy: GatePolicy | str | Path,
    *,
    evidence_run: str | None = None,
    now: datetime | None = None,
) -> GateDecision:
    """
    Gate a model version, and write the verdict to its tags.

    MLflow's tracking and registry URI are used as they are set.

    Parameters
    ----------
    name, version
        The registered model and its version.
    target : str
        The alias or legacy stage that it is to get; the policy must name it.
    policy : GatePolicy, str or Path
        The policy, or the ``caliber.yaml`` that holds it.
    evidence_run : str, optional
        The run with the evidence; by default the newest one on this very model.
    now : datetime, optional
        The time to judge the evidence's age by; by default the present.

    Returns
    -------
    GateDecision
        Whatever the verdict is; see :func:`promote` for a call that raises unless it is a pass.

    Raises
    ------
    ConfigError
        If the policy cannot be read or does not name the target.
    EvidenceError
        If there is no evidence, or if it is about another model.
    MlflowException
        If MLflow does not find the version, or refuses a tag.
    """
    policy = policy if isinstance(policy, GatePolicy) else GatePolicy.load(policy)
    policy.target(target)  # before anything is asked of MLflow
    client, version = MlflowClient(), str(version)
    client.get_model_version(name, version)  # a wrong name gets MLflow's own sentence
    run_id, evidence = _evidence_of(client, name, version, evidence_run)
    decision = decide(
        policy,
        evidence,
        target=target,
        now=now or datetime.now(UTC),
        candidate_rows=partial(load_rows, evidence, run_id, client),
        **_opponent(client, name, policy, target, evidence),
    )
    _write_verdict(client, name, version, decision, run_id)
    return decision


def _evidence_of(client: MlflowClient, name: str, version: str, run_id: str | None) -> tuple[str, Evidence]:
    """The run and evidence of a version, bound to it by the digest of its files."""
    digest = _digest(name, version)
    run_id = run_id or find_evidence(client, digest)
    if run_id is None:
        raise EvidenceError(
            f"Version {version} of {name!r} must have evidence, got no run that evaluated its model "
            f"({short_digest(digest)}): evaluate it with evaluators='caliber'."
        )
    return run_id, _load_bound(client, name, version, digest, run_id)


def _opponent(client: MlflowClient, name: str, policy: GatePolicy, target: str, ours: Evidence) -> dict[str, Any]:
    """The arguments of :func:`decide` about the version to compare with."""
    versus = policy.target(target).versus
    holder = None if versus is None else _place(versus, _kind(policy, versus)).holder(client, name)
    if holder is None:
        return {}
    digest = _digest(name, holder)
    run_id = find_evidence(client, digest, data_digest=ours.data.digest)
    if run_id is None:
        data = ours.data.name or short_digest(ours.data.digest)
        return {"no_evidence": f"{versus} is version {holder}, which was never evaluated on the same data ({data})"}
    theirs = _load_bound(client, name, holder, digest, run_id)
    return {"champion": theirs, "champion_rows": partial(load_rows, theirs, run_id, client)}


def _digest(name: str, version: str) -> str:
    return identify_model(f"models:/{name}/{version}").digest


def _load_bound(client: MlflowClient, name: str, version: str, digest: str, run_id: str) -> Evidence:
    evidence = load_evidence(run_id, client)
    if evidence.model is None or evidence.model.digest != digest:
        about = "none" if evidence.model is None else f"another one ({short_digest(evidence.model.digest)})"
        raise EvidenceError(
            f"Evidence for version {version} of {name!r} must be about its model ({short_digest(digest)}), "
            f"got run {run_id}, which is about {about}."
        )
    return evidence


def _write_verdict(client: MlflowClient, name: str, version: str, decision: GateDecision, run_id: str) -> None:
    tags = {
        TAG_MODEL_DIGEST: decision.model_digest,
        TAG_POLICY_SHA256: decision.policy_sha256,
        TAG_EVIDENCE_RUN_ID: run_id,
        TAG_EVIDENCE_SHA256: decision.evidence_sha256,
        TAG_GATE_STATUS: _STATUS[decision.verdict],  # last, so that it never stands above older hashes
    }
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)


# --- promote and roll back -------------------------------------------------------------------------------------------


def promote(
    name: str,
    version: str | int,
    target: str,
    policy: GatePolicy | str | Path,
    *,
    evidence_run: str | None = None,
    now: datetime | None = None,
) -> Move:
    """
    Gate a model version anew and, if it passes, give it the alias or legacy stage.

    The former holder gets the alias ``previous`` (``previous_<target>`` for targets other than ``champion``), and its
    number is kept in the version's tag ``caliber_previous_champion`` (``caliber_previous_<target>``), so that
    :func:`rollback` finds back. Promoting the present holder changes nothing.

    Parameters
    ----------
    name, version, target, policy, evidence_run, now
        As in :func:`gate_version`.

    Returns
    -------
    Move
        What was done, and on which decision.

    Raises
    ------
    PromotionError
        If the gate does not pass (then with the ``decision``), or if another promoter came in between.
    ConfigError, EvidenceError, MlflowException
        As in :func:`gate_version`.
    """
    policy = policy if isinstance(policy, GatePolicy) else GatePolicy.load(policy)
    wanted, client, version = policy.target(target), MlflowClient(), str(version)
    place = _place(wanted.target, wanted.kind)
    former = place.holder(client, name)
    decision = gate_version(name, version, target, policy, evidence_run=evidence_run, now=now)
    if decision.verdict != "pass":
        raise PromotionError(
            f"Version {version} of {name!r} does not become {place}: {_STATUS[decision.verdict]}. "
            + " ".join(decision.reasons),
            decision,
        )
    moved = partial(Move, name=name, target=str(place), version=version, former=former, decision=decision)
    if former == version:
        return moved(changed=False, sentence=f"Version {version} of {name!r} is {place} already; nothing was changed.")
    _check_unmoved(client, name, place, former)
    _remember(client, name, version, place, former)
    _put(client, name, place, version)
    instead = "" if former is None else f", instead of version {former}"
    return moved(changed=True, sentence=f"Version {version} of {name!r} is now {place}{instead}.")


def rollback(name: str, target: str = "champion", *, kind: str | None = None) -> Move:
    """
    Give an alias or legacy stage back to the version that held it before the present one.

    Each call goes one promotion further back; a call never returns to a version that was rolled back. It is not gated:
    the version was promoted once, and a rollback must work in an emergency.

    Parameters
    ----------
    name : str
        The registered model.
    target : str
        The alias or legacy stage.
    kind : {"alias", "stage"}, optional
        Which of the two it is; by default Staging and Production are stages.

    Returns
    -------
    Move
        What was done.

    Raises
    ------
    PromotionError
        If nobody holds the target, if the registry knows no earlier holder, or if another promoter came in between.
    MlflowException
        If MLflow does not find the model.
    """
    client, place = MlflowClient(), _place(target, kind)
    holder = place.holder(client, name)
    if holder is None:
        raise PromotionError(f"A rollback of {name!r} must find a {place} to roll back from, got none.")
    earlier = _Alias(place.previous_alias).holder(client, name) or _tag(client, name, holder, place)
    if earlier is None:
        raise PromotionError(
            f"A rollback of {name!r} must know the {place} before version {holder}, got no alias "
            f"{place.previous_alias!r} and no tag {place.previous_tag!r} on it."
        )
    _check_unmoved(client, name, place, holder)
    _put(client, name, place, earlier)
    _forget(client, name, holder, place, earlier)
    sentence = f"Version {earlier} of {name!r} is {place} again, instead of version {holder}."
    return Move(name=name, target=str(place), version=earlier, former=holder, changed=True, sentence=sentence)


def _check_unmoved(client: MlflowClient, name: str, place: Place, expected: str | None) -> None:
    found = place.holder(client, name)
    if found != expected:
        raise PromotionError(
            f"The {place} of {name!r} must still be {_version(expected)}, got {_version(found)}: somebody else moved "
            "it meanwhile. Nothing was changed; gate again."
        )


def _put(client: MlflowClient, name: str, place: Place, version: str) -> None:
    """Move the target and look again, since the registry has no compare-and-set."""
    place.put(client, name, version)
    found = place.holder(client, name)
    if found != version:
        raise PromotionError(
            f"The {place} of {name!r} must be version {version} after it was set, got {_version(found)}: somebody else "
            "moved it at the same time."
        )


def _version(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"


# --- what was there before -------------------------------------------------------------------------------------------


def _remember(client: MlflowClient, name: str, version: str, place: Place, former: str | None) -> None:
    """Written before the move: an interrupted promotion leaves the old holder in place, and rollback in order."""
    if former is None:
        return
    client.set_model_version_tag(name, version, place.previous_tag, former)
    _Alias(place.previous_alias).put(client, name, former)


def _forget(client: MlflowClient, name: str, undone: str, place: Place, holder: str) -> None:
    """After a rollback the alias shows the next step back, if the registry knows one."""
    if _tag(client, name, undone, place) is not None:
        client.delete_model_version_tag(name, undone, place.previous_tag)
    further = _tag(client, name, holder, place)
    if further is None:
        client.delete_registered_model_alias(name, place.previous_alias)
    else:
        _Alias(place.previous_alias).put(client, name, further)


def _tag(client: MlflowClient, name: str, version: str, place: Place) -> str | None:
    value = client.get_model_version(name, version).tags.get(place.previous_tag)
    return None if value is None else str(value)


# --- aliases and stages ----------------------------------------------------------------------------------------------


class Place(Protocol):
    """What a version can be promoted to."""

    @property
    def previous_alias(self) -> str: ...
    @property
    def previous_tag(self) -> str: ...
    def holder(self, client: MlflowClient, name: str) -> str | None: ...
    def put(self, client: MlflowClient, name: str, version: str) -> None: ...


@dataclass(frozen=True)
class _Named:
    target: str

    def __str__(self) -> str:
        return self.target

    @property
    def previous_alias(self) -> str:
        return "previous" if self.target == "champion" else f"previous_{self.target.lower()}"

    @property
    def previous_tag(self) -> str:
        # Unity Catalog rejects hyphens in the keys of tags.
        return f"caliber_previous_{self.target.lower().replace('-', '_')}"


class _Alias(_Named):
    def holder(self, client: MlflowClient, name: str) -> str | None:
        version = client.get_registered_model(name).aliases.get(self.target)
        return None if version is None else str(version)

    def put(self, client: MlflowClient, name: str, version: str) -> None:
        client.set_registered_model_alias(name, self.target, version)


class _Stage(_Named):
    def holder(self, client: MlflowClient, name: str) -> str | None:
        client.get_registered_model(name)  # a wrong name gets MLflow's own sentence
        found = client.search_model_versions(f"name = {_quoted(name)}", max_results=1000)
        held = [int(version.version) for version in found if version.current_stage == self.target]
        return str(max(held)) if held else None

    def put(self, client: MlflowClient, name: str, version: str) -> None:
        with warnings.catch_warnings():
            # MLflow deprecates stages on every call; who names one in the policy knows.
            warnings.simplefilter("ignore", FutureWarning)
            client.transition_model_version_stage(name, version, self.target, archive_existing_versions=True)


def _quoted(name: str) -> str:
    return f'"{name}"' if "'" in name else f"'{name}'"


def _place(target: str, kind: str | None) -> Place:
    stage = canonical_stage(target)
    return _Stage(stage) if stage and kind != "alias" else _Alias(target)


def _kind(policy: GatePolicy, target: str) -> str | None:
    named = policy.targets.get(target)
    return None if named is None else named.kind

"""The gate and MLflow's registry: evidence is read, tags are written, aliases and legacy stages are moved.

Evidence is bound to a version by the digest of the version's own files, recomputed here at every call; tags are the
visible record of a decision and never its ground. MLflow offers no compare-and-set on aliases, so every move looks
before and after, and says so when somebody else moved in between. Nothing here stops a person who may write to the
registry from moving an alias by hand; that takes a guard inside the server.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mlflow import MlflowClient

from mlflow_caliber._signing import EVIDENCE_KEYS, Keyring
from mlflow_caliber.evidence import identify_model
from mlflow_caliber.exceptions import ConfigError, PromotionError
from mlflow_caliber.gate._decision import GateDecision
from mlflow_caliber.gate._examine import (
    TAG_EVIDENCE_RUN_ID,
    TAG_EVIDENCE_SHA256,
    TAG_GATE_STATUS,
    TAG_POLICY_SHA256,
    Opponent,
    examine,
)
from mlflow_caliber.gate._facts import TAG_SEQUENTIAL
from mlflow_caliber.gate._remote import RemoteGuard, find_guard
from mlflow_caliber.gate.policy import GatePolicy, canonical_stage

__all__ = [
    "TAG_EVIDENCE_RUN_ID",
    "TAG_EVIDENCE_SHA256",
    "TAG_GATE_STATUS",
    "TAG_POLICY_SHA256",
    "TAG_SEQUENTIAL",
    "Move",
    "gate_version",
    "previous_alias",
    "previous_tag",
    "promote",
    "rollback",
]


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

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Move:
        """Read :meth:`to_dict` back."""
        decision = state.get("decision")
        return cls(**{**state, "decision": None if decision is None else GateDecision.from_dict(decision)})


# --- gate ------------------------------------------------------------------------------------------------------------


def gate_version(
    name: str,
    version: str | int,
    target: str,
    policy: GatePolicy | str | Path | None = None,
    *,
    evidence_run: str | None = None,
    sequential: bool = False,
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
    policy : GatePolicy, str or Path, optional
        The policy, or the ``caliber.yaml`` that holds it. A guarded server decides by its own; a policy that is given
        has to be the same.
    evidence_run : str, optional
        The run with the evidence; by default the newest one on this very model.
    sequential : bool, default False
        Judge comparisons in pairs over every data set on which both versions were evaluated.
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
    policy = _loaded(policy, target)  # before anything is asked of MLflow
    guard = find_guard()
    if guard is not None:
        asked = _asked(name, version, target, policy, evidence_run)
        return GateDecision.from_dict(guard.post("gate", **asked, sequential=sequential or None)["decision"])
    policy = _needed(policy)
    policy = policy.sequential() if sequential else policy
    client = MlflowClient()
    registered = client.get_model_version(name, str(version))  # a wrong name gets MLflow's own sentence
    examined = examine(
        client,
        _Version(name, str(version), _digest(name, str(version))),
        target,
        policy,
        opponent_of=lambda versus: _opponent(client, name, versus, _kind(policy, versus)),
        now=now or datetime.now(UTC),
        authors=_authors(client, registered),
        tags=registered.tags,
        evidence_run=evidence_run,
        evidence_keys=Keyring.from_environment(EVIDENCE_KEYS),
    )
    for key, value in examined.tags().items():
        client.set_model_version_tag(name, str(version), key, value)
    return examined.decision


class _Version(NamedTuple):
    name: str
    version: str
    model_digest: str


def _loaded(policy: GatePolicy | str | Path | None, target: str) -> GatePolicy | None:
    """The policy, which must name the target."""
    loaded = GatePolicy.load(policy) if isinstance(policy, str | Path) else policy
    if loaded is not None:
        loaded.target(target)
    return loaded


def _needed(policy: GatePolicy | None) -> GatePolicy:
    if policy is None:
        raise ConfigError("There must be a policy, as the registry has no guard that brings its own; got none.")
    return policy


def _asked(
    name: str, version: str | int, target: str, policy: GatePolicy | None, evidence_run: str | None
) -> dict[str, Any]:
    """What a guarded server is asked; a policy of one's own has to be the server's."""
    digest = None if policy is None else policy.sha256
    asked = {"name": name, "version": str(version), "target": target, "evidence_run": evidence_run}
    return {**asked, "policy_sha256": digest}


def _authors(client: MlflowClient, version: Any) -> frozenset[str]:
    """Who made the version, as far as the registry and the run that it came from know."""
    run = None if not version.run_id else client.get_run(version.run_id)
    return frozenset(filter(None, (version.user_id, None if run is None else run.info.user_id)))


def _opponent(client: MlflowClient, name: str, versus: str, kind: str | None) -> Opponent | None:
    holder = _place(versus, kind).holder(client, name)
    return None if holder is None else Opponent(_digest(name, holder), f"{versus} is version {holder}")


def _digest(name: str, version: str) -> str:
    return identify_model(f"models:/{name}/{version}").digest


# --- promote and roll back -------------------------------------------------------------------------------------------


def promote(
    name: str,
    version: str | int,
    target: str,
    policy: GatePolicy | str | Path | None = None,
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
    policy = _loaded(policy, target)
    guard = find_guard()
    if guard is not None:
        return _promoted_by(guard, _asked(name, version, target, policy, evidence_run))
    policy = _needed(policy)
    wanted, client, version = policy.target(target), MlflowClient(), str(version)
    place = _place(wanted.target, wanted.kind)
    former = place.holder(client, name)
    decision = gate_version(name, version, target, policy, evidence_run=evidence_run, now=now)
    if decision.verdict != "pass":
        raise PromotionError(
            f"Version {version} of {name!r} does not become {place}: {decision.status}. " + " ".join(decision.reasons),
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


def _promoted_by(guard: RemoteGuard, asked: dict[str, Any]) -> Move:
    """What a guarded server does; it is asked for its reasons first, since a refusal carries none but a sentence."""
    found = guard.post("gate", **asked)
    if found["status"] is None:
        decision = GateDecision.from_dict(found["decision"])
        raise _refused(asked["name"], asked["version"], asked["target"], decision)
    return Move.from_dict(guard.post("promote", **asked))


def _refused(name: str, version: str, place: str, decision: GateDecision) -> PromotionError:
    reasons = " ".join(decision.reasons)
    return PromotionError(
        f"Version {version} of {name!r} does not become {place}: {decision.status}. {reasons}", decision
    )


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
    guard = find_guard()
    if guard is not None:
        return Move.from_dict(guard.post("rollback", name=name, target=target))
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


def previous_alias(target: str) -> str:
    """
    The alias that keeps the former holder of an alias or stage.

    Examples
    --------
    >>> previous_alias("champion"), previous_alias("Production")
    ('previous', 'previous_production')
    """
    return "previous" if target == "champion" else f"previous_{target.lower()}"


def previous_tag(target: str) -> str:
    """
    The tag of a version that keeps who held an alias or stage before it.

    Examples
    --------
    >>> previous_tag("pre-prod")
    'caliber_previous_pre_prod'
    """
    # Unity Catalog rejects hyphens in the keys of tags.
    return f"caliber_previous_{target.lower().replace('-', '_')}"


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
        return previous_alias(self.target)

    @property
    def previous_tag(self) -> str:
        return previous_tag(self.target)


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

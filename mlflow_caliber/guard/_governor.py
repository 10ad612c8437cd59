"""Who may hold a guarded alias or stage: decided outside of the transaction, checked and written inside of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import sqlalchemy as sa
from mlflow import MlflowClient
from sqlalchemy.orm import Session

from mlflow_caliber._signing import Keyring
from mlflow_caliber.exceptions import EvidenceError, InvalidInputError
from mlflow_caliber.gate import (
    GatePolicy,
    Governance,
    Holding,
    Move,
    Override,
    TargetPolicy,
    VersionIdentity,
)
from mlflow_caliber.gate.registry import TAG_SEQUENTIAL, previous_alias, previous_tag
from mlflow_caliber.guard._case import BINDING, Case, condensed, facts_of, holder_of
from mlflow_caliber.guard._examiner import Examiner
from mlflow_caliber.guard._registry import Registry, conflict, is_prompt, normalized, refusal, transaction
from mlflow_caliber.ledger import Entry, Ledger
from mlflow_caliber.signed_decision import SignedDecision, tags_of

__all__ = ["Governor"]

ANONYMOUS = "anonymous"
_A_MINUTE = 1.0 / (24.0 * 60.0)


class Governor:
    """
    Decides who holds what in one registry, and keeps the ledger of it.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of the registry's database, in which the ledger lives too.
    client : MlflowClient
        Reads runs and their artifacts.
    policy : GatePolicy
        The policy of this registry; nobody else's counts.
    ledger : Ledger
    keys : Keyring, optional
        Sign decisions.
    evidence_keys : Keyring, optional
        Verify evidence.
    actor : callable
        Who makes the present request; None if that is not known.
    """

    def __init__(
        self,
        engine: sa.Engine,
        client: MlflowClient,
        policy: GatePolicy,
        ledger: Ledger,
        *,
        keys: Keyring | None = None,
        evidence_keys: Keyring | None = None,
        actor: Callable[[], str | None],
    ) -> None:
        self.policy = policy
        self.ledger = ledger
        self._engine = engine
        self._examiner = Examiner(engine, client, policy, ledger, evidence_keys)
        self._keys = keys
        self._actor = actor
        self._guarded = frozenset((each.target, each.kind) for each in policy.targets.values())

    # --- reading -----------------------------------------------------------------------------------------------------

    def decides(self, name: str, version: str, target: str, kind: str) -> bool:
        """Whether an alias or stage is guarded for this version; prompts have aliases of their own."""
        if (target, kind) not in self._guarded:
            return False
        text = str(version)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            return True  # no prompt has such a number; the promotion says what is wrong with it
        with self._engine.connect() as connection:
            return not is_prompt(connection, name, int(text))

    def governance(self, name: str) -> Governance:
        """What the ledger says of a model."""
        return Governance.of(self.ledger.entries(model=name))

    def identify(self, name: str, version: str) -> VersionIdentity:
        """The identity of a version, with the digest of its files, computed anew."""
        return self._examiner.identify(name, version)

    def examine(
        self, name: str, version: str, target: str, *, evidence_run: str | None = None, sequential: bool = False
    ) -> Case:
        """Hold the policy against a version, without changing anything; see :meth:`Examiner.examine`."""
        return self._examiner.examine(name, version, target, evidence_run=evidence_run, sequential=sequential)

    # --- gate and promote --------------------------------------------------------------------------------------------

    def gate(
        self, name: str, version: str, target: str, *, evidence_run: str | None = None, sequential: bool = False
    ) -> Case:
        """Examine a version and write the verdict to its tags and to the ledger."""
        case = self.examine(name, version, target, evidence_run=evidence_run, sequential=sequential)
        with self._locked(case) as (session, registry):
            registry.put_tags(case.identity.version, self._verdict_tags(case))
            self._append(session, case, "gate", {"decision": condensed(case)})
        return case

    def promote(
        self,
        name: str,
        version: str,
        target: str,
        *,
        evidence_run: str | None = None,
    ) -> Move:
        """
        Decide anew and, if the version may have the alias or stage, give it in one transaction with its audit entry.

        Raises
        ------
        MlflowException
            PERMISSION_DENIED with the reasons if it may not; RESOURCE_CONFLICT if somebody else moved meanwhile.
        """
        version = normalized(version)
        try:
            case = self.examine(name, version, target, evidence_run=evidence_run)
        except EvidenceError as error:
            self._refuse(name, version, target, str(error))
        place = case.target.target
        frozen = case.governance.freeze(place, datetime.now(UTC))
        if frozen is not None:
            until = "" if frozen.until is None else f" until {frozen.until}"
            self._refuse(name, version, place, f"{place} is frozen by {frozen.actor}{until}: {frozen.reason}")
        if case.status is None:
            self._keep_what_was_seen(case)
            decision = case.examined.decision
            self._refuse(name, version, place, f"{decision.verdict}. " + " ".join(decision.reasons))
        return self._move(case)

    def _move(self, case: Case) -> Move:
        name, version, place = case.identity.name, case.identity.version, case.target.target
        moved = case.holder != version
        with self._locked(case) as (session, registry):
            tags = self._verdict_tags(case)
            if moved:
                self._put(registry, case.target, version)
                if case.holder is not None:
                    registry.put_alias(previous_alias(place), case.holder)
                tags[previous_tag(place)] = case.holder
            registry.put_tags(version, tags)
            override = None if case.override is None else case.override.to_dict()
            signed_with = None if self._keys is None else next(iter(self._keys.secrets))
            detail = {"former": case.holder, "override": override, "signature_key": signed_with}
            self._append(
                session, case, "promote", {"decision": condensed(case), "policy": self.policy.to_dict(), **detail}
            )
        instead = f", instead of version {case.holder}" if case.holder else ""
        sentence = (
            f"Version {version} of {name!r} is now {place}{instead}."
            if moved
            else (f"Version {version} of {name!r} was {place} already; its decision was renewed.")
        )
        return Move(
            name=name,
            target=place,
            version=version,
            former=case.holder,
            changed=moved,
            sentence=sentence,
            decision=case.examined.decision,
        )

    def _keep_what_was_seen(self, case: Case) -> None:
        """A sequential comparison was looked at: what it used cannot be left out later, whatever came of it."""
        seen = {key: value for key, value in case.examined.tags().items() if key == TAG_SEQUENTIAL}
        if seen:
            with self._locked(case) as (_, registry):
                registry.put_tags(case.identity.version, seen)

    def _put(self, registry: Registry, target: TargetPolicy, version: str) -> None:
        if target.kind == "alias":
            registry.put_alias(target.target, version)
        else:
            registry.put_stage(target.target, version)

    def _refuse(self, name: str, version: str, target: str, reason: str) -> NoReturn:
        """Say no, and keep that it was asked."""
        self.ledger.record(
            actor=self.actor,
            action="refuse",
            model=name,
            version=str(version),
            target=target,
            detail={"reason": reason[:4000]},
        )
        raise refusal(f"caliber gate: {target!r} on version {version} of {name!r} refused: {reason}")

    # --- roll back, expire -------------------------------------------------------------------------------------------

    def rollback(self, name: str, target: str) -> Move:
        """
        Give a target back to the version that held it before.

        It is not gated, so that it works in an emergency; but the version must be the very one that was promoted then.
        """
        wanted = self.policy.target(target)
        place, entries = wanted.target, self.ledger.entries(model=name)
        governance = Governance.of(entries)
        present, earlier = governance.holder(place), governance.previous(place)
        if present is None or earlier is None:
            raise refusal(f"A rollback of {name!r} must know who was {place} before, got no earlier promotion.")
        if earlier.override and earlier.expires_at and datetime.fromisoformat(earlier.expires_at) <= datetime.now(UTC):
            raise refusal(
                f"A rollback of {name!r} must lead to a version that may still be {place}, got version "
                f"{earlier.version}, whose override expired at {earlier.expires_at}."
            )
        identity = self.identify(name, earlier.version)
        if identity != earlier.identity:
            raise refusal(
                f"A rollback of {name!r} must find version {earlier.version} as it was promoted, got other files or "
                "another version of that number."
            )
        with self._moving(name, wanted, _last(entries), present.version) as (session, registry):
            self._put(registry, wanted, earlier.version)
            registry.put_tags(present.version, {previous_tag(place): None})
            detail = {"identity": identity.to_dict(), "former": present.version}
            self._write(session, "rollback", name, earlier.version, place, detail)
            further = Governance.of(self.ledger.entries(model=name, connection=session.connection())).previous(place)
            if further is None:
                registry.drop_alias(previous_alias(place))
            else:
                registry.put_alias(previous_alias(place), further.version)
        sentence = f"Version {earlier.version} of {name!r} is {place} again, instead of version {present.version}."
        return Move(
            name=name, target=place, version=earlier.version, former=present.version, changed=True, sentence=sentence
        )

    def expire(self, name: str, now: datetime | None = None) -> tuple[Holding, ...]:
        """Mark the passes of a model that have run out and, where the policy says so, take their targets away."""
        now, entries = now or datetime.now(UTC), self.ledger.entries(model=name)
        over = Governance.of(entries).expirations(now)
        known = [each for each in over if each.target in self.policy.targets]
        for holding in known:
            wanted = self.policy.target(holding.target)
            demoted = wanted.on_expiry == "demote"
            with self._moving(name, wanted, _last(entries), holding.version) as (session, registry):
                registry.put_tags(holding.version, {"caliber_gate_status": "expired"})
                if demoted:
                    self._drop(registry, wanted, holding.version)
                detail = {"identity": holding.identity.to_dict(), "demoted": demoted}
                self._write(session, "expire", name, holding.version, holding.target, detail)
            entries = self.ledger.entries(model=name)
        return tuple(known)

    def _drop(self, registry: Registry, target: TargetPolicy, version: str) -> None:
        if target.kind == "alias":
            registry.drop_alias(target.target)
        else:
            registry.put_stage(target.target, None)

    # --- people ------------------------------------------------------------------------------------------------------

    def approve(
        self,
        name: str,
        version: str,
        target: str,
        *,
        comment: str = "",
        withdraw: bool = False,
        evidence_sha256: str | None = None,
    ) -> tuple[str, ...]:
        """
        Approve a version for a target: these files, under this policy, on this evidence.

        Who says which evidence was looked at does not approve of another one that came meanwhile.

        Returns
        -------
        tuple of str
            Who approves of it now.

        Raises
        ------
        MlflowException
            PERMISSION_DENIED if the server does not know who asks, or if that person may not approve.
        """
        wanted, person = self.policy.target(target), self._person("An approval")
        demand = wanted.approvals
        if demand is None:
            raise refusal(f"An approval must be one that the policy asks for, got one for {wanted.target}.")
        if demand.approvers and person not in demand.approvers:
            raise refusal(f"An approver of {wanted.target} must be one that the policy names, got {person!r}.")
        case = self.examine(name, version, target)
        if demand.not_author and person in self._examiner.authors(case.identity) and not withdraw:
            raise refusal(f"An approver of version {version} must not be its author, got {person!r}.")
        decision = case.examined.decision
        if evidence_sha256 not in (None, decision.evidence_sha256):
            raise conflict("There is newer evidence than what was looked at; look at it, and approve again.")
        grounds = {"policy_sha256": decision.policy_sha256, "evidence_sha256": decision.evidence_sha256}
        standing = person in case.governance.approvals(case.identity, wanted.target, **grounds)
        if standing == withdraw:  # there is nothing to withdraw, or nothing to add, otherwise
            with self._locked(case) as (session, _):
                detail = {**grounds, "comment": comment[:2000]}
                self._append(session, case, "withdraw" if withdraw else "approve", detail)
        return self.governance(name).approvals(case.identity, wanted.target, **grounds)

    def override(self, name: str, version: str, target: str, *, reason: str, days: float) -> Override:
        """Answer for a version that does not pass: with a reason, and for a time."""
        wanted = self.policy.target(target)
        if not reason.strip():
            raise InvalidInputError("An override must have a reason, got none.")
        if not _A_MINUTE <= days <= 365.0:
            raise InvalidInputError(f"An override must last for a minute to 365 days, got {days:g} days.")
        person, identity, now = self._person("An override"), self.identify(name, version), datetime.now(UTC)
        if person in self._examiner.authors(identity):
            raise refusal(f"An override of version {identity.version} must not come from its author, got {person!r}.")
        expires_at = (now + timedelta(days=days)).isoformat(timespec="seconds")
        detail = {
            "identity": identity.to_dict(),
            "policy_sha256": self.policy.sha256,
            "reason": reason[:2000],
            "expires_at": expires_at,
        }
        self.ledger.record(
            actor=self.actor,
            action="override",
            model=name,
            version=identity.version,
            target=wanted.target,
            detail=detail,
        )
        made = self.governance(name).override(identity, wanted.target, policy_sha256=self.policy.sha256, now=now)
        assert made is not None  # it has just been written
        return made

    def _person(self, what: str) -> str:
        """Who says so; a server without users cannot hold anybody to their word."""
        person = self._actor()
        if person is None:
            raise refusal(
                f"{what} must come from a person that the server knows: start it with CALIBER_BASE_APP=basic-auth."
            )
        return person

    def freeze(self, name: str, target: str, *, reason: str, until: datetime | None = None) -> None:
        """Stop promotions to a target, or to every one (``*``); rollbacks still work."""
        if not reason.strip():
            raise InvalidInputError("A freeze must have a reason, got none.")
        detail = {"reason": reason[:2000], "until": None if until is None else until.isoformat(timespec="seconds")}
        self._record_freeze("freeze", name, target, detail)

    def unfreeze(self, name: str, target: str, *, reason: str = "") -> None:
        """Let promotions go on."""
        self._record_freeze("unfreeze", name, target, {"reason": reason[:2000], "until": None})

    def _record_freeze(self, action: str, name: str, target: str, detail: dict[str, Any]) -> None:
        place = "*" if target == "*" else self.policy.target(target).target
        person = self._person("A freeze, and its end,")
        self.ledger.record(actor=person, action=action, model=name, target=place, detail=detail)

    # --- transactions ------------------------------------------------------------------------------------------------

    @property
    def actor(self) -> str:
        """Who makes the present request, for the ledger."""
        return self._actor() or ANONYMOUS

    @contextmanager
    def _locked(self, case: Case) -> Iterator[tuple[Session, Registry]]:
        """A transaction in which the case still stands as it was decided."""
        name, version = case.identity.name, case.identity.version
        with self._moving(name, case.target, case.seq, case.holder) as (session, registry):
            if facts_of(session, name, version).identity(case.identity.model_digest) != case.identity:
                raise conflict(f"Version {version} of {name!r} is not the one that was decided on: it was made anew.")
            yield session, registry

    @contextmanager
    def _moving(
        self, name: str, target: TargetPolicy, seq: int, holder: str | None
    ) -> Iterator[tuple[Session, Registry]]:
        """A transaction that is alone with the ledger, and finds it and the holder as they were known."""
        with transaction(self._engine) as session:
            connection = session.connection()
            self.ledger.lock(connection)
            found = holder_of(session, name, target.target, target.kind)
            newer = self.ledger.entries(model=name, after=seq, connection=connection)
            if found != holder or any(entry.action in BINDING for entry in newer):
                raise conflict(
                    f"The {target.target} of {name!r} must still be {_version(holder)} under the same decisions, got "
                    f"{_version(found)}: somebody else was faster. Nothing was changed; try again."
                )
            yield session, Registry(session, name)
            session.flush()

    def _append(self, session: Session, case: Case, action: str, detail: dict[str, Any]) -> None:
        identity = case.identity
        self._write(
            session,
            action,
            identity.name,
            identity.version,
            case.target.target,
            {"identity": identity.to_dict(), **detail},
        )

    def _write(
        self, session: Session, action: str, name: str, version: str, target: str, detail: dict[str, Any]
    ) -> Entry:
        return self.ledger.append(
            session.connection(),
            actor=self.actor,
            action=action,
            model=name,
            version=version,
            target=target,
            detail=detail,
        )

    def _verdict_tags(self, case: Case) -> dict[str, str | None]:
        decision, override = case.examined.decision, case.override
        overridden = case.status == "overridden" and override is not None
        tags: dict[str, str | None] = {**case.examined.tags(case.status)}
        expires_at = override.expires_at if overridden and override else decision.expires_at
        tags["caliber_approved_by"] = ", ".join(decision.approvals) or None
        tags["caliber_override_reason"] = override.reason if overridden and override else None
        tags["caliber_expires_at"] = expires_at
        signed: dict[str, str | None] = dict.fromkeys(tags_of(case.target.target))
        if case.status is not None:
            signed |= self._signed(case, case.status, expires_at).to_tags(self._keys)
        return tags | signed

    def _signed(self, case: Case, status: str, expires_at: str | None) -> SignedDecision:
        decision, identity = case.examined.decision, case.identity
        return SignedDecision(
            name=identity.name,
            version=identity.version,
            created_at=identity.created_at,
            model_digest=identity.model_digest,
            target=case.target.target,
            status=status,
            policy_sha256=decision.policy_sha256,
            evidence_sha256=decision.evidence_sha256,
            evidence_run_id=case.examined.run_id,
            decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
            expires_at=expires_at,
        )


def _version(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"


def _last(entries: tuple[Entry, ...]) -> int:
    return entries[-1].seq if entries else 0

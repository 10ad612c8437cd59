"""A version of the registry, held against the policy: everything is read, nothing is written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from mlflow_caliber._signing import Keyring
from mlflow_caliber.gate import GatePolicy, Governance, Holding, Opponent, VersionIdentity, examine
from mlflow_caliber.guard._case import Case, facts_of, holder_of
from mlflow_caliber.guard._files import digest_at
from mlflow_caliber.guard._registry import transaction
from mlflow_caliber.ledger import Entry, Ledger

__all__ = ["Examiner"]

# Files are copied and rows unpacked: so many at a time in one worker, and others wait for so many seconds.
_AT_ONCE = 2
_PATIENCE = 120.0


class Examiner:
    """
    Reads what a decision rests on, outside of any transaction that writes.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of the registry's database.
    client : MlflowClient
        Reads runs and their artifacts.
    policy : GatePolicy
    ledger : Ledger
    evidence_keys : Keyring or None
        Verify evidence.
    """

    def __init__(
        self,
        engine: sa.Engine,
        client: MlflowClient,
        policy: GatePolicy,
        ledger: Ledger,
        evidence_keys: Keyring | None,
    ) -> None:
        self._engine = engine
        self._client = client
        self._policy = policy
        self._ledger = ledger
        self._evidence_keys = evidence_keys
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def identify(self, name: str, version: str) -> VersionIdentity:
        """The identity of a version, with the digest of its files, computed anew."""
        with transaction(self._engine) as session:
            facts = facts_of(session, name, version)
        return facts.identity(digest_at(facts.location))

    def examine(
        self, name: str, version: str, target: str, *, evidence_run: str | None = None, sequential: bool = False
    ) -> Case:
        """
        Hold the policy against a version, without changing anything.

        Raises
        ------
        ConfigError
            If the policy does not name the target.
        EvidenceError
            If there is no evidence on this version, or none that can be believed.
        MlflowException
            If there is no such version.
        """
        with self._turn():
            return self._examine(name, version, target, evidence_run, sequential)

    def _examine(self, name: str, version: str, target: str, evidence_run: str | None, sequential: bool) -> Case:
        wanted = self._policy.target(target)
        entries = self._ledger.entries(model=name)
        governance = Governance.of(entries)
        with transaction(self._engine) as session:
            facts = facts_of(session, name, version)
            holder = holder_of(session, name, wanted.target, wanted.kind)
        identity = facts.identity(digest_at(facts.location))
        now = datetime.now(UTC)

        def approved(evidence_sha256: str) -> tuple[str, ...]:
            grounds = {"policy_sha256": self._policy.sha256, "evidence_sha256": evidence_sha256}
            return governance.approvals(identity, wanted.target, **grounds)

        examined = examine(
            self._client,
            identity,
            wanted.target,
            self._policy.sequential() if sequential else self._policy,
            opponent_of=lambda versus: self._opponent(name, versus, governance),
            approved=approved,
            authors=self.authors(identity),
            tags=facts.tags,
            evidence_run=evidence_run,
            evidence_keys=self._evidence_keys,
            now=now,
        )
        override = governance.override(identity, wanted.target, policy_sha256=self._policy.sha256, now=now)
        return Case(
            target=wanted,
            identity=identity,
            holder=holder,
            governance=governance,
            seq=_last(entries),
            examined=examined,
            override=override,
        )

    def authors(self, identity: VersionIdentity) -> frozenset[str]:
        """Who registered the version, and whose its run is."""
        known = {*self._ledger.authors(identity.name, identity.version, identity.created_at)}
        if identity.run_id is not None:
            run = self._client.get_run(identity.run_id)
            known |= {str(name) for name in (run.info.user_id, run.data.tags.get("mlflow.user")) if name}
        return frozenset(known)

    def _opponent(self, name: str, versus: str, governance: Governance) -> Opponent | None:
        """
        Whom to compare with: the holder, or, if the place was emptied, who held it last.

        Otherwise taking the champion's alias away would take the comparison away.
        """
        holder = self._holder(name, versus)
        known = governance.history(versus)[-1:]
        if holder is None:
            return Opponent(known[0].identity.model_digest, _last_held(known[0])) if known else None
        return Opponent(self.identify(name, holder).model_digest, f"{versus} is version {holder}")

    def _holder(self, name: str, target: str) -> str | None:
        named = self._policy.targets.get(target)
        with transaction(self._engine) as session:
            return holder_of(session, name, target, "alias" if named is None else named.kind)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=_PATIENCE):
            raise MlflowException("The guard is busy with other versions; try again.", TEMPORARILY_UNAVAILABLE)
        try:
            yield
        finally:
            self._turns.release()


def _last_held(holding: Holding) -> str:
    return f"{holding.target} was last version {holding.version}"


def _last(entries: tuple[Entry, ...]) -> int:
    return entries[-1].seq if entries else 0

"""What entries of the ledger say of governance: the detail of each action, and the values that are read out of it.

The detail of each action, as it is written and read:

==========  ==========================================================================================================
action      detail
==========  ==========================================================================================================
gate        identity, decision
promote     identity, decision, former, override, signature_key
rollback    identity, former
remove      former
approve     identity, policy_sha256, evidence_sha256, comment
withdraw    identity, policy_sha256, evidence_sha256, comment
override    identity, policy_sha256, reason, expires_at
freeze      reason, until
unfreeze    reason, until
expire      identity, demoted
refuse      reason
delete      versions
rename      name
==========  ==========================================================================================================

``docs/user-guide/audit.md`` says what each key holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, Self

from mlflow_caliber._state import StateReader
from mlflow_caliber.exceptions import InvalidInputError, StateError

__all__ = [
    "ALL_TARGETS",
    "DETAILS",
    "EntryLike",
    "Freeze",
    "Holding",
    "Override",
    "VersionIdentity",
    "check_detail",
    "check_zone",
    "frozen",
    "is_over",
    "named",
    "said",
    "time_of",
]

DETAILS: Mapping[str, tuple[str, ...]] = {
    "gate": ("identity", "decision"),
    "promote": ("identity", "decision", "former", "override", "signature_key"),
    "rollback": ("identity", "former"),
    "remove": ("former",),
    "approve": ("identity", "policy_sha256", "evidence_sha256", "comment"),
    "withdraw": ("identity", "policy_sha256", "evidence_sha256", "comment"),
    "override": ("identity", "policy_sha256", "reason", "expires_at"),
    "freeze": ("reason", "until"),
    "unfreeze": ("reason", "until"),
    "expire": ("identity", "demoted"),
    "refuse": ("reason",),
    "delete": ("versions",),
    "rename": ("name",),
}
"""The keys that the detail of each action has. A later version may add some, so others are let through."""

ALL_TARGETS = "*"
"""The target of a freeze of every target of a model."""


class EntryLike(Protocol):
    """What is read of an entry of the ledger."""

    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> str: ...
    @property
    def actor(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def target(self) -> str | None: ...
    @property
    def detail(self) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class VersionIdentity:
    """
    Which model version: a number can be given again after a deletion, this cannot.

    Parameters
    ----------
    name, version : str
        The registered model and the version's number.
    created_at : int
        Milliseconds since 1970, as the registry says.
    source : str
        Where its files lie.
    run_id : str, optional
        The run that made it.
    model_digest : str
        Of its files, recomputed.

    Examples
    --------
    >>> identity = VersionIdentity(name="churn", version="3", created_at=0, source="models:/m-1", run_id=None,
    ...                            model_digest="sha256:" + "0" * 64)
    >>> VersionIdentity.from_dict(identity.to_dict()) == identity
    True
    >>> identity.sha256[:13]
    'sha256:4d5b04'
    """

    name: str
    version: str
    created_at: int
    source: str
    run_id: str | None
    model_digest: str

    @property
    def sha256(self) -> str:
        """The digest of its canonical JSON."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Any, where: str = "The identity of a version") -> Self:
        """Read :meth:`to_dict` back; a StateError if it is anything else."""
        read = StateReader(state, where)
        identity = cls(
            **{name: read.text(name) for name in ("name", "version", "source", "model_digest")},
            created_at=read.integer("created_at"),
            run_id=read.text_or_none("run_id"),
        )
        read.close()
        return identity


@dataclass(frozen=True, kw_only=True)
class Holding:
    """
    A version that holds or held a target, from one act to the next.

    Attributes
    ----------
    target, version : str
        Which.
    identity : VersionIdentity
        The version, exactly.
    since, until : str
        ISO 8601; ``until`` is None while it holds.
    seq : int
        The entry that gave it the target.
    actor, action : str
        Who did, by a ``promote`` or a ``rollback``.
    decision : dict or None
        Of the gate, at the promotion; a rollback brings back that of the earlier one.
    override : dict or None
        With which it was promoted though the gate did not pass.
    expired : bool
        Whether the ledger says that its pass has expired.
    """

    target: str
    version: str
    identity: VersionIdentity
    since: str
    until: str | None = None
    seq: int
    actor: str
    action: str
    decision: dict[str, Any] | None = None
    override: dict[str, Any] | None = None
    expired: bool = False

    @property
    def expires_at(self) -> str | None:
        """When its pass ends; of a version that did not pass, when the override ends that it rests on."""
        passed = self.decision is None or self.decision.get("verdict") == "pass"
        rests_on = self.decision if passed else self.override
        return None if rests_on is None else rests_on.get("expires_at")

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return {**asdict(self), "expires_at": self.expires_at}


@dataclass(frozen=True, kw_only=True)
class Override:
    """A person's word that a version may be promoted though the gate does not pass: who, when, why, and until when."""

    actor: str
    at: str
    seq: int
    reason: str
    expires_at: str

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """A person's word that a target stays where it is: who, when, why, and until when (None: until it is lifted)."""

    target: str
    actor: str
    at: str
    seq: int
    reason: str
    until: str | None

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)


# --- reading entries -------------------------------------------------------------------------------------------------


def check_detail(entry: EntryLike) -> None:
    """An entry's detail has what its action says."""
    missing = [key for key in DETAILS.get(entry.action, ()) if key not in entry.detail]
    if missing:
        raise StateError(
            f"Entry {entry.seq} of the ledger ({entry.action}) must have {', '.join(DETAILS[entry.action])} in its "
            f"detail, got none of {', '.join(missing)}."
        )


def named(entry: EntryLike) -> str:
    """The target of an entry that must have one."""
    if entry.target is None:
        raise StateError(f"Entry {entry.seq} of the ledger ({entry.action}) must have a target, got none.")
    return entry.target


def said(entry: EntryLike, *keys: str) -> dict[str, Any]:
    """Some keys of an entry's detail."""
    return {key: entry.detail[key] for key in keys}


def frozen(entry: EntryLike) -> str:
    """What a freeze, or its end, is about."""
    return entry.target or ALL_TARGETS


def time_of(text: str) -> datetime:
    """A time of the ledger; without a zone it is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise StateError(f"A time in the ledger must be ISO 8601, got {text!r:.40}.") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def is_over(until: str | None, now: datetime) -> bool:
    """Whether an end has come."""
    return until is not None and time_of(until) <= now


def check_zone(when: datetime, name: str) -> None:
    """A time that a caller gives must have its zone."""
    if when.tzinfo is None:
        raise InvalidInputError(f"{name} must be a time with its zone, got {when!r}.")

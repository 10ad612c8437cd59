"""Who holds what, who approved, what is frozen: everything about governance as a fold over the ledger's entries.

There is no second truth.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from mlflow_caliber.gate._acts import (
    ALL_TARGETS,
    DETAILS,
    EntryLike,
    Freeze,
    Holding,
    Override,
    VersionIdentity,
    check_detail,
    check_zone,
    frozen,
    is_over,
    named,
    said,
    time_of,
)
from mlflow_caliber.gate._holders import MOVES, Target

__all__ = [
    "ALL_TARGETS",
    "DETAILS",
    "EntryLike",
    "Freeze",
    "Governance",
    "Holding",
    "Override",
    "VersionIdentity",
    "disagreements",
]


class Governance:
    """
    What the entries of one model amount to, got from :meth:`of`. It reads no clock.

    Examples
    --------
    >>> from datetime import UTC
    >>> from types import SimpleNamespace
    >>> entry = SimpleNamespace(seq=1, at="2026-11-22T12:00:00.000000+00:00", actor="mia", action="freeze",
    ...                         target="champion", detail={"reason": "audit", "until": None})
    >>> governance = Governance.of([entry])
    >>> governance.freeze("champion", datetime(2026, 11, 23, tzinfo=UTC)).reason
    'audit'
    >>> governance.holder("champion") is None
    True
    """

    def __init__(self, entries: tuple[EntryLike, ...], targets: Mapping[str, Target]) -> None:
        self._entries = entries
        self._targets = targets

    @classmethod
    def of(cls, entries: Iterable[EntryLike]) -> Governance:
        """
        Fold entries of one model, in their order.

        Raises
        ------
        StateError
            If the detail of an entry lacks what its action says: to guess here would be to promote by guessing.
        """
        entries = tuple(entries)
        targets: dict[str, Target] = {}
        for entry in entries:
            check_detail(entry)
            if entry.action == "delete":
                for each in targets.values():
                    each.delete(entry)
            elif entry.action in MOVES:
                targets.setdefault(named(entry), Target()).move(entry)
        return cls(entries, targets)

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that anything ever held, sorted."""
        return tuple(sorted(name for name, target in self._targets.items() if target.history))

    # --- who holds a target ------------------------------------------------------------------------------------------

    def holder(self, target: str) -> Holding | None:
        """Who holds the target."""
        last = self.history(target)[-1:]
        return last[0] if last and last[0].until is None else None

    def holder_at(self, target: str, when: datetime) -> Holding | None:
        """Who held the target at a time, which must have its zone."""
        check_zone(when, "when")
        held = (each for each in self.history(target) if time_of(each.since) <= when and not is_over(each.until, when))
        return next(held, None)

    def history(self, target: str) -> tuple[Holding, ...]:
        """Everybody who held the target, the oldest first; a renewed promotion is a holding of its own."""
        return tuple(self._targets[target].history) if target in self._targets else ()

    def previous(self, target: str) -> Holding | None:
        """
        Where a rollback leads: the promotion before the present one, and each further rollback one further back.

        Never to a version that was rolled back from, removed, demoted or deleted, unless it was promoted again.
        """
        known = self._targets.get(target)
        if known is None or self.holder(target) is None:
            return None
        return known.steps[-2] if len(known.steps) > 1 else None

    def expirations(self, now: datetime) -> tuple[Holding, ...]:
        """The present holders whose pass has ended and of whom the ledger does not say so yet."""
        check_zone(now, "now")
        held = [holding for target in self.targets if (holding := self.holder(target)) is not None]
        return tuple(each for each in held if not each.expired and each.expires_at and is_over(each.expires_at, now))

    def to_dict(self) -> dict[str, Any]:
        """What holds, and what held, as JSON can hold it; of freezes all that were not lifted, over or not."""
        targets = {}
        for target in self.targets:
            holder, previous = self.holder(target), self.previous(target)
            targets[target] = {
                "holder": None if holder is None else holder.to_dict(),
                "previous": None if previous is None else previous.version,
                "history": [each.to_dict() for each in self.history(target)],
            }
        return {"targets": targets, "freezes": [each.to_dict() for each in self.freezes()]}

    # --- what people said --------------------------------------------------------------------------------------------

    def approvals(
        self, identity: VersionIdentity, target: str, *, policy_sha256: str, evidence_sha256: str
    ) -> tuple[str, ...]:
        """
        Who approves of exactly this version, for this target, under this policy, on this evidence.

        The latest word of each person counts. A withdrawal takes back all that its author had approved of this version
        for this target: otherwise the evidence approved before could be brought up again.
        """
        wanted, who = {"policy_sha256": policy_sha256, "evidence_sha256": evidence_sha256}, dict[str, None]()
        for entry in self._about(("approve", "withdraw"), identity, target):
            if entry.action == "withdraw":
                who.pop(entry.actor, None)
            elif all(entry.detail[key] == value for key, value in wanted.items()):
                who[entry.actor] = None
        return tuple(who)

    def override(self, identity: VersionIdentity, target: str, *, policy_sha256: str, now: datetime) -> Override | None:
        """The last override of exactly this version, target and policy, unless it has expired."""
        check_zone(now, "now")
        last = None
        for entry in self._about(("override",), identity, target):
            if entry.detail["policy_sha256"] == policy_sha256:
                last = entry
        if last is None or is_over(last.detail["expires_at"], now):
            return None
        return Override(actor=last.actor, at=last.at, seq=last.seq, **said(last, "reason", "expires_at"))

    def freeze(self, target: str, now: datetime) -> Freeze | None:
        """The freeze that holds the target, of its own or of all targets; each is lifted by its own ``unfreeze``."""
        check_zone(now, "now")
        held = [each for each in self.freezes() if each.target in (target, ALL_TARGETS)]
        return next((each for each in held if not is_over(each.until, now)), None)

    def freezes(self) -> tuple[Freeze, ...]:
        """The last word on each target, where that is a freeze; it may be over by now."""
        last = {frozen(entry): entry for entry in self._entries if entry.action in ("freeze", "unfreeze")}
        return tuple(
            Freeze(target=name, actor=entry.actor, at=entry.at, seq=entry.seq, **said(entry, "reason", "until"))
            for name, entry in last.items()
            if entry.action == "freeze"
        )

    def _about(self, actions: Collection[str], identity: VersionIdentity, target: str) -> Iterator[EntryLike]:
        wanted = identity.to_dict()
        for entry in self._entries:
            if entry.action in actions and entry.target == target and entry.detail["identity"] == wanted:
                yield entry


def disagreements(
    governance: Mapping[str, Governance], aliases: Mapping[tuple[str, str], str | None]
) -> tuple[str, ...]:
    """
    Where the registry is not as the ledger's last word says: an alias was set around the guard, or the log was cut off.

    Parameters
    ----------
    governance : mapping
        By the model's name.
    aliases : mapping
        The version that holds each target in the registry, by model and target; only governed targets. A target that
        the ledger has a holder of and that is missing here has none.

    Returns
    -------
    tuple of str
        A sentence for each.

    Examples
    --------
    >>> disagreements({"churn": Governance.of([])}, {("churn", "champion"): "3"})
    ("The champion of 'churn' must be no version, as the ledger says, got version 3.",)
    """
    wanted = {
        (model, target): _version(fold.holder(target)) for model, fold in governance.items() for target in fold.targets
    }
    found = []
    for model, target in sorted({*wanted, *aliases}):
        says, has = wanted.get((model, target)), aliases.get((model, target))
        if says != has:
            found.append(
                f"The {target} of {model!r} must be {_spelled(says)}, as the ledger says, got {_spelled(has)}."
            )
    return tuple(found)


def _version(holding: Holding | None) -> str | None:
    return None if holding is None else holding.version


def _spelled(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"

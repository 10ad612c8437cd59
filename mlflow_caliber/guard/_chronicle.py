"""What the whole ledger amounts to, model by model, kept up to date by reading only what was appended since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from mlflow_caliber.gate import Governance
from mlflow_caliber.ledger import Entry, Ledger

__all__ = ["Chronicle", "Matters", "Pending"]

_CHUNK = 1_000
# Gatings are by far the most entries, and the longest; of them only what is still open is kept.
_FOLDED = frozenset({"promote", "rollback", "remove", "expire", "delete", "freeze", "unfreeze"})
_SETTLED = frozenset({"promote", "rollback"})
_APPROVALS = "approvals "
"""What the rule's name begins with that counts approvals."""


@dataclass
class Pending:
    """A version that was asked for, and does not hold its target yet."""

    approved_by: set[str] = field(default_factory=set)
    lacks: tuple[str, ...] | None = None
    """The rules that did not pass when it was last gated; None if it was not."""
    refused: Entry | None = None

    @property
    def waits(self) -> bool:
        """Whether approvals are all that it lacks, as far as is known."""
        if self.lacks is None:
            return bool(self.approved_by)
        return bool(self.lacks) and all(rule.startswith(_APPROVALS) for rule in self.lacks)


@dataclass(frozen=True)
class Matters:
    """The fold of a model's moves and freezes, and what is pending by version and target."""

    governance: Governance
    pending: dict[tuple[str, str], Pending]


class _Story:
    """What is kept of one model."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.pending: dict[tuple[str, str], Pending] = {}
        self.fold: Governance | None = None

    def take(self, entry: Entry) -> None:
        if entry.action in _FOLDED:
            self.entries.append(entry)
            self.fold = None
        if entry.action == "delete":
            self.pending.clear()
        if entry.version is None or entry.target is None:
            return
        if entry.action in _SETTLED:
            # Whoever was passed over is no longer waiting.
            self.pending = {key: each for key, each in self.pending.items() if not _is_past(key, entry)}
        else:
            self._note(entry, self.pending.setdefault((entry.version, entry.target), Pending()))

    def _note(self, entry: Entry, pending: Pending) -> None:
        if entry.action == "approve":
            pending.approved_by.add(entry.actor)
        elif entry.action == "withdraw":
            pending.approved_by.discard(entry.actor)
        elif entry.action == "gate":
            pending.lacks = tuple(_lacking(entry.detail))
        elif entry.action == "refuse":
            pending.refused = entry


class Chronicle:
    """
    The ledger, read once and then only onwards.

    Parameters
    ----------
    ledger : Ledger
        Of the registry.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = Lock()
        self._seq = 0
        self._stories: dict[str, _Story] = defaultdict(_Story)

    def matters(self, names: Iterable[str]) -> dict[str, Matters]:
        """What there is to say of these models now."""
        with self._lock:
            self._catch_up()
            return {name: self._matters(name) for name in names}

    def _matters(self, name: str) -> Matters:
        story = self._stories.get(name)
        if story is None:
            return Matters(Governance.of(()), {})
        if story.fold is None:
            story.fold = Governance.of(story.entries)
        return Matters(story.fold, dict(story.pending))

    def _catch_up(self) -> None:
        end = self._ledger.head().seq
        if end < self._seq:
            self._seq = 0  # somebody cut it off; the audit page says so
            self._stories.clear()
        while self._seq < end:
            found = self._ledger.entries(after=self._seq, limit=_CHUNK)
            if not found:
                return
            for entry in found:
                self._stories[entry.model].take(entry)
            self._seq = found[-1].seq


def _is_past(key: tuple[str, str], entry: Entry) -> bool:
    version, target = key
    return target == entry.target and _number(version) <= _number(entry.version)


def _number(version: str | None) -> int:
    return int(version) if version is not None and version.isdecimal() else 0


def _lacking(detail: dict[str, Any]) -> Iterable[str]:
    decision = detail.get("decision")
    rules = decision.get("rules") if isinstance(decision, dict) else None
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict) and rule.get("verdict") != "pass":
            yield str(rule.get("rule"))

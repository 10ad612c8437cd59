"""Who holds one target, and where a rollback of it leads: a fold over the entries that move it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from mlflow_caliber.gate._acts import EntryLike, Holding, VersionIdentity, named, said

__all__ = ["MOVES", "Target"]


class Target:
    """The moves of one target: ``history`` is all that was, ``steps`` is what a rollback can go back along."""

    def __init__(self) -> None:
        self.history: list[Holding] = []
        self.steps: list[Holding] = []

    def move(self, entry: EntryLike) -> None:
        """Take an entry of this target."""
        MOVES[entry.action](self, entry)

    def promote(self, entry: EntryLike) -> None:
        """A version takes the target; the same one again renews its pass and is no further step."""
        self._take(holding_of(entry, **said(entry, "decision", "override")))

    def roll_back(self, entry: EntryLike) -> None:
        """An earlier version takes it back, with the pass that it had."""
        holding = holding_of(entry)
        before = next((each for each in reversed(self.steps) if each.version == holding.version), None)
        if before is not None:
            holding = replace(holding, decision=before.decision, override=before.override)
        if self.steps and self.steps[-1].version != holding.version:
            self._drop({self.steps[-1].version})
        while before in self.steps and self.steps[-1] is not before:
            self.steps.pop()  # it went further back than one step
        self._take(holding)

    def remove(self, entry: EntryLike) -> None:
        """Nobody has it any more."""
        held = self._end(entry)
        if held is not None:
            self._drop({held.version})

    def expire(self, entry: EntryLike) -> None:
        """The holder's pass is over, and with it perhaps its hold."""
        held = self.history[-1] if self.history else None
        if held is None or held.until is not None or held.identity.to_dict() != entry.detail["identity"]:
            return
        self.history[-1] = replace(held, expired=True)
        if entry.detail["demoted"]:
            self.remove(entry)

    def delete(self, entry: EntryLike) -> None:
        """Versions are gone; without a list, all of them."""
        versions = entry.detail["versions"]
        gone = {each.version for each in self.history} if versions is None else {str(each) for each in versions}
        if self.history and self.history[-1].version in gone:
            self._end(entry)
        self._drop(gone)

    def _take(self, holding: Holding) -> None:
        self._end_at(holding.since)
        self.history.append(holding)
        if self.steps and self.steps[-1].version == holding.version:
            self.steps.pop()
        self.steps.append(holding)

    def _end(self, entry: EntryLike) -> Holding | None:
        return self._end_at(entry.at)

    def _end_at(self, at: str) -> Holding | None:
        """Close the present holding; the one that was closed."""
        if not self.history or self.history[-1].until is not None:
            return None
        self.history[-1] = replace(self.history[-1], until=at)
        return self.history[-1]

    def _drop(self, versions: Collection[str]) -> None:
        """Make versions no step to go back to."""
        left = [step for step in self.steps if step.version not in versions]
        self.steps = [step for i, step in enumerate(left) if i + 1 == len(left) or left[i + 1].version != step.version]


MOVES: Mapping[str, Callable[[Target, EntryLike], None]] = {
    "promote": Target.promote,
    "rollback": Target.roll_back,
    "remove": Target.remove,
    "expire": Target.expire,
}
"""The actions that move a target, and what each does."""


def holding_of(entry: EntryLike, **said: Any) -> Holding:
    identity = VersionIdentity.from_dict(entry.detail["identity"], f"Entry {entry.seq}: identity:")
    return Holding(
        target=named(entry),
        version=identity.version,
        identity=identity,
        since=entry.at,
        seq=entry.seq,
        actor=entry.actor,
        action=entry.action,
        **said,
    )

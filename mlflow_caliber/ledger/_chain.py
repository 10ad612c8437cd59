"""Whether entries are the chain that was written. Pure: entries come from anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from mlflow_caliber._signing import Keyring
from mlflow_caliber.exceptions import InvalidInputError, SignatureError
from mlflow_caliber.ledger._entry import FORMAT, GENESIS, Entry, Head

__all__ = ["Anchor", "Broken", "Chain", "Verification", "verify_chain"]

_MOST = 100  # sentences: whoever has a hundred has seen enough
_ANCHOR = re.compile(r"(?P<seq>\d{1,18}):(?P<sha256>[0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True)
class Verification:
    """
    What a verification found.

    Attributes
    ----------
    n : int
        Entries that were read.
    signed : int
        Those with a valid signature; 0 without keys.
    keys_given : bool
        Whether signatures were looked at.
    head : Head or None
        Where the ledger says that it ends.
    problems : tuple of str
        Sentences: the log is not what was written.
    warnings : tuple of str
        Sentences: odd, and no proof of anything.

    Examples
    --------
    >>> from mlflow_caliber.ledger import open_ledger
    >>> open_ledger("sqlite://").verify().ok
    True
    """

    n: int
    signed: int
    keys_given: bool
    head: Head | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    @property
    def anchor(self) -> str | None:
        """The head's ``seq:sha256``, to be kept somewhere else; None if there are problems."""
        return self.head.anchor if self.head is not None and self.ok else None

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return {**asdict(self), "ok": self.ok, "anchor": self.anchor}


def verify_chain(
    entries: Iterable[Entry],
    head: Head | None,
    keys: Keyring | None = None,
    *,
    anchor: str | None = None,
    signed_from: int = 1,
) -> Verification:
    """
    Verify entries that came from anywhere, and the head that they should end with.

    Parameters
    ----------
    entries : iterable of Entry
        All of them, from the first.
    head : Head or None
        Where the log says that it ends.
    keys : Keyring, optional
        Without keys, signatures are not looked at.
    anchor, signed_from
        As in :meth:`Ledger.verify`.

    Examples
    --------
    >>> verify_chain([], Head(format=1, seq=0, sha256="0" * 64, signature=None)).ok
    True
    """
    chain = Chain(keys, anchor, signed_from)
    chain.take(entries)
    return chain.close(head)


@dataclass(frozen=True)
class Anchor:
    """An entry that was in the chain when somebody looked."""

    seq: int
    sha256: str

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """Read ``seq:sha256``."""
        match = _ANCHOR.fullmatch(text)
        if match is None:
            raise InvalidInputError(f"anchor must be <number>:<64 hexadecimal digits>, got {text!r:.100}.")
        return cls(int(match["seq"]), match["sha256"])


@dataclass(frozen=True)
class Broken:
    """What stands where an entry should, and cannot be read as one."""

    seq: int | None
    reason: str


class Chain:
    """Takes entries in their order, and says at the end what is wrong with them."""

    def __init__(self, keys: Keyring | None, anchor: str | None, signed_from: int) -> None:
        self._keys = keys
        self._anchor = None if anchor is None else Anchor.parse(anchor)
        self._signed_from = signed_from
        self._n = self._signed = self._seq = 0
        self._sha256: str | None = GENESIS  # None behind something that cannot be read
        self._at: datetime | None = None
        self._problems: list[str] = []
        self._warnings: list[str] = []

    @property
    def seq(self) -> int:
        """The number of the last entry."""
        return self._seq

    def take(self, found: Iterable[Entry | Broken]) -> None:
        """Look at the next entries."""
        for entry in found:
            self._n += 1
            if isinstance(entry, Broken):
                where = "An entry" if entry.seq is None else f"Entry {entry.seq}"
                self.problem(f"{where} cannot be read: {entry.reason}.")
                self._seq, self._sha256 = self._seq + 1 if entry.seq is None else entry.seq, None
            else:
                self._look(entry)

    def problem(self, sentence: str) -> None:
        """Note something that is wrong."""
        self._problems.append(sentence)

    def close(self, head: Head | None) -> Verification:
        """The chain ends here, and should end where its head says."""
        if head is None:
            self.problem("The log must have its head, got none: it was taken out or cut off.")
        else:
            self._look_at_head(head)
        if self._anchor is not None and self._anchor.seq > self._seq:
            self.problem(f"The anchor is entry {self._anchor.seq}, but the ledger ends at {self._seq}: it was cut off.")
        return Verification(
            n=self._n,
            signed=self._signed,
            keys_given=self._keys is not None,
            head=head,
            problems=_first(self._problems),
            warnings=_first(self._warnings),
        )

    def _look(self, entry: Entry) -> None:
        seq = entry.seq
        if entry.content_sha256() != entry.sha256:
            self.problem(f"Entry {seq} was changed: its content does not have the hash that it was written with.")
        if seq != self._seq + 1:
            self.problem(_gap(self._seq + 1, seq))
        elif self._sha256 not in (None, entry.previous_sha256):
            self.problem(f"Entry {seq} does not follow entry {seq - 1}: it was written behind another one.")
        if self._anchor is not None and self._anchor.seq == seq and self._anchor.sha256 != entry.sha256:
            self.problem(f"Entry {seq} is not the one of the anchor: the log was written anew from there or before.")
        self._look_at_signature(entry)
        self._look_at_time(entry)
        self._seq, self._sha256 = seq, entry.sha256

    def _look_at_signature(self, entry: Entry) -> None:
        if self._keys is None or (entry.seq < self._signed_from and entry.signature is None):
            return
        if entry.signature is None:
            self.problem(f"Entry {entry.seq} must be signed, got no signature.")
            return
        try:
            entry.signed_by(self._keys)
        except SignatureError as error:
            self.problem(f"Entry {entry.seq}: {error}")
        else:
            self._signed += 1

    def _look_at_time(self, entry: Entry) -> None:
        try:
            at = datetime.fromisoformat(entry.at)
            backwards = self._at is not None and at < self._at
        except (ValueError, TypeError):
            self.problem(f"Entry {entry.seq} must have a time with its zone, got {entry.at!r:.40}.")
            return
        if backwards:
            # The writer never does this; the chain is in order all the same.
            self._warnings.append(f"Entry {entry.seq} is of {entry.at}, which is before the entry before it.")
        self._at = at

    def _look_at_head(self, head: Head) -> None:
        if head.format != FORMAT:
            self.problem(f"The head must have format {FORMAT}, got {head.format}.")
        if head.seq != self._seq:
            what = "entries were cut off" if head.seq > self._seq else "entries were put behind it, or it was set back"
            self.problem(f"The head is at entry {head.seq}, but the ledger ends at {self._seq}: {what}.")
        elif self._sha256 not in (None, head.sha256):
            self.problem(f"The head does not have the hash of entry {self._seq}, the last one.")
        if self._keys is None or (head.signature is None and head.seq < max(1, self._signed_from)):
            return  # the head of an empty ledger holds nothing that could be signed
        try:
            head.signed_by(self._keys)
        except SignatureError as error:
            self.problem(f"The head: {error}" if head.signature else "The head must be signed, got no signature.")


def _gap(wanted: int, found: int) -> str:
    if found < wanted:
        return f"Entry {found} stands behind entry {wanted - 1}."
    if found == wanted + 1:
        return f"Entry {wanted} is missing."
    return f"Entries {wanted} to {found - 1} are missing."


def _first(sentences: list[str]) -> tuple[str, ...]:
    left_out = len(sentences) - _MOST
    return (*sentences[:_MOST], *([f"And {left_out} more."] if left_out > 0 else []))

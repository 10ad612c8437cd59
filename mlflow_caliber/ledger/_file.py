"""The log as a file: an entry a line, and the head on the last one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from mlflow_caliber._signing import Keyring
from mlflow_caliber.exceptions import StateError, StoreError
from mlflow_caliber.ledger._chain import Broken, Chain, Verification
from mlflow_caliber.ledger._entry import Entry, Head, canonical

__all__ = ["export_ledger", "verify_file"]

_CHUNK = 1_000


class Readable(Protocol):
    """A ledger, wherever it is read from."""

    def head(self) -> Head:
        """The end of the log."""

    def entries(self, *, model: str | None = None, after: int = 0, limit: int | None = None) -> tuple[Entry, ...]:
        """Entries in their order."""


def export_ledger(ledger: Readable, file: str | Path) -> Head:
    """
    Write the log as JSON lines, with the head as the closing one. It is written as it is found: verify it.

    Returns
    -------
    Head
        What the file ends with.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from mlflow_caliber.ledger import open_ledger
    >>> ledger = open_ledger("sqlite://")
    >>> _ = ledger.record(actor="mia", action="refuse", model="churn", detail={"reason": "frozen"})
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "ledger.jsonl"
    >>> export_ledger(ledger, path).seq, verify_file(path).ok
    (1, True)
    """
    head, after = ledger.head(), 0
    with Path(file).open("w", encoding="ascii", newline="\n") as lines:
        while after < head.seq:
            found = ledger.entries(after=after, limit=min(_CHUNK, head.seq - after))
            if not found:
                break  # cut off; the closing line will show it
            lines.writelines(canonical(entry.to_dict()) + "\n" for entry in found)
            after = found[-1].seq
        lines.write(canonical({"head": head.to_dict()}) + "\n")
    return head


def verify_file(
    file: str | Path, keys: Keyring | None = None, anchor: str | None = None, *, signed_from: int = 1
) -> Verification:
    """
    Verify an exported log, as :meth:`Ledger.verify` does the ledger itself.

    Raises
    ------
    StoreError
        If the file cannot be read at all.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "ledger.jsonl"
    >>> _ = path.write_text("")
    >>> verify_file(path).problems
    ('The log must have its head, got none: it was taken out or cut off.',)
    """
    chain = Chain(keys, anchor, signed_from)
    try:
        with Path(file).open("rb") as stream:
            lines = _Lines(stream)
            chain.take(lines)
    except OSError as error:
        raise StoreError(f"An exported log must be a file that can be read: {error}.") from error
    return chain.close(lines.head)


class _Lines:
    """The entries of a file; ``head`` is what its last line holds, once they were all taken."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream
        self.head: Head | None = None

    def __iter__(self) -> Iterator[Entry | Broken]:
        for number, line in enumerate(self._stream, 1):
            if self.head is not None:
                yield Broken(None, f"line {number} stands behind the head")
                continue
            try:
                state = _parsed(line)
                if "head" in state:
                    self.head = Head.from_dict(state["head"])
                else:
                    yield Entry.from_dict(state)
            except StateError as error:
                yield Broken(None, f"line {number}: {str(error).rstrip('.')}")


def _parsed(line: bytes) -> dict[str, Any]:
    """A line, which must be in the form in which it was written, to the byte."""
    try:
        state = json.loads(line)
        same = canonical(state).encode() + b"\n" == line
    except (ValueError, RecursionError):
        same = False
    if not same or not isinstance(state, dict):
        raise StateError("it is not the JSON that was written")
    return state

"""Entries and the head: values, and the bytes that are hashed and signed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from mlflow_caliber._signing import Keyring
from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import check_choice
from mlflow_caliber.exceptions import InvalidInputError, StateError

__all__ = [
    "ACTIONS",
    "FORMAT",
    "GENESIS",
    "LARGEST_DETAIL",
    "Entry",
    "Head",
    "canonical",
    "check_name",
    "check_what",
    "parsed_detail",
]

ACTIONS = (
    "gate",
    "promote",
    "rollback",
    "remove",
    "approve",
    "withdraw",
    "override",
    "freeze",
    "unfreeze",
    "expire",
    "refuse",
    "delete",
    "rename",
)
"""What can be written down."""

LARGEST_DETAIL = 64_000
"""Bytes of the canonical JSON of a detail; the smallest text column of the databases holds 65,535."""

FORMAT = 1
GENESIS = "0" * 64
_LONGEST = {"actor": 256, "model": 256, "version": 64, "target": 256}
_PURPOSE, _HEAD_PURPOSE = "ledger", "ledger's head"


def canonical(value: Any) -> str:
    """JSON in the one form that is hashed: keys sorted, no blanks, ASCII, so that no database can change it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """
    One act.

    Attributes
    ----------
    seq : int
        Its number, from 1 without gaps.
    at : str
        When, ISO 8601 in UTC with microseconds; never before the entry before it.
    actor : str
        Who.
    action : str
        One of :data:`ACTIONS`.
    model : str
        The registered model.
    version, target : str or None
        The model version and the alias or stage, where the act is about one.
    detail : dict
        What else there is to say of the act; JSON.
    previous_sha256 : str
        The hash of the entry before it; zeros for the first.
    sha256 : str
        The hash of all of the above.
    signature : str or None
        Of the hash, when the writer had keys.

    Examples
    --------
    >>> entry = Entry(seq=1, at="2026-11-22T12:00:00.000000+00:00", actor="mia", action="freeze", model="churn",
    ...               version=None, target="champion", detail={"reason": "audit", "until": None},
    ...               previous_sha256="0" * 64, sha256="", signature=None)
    >>> entry.content_sha256()[:8]
    '1aa14213'
    """

    seq: int
    at: str
    actor: str
    action: str
    model: str
    version: str | None
    target: str | None
    detail: dict[str, Any]
    previous_sha256: str
    sha256: str
    signature: str | None

    def content_sha256(self) -> str:
        """The hash that this content has, which ``sha256`` must be."""
        content = {key: value for key, value in asdict(self).items() if key not in {"sha256", "signature"}}
        return hashlib.sha256(canonical(content).encode()).hexdigest()

    def signed_by(self, keys: Keyring) -> str:
        """The name of the key that signed it; a SignatureError if none of these did."""
        return keys.verify(_PURPOSE, self.sha256.encode(), self.signature or "")

    def sign(self, keys: Keyring | None) -> str | None:
        """The signature of its hash."""
        return None if keys is None else keys.sign(_PURPOSE, self.sha256.encode())

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Any, where: str = "The entry") -> Self:
        """Read :meth:`to_dict` back; a StateError if it is anything else. Hashes are not looked at."""
        read = StateReader(state, where)
        values = {name: read.text(name) for name in ("at", "actor", "action", "model", "previous_sha256", "sha256")}
        others = {name: read.text_or_none(name) for name in ("version", "target", "signature")}
        detail = read.value("detail")
        if not isinstance(detail, dict):
            raise read.misfit("detail", "an object", detail)
        entry = cls(seq=read.integer("seq", 1), detail=detail, **values, **others)  # type: ignore[arg-type]
        read.close()
        return entry


@dataclass(frozen=True, kw_only=True)
class Head:
    """
    Where the chain ends: the last entry's number and hash; 0 and zeros of an empty ledger.

    Examples
    --------
    >>> Head(format=1, seq=2, sha256="ab" * 32, signature=None).anchor[:6]
    '2:abab'
    """

    format: int
    seq: int
    sha256: str
    signature: str | None

    @property
    def anchor(self) -> str:
        """``seq:sha256``, to be kept elsewhere: a later verification looks whether it is still in the chain."""
        return f"{self.seq}:{self.sha256}"

    def signed_by(self, keys: Keyring) -> str:
        """The name of the key that signed it; a SignatureError if none of these did."""
        return keys.verify(_HEAD_PURPOSE, self._content(), self.signature or "")

    def sign(self, keys: Keyring | None) -> str | None:
        """The signature of its content."""
        return None if keys is None else keys.sign(_HEAD_PURPOSE, self._content())

    def _content(self) -> bytes:
        return canonical({"format": self.format, "seq": self.seq, "sha256": self.sha256}).encode()

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Any, where: str = "The head") -> Self:
        """Read :meth:`to_dict` back; a StateError if it is anything else."""
        read = StateReader(state, where)
        head = cls(
            format=read.integer("format", 1),
            seq=read.integer("seq"),
            sha256=read.text("sha256"),
            signature=read.text_or_none("signature"),
        )
        read.close()
        return head


def check_what(
    actor: str, action: str, model: str, version: str | None, target: str | None, detail: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The parts of an entry that its writer chooses, when they can be written."""
    return {
        "actor": check_name(actor, "actor"),
        "action": check_choice(action, "action", ACTIONS),
        "model": check_name(model, "model"),
        "version": None if version is None else check_name(version, "version"),
        "target": None if target is None else check_name(target, "target"),
        "detail": _checked_detail({} if detail is None else detail),
    }


def check_name(value: Any, name: str) -> str:
    """A text that fits into its column, of every database."""
    longest = _LONGEST[name]
    fits = isinstance(value, str) and 0 < len(value) <= longest and "\0" not in value
    if not fits or value.encode("utf-8", "replace").decode() != value:  # a lone surrogate has no bytes
        raise InvalidInputError(f"{name} must be a text of 1 to {longest} characters, got {value!r:.80}.")
    return str(value)


def _checked_detail(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The detail as it will be read back."""
    try:
        text = canonical(dict(detail))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"detail must be a mapping that JSON can hold: {error}.") from error
    if len(text) > LARGEST_DETAIL:
        raise InvalidInputError(f"detail must be at most {LARGEST_DETAIL:,} bytes of JSON, got {len(text):,}.")
    return dict(parsed_detail(text))


def parsed_detail(text: Any) -> Any:
    """A stored detail, which must be in canonical form: what people read in the database is then what was hashed."""
    try:
        detail = json.loads(text)
        same = canonical(detail) == text
    except (TypeError, ValueError, RecursionError):
        same = False
    if not same:
        raise StateError("Its detail is not the JSON that was written.")
    return detail

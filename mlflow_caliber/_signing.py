"""Signatures with a shared secret (HMAC-SHA256), with keys that have names and can be rotated."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow_caliber.exceptions import ConfigError, SignatureError

__all__ = ["DECISION_KEYS", "EVIDENCE_KEYS", "Keyring"]

DECISION_KEYS = "MLFLOW_CALIBER_DECISION_KEYS"
"""Environment variable of the keys that sign decisions and the audit log: the guarding server has it, and verifiers."""
EVIDENCE_KEYS = "MLFLOW_CALIBER_EVIDENCE_KEYS"
"""Environment variable of the keys that sign evidence: trusted evaluators have it, and whoever gates."""

_KEY = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,64}):(?P<secret>\S{32,})")
_SIGNATURE = re.compile(r"v1,(?P<name>[A-Za-z0-9_.-]{1,64}),(?P<mac>[0-9a-f]{64})")


@dataclass(frozen=True)
class Keyring:
    """
    Named secrets: the first one signs, each of them verifies.

    To rotate, put a new key in front; drop the old one when nothing that it signed is needed any more.

    Parameters
    ----------
    secrets : mapping of str to bytes
        In order; at least one.

    Examples
    --------
    >>> keys = Keyring.parse("2026:" + "k" * 32)
    >>> signature = keys.sign("decision", b"content")
    >>> keys.verify("decision", b"content", signature)
    '2026'
    >>> keys.verify("evidence", b"content", signature)
    Traceback (most recent call last):
    mlflow_caliber.exceptions.SignatureError: The signature of the evidence must be of this very content, got another.
    """

    secrets: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str, where: str = "The keys") -> Keyring:
        """
        Read ``name:secret`` pairs, parted by commas; each secret has at least 32 characters.

        Raises
        ------
        ConfigError
            If the text is anything else; the sentence never holds a secret.
        """
        parts = [part.strip() for part in text.split(",")]
        found = [_KEY.fullmatch(part) for part in parts]
        secrets = {match["name"]: match["secret"].encode() for match in found if match is not None}
        if len(secrets) != len(parts):
            raise ConfigError(
                f"{where} must be name:secret pairs with names of their own, parted by commas, each secret of at least "
                f"32 characters, got {len(parts)} part(s) of which {len(secrets)} can be used."
            )
        return cls(secrets)

    @classmethod
    def from_environment(cls, variable: str) -> Keyring | None:
        """The keys of an environment variable; None if it is not set or empty."""
        text = os.environ.get(variable, "").strip()
        return cls.parse(text, variable) if text else None

    def sign(self, purpose: str, content: bytes) -> str:
        """``v1,<key name>,<hex>``: of the content, for one purpose, with the first key."""
        name, secret = next(iter(self.secrets.items()))
        return f"v1,{name},{_mac(secret, purpose, content)}"

    def verify(self, purpose: str, content: bytes, signature: str) -> str:
        """
        Check a signature, in constant time, and name the key that made it.

        Raises
        ------
        SignatureError
            If it is no signature, of a key that is not known, or of another content or purpose.
        """
        match = _SIGNATURE.fullmatch(signature)
        if match is None:
            raise SignatureError(f"The signature of the {purpose} must be v1,<key>,<64 hexadecimal digits>.")
        secret = self.secrets.get(match["name"])
        if secret is None:
            known = ", ".join(self.secrets)
            raise SignatureError(
                f"The signature of the {purpose} must be of a known key ({known}), got {match['name']!r}."
            )
        if not hmac.compare_digest(_mac(secret, purpose, content), match["mac"]):
            raise SignatureError(f"The signature of the {purpose} must be of this very content, got another.")
        return match["name"]


def _mac(secret: bytes, purpose: str, content: bytes) -> str:
    return hmac.new(secret, purpose.encode() + b"\0" + content, hashlib.sha256).hexdigest()

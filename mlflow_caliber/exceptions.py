"""The errors of mlflow-caliber. Every message says what was wanted and what came.

* CaliberError
  x InvalidInputError (ValueError)   an array, a parameter or a label that cannot be used
    + OneClassError                  both classes are needed and only one came
    + ConflictError                  somebody was first, or the state of things forbids it
    + NotFoundError                  what was named is not there
  x StateError (ValueError)          saved state (JSON) that cannot be read back
  x ConfigError (ValueError)         a configuration key or value that is not known
  x EvidenceError (ValueError)       evidence that is missing, stale, or about another model
  x OptionalDependencyError (RuntimeError)  an optional package that is missing or does not work
  x PromotionError (RuntimeError)    a promotion or rollback that was refused or overtaken
  x ServiceError (RuntimeError)      the live service refused, or did not answer
  x SignatureError (ValueError)      a signature that is missing, of an unknown key, or of another content
  x StoreError (RuntimeError)        a store that is away, busy, or not a store
    + SchemaVersionError             a store of an older or newer schema
    + LeaseLostError                 somebody else learns from the stream now
  x UnsupportedModelError (TypeError)  a base model whose probabilities cannot be found

The numerics raise these; the MLflow glue turns them into ``MlflowException`` with an ``error_code``
where MLflow itself is the caller.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CaliberError",
    "ConfigError",
    "ConflictError",
    "EvidenceError",
    "InvalidInputError",
    "LeaseLostError",
    "NotFoundError",
    "OneClassError",
    "OptionalDependencyError",
    "PromotionError",
    "SchemaVersionError",
    "ServiceError",
    "SignatureError",
    "StateError",
    "StoreError",
    "UnsupportedModelError",
]


class CaliberError(Exception):
    """Anything that mlflow-caliber refuses."""


class InvalidInputError(CaliberError, ValueError):
    """An array, a parameter or a label that cannot be used."""


class OneClassError(InvalidInputError):
    """Both classes are needed and only one came."""


class ConflictError(InvalidInputError):
    """Somebody was first, or the state of things forbids it."""


class NotFoundError(InvalidInputError):
    """What was named is not there."""


class StateError(CaliberError, ValueError):
    """Saved state that cannot be read back."""


class ConfigError(CaliberError, ValueError):
    """A configuration key or value that is not known."""


class EvidenceError(CaliberError, ValueError):
    """Evidence that is missing, stale, or about another model."""


class OptionalDependencyError(CaliberError, RuntimeError):
    """An optional package that is missing or does not work."""


class PromotionError(CaliberError, RuntimeError):
    """A promotion or rollback that was refused or overtaken; ``decision`` is the gate's, when the gate refused."""

    def __init__(self, message: str, decision: Any = None) -> None:
        super().__init__(message)
        self.decision = decision


class ServiceError(CaliberError, RuntimeError):
    """The live service refused, or did not answer; ``status`` is HTTP's, None when there was no answer."""

    def __init__(self, status: int | None, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class SignatureError(CaliberError, ValueError):
    """A signature that is missing, of an unknown key, or of another content."""


class StoreError(CaliberError, RuntimeError):
    """A store that is away, busy, or not a store; nothing of the transaction was kept."""


class SchemaVersionError(StoreError):
    """A store of an older or newer schema than this package works with."""


class LeaseLostError(StoreError):
    """Somebody else learns from the stream now; nothing was written."""


class UnsupportedModelError(CaliberError, TypeError):
    """A base model whose probabilities cannot be found."""

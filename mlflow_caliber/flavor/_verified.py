"""Off by default: a serving host loads only what a guard signed for it."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from mlflow_caliber._signing import DECISION_KEYS, Keyring
from mlflow_caliber.evidence import model_digest
from mlflow_caliber.exceptions import CaliberError, SignatureError
from mlflow_caliber.signed_decision import verify_version

__all__ = ["VERIFY", "check_verified"]

VERIFY = "MLFLOW_CALIBER_VERIFY"
"""Environment variable: the alias or stage that loaded models must be signed for, or ``any``."""

# MLflow writes it beside a model that it loads from the registry.
_REGISTERED = "registered_model_meta"


def check_verified(path: Path) -> None:
    """
    Refuse a model folder without a signed decision, when ``MLFLOW_CALIBER_VERIFY`` asks for one.

    The decision is read from the registry's tags; what is compared with it is the digest of the files at hand.

    Raises
    ------
    MlflowException
        PERMISSION_DENIED, with the reason.
    """
    target = os.environ.get(VERIFY, "")
    if not target:
        return
    try:
        _verify(path, None if target == "any" else target)
    except CaliberError as error:
        raise MlflowException(f"{VERIFY}={target}: the model is not loaded. {error}", PERMISSION_DENIED) from error


def _verify(path: Path, target: str | None) -> None:
    keys = Keyring.from_environment(DECISION_KEYS)
    if keys is None:
        raise SignatureError(f"{DECISION_KEYS} must hold the server's keys, got none.")
    meta = path / _REGISTERED
    named = yaml.safe_load(meta.read_text(encoding="utf-8")) if meta.is_file() else None
    if not isinstance(named, dict) or "model_name" not in named:
        raise SignatureError("A model must be loaded from the registry (models:/...) to be verified.")
    name, version = str(named["model_name"]), str(named["model_version"])
    verify_version(MlflowClient(), name, version, model_digest(path), target=target, keys=keys)

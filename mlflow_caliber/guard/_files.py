"""The artifacts of versions and runs, read by the server itself."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlparse

from mlflow import MlflowClient
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from mlflow_caliber.evidence import model_digest
from mlflow_caliber.exceptions import EvidenceError

_logger = logging.getLogger(__name__)

__all__ = ["ServerClient", "digest_at"]

# `mlflow server` hands it to its workers: where proxied artifacts really lie.
_DESTINATION = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
_PROXIED = "mlflow-artifacts"
# Other machines may show one thing here and another there; runs:/ is resolved anew by whoever loads it.
_ELSEWHERE = ("http", "https", "ftp", "sftp", "runs", "models")


class ServerClient(MlflowClient):
    """
    An :class:`~mlflow.MlflowClient` inside the server: it reads proxied artifacts where the server keeps them.

    A request to the server's own address would wait for a worker that waits for it, and would have to log in.
    """

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        """As the client's own."""
        return str(_repository(self._location(run_id)).download_artifacts(path, dst_path))

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        """As the client's own."""
        found: list[FileInfo] = _repository(self._location(run_id)).list_artifacts(path)
        return found

    def _location(self, run_id: str) -> str:
        return str(self.get_run(run_id).info.artifact_uri)


def digest_at(location: str) -> str:
    """
    The digest of a model's files, computed anew from a copy.

    Raises
    ------
    EvidenceError
        If they are no model, lie where the server does not see what a serving host will load, or cannot be read.
    """
    with TemporaryDirectory() as scratch:
        try:
            repository = _repository(location)
            _check_listed(repository.list_artifacts())
            folder = Path(repository.download_artifacts("", scratch))
        except EvidenceError:
            raise
        except Exception as error:  # whatever a store may raise; its text may hold paths and addresses
            _logger.warning("The files of a version could not be read.", exc_info=error)
            raise EvidenceError("The version's files must be readable by the server; its log says why.") from None
        if any(folder.rglob("__pycache__")):
            raise EvidenceError("The version's files must hold no __pycache__, whose code no digest covers, got one.")
        return model_digest(folder)


def _check_listed(top: list[FileInfo]) -> None:
    """Before anything is copied."""
    if "MLmodel" not in {entry.path.rsplit("/", 1)[-1] for entry in top}:
        raise EvidenceError("The version's files must be an MLflow model, got none with an MLmodel file.")


def _repository(location: str) -> Any:
    parsed = urlparse(location)
    if parsed.scheme in _ELSEWHERE or (parsed.scheme == _PROXIED and parsed.netloc):
        raise EvidenceError(
            "The files must lie in a store of this server, so that it sees what a serving host will load, "
            f"got {parsed.scheme}://{parsed.hostname or '...'}."
        )
    if parsed.scheme == "" and not location.startswith("/"):
        raise EvidenceError("The files must lie at an address or an absolute path, got a relative one.")
    destination = os.environ.get(_DESTINATION)
    if parsed.scheme != _PROXIED or destination is None:
        return get_artifact_repository(location)
    inside = MlflowArtifactsRepository.resolve_uri(location, "http://server").partition("/mlflow-artifacts/artifacts")[
        2
    ]
    return get_artifact_repository(f"{destination.rstrip('/')}{inside}")

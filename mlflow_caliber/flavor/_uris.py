"""Which model version a URI means right now."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from mlflow_caliber.exceptions import InvalidInputError

__all__ = ["PinnedUri", "pin_uri"]


class PinnedUri(NamedTuple):
    """A URI that means the same model tomorrow; ``name`` and ``version`` are None unless it names a registered one."""

    uri: str
    name: str | None = None
    version: str | None = None


def pin_uri(uri: str) -> PinnedUri:
    """Resolve an alias, a stage or ``latest`` once, so that all that follows speaks of one version.

    Examples
    --------
    >>> pin_uri("models:/credit/3")
    PinnedUri(uri='models:/credit/3', name='credit', version='3')
    >>> pin_uri("runs:/5c0de/model")
    PinnedUri(uri='runs:/5c0de/model', name=None, version=None)
    """
    if not uri.startswith("models:/"):
        return PinnedUri(uri if ":/" in uri else str(Path(uri).resolve()))
    name, slash, suffix = uri.removeprefix("models:/").lstrip("/").partition("/")
    if slash:
        version = suffix if suffix.isdigit() else _newest(name, suffix)
    elif "@" in name:
        name, alias = name.rsplit("@", 1)
        version = str(MlflowClient().get_model_version_by_alias(name, alias).version)
    else:
        return PinnedUri(uri)  # models:/m-... is a logged model, which never changes
    return PinnedUri(f"models:/{name}/{version}", name, version)


def _newest(name: str, stage: str) -> str:
    """The highest version of a registered model, of all for ``latest``, else of those in a stage."""
    versions: list[ModelVersion] = list(MlflowClient().search_model_versions(f"name='{name}'"))
    if stage.lower() != "latest":
        versions = [each for each in versions if (each.current_stage or "").lower() == stage.lower()]
    if not versions:
        raise InvalidInputError(f"models:/{name}/{stage} must be a version of a registered model, got none.")
    return str(max(int(each.version) for each in versions))

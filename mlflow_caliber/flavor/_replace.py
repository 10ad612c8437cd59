"""The same model with another calibrator, as a new version; and what every new version keeps of its parent."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import RestException
from mlflow.models import Model
from mlflow.models.model import ModelInfo

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.flavor._load import base_folder, flavor_conf, read_model
from mlflow_caliber.flavor._requirements import read_requirements
from mlflow_caliber.flavor._save import log_model
from mlflow_caliber.flavor._state import revision_of
from mlflow_caliber.flavor._uris import pin_uri
from mlflow_caliber.model import Calibrates

_logger = logging.getLogger(__name__)

__all__ = ["carried_over", "replace_calibrator", "tag_lineage"]


def replace_calibrator(
    model_uri: str, calibrator: Calibrates, *, registered_model_name: str | None = None, name: str = "model"
) -> ModelInfo:
    """Log a saved model again with another calibrator; its base stays the same to the byte.

    Parameters
    ----------
    model_uri : str
        A caliber model: ``models:/name/1``, ``models:/name@champion``, ``runs:/...`` or a path.
    calibrator : fitted calibrator
        From the base model's scores to probabilities.
    registered_model_name : str, optional
        Where to register the new version; by default where ``model_uri`` says, and nowhere for other URIs.
    name : str, default "model"
        Name of the logged model.

    Returns
    -------
    ModelInfo
        MLflow's description of the logged model. Its policy is the parent's; a certificate is suspended, since it was
        about the parent's calibrator.

    Raises
    ------
    StateError
        When the parent's calibrator or policy cannot be read.
    InvalidInputError
        For a calibrator that does not fit the base model.

    Examples
    --------
    >>> replace_calibrator("models:/credit@champion", calibrator).registered_model_version  # doctest: +SKIP
    2
    """
    source = pin_uri(model_uri)
    folder = Path(mlflow.artifacts.download_artifacts(source.uri))
    conf = flavor_conf(folder)
    parent = read_model(folder, strict=True)
    if parent.policy is None:  # for the type only: a strict read has raised
        raise InvalidInputError("The parent's abstain policy cannot be read.")
    registered_as = registered_model_name or source.name
    info = log_model(
        str(base_folder(folder, conf)) if "path" in conf["base"] else conf["base"]["uri"],
        name,
        registered_model_name=registered_as,
        bundle_base="path" in conf["base"],
        calibrator=calibrator,
        policy=parent.policy.suspended("the calibrator was replaced"),
        class_prior=parent.class_prior,
        profile=parent.profile,
        **carried_over(folder, conf),
    )
    if registered_as is not None:
        tag_lineage(registered_as, str(info.registered_model_version), revision_of(calibrator), source.version)
    return info


def carried_over(folder: Path, conf: dict[str, Any]) -> dict[str, Any]:
    """What a new version keeps of its parent."""
    meta = Model.load(str(folder))
    code = meta.flavors["python_function"].get("code")
    return {
        **{key: conf.get(key) for key in ("pos_label", "proba_column", "classes", "segment_column")},
        "signature": meta.signature,
        "output": meta.flavors["python_function"].get("config", {}).get("output", "frame"),
        "metadata": meta.metadata,
        "extra_pip_requirements": read_requirements(folder),
        "code_paths": [str(part) for part in sorted((folder / code).iterdir())] if code else None,
    }


def tag_lineage(name: str, version: str, revision: str, parent_version: str | None) -> None:
    """Write the lineage where people look for it: on the new model version."""
    client = MlflowClient()
    tags = {"caliber_calibrator_revision": revision}
    if parent_version is not None:
        tags["caliber_parent_version"] = parent_version
    try:
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)
    except RestException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        # A guarded registry writes these tags itself, if at all; the version is registered all the same.
        _logger.info("The lineage of version %s of %r stays in its files: %s", version, name, error.message)

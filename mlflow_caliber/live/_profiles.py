"""The reference that a model was saved with, fetched once."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlflow_caliber.store import Stream

__all__ = ["ModelProfiles", "Reference"]

_UNREGISTERED = "0"
_TRY_AGAIN = 3_600.0
# Where MLflow keeps models when nobody says where; asked for one, it would make the first of them.
_DEFAULT_STORES = ("mlflow.db", "mlruns")
_logger = logging.getLogger(__name__)


class Reference(NamedTuple):
    """A model's drift profile, or why there is none."""

    profile: Mapping[str, Any] | None
    note: str = ""


class ModelProfiles:
    """The profiles of streams' models, from MLflow's registry; one that was not reached is asked again in an hour."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Reference, float]] = {}

    def __call__(self, stream: Stream, now: float) -> Reference:
        """The reference of the stream's model."""
        key = (stream.model, stream.version)
        found, until = self._known.get(key, (None, 0.0))
        if found is None or now >= until:
            found = _load(stream)
            self._known[key] = found, float("inf") if found.profile is not None else now + _TRY_AGAIN
        return found


def _load(stream: Stream) -> Reference:
    if not _is_registry_named():
        return Reference(
            None, "Drift is not known: the worker must be told of a registry, by --tracking-uri or MLFLOW_TRACKING_URI."
        )
    registered = stream.version != _UNREGISTERED
    uri = f"models:/{stream.model}/{stream.version}" if registered else f"models:/{stream.model}"
    try:
        from mlflow_caliber.flavor import load_model

        profile = load_model(uri).profile
    except Exception as error:  # a registry, a network and any model library
        _logger.info("No reference of %s: %s", uri, type(error).__name__)
        sentence = (
            f"Drift is not known: {uri} could not be loaded ({type(error).__name__}). Register the model under that "
            "name, and start the worker with MLFLOW_TRACKING_URI set to where it is registered."
        )
        return Reference(None, sentence)
    if profile is None:
        return Reference(None, f"Drift is not known: {uri} was saved without a reference.")
    return Reference(profile)


def _is_registry_named() -> bool:
    """Whether somebody said where models are, or they are where MLflow looks first."""
    # What mlflow.set_tracking_uri and set_registry_uri are told stands in the environment too.
    named = any(os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"))
    return named or any(Path(name).exists() for name in _DEFAULT_STORES)

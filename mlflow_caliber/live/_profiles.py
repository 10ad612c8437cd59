"""The reference that a model was saved with, fetched once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlflow_caliber.store import Stream

__all__ = ["ModelProfiles", "Reference"]

_UNREGISTERED = "0"
_TRY_AGAIN = 3_600.0
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
    registered = stream.version != _UNREGISTERED
    uri = f"models:/{stream.model}/{stream.version}" if registered else f"models:/{stream.model}"
    try:
        from mlflow_caliber.flavor import load_model

        profile = load_model(uri).profile
    except Exception as error:  # a registry, a network and any model library
        _logger.info("No reference of %s: %s", uri, type(error).__name__)
        return Reference(None, f"Drift is not known: {uri} could not be loaded ({type(error).__name__}).")
    if profile is None:
        return Reference(None, f"Drift is not known: {uri} was saved without a reference.")
    return Reference(profile)

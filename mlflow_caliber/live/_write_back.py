"""From a live revision back into the registry: a version that is evaluated, gated and promoted like any other."""

from __future__ import annotations

from typing import Any

from mlflow_caliber.calibrators import Calibrator
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.online import CorrectedCalibrator, SnapshotMap
from mlflow_caliber.store import Stream

__all__ = ["save_revision"]

_UNREGISTERED = "0"


def save_revision(stream: Stream, number: int | None = None) -> dict[str, Any]:
    """Register a new version whose calibrator is the shipped one corrected by a revision.

    Parameters
    ----------
    stream : Stream
        Of a model version in the registry, or of a logged model.
    number : int, optional
        The revision; by default the one that is served.

    Returns
    -------
    dict
        ``model_uri``, ``registered_model_version`` (or None) and ``number``.

    Raises
    ------
    InvalidInputError
        If no revision is served, or there is none of that number.
    StateError
        If the revision or the model's own calibrator cannot be read.

    Examples
    --------
    >>> save_revision(store.stream("credit", "3"))  # doctest: +SKIP
    {'model_uri': 'models:/credit/4', 'registered_model_version': '4', 'number': 25}
    """
    # A worker never needs MLflow, and starts in a fraction of the time without it.
    from mlflow_caliber.flavor import load_model, replace_calibrator

    revision = stream.current() if number is None else stream.revision(number)
    if revision is None:
        raise InvalidInputError(f"{stream.model}/{stream.version} serves its shipped calibrator: nothing to save.")
    registered = stream.version != _UNREGISTERED
    uri = f"models:/{stream.model}/{stream.version}" if registered else f"models:/{stream.model}"
    shipped = load_model(uri).calibrator
    if not isinstance(shipped, Calibrator | CorrectedCalibrator):
        raise InvalidInputError("Only the calibrator of a model with two classes can be corrected.")
    info = replace_calibrator(uri, CorrectedCalibrator(shipped, SnapshotMap.from_dict(revision.map)))
    version = None if info.registered_model_version is None else str(info.registered_model_version)
    saved = info.model_uri if version is None else f"models:/{stream.model}/{version}"
    return {"model_uri": saved, "registered_model_version": version, "number": revision.number}

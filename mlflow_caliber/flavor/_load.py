"""Read a saved model back: strictly for a person, and without ever failing a request for a server."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from mlflow_caliber._ids import new_prediction_ids
from mlflow_caliber._validation import check_unit_interval, row_count
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import CaliberError, InvalidInputError, OptionalDependencyError, StateError
from mlflow_caliber.flavor._serving import in_scoring_server, speed_up_scoring_server
from mlflow_caliber.flavor._signature import check_output_mode
from mlflow_caliber.flavor._state import FLAVOR_NAME, FORMAT_VERSION, check_reference, read_state, revision_of
from mlflow_caliber.flavor._verified import check_verified
from mlflow_caliber.model import CalibratedModel, Calibrates
from mlflow_caliber.online import any_calibrator_from_dict
from mlflow_caliber.scorers import scorer_from_path

__all__ = [
    "CaliberPyfunc",
    "RefusedRequest",
    "_load_pyfunc",
    "flavor_conf",
    "load_model",
    "read_calibrator",
    "read_model",
]

STORE_URI = "MLFLOW_CALIBER_STORE_URI"
_logger = logging.getLogger(__name__)


def load_model(model_uri: str, dst_path: str | None = None) -> CalibratedModel:
    """Load a saved calibrated model as itself.

    Parameters
    ----------
    model_uri : str
        ``models:/name/1``, ``models:/name@champion``, ``runs:/...``, or a path.
    dst_path : str, optional
        Folder to download to.

    Returns
    -------
    CalibratedModel

    Raises
    ------
    StateError
        When the calibrator or the policy cannot be read. (A server loads such a model all the same and serves what the
        policy's ``on_calibrator_error`` says.)

    Examples
    --------
    >>> load_model("models:/credit@champion").predict_frame(X)  # doctest: +SKIP
    """
    return read_model(Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=dst_path)), strict=True)


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> CaliberPyfunc:
    """MLflow's entry: the model behind ``mlflow.pyfunc.load_model`` and ``mlflow models serve``."""
    check_verified(Path(path))
    speed_up_scoring_server()
    config = model_config or {}
    store_uri = config.get("store_uri") or (os.environ.get(STORE_URI) if in_scoring_server() else None)
    try:
        # A wrong setting is refused when the model is loaded, not at the first request.
        output = check_output_mode(config.get("output") or "frame")
        threshold = config.get("abstain_threshold")
        threshold = None if threshold is None else check_unit_interval(threshold, "abstain_threshold")
    except CaliberError as error:
        raise MlflowException(f"model_config: {error}", error_code=INVALID_PARAMETER_VALUE) from error
    model = read_model(Path(path), strict=False)
    if store_uri is None:
        return CaliberPyfunc(model, output, threshold, path=path)
    try:
        from mlflow_caliber.flavor._linked_pyfunc import LinkedPyfunc
    except ImportError as error:
        raise OptionalDependencyError(
            f"A store of predictions needs SQLAlchemy and Alembic: pip install 'mlflow-caliber[live]' ({error})."
        ) from error
    return LinkedPyfunc(model, output, threshold, path=path, store_uri=store_uri)


class RefusedRequest(MlflowException):
    """A request that cannot be answered, told to the client in one sentence.

    MLflow's scoring server puts a dump of the request's data in front of a message; what leaves here does not have it.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)
        self._sentence = sentence

    def serialize_as_json(self) -> str:
        """The body of the HTTP answer."""
        return json.dumps({"error_code": self.error_code, "message": self._sentence})


class CaliberPyfunc:
    """A calibrated model with MLflow's calling convention."""

    def __init__(
        self,
        model: CalibratedModel,
        output: str = "frame",
        abstain_threshold: float | None = None,
        path: str | None = None,
    ) -> None:
        self.model = model
        self.path = path
        self.output = output
        self.abstain_threshold = abstain_threshold

    def get_raw_model(self) -> CalibratedModel:
        """The calibrated model itself, whatever the output mode."""
        return self.model

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Answer in the output mode of the params, of the load, or of the save, in this order."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            output = check_output_mode(given.get("output", self.output))
            return self._answer(
                data, output, given.get("segment"), given.get("abstain_threshold", self.abstain_threshold)
            )
        except CaliberError as error:
            _logger.warning("Refused a request: %s Cause: %r", error, error.__cause__)
            # `from None`: the cause may quote the client's data, and MLflow sends stack traces along.
            raise RefusedRequest(str(error)) from None

    def _answer(self, data: Any, output: str, segment: Any, threshold: float | None) -> Any:
        if output == "label":
            return self.model.predict(data, segment=segment)
        if output == "proba":
            return self.model.predict_proba(data, segment=segment)
        return self.model.predict_frame(
            data, segment=segment, abstain_threshold=threshold, prediction_id=new_prediction_ids(row_count(data))
        )


def flavor_conf(path: Path) -> dict[str, Any]:
    """What the MLmodel file says of a caliber model."""
    conf: dict[str, Any] | None = Model.load(str(path)).flavors.get(FLAVOR_NAME)
    if conf is None:
        raise StateError("This MLflow model is not a caliber model: its MLmodel file has no caliber flavor.")
    if conf.get("format_version") != FORMAT_VERSION:
        raise StateError(
            f"A caliber model must have format_version {FORMAT_VERSION}, got {conf.get('format_version')!r}: "
            "it was saved by another version of mlflow-caliber."
        )
    return conf


def base_folder(path: Path, conf: dict[str, Any]) -> Path:
    """Where the base model is: inside the saved model, or behind the URI it refers to."""
    base = conf["base"]
    return path / base["path"] if "path" in base else Path(mlflow.artifacts.download_artifacts(base["uri"]))


def read_calibrator(state: Any, n_classes: int) -> Calibrates:
    """A saved calibrator, tried on the number of classes that it is there for."""
    calibrator = any_calibrator_from_dict(state)
    try:
        calibrator.predict(np.full((1, n_classes), 1.0 / n_classes) if n_classes > 2 else [0.5])
    except InvalidInputError as error:
        raise StateError(f"it does not fit a base model with {n_classes} classes: {error}") from error
    return calibrator


def read_model(path: Path, *, strict: bool) -> CalibratedModel:
    """The model in a folder; unless ``strict``, a state that cannot be read is left out instead of raised."""
    conf = flavor_conf(path)
    scorer = scorer_from_path(
        str(base_folder(path, conf)), proba_column=conf.get("proba_column"), classes=conf.get("classes")
    )
    n_classes = len(scorer.classes_)
    calibrator = read_state(path, "calibrator", lambda state: read_calibrator(state, n_classes), strict=strict)
    reference = read_state(path, "reference", lambda state: check_reference(state, n_classes), strict=strict) or {}
    return CalibratedModel(
        scorer=scorer,
        calibrator=calibrator,
        policy=read_state(path, "policy", AbstainPolicy.from_dict, strict=strict),
        pos_label=conf.get("pos_label"),
        revision="" if calibrator is None else revision_of(calibrator),
        class_prior=reference.get("class_prior"),
        segment_column=conf.get("segment_column"),
        profile=reference.get("profile"),
    )

"""Features or raw scores in, prediction frames out: a model in the stream, without an HTTP hop."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from mlflow_caliber._validation import FloatArray, check_known_keys, check_text, check_unit_interval
from mlflow_caliber.exceptions import CaliberError, ConfigError, InvalidInputError
from mlflow_caliber.kafka._forward import Outgoing
from mlflow_caliber.kafka._messages import Letter, Message, id_of, json_object, time_of
from mlflow_caliber.kafka._record import Handled
from mlflow_caliber.kafka._tally import Tally
from mlflow_caliber.store import Prediction, checked_row

if TYPE_CHECKING:
    from mlflow_caliber.model import CalibratedModel

__all__ = ["FEATURE_KEYS", "Scorer"]

FEATURE_KEYS = ("features", "raw_probability", "segment", "prediction_id", "predicted_at")
"""What a message to be scored may say, when it says more than its features."""

_RAW = "raw_probability"


@dataclass
class _Asked:
    """A message to be scored: its features or its raw score, and what the answer shall be called."""

    message: Message
    row: Mapping[str, Any]
    segment: str | None
    prediction_id: str
    predicted_at: Any


class Scorer:
    """Scores batches of messages.

    Parameters
    ----------
    model_uri : str
        A model of the flavor ``caliber``: ``models:/name@champion``, ``runs:/...``, or a path.
    model, version : str, optional
        What the frames say they are from; by default the name and version in the registry.
    store_uri : str, optional
        A store whose revisions of the calibrator are followed while messages come.
    abstain_threshold : float, optional
        Replaces the thresholds of the model's policy.
    keep_features : bool
        Whether frames bring the features along.
    """

    def __init__(
        self,
        model_uri: str,
        *,
        model: str | None = None,
        version: str | None = None,
        store_uri: str | None = None,
        abstain_threshold: float | None = None,
        keep_features: bool = False,
    ) -> None:
        import mlflow

        # MLflow's own entry to the flavor. Its wrapper around what this gives hides the revision that is followed.
        from mlflow_caliber import _load_pyfunc

        path = str(mlflow.artifacts.download_artifacts(model_uri))
        known = _registered(Path(path))
        name, number = model or known.get("model_name"), version or known.get("model_version")
        if not name or not number:
            raise ConfigError(f"{model_uri} is not registered: name it by --model and --version.")
        self._called = {"model": str(name), "version": str(number)}
        self._served = _load_pyfunc(path, None if store_uri is None else {"store_uri": store_uri})
        self._threshold = (
            None if abstain_threshold is None else check_unit_interval(abstain_threshold, "abstain_threshold")
        )
        self._keep_features = keep_features

    def __call__(self, messages: Sequence[Message], tally: Tally) -> Handled:
        """The frames of the messages, in their order, and the messages that have none."""
        letters: list[Letter] = []
        groups: dict[tuple[frozenset[str], bool], list[_Asked]] = {}
        for message in messages:
            try:
                asked = _asked(message)
            except Exception as error:  # whatever a message makes happen, it is not to happen again and again
                why = (
                    str(error)
                    if isinstance(error, InvalidInputError)
                    else f"It cannot be read: {type(error).__name__}."
                )
                letters.append(Letter(message, why))
                continue
            # Rows of other columns make another table: one that is odd must not change the others.
            groups.setdefault((frozenset(asked.row), asked.segment is None), []).append(asked)
        found: list[Outgoing] = []
        for group in groups.values():
            self._score(group, found, letters)
        found.sort(key=lambda each: (each.message.partition(), each.message.offset()))
        return Handled(found, letters)

    def close(self) -> None:
        """Let go of the store."""
        link = getattr(self._served, "link", None)
        if link is not None:
            link.close()

    def _score(self, group: Sequence[_Asked], found: list[Outgoing], letters: list[Letter]) -> None:
        """Score the rows together; when that cannot be, the halves, down to the one that is to blame."""
        try:
            frames = self._frames(group)
        except Exception as error:  # a base model may raise anything
            if len(group) == 1:
                why = str(error) if isinstance(error, CaliberError) else f"{type(error).__name__}: {error}"[:300]
                letters.append(Letter(group[0].message, f"The model cannot score this: {why}"))
                return
            middle = len(group) // 2
            self._score(group[:middle], found, letters)
            self._score(group[middle:], found, letters)
            return
        for asked, frame in zip(group, frames, strict=True):
            try:
                checked_row(Prediction(**frame))  # what the store would refuse is not written
            except InvalidInputError as error:
                letters.append(Letter(asked.message, str(error)))
            else:
                found.append(Outgoing(asked.message, self._line(frame), []))

    def _frames(self, group: Sequence[_Asked]) -> list[dict[str, Any]]:
        import pandas as pd

        link = getattr(self._served, "link", None)
        shipped: CalibratedModel = self._served.model
        model: CalibratedModel = shipped if link is None else link.model  # once: a revision may come meanwhile
        data = pd.DataFrame([each.row for each in group])
        if list(data.columns) == [_RAW]:
            scores = _Scores(model.classes_, model.pos_index)
            model, shipped = replace(model, scorer=scores), replace(shipped, scorer=scores)
        named = [each.segment for each in group]
        segment = None if named[0] is None else np.array(named, dtype=object)
        frame = model.predict_frame(
            data,
            segment=segment,
            abstain_threshold=self._threshold,
            prediction_id=[each.prediction_id for each in group],
        )
        segments = model.segments_of(data, segment)
        frame["base_probability"] = _bases(shipped, frame, segments)
        frame["segment"] = [None] * len(group) if segments is None else list(segments)
        rows: Any = frame.to_dict("list")
        return [self._frame(each, {key: rows[key][i] for key in rows}) for i, each in enumerate(group)]

    def _frame(self, asked: _Asked, row: Mapping[str, Any]) -> dict[str, Any]:
        kept = self._keep_features and _RAW not in asked.row
        return {**row, "predicted_at": asked.predicted_at, **({"features": dict(asked.row)} if kept else {})}

    def _line(self, frame: Mapping[str, Any]) -> bytes:
        told = {"kind": "prediction", **self._called, **frame}
        return json.dumps(told, allow_nan=False, ensure_ascii=False).encode(errors="replace")


class _Scores:
    """A base model whose answers were made elsewhere: the column of raw scores."""

    def __init__(self, classes: Any, pos_index: int) -> None:
        self.classes_ = classes
        self._pos_index = pos_index

    def predict_proba(self, X: Any) -> FloatArray:
        """The raw scores as class probabilities."""
        if len(self.classes_) != 2:
            raise InvalidInputError(f"raw_probability is for two classes, and the model has {len(self.classes_)}.")
        p = np.asarray(X[_RAW], dtype=np.float64)
        return np.column_stack((1.0 - p, p) if self._pos_index == 1 else (p, 1.0 - p))


def _asked(message: Message) -> _Asked:
    """What a message wants: an object of features, or one of :data:`FEATURE_KEYS`."""
    told = json_object(message)
    if not (isinstance(told.get("features"), dict) or _RAW in told):
        told = {"features": told}
    try:
        check_known_keys(told, FEATURE_KEYS, "A message to be scored")
    except ConfigError as error:
        raise InvalidInputError(str(error)) from error
    if ("features" in told) == (_RAW in told):
        raise InvalidInputError("A message to be scored must have either features or raw_probability, got both.")
    row = told.get("features")
    if row is None:
        row = {_RAW: check_unit_interval(told[_RAW], _RAW)}
    if not row:
        raise InvalidInputError("A message to be scored must have features, got an empty object.")
    segment = told.get("segment")
    when = time_of(message) if told.get("predicted_at") is None else told["predicted_at"]
    return _Asked(
        message,
        row,
        None if segment is None else check_text(segment, "segment"),
        check_text(told["prediction_id"], "prediction_id") if "prediction_id" in told else id_of(message),
        time.time() if when is None else when,
    )


def _bases(shipped: CalibratedModel, frame: Any, segments: Any) -> list[float]:
    """What the shipped calibrator makes of the raw scores; the answer itself where no revision can have changed it."""
    if len(shipped.classes_) > 2 or shipped.calibrator is None:
        return [float(p) for p in frame["probability"]]
    raw = frame[_RAW].to_numpy()
    columns = np.column_stack((1.0 - raw, raw) if shipped.pos_index == 1 else (raw, 1.0 - raw))
    return [float(p) for p in shipped.calibrate(columns, segments)[:, shipped.pos_index]]


def _registered(path: Path) -> dict[str, Any]:
    """Name and version in the registry, as MLflow writes them beside a model that it has fetched from there."""
    meta = path / "registered_model_meta"
    return dict(yaml.safe_load(meta.read_text(encoding="utf-8"))) if meta.is_file() else {}

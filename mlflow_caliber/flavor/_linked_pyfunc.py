"""A served model that reports what it answered and follows its recalibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlflow_caliber._ids import new_prediction_ids
from mlflow_caliber._validation import FloatArray, row_count
from mlflow_caliber.flavor._load import CaliberPyfunc
from mlflow_caliber.flavor._store_link import link_for
from mlflow_caliber.model import CalibratedModel

__all__ = ["LinkedPyfunc"]


class LinkedPyfunc(CaliberPyfunc):
    """A calibrated model whose predictions go to a store and whose revisions come from there."""

    def __init__(
        self, model: CalibratedModel, output: str, abstain_threshold: float | None, *, path: str, store_uri: str
    ) -> None:
        super().__init__(model, output, abstain_threshold, path)
        self.link = link_for(model, Path(path), store_uri)

    def _answer(self, data: Any, output: str, segment: Any, threshold: float | None) -> Any:
        model = self.link.model  # once: the next revision may come while this one answers
        frame = model.predict_frame(
            data, segment=segment, abstain_threshold=threshold, prediction_id=new_prediction_ids(row_count(data))
        )
        self.link.log(frame, model.segments_of(data, segment))
        if output == "label":
            return frame["prediction"].to_numpy(dtype=model.classes_.dtype)
        return _probabilities(frame, model) if output == "proba" else frame


def _probabilities(frame: pd.DataFrame, model: CalibratedModel) -> FloatArray:
    if len(model.classes_) > 2:
        return np.array(frame["probabilities"].tolist(), dtype=np.float64).reshape(len(frame), -1)
    p = frame["probability"].to_numpy()
    return np.column_stack((1.0 - p, p) if model.pos_index == 1 else (p, 1.0 - p))

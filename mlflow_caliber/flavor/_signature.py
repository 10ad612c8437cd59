"""The model's signature: the base's features in, the prediction frame out, and the params a request may carry."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array

from mlflow_caliber._validation import check_choice
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.model import CalibratedModel

__all__ = ["OUTPUT_MODES", "check_output_mode", "input_schema", "model_signature"]

OUTPUT_MODES = ("frame", "label", "proba")
"""What ``predict`` answers: the prediction frame, labels, or an (n, K) array of calibrated probabilities."""

# Every default is null, which means "as the model was loaded": a default of its own would overrule model_config.
_PARAMS = ParamSchema(
    [
        ParamSpec("output", DataType.string, None),
        ParamSpec("segment", DataType.string, None),
        ParamSpec("abstain_threshold", DataType.double, None),
    ]
)

_ENOUGH_ROWS = 1000

_LABEL_TYPES = {"b": DataType.boolean, "i": DataType.long, "u": DataType.long, "f": DataType.double}


def check_output_mode(value: Any) -> str:
    """One of :data:`OUTPUT_MODES`."""
    return check_choice(value, "output", OUTPUT_MODES)


def model_signature(model: CalibratedModel, inputs: Schema | None, output: str) -> ModelSignature:
    """Signature of a saved model. Without its params schema MLflow would drop params with only a warning."""
    return ModelSignature(inputs=inputs, outputs=_output_schema(model, output), params=_PARAMS)


def input_schema(X: Any) -> Schema | None:
    """Schema of the features, refused loudly where MLflow would drop it in silence."""
    if not isinstance(X, pd.DataFrame | np.ndarray):
        return None
    with warnings.catch_warnings():
        # "Inferred schema contains integer column(s)": the types are the base model's, so the hint has no addressee.
        warnings.filterwarnings("ignore", message=".*integer column.*")
        signature = infer_signature(_few_rows(_without_missing_integers(X)))
    schema: Schema | None = signature.inputs
    if schema is None:
        raise InvalidInputError("No MLflow signature fits the calibration data; pass signature= or simpler columns.")
    return schema


def _without_missing_integers(X: Any) -> Any:
    """Nullable integers and booleans that do hold missing values travel as double: JSON has no other way."""
    if not isinstance(X, pd.DataFrame):
        return X
    columns = {
        name: np.float64
        for name, dtype in X.dtypes.items()
        if isinstance(dtype, pd.api.extensions.ExtensionDtype) and dtype.kind in "biuf" and X[name].isna().any()
    }
    plain = {
        name: dtype.numpy_dtype
        for name, dtype in X.dtypes.items()
        if name not in columns and hasattr(dtype, "numpy_dtype") and dtype.kind in "biuf"
    }
    return X.astype({**columns, **plain})


def _few_rows(X: Any) -> Any:
    """The first thousand rows and one with a gap for each column that has any; MLflow would look at every cell."""
    if not isinstance(X, pd.DataFrame) or len(X) <= _ENOUGH_ROWS:
        return X
    first_missing = X.isna().to_numpy().argmax(axis=0)
    return X.iloc[sorted({*range(_ENOUGH_ROWS), *first_missing.tolist()})]


def _output_schema(model: CalibratedModel, output: str) -> Schema:
    label = _LABEL_TYPES.get(model.classes_.dtype.kind, DataType.string)
    if output == "label":
        return Schema([ColSpec(label)])
    if output == "proba":
        return Schema([ColSpec(DataType.double, str(name)) for name in model.classes_])
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(label, "prediction"),
        ColSpec(DataType.double, "probability"),
        ColSpec(DataType.double, "raw_probability"),
        ColSpec(DataType.double, "confidence"),
        ColSpec(DataType.boolean, "abstained"),
        ColSpec(DataType.string, "reason"),
        ColSpec(DataType.string, "prediction_id"),
        ColSpec(DataType.string, "calibrator_revision"),
    ]
    if len(model.classes_) > 2:
        columns.append(ColSpec(Array(DataType.double), "probabilities"))
    return Schema(columns)

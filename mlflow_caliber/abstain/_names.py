"""Segments and predicted classes by name: the text of their value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber._validation import FloatArray, check_class_names, check_column, check_no_missing
from mlflow_caliber.exceptions import InvalidInputError


def thresholds_of(names: NDArray[np.object_], thresholds: Mapping[str, float]) -> FloatArray:
    """The threshold of each name; NaN where it has none."""
    codes, distinct = pd.factorize(names)
    limits = [thresholds.get(str(name), np.nan) for name in distinct]
    return np.array([*limits, np.nan])[codes]  # missing names have code -1


def label_texts(predicted: ArrayLike, n: int) -> NDArray[np.object_]:
    column = check_no_missing(check_column(predicted, "predicted", n), "predicted")
    codes, distinct = pd.factorize(column)
    return np.array([str(label) for label in distinct], dtype=object)[codes]


def class_names(classes: Sequence[Any] | None, labels: NDArray[np.object_]) -> tuple[str, ...]:
    seen = sorted(set(labels))
    if classes is None:
        return tuple(seen)
    names = check_class_names(classes, len(classes))
    strangers = [name for name in seen if name not in names]
    if strangers:
        raise InvalidInputError(f"predicted must hold the classes {', '.join(names)}, got {strangers[0]!r}.")
    return names

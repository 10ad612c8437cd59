"""The rows of a report: checked once, cut into slices, and the same for every metric that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber._validation import FloatArray, check_column, segment_names
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import Outcomes

MAX_SEGMENTS_PER_COLUMN = 1000
MISSING = "(missing)"

Slices = dict[str, NDArray[np.object_]]


@dataclass(frozen=True)
class Rows:
    """Checked rows; ``ranking`` holds the probabilities that the AUC is computed on, ``group`` the policy's segment."""

    y: NDArray[Any]
    proba: FloatArray
    ranking: FloatArray
    weight: FloatArray | None
    group: NDArray[np.object_] | None

    @property
    def binary(self) -> bool:
        return self.proba.ndim == 1

    @property
    def n_classes(self) -> int:
        return 2 if self.binary else self.proba.shape[1]

    @cached_property
    def confidence(self) -> FloatArray:
        top: FloatArray = np.maximum(self.proba, 1.0 - self.proba) if self.binary else self.proba.max(axis=1)
        return top

    @cached_property
    def guess(self) -> NDArray[np.intp]:
        """Position of the predicted class."""
        return np.asarray(self.proba > 0.5 if self.binary else self.proba.argmax(axis=1), dtype=np.intp)

    @cached_property
    def correct(self) -> FloatArray:
        return np.asarray(self.guess == self.y, dtype=np.float64)

    @cached_property
    def event(self) -> tuple[FloatArray, FloatArray]:
        """What calibration is about: the outcome of one event per row and its stated probability."""
        return (self.y, self.proba) if self.binary else (self.correct, self.confidence)

    def take(self, index: NDArray[Any]) -> Rows:
        parts = (self.y, self.proba, self.ranking, self.weight, self.group)
        return Rows(*(None if part is None else part[index] for part in parts))  # type: ignore[arg-type]


def check_rows(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    raw: ArrayLike | None,
    sample_weight: ArrayLike | None,
    group: ArrayLike | None,
) -> tuple[Rows, NDArray[np.bool_]]:
    """The rows that count, and which of the given ones they are."""
    checked = Outcomes(y_true, y_proba, raw=raw, sample_weight=sample_weight)
    weight, n = checked.sample_weight, checked.y_true.size
    group = None if group is None else segment_names(check_column(group, "policy_segment", n))
    rows = Rows(checked.y_true, checked.y_proba, checked.raw, weight, group)
    kept = np.ones(n, dtype=bool) if weight is None else weight > 0.0
    if weight is None:
        return rows, kept
    rows = rows.take(kept)
    # Weights are relative, so equal ones say nothing.
    return (replace(rows, weight=None) if np.ptp(weight[kept]) == 0.0 else rows), kept


def check_segments(segments: Mapping[str, ArrayLike] | pd.DataFrame, kept: NDArray[np.bool_]) -> Slices:
    """Per column the name of each kept row's segment."""
    slices = {}
    for column, values in segments.items():
        names = segment_names(check_column(values, f"segments[{column!r}]", kept.size)[kept])
        names[names == None] = MISSING  # noqa: E711 - element by element
        n_distinct = len(set(names))
        if n_distinct > MAX_SEGMENTS_PER_COLUMN:
            raise InvalidInputError(
                f"segments[{column!r}] must have at most {MAX_SEGMENTS_PER_COLUMN} distinct values, got {n_distinct}: "
                "cut it into ranges or groups first."
            )
        slices[str(column)] = names
    return slices

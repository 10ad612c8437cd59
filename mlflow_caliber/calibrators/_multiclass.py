"""More than two classes: temperature on the whole simplex, every other map one class against the rest."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from mlflow_caliber._validation import (
    FloatArray,
    check_choice,
    check_label_indices,
    check_probability_matrix,
    check_same_length,
    check_weights,
)
from mlflow_caliber.calibrators._base import Calibrator, JsonForm
from mlflow_caliber.calibrators._registry import CALIBRATORS, read_as
from mlflow_caliber.calibrators._state import StateReader
from mlflow_caliber.calibrators._temperature import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_temperature
from mlflow_caliber.exceptions import OneClassError

__all__ = ["MulticlassCalibrator"]

_WHOLE_SIMPLEX = ("identity", "temperature")
_CLIP = 1e-6


class MulticlassCalibrator(JsonForm):
    """Calibrated class probabilities, rows summing to one.

    ``identity`` and ``temperature`` act on all classes at once. Any other method calibrates each class against
    the rest and divides by the sum of the row; a class that never occurred in the data keeps its raw column.

    Parameters
    ----------
    method : str, default="auto"
        A key of :data:`CALIBRATORS`.

    Attributes
    ----------
    n_classes_ : int
        K, the number of columns.
    n_samples_ : int
        Rows with positive weight.
    temperature_ : float
        Of the methods identity (always 1) and temperature.
    columns_ : list of Calibrator or None
        Of the other methods: the map of each class; None for a class that never occurred.

    References
    ----------
    Zadrozny, B., Elkan, C. (2002). Transforming classifier scores into accurate multiclass probability estimates. KDD.
    Guo, C., Pleiss, G., Sun, Y., Weinberger, K. (2017). On calibration of modern neural networks. ICML.

    Examples
    --------
    >>> proba = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9], [0.9, 0.05, 0.05]]
    >>> calibrator = MulticlassCalibrator("temperature").fit(proba, [0, 1, 2, 1])
    >>> calibrator.predict([[0.9, 0.05, 0.05]]).round(3)
    array([[0.75 , 0.125, 0.125]])
    """

    name: ClassVar[str] = "multiclass"
    n_classes_: int
    temperature_: float
    columns_: list[Calibrator | None]

    def __init__(self, method: str = "auto") -> None:
        self.method = method

    def fit(self, proba: ArrayLike, y_index: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from class probabilities whose outcomes are known.

        Parameters
        ----------
        proba : array-like of shape (n, K)
            Rows sum to one.
        y_index : array-like of shape (n,)
            Index of the class that occurred, 0 to K - 1.
        sample_weight : array-like of shape (n,), optional
            Non-negative; w counts as w repeated rows.

        Returns
        -------
        MulticlassCalibrator
            Itself.

        Raises
        ------
        InvalidInputError
            Probabilities, indices or weights that cannot be used.
        OneClassError
            Only one class carries weight.
        """
        self._check_params()
        matrix = check_probability_matrix(proba, "proba")
        labels = check_label_indices(y_index, matrix.shape[1], "y_index")
        n = check_same_length(proba=matrix, y_index=labels)
        weight = check_weights(sample_weight, n)
        if weight is None:
            weight = np.ones(n)
        used = weight > 0.0
        self._fit(matrix[used], np.eye(matrix.shape[1])[labels[used]], weight[used])
        self.n_classes_, self.n_samples_ = matrix.shape[1], int(used.sum())
        return self

    def predict(self, proba: ArrayLike) -> FloatArray:
        """Calibrated class probabilities.

        Parameters
        ----------
        proba : array-like of shape (n, K)
            Rows sum to one.

        Returns
        -------
        ndarray of shape (n, K)
            Rows sum to one. A row for which every class map answers 0 keeps its raw probabilities.

        Raises
        ------
        InvalidInputError
            Another number of columns than in :meth:`fit`, NaN, values outside [0, 1], rows that do not sum to one.
        """
        self._check_is_fitted()
        matrix = check_probability_matrix(proba, "proba", n_classes=self.n_classes_)
        if self.method in _WHOLE_SIMPLEX:
            return matrix if self.temperature_ == 1.0 else softmax(_log(matrix) / self.temperature_, axis=1)
        columns = [matrix[:, k] if each is None else each._map(matrix[:, k]) for k, each in enumerate(self.columns_)]
        return _normalised(np.column_stack(columns), matrix)

    def _check_params(self) -> None:
        check_choice(self.method, "method", CALIBRATORS)

    def _fit(self, proba: FloatArray, one_hot: FloatArray, weight: FloatArray) -> None:
        seen: NDArray[np.bool_] = one_hot.max(axis=0) > 0.0
        if seen.sum() < 2:
            raise OneClassError(
                f"The multiclass calibrator needs two classes, got only class {seen.argmax()} in {len(proba)} rows."
            )
        if self.method in _WHOLE_SIMPLEX:
            self.temperature_ = 1.0 if self.method == "identity" else fit_temperature(_log(proba.T), one_hot.T, weight)
            return
        self.columns_ = [
            CALIBRATORS[self.method]().fit(proba[:, k], one_hot[:, k], weight) if seen[k] else None
            for k in range(seen.size)
        ]

    def _state(self) -> dict[str, Any]:
        if self.method in _WHOLE_SIMPLEX:
            return {"n_classes": self.n_classes_, "temperature": self.temperature_}
        columns = [None if each is None else each.to_dict() for each in self.columns_]
        return {"n_classes": self.n_classes_, "columns": columns}

    def _restore(self, state: StateReader) -> None:
        self.n_classes_ = state.integer("n_classes", 2)
        if self.method in _WHOLE_SIMPLEX:
            low, high = (1.0, 1.0) if self.method == "identity" else (MIN_TEMPERATURE, MAX_TEMPERATURE)
            self.temperature_ = state.number("temperature", low, high)
            return
        columns = state.sequence("columns")
        if len(columns) != self.n_classes_:
            raise state.fault(f"'columns' must hold one map for each of {self.n_classes_} classes, got {len(columns)}.")
        if self.n_classes_ - columns.count(None) < 2:
            raise state.fault("'columns' must hold the maps of at least two classes, got fewer.")
        own_kind = {self.method: CALIBRATORS[self.method]}
        self.columns_ = [None if each is None else read_as(each, own_kind) for each in columns]


def _log(proba: FloatArray) -> FloatArray:
    return np.log(np.clip(proba, _CLIP, 1.0 - _CLIP))


def _normalised(proba: FloatArray, raw: FloatArray) -> FloatArray:
    """Rows divided by their sum; a row of zeros has none and stays raw."""
    total = proba.sum(axis=1, keepdims=True)
    known = total > 0.0
    return np.where(known, proba / np.where(known, total, 1.0), raw)

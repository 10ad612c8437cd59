"""More than two classes: temperature and vector scaling on the whole simplex, other maps one class against the rest."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import (
    FloatArray,
    check_choice,
    check_counted_weights,
    check_label_indices,
    check_probability_matrix,
    check_same_length,
)
from mlflow_caliber.calibrators._base import Calibrator, JsonForm
from mlflow_caliber.calibrators._simplex import METHODS, SimplexMap
from mlflow_caliber.exceptions import OneClassError

__all__ = ["MulticlassCalibrator"]


class MulticlassCalibrator(JsonForm):
    """Calibrated class probabilities, rows summing to one.

    ``identity``, ``temperature`` and ``vector`` act on all classes at once. Any other method calibrates each class
    against the rest and divides by the sum of the row; a class that never occurred in the data keeps its raw column.

    ``vector`` is vector scaling, softmax(a_k ln p_k + b_k) with a slope a_k >= 0 and an offset b_k for each class k:
    a class's probability never falls when its own raw probability rises and no other does. The coefficients are the
    mode of their posterior under a_k ~ N(1, 0.354^2) and b_k ~ N(0, 0.5^2), so that few rows stay near the identity;
    the offsets sum to zero. A class that never occurred becomes less probable with every row that could have been of
    it, and never impossible. Of two classes it is beta calibration with ``prior_precision=(8, 8, 2)``.

    Parameters
    ----------
    method : str, default="auto"
        A key of :data:`CALIBRATORS`, or vector.

    Attributes
    ----------
    n_classes_ : int
        K, the number of columns.
    n_samples_ : int
        Rows with positive weight.
    temperature_ : float
        Of the methods identity (always 1) and temperature.
    slopes_, offsets_ : ndarray of shape (K,)
        Of the method vector: a and b.
    columns_ : list of Calibrator or None
        Of the other methods: the map of each class; None for a class that never occurred.

    References
    ----------
    Zadrozny, B., Elkan, C. (2002). Transforming classifier scores into accurate multiclass probability estimates. KDD.
    Guo, C., Pleiss, G., Sun, Y., Weinberger, K. (2017). On calibration of modern neural networks. ICML.
    Kull, M., Perello-Nieto, M., Kängsepp, M., Silva Filho, T., Song, H., Flach, P. (2019). Beyond temperature scaling:
    obtaining well-calibrated multiclass probabilities with Dirichlet calibration (section on regularisation). NeurIPS.

    Examples
    --------
    >>> proba = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9], [0.9, 0.05, 0.05]]
    >>> calibrator = MulticlassCalibrator("temperature").fit(proba, [0, 1, 2, 1])
    >>> calibrator.predict([[0.9, 0.05, 0.05]]).round(3)
    array([[0.75 , 0.125, 0.125]])
    >>> MulticlassCalibrator("vector").fit(proba, [0, 1, 2, 1]).predict([[0.9, 0.05, 0.05]]).round(3)
    array([[0.821, 0.131, 0.048]])
    """

    name: ClassVar[str] = "multiclass"
    n_classes_: int
    _simplex_map: SimplexMap

    def __init__(self, method: str = "auto") -> None:
        self.method = method

    @property
    def temperature_(self) -> float:
        return self._simplex_map.temperature

    @property
    def slopes_(self) -> FloatArray:
        return self._simplex_map.slopes

    @property
    def offsets_(self) -> FloatArray:
        return self._simplex_map.offsets

    @property
    def columns_(self) -> list[Calibrator | None]:
        return self._simplex_map.columns

    def fit(self, proba: ArrayLike, y_index: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from class probabilities whose outcomes are known.

        Parameters
        ----------
        proba : array-like of shape (n, K)
            Rows sum to one.
        y_index : array-like of shape (n,)
            Index of the class that occurred, 0 to K - 1.
        sample_weight : array-like of shape (n,), optional
            Non-negative, at most 1e100; w counts as w repeated rows.

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
        weight = check_counted_weights(sample_weight, n)
        if weight is None:
            weight = np.ones(n)
        used = weight > 0.0
        matrix, labels = matrix[used], labels[used]
        if np.all(labels == labels[0]):
            raise OneClassError(
                f"The multiclass calibrator needs two classes, got only class {labels[0]} in {labels.size} rows."
            )
        self._simplex_map = METHODS[self.method].fit(self.method, matrix, labels, weight[used])
        self.n_classes_, self.n_samples_ = matrix.shape[1], labels.size
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
        return self._simplex_map.map(check_probability_matrix(proba, "proba", n_classes=self.n_classes_))

    def _check_params(self) -> None:
        check_choice(self.method, "method", METHODS)

    def _state(self) -> dict[str, Any]:
        return {"n_classes": self.n_classes_, **self._simplex_map.state()}

    def _restore(self, state: StateReader) -> None:
        self.n_classes_ = state.integer("n_classes", 2)
        self._simplex_map = METHODS[self.method].read(self.method, state, self.n_classes_)

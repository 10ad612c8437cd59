"""Predictions whose outcomes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber._validation import FloatArray, check_labels, check_probabilities, check_weights
from mlflow_caliber.exceptions import InvalidInputError


@dataclass(frozen=True, eq=False, init=False)
class Outcomes:
    """A sample of predictions whose outcomes are known: a held-out set, or the latest labelled rows in production.

    Attributes
    ----------
    y_true : array-like of shape (n,)
        0 or 1; with class probabilities of shape (n, K), the index of the class, 0 to K-1.
    y_proba : array-like of shape (n,) or (n, K)
        The served probabilities, of class 1 or of every class. Two columns are read as binary: column 1 is class 1.
    raw : array-like of the shape of `y_proba`, optional
        The scores before calibration, in [0, 1], which rank the rows. Calibrators that make ties (isotonic) change the
        AUC; that of the raw scores is the model's. By default `y_proba`.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range.

    Examples
    --------
    >>> from mlflow_caliber.metrics import Outcomes
    >>> Outcomes([0, 1, 1], [0.2, 0.6, 0.9]).n
    3
    """

    y_true: NDArray[Any]
    y_proba: FloatArray
    raw: FloatArray
    sample_weight: FloatArray | None

    def __init__(
        self,
        y_true: ArrayLike,
        y_proba: ArrayLike,
        *,
        raw: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> None:
        proba = check_probabilities(y_proba)
        scores = proba if raw is None else check_probabilities(raw, "raw")
        if scores.shape != proba.shape:
            raise InvalidInputError(f"raw must have the shape of y_proba, got {scores.shape} for {proba.shape}.")
        y = check_labels(y_true, proba)
        checked = (("y_true", y), ("y_proba", proba), ("raw", scores))
        for name, value in (*checked, ("sample_weight", check_weights(sample_weight, y.size))):
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, given: Outcomes | Sequence[ArrayLike], name: str) -> Outcomes:
        """What was given, or the outcomes of a pair ``(y_true, y_proba)``."""
        if isinstance(given, Outcomes):
            return given
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            kind = type(given).__name__
            raise InvalidInputError(f"{name} must be Outcomes or a pair (y_true, y_proba), got a {kind}.")
        return cls(*given)

    @property
    def n(self) -> int:
        """Rows that carry weight."""
        return self.y_true.size if self.sample_weight is None else int((self.sample_weight > 0.0).sum())

    @property
    def binary(self) -> bool:
        """Whether there are two classes."""
        return self.y_proba.ndim == 1

    @property
    def event(self) -> tuple[FloatArray, FloatArray]:
        """What calibration is about, and its probability: class 1; of more than two, that the winning one is right."""
        return event(self.y_true, self.y_proba)


def predicted(proba: FloatArray) -> NDArray[np.intp]:
    """The predicted class: 1 if its probability exceeds 1/2; of more than two the most probable."""
    return np.asarray(proba > 0.5 if proba.ndim == 1 else proba.argmax(axis=1), dtype=np.intp)


def event(y: NDArray[Any], proba: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The outcome that calibration is about, 0 or 1, and its probability."""
    if proba.ndim == 1:
        return y, proba
    return np.asarray(predicted(proba) == y, dtype=np.float64), proba.max(axis=1)

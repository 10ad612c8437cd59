"""What every calibrator shares: the checks, the scikit-learn manners, the saved form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import (
    FloatArray,
    IntArray,
    check_binary_outcomes,
    check_both_classes,
    check_counted_weights,
    check_same_length,
    check_scores,
)
from mlflow_caliber.exceptions import InvalidInputError, StateError

__all__ = ["FORMAT_VERSION", "Calibrator", "JsonForm", "read_header"]

# To change the form: raise this number, keep reading every lower one (the reader gets the version), and add one
# golden file per calibrator under tests/calibrators/golden/ without touching the files that are there.
FORMAT_VERSION = 1


class JsonForm(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn ships no types
    """A fitted estimator that is saved as ``{"name", "format_version", "params", "state"}``."""

    name: ClassVar[str]
    uses_segment: ClassVar[bool] = False
    """Whether ``fit`` and ``predict`` take the segment of each row."""
    n_samples_: int

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_samples_")

    def to_dict(self) -> dict[str, Any]:
        """The fitted calibrator as plain JSON values; floats keep every bit.

        Returns
        -------
        dict
            ``name``, ``format_version``, ``params`` (the constructor's) and ``state`` (what was fitted).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        """
        self._check_is_fitted()
        return {
            "name": self.name,
            "format_version": FORMAT_VERSION,
            "params": {key: _plain(value) for key, value in self.get_params(deep=False).items()},
            "state": {"n_samples": self.n_samples_, **self._state()},
        }

    @classmethod
    def from_parts(cls, params: Any, state: Any) -> Self:
        """The inverse of :meth:`to_dict`, for a reader that has dealt with name and version."""
        calibrator = cls(**_read_params(cls, params))
        try:
            calibrator._check_params()
        except InvalidInputError as error:
            raise StateError(f"Saved {cls.name} calibrator, params: {error}") from error
        reader = StateReader(state, f"Saved {cls.name} calibrator, state:")
        calibrator.n_samples_ = reader.integer("n_samples", 1)
        calibrator._restore(reader)
        reader.close()
        return calibrator

    def _check_is_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(f"This {type(self).__name__} must be fitted first: call fit(scores, y).")

    def _check_params(self) -> None:
        """Refuse constructor parameters that make no sense; scikit-learn's manners keep this out of ``__init__``."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """What was fitted, as JSON values."""

    @abstractmethod
    def _restore(self, state: StateReader) -> None:
        """Set the fitted attributes from what :meth:`_state` wrote."""


class Calibrator(JsonForm):
    """A non-decreasing map from a binary model's score to a probability.

    Every calibrator has this contract: scores and probabilities lie in [0, 1], the map never decreases, a weight acts
    as that many repeated rows, the order of the rows does not matter, and labels of one class are refused.
    """

    def fit(self, scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the map from scores whose outcomes are known.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Score of the positive class in [0, 1], on data that the base model was not fitted on.
        y : array-like of shape (n,)
            Outcomes, 0 or 1.
        sample_weight : array-like of shape (n,), optional
            Non-negative; w counts as w repeated rows. Relative weights should be scaled to sum to the number of rows.

        Returns
        -------
        Calibrator
            Itself. ``n_samples_`` is the number of rows with positive weight.

        Raises
        ------
        InvalidInputError
            NaN, a score outside [0, 1], labels other than 0 and 1, empty input, lengths that differ, weights that
            are negative or above 1e100.
        OneClassError
            Only one class carries weight.
        """
        self._check_params()
        x = check_scores(scores, "scores")
        labels = check_binary_outcomes(y, "y")
        n = check_same_length(scores=x, y=labels)
        weight = check_counted_weights(sample_weight, n)
        check_both_classes(labels, weight, f"The {self.name} calibrator")
        if weight is not None:
            used = weight > 0.0
            x, labels, weight = x[used], labels[used], weight[used]
        self._fit(x, labels, weight)
        self.n_samples_ = x.size
        return self

    def predict(self, scores: ArrayLike) -> FloatArray:
        """The calibrated probability of each score.

        Parameters
        ----------
        scores : array-like of shape (n,)
            In [0, 1].

        Returns
        -------
        ndarray of shape (n,)
            ``float64``, in [0, 1], non-decreasing in the score.

        Raises
        ------
        InvalidInputError
            NaN, a score outside [0, 1], empty input.
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        """
        self._check_is_fitted()
        return self._map(check_scores(scores, "scores"))

    @abstractmethod
    def _fit(self, scores: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> None:
        """Fit checked rows. Without weights each row counts once, and the labels are 0 and 1 and of both classes.

        With weights labels may be fractions and of one class: cross-validation meets both.
        """

    @abstractmethod
    def _map(self, scores: FloatArray) -> FloatArray:
        """The map itself, on checked scores."""


def read_header(data: Any) -> tuple[str, Any, Any]:
    """Name, params and state of a saved calibrator of this format version."""
    reader = StateReader(data, "Saved calibrator:")
    name, version = reader.text("name"), reader.integer("format_version", 1)
    if version != FORMAT_VERSION:
        raise reader.fault(
            f"'format_version' must be {FORMAT_VERSION}, got {version}: a newer mlflow-caliber has written it."
        )
    params, state = reader.value("params"), reader.value("state")
    reader.close()
    return name, params, state


def _read_params(cls: type[JsonForm], params: Any) -> dict[str, Any]:
    reader = StateReader(params, f"Saved {cls.name} calibrator, params:")
    values = {key: reader.value(key) for key in cls._get_param_names()}
    reader.close()
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _plain(value: Any) -> Any:
    """A constructor parameter as a JSON value."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value

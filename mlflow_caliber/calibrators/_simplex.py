"""Maps from a row of class probabilities to another, as fitted values: of the whole row, or class by class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray
from mlflow_caliber.calibrators._base import Calibrator
from mlflow_caliber.calibrators._registry import CALIBRATORS, read_as
from mlflow_caliber.calibrators._softmax import SoftmaxProblem
from mlflow_caliber.calibrators._temperature import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_temperature

__all__ = ["METHODS", "SimplexMap"]

_CLIP = 1e-6
# Of the normal priors of a vector map's slopes and offsets, one over the variance. Of two classes the difference of the
# offsets then has precision 2, and the map is beta calibration with the precisions (8, 8, 2).
_SLOPE_PRECISION, _OFFSET_PRECISION = 8.0, 4.0
# No fit comes near it; a saved coefficient beyond it could overflow.
_LARGEST = 1e12


class SimplexMap(ABC):
    """A fitted map of checked probabilities of shape (n, K); a kind of map has some of these numbers."""

    temperature: float
    slopes: FloatArray
    offsets: FloatArray
    columns: list[Calibrator | None]

    @classmethod
    @abstractmethod
    def fit(cls, method: str, proba: FloatArray, labels: NDArray[np.intp], weight: FloatArray) -> Self:
        """Fit checked rows, all with positive weight, of at least two classes."""

    @abstractmethod
    def map(self, proba: FloatArray) -> FloatArray:
        """The map itself; rows sum to one."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was fitted, as JSON values."""

    @classmethod
    @abstractmethod
    def read(cls, method: str, state: StateReader, n_classes: int) -> Self:
        """The inverse of :meth:`state`."""


@dataclass(frozen=True)
class _Identity(SimplexMap):
    """No change; its form is that of a temperature of 1."""

    temperature: float = 1.0

    @classmethod
    def fit(cls, method: str, proba: FloatArray, labels: NDArray[np.intp], weight: FloatArray) -> Self:
        return cls()

    def map(self, proba: FloatArray) -> FloatArray:
        return proba

    def state(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    @classmethod
    def read(cls, method: str, state: StateReader, n_classes: int) -> Self:
        return cls(state.number("temperature", 1.0, 1.0))


@dataclass(frozen=True)
class _Temperature(SimplexMap):
    """softmax(log p / T)."""

    temperature: float

    @classmethod
    def fit(cls, method: str, proba: FloatArray, labels: NDArray[np.intp], weight: FloatArray) -> Self:
        return cls(fit_temperature(_log(proba.T), np.eye(proba.shape[1])[labels].T, weight))

    def map(self, proba: FloatArray) -> FloatArray:
        return proba if self.temperature == 1.0 else softmax(_log(proba) / self.temperature, axis=1)

    def state(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    @classmethod
    def read(cls, method: str, state: StateReader, n_classes: int) -> Self:
        return cls(state.number("temperature", MIN_TEMPERATURE, MAX_TEMPERATURE))


@dataclass(frozen=True)
class _Vector(SimplexMap):
    """softmax(a log p + b) with a slope >= 0 and an offset for each class."""

    slopes: FloatArray
    offsets: FloatArray

    @classmethod
    def fit(cls, method: str, proba: FloatArray, labels: NDArray[np.intp], weight: FloatArray) -> Self:
        k = proba.shape[1]
        coef = SoftmaxProblem(
            features=np.ascontiguousarray(_log(proba).T),
            y=labels.astype(np.float64),
            weight=weight,
            centre=np.repeat([1.0, 0.0], k),
            precision=np.repeat([_SLOPE_PRECISION, _OFFSET_PRECISION], k),
            lower=np.repeat([0.0, -np.inf], k),
        ).solve()
        # A constant on all offsets changes no probability. The prior makes it 0, but for rounding beside heavy weights.
        return cls(coef[:k], coef[k:] - coef[k:].mean())

    def map(self, proba: FloatArray) -> FloatArray:
        return softmax(self.slopes * _log(proba) + self.offsets, axis=1)

    def state(self) -> dict[str, Any]:
        return {"slopes": self.slopes.tolist(), "offsets": self.offsets.tolist()}

    @classmethod
    def read(cls, method: str, state: StateReader, n_classes: int) -> Self:
        slopes, offsets = state.numbers("slopes", 0.0, _LARGEST), state.numbers("offsets", -_LARGEST, _LARGEST)
        for name, values in (("slopes", slopes), ("offsets", offsets)):
            if values.size != n_classes:
                wanted = f"{name!r} must hold one number for each of {n_classes} classes"
                raise state.fault(f"{wanted}, got {values.size}.")
        return cls(slopes, offsets)


@dataclass(frozen=True)
class _OneAgainstRest(SimplexMap):
    """A binary map of each class, then rows divided by their sum; None for a class that never occurred."""

    columns: list[Calibrator | None]

    @classmethod
    def fit(cls, method: str, proba: FloatArray, labels: NDArray[np.intp], weight: FloatArray) -> Self:
        occurred = [labels == k for k in range(proba.shape[1])]
        return cls(
            [
                CALIBRATORS[method]().fit(proba[:, k], each, weight) if each.any() else None
                for k, each in enumerate(occurred)
            ]
        )

    def map(self, proba: FloatArray) -> FloatArray:
        columns = [proba[:, k] if each is None else each._map(proba[:, k]) for k, each in enumerate(self.columns)]
        return _normalised(np.column_stack(columns), proba)

    def state(self) -> dict[str, Any]:
        return {"columns": [None if each is None else each.to_dict() for each in self.columns]}

    @classmethod
    def read(cls, method: str, state: StateReader, n_classes: int) -> Self:
        columns = state.sequence("columns")
        if len(columns) != n_classes:
            raise state.fault(f"'columns' must hold one map for each of {n_classes} classes, got {len(columns)}.")
        if n_classes - columns.count(None) < 2:
            raise state.fault("'columns' must hold the maps of at least two classes, got fewer.")
        own_kind = {method: CALIBRATORS[method]}
        return cls([None if each is None else read_as(each, own_kind) for each in columns])


METHODS: Mapping[str, type[SimplexMap]] = MappingProxyType(
    {
        **dict.fromkeys(CALIBRATORS, _OneAgainstRest),
        "identity": _Identity,
        "temperature": _Temperature,
        "vector": _Vector,
    }
)


def _log(proba: FloatArray) -> FloatArray:
    return np.log(np.clip(proba, _CLIP, 1.0 - _CLIP))


def _normalised(proba: FloatArray, raw: FloatArray) -> FloatArray:
    """Rows divided by their sum; a row of zeros has none and stays raw."""
    total = proba.sum(axis=1, keepdims=True)
    known = total > 0.0
    return np.where(known, proba / np.where(known, total, 1.0), raw)

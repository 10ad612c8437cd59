"""Strict reading of saved state: every fault is a :class:`StateError` that says what was wanted and what came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.exceptions import StateError

__all__ = ["StateReader"]


class StateReader:
    """One JSON object, read key by key; :meth:`close` refuses the keys that nobody asked for."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, Mapping):
            raise StateError(f"{where} must be an object with named values, got a {type(data).__name__}.")
        self._data = data
        self._where = where
        self._read: set[str] = set()

    def value(self, key: str) -> Any:
        """What the key holds, whatever it is."""
        if key not in self._data:
            raise StateError(f"{self._where} must hold {key!r}, which is missing.")
        self._read.add(key)
        return self._data[key]

    def text(self, key: str) -> str:
        """A string."""
        value = self.value(key)
        if not isinstance(value, str):
            raise self._fault(key, "a string", value)
        return value

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in [low, high]."""
        return self._number(key, self.value(key), low, high)

    def integer(self, key: str, low: int) -> int:
        """A whole number that is at least ``low``."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self._fault(key, f"a whole number of at least {low}", value)
        return value

    def numbers(self, key: str, low: float = -math.inf, high: float = math.inf) -> FloatArray:
        """A list of at least one finite number in [low, high]."""
        values = self.sequence(key)
        if not values:
            raise self._fault(key, "a list of at least one number", values)
        return np.array([self._number(key, value, low, high) for value in values], dtype=np.float64)

    def sequence(self, key: str) -> list[Any]:
        """A list."""
        value = self.value(key)
        if not isinstance(value, list):
            raise self._fault(key, "a list", value)
        return value

    def names(self) -> list[str]:
        """All keys, of an object whose keys are data."""
        return [str(key) for key in self._data]

    def nested(self, key: str) -> StateReader:
        """An object inside this one."""
        return StateReader(self.value(key), f"{self._where} {key}:")

    def fault(self, sentence: str) -> StateError:
        """An error about how the values fit together."""
        return StateError(f"{self._where} {sentence}")

    def close(self) -> None:
        """Refuse keys that were never read: they come from another version or another hand."""
        unread = [str(key) for key in self._data if key not in self._read]
        if unread:
            raise StateError(f"{self._where} must hold only {sorted(self._read)}, got also {sorted(unread)}.")

    def _number(self, key: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._fault(key, "a number", value)
        try:
            number = float(value)
        except OverflowError:  # JSON allows integers that no float can hold
            number = math.inf
        if not math.isfinite(number):
            raise self._fault(key, "a finite number", value)
        if not low <= number <= high:
            raise self._fault(key, f"a number in [{low:g}, {high:g}]", value)
        return number

    def _fault(self, key: str, wanted: str, value: Any) -> StateError:
        return StateError(f"{self._where} {key!r} must be {wanted}, got {value!r:.80}.")

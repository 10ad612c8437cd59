"""Strict reading of saved state: every fault is a :class:`StateError` that says what was wanted and what came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.exceptions import StateError

__all__ = ["StateReader", "is_whole"]


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
            raise self.misfit(key, "a string", value)
        return value

    def text_or_none(self, key: str) -> str | None:
        """A string or null."""
        value = self.value(key)
        if value is not None and not isinstance(value, str):
            raise self.misfit(key, "a text or null", value)
        return value

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in [low, high]."""
        return self._number(key, self.value(key), low, high)

    def integer(self, key: str, low: int = 0) -> int:
        """A whole number that is at least ``low``."""
        value = self.value(key)
        if not is_whole(value, low):
            raise self.misfit(key, f"a whole number of at least {low}", value)
        return int(value)

    def integers(self, key: str, low: int = 0) -> list[int]:
        """A list of whole numbers that are at least ``low``."""
        values = self.sequence(key)
        for value in values:
            if not is_whole(value, low):
                raise self.misfit(key, f"a list of whole numbers of at least {low}", value)
        return values

    def floats(
        self, key: str, low: float = -math.inf, high: float = math.inf, *, length: int | None = None
    ) -> list[float]:
        """A list of finite numbers in [low, high], possibly none, and of a length if one is given."""
        values = self.sequence(key)
        if length is not None and len(values) != length:
            raise self.misfit(key, f"a list of {length} numbers", values)
        return [self._number(key, value, low, high) for value in values]

    def numbers(self, key: str, low: float = -math.inf, high: float = math.inf) -> FloatArray:
        """At least one finite number in [low, high]."""
        values = self.floats(key, low, high)
        if not values:
            raise self.misfit(key, "a list of at least one number", values)
        return np.array(values, dtype=np.float64)

    def array(self, key: str, shape: tuple[int, ...], low: float = -math.inf) -> FloatArray:
        """Finite numbers of at least ``low`` in a given shape, in the order of their rows."""
        return np.array(self.floats(key, low, length=math.prod(shape))).reshape(shape)

    def sequence(self, key: str) -> list[Any]:
        """A list."""
        value = self.value(key)
        if not isinstance(value, list):
            raise self.misfit(key, "a list", value)
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

    def misfit(self, key: str, wanted: str, value: Any) -> StateError:
        """An error about the value of a key."""
        return self.fault(f"{key!r} must be {wanted}, got {value!r:.80}.")

    def close(self) -> None:
        """Refuse keys that were never read: they come from another version or another hand."""
        unread = [str(key) for key in self._data if key not in self._read]
        if unread:
            raise StateError(f"{self._where} must hold only {sorted(self._read)}, got also {sorted(unread)}.")

    def _number(self, key: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.misfit(key, "a number", value)
        try:
            number = float(value)
        except OverflowError:  # JSON allows integers that no float can hold
            number = math.inf
        if not math.isfinite(number):
            raise self.misfit(key, "a finite number", value)
        if not low <= number <= high:
            raise self.misfit(key, f"a number in [{low:g}, {high:g}]", value)
        return number


def is_whole(value: Any, low: int) -> bool:
    """Whether it is an integer (a truth value is none) of at least ``low``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= low

"""Saved state, read strictly: what does not fit is a StateError that says what was wanted and what came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.exceptions import StateError

__all__ = ["FORMAT_VERSION", "Saved", "read_saved"]

# To change a form: raise this number and keep reading every lower one.
FORMAT_VERSION = 1


class Saved:
    """A JSON object of which every key must be asked for before :meth:`close`."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, Mapping):
            raise StateError(f"{where} must be an object with named values, got a {type(data).__name__}.")
        self._left = dict(data)
        self._where = where

    def names(self) -> list[str]:
        """The keys that nobody has asked for yet."""
        return [str(key) for key in self._left]

    def value(self, key: str) -> Any:
        """What the key holds, of any type."""
        if key not in self._left:
            raise StateError(f"{self._where} must hold {key!r}, which is missing.")
        return self._left.pop(key)

    def nested(self, key: str) -> Saved:
        """An object inside this one."""
        return Saved(self.value(key), f"{self._where}, {key}")

    def text(self, key: str) -> str:
        """A text."""
        value = self.value(key)
        if not isinstance(value, str):
            raise self.fault(key, "a text", value)
        return value

    def segment(self, key: str) -> str | None:
        """A text or null."""
        value = self.value(key)
        if value is not None and not isinstance(value, str):
            raise self.fault(key, "a text or null", value)
        return value

    def whole(self, key: str, low: int = 0) -> int:
        """A whole number of at least ``low``."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.fault(key, f"a whole number of at least {low}", value)
        return value

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in [low, high]."""
        return self._number(key, self.value(key), low, high)

    def items(self, key: str) -> list[Any]:
        """A list."""
        value = self.value(key)
        if not isinstance(value, list):
            raise self.fault(key, "a list", value)
        return value

    def numbers(
        self, key: str, low: float = -math.inf, high: float = math.inf, *, length: int | None = None
    ) -> list[float]:
        """A list of finite numbers in [low, high], of a length if one is given."""
        values = self.items(key)
        if length is not None and len(values) != length:
            raise self.fault(key, f"a list of {length} numbers", values)
        return [self._number(key, value, low, high) for value in values]

    def array(self, key: str, shape: tuple[int, ...], low: float = -math.inf) -> FloatArray:
        """Finite numbers of at least ``low`` in a given shape, in the order of their rows."""
        return np.array(self.numbers(key, low, length=math.prod(shape))).reshape(shape)

    def wholes(self, key: str, low: int = 0) -> list[int]:
        """A list of whole numbers of at least ``low``."""
        values = self.items(key)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise self.fault(key, f"a list of whole numbers of at least {low}", value)
        return values

    def close(self) -> None:
        """Refuse keys that were never asked for."""
        if self._left:
            raise StateError(f"{self._where} must hold nothing but what this version writes, got {sorted(self._left)}.")

    def fault(self, key: str, wanted: str, value: Any) -> StateError:
        """The error for a value that does not fit."""
        return StateError(f"{self._where}: {key!r} must be {wanted}, got {value!r:.80}.")

    def _number(self, key: str, value: Any, low: float, high: float) -> float:
        # JSON allows integers that no float can hold.
        number = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
        if not number or not low <= value <= high or not -1e308 <= value <= 1e308:
            raise self.fault(key, f"a finite number in [{low:g}, {high:g}]", value)
        return float(value)


def read_saved(data: Any, name: str) -> tuple[Saved, Saved]:
    """Params and state of what ``to_dict`` of the class with that name wrote."""
    saved = Saved(data, f"Saved {name} state")
    got = saved.text("name")
    if got != name:
        raise saved.fault("name", repr(name), got)
    version = saved.whole("format_version", 1)
    if version != FORMAT_VERSION:
        raise saved.fault("format_version", f"{FORMAT_VERSION} (a newer mlflow-caliber has written it)", version)
    params, state = saved.nested("params"), saved.nested("state")
    saved.close()
    return params, state

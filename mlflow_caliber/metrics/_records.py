"""Frozen values made of equally long arrays, and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from mlflow_caliber._validation import check_finite, check_known_keys, check_same_length
from mlflow_caliber.exceptions import CaliberError, StateError


@dataclass(frozen=True, eq=False)
class ArrayRecord:
    """Base of frozen dataclasses whose every field is an array, all of one length.

    A field whose metadata says ``{"dtype": np.int64}`` holds whole numbers; the others are ``float64``.
    """

    def __post_init__(self) -> None:
        name = type(self).__name__
        arrays = {f.name: check_finite(getattr(self, f.name), f"{name}.{f.name}") for f in fields(self)}
        check_same_length(**arrays)
        for field in fields(self):
            array = arrays[field.name].astype(field.metadata.get("dtype", np.float64))
            array.setflags(write=False)
            object.__setattr__(self, field.name, array)

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, list[float]]:
        """The fields as lists of plain numbers, ready for JSON."""
        return {field.name: getattr(self, field.name).tolist() for field in fields(self)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """The value that :meth:`to_dict` wrote; :class:`StateError` when it cannot be read."""
        names = [field.name for field in fields(cls)]
        if not isinstance(state, Mapping):
            raise StateError(f"{cls.__name__} must be read from a mapping, got a {type(state).__name__}.")
        missing = [name for name in names if name not in state]
        if missing:
            raise StateError(f"{cls.__name__} must have the fields {', '.join(names)}, got none named {missing[0]!r}.")
        try:
            check_known_keys(state, names, cls.__name__)
            return cls(**state)
        except CaliberError as error:
            raise StateError(f"{cls.__name__} cannot be read: {error}") from error

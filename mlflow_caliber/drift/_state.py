"""Reading JSON state field by field; whatever does not fit is a StateError with a sentence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from mlflow_caliber.exceptions import StateError


def read_version(state: Any, newest: int, where: str) -> int:
    """The format version, 1 up to the newest; refuse anything that is not an object of one of them."""
    if not isinstance(state, Mapping):
        raise StateError(f"{where} must be a JSON object, got a {type(state).__name__}.")
    version = int(value_of(state, "format_version", int, where))
    if not 1 <= version <= newest:
        raise StateError(f"{where} must have a format version of 1 to {newest}, got {version}.")
    return version


def value_of(state: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """The value under a key, of the type that was wanted."""
    if key not in state:
        raise StateError(f"{where} must have {key!r}, got only {sorted(map(str, state))}.")
    return _typed(state[key], kind, f"{where} must have {key!r} of type {_named(kind)}")


def list_of(state: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> list[Any]:
    """A list under a key, all of one type."""
    wanted = f"{where} must have {key!r} of type list of {_named(kind)}"
    return [_typed(item, kind, wanted) for item in value_of(state, key, list, where)]


def text(state: Mapping[str, Any], key: str, where: str) -> str:
    """A text under a key."""
    return str(value_of(state, key, str, where))


def number(state: Mapping[str, Any], key: str, where: str, *, whole: bool = False, signed: bool = False) -> float:
    """A finite number under a key, not negative unless ``signed``; with ``whole``, an integer."""
    value = value_of(state, key, int if whole else (int, float), where)
    if not math.isfinite(value) or (value < 0 and not signed):
        raise StateError(f"{where} must have a finite {key!r}{'' if signed else ' of at least 0'}, got {value}.")
    return float(value)


def read_edges(state: Mapping[str, Any], where: str) -> tuple[float, ...]:
    """The edges of cells: finite and increasing."""
    edges = tuple(float(edge) for edge in list_of(state, "edges", (int, float), where))
    if not all(map(math.isfinite, edges)) or any(low >= high for low, high in itertools.pairwise(edges)):
        raise StateError(f"{where} must have finite, increasing edges, got {list(edges)}.")
    return edges


def read_counts(state: Mapping[str, Any], cells: int, rows: int, where: str) -> tuple[int, ...]:
    """The rows of each cell."""
    counts = tuple(list_of(state, "counts", int, where))
    if len(counts) != cells:
        raise StateError(f"{where} must have {cells} counts, one a cell, got {len(counts)}.")
    if min(counts) < 0:
        raise StateError(f"{where} must have counts that are not negative, got {min(counts)}.")
    if sum(counts) != rows:
        raise StateError(f"{where} must have counts that add up to {rows} rows, got {sum(counts)}.")
    return counts


def _typed(value: Any, kind: type | tuple[type, ...], wanted: str) -> Any:
    # JSON's true is Python's bool, which is an int; no count of ours is a truth value.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise StateError(f"{wanted}, got {value!r}.")
    return value


def _named(kind: type | tuple[type, ...]) -> str:
    return " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))

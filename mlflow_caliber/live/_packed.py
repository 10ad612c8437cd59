"""Arrays as bytes, and back: JSON that names them, and the arrays, compressed. Nothing in it is ever executed."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber.exceptions import StateError

__all__ = ["MAGIC", "pack", "unpack"]

MAGIC = b"caliber-summary/2\n"
_LARGEST = 1 << 28
_TYPES: dict[str, np.dtype[Any]] = {
    "int8": np.dtype("<i1"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "uint64": np.dtype("<u8"),
    "float64": np.dtype("<f8"),
}


def pack(told: Mapping[str, Any], arrays: list[NDArray[Any]]) -> bytes:
    """JSON values and arrays as bytes."""
    shapes = [[array.dtype.name, list(array.shape)] for array in arrays]
    head = json.dumps({**told, "arrays": shapes}, allow_nan=False).encode()
    body = b"".join(np.ascontiguousarray(array, dtype=_TYPES[array.dtype.name]).tobytes() for array in arrays)
    return MAGIC + zlib.compress(len(head).to_bytes(4, "little") + head + body, 1)


def unpack(content: bytes, n_arrays: int | None = None) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """The JSON values and the arrays.

    Raises
    ------
    StateError
        If it is no such content; what is inside may still be anything.
    """
    if not content.startswith(MAGIC):
        raise StateError("The summary cannot be read: a part is of another format.")
    reader = zlib.decompressobj()
    try:
        plain = reader.decompress(content[len(MAGIC) :], _LARGEST)
    except zlib.error as error:
        raise StateError("The summary cannot be read: a part is damaged.") from error
    if not reader.eof:
        raise StateError("The summary cannot be read: a part is cut off, or larger than any can be.")
    place = 4 + int.from_bytes(plain[:4], "little")
    told = json.loads(plain[4:place])
    arrays: list[NDArray[Any]] = []
    for name, shape in told["arrays"]:
        dtype, count = _TYPES[name], math.prod(shape)
        values = np.frombuffer(plain, dtype, count, place) if count else np.empty(0, dtype)
        arrays.append(values.reshape(shape).astype(dtype.newbyteorder("=")))
        place += count * dtype.itemsize
    if place != len(plain) or (n_arrays is not None and len(arrays) != n_arrays):
        raise StateError("The summary cannot be read: a part has another length than it says.")
    return told, arrays

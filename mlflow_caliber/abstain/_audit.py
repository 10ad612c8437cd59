"""A random share of ids, the same on every machine and on every day."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def drawn(ids: Iterable[Any], share: float, salt: str) -> NDArray[np.bool_]:
    """Whether the hash of each id, read as a number in [0, 1), lies below `share`."""
    seeded = hashlib.blake2b(salt.encode() + b"\0", digest_size=8)
    below = round(share * 2.0**64)

    def is_drawn(text: str) -> bool:
        one = seeded.copy()
        one.update(text.encode())
        return int.from_bytes(one.digest(), "big") < below

    return np.fromiter((is_drawn(str(one)) for one in ids), dtype=np.bool_)

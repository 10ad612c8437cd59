"""Prediction ids: UUIDs of version 7 (RFC 9562), so that they sort by the time they were made."""

from __future__ import annotations

import os
import time

__all__ = ["new_prediction_ids"]


def new_prediction_ids(n: int) -> list[str]:
    """``n`` fresh ids: 48 bits of Unix milliseconds, then random bits.

    The standard library makes them one at a time and only from Python 3.14 on; a served batch needs thousands.

    Examples
    --------
    >>> first, second = new_prediction_ids(2)
    >>> len(first), first[14], first != second
    (36, '7', True)
    """
    millis = f"{time.time_ns() // 1_000_000:012x}"
    head = f"{millis[:8]}-{millis[8:]}-7"
    noise = os.urandom(10 * n).hex()
    chunks = (noise[i : i + 20] for i in range(0, 20 * n, 20))
    # Of the 80 random bits, 12 follow the version, the variant takes two (10xx: one of 8, 9, a, b) and 62 are left.
    return [f"{head}{c[:3]}-{'89ab'[int(c[3], 16) & 3]}{c[4:7]}-{c[7:19]}" for c in chunks]

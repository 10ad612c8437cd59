"""Evidence in words for people."""

from __future__ import annotations

import math

__all__ = ["one_in"]

_MOST = math.log(1e9)


def one_in(log_odds: float) -> str:
    """How seldom something comes by chance, by the natural logarithm of "one in so many".

    Examples
    --------
    >>> one_in(math.log(20.0)), one_in(10_000.0)
    ('1 in 20', '1 in a billion')
    """
    return "1 in a billion" if log_odds >= _MOST else f"1 in {math.exp(max(0.0, log_odds)):,.0f}"

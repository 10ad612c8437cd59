"""How many messages to take at once: as many as are surely done before the group takes us for dead."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Pace"]

_FIRST = 500
# librdkafka's own default, in milliseconds.
_PATIENCE = 300_000


class Pace:
    """The size of the next batch.

    It begins small, doubles while full batches are done in a twentieth of ``max.poll.interval.ms``, is halved when one
    takes longer than a quarter of it, and falls to an eighth when the group has lost patience: a batch that is too slow
    would otherwise be taken from us, and read again at the same size, for ever.

    Parameters
    ----------
    most : int
        The largest batch.
    properties : mapping
        librdkafka's, of which one is the group's patience.

    Examples
    --------
    >>> pace = Pace(1_000, {"max.poll.interval.ms": "60000"})
    >>> pace.took(500, 2.0)
    >>> pace.size
    1000
    >>> pace.took(1_000, 20.0)
    >>> pace.size
    500
    """

    def __init__(self, most: int, properties: Mapping[str, str]) -> None:
        self.size = min(most, _FIRST)
        self._most = most
        self._patience = float(properties.get("max.poll.interval.ms", _PATIENCE)) / 1_000.0

    def took(self, n: int, seconds: float) -> None:
        """A batch of ``n`` messages took so long."""
        if seconds > self._patience / 4.0:
            self.size = max(1, self.size // 2)
        elif n >= self.size and seconds < self._patience / 20.0:
            self.size = min(self._most, 2 * self.size)

    def lost(self) -> None:
        """The group has given our partitions to others without asking."""
        self.size = max(1, self.size // 8)

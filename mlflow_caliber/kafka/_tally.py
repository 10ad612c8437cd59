"""What became of the messages so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Tally"]


@dataclass
class Tally:
    """What became of the messages that one process has read.

    Parameters
    ----------
    messages : int
        Read and done with: their offsets are committed, or will be read again by somebody.
    recorded, duplicates, corrections : int
        Events that the store took, knew already, and took as another outcome of a known prediction.
    scored : int
        Prediction frames that were written.
    dead_letters : int
        Messages that cannot be taken, and were written to the topic of the dead letters.
    forwarded_before : int
        Messages whose frame or dead letter was there already, from before a crash.
    rebalances : int
        How often partitions came or went.
    outages : int
        How often the store or Kafka was away.
    lag : int
        Messages that waited when this was last looked at.

    Examples
    --------
    >>> Tally(messages=3, recorded=2, dead_letters=1).sentence()
    '3 messages: 2 events recorded, 0 known already, 1 dead letters; lag 0.'
    """

    messages: int = 0
    recorded: int = 0
    duplicates: int = 0
    corrections: int = 0
    scored: int = 0
    dead_letters: int = 0
    forwarded_before: int = 0
    rebalances: int = 0
    outages: int = 0
    lag: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """As people read it."""
        told = f"{self.recorded} events recorded, {self.duplicates} known already"
        if self.scored:
            told = f"{self.scored} scored"
        return f"{self.messages} messages: {told}, {self.dead_letters} dead letters; lag {self.lag}."

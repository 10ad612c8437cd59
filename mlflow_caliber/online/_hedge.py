"""Weights that follow the best expert, and slots that never lose more than ln(1/pi) against doing nothing."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from mlflow_caliber.online._numbers import sigmoid

__all__ = ["Hedge", "Slots"]

_SHARE = 1.0 / 1000.0
# The slots after the first have so much smaller a passive share.
_FURTHER = 0.1


class Hedge:
    """A mixture of experts: fixed share, with evidence that counts for less the later it comes.

    An outcome that was learned with d others outstanding counts as the power (1 + d) ** -0.5 of itself: the forecasts
    of that time were made from one and the same state, so their outcomes are not so many independent tests of it.
    """

    def __init__(self, prior: Sequence[float]) -> None:
        self._prior = list(prior)
        self.weights = list(prior)

    def mix(self, answers: Sequence[float]) -> float:
        """The mixture's probability, never outside those of its experts."""
        mean = sum(weight * answer for weight, answer in zip(self.weights, answers, strict=True))
        return min(max(mean, min(answers)), max(answers))

    def learn(self, likelihoods: Sequence[float], outstanding: int) -> None:
        """Weigh the experts by the probability that each gave to what happened."""
        eta = (1.0 + outstanding) ** -0.5
        raised = [weight * chance**eta for weight, chance in zip(self.weights, likelihoods, strict=True)]
        share, total = _SHARE * eta, sum(raised)
        self.weights = [
            (1.0 - share) * weight / total + share * prior for weight, prior in zip(raised, self._prior, strict=True)
        ]


class Slots:
    """Two-expert mixtures of the raw score and the active answer, one for each forecast that is outstanding at a time.

    A forecast takes the first free slot and frees it when its outcome has been learned, or never will be. So within a
    slot every outcome is known before the next forecast, and each slot alone has the bound of the undelayed case.
    """

    def __init__(self, passive_share: float) -> None:
        self._first = math.log(passive_share / (1.0 - passive_share))
        further = passive_share * _FURTHER
        self._further = math.log(further / (1.0 - further))
        self._bounds = math.log(1.0 / passive_share), math.log(1.0 / further)
        self.odds: list[float] = []
        self.free: list[int] = []

    @property
    def bound(self) -> float:
        """The most nats that all slots together can lose against the raw scores."""
        first, further = self._bounds
        return first + max(len(self.odds) - 1, 0) * further

    def next_odds(self) -> float:
        """Log odds of the raw score in the slot that the next forecast takes."""
        if self.free:
            return self.odds[self.free[0]]
        return self._further if self.odds else self._first

    def passive(self) -> float:
        """Share of the raw score in the slot that the next forecast takes."""
        return sigmoid(self.next_odds())

    def take(self) -> int:
        """Occupy a slot, the lowest that is free or else a new one."""
        if self.free:
            return heapq.heappop(self.free)
        self.odds.append(self.next_odds())
        return len(self.odds) - 1

    def learn(self, slot: int, raw: float, active: float) -> None:
        """Weigh the two by the likelihood that each gave to what happened."""
        self.odds[slot] += math.log(raw) - math.log(active)

    def release(self, slot: int) -> None:
        """Make a slot free again."""
        heapq.heappush(self.free, slot)

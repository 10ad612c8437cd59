"""Bayesian filters over maps sigma(a z + b): the right map is one of a grid, and moves to another now and then."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.online._numbers import TINY

__all__ = ["GRID_SIZE", "GridFilters", "grid_likelihoods", "grid_prior"]

_A = (0.05, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0)
_B = np.linspace(-2.4, 2.4, 17)
_SLOPE, _OFFSET = (side.ravel() for side in np.meshgrid(np.array(_A), _B, indexing="ij"))
GRID_SIZE = _SLOPE.size


def grid_prior() -> FloatArray:
    """Prior weights of the grid's maps, densest around the identity; they sum to 1."""
    density = np.exp(-0.5 * ((np.log(_SLOPE) / 0.5) ** 2 + (_OFFSET / 0.75) ** 2))
    weights: FloatArray = density / density.sum()
    return weights


_PRIOR = grid_prior()


@lru_cache(maxsize=256)
def grid_answers(z: float) -> FloatArray:
    """The probability of each map of the grid at a logit, not to be written to.

    Forecasting and learning ask for the same logits.
    """
    t = _SLOPE * -z
    t -= _OFFSET
    np.exp(t, out=t)
    t += 1.0
    answers: FloatArray = np.divide(1.0, t, out=t)
    answers.flags.writeable = False
    return answers


def grid_likelihoods(z: float, y: int) -> FloatArray:
    """The probability that each map of the grid gives to what happened at a logit."""
    chance = grid_answers(z)
    likelihoods: FloatArray = np.maximum(chance if y else 1.0 - chance, TINY)
    return likelihoods


class GridFilters:
    """One filter for each switching rate, all over the same grid.

    After every outcome the maps' weights are multiplied by their likelihoods, and a share ``rate`` goes back to the
    prior: that the truth may have moved since then.
    """

    def __init__(self, rates: Sequence[float]) -> None:
        share = np.array(rates)[:, None]
        self._stay, self._return = 1.0 - share, share * _PRIOR
        self.weights = np.tile(_PRIOR, (len(rates), 1))

    def answer(self, z: float) -> list[float]:
        """The probability of each filter at a logit."""
        answers: list[float] = (self.weights @ grid_answers(z)).tolist()
        return answers

    def curves(self, z: FloatArray) -> FloatArray:
        """The same at many logits; shape (filters, logits)."""
        answers: FloatArray = self.weights @ (1.0 / (1.0 + np.exp(-(_SLOPE[:, None] * z + _OFFSET[:, None]))))
        return answers

    def learn(self, z: float, y: int) -> None:
        """Weigh the maps by what happened at a logit."""
        weights = self.weights * grid_likelihoods(z, y)
        weights *= self._stay / weights.sum(axis=1, keepdims=True)
        weights += self._return
        self.weights = weights

"""What each statistic does without drift: its p-value, and the value that goes with a p-value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from scipy import special

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.drift._gap import Gap, Ranks

_REPLICATES = 2000
#: Below this share of the replicates there are too few to count, and the tail is extrapolated.
_TAIL = 0.02
#: Cells of fewer rows than this are drawn as what they are, not as a normal.
_SMALL = 20


class Null(Protocol):
    """The distribution of a statistic without drift."""

    def p_value(self, statistic: float) -> float:
        """How often it is at least this large."""

    def critical(self, level: float) -> float:
        """The value that it reaches with this probability."""


class ChiSquare(NamedTuple):
    """A statistic that is (scale * chi-square)^power."""

    df: int
    scale: float
    power: float

    def p_value(self, statistic: float) -> float:
        """The share of drift-free samples with a statistic of at least this."""
        return float(special.chdtrc(self.df, statistic ** (1.0 / self.power) / self.scale))

    def critical(self, level: float) -> float:
        """The statistic whose p-value is ``level``."""
        return float((self.scale * special.chdtri(self.df, level)) ** self.power)


class Kolmogorov(NamedTuple):
    """The largest height of a Brownian bridge over ``root``, the root of n m / (n + m)."""

    root: float

    def p_value(self, statistic: float) -> float:
        """The share of drift-free samples with a statistic of at least this."""
        return float(special.kolmogorov(self.root * statistic))

    def critical(self, level: float) -> float:
        """The statistic whose p-value is ``level``."""
        return float(special.kolmogi(level)) / self.root


@dataclass(frozen=True)
class Simulated:
    """A norm of a Gaussian process: replicates, and beyond them the tail exp(-x^2 / (2 sd^2)).

    That tail is where every such norm goes, with the standard deviation of the process in its worst direction
    (Borell's inequality).
    """

    replicates: FloatArray
    sd: float

    @property
    def _knee(self) -> float:
        return float(self.replicates[-math.ceil(_TAIL * self.replicates.size)])

    def p_value(self, statistic: float) -> float:
        """The share of drift-free samples with a statistic of at least this."""
        if statistic > self._knee:
            return _TAIL * math.exp((self._knee**2 - statistic**2) / (2.0 * self.sd**2))
        above = self.replicates.size - int(np.searchsorted(self.replicates, statistic, side="left"))
        return above / self.replicates.size

    def critical(self, level: float) -> float:
        """The statistic whose p-value is ``level``."""
        if level < _TAIL:
            return math.sqrt(self._knee**2 + 2.0 * self.sd**2 * math.log(_TAIL / level))
        return float(self.replicates[-math.floor(level * self.replicates.size)])


class Draws:
    """Random numbers for any number of columns: what one column gets does not depend on the others.

    Parameters
    ----------
    random_state : int
        The seed.
    """

    def __init__(self, random_state: int) -> None:
        self.seed = random_state
        self._normals = np.empty((0, _REPLICATES))

    def normals(self, n: int) -> FloatArray:
        """The first ``n`` rows of one endless table of standard normals."""
        if n > len(self._normals):
            self._normals = np.random.default_rng(self.seed).standard_normal((max(n, 128), _REPLICATES))
        return self._normals[:n]

    def inside(self, n: int) -> FloatArray:
        """Other standard normals, for what happens inside ``n`` cells."""
        return np.random.default_rng([self.seed, 2]).standard_normal((n, _REPLICATES))

    def bridges(self, counts: Ranks, n: int, m: int) -> FloatArray:
        """Paths of F - G between cells, of shape (cells - 1, replicates), when n of the pooled rows are the reference.

        Cells get normal deviations; small ones those of a binomial, because one far row is on one side or the other.
        """
        share = m / (n + m)
        steps = np.sqrt(counts)[:, None] * self.normals(counts.size)
        small = np.flatnonzero((counts < _SMALL) & (counts > 0))
        if small.size:
            few = counts[small, None]
            drawn = np.random.default_rng([self.seed, 1]).binomial(few, share, (small.size, _REPLICATES))
            steps[small] = (drawn - few * share) / math.sqrt(share * (1.0 - share))
        paths = np.cumsum(steps, axis=0)
        paths -= np.cumsum(counts)[:, None] / (n + m) * paths[-1]
        return np.asarray(paths[:-1] / math.sqrt(n * m), dtype=np.float64)


def ks_null(gap: Gap, draws: Draws) -> Null:
    """The largest |F - G|: Kolmogorov's where it was looked for everywhere, else that of the points looked at."""
    (n, m), ranks = gap.sizes, gap.ranks()
    if ranks is None:
        return Kolmogorov(math.sqrt(n * m / (n + m)))
    paths = draws.bridges(np.diff(ranks, prepend=0, append=n + m), n, m)
    if not ranks.size:  # one value on both sides: there is no point at which F and G could differ
        return Kolmogorov(math.sqrt(n * m / (n + m)))
    share = ranks / (n + m)
    worst = float((share * (1.0 - share)).max())
    return Simulated(np.sort(np.abs(paths).max(axis=0)), math.sqrt(worst * (n + m) / (n * m)))


def wasserstein_null(gap: Gap, draws: Draws) -> Null:
    """The area, in reference standard deviations, when chance alone parts the pooled rows between the two sides."""
    (n, m), pool = gap.sizes, gap.pool()
    paths = draws.bridges(pool.counts, n, m)
    areas = np.zeros((pool.counts.size, _REPLICATES))
    # In a cell the path runs from its height at the lower edge to that at the upper one, as the rows lie there.
    areas[1:] += (pool.means[1:] - pool.edges)[:, None] * paths
    areas[:-1] += (pool.edges - pool.means[:-1])[:, None] * paths
    weights = pool.counts / (n * m)
    wide = np.flatnonzero(pool.spread)
    areas[wide] += (pool.spread[wide] * np.sqrt(weights[wide]))[:, None] * draws.inside(wide.size)
    centre = np.average(pool.means, weights=weights)
    sd = math.sqrt(float(weights @ ((pool.means - centre) ** 2 + pool.spread**2)))
    return Simulated(np.sort(np.abs(areas).sum(axis=0)) / gap.sd, sd / gap.sd)


def benjamini_hochberg_level(p_values: list[float], alpha: float) -> float:
    """The p-value up to which to reject: alpha k / m for the largest k with p_(k) <= alpha k / m, k = 1 if none."""
    m = len(p_values)
    passed = np.sort(p_values) <= alpha * np.arange(1, m + 1) / m
    k = int(np.flatnonzero(passed)[-1]) + 1 if passed.any() else 1
    return alpha * k / m

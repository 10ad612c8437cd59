"""DeLong's analysis of the area under the ROC curve: where every row stands in the other class.

A positive's *placement* is the share of negatives that it beats, a negative's the share of positives that beat it, ties
counting one half. Both average to the AUC; how much they vary within each class is its sampling variance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlflow_caliber._cells import Cells, tie_groups
from mlflow_caliber._validation import FloatArray, row_chunks
from mlflow_caliber.metrics._intervals import Interval

_TINY = np.finfo(np.float64).tiny
# What sums of weights may leave of an AUC that is 0 or 1.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ClassMass:
    """What one class weighs in each tie group, by increasing score, and the sum of its squared weights there."""

    weight: FloatArray
    weight_sq: FloatArray

    @cached_property
    def total(self) -> float:
        return float(self.weight.sum())

    @cached_property
    def effective_rows(self) -> float:
        """Kish's number: so many rows of equal weight would average as much noise away."""
        return max(self.total * (self.total / max(float(self.weight_sq.sum()), _TINY)), 1.0)

    def shares_below(self) -> Iterator[tuple[slice, FloatArray]]:
        """The share of this class below each tie group, half of the group itself included; some groups at a time."""
        below = 0.0
        for part in row_chunks(self.weight.size):
            up_to = np.cumsum(self.weight[part])
            yield part, (below + up_to - self.weight[part] / 2.0) / self.total
            below += float(up_to[-1])

    @property
    def spare(self) -> float:
        """What one degree of freedom, spent on the mean, leaves of the variance; nothing of a single row's."""
        return 1.0 - 1.0 / self.effective_rows


@dataclass(frozen=True, eq=False)
class Ranking:
    """Two classes along one score."""

    negative: ClassMass
    positive: ClassMass

    @cached_property
    def auc(self) -> float:
        mean = sum(float(self.positive.weight[part] @ below) for part, below in self.negative.shares_below())
        return min(mean / self.positive.total, 1.0)

    @cached_property
    def variance(self) -> float:
        """DeLong's."""
        # A negative is beaten by what does not lie below it, so its placement less the AUC is 1 - AUC - share below.
        of_positive = sum(
            float(self.positive.weight_sq[part] @ (below - self.auc) ** 2)
            for part, below in self.negative.shares_below()
        )
        of_negative = sum(
            float(self.negative.weight_sq[part] @ (below - (1.0 - self.auc)) ** 2)
            for part, below in self.positive.shares_below()
        )
        return self._of_mean(self.positive, of_positive) + self._of_mean(self.negative, of_negative)

    def _of_mean(self, mass: ClassMass, square: float) -> float:
        # Of a single row nothing can be seen to vary: it is given the most that a number in [0, 1] can vary.
        return square / mass.total**2 / mass.spare if mass.spare > 0.0 else self.auc * (1.0 - self.auc)

    @property
    def unseen_variance(self) -> float:
        """What one more row of each class would add if its placement were all or nothing."""
        rows = (self.positive.effective_rows, self.negative.effective_rows)
        return sum(self.auc * (1.0 - self.auc) / (n * (n + 1.0)) for n in rows)

    @property
    def pairs(self) -> float:
        """Pairs of a positive and a negative that share no row."""
        return min(self.positive.effective_rows, self.negative.effective_rows)

    def row_errors(self) -> tuple[FloatArray, FloatArray]:
        """What one positive, and one negative, of each tie group contributes to the error of the AUC.

        Squares of the contributions, times those of the weights, add up to the variance. A class of a single row
        contributes nothing.
        """
        of_positive = np.concatenate([below for _, below in self.negative.shares_below()]) - self.auc
        of_negative = 1.0 - np.concatenate([below for _, below in self.positive.shares_below()]) - self.auc
        classes = (self.positive, self.negative)
        scales = [mass.total * mass.spare**0.5 if mass.spare > 0.0 else np.inf for mass in classes]
        return of_positive / scales[0], of_negative / scales[1]


def rank(y: FloatArray, scores: FloatArray, weights: FloatArray | None) -> Ranking:
    """The classes 1 and 0 of ``y`` along the scores."""
    # (Weights class by class: a light row that is tied with a heavy one of the other class must not be rounded away.)
    return rank_cells(tie_groups(y, scores)) if weights is None else rank_rows(y, scores, weights)[0]


def rank_cells(cells: Cells) -> Ranking:
    """The same of rows that are cells already; rows of one cell are tied."""
    negative = cells.weight - cells.positive
    negative_sq = negative if cells.weight_sq is cells.weight else cells.weight_sq - cells.positive_sq
    return Ranking(ClassMass(negative, negative_sq), ClassMass(cells.positive, cells.positive_sq))


def rank_rows(
    membership: FloatArray, scores: FloatArray, weights: FloatArray | None
) -> tuple[Ranking, NDArray[np.intp]]:
    """The classes along the scores, and each row's tie group; a row may belong to both classes in part."""
    values, group = np.unique(scores, return_inverse=True)
    w = relative(weights, scores.size)
    parts = (w * (1.0 - membership), w * w * (1.0 - membership), w * membership, w * w * membership)
    sums = [np.bincount(group, weights=part, minlength=values.size).astype(np.float64) for part in parts]
    return Ranking(ClassMass(sums[0], sums[1]), ClassMass(sums[2], sums[3])), group


def relative(weights: FloatArray | None, n: int) -> FloatArray:
    """Weights as parts of the greatest, whose squares do not overflow; ones when there are none."""
    return np.ones(n) if weights is None else np.asarray(weights / weights.max())


@dataclass(frozen=True, eq=False)
class MacroRanking:
    """K classes, each against the rest along its own score.

    ``membership`` and ``error`` have shape (n, K): how far a row is of class k, and what it contributes to the error of
    the mean AUC if it is, its weight included. Products of two models' contributions add up to the covariance of their
    AUCs.
    """

    rankings: tuple[Ranking, ...]
    membership: FloatArray
    error: FloatArray

    @property
    def auc(self) -> float:
        return float(np.mean([ranking.auc for ranking in self.rankings]))

    @property
    def variance(self) -> float:
        """As rows are drawn anew; with two classes DeLong's."""
        return float((self.membership * self.error**2).sum())

    @property
    def pairs(self) -> float:
        return min(ranking.pairs for ranking in self.rankings)

    @property
    def unseen_variance(self) -> float:
        """As of two classes; the classes' shares of it are taken to move together, as those of two do."""
        return float(np.mean([ranking.unseen_variance**0.5 for ranking in self.rankings])) ** 2


def macro_ranking(membership: FloatArray, scores: FloatArray, weights: FloatArray | None) -> MacroRanking:
    """Rank by each column of scores the rows of the class (memberships of shape (n, K)) and the rest."""
    rankings, as_rest, gained = [], np.zeros(len(scores)), np.empty_like(scores)
    for k, (share, score) in enumerate(zip(membership.T, scores.T, strict=True)):
        ranking, group = rank_rows(share, score, weights)
        of_class, of_rest = ranking.row_errors()
        as_rest += of_rest[group]
        gained[:, k] = (of_class - of_rest)[group]
        rankings.append(ranking)
    error = (as_rest[:, None] + gained) * (relative(weights, len(scores)) / len(rankings))[:, None]
    return MacroRanking(tuple(rankings), membership, error)


def auc_interval(auc: float, variance: float, pairs: float, confidence: float) -> Interval:
    """Normal on the logit of the AUC, so that it stays in [0, 1]; exact where every pair is in order.

    ``pairs`` disjoint pairs are as many independent trials that succeed with chance AUC. If all succeeded, Clopper and
    Pearson's bound for them holds.
    """
    tail = (1.0 - confidence) / 2.0
    if not _ROUNDING < auc < 1.0 - _ROUNDING:
        reach = 1.0 - tail ** (1.0 / pairs)
        return Interval(1.0 - reach, 1.0) if auc > 0.5 else Interval(0.0, reach)
    step = -special.ndtri(tail) * np.sqrt(variance) / (auc * (1.0 - auc))
    low, high = special.expit(special.logit(auc) + np.array([-step, step]))
    return Interval(min(float(low), auc), max(float(high), auc))

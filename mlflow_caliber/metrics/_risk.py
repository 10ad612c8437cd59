"""Answers ranked by confidence, and the two areas that AURC and AUGRC are: sums over ranks, ties in closed form.

Of few distinct confidences the sums run over tie groups; of many, over single rows, put right where ties are mixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlflow_caliber._cells import Cells, sorted_keys, tie_groups
from mlflow_caliber._validation import FloatArray

# Rows summed at a time: what fits a core's cache.
_CHUNK = 1 << 16
_GAP_CHUNK = 1 << 13
# Tie groups are the faster way when there are so many rows to a distinct confidence, or few rows at all.
_ROWS_A_GROUP = 4
_FEW_ROWS = 4096
# From here on two terms of the series of H are exact to the last digit.
_ASYMPTOTIC = 256.0


class Groups(NamedTuple):
    """Mass (rows or weight) of right and of wrong answers in each tie group, the surest group first.

    The last axis runs over groups; there may be others before it (replicates of a bootstrap). A group may be empty.
    """

    confidence: FloatArray
    right: FloatArray
    wrong: FloatArray

    @property
    def mass(self) -> FloatArray:
        return self.right + self.wrong

    @property
    def totals(self) -> tuple[FloatArray, FloatArray]:
        """Mass of all right and of all wrong answers."""
        return self.right.sum(axis=-1), self.wrong.sum(axis=-1)

    def mean_risk(self) -> FloatArray:
        mass = self.mass
        ends = np.cumsum(mass, axis=-1)
        before = ends - mass
        errors_before = np.cumsum(self.wrong, axis=-1) - self.wrong
        rate = self.wrong / np.where(mass > 0.0, mass, 1.0)
        sums = self.wrong + (errors_before - rate * before) * harmonic_gap(before, mass)
        area: FloatArray = sums.sum(axis=-1) / ends[..., -1]
        return area

    def mean_failures(self) -> FloatArray:
        share = self.mass / self.mass.sum(axis=-1, keepdims=True)
        failures = np.cumsum(self.wrong, axis=-1) - self.wrong / 2.0
        area: FloatArray = (failures * share).sum(axis=-1) / self.mass.sum(axis=-1)
        return area

    def cells(self, n_cells: int) -> Groups:
        """Groups merged into about `n_cells` of equal mass; ``confidence`` is the lowest of each."""
        if self.confidence.size <= n_cells:
            return self
        ends = np.cumsum(self.mass)
        starts = _starts(np.floor((ends - self.mass / 2.0) / ends[-1] * n_cells))
        last = np.append(starts[1:], ends.size) - 1
        return Groups(self.confidence[last], np.add.reduceat(self.right, starts), np.add.reduceat(self.wrong, starts))


class Rows(NamedTuple):
    """Rows that count once each, as the keys that :func:`sorted_keys` makes of confidences and right answers.

    So the least sure row comes first, and among ties the wrong ones do.
    """

    keys: NDArray[np.int64]

    @property
    def totals(self) -> tuple[FloatArray, FloatArray]:
        """Number of all right and of all wrong answers."""
        right = np.float64(np.count_nonzero(self.keys & 1))
        return np.asarray(right), np.asarray(self.keys.size - right)

    def mean_risk(self) -> FloatArray:
        total, seen = 0.0, 0.0
        for rank, wrong in self._surest_first():
            failures = np.cumsum(wrong, dtype=np.int32) + seen
            seen = float(failures[-1])
            total += float((failures / rank).sum())
        before, hits, misses = self._mixed_ties()
        rate = misses / (hits + misses)
        # The rows came right before wrong; the mean over all orders of the tie differs by this.
        by_hits, by_misses = harmonic_gap(before, hits), harmonic_gap(before + hits, misses)
        total += ((1.0 - rate) * (before + hits + misses) * by_misses - rate * before * by_hits).sum()
        return np.asarray(total / self.keys.size)

    def mean_failures(self) -> FloatArray:
        n = self.keys.size
        # A wrong answer counts at its own rank (by half) and at all later ones.
        total = sum(float((n + 0.5 - rank) @ wrong) for rank, wrong in self._surest_first())
        _, hits, misses = self._mixed_ties()
        return np.asarray((total + float(hits @ misses) / 2.0) / n**2)

    def _surest_first(self) -> Iterator[tuple[FloatArray, NDArray[np.uint8]]]:
        """Ranks 1 .. n, and 1 where the answer is wrong, a chunk at a time."""
        n, ranks = self.keys.size, np.arange(1.0, _CHUNK + 1.0)
        for end in range(n, 0, -_CHUNK):
            wrong = self.keys[max(end - _CHUNK, 0) : end].astype(np.uint8) & np.uint8(1) ^ np.uint8(1)
            yield ranks[: wrong.size] + float(n - end), wrong[::-1]

    def _mixed_ties(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of each tie group with right and wrong answers: rows before it, and those two."""
        keys = self.keys
        last_wrong = np.concatenate([self._turns(first) for first in range(0, keys.size, _CHUNK)])
        start = np.searchsorted(keys, keys[last_wrong])
        end = np.searchsorted(keys, keys[last_wrong] | 1, side="right")
        counts = (keys.size - end, end - last_wrong - 1, last_wrong + 1 - start)
        before, right, wrong = (count.astype(np.float64) for count in counts)
        return before, right, wrong

    def _turns(self, first: int) -> NDArray[np.intp]:
        """Last wrong rows of mixed ties, in the chunk from `first` on."""
        chunk = self.keys[first : first + _CHUNK + 1]
        return np.flatnonzero((chunk[1:] ^ chunk[:-1]) == 1) + first

    def groups(self) -> Groups:
        """The rows as tie groups."""
        runs = _starts(self.keys)  # of equal answers to equal confidences
        keys, rows = self.keys[runs], np.diff(runs, append=self.keys.size).astype(np.float64)
        starts = _starts(keys >> 1)
        mass = np.add.reduceat(rows, starts)
        right = np.add.reduceat(rows * (keys & 1), starts)
        return Groups((keys[starts] >> 1).view(np.float64)[::-1], right[::-1], (mass - right)[::-1])

    def cells(self, n_cells: int) -> Groups:
        """Groups of about n / n_cells rows that split no ties."""
        middle = np.arange(n_cells) * self.keys.size // n_cells
        starts = np.unique(np.searchsorted(self.keys, self.keys[middle] >> 1 << 1))
        mass = np.diff(starts, append=self.keys.size).astype(np.float64)
        right = np.add.reduceat(self.keys & 1, starts).astype(np.float64)
        return Groups((self.keys[starts] >> 1).view(np.float64)[::-1], right[::-1], (mass - right)[::-1])


def ranked(confidence: FloatArray, correct: FloatArray, weights: FloatArray | None) -> Groups | Rows:
    """Rows in the form in which their areas are the fastest to take."""
    if weights is not None:
        return groups_of(tie_groups(correct, confidence, weights), weights.max())
    if confidence.min() < 0.0 or confidence.max() > 1.0:
        return groups_of(tie_groups(correct, confidence))
    keys = sorted_keys(correct, confidence)
    few = keys.size < _FEW_ROWS or np.count_nonzero(keys[1:] != keys[:-1]) * _ROWS_A_GROUP < keys.size
    return Rows(keys).groups() if few else Rows(keys)


def groups_of(answers: Cells, heaviest: float = 1.0) -> Groups:
    """Right (the positive ones) and wrong answers by confidence; their weights are relative to the `heaviest`."""
    # Sums of the same weights, one of them in parts: the difference may fall below 0 by rounding.
    right, wrong = answers.positive * heaviest, np.maximum(answers.weight - answers.positive, 0.0) * heaviest
    return Groups(answers.value[::-1], right[::-1], wrong[::-1])


def areas(ranking: Groups | Rows) -> FloatArray:
    """AURC, E-AURC and AUGRC, shape (3, ...)."""
    area = ranking.mean_risk()
    return np.stack([area, excess(area, ranking), ranking.mean_failures()])


def excess(area: FloatArray, ranking: Groups | Rows) -> FloatArray:
    """AURC less that of an oracle, which gives all right answers first and then all wrong ones."""
    right, wrong = (np.asarray(total)[..., None] for total in ranking.totals)
    none = np.zeros_like(right)
    oracle = Groups(none, np.concatenate([right, none], axis=-1), np.concatenate([none, wrong], axis=-1))
    return np.maximum(area - oracle.mean_risk(), 0.0)


def harmonic_gap(before: FloatArray, mass: FloatArray) -> FloatArray:
    """H(before + mass) - H(before), H(x) = digamma(x + 1) + gamma the harmonic numbers; no digits lost to either."""
    gap, x, m = np.empty(before.size), before.ravel(), mass.ravel()
    for start in range(0, gap.size, _GAP_CHUNK):
        part = slice(start, start + _GAP_CHUNK)
        gap[part] = _gap(x[part], m[part])
    return gap.reshape(before.shape)


def _gap(before: FloatArray, mass: FloatArray) -> FloatArray:
    # H(x) = ln u + gamma + 1/(24 u^2) - 7/(960 u^4) + ..., u = x + 1/2.
    start, end = 1.0 / (before + 0.5), 1.0 / (before + mass + 0.5)
    gap: FloatArray = np.log1p(mass * start)
    start *= start
    end *= end
    gap += (end - start) * (1.0 / 24.0 - (end + start) * (7.0 / 960.0))
    few = before < _ASYMPTOTIC
    if few.any():
        gap[few] = special.digamma(before[few] + mass[few] + 1.0) - special.digamma(before[few] + 1.0)
    return gap


def _starts(ordered: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.intp]:
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))

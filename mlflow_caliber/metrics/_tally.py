"""Sums over rows that can be added: by distinct score while these are few, by cell of the fine grid after that.

Which of the two a tally is follows from the rows it has seen and not from the order or the parts they came in: it
stays exact as long as all of them together have no more distinct scores than the least of the parts' limits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber._cells import Cells
from mlflow_caliber._validation import FloatArray
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics._grid import N_CELLS, cell_of, within_cell
from mlflow_caliber.metrics._scoring import SMALLEST_PROBABILITY

_FEW_ROWS = 4096  # fewer are faster sorted than counted over the whole grid

SUMS = ("rows", "weight", "weight_sq", "positive", "positive_sq", "predicted")
"""Over the rows of a key: 1, w, w^2, w y, w^2 y and w p, the last one only where scores are not kept one by one."""


# Sums of equal weights differ by their rounding.
_SAME = 1e-11


class Piece(NamedTuple):
    """Checked rows, all of positive weight; weights are None where each is one."""

    y: FloatArray
    p: FloatArray
    weights: FloatArray | None


@dataclass(frozen=True)
class Tally:
    """One column of ``sums`` a key, one row for each of :data:`SUMS`.

    ``keys`` increase strictly: scores where ``exact``, of which there are ``limit`` at most, else numbers of cells.
    ``losses`` are the weighted sums of the squared error and of the log loss over all rows, which no cell could give
    back exactly.
    """

    limit: int
    exact: bool
    keys: NDArray[Any]
    sums: FloatArray
    losses: FloatArray

    @classmethod
    def empty(cls, limit: int) -> Tally:
        """No rows."""
        return cls(limit, True, np.empty(0), np.empty((len(SUMS) - 1, 0)), np.zeros(2))

    def plus(self, other: Tally) -> Tally:
        """The rows of both."""
        left, right = self.alike(other)
        keys, sums = np.append(left.keys, right.keys), np.concatenate([left.sums, right.sums], axis=1)
        limit = min(self.limit, other.limit)
        both = Tally(limit, left.exact, keys, sums, left.losses + right.losses).in_order()
        return both.on_grid() if both.keys.size > limit else both

    def alike(self, other: Tally) -> tuple[Tally, Tally]:
        """Both with keys of one kind."""
        return (self, other) if self.exact == other.exact else (self.on_grid(), other.on_grid())

    def in_order(self) -> Tally:
        """The same with increasing keys, equal ones as one."""
        if np.all(self.keys[1:] > self.keys[:-1]):
            return self
        order = np.argsort(self.keys, kind="stable")  # fast on a few runs that are in order already
        keys, sums = _merged(self.keys[order], self.sums[:, order])
        return replace(self, keys=keys, sums=sums)

    def on_grid(self) -> Tally:
        """The same rows by cell: which scores a cell held is forgotten, save their weighted sum."""
        if not self.exact:
            return self
        keys, sums = _merged(cell_of(self.keys), np.vstack([self.sums, self.sums[1] * self.keys]))
        return replace(self, exact=False, keys=keys, sums=sums)

    def plus_rows(self, pieces: Iterator[Piece]) -> Tally:
        """The rows of all pieces as well."""
        tally = self
        for piece in pieces:
            if not tally.exact and piece.y.size >= _FEW_ROWS:
                rest = itertools.chain([piece], pieces)
                return tally.plus(_by_cell(rest, self.limit, piece.weights is not None))
            tally = tally.plus(_by_score(piece, self.limit))
        return tally

    def without_common_weight(self) -> Tally:
        """The same rows at a weight of one each, where all weigh the same."""
        rows, weight, weight_sq, positive = self.sums[:4]
        if not rows.size or self.unweighted:
            return self
        common = float(weight.sum() / rows.sum())
        alike = np.allclose(weight, common * rows, rtol=_SAME, atol=0.0)
        if not (alike and np.allclose(weight_sq, common * common * rows, rtol=_SAME, atol=0.0)):
            return self
        counted = np.round(positive / common)
        sums = np.vstack([rows, rows, rows, counted, counted, self.sums[5:] / common])
        return replace(self, sums=sums, losses=self.losses / common)

    @property
    def unweighted(self) -> bool:
        """Whether all rows weigh one."""
        rows, weight, weight_sq = self.sums[:3]
        return np.array_equal(weight, rows) and np.array_equal(weight_sq, rows)

    def cells(self) -> Cells:
        """One cell a key; its value is its score, or the mean score of its rows."""
        if self.keys.size == 0:
            raise InvalidInputError("Score statistics must have seen a row of positive weight, got none so far.")
        rows, weight, weight_sq, positive, positive_sq = self.sums[:5]
        value = self.keys if self.exact else within_cell(self.keys, self.sums[5] / weight)
        # (Sums that somebody else has rounded may put a hair more weight on the positives than there is.)
        return Cells(value, rows, weight, weight_sq, np.minimum(positive, weight), np.minimum(positive_sq, weight_sq))


def _merged(keys: NDArray[Any], sums: FloatArray) -> tuple[NDArray[Any], FloatArray]:
    """Equal keys, which stand together, as one."""
    new = _is_new(keys)
    group = np.cumsum(new) - 1
    # (Adding up by reduceat takes three times as long on groups of one or two.)
    return keys[new], np.stack([np.bincount(group, column) for column in sums])


def _is_new(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    return np.append(np.ones(min(ordered.size, 1), dtype=bool), ordered[1:] != ordered[:-1])


def _by_score(piece: Piece, limit: int) -> Tally:
    keys = piece.p + 0.0  # -0.0 becomes a plain zero
    order = np.argsort(keys)
    keys, sums = _merged(keys[order], np.stack(_columns(piece))[:, order])
    return Tally(limit, True, keys, _for_each_sum(sums), _losses(piece))


def _by_cell(pieces: Iterable[Piece], limit: int, weighted: bool) -> Tally:
    # A place for each cell and label: what is summed over the positives comes along with what is summed over all.
    sums, losses = np.zeros((4 if weighted else 2, N_CELLS, 2)), np.zeros(2)
    for piece in pieces:
        _add_by_place(sums, piece)
        losses += _losses(piece)
    full = np.flatnonzero(sums[0, :, 0] + sums[0, :, 1])
    positive = sums[:, full, 1]
    every = sums[:, full, 0] + positive
    # Rows without weights have one sum for three.
    *counts, predicted = every if weighted else every[[0, 0, 0, 1]]
    of_positive = positive[1:3] if weighted else positive[[0, 0]]
    return Tally(limit, False, full, np.stack([*counts, *of_positive, predicted]), losses)


def _add_by_place(sums: FloatArray, piece: Piece) -> None:
    """Add 1, w, w^2 and w p, or where rows have no weights 1 and p, to the place of each row."""
    y, p, w = piece
    place = cell_of(p)
    place += place
    place += y.astype(np.int32)
    columns: list[Any] = [1.0, p] if w is None else [1.0, w, w * w, w * p]
    for total, column in zip(sums, columns, strict=True):
        np.add.at(total.reshape(-1), place, column)  # in place: bincount would fill a new array each time


def _columns(piece: Piece) -> list[FloatArray]:
    """What is summed over the rows of a score: as in SUMS with weights, and without them rows and positive."""
    y, _, w = piece
    return [np.ones_like(y), y] if w is None else [np.ones_like(y), w, w * w, w * y, w * w * y]


def _for_each_sum(sums: FloatArray) -> FloatArray:
    """One row for each of SUMS, of which several are the same where rows have no weights."""
    return sums if len(sums) > 2 else np.repeat(sums, [3, 2], axis=0)


def _losses(piece: Piece) -> FloatArray:
    """Weighted sums of the squared error and of the log loss."""
    y, p, w = piece
    error = p - y
    # |1 - y - p| is the probability of what happened, to the last bit: p or 1 - p.
    surprise = 1.0 - y
    surprise -= p
    np.abs(surprise, out=surprise)
    np.maximum(surprise, SMALLEST_PROBABILITY, out=surprise)
    np.log(surprise, out=surprise)
    if w is None:
        return np.array([error @ error, -surprise.sum()])
    return np.array([w @ (error * error), -(w @ surprise)])

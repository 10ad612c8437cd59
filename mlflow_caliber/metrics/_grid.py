"""The fine grid on which statistics count scores: every edge, and every gap between two edges, is a cell.

The edges are decimal fractions, so that all k/10, k/15, k/20 and k/100 are among them, and a score written with three
decimals, or near 0 and 1 with two significant digits, lies on one and is mixed with no other. From .01 to .99 they lie
1/6000 apart. Each decade from there toward 0, down to 1e-12, is cut into 540 gaps and what is left into 600, and so is
each toward 1: so near the ends a gap is never wider than 1/60 of its distance from the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray

PER_DECADE = 600
SMALLEST_DECADE = 12

# Level by level, by increasing score: the edges of a level are k/D, D = PER_DECADE times a power of ten, and the edge
# k/D is number k + offset of the whole grid. The level in the middle has the power one.
_MIDDLE = SMALLEST_DECADE - 1
_POWERS = np.abs(np.arange(-_MIDDLE, _MIDDLE + 1)) + 1
_DENOMINATORS = PER_DECADE * 10.0**_POWERS
_FROM_THE_END = (SMALLEST_DECADE - _POWERS) * (PER_DECADE - PER_DECADE // 10)
N_GAPS = int(2 * _FROM_THE_END[_MIDDLE] + _DENOMINATORS[_MIDDLE])
_OFFSETS = np.where(np.arange(_POWERS.size) <= _MIDDLE, _FROM_THE_END, N_GAPS - _FROM_THE_END - _DENOMINATORS)
# Where the next level begins; quotients of whole numbers, which are the floats nearest to the decimal fractions.
_TENS = 10.0 ** np.arange(SMALLEST_DECADE, 1, -1)
_LEVEL_ENDS = np.concatenate([1.0 / _TENS, (_TENS[::-1] - 1.0) / _TENS[::-1]])

_MIDDLE_EDGES = np.rint(_LEVEL_ENDS[[_MIDDLE - 1, _MIDDLE]] * _DENOMINATORS[_MIDDLE]) + _OFFSETS[_MIDDLE]
_MIDDLE_CELLS = range(*(2 * _MIDDLE_EDGES).astype(int).tolist())

N_CELLS = 2 * N_GAPS + 1
"""Edge number e is cell 2e, the gap between it and the next one cell 2e + 1."""


def cell_of(p: FloatArray) -> NDArray[np.int64]:
    """The cell of each probability: ``2 (k + offset) + sign(p - k/D)`` with k the whole number nearest to p D."""
    cells = _cell(p, _DENOMINATORS[_MIDDLE], _OFFSETS[_MIDDLE])
    # (One comparison finds what is below or above: a negative number is a great one without its sign.)
    ends = np.flatnonzero((cells - _MIDDLE_CELLS.start).view(np.uint32) >= len(_MIDDLE_CELLS))
    if ends.size:
        tail = p[ends]
        # (Faster than searchsorted; and an index of one byte would be converted at each use.)
        level = sum((tail >= end).view(np.int8) for end in _LEVEL_ENDS).astype(np.intp)
        cells[ends] = _cell(tail, _DENOMINATORS[level], _OFFSETS[level])
    return cells.astype(np.int64)


def _cell(p: FloatArray, denominator: FloatArray, offset: FloatArray) -> NDArray[np.int32]:
    # Not floor(p D): the product is rounded, and .29 times 100 falls short of 29. Rounding finds 29, and the comparison
    # with 29 / 100, a quotient that is rounded as the literal .29 is, puts the score on the edge or on its right side.
    number = p * denominator
    np.rint(number, out=number)
    edge = number / denominator
    number += offset
    cells = number.astype(np.int32)
    cells += cells
    # Truths are numbers of one byte, and a type that is not converted on the way is added several times as fast.
    cells += ((p > edge).view(np.int8) - (p < edge).view(np.int8)).astype(np.int32)
    return cells


def _edges() -> FloatArray:
    number = np.arange(N_GAPS + 1, dtype=np.float64)
    firsts = np.rint(np.append(0.0, _LEVEL_ENDS) * _DENOMINATORS) + _OFFSETS
    level = np.searchsorted(firsts, number, side="right") - 1
    edges: FloatArray = (number - _OFFSETS[level]) / _DENOMINATORS[level]
    edges.setflags(write=False)
    return edges


EDGES = _edges()


def within_cell(cells: NDArray[np.int64], mean: FloatArray) -> FloatArray:
    """The mean score of each cell, kept where the cell is: a rounded sum must not carry it over an edge."""
    low, high = EDGES[cells // 2], EDGES[(cells + 1) // 2]
    inside = np.clip(mean, np.nextafter(low, 1.0), np.nextafter(high, 0.0))
    return np.where(cells % 2 == 0, low, inside)

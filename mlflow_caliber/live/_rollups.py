"""Tallies as rows of the store's rollups and as bytes, and back: everything is checked when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber.exceptions import StateError
from mlflow_caliber.live._packed import pack, unpack
from mlflow_caliber.live._tallies import N_BLOCKS, N_CELLS, SHAPE, CellTally, Tally, tally_of
from mlflow_caliber.store import HistoryDay, RollupRow

__all__ = ["readable_or_state_error", "row_of", "tally_from_bytes", "tally_of_day", "tally_to_bytes"]


def tally_to_bytes(tally: Tally) -> bytes:
    """The tally as bytes."""
    cells = tally.cells
    # Whole numbers are compressed far better than floats that are whole.
    steps, whole = np.diff(cells.place, prepend=np.int32(0)), cells.sums[:2].astype(np.int32)
    return pack({}, [np.stack([tally.n, tally.scorable]), steps, whole, cells.sums[2], cells.losses])


def tally_from_bytes(content: bytes) -> Tally:
    """The tally.

    Raises
    ------
    StateError
        If it can be none.
    """
    with readable_or_state_error():
        _, (counts, *arrays) = unpack(content, 5)
        if counts.shape != (2, 2):
            raise StateError("The summary cannot be read: a tally must have two strata.")
        return Tally(counts[0].astype(np.int64), counts[1].astype(np.int64), _checked(*arrays))


def _checked(
    steps: NDArray[Any], whole: NDArray[Any], predicted: NDArray[np.float64], losses: NDArray[np.float64]
) -> CellTally:
    place = np.cumsum(steps, dtype=np.int64)
    sums = np.concatenate([whole.astype(np.float64), predicted[np.newaxis]])
    fits = sums.shape == (3, place.size) and losses.shape == SHAPE and np.all(steps[1:] > 0)
    if not fits or (place.size and not 0 <= place[0] <= place[-1] < N_BLOCKS * N_CELLS):
        raise StateError("The summary cannot be read: its cells are not cells of the grid.")
    if not (np.isfinite(sums).all() and np.isfinite(losses).all() and np.all((sums[1] >= 0) & (sums[1] <= sums[0]))):
        raise StateError("The summary cannot be read: its sums cannot be sums over rows.")
    return CellTally(place.astype(np.int32), sums, losses)


def row_of(segment: str, level: str, start: int, tally: Tally) -> RollupRow:
    """The row of a tally."""
    (answered, abstained), (scorable, withheld) = tally.n.tolist(), tally.scorable.tolist()
    content = tally_to_bytes(tally)
    return RollupRow(segment, level, start, answered, abstained, scorable, withheld, tally.cells.n, content)


def tally_of_day(day: HistoryDay) -> Tally:
    """The tally of a compacted day: all as answered and observed, as its statistics say no more."""
    n = np.array([day.n, 0], dtype=np.int64)
    return Tally(n, n, tally_of(day.served, day.base, day.raw))


@contextmanager
def readable_or_state_error() -> Iterator[None]:
    """Whatever goes wrong with bytes from outside is a sentence."""
    try:
        yield
    except StateError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StateError(f"The summary cannot be read: {type(error).__name__}.") from error

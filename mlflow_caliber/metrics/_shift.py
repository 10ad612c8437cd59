"""How far a distribution of scores has moved, from two tallies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber._cells import Cells, bin_sums_of_cells
from mlflow_caliber._validation import FloatArray
from mlflow_caliber.metrics._tally import Tally


def population_stability_index(reference: Tally, current: Tally, n_bins: int) -> float:
    """PSI over bins of about equal mass in the reference, which split no ties."""
    reference, current = reference.alike(current)
    cells = reference.cells()
    lowest = bin_sums_of_cells(cells, n_bins, "quantile").lower_edge
    # Keys, not scores: what lies in a cell of the grid may have another mean on the other side.
    starts = reference.keys[np.searchsorted(cells.value, lowest)]
    expected, actual = _shares(cells, reference.keys, starts), _shares(current.cells(), current.keys, starts)
    return float((actual - expected) @ np.log(actual / expected))


def _shares(cells: Cells, keys: NDArray[np.generic], starts: NDArray[np.generic]) -> FloatArray:
    """The share of the rows in each bin, half a row added to each, so that an empty one leaves the logarithm finite."""
    index = np.searchsorted(starts[1:], keys, side="right")
    # Kish: so many rows of equal weight would be as uncertain.
    rows_per_weight = cells.weight.sum() / cells.weight_sq.sum()
    rows = np.bincount(index, cells.weight, starts.size) * rows_per_weight + 0.5
    shares: FloatArray = rows / rows.sum()
    return shares

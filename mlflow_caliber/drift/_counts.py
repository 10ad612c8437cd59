"""Statistics of cell counts: how differently two samples fill the same cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from mlflow_caliber._validation import FloatArray

Counts = NDArray[np.int64]


def filled(reference: Counts, current: Counts) -> NDArray[np.bool_]:
    """Cells that hold a row of either side; an empty one says nothing and would cost a degree of freedom."""
    return (reference + current) > 0


def shares(counts: Counts) -> FloatArray:
    """Cell shares with half a row added to each cell, so that an empty cell leaves the logarithm finite."""
    smoothed = counts + 0.5
    return np.asarray(smoothed / smoothed.sum(), dtype=np.float64)


def psi_terms(reference: Counts, current: Counts) -> FloatArray:
    """What each cell adds to PSI = sum (a - e) ln(a / e); no term is negative."""
    e, a = shares(reference), shares(current)
    return np.asarray((a - e) * np.log(a / e), dtype=np.float64)


def psi(reference: Counts, current: Counts) -> float:
    """Population stability index, >= 0."""
    return float(psi_terms(reference, current).sum())


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Jensen-Shannon distance, base 2, in [0, 1]; shares as they are, since it needs no smoothing."""
    return min(1.0, float(jensenshannon(reference, current, base=2)))


def chi_square(reference: Counts, current: Counts) -> float:
    """Pearson's statistic of the table of two sides by cells, >= 0."""
    n, m = reference.sum(), current.sum()
    return float((np.square(reference / n - current / m) / (reference + current)).sum() * n * m)


def cramers_v(reference: Counts, current: Counts) -> float:
    """Cramer's V of the same table, in [0, 1]: the root of chi-square over rows, since there are two sides."""
    return float(np.sqrt(chi_square(reference, current) / (reference.sum() + current.sum())))

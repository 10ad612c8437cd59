"""The population stability index, its null distribution, and the threshold that follows from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2

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


def js_distance(reference: Counts, current: Counts) -> float:
    """Jensen-Shannon distance, base 2, in [0, 1]; shares as they are, since it needs no smoothing."""
    return min(1.0, float(jensenshannon(reference, current, base=2)))


def null_scale(n_reference: int, n_current: int) -> float:
    """The factor s in PSI ~ s * chi2(cells - 1), which holds in large samples without drift."""
    return 1.0 / n_reference + 1.0 / n_current


def p_value(psi: float, n_cells: int, scale: float) -> float:
    """The share of drift-free samples with a PSI of at least this one."""
    return float(chi2.sf(psi / scale, n_cells - 1))


def critical_value(level: float, n_cells: int, scale: float) -> float:
    """The PSI whose p-value is ``level``."""
    return float(chi2.isf(level, n_cells - 1) * scale)


def benjamini_hochberg_level(p_values: list[float], alpha: float) -> float:
    """The p-value up to which to reject: alpha k / m for the largest k with p_(k) <= alpha k / m, k = 1 if none."""
    m = len(p_values)
    passed = np.sort(p_values) <= alpha * np.arange(1, m + 1) / m
    k = int(np.flatnonzero(passed)[-1]) + 1 if passed.any() else 1
    return alpha * k / m

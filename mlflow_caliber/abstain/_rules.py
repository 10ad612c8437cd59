"""Thresholds that follow from a capacity or from costs."""

from __future__ import annotations

import numpy as np

from mlflow_caliber._validation import FloatArray


def capacity_threshold(confidence: FloatArray, rate: float, delta: float) -> float:
    """The greatest threshold below which, with chance 1 - delta, at most `rate` of all predictions lie.

    Of the k-th smallest of n confidences, the share of all predictions below it has the distribution Beta(k, n - k + 1)
    or, with ties, lies lower. It exceeds `rate` with the chance that fewer than k of n draws fall below the
    `rate`-quantile: P(Binomial(n, rate) <= k - 1).
    """
    from scipy import stats  # most of a second of loading, for one rule

    if rate >= 1.0:
        return 1.0
    k = np.arange(1, confidence.size + 1)
    allowed = int(np.count_nonzero(stats.binom.cdf(k - 1, confidence.size, rate) <= delta))
    return float(np.partition(confidence, allowed - 1)[allowed - 1]) if allowed else 0.0


def cost_threshold(review: float, error: float) -> float:
    """Answering costs (1 - confidence) times an error's cost: from this confidence on no more than a review."""
    return max(1.0 - review / error, 0.0) if error > 0.0 else 0.0

"""Confidence intervals, and the exact ones of a proportion."""

from __future__ import annotations

from typing import NamedTuple

from scipy import special

from mlflow_caliber._validation import check_at_least, check_unit_interval
from mlflow_caliber.exceptions import InvalidInputError


class Interval(NamedTuple):
    """The two ends of a confidence interval."""

    low: float
    high: float


def proportion_interval(successes: float, n: float, *, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's exact interval of a proportion: it covers at least as often as it says, at every size.

    Parameters
    ----------
    successes : float
        How often it happened, from 0 to `n`. For weighted rows: the weighted proportion times `n`.
    n : float
        Trials, more than 0. For weighted rows Kish's effective number; neither need be whole.
    confidence : float, default=0.95
        Level of the two-sided interval, in (0, 1).

    Returns
    -------
    Interval
        Ends in [0, 1] around ``successes / n``; exactly 0 or 1 where nothing or everything was a success.

    Raises
    ------
    InvalidInputError
        For counts or a level that cannot be used.

    See Also
    --------
    proportion_upper_bound : The one-sided bound.

    References
    ----------
    Clopper and Pearson (1934), "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial",
    Biometrika.

    Examples
    --------
    >>> from mlflow_caliber.metrics import proportion_interval
    >>> proportion_interval(8, 10)
    Interval(low=0.4439, high=0.9748)
    """
    delta = (1.0 - check_unit_interval(confidence, "confidence", open_ends=True)) / 2.0
    k, trials = _checked_counts(successes, n)
    # What failed seen from the other side: the lower end of k successes is the upper bound of n - k failures.
    return Interval(1.0 - _upper(trials - k, trials, delta), _upper(k, trials, delta))


def proportion_upper_bound(successes: float, n: float, *, delta: float = 0.05) -> float:
    """Clopper and Pearson's exact upper bound of a proportion: the truth lies above it with chance `delta` at most.

    Parameters
    ----------
    successes : float
        How often it happened, from 0 to `n`.
    n : float
        Trials, more than 0; see :func:`proportion_interval`.
    delta : float, default=0.05
        Chance of error, in (0, 1), all of it on this one side.

    Returns
    -------
    float
        In (0, 1]; not below ``successes / n`` for `delta` up to one half.

    Raises
    ------
    InvalidInputError
        For counts or a `delta` that cannot be used.

    References
    ----------
    Clopper and Pearson (1934), "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial",
    Biometrika.

    Examples
    --------
    No error in 59 cases: at most 5 % are wrong, with 95 % confidence.

    >>> from mlflow_caliber.metrics import proportion_upper_bound
    >>> proportion_upper_bound(0, 59)
    0.0495
    """
    level = check_unit_interval(delta, "delta", open_ends=True)
    return _upper(*_checked_counts(successes, n), level)


def _checked_counts(successes: float, n: float) -> tuple[float, float]:
    k, trials = check_at_least(successes, "successes", 0.0), check_at_least(n, "n", 0.0)
    if trials == 0.0:
        raise InvalidInputError("n must be more than 0, got 0.")
    if k > trials:
        raise InvalidInputError(f"successes must not exceed n, got {k:.6g} of {trials:.6g}.")
    return k, trials


def _upper(k: float, n: float, delta: float) -> float:
    return 1.0 if k >= n else float(special.betaincinv(k + 1.0, n - k, 1.0 - delta))

"""Confidence intervals of the areas under risk-coverage curves: the bootstrap, on cells of rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mlflow_caliber._cells import Cells, tie_groups
from mlflow_caliber._validation import (
    FloatArray,
    check_confidence_pair,
    check_count,
    check_unit_interval,
    check_weights,
)
from mlflow_caliber.metrics._intervals import Interval
from mlflow_caliber.metrics._risk import Groups, Rows, areas, ranked

# Finer cells change the spread by less than its own noise.
_N_CELLS = 128
# What an area cannot be told from 0 by: the rounding of two sums.
_ROUNDING = 1e-12
# Log odds that spread wider than this come of a handful of errors, and are no longer about normal.
_WIDE = 0.5
_TINY = np.finfo(np.float64).tiny
_GREATEST = np.array([1.0, 1.0, 0.5])


def selective_intervals(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    confidence_level: float = 0.95,
    n_resamples: int = 500,
    sample_weight: ArrayLike | None = None,
    random_state: int = 0,
) -> dict[str, Interval]:
    """Confidence intervals of :func:`aurc`, :func:`e_aurc` and :func:`augrc`, by resampling rows.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Any finite number; more is surer.
    correct : array-like of shape (n,)
        1 where the answer was right, else 0.
    confidence_level : float, default=0.95
        Level of the two-sided intervals, in (0, 1).
    n_resamples : int, default=500
        Replicates of the bootstrap, at least 2.
    sample_weight : array-like of shape (n,), optional
        Rows count in this proportion. The spread is that of the rows there are, not of the rows they stand for: within
        a cell, that of Kish's effective number.
    random_state : int, default=0
        Seed of the draws.

    Returns
    -------
    dict of str to Interval
        Keys ``aurc``, ``e_aurc``, ``augrc``. Each holds its estimate.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite, `correct` other than 0 and 1, weights that are
        negative or all 0, or a level or number of resamples that cannot be used.

    Notes
    -----
    Rows drawn with replacement are a multinomial draw on the pairs of confidence and answer. Here confidence is cut
    into 128 cells of about equal mass, so that a replicate costs the same for a thousand rows and for a billion. The
    interval is the estimate, on all distinct confidences, less and plus a multiple of the replicates' standard
    deviation, on the scale of log odds (of the share of the greatest possible value): so it stays in range and leans to
    the side where there is room. Log odds that spread wider than one half, as those of a handful of errors do, are far
    from normal, and without an error there are none: then half a right and half a wrong answer are added, over all
    cells, and the quantiles of the replicates are taken.

    References
    ----------
    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapters 12 and 13.

    Examples
    --------
    >>> from mlflow_caliber.metrics import selective_intervals
    >>> selective_intervals([0.9, 0.8, 0.7, 0.6] * 25, [1, 1, 0, 1] * 25)["augrc"]
    Interval(low=0.0592, high=0.1420)
    """
    conf, right = check_confidence_pair(confidence, correct)
    weights = check_weights(sample_weight, conf.size)
    level = check_unit_interval(confidence_level, "confidence_level", open_ends=True)
    draws = check_count(n_resamples, "n_resamples", minimum=2)
    ranking = ranked(conf, right, weights)
    answers = None if weights is None else tie_groups(right, conf, weights)
    return intervals_of_ranking(ranking, answers, level, draws, random_state)


def intervals_of_ranking(
    ranking: Groups | Rows, answers: Cells | None, level: float, draws: int, random_state: int
) -> dict[str, Interval]:
    """The intervals of ranked answers; those of unequal weight are also given by confidence, with squared weights."""
    cells = _cells(ranking.cells(_N_CELLS), answers)
    estimates = areas(ranking)
    ends, spread = _from_spread(estimates, _replicates(cells, draws, random_state, extra=0.0), level)
    if spread.max() > _WIDE:
        wide = _from_quantiles(estimates, _replicates(cells, draws, random_state, extra=0.5), level)
        ends = np.where(spread > _WIDE, wide, ends)
    return {key: Interval(*pair) for key, pair in zip(("aurc", "e_aurc", "augrc"), ends.T.tolist(), strict=True)}


class _Cells(NamedTuple):
    """Per cell of confidence, the surest first, and per answer (right, wrong): rows to draw, and the mass of each."""

    rows: FloatArray
    mass: FloatArray


def _cells(groups: Groups, answers: Cells | None) -> _Cells:
    mass = np.stack([groups.right, groups.wrong])
    if answers is None:
        return _Cells(mass, np.ones_like(mass))
    size = groups.confidence.size
    lowest = groups.confidence[::-1]
    index = size - np.clip(np.searchsorted(lowest, answers.value, side="right"), 1, size)
    by_answer = (answers.positive, answers.weight - answers.positive)
    squared = (answers.positive_sq, answers.weight_sq - answers.positive_sq)
    sums, squares = (np.stack([np.bincount(index, w, size) for w in part]) for part in (by_answer, squared))
    # Kish: so many rows of equal weight would be as uncertain. At least one where there is any, and never more than
    # there are: of weights that differ by many powers of ten, differences of sums of squares are all rounding.
    squares = np.maximum(squares, sums * sums / np.maximum(np.bincount(index, answers.rows, size), 1.0))
    rows = np.where(sums > 0.0, np.maximum(sums * (sums / np.maximum(squares, _TINY)), 1.0), 0.0)
    return _Cells(rows, np.where(rows > 0.0, mass / np.maximum(rows, 1.0), mass.sum() / rows.sum()))


def _replicates(cells: _Cells, n_resamples: int, random_state: int, *, extra: float) -> FloatArray:
    """Areas of the cells' rows drawn with replacement, with `extra` right and wrong answers among them: (3, B)."""
    rows = cells.rows + extra / cells.rows.shape[1]
    n = max(round(float(rows.sum())), 1)
    draws = np.random.default_rng(random_state).multinomial(n, (rows / rows.sum()).ravel(), size=n_resamples)
    right, wrong = np.moveaxis(draws.reshape(-1, *rows.shape) * cells.mass, 1, 0)
    return areas(Groups(np.zeros(rows.shape[1]), right, wrong))


def _from_spread(estimates: FloatArray, replicates: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Ends (2, 3) at a multiple of the standard deviation of the estimates' log odds, and that deviation.

    It is infinite for an estimate at the end of its range, which has no log odds.
    """
    share = np.clip(estimates / _GREATEST, _ROUNDING, 1.0 - _ROUNDING)
    spread = replicates.std(axis=1, ddof=1) / _GREATEST / (share * (1.0 - share))
    spread[(share == _ROUNDING) | (share == 1.0 - _ROUNDING)] = np.inf
    reach = special.ndtri((1.0 + level) / 2.0) * spread
    ends: FloatArray = special.expit(special.logit(share) + np.stack([-reach, reach])) * _GREATEST
    return ends, spread


def _from_quantiles(estimates: FloatArray, replicates: FloatArray, level: float) -> FloatArray:
    low, high = np.quantile(replicates, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=1)
    return np.stack([np.minimum(low, estimates), np.minimum(np.maximum(high, estimates), _GREATEST)])

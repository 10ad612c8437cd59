"""Statistics of scored outcomes that can be added: chunk to chunk, process to process, machine to machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber._validation import (
    check_addable_weights,
    check_count,
    check_finite,
    check_one_dimension,
    check_same_length,
    check_scored_labels,
    check_scores,
    row_chunks,
)
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics._grid import cell_of
from mlflow_caliber.metrics._readable import Readable
from mlflow_caliber.metrics._tally import Piece, Tally
from mlflow_caliber.metrics._tally_state import checked_tally, from_state, to_state

EXACT_UP_TO = 10_000


class ScoreStatistics(Readable):
    """What reliability is measured from, of any number of rows, in a few hundred kilobytes.

    Chunks of rows are added with :meth:`update`, statistics of other rows with :meth:`merge` or ``+``, in any order:
    the sum depends on the rows and not on how they were cut. :meth:`to_dict` gives them as JSON.

    As long as the rows have at most `exact_up_to` distinct scores, every number is the one that the rows would give.
    Beyond that, scores are counted in the cells of a fixed grid (:meth:`cell_of`), which keeps exact what lies on it:
    bins of equal width (10, 15, 20, 100 and every other divisor of 6000), decisions at 1/2, Brier score, log loss, and
    all of scores with three decimals. The rest is rounded by far less than its sampling error; the Notes say how far.

    Parameters
    ----------
    exact_up_to : int, default=10000
        Distinct scores up to which each is kept; merged statistics take the least of theirs. More costs memory, about
        40 bytes a score, and 25 bytes of JSON; 0 counts on the grid from the first row.

    Notes
    -----
    Counts are whole numbers and add exactly; sums differ with the order of adding by about 1e-12 of their value. On the
    grid, with more than 10,000 rows, calibration error over bins of equal mass is within .001 of that of the rows,
    the parts of the Brier score within .0001, AURC within .00002, AUC within .00001 and 1/200 of the width of its
    interval; all shrink with more rows. ``docs/user-guide/statistics-at-scale.md`` has the whole table, and what a
    calibrator fitted to :meth:`weighted_rows` differs from one fitted to the rows.

    References
    ----------
    Gray et al. (1997), "Data Cube: A Relational Aggregation Operator Generalizing Group-By, Cross-Tab, and Sub-Totals",
    Data Mining and Knowledge Discovery (what can be merged, and what cannot).

    Examples
    --------
    >>> from mlflow_caliber.metrics import ScoreStatistics
    >>> monday = ScoreStatistics().update([0, 1, 1], [0.2, 0.7, 0.9])
    >>> tuesday = ScoreStatistics().update([0, 1], [0.4, 0.6])
    >>> week = monday + tuesday
    >>> week.n, week == tuesday.merge(monday)
    (5, True)
    >>> ScoreStatistics.from_dict(week.to_dict()) == week
    True
    """

    def __init__(self, *, exact_up_to: int = EXACT_UP_TO) -> None:
        self._tally = Tally.empty(check_count(exact_up_to, "exact_up_to", minimum=0))

    @classmethod
    def from_rows(
        cls,
        y_true: ArrayLike,
        y_proba: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        exact_up_to: int = EXACT_UP_TO,
    ) -> Self:
        """The statistics of these rows alone; see :meth:`update`.

        Examples
        --------
        >>> ScoreStatistics.from_rows([0, 1, 1], [0.2, 0.7, 0.7])
        ScoreStatistics(n=3, 2 distinct scores)
        """
        return cls(exact_up_to=exact_up_to).update(y_true, y_proba, sample_weight=sample_weight)

    @classmethod
    def from_cells(
        cls,
        cell: ArrayLike,
        *,
        rows: ArrayLike,
        positive: ArrayLike,
        predicted: ArrayLike,
        squared_error: ArrayLike,
        log_loss: ArrayLike,
        weight: ArrayLike | None = None,
        weight_sq: ArrayLike | None = None,
        positive_sq: ArrayLike | None = None,
    ) -> Self:
        r"""Statistics of rows that a database or a cluster has added up: its GROUP BY over :meth:`cell_of`.

        Every argument has one value a group, in any order; a cell may come in several groups. With `y` the label, `p`
        the probability and `w` the weight of a row (1 where rows have none), a group's value is the sum over its rows.

        Parameters
        ----------
        cell : array-like of shape (m,)
            Number of the cell, a whole number.
        rows : array-like of shape (m,)
            1: how many rows.
        positive, predicted : array-like of shape (m,)
            `w y` and `w p`.
        squared_error, log_loss : array-like of shape (m,)
            :math:`w (p - y)^2`, and `w` times minus the logarithm of the probability of what happened, which is taken
            as at least 2.220446049250313e-16.
        weight, weight_sq, positive_sq : array-like of shape (m,), optional
            `w`, :math:`w^2` and :math:`w^2 y`: all three where rows have weights.

        Returns
        -------
        ScoreStatistics
            Counted on the grid, however few the scores.

        Raises
        ------
        InvalidInputError
            For groups that cannot be sums over rows.

        Examples
        --------
        >>> cell = ScoreStatistics.cell_of([0.2, 0.7])
        >>> sums = {"rows": [1, 2], "positive": [0, 2], "predicted": [0.2, 1.4]}
        >>> ScoreStatistics.from_cells(cell, **sums, squared_error=[0.04, 0.18], log_loss=[0.22314355, 0.71334989])
        ScoreStatistics(n=3, 2 cells)
        """
        columns = {
            "rows": rows,
            "weight": weight,
            "weight_sq": weight_sq,
            "positive": positive,
            "positive_sq": positive_sq,
            "predicted": predicted,
        }
        losses = ((squared_error, "squared_error"), (log_loss, "log_loss"))
        totals = np.array([check_finite(values, name).sum() for values, name in losses])
        return cls._of(checked_tally(EXACT_UP_TO, False, cell, columns, totals).in_order())

    @classmethod
    def _of(cls, tally: Tally) -> Self:
        statistics = cls()
        statistics._tally = tally
        return statistics

    @staticmethod
    def cell_of(y_proba: ArrayLike) -> NDArray[np.int64]:
        r"""The cell of the grid in which each probability is counted.

        With :math:`k` the whole number nearest to :math:`p D`, the cell is
        :math:`2 (k + a) + \operatorname{sign}(p - k / D)`: even for a probability on an edge :math:`k / D`, odd between
        two edges.

        =============================================  =============  =======================
        for                                            D              a
        =============================================  =============  =======================
        .01 <= p < .99                                 6000           5940
        10^-j <= p < 10^(1-j), j = 3 to 12             600 10^(j-1)   540 (13 - j)
        p < 10^-12                                     600 10^12      0
        1 - 10^(1-j) <= p < 1 - 10^-j, j = 3 to 12     600 10^(j-1)   17880 - 540 (13 - j) - D
        1 - 10^-12 <= p                                600 10^12      17880 - D
        =============================================  =============  =======================

        Parameters
        ----------
        y_proba : array-like of shape (n,)
            In [0, 1].

        Returns
        -------
        ndarray of shape (n,), int64
            0 (p = 0) to 35760 (p = 1), never decreasing in p.

        Examples
        --------
        >>> ScoreStatistics.cell_of([0.0, 0.2, 0.20001, 0.5, 1.0])
        array([    0, 14280, 14281, 17880, 35760])
        """
        return cell_of(check_scores(y_proba))

    def update(self, y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> Self:
        """Add a chunk of rows.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            0 or 1; for the winning class of many, whether it was right. `n` may be 0.
        y_proba : array-like of shape (n,)
            Probability of class 1, in [0, 1]; for the winning class of many, its probability.
        sample_weight : array-like of shape (n,), optional
            0, which leaves a row out, or in [1e-100, 1e100]. Rows without weights weigh 1.

        Returns
        -------
        ScoreStatistics
            Itself.

        Raises
        ------
        InvalidInputError
            For arrays that are of unequal length, not finite or out of range; nothing of the chunk is then added.
        """
        y, p = check_one_dimension(y_true, "y_true"), check_one_dimension(y_proba, "y_proba")
        weights = None if sample_weight is None else check_one_dimension(sample_weight, "sample_weight")
        n = check_same_length(y_true=y, y_proba=p)
        check_same_length(y_true=y, sample_weight=y if weights is None else weights)
        try:
            self._tally = self._tally.plus_rows(_pieces(y, p, weights))
        except InvalidInputError:
            # A sentence about the whole chunk says more than one about the piece that could not be read.
            check_scored_labels(y, p)
            check_addable_weights(weights, n)
            raise
        return self

    def merge(self, other: ScoreStatistics) -> Self:
        """The statistics of the rows of both; neither is changed.

        Raises
        ------
        InvalidInputError
            When `other` is something else.
        """
        if not isinstance(other, ScoreStatistics):
            raise InvalidInputError(f"other must be ScoreStatistics, got a {type(other).__name__}.")
        return self._of(self._tally.plus(other._tally))

    def without_common_weight(self) -> Self:
        """The same rows at a weight of one each, where all weigh the same; else these statistics.

        Weights are relative, and measures of ranked answers take rows of equal weight one by one.

        Examples
        --------
        >>> twice = ScoreStatistics.from_rows([0, 1, 1], [0.25, 0.5, 0.75], sample_weight=[2.0] * 3)
        >>> twice.without_common_weight() == ScoreStatistics.from_rows([0, 1, 1], [0.25, 0.5, 0.75])
        True
        """
        relative = self._tally.without_common_weight()
        return self if relative is self._tally else self._of(relative)

    def __add__(self, other: object) -> Self:
        return self.merge(other) if isinstance(other, ScoreStatistics) else NotImplemented

    def __radd__(self, other: object) -> Self:
        # sum() begins with 0.
        return self._of(self._tally) if isinstance(other, int) and other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScoreStatistics) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        kept = "distinct scores" if self.exact else "cells"
        return f"ScoreStatistics(n={self.n}, {self._tally.keys.size} {kept})"

    def to_dict(self) -> dict[str, Any]:
        """The statistics as plain JSON values; floats keep every bit. What follows from the rest is null.

        Examples
        --------
        >>> statistics = ScoreStatistics.from_rows([0, 1, 1], [0.25, 0.75, 0.75])
        >>> {key: value for key, value in statistics.to_dict().items() if value is not None}  # doctest: +ELLIPSIS
        {'format_version': 1, 'exact_up_to': 10000, 'exact': True, 'key': [0.25, 0.75], 'rows': [1, 2], ...}
        """
        return to_state(self._tally)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            If a key is missing or unknown, a value has the wrong type or cannot be a sum over rows, or the format is
            another version.
        """
        return cls._of(from_state(state))


def _pieces(y: NDArray[Any], p: NDArray[Any], weights: NDArray[Any] | None) -> Iterator[Piece]:
    """The rows of positive weight, checked, a cacheful at a time."""
    for part in row_chunks(y.size):
        labels, scores, _ = check_scored_labels(y[part], p[part])
        w = check_addable_weights(None if weights is None else weights[part], labels.size)
        kept = slice(None) if w is None else w > 0.0
        piece = Piece(labels[kept], scores[kept], None if w is None else w[kept])
        if piece.y.size:
            yield piece

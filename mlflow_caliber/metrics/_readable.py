"""The questions that statistics of scored outcomes answer."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlflow_caliber._cells import Cells
from mlflow_caliber._validation import FloatArray, check_choice, check_count, check_flag, check_unit_interval
from mlflow_caliber.metrics import _corp, _selective
from mlflow_caliber.metrics._calibration import STRATEGIES, Strategy
from mlflow_caliber.metrics._corp import CorpCurve
from mlflow_caliber.metrics._curves import ReliabilityCurve, curve_of_bins
from mlflow_caliber.metrics._intervals import Interval
from mlflow_caliber.metrics._noise import FEWEST_RESAMPLES
from mlflow_caliber.metrics._readings import Measured, Reading, intervals, measure
from mlflow_caliber.metrics._selective import RiskCoverageCurve
from mlflow_caliber.metrics._shift import population_stability_index
from mlflow_caliber.metrics._tally import Tally


class Readable:
    """Base of what holds a tally."""

    _tally: Tally
    _last: Reading | None = None

    @property
    def n(self) -> int:
        """Rows of positive weight seen so far."""
        return int(self._tally.sums[0].sum())

    @property
    def exact(self) -> bool:
        """Whether every distinct score is kept, so that nothing is rounded."""
        return self._tally.exact

    @property
    def weighted(self) -> bool:
        """Whether rows carried weights that differ."""
        rows, weight, weight_sq = (float(column.sum()) for column in self._tally.sums[:3])
        # Cauchy and Schwarz: equal only where all weights are. What is left is the rounding of the sums.
        return bool(rows * weight_sq > weight**2 * (1.0 + 1e-9))

    def measure(
        self,
        *,
        n_bins: int = 10,
        strategy: Strategy = "quantile",
        threshold: float = 0.0,
        top_label: bool = False,
        random_state: int = 0,
        only: Collection[str] | None = None,
    ) -> Measured:
        """Every metric of a reliability report that these rows allow.

        Parameters
        ----------
        n_bins : int, default=10
            Bins of the calibration error.
        strategy : {"quantile", "uniform"}, default="quantile"
            Bins of ``ece`` and of its noise floor; ``ece_upper`` and ``ece_l2_debiased`` are about equal mass.
        threshold : float, default=0
            Answers are given where the confidence, max(p, 1 - p), is at least this.
        top_label : bool, default=False
            Whether the rows are winning classes: the label says whether the answer was right, and the probability is
            its confidence. Scores of the class probabilities (Brier score, log loss, AUC) are then left out.
        random_state : int, default=0
            Seed of the labels drawn for the noise floor.
        only : collection of str, optional
            The keys that are wanted; those that come out of the same computation come along, all others cost nothing.

        Returns
        -------
        Measured
            ``metrics``, by the keys of :data:`METRICS`; and ``not_computed``: for each other one why not.

        Raises
        ------
        InvalidInputError
            When no row has been seen, or for an option that cannot be used.

        Examples
        --------
        >>> from mlflow_caliber.metrics import ScoreStatistics
        >>> measured = ScoreStatistics.from_rows([0, 0], [0.1, 0.4]).measure(n_bins=2)
        >>> measured.metrics["brier"]
        0.085
        >>> measured.not_computed
        {'roc_auc': 'roc_auc needs both classes, got only class 0 in 2 rows.'}
        """
        return measure(self._reading(n_bins, strategy, threshold, top_label, random_state), only)

    def metrics(
        self,
        *,
        n_bins: int = 10,
        strategy: Strategy = "quantile",
        threshold: float = 0.0,
        top_label: bool = False,
        random_state: int = 0,
    ) -> dict[str, float]:
        """The metrics of :meth:`measure` alone.

        Examples
        --------
        >>> from mlflow_caliber.metrics import ScoreStatistics
        >>> ScoreStatistics.from_rows([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).metrics()["roc_auc"]
        0.75
        """
        return measure(self._reading(n_bins, strategy, threshold, top_label, random_state)).metrics

    def intervals(
        self,
        *,
        n_bins: int = 10,
        strategy: Strategy = "quantile",
        threshold: float = 0.0,
        top_label: bool = False,
        confidence: float = 0.95,
        random_state: int = 0,
        only: Collection[str] | None = None,
        n_resamples: int = 1000,
    ) -> dict[str, Interval]:
        """Confidence intervals of the metrics that sampling makes uncertain, by the methods of the metrics of rows.

        Parameters
        ----------
        n_bins, strategy, threshold, top_label
            As for :meth:`measure`.
        confidence : float, default=0.95
            Level of the two-sided intervals, in (0, 1).
        random_state : int, default=0
            Seed of the resampling.
        only : collection of str, optional
            As for :meth:`measure`.
        n_resamples : int, default=1000
            Resamples for the interval of ``ece``, at least 50.

        Returns
        -------
        dict of str to Interval
            Each around its metric.

        Raises
        ------
        InvalidInputError
            When no row has been seen, or for an option that cannot be used.

        Examples
        --------
        >>> from mlflow_caliber.metrics import ScoreStatistics
        >>> ScoreStatistics.from_rows([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).intervals()["accuracy"]
        Interval(low=0.194, high=0.994)
        """
        level = check_unit_interval(confidence, "confidence", open_ends=True)
        resamples = check_count(n_resamples, "n_resamples", minimum=FEWEST_RESAMPLES)
        return intervals(self._reading(n_bins, strategy, threshold, top_label, random_state), level, only, resamples)

    def _reading(
        self, n_bins: int, strategy: Strategy, threshold: float, top_label: bool, random_state: int
    ) -> Reading:
        check_choice(strategy, "strategy", STRATEGIES)
        reading = Reading(
            self._tally,
            check_count(n_bins, "n_bins"),
            strategy,
            check_unit_interval(threshold, "threshold"),
            check_flag(top_label, "top_label"),
            random_state,
        )
        # Metrics, their intervals and curves are mostly asked for one after the other, and share most of the work.
        last = self._last
        if last is None or last.tally is not reading.tally or last.options != reading.options:
            if last is not None:
                reading.take_over(last)
            self._last = last = reading
        return last

    def reliability_curve(
        self, *, n_bins: int = 10, strategy: Strategy = "quantile", confidence: float = 0.95
    ) -> ReliabilityCurve:
        """Observed frequency against predicted probability; see :func:`mlflow_caliber.metrics.reliability_curve`.

        Examples
        --------
        >>> from mlflow_caliber.metrics import ScoreStatistics
        >>> statistics = ScoreStatistics.from_rows([0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
        >>> statistics.reliability_curve(n_bins=2).count
        array([3, 3])
        """
        z = float(special.ndtri((1.0 + check_unit_interval(confidence, "confidence", open_ends=True)) / 2.0))
        return curve_of_bins(self._reading(n_bins, strategy, 0.0, False, 0).sums.bins, z, 1.0)

    def corp_curve(self, *, confidence: float = 0.95, n_resamples: int = 200, random_state: int = 0) -> CorpCurve:
        """The reliability curve without bins; see :func:`mlflow_caliber.metrics.corp_curve`.

        Examples
        --------
        >>> from mlflow_caliber.metrics import ScoreStatistics
        >>> ScoreStatistics.from_rows([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8]).corp_curve().recalibrated
        array([0. , 0.5, 0.5, 1. ])
        """
        level = check_unit_interval(confidence, "confidence", open_ends=True)
        resamples = check_count(n_resamples, "n_resamples", minimum=_corp.FEWEST_RESAMPLES)
        return _corp.curve_of_groups(self.cells(), 1.0, level, resamples, random_state)

    def risk_coverage_curve(self, *, top_label: bool = False) -> RiskCoverageCurve:
        """Error rate against the share of answers given; see :func:`mlflow_caliber.metrics.risk_coverage_curve`.

        Examples
        --------
        >>> from mlflow_caliber.metrics import ScoreStatistics
        >>> ScoreStatistics.from_rows([1, 0, 1], [0.9, 0.2, 0.4]).risk_coverage_curve().threshold
        array([0.9, 0.8, 0.6])
        """
        return _selective.curve_of_groups(self._reading(10, "quantile", 0.0, top_label, 0).groups)

    def histogram(self, n_bins: int = 100) -> NDArray[np.int64]:
        """Rows whose probability falls into each of so many equal parts of [0, 1]; only the last holds its upper end.

        Examples
        --------
        >>> from mlflow_caliber.metrics import ScoreStatistics
        >>> ScoreStatistics.from_rows([1, 0, 1], [0.9, 0.3, 0.3]).histogram(10)
        array([0, 0, 0, 2, 0, 0, 0, 0, 0, 1])
        """
        cells = self.cells()
        edges = np.arange(check_count(n_bins, "n_bins") + 1) / n_bins
        index = np.minimum(np.searchsorted(edges, cells.value, side="right") - 1, n_bins - 1)
        return np.bincount(index, cells.rows, n_bins).astype(np.int64)

    def cells(self) -> Cells:
        """The rows by distinct score or by cell of the grid, with the mean score of the rows in it.

        Raises
        ------
        InvalidInputError
            When no row has been seen.
        """
        return self._tally.cells()

    def weighted_rows(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Scores, labels and weights of rows that stand for all: what :meth:`Calibrator.fit` takes.

        Returns
        -------
        scores, y, sample_weight : ndarray of shape (m,)
            Up to two rows a score or cell, one for each label.

        Raises
        ------
        InvalidInputError
            When no row has been seen.

        Examples
        --------
        >>> from mlflow_caliber.calibrators import make_calibrator
        >>> from mlflow_caliber.metrics import ScoreStatistics
        >>> statistics = ScoreStatistics.from_rows([0, 1, 0, 1, 1], [0.1, 0.3, 0.4, 0.6, 0.8])
        >>> make_calibrator("isotonic").fit(*statistics.weighted_rows()).predict([0.1, 0.35, 0.9])
        array([0. , 0.5, 1. ])
        """
        cells = self.cells()
        weight = np.concatenate([cells.weight - cells.positive, cells.positive])
        y = np.repeat([0.0, 1.0], cells.value.size)
        kept = weight > 0.0
        return np.tile(cells.value, 2)[kept], y[kept], weight[kept]

    def psi(self, other: Readable, *, n_bins: int = 10) -> float:
        r"""Population stability index of other scores against these: how far the distribution has moved.

        .. math:: PSI = \sum_b (a_b - e_b) \ln (a_b / e_b)

        with :math:`e_b` and :math:`a_b` the shares of these and of the other rows in bin `b`, half a row added to each.
        Bins are of about equal mass among these rows and split no ties.

        Parameters
        ----------
        other : ScoreStatistics
            The current scores; these are the reference.
        n_bins : int, default=10
            Bins wanted.

        Returns
        -------
        float
            Not negative; 0 when nothing has moved. Without drift it is about :math:`1/n + 1/m` times a chi-square
            variable with one degree of freedom less than there are bins.

        Raises
        ------
        InvalidInputError
            When either side has seen no row, or `n_bins` is no whole number of at least 1.

        References
        ----------
        Siddiqi (2006), "Credit Risk Scorecards", Wiley.
        Yurdakul and Naranjo (2020), "Statistical properties of the population stability index", Journal of Risk Model
        Validation (distribution without drift).

        Examples
        --------
        >>> from mlflow_caliber.metrics import ScoreStatistics
        >>> before = ScoreStatistics.from_rows([0, 1] * 50, [0.2, 0.8] * 50)
        >>> after = ScoreStatistics.from_rows([0, 1, 1, 1] * 25, [0.2, 0.8, 0.8, 0.8] * 25)
        >>> before.psi(after, n_bins=2)
        0.2687
        """
        return population_stability_index(self._tally, other._tally, check_count(n_bins, "n_bins"))

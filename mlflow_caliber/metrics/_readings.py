"""What is read off a tally: the metrics of a report by key, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlflow_caliber._cells import BinSums, Cells, bin_sums_of_cells
from mlflow_caliber._pava import Pools, pool
from mlflow_caliber._validation import FloatArray
from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.metrics._calibration import Strategy, error_of_bins, upper_bound_of_bins
from mlflow_caliber.metrics._decisions import decided
from mlflow_caliber.metrics._delong import Ranking, rank_cells
from mlflow_caliber.metrics._intervals import Interval, proportion_interval
from mlflow_caliber.metrics._noise import binned_error_interval, binned_error_null
from mlflow_caliber.metrics._ranking import interval_of_ranking
from mlflow_caliber.metrics._risk import Groups, areas, groups_of
from mlflow_caliber.metrics._score_intervals import intervals_of_cells
from mlflow_caliber.metrics._scoring import decomposition_of
from mlflow_caliber.metrics._selective_intervals import intervals_of_ranking
from mlflow_caliber.metrics._smooth import smooth_error_of
from mlflow_caliber.metrics._tally import Tally
from mlflow_caliber.metrics._tests import score_test_of, spiegelhalter_of

_RESAMPLES, _RESAMPLES_OF_AREAS = 1000, 500
_Z95 = float(special.ndtri(0.95))
_SHARES = ("coverage", "selective_risk", "abstain_rate", "accuracy")
_AREAS = ("aurc", "e_aurc", "augrc")
_SCORES = ("brier", "log_loss", "mcb", "dsc", "unc")
# What a reading finds out, and what of it depends on nothing but the rows, on bins too, or on what an answer is.
_OF_ANSWERS = ("answers", "groups")
_OF_ROWS = ("cells", "pools", "ranking", *_OF_ANSWERS)
_OF_BINS = ("sums", "equal_mass")

Tasks = dict[tuple[str, ...], Callable[[], Any]]


class Measured(NamedTuple):
    """Metrics by key, and for each other one a sentence that says why it could not be computed."""

    metrics: dict[str, float]
    not_computed: dict[str, str]


@dataclass(frozen=True)
class Reading:
    """A tally and how to read it; ``top_label`` where its rows are winning classes, not probabilities of class 1."""

    tally: Tally
    n_bins: int
    strategy: Strategy
    threshold: float
    top_label: bool
    random_state: int

    @property
    def options(self) -> tuple[Any, ...]:
        return (self.n_bins, self.strategy, self.threshold, self.top_label, self.random_state)

    def take_over(self, other: Reading) -> None:
        """Know already what another reading of the same rows has found out."""
        shared = set(_OF_ROWS) if other.tally is self.tally else set()
        shared |= set(_OF_BINS) if shared and other.options[:2] == self.options[:2] else set()
        if other.top_label != self.top_label:
            shared -= set(_OF_ANSWERS)
        self.__dict__.update({name: found for name, found in other.__dict__.items() if name in shared})

    @cached_property
    def cells(self) -> Cells:
        return self.tally.cells()

    @cached_property
    def sums(self) -> BinSums:
        return bin_sums_of_cells(self.cells, self.n_bins, self.strategy)

    @cached_property
    def equal_mass(self) -> BinSums:
        return self.sums if self.strategy == "quantile" else bin_sums_of_cells(self.cells, self.n_bins, "quantile")

    @cached_property
    def shares(self) -> dict[str, _Share]:
        return _shares(self)

    @cached_property
    def pools(self) -> Pools:
        return pool(self.cells.value, self.cells.positive / self.cells.weight, self.cells.weight)

    @cached_property
    def answers(self) -> Cells:
        """By confidence; ``positive`` are the right ones."""
        return self.cells if self.top_label else decided(self.cells)

    @cached_property
    def groups(self) -> Groups:
        return groups_of(self.answers)

    @cached_property
    def answered(self) -> NDArray[np.bool_]:
        """Which of the answers are given."""
        return self.answers.value >= self.threshold

    @cached_property
    def ranking(self) -> Ranking:
        ranking, rows = rank_cells(self.cells), int(self.cells.rows.sum())
        for label, absent in enumerate((ranking.positive, ranking.negative)):
            if absent.total == 0.0:
                raise OneClassError(f"roc_auc needs both classes, got only class {label} in {rows} rows.")
        return ranking

    def mean_loss(self, index: int) -> float:
        return float(self.tally.losses[index] / self.cells.weight.sum())


def measure(reading: Reading, only: Collection[str] | None = None) -> Measured:
    """All metrics that the rows allow, or those that are asked for."""
    found = Measured({}, {})
    tasks = {**_calibration(reading), **_selective(reading)}
    for keys, compute in (tasks if reading.top_label else {**tasks, **_scores(reading)}).items():
        if only is not None and not set(keys) & set(only):
            continue
        try:
            result = compute()
        except InvalidInputError as error:
            found.not_computed.update(dict.fromkeys(keys, str(error)))
        else:
            found.metrics.update(zip(keys, map(float, np.atleast_1d(result)), strict=True))
    return found


def _calibration(reading: Reading) -> Tasks:
    cells, rng = reading.cells, np.random.default_rng(reading.random_state)
    gaps = (cells.value, cells.positive - cells.weight * cells.value, cells.weight_sq)
    return {
        ("ece",): lambda: error_of_bins(reading.sums.bins, "l1", debias=False),
        ("ece_upper",): lambda: upper_bound_of_bins(reading.equal_mass.bins, _Z95),
        ("ece_null_mean", "ece_null_p95"): lambda: binned_error_null(reading.sums, _RESAMPLES, rng),
        ("ece_l2_debiased",): lambda: error_of_bins(reading.equal_mass.bins, "l2", debias=True),
        ("smooth_ece",): lambda: smooth_error_of(
            [(cells.positive / cells.weight, cells.value, cells.weight)], float(cells.rows.sum())
        ),
        ("spiegelhalter_z",): lambda: _finite_z(spiegelhalter_of(*gaps).statistic),
        ("calibration_p",): lambda: score_test_of(*gaps).p_value,
    }


def _finite_z(z: float) -> float:
    if not math.isfinite(z):
        raise InvalidInputError("spiegelhalter_z is infinite: what was stated to be impossible happened.")
    return z


def _scores(reading: Reading) -> Tasks:
    return {
        ("brier",): lambda: reading.mean_loss(0),
        ("log_loss",): lambda: reading.mean_loss(1),
        ("mcb", "dsc", "unc"): lambda: decomposition_of(reading.pools, reading.mean_loss(0)),
        ("roc_auc",): lambda: reading.ranking.auc,
    }


def _selective(reading: Reading) -> Tasks:
    tasks: Tasks = {("aurc", "e_aurc", "augrc"): lambda: areas(reading.groups)}
    keys = _SHARES if reading.top_label else (*_SHARES, "prevalence")
    return tasks | {(key,): partial(_share_of, reading, key) for key in keys}


def _share_of(reading: Reading, key: str) -> float:
    return reading.shares[key].value()


class _Share(NamedTuple):
    """Some rows among others: what they weigh, what all weigh, and the sum of all squared weights."""

    what: str
    hit: float
    weight: float
    weight_sq: float

    def value(self) -> float:
        if self.weight == 0.0:
            raise InvalidInputError(f"{self.what} needs an answered row, got none: all are withheld.")
        return min(self.hit / self.weight, 1.0)

    def interval(self, confidence: float) -> Interval:
        # Kish: so many rows of equal weight would be as uncertain.
        n = self.weight**2 / self.weight_sq
        return proportion_interval(self.value() * n, n, confidence=confidence)


def _shares(reading: Reading) -> dict[str, _Share]:
    answers, given = reading.answers, reading.answered
    wrong = answers.weight - answers.positive
    everyone = np.ones(given.size, dtype=bool)

    def share(key: str, hit: FloatArray, among: NDArray[np.bool_]) -> _Share:
        return _Share(key, *(float(column[among].sum()) for column in (hit, answers.weight, answers.weight_sq)))

    shares = [
        share("coverage", answers.weight * given, everyone),
        share("selective_risk", wrong, given),
        share("abstain_rate", answers.weight * ~given, everyone),
        share("accuracy", answers.positive, everyone),
    ]
    if not reading.top_label:
        cells = reading.cells
        sums = (cells.positive, cells.weight, cells.weight_sq)
        shares.append(_Share("prevalence", *(float(column.sum()) for column in sums)))
    return {share.what: share for share in shares}


def intervals(
    reading: Reading, confidence: float, only: Collection[str] | None = None, n_resamples: int = _RESAMPLES
) -> dict[str, Interval]:
    """Two-sided intervals of the metrics that sampling makes uncertain; each holds its metric."""
    values, seed = measure(reading, only).metrics, reading.random_state
    answers = None if reading.tally.unweighted else reading.answers
    tasks: list[tuple[tuple[str, ...], Callable[[], dict[str, Interval]]]] = [
        (("ece",), lambda: {"ece": binned_error_interval(reading.sums, confidence, n_resamples, seed)}),
        (_AREAS, lambda: intervals_of_ranking(reading.groups, answers, confidence, _RESAMPLES_OF_AREAS, seed)),
        (
            tuple(values),
            lambda: {key: share.interval(confidence) for key, share in reading.shares.items() if key in values},
        ),
    ]
    if not reading.top_label:
        tasks.append((_SCORES, lambda: intervals_of_cells(reading.cells, confidence, seed)))
    if "roc_auc" in values:
        tasks.append((("roc_auc",), lambda: {"roc_auc": interval_of_ranking(reading.ranking, confidence)}))
    found: dict[str, Interval] = {}
    for keys, compute in tasks:
        if only is None or set(keys) & set(only):
            found |= compute()
    # Of cells of the grid an interval is that of their mean scores, from which the metric itself may differ.
    return {
        key: Interval(min(low, values[key]), max(high, values[key]))
        for key, (low, high) in found.items()
        if key in values
    }

"""Two models on the same rows: how much better one is, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mlflow_caliber._cells import bins_of
from mlflow_caliber._validation import (
    FloatArray,
    check_both_classes,
    check_choice,
    check_count,
    check_labels,
    check_number,
    check_probabilities,
    check_unit_interval,
    check_weights,
)
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics._calibration import STRATEGIES, Strategy
from mlflow_caliber.metrics._delong import macro_ranking, rank_rows, relative
from mlflow_caliber.metrics._intervals import Interval
from mlflow_caliber.metrics._outcomes import event, predicted
from mlflow_caliber.metrics._registry import METRICS
from mlflow_caliber.metrics._scoring import SMALLEST_PROBABILITY

PairedMetric = Literal["brier", "log_loss", "accuracy", "roc_auc", "ece"]
PairedVerdict = Literal["better", "non_inferior", "worse", "inconclusive"]

_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """How much a metric changes from model `a` to model `b` on the same rows.

    Attributes
    ----------
    metric : str
        Its key in :data:`METRICS`, which says whether more is better.
    a, b : float
        The metric of either model.
    difference : float
        ``b - a``.
    standard_error : float
        Of the difference, from rows in pairs.
    interval : Interval
        Normal confidence interval of the difference.
    p_value : float
        Two-sided, of no difference.
    n : int
        Rows that carry weight.
    confidence : float
        Level of the two-sided interval. Each end by itself is a one-sided bound of level ``(1 + confidence) / 2``.
    margin : float
        By how much `b` may be worse, in units of the metric; negative: by how much it must be better.

    Examples
    --------
    >>> from mlflow_caliber.metrics import Interval, PairedDifference
    >>> found = PairedDifference(
    ...     metric="brier", a=0.161, b=0.16, difference=-0.001, standard_error=0.001, interval=Interval(-0.003, 0.001),
    ...     p_value=0.32, n=5000, confidence=0.95, margin=0.002,
    ... )
    >>> found.verdict
    'non_inferior'
    """

    metric: str
    a: float
    b: float
    difference: float
    standard_error: float
    interval: Interval
    p_value: float
    n: int
    confidence: float
    margin: float

    @property
    def verdict(self) -> PairedVerdict:
        """What the interval proves about `b`.

        ``"better"`` than `a`; ``"non_inferior"``: not worse by more than the margin; ``"worse"`` by more than the
        margin; ``"inconclusive"``: more rows are needed, see :attr:`rows_needed`.
        """
        best, worst = sorted(self._sign * end for end in self.interval)
        if worst <= self.margin:
            return "better" if worst < 0.0 else "non_inferior"
        return "worse" if best > self.margin else "inconclusive"

    @property
    def rows_needed(self) -> int | None:
        """Rows after which an end of the interval would reach the margin if the difference stayed; None on the margin.

        The interval is taken to shrink as one over the square root of the number of rows.
        """
        distance = abs(self.margin - self._sign * self.difference)
        reach = (self.interval.high - self.interval.low) / 2.0
        return None if distance == 0.0 else math.ceil(self.n * (reach / distance) ** 2)

    @property
    def _sign(self) -> float:
        """Of a change for the worse."""
        return -1.0 if METRICS[self.metric].greater_is_better else 1.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state, with the verdict."""
        return {**asdict(self), "interval": list(self.interval), "verdict": self.verdict}


def compare_models(
    y_true: ArrayLike,
    y_proba_a: ArrayLike,
    y_proba_b: ArrayLike,
    *,
    metric: PairedMetric = "brier",
    confidence: float = 0.95,
    sample_weight: ArrayLike | None = None,
    random_state: int = 0,
    margin: float = 0.0,
    n_bins: int = 10,
    strategy: Strategy = "quantile",
) -> PairedDifference:
    r"""Compare two models on the same rows.

    What makes a row hard makes it hard for both models. The difference of the two is taken row by row, so this part of
    the noise cancels: the interval is far narrower than those of two separate evaluations suggest.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1; with class probabilities of shape (n, K), the index of the class, 0 to K-1.
    y_proba_a, y_proba_b : array-like of shape (n,) or (n, K)
        Probabilities of the two models, of class 1 or of every class, of one shape. Two columns are read as binary:
        column 1 is class 1.
    metric : {"brier", "log_loss", "accuracy", "roc_auc", "ece"}, default="brier"
        With K classes the mean over classes of each against the rest (``roc_auc``), or about the winning class
        (``accuracy``, ``ece``). Of two classes, 1 is predicted when its probability exceeds 1/2.
    confidence : float, default=0.95
        Level of the two-sided interval, in (0, 1).
    sample_weight : array-like of shape (n,), optional
        Weights in every mean. A weight is not more evidence: each row varies as the one observation that it is.
    random_state : int, default=0
        Seed of the draws for ``ece``; nothing else is drawn.
    margin : float, default=0.0
        By how much `b` may be worse and still count as non-inferior, in units of the metric.
    n_bins : int, default=10
        Bins of ``ece``.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of ``ece``.

    Returns
    -------
    PairedDifference
        ``b - a`` with its interval, p-value and verdict.

    Raises
    ------
    OneClassError
        For ``roc_auc``, when a class carries no weight.
    InvalidInputError
        For arguments that cannot be used, or fewer than two rows with a weight (of each class, for ``roc_auc``).

    Notes
    -----
    ``brier``, ``log_loss`` and ``accuracy`` are means over rows: with :math:`d_i` a row's difference,
    :math:`SE^2 = \frac{n}{n-1} \sum w_i^2 (d_i - \bar d)^2 / (\sum w_i)^2`, `n` Kish's effective number of rows; equal
    weights give the usual :math:`s^2 / n`. ``roc_auc`` takes DeLong's covariance. ``ece`` is a sum of absolute gaps of
    bins: the gaps of both models are drawn 1000 times from their joint normal distribution (bins held fixed), and the
    standard error is the spread of the differences. Calibration errors of finite samples are biased upward, more for
    the better model; the interval is about the difference that samples of this size show, not about that of infinite
    ones. The intervals are normal, so give them some tens of rows.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves: A Nonparametric Approach", Biometrics.
    Diebold and Mariano (1995), "Comparing Predictive Accuracy", Journal of Business and Economic Statistics.

    Examples
    --------
    >>> from mlflow_caliber.metrics import compare_models
    >>> y, sharp, blunt = [0, 1, 0, 1] * 25, [0.1, 0.8, 0.4, 0.7] * 25, [0.4, 0.6, 0.5, 0.5] * 25
    >>> found = compare_models(y, blunt, sharp)
    >>> found.difference, found.interval, found.verdict
    (-0.13, Interval(low=-0.135, high=-0.125), 'better')
    """
    check_choice(metric, "metric", _STANDINGS)
    level = check_unit_interval(confidence, "confidence", open_ends=True)
    pair = _checked_pair(y_true, y_proba_a, y_proba_b, sample_weight)
    bins = _Bins(check_count(n_bins, "n_bins"), check_choice(strategy, "strategy", STRATEGIES), random_state)
    a, b, error = _STANDINGS[metric](pair, bins)
    reach = float(special.ndtri((1.0 + level) / 2.0)) * error
    return PairedDifference(
        metric=metric,
        a=a,
        b=b,
        difference=b - a,
        standard_error=error,
        interval=Interval(b - a - reach, b - a + reach),
        p_value=_two_sided(b - a, error),
        n=int((pair.w > 0.0).sum()),
        confidence=level,
        margin=check_number(margin, "margin"),
    )


class _Standing(NamedTuple):
    """The metric of either model, and the standard error of the difference."""

    a: float
    b: float
    error: float


class _Bins(NamedTuple):
    n: int
    strategy: str
    random_state: int


@dataclass(frozen=True, eq=False)
class _Pair:
    """Checked rows; ``w`` is relative to the greatest weight."""

    y: NDArray[Any]
    a: FloatArray
    b: FloatArray
    w: FloatArray

    @property
    def binary(self) -> bool:
        return self.a.ndim == 1


def _checked_pair(y_true: ArrayLike, a: ArrayLike, b: ArrayLike, sample_weight: ArrayLike | None) -> _Pair:
    first, second = check_probabilities(a, "y_proba_a"), check_probabilities(b, "y_proba_b")
    if first.shape != second.shape:
        raise InvalidInputError(f"y_proba_b must have the shape of y_proba_a, got {second.shape} for {first.shape}.")
    y = check_labels(y_true, first)
    w = relative(check_weights(sample_weight, y.size), y.size)
    # One that outweighs the others by more than float64 can tell is alone.
    rows = int((w > 0.0).sum()) if w.sum() ** 2 > w @ w else 1
    if rows < 2:
        raise InvalidInputError(f"A paired comparison must have at least two rows with a weight, got {rows}.")
    return _Pair(y, first, second, w)


def _two_sided(difference: float, error: float) -> float:
    if error == 0.0:
        return 1.0 if difference == 0.0 else 0.0
    return 2.0 * float(special.ndtr(-abs(difference) / error))


# --- means over rows -------------------------------------------------------------------------------------------------


def _of_means(score: Callable[[_Pair, FloatArray], FloatArray], pair: _Pair, _: _Bins) -> _Standing:
    of_a, of_b = score(pair, pair.a), score(pair, pair.b)
    mean = partial(np.average, weights=pair.w)
    d = of_b - of_a
    total, squares = float(pair.w.sum()), float(pair.w @ pair.w)
    effective = total**2 / squares
    spread = float((pair.w * (d - mean(d))) @ (pair.w * (d - mean(d)))) * effective / (effective - 1.0)
    return _Standing(float(mean(of_a)), float(mean(of_b)), math.sqrt(spread) / total)


def _brier(pair: _Pair, proba: FloatArray) -> FloatArray:
    if pair.binary:
        return np.asarray((proba - pair.y) ** 2)
    return np.asarray(np.square(proba - np.eye(proba.shape[1])[pair.y]).sum(axis=1))


def _log_loss(pair: _Pair, proba: FloatArray) -> FloatArray:
    chosen = np.where(pair.y == 1.0, proba, 1.0 - proba) if pair.binary else proba[np.arange(pair.y.size), pair.y]
    return 0.0 - np.log(np.maximum(chosen, SMALLEST_PROBABILITY))


def _accuracy(pair: _Pair, proba: FloatArray) -> FloatArray:
    return np.asarray(predicted(proba) == pair.y, dtype=np.float64)


# --- ROC AUC ---------------------------------------------------------------------------------------------------------


def _of_auc(pair: _Pair, _: _Bins) -> _Standing:
    truth = pair.y[:, None] if pair.binary else np.eye(pair.a.shape[1])[pair.y]
    for of_class in truth.T:
        check_both_classes(of_class, pair.w, "compare_models of roc_auc")
    (a, error_a), (b, error_b) = (_auc_errors(pair, truth, proba) for proba in (pair.a, pair.b))
    return _Standing(a, b, float(np.linalg.norm(error_b - error_a)))


def _auc_errors(pair: _Pair, truth: FloatArray, proba: FloatArray) -> tuple[float, FloatArray]:
    """The AUC, and what each row contributes to its error."""
    if not pair.binary:
        macro = macro_ranking(truth, proba, pair.w)
        _check_two_of_each(macro.pairs)
        return macro.auc, macro.error[truth == 1.0]
    ranking, group = rank_rows(pair.y, proba, pair.w)
    _check_two_of_each(ranking.pairs)
    of_positive, of_negative = ranking.row_errors()
    return ranking.auc, pair.w * np.where(pair.y == 1.0, of_positive[group], of_negative[group])


def _check_two_of_each(pairs: float) -> None:
    if pairs <= 1.0:
        raise InvalidInputError("compare_models of roc_auc needs two rows of each class and of its rest, got one.")


# --- calibration error -----------------------------------------------------------------------------------------------


def _of_ece(pair: _Pair, bins: _Bins) -> _Standing:
    (bin_a, gap_a), (bin_b, gap_b) = (_binned(pair, proba, bins) for proba in (pair.a, pair.b))
    n_a, n_b = bins.n, bins.n
    # Rows in the same bin of both models share a cell; a row adds its gap of a to one sum and its gap of b to another.
    sums, covariance = _joint_sums(bin_a, gap_a, bin_b + n_a, gap_b, pair.w, n_a + n_b)
    errors = _calibration_errors(sums[None, :], n_a) / pair.w.sum()
    a, b = errors[0]
    if np.array_equal(gap_a, gap_b) and np.array_equal(bin_a, bin_b):
        return _Standing(float(a), float(b), 0.0)
    values, vectors = np.linalg.eigh(covariance)
    noise = np.random.default_rng(bins.random_state).standard_normal((_DRAWS, n_a + n_b))
    drawn = sums + noise @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    of_a, of_b = _calibration_errors(drawn, n_a).T / pair.w.sum()
    return _Standing(float(a), float(b), float(np.std(of_b - of_a, ddof=1)))


def _binned(pair: _Pair, proba: FloatArray, bins: _Bins) -> tuple[NDArray[np.intp], FloatArray]:
    """Each row's bin, and its gap."""
    outcome, p = event(pair.y, proba)
    edges = bins_of(outcome, p, pair.w, bins.n, bins.strategy).lower_edge
    # (A row below the first edge has no weight.)
    return np.maximum(np.searchsorted(edges, p, side="right") - 1, 0), p - outcome


def _joint_sums(
    bin_a: NDArray[np.intp], gap_a: FloatArray, bin_b: NDArray[np.intp], gap_b: FloatArray, w: FloatArray, size: int
) -> tuple[FloatArray, FloatArray]:
    """The sums of weighted gaps in the bins of both models, and their covariance as rows are drawn anew."""

    def summed(values_a: FloatArray, values_b: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(bin_a, values_a, size) + np.bincount(bin_b, values_b, size), dtype=np.float64)

    w2 = w * w
    sums, cross = summed(w * gap_a, w * gap_b), summed(w2 * gap_a, w2 * gap_b)
    products = np.bincount(bin_a * size + bin_b, w2 * gap_a * gap_b, size * size).reshape(size, size)
    products = products + products.T + np.diag(summed(w2 * gap_a**2, w2 * gap_b**2))
    mean, total, squares = sums / w.sum(), float(w.sum()), float(w2.sum())
    centred = products - np.outer(cross, mean) - np.outer(mean, cross) + squares * np.outer(mean, mean)
    return sums, centred / (1.0 - squares / total**2)


def _calibration_errors(sums: FloatArray, n_a: int) -> FloatArray:
    """Columns: the sum of absolute gaps of a, and of b."""
    return np.column_stack([np.abs(sums[:, :n_a]).sum(axis=1), np.abs(sums[:, n_a:]).sum(axis=1)])


_STANDINGS: dict[str, Callable[[_Pair, _Bins], _Standing]] = {
    "brier": partial(_of_means, _brier),
    "log_loss": partial(_of_means, _log_loss),
    "accuracy": partial(_of_means, _accuracy),
    "roc_auc": _of_auc,
    "ece": _of_ece,
}

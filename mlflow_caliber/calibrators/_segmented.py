"""One map for each segment, as far from the common one as the data of all segments say that segments differ."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import (
    FloatArray,
    IntArray,
    check_at_least,
    check_binary_labels,
    check_choice,
    check_scores,
    check_segment,
    check_weights,
)
from mlflow_caliber.calibrators._base import Calibrator
from mlflow_caliber.calibrators._logistic import LogisticProblem, linear
from mlflow_caliber.calibrators._registry import CALIBRATORS, read_as
from mlflow_caliber.exceptions import InvalidInputError

__all__ = ["SegmentedCalibrator"]

# A segment's map, on the common map's probabilities: beta calibration, of which these coefficients change nothing.
_COMMON = np.array([1.0, 1.0, 0.0])
_LOWER = np.array([0.0, 0.0, -np.inf])
_NAMES = ("a", "b", "c")
_CLIP = 1e-6
_LARGEST = 1e12
_LEAST_SHRINKAGE = 1e-6
# How much segments may differ: standard deviations, over the segments, of a and b and of c. That they do not differ at
# all has the prior weight of four of the sixteen.
_SPREADS = np.array([(ab, ab, c) for ab in (0.05, 0.2, 0.5, 1.0) for c in (0.05, 0.15, 0.4, 0.8)])
_NO_SPREAD_PRIOR = 4.0
# The prior precision behind the coefficients around which a segment's likelihood is taken to be normal.
_EXPANSION = 4.0


class SegmentedCalibrator(Calibrator):
    """A map for each segment, shrunk toward the map of all rows.

    First a pooled calibrator is fitted on all rows. Each segment then corrects it by beta calibration of the pooled
    probability p, sigma(a ln p - b ln(1 - p) + c) with a, b >= 0, whose coefficients come from normal distributions
    around 1, 1 and 0, where nothing is changed. How wide these are is learned from all segments together: where
    segments resemble one another nearly all rows stay with the pooled map, where they differ even few rows have a say,
    and many rows always go their own way. Rows of an unknown or missing segment get the pooled map.

    Within a segment the map never decreases. Across segments it may reorder scores: that is what it is for.

    Parameters
    ----------
    method : str, default="auto"
        A key of :data:`CALIBRATORS`: the pooled calibrator.
    shrinkage : "auto" or float > 0, default="auto"
        One over the variance of a, b and c over the segments; a large number keeps every segment at the pooled map.
        "auto" averages over such variances, each weighted by how probable it makes the outcomes (hierarchical Bayes).

    Attributes
    ----------
    pooled_ : Calibrator
        The map of all rows.
    segments_ : dict of str to ndarray of shape (3,)
        a, b and c of each segment.
    n_samples_ : int
        Rows with positive weight.

    References
    ----------
    Gelman, A., Hill, J. (2006). Data analysis using regression and multilevel/hierarchical models. Cambridge.
    Tierney, L., Kadane, J. (1986). Accurate approximations for posterior moments and marginal densities. JASA 81(393).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> scores, segment = rng.random(2000), np.repeat(["north", "south"], 1000)
    >>> y = rng.random(2000) < np.where(segment == "north", scores**2, scores**0.5)
    >>> calibrator = SegmentedCalibrator().fit(scores, y, segment=segment)
    >>> calibrator.predict([0.5, 0.5, 0.5], segment=["north", "south", "west"]).round(1)
    array([0.2, 0.7, 0.5])
    """

    name: ClassVar[str] = "segmented"
    uses_segment: ClassVar[bool] = True
    pooled_: Calibrator
    segments_: dict[str, FloatArray]

    def __init__(self, *, method: str = "auto", shrinkage: float | str = "auto") -> None:
        self.method = method
        self.shrinkage = shrinkage

    def fit(
        self, scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, *, segment: Any = None
    ) -> Self:
        """Learn the pooled map and the segments' corrections.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Score of the positive class in [0, 1], on data that the base model was not fitted on.
        y : array-like of shape (n,)
            Outcomes, 0 or 1.
        sample_weight : array-like of shape (n,), optional
            Non-negative; w counts as w repeated rows.
        segment : str or array-like of shape (n,)
            Segment of all rows, or of each; values are read as text. Rows where it is missing fit the pooled map only.

        Returns
        -------
        SegmentedCalibrator
            Itself.

        Raises
        ------
        InvalidInputError
            Without ``segment``, and for whatever the pooled calibrator refuses.
        OneClassError
            Only one class carries weight. (A segment with one class is fitted like any other.)
        """
        if segment is None:
            raise InvalidInputError("The segmented calibrator needs the segment of each row: give segment=, got none.")
        x = check_scores(scores, "scores")
        column = check_segment(segment, x.size)
        super().fit(x, y, sample_weight)
        weight = check_weights(sample_weight, x.size)
        self._fit_segments(x, check_binary_labels(y, "y"), np.ones(x.size) if weight is None else weight, column)
        return self

    def predict(self, scores: ArrayLike, *, segment: Any = None) -> FloatArray:
        """The calibrated probability of each score.

        Parameters
        ----------
        scores : array-like of shape (n,)
            In [0, 1].
        segment : str or array-like of shape (n,), optional
            Segment of all rows, or of each. Missing and unknown ones, and no segment at all, mean the pooled map.

        Returns
        -------
        ndarray of shape (n,)
            ``float64``, in [0, 1], non-decreasing in the score within a segment.

        Raises
        ------
        InvalidInputError
            NaN, a score outside [0, 1], empty input, segments of another length.
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        """
        p = super().predict(scores)
        if segment is None or not self.segments_:
            return p
        which = pd.Index(list(self.segments_)).get_indexer(pd.Index(check_segment(segment, p.size)))
        known = which >= 0
        coef = np.array(list(self.segments_.values()))[which[known]].T
        p[known] = expit(linear(coef, _features(p[known])))
        return p

    def _check_params(self) -> None:
        check_choice(self.method, "method", CALIBRATORS)
        if isinstance(self.shrinkage, str):
            check_choice(self.shrinkage, "shrinkage", ("auto",))
        else:
            check_at_least(self.shrinkage, "shrinkage", _LEAST_SHRINKAGE)

    def _fit(self, scores: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> None:
        self.pooled_ = CALIBRATORS[self.method]()
        self.pooled_._fit(scores, y, weight)
        self.pooled_.n_samples_ = scores.size

    def _map(self, scores: FloatArray) -> FloatArray:
        return self.pooled_._map(scores)

    def _fit_segments(self, scores: FloatArray, y: FloatArray, weight: FloatArray, column: NDArray[np.object_]) -> None:
        used = np.flatnonzero((weight > 0.0) & ~pd.isna(column))
        rows = {name: used[where] for name, where in _rows_of(column[used]).items()}
        features = _features(self.pooled_._map(scores))
        learned = isinstance(self.shrinkage, str)
        precision = _EXPANSION if learned else float(self.shrinkage)
        problems = [_problem(features[:, i], y[i], weight[i], precision) for i in rows.values()]
        coef = [problem.solve() for problem in problems]
        if learned and problems:
            coef = list(_averaged([_likelihood(problem, at) for problem, at in zip(problems, coef, strict=True)]))
        self.segments_ = dict(zip(rows, coef, strict=True))

    def _state(self) -> dict[str, Any]:
        segments = {name: dict(zip(_NAMES, coef.tolist(), strict=True)) for name, coef in self.segments_.items()}
        return {"pooled": self.pooled_.to_dict(), "segments": segments}

    def _restore(self, state: StateReader) -> None:
        self.pooled_ = read_as(state.value("pooled"), {self.method: CALIBRATORS[self.method]})
        segments = state.nested("segments")
        self.segments_ = {name: _read_coefficients(segments.nested(name)) for name in segments.names()}
        segments.close()


def _read_coefficients(state: StateReader) -> FloatArray:
    pairs = zip(_NAMES, np.maximum(_LOWER, -_LARGEST).tolist(), strict=True)
    coef = np.array([state.number(name, low, _LARGEST) for name, low in pairs])
    state.close()
    return coef


def _rows_of(column: NDArray[np.object_]) -> dict[str, NDArray[np.intp]]:
    """The rows of each segment, by name."""
    codes, names = pd.factorize(column, sort=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
    return {name: order[starts[k] : starts[k + 1]] for k, name in enumerate(names)}


def _features(p: FloatArray) -> FloatArray:
    inside = np.minimum(np.maximum(p, _CLIP), 1.0 - _CLIP)
    return np.stack([np.log(inside), -np.log1p(-inside), np.ones_like(inside)])


def _problem(features: FloatArray, y: FloatArray, weight: FloatArray, precision: float) -> LogisticProblem:
    return LogisticProblem(features, y, weight, centre=_COMMON, precision=np.full(3, precision), lower=_LOWER)


class _Likelihood(NamedTuple):
    """A segment's log likelihood up to a constant, as a quadratic around some coefficients."""

    at: FloatArray
    gradient: FloatArray
    information: FloatArray


def _likelihood(problem: LogisticProblem, at: FloatArray) -> _Likelihood:
    p = expit(linear(at, problem.features))
    information = (problem.features * (problem.weight * p * (1.0 - p))) @ problem.features.T
    return _Likelihood(at, problem.features @ (problem.weight * (problem.y - p)), information)


def _averaged(likelihoods: list[_Likelihood]) -> FloatArray:
    """The coefficients of each segment, averaged over how much the segments may differ; shape (segments, 3)."""
    at, gradient, information = (np.array(column) for column in zip(*likelihoods, strict=True))
    precision = _SPREADS**-2.0
    # One axis for the segments, one for the spreads. The likelihood integrated over the prior is that of the normal
    # distribution of the coefficients after the data. In units of the prior's spread its precision has eigenvalues of
    # at least 1, so that it is never singular, however heavy the rows.
    away = (at - _COMMON)[:, None, :]
    value, vector = np.linalg.eigh(information[:, None] * _SPREADS[:, :, None] * _SPREADS[:, None, :])
    value = 1.0 + np.maximum(value, 0.0)
    slope = _SPREADS * (gradient[:, None] - precision * away)
    turned = (np.swapaxes(vector, -1, -2) @ slope[..., None])[..., 0]
    step = _SPREADS * (vector @ (turned / value)[..., None])[..., 0]
    evidence = 0.5 * (turned**2 / value - precision * away**2 - np.log(value)).sum(axis=-1)
    back = -away[:, 0]
    common = (gradient * back).sum() - 0.5 * np.einsum("si,sij,sj->", back, information, back)
    weight = softmax(np.append(common + np.log(_NO_SPREAD_PRIOR), evidence.sum(axis=0)))
    coef = np.maximum(at[:, None] + step, _LOWER)
    mean: FloatArray = weight[0] * _COMMON + np.einsum("g,sgi->si", weight[1:], coef)
    return mean

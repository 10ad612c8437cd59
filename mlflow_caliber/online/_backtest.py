"""A recorded stream played through a recalibrator as it would have happened."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber._validation import (
    FloatArray,
    IntArray,
    check_binary_outcomes,
    check_same_length,
    check_scores,
    check_segment,
)
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import brier_score, expected_calibration_error, log_loss, roc_auc
from mlflow_caliber.online._forecast import Forecast
from mlflow_caliber.online._numbers import TINY

__all__ = ["Backtest", "backtest"]

_F = TypeVar("_F", bound=Forecast)
# Weights are kept at about so many moments.
_MOMENTS = 500


class Recalibrator(Protocol[_F]):
    """What can be played a stream."""

    def forecast(self, p: float, segment: Any = None) -> _F: ...

    def update(self, forecast: _F, y: int) -> Any: ...


@dataclass(frozen=True, eq=False)
class Backtest:
    """What a recalibrator would have served, each probability made before its outcome was known.

    Attributes
    ----------
    served : ndarray of shape (n,)
        The probabilities.
    raw, y_true : ndarray of shape (n,)
        The raw scores and the outcomes.
    recalibrator : object
        The copy that was played through, at the end of the stream.
    weights : dict of str to ndarray
        Weight of each expert over time; empty for a recalibrator without experts.
    moments : ndarray
        After how many forecasts the weights were read.
    """

    served: FloatArray
    raw: FloatArray
    y_true: IntArray
    recalibrator: Any
    weights: dict[str, FloatArray]
    moments: IntArray

    @property
    def cumulative_excess(self) -> FloatArray:
        """Log loss of the served probabilities minus that of the raw scores, summed up to each row, in nats.

        Both are cut off at probability 1e-9.
        """
        excess: FloatArray = np.cumsum(_losses(self.served, self.y_true) - _losses(self.raw, self.y_true))
        return excess

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Log loss, Brier score, expected calibration error and, with both classes, AUC; ``raw`` and ``served``."""
        return {"raw": _metrics(self.y_true, self.raw), "served": _metrics(self.y_true, self.served)}


def backtest(
    recalibrator: Recalibrator[Any],
    y_proba: ArrayLike,
    y_true: ArrayLike,
    *,
    segments: Any = None,
    delay: ArrayLike = 0,
) -> Backtest:
    """Play a stream through a copy of a recalibrator, row by row: forecast, then the outcomes that are due.

    Parameters
    ----------
    recalibrator : HedgedRecalibrator or RollingRecalibrator
        Where to start from; it is not changed.
    y_proba : array-like of shape (n,)
        Raw scores in [0, 1], in the order of time.
    y_true : array-like of shape (n,)
        Outcomes, 0 or 1.
    segments : str or array-like of shape (n,), optional
        Segment of all rows, or of each.
    delay : int or array-like of shape (n,), default=0
        After how many further forecasts the outcome of a row comes; 0 is before the next one. One number for all rows,
        or one a row: so delays may depend on the outcome, or end with the day. Negative, NaN or infinite: it never
        comes.

    Returns
    -------
    Backtest
        ``.served``, ``.metrics``, ``.cumulative_excess``, ``.weights``.

    Raises
    ------
    InvalidInputError
        Arrays that are empty, of unequal length or out of range; delays that are not whole numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from mlflow_caliber.online import HedgedRecalibrator
    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(2000)
    >>> y = rng.random(2000) < 0.5 * p
    >>> result = backtest(HedgedRecalibrator(), p, y, delay=20)
    >>> [round(result.metrics[which]["log_loss"], 2) for which in ("raw", "served")]
    [0.73, 0.5]
    >>> print(result.cumulative_excess[-1].round(-1))
    -460.0
    """
    raw, outcomes = check_scores(y_proba), check_binary_outcomes(y_true)
    n = check_same_length(y_proba=raw, y_true=outcomes)
    names = [None] * n if segments is None else check_segment(segments, n).tolist()
    played = copy.deepcopy(recalibrator)
    due, labels = _due(_delays(delay, n)), outcomes.tolist()
    forecasts: dict[int, Forecast] = {}
    served, step = np.empty(n), max(n // _MOMENTS, 1)
    readings: list[dict[str, float]] = []
    for row, (p, name) in enumerate(zip(raw.tolist(), names, strict=True)):
        forecasts[row] = forecast = played.forecast(p, name)
        served[row] = forecast.served
        for known in next(due):
            played.update(forecasts.pop(known), labels[known])
        if (row + 1) % step == 0:
            readings.append(getattr(played, "weights", {}))
    weights = {name: np.array([reading[name] for reading in readings]) for name in (readings[0] if readings else ())}
    return Backtest(served, raw, outcomes, played, weights, np.arange(step, n + 1, step, dtype=np.int64))


def _delays(delay: ArrayLike, n: int) -> FloatArray:
    delays = np.asarray(delay)
    if delays.dtype.kind not in "iuf" or delays.shape not in ((), (n,)):
        raise InvalidInputError(f"delay must be one number, or one for each of {n} rows, got {delay!r:.80}.")
    delays = np.broadcast_to(delays.astype(np.float64), n)
    comes = np.isfinite(delays) & (delays >= 0.0)
    if np.any(delays[comes] % 1.0):
        strange = delays[comes][delays[comes] % 1.0 != 0.0][0]
        raise InvalidInputError(f"delay must be a whole number of forecasts, got {strange:.6g}.")
    return np.where(comes, delays, np.inf)


def _due(delays: FloatArray) -> Iterator[list[int]]:
    """After each forecast the rows whose outcomes come then, oldest first."""
    n = delays.size
    when: NDArray[np.float64] = np.arange(n) + delays
    order = np.argsort(when, kind="stable")
    bounds = np.searchsorted(when[order], np.arange(n + 1))
    for row in range(n):
        yield order[bounds[row] : bounds[row + 1]].tolist()


def _losses(p: FloatArray, y: IntArray) -> FloatArray:
    losses: FloatArray = -np.log(np.maximum(np.where(y == 1, p, 1.0 - p), TINY))
    return losses


def _metrics(y: IntArray, p: FloatArray) -> dict[str, float]:
    values = {
        "log_loss": log_loss(y, p),
        "brier": brier_score(y, p),
        "ece": expected_calibration_error(y, p),
    }
    return {**values, "roc_auc": roc_auc(y, p)} if y.min() != y.max() else values

"""The experts of the hedged recalibrator: seven that see every row, four that see one segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray
from mlflow_caliber.online._grid import GRID_SIZE, GridFilters
from mlflow_caliber.online._hedge import Hedge
from mlflow_caliber.online._logistic import FadingBeta, FadingLogistic, FadingSigmoid
from mlflow_caliber.online._numbers import TINY, likelihood, logit, logits
from mlflow_caliber.online._window import WindowedIsotonic

__all__ = ["POOLED_EXPERTS", "SEGMENT_EXPERTS", "PooledExperts", "SegmentExperts"]

# Name and prior weight. A grid's number is how many outcomes one of its maps is expected to last.
POOLED_EXPERTS = {
    "identity": 0.25,
    "grid_50": 0.10,
    "grid_400": 0.10,
    "grid_4000": 0.15,
    "sigmoid": 0.10,
    "beta": 0.10,
    "isotonic": 0.20,
}
_POOLED_RATES = (1.0 / 50.0, 1.0 / 400.0, 1.0 / 4000.0)
SEGMENT_EXPERTS = {"raw": 0.1, "pooled": 0.3, "grid_400": 0.3, "grid_4000": 0.3}
_SEGMENT_RATES = (1.0 / 400.0, 1.0 / 4000.0)
_SIGMOID_HALF_LIFE, _BETA_HALF_LIFE = 150.0, 800.0


class PooledExperts:
    """Seven maps of the score, and their weights."""

    def __init__(self) -> None:
        self.hedge = Hedge(tuple(POOLED_EXPERTS.values()))
        self._grids = GridFilters(_POOLED_RATES)
        self._sigmoid: FadingLogistic = FadingSigmoid(_SIGMOID_HALF_LIFE)
        self._beta: FadingLogistic = FadingBeta(_BETA_HALF_LIFE)
        self._isotonic = WindowedIsotonic()

    def answer(self, p: float) -> tuple[float, ...]:
        """The probability of each expert."""
        grids = self._grids.answer(logit(p))
        return p, *grids, self._sigmoid.answer(p), self._beta.answer(p), self._isotonic.answer(p)

    def curve(self, p: FloatArray) -> FloatArray:
        """The mixture at many scores."""
        smooth = [self._sigmoid.curve(p), self._beta.curve(p), self._isotonic.curve(p)]
        mean: FloatArray = np.array(self.hedge.weights) @ np.stack([p, *self._grids.curves(logits(p)), *smooth])
        return mean

    def learn(self, p: float, y: int, answers: Sequence[float], outstanding: int) -> None:
        """Weigh the experts by the answers that they gave then, and let each learn."""
        self.hedge.learn([likelihood(answer, y) for answer in answers], outstanding)
        self._grids.learn(logit(p), y)
        self._sigmoid.learn(p, y)
        self._beta.learn(p, y)
        self._isotonic.learn(p, y)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "weights": self.hedge.weights,
            "grids": self._grids.weights.ravel().tolist(),
            "sigmoid": _logistic_state(self._sigmoid),
            "beta": _logistic_state(self._beta),
            "isotonic": {
                "scores": list(self._isotonic.scores),
                "outcomes": list(self._isotonic.outcomes),
                "since_fit": self._isotonic.since_fit,
                "x": self._isotonic.x,
                "y": self._isotonic.y,
            },
        }

    @classmethod
    def read(cls, saved: StateReader) -> PooledExperts:
        """The experts that :meth:`to_dict` wrote."""
        experts = cls()
        experts.hedge.weights = saved.floats("weights", 0.0, length=len(POOLED_EXPERTS))
        experts._grids.weights = saved.array("grids", (len(_POOLED_RATES), GRID_SIZE), 0.0)
        _read_logistic(saved.nested("sigmoid"), experts._sigmoid)
        _read_logistic(saved.nested("beta"), experts._beta)
        _read_isotonic(saved.nested("isotonic"), experts._isotonic)
        saved.close()
        return experts


class SegmentExperts:
    """The pooled answer and two grids that correct it by the segment's own outcomes, and their weights.

    A new segment answers as the pooled experts do, nearly, and leaves them as its own outcomes earn it.
    """

    def __init__(self) -> None:
        self.hedge = Hedge(tuple(SEGMENT_EXPERTS.values()))
        self._grids = GridFilters(_SEGMENT_RATES)

    def answer(self, p: float, pooled: float) -> tuple[float, ...]:
        """The probability of each expert."""
        return p, pooled, *self._grids.answer(logit(pooled))

    def curve(self, p: FloatArray, pooled: FloatArray) -> FloatArray:
        """The mixture at many scores."""
        mean: FloatArray = np.array(self.hedge.weights) @ np.stack([p, pooled, *self._grids.curves(logits(pooled))])
        return mean

    def learn(self, pooled: float, y: int, answers: Sequence[float], outstanding: int) -> None:
        """Weigh the experts by the answers that they gave then, and let the grids learn."""
        self.hedge.learn([likelihood(answer, y) for answer in answers], outstanding)
        self._grids.learn(logit(pooled), y)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"weights": self.hedge.weights, "grids": self._grids.weights.ravel().tolist()}

    @classmethod
    def read(cls, saved: StateReader) -> SegmentExperts:
        """The experts that :meth:`to_dict` wrote."""
        experts = cls()
        experts.hedge.weights = saved.floats("weights", 0.0, length=len(SEGMENT_EXPERTS))
        experts._grids.weights = saved.array("grids", (len(_SEGMENT_RATES), GRID_SIZE), 0.0)
        saved.close()
        return experts


def _logistic_state(fit: FadingLogistic) -> dict[str, Any]:
    return {"theta": list(fit.theta), "information": list(fit.information), "target": list(fit.target)}


def _read_logistic(saved: StateReader, fit: FadingLogistic) -> None:
    a, b, c = saved.floats("theta", length=3)
    fit.theta = a, b, c
    uu, uv, u, vv, v, n = saved.floats("information", length=6)
    fit.information = uu, uv, u, vv, v, n
    a, b, c = saved.floats("target", length=3)
    fit.target = a, b, c
    saved.close()


def _read_isotonic(saved: StateReader, fit: WindowedIsotonic) -> None:
    scores, outcomes = saved.floats("scores", TINY, 1.0), saved.integers("outcomes")
    if len(scores) > (fit.scores.maxlen or 0) or len(outcomes) != len(scores) or not set(outcomes) <= {0, 1}:
        raise saved.misfit("outcomes", f"an outcome 0 or 1 for each of at most {fit.scores.maxlen} scores", outcomes)
    fit.scores.extend(scores)
    fit.outcomes.extend(outcomes)
    fit.since_fit = saved.integer("since_fit")
    fit.x, fit.y = saved.floats("x", 0.0, 1.0), saved.floats("y", 0.0, 1.0)
    if len(fit.x) != len(fit.y) or np.any(np.diff(fit.x) <= 0.0) or np.any(np.diff(fit.y) < 0.0):
        raise saved.misfit("x", "increasing knots, each with a value that never decreases", fit.x)
    saved.close()

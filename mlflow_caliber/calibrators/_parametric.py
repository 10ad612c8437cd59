"""The maps with a formula: sigmoid (Platt), beta and temperature."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, logit

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray, IntArray, check_non_negative, check_unit_interval, row_chunks
from mlflow_caliber.calibrators._base import Calibrator
from mlflow_caliber.calibrators._logistic import LogisticProblem, linear
from mlflow_caliber.calibrators._temperature import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_binary_temperature
from mlflow_caliber.exceptions import InvalidInputError

__all__ = ["BetaCalibrator", "SigmoidCalibrator", "TemperatureCalibrator"]

# What stands in for "no prior". Separable data have no finite maximum of the likelihood: this pull toward the
# identity, a thousand-millionth of a row, gives them one and leaves ten digits of every other fit alone.
_VANISHING = 1e-9
# No fit comes near it; a saved coefficient beyond it could overflow.
_LARGEST = 1e12

Precision = float | Sequence[float] | None


def _check_clip(clip: float) -> float:
    """A clipping distance in (0, 0.5)."""
    value = check_unit_interval(clip, "clip", open_ends=True)
    if value >= 0.5:
        raise InvalidInputError(f"clip must be a number strictly between 0 and 0.5, got {value:.6g}.")
    return value


def _inside(scores: FloatArray, clip: float) -> FloatArray:
    """Scores moved into [clip, 1 - clip]; ``np.clip`` says the same and takes longer for one row than all the rest."""
    return np.minimum(np.maximum(scores, clip), 1.0 - clip)


class _LogisticMap(Calibrator):
    """A logistic regression on functions of the score; the identity is one choice of its coefficients."""

    prior_precision: Precision
    clip: float
    coef_: FloatArray

    coef_names: ClassVar[tuple[str, ...]]
    identity: ClassVar[tuple[float, ...]]
    lower: ClassVar[tuple[float, ...]]

    @staticmethod
    @abstractmethod
    def _features(clipped: FloatArray) -> tuple[FloatArray, ...]:
        """One array for each coefficient, from scores strictly inside (0, 1)."""

    def _check_params(self) -> None:
        _check_clip(self.clip)
        self._precision()

    def _precision(self) -> FloatArray:
        given = 0.0 if self.prior_precision is None else self.prior_precision
        values = [given] * len(self.identity) if np.isscalar(given) else list(given)  # type: ignore[arg-type]
        if len(values) != len(self.identity):
            raise InvalidInputError(
                f"prior_precision must be one number or one each for {', '.join(self.coef_names)}, got {len(values)}."
            )
        return np.array([check_non_negative(value, "prior_precision") for value in values])

    def _fit(self, scores: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> None:
        self.coef_ = LogisticProblem(
            features=np.stack(self._features(self._clipped(scores))),
            y=y.astype(np.float64),
            weight=np.ones_like(scores) if weight is None else weight,
            centre=np.array(self.identity),
            precision=np.maximum(self._precision(), _VANISHING),
            lower=np.array(self.lower),
        ).solve()

    def _map(self, scores: FloatArray) -> FloatArray:
        probability: FloatArray = expit(linear(self.coef_, self._features(self._clipped(scores))))
        return probability

    def _clipped(self, scores: FloatArray) -> FloatArray:
        return _inside(scores, self.clip)

    def _state(self) -> dict[str, Any]:
        return dict(zip(self.coef_names, self.coef_.tolist(), strict=True))

    def _restore(self, state: StateReader) -> None:
        pairs = zip(self.coef_names, self.lower, strict=True)
        self.coef_ = np.array([state.number(name, max(low, -_LARGEST), _LARGEST) for name, low in pairs])


class SigmoidCalibrator(_LogisticMap):
    """Platt's sigmoid on the logit of the score: sigma(a logit(s) + b) with a >= 0.

    By default the slope and the offset are the mode of their posterior under a ~ N(1, 0.5^2) and b ~ N(0, 0.707^2):
    a few rows do not move the map far from the identity, a few hundred overrule the prior.

    Parameters
    ----------
    prior_precision : float, pair of floats or None, default=(4.0, 2.0)
        One over the variance of the normal priors of a (around 1) and b (around 0). None or 0: maximum likelihood.
    clip : float, default=1e-3
        Scores are moved into [clip, 1 - clip] first, as 0 and 1 have no logit. Lower it when meaningful
        scores are smaller, as in fraud or default risk.

    Attributes
    ----------
    coef_ : ndarray of shape (2,)
        a and b.
    n_samples_ : int
        Rows with positive weight.

    References
    ----------
    Platt, J. (1999). Probabilistic outputs for support vector machines and comparisons to regularized likelihood
    methods. Advances in Large Margin Classifiers.

    Examples
    --------
    >>> calibrator = SigmoidCalibrator().fit([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1])
    >>> calibrator.predict([0.1, 0.5, 0.9]).round(3)
    array([0.102, 0.5  , 0.898])
    """

    name: ClassVar[str] = "sigmoid"
    coef_names: ClassVar[tuple[str, ...]] = ("a", "b")
    identity: ClassVar[tuple[float, ...]] = (1.0, 0.0)
    lower: ClassVar[tuple[float, ...]] = (0.0, -np.inf)

    def __init__(self, *, prior_precision: Precision = (4.0, 2.0), clip: float = 1e-3) -> None:
        self.prior_precision = prior_precision
        self.clip = clip

    @staticmethod
    def _features(clipped: FloatArray) -> tuple[FloatArray, ...]:
        return logit(clipped), np.ones_like(clipped)


class BetaCalibrator(_LogisticMap):
    """Beta calibration: sigma(a ln s - b ln(1 - s) + c) with a, b >= 0.

    Three numbers bend the two ends of the scale apart, which a sigmoid cannot; a = b = 1, c = 0 is the identity.

    Parameters
    ----------
    prior_precision : float, triple of floats or None, default=None
        One over the variance of normal priors of a and b (around 1) and c (around 0). None or 0: maximum likelihood.
        2 is what :class:`AutoCalibrator` uses; (8, 8, 2) holds the map nearer to the identity on few rows.
    clip : float, default=1e-6
        Scores are moved into [clip, 1 - clip] first, as 0 and 1 have no logarithm here.

    Attributes
    ----------
    coef_ : ndarray of shape (3,)
        a, b and c.
    n_samples_ : int
        Rows with positive weight.

    References
    ----------
    Kull, M., Silva Filho, T., Flach, P. (2017). Beta calibration: a well-founded and easily implemented improvement on
    logistic calibration for binary classifiers. AISTATS.

    Examples
    --------
    >>> scores, y = [0.1, 0.3, 0.4, 0.6, 0.7, 0.9], [0, 1, 0, 1, 0, 1]
    >>> BetaCalibrator(prior_precision=(8, 8, 2)).fit(scores, y).predict([0.1, 0.5, 0.9]).round(3)
    array([0.105, 0.5  , 0.895])
    """

    name: ClassVar[str] = "beta"
    coef_names: ClassVar[tuple[str, ...]] = ("a", "b", "c")
    identity: ClassVar[tuple[float, ...]] = (1.0, 1.0, 0.0)
    lower: ClassVar[tuple[float, ...]] = (0.0, 0.0, -np.inf)

    def __init__(self, *, prior_precision: Precision = None, clip: float = 1e-6) -> None:
        self.prior_precision = prior_precision
        self.clip = clip

    @staticmethod
    def _features(clipped: FloatArray) -> tuple[FloatArray, ...]:
        return np.log(clipped), -np.log1p(-clipped), np.ones_like(clipped)


class TemperatureCalibrator(Calibrator):
    """Temperature scaling: sigma(logit(s) / T), one number, maximum likelihood.

    It mends over- and under-confidence and nothing else: a score of 0.5 stays 0.5.

    Parameters
    ----------
    clip : float, default=1e-6
        Scores are moved into [clip, 1 - clip] first, as 0 and 1 have no logit.

    Attributes
    ----------
    temperature_ : float
        T in [0.01, 100]; above 1 the scores were too extreme.
    n_samples_ : int
        Rows with positive weight.

    References
    ----------
    Guo, C., Pleiss, G., Sun, Y., Weinberger, K. (2017). On calibration of modern neural networks. ICML.

    Examples
    --------
    >>> calibrator = TemperatureCalibrator().fit([0.1, 0.1, 0.1, 0.9, 0.9, 0.9], [0, 0, 1, 0, 1, 1])
    >>> calibrator.predict([0.1, 0.5, 0.9]).round(3)
    array([0.333, 0.5  , 0.667])
    """

    name: ClassVar[str] = "temperature"
    temperature_: float

    def __init__(self, *, clip: float = 1e-6) -> None:
        self.clip = clip

    def _check_params(self) -> None:
        _check_clip(self.clip)

    def _fit(self, scores: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> None:
        logits = np.empty_like(scores)
        for part in row_chunks(scores.size):
            p = _inside(scores[part], self.clip)
            np.log(p / (1.0 - p), out=logits[part])  # as in _map but for the last bit, and several times faster
        self.temperature_ = fit_binary_temperature(logits, y, weight)

    def _map(self, scores: FloatArray) -> FloatArray:
        probability: FloatArray = expit(logit(_inside(scores, self.clip)) / self.temperature_)
        return probability

    def _state(self) -> dict[str, Any]:
        return {"temperature": self.temperature_}

    def _restore(self, state: StateReader) -> None:
        self.temperature_ = state.number("temperature", MIN_TEMPERATURE, MAX_TEMPERATURE)

"""An alarm for miscalibration that may be read after every outcome."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from mlflow_caliber._validation import check_at_least
from mlflow_caliber.online._grid import GRID_SIZE, grid_likelihoods, grid_prior
from mlflow_caliber.online._numbers import TINY, check_label, check_probability, check_share, likelihood, logit
from mlflow_caliber.online._state import FORMAT_VERSION, read_saved

__all__ = ["CalibrationAlarm"]

_SHARE = 1.0 / 500.0
# The first bet is half on the probabilities as they are.
_PRIOR = np.concatenate(([0.5], 0.5 * grid_prior()))


class CalibrationAlarm:
    """Bet against the probabilities: whoever gets rich has shown that they are wrong.

    The e-value is what one unit of money has become that was bet on a mixture of recalibrated probabilities, at the
    odds that the probabilities themselves offer. If they are right, it ever reaches 1/alpha with probability at most
    alpha, however long one watches (Ville's inequality). So it may be read after every outcome, which no p-value may.

    For watching without end there is a second reading, ``cusum``: it forgets losses, so a long good time does not
    delay the alarm, and while the probabilities are right it takes ``run_length`` outcomes on average, at least, until
    it alarms for nothing. :meth:`restart` begins again after an alarm.

    Feed it in the order of the forecasts (what ``update`` of a recalibrator returns is in this order). In order of
    arrival, a delay that depends on the outcome makes every alarm a false one.

    Parameters
    ----------
    alpha : float, default=0.05
        Probability of ever raising a false alarm, in [1e-9, 1 - 1e-9].
    run_length : float, default=10000
        Outcomes, on average and at least, until ``cusum_raised`` is false.

    Attributes
    ----------
    e_value, log_e_value : float
        Evidence against calibration, at this moment.
    raised : bool
        Whether the e-value has reached 1/alpha since the start. Stays.
    cusum : float
        Evidence since the best moment to start betting.
    cusum_raised : bool
        Whether ``cusum`` has reached ``run_length`` since the start. Stays.
    n_seen : int
        Outcomes since the start.

    References
    ----------
    Shin, J., Ramdas, A., Rinaldo, A. (2023). E-detectors: a nonparametric framework for sequential change detection.
    New England Journal of Statistics in Data Science 2.
    Ville, J. (1939). Etude critique de la notion de collectif.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> alarm = CalibrationAlarm(alpha=0.05)
    >>> for p in rng.random(1000):
    ...     alarm.update(p, rng.random() < p)
    >>> alarm.raised
    False
    >>> for p in rng.random(200):
    ...     alarm.update(p, rng.random() < p**2)
    >>> alarm.raised
    True
    """

    name: ClassVar[str] = "calibration_alarm"

    def __init__(self, alpha: float = 0.05, *, run_length: float = 10_000.0) -> None:
        self.alpha = check_share(alpha, "alpha")
        self.run_length = check_at_least(run_length, "run_length", 1.0)
        self.restart()

    def restart(self) -> None:
        """Forget everything, as after an alarm that was acted on."""
        self._weights = _PRIOR
        self.n_seen = 0
        self.log_e_value = self._peak = 0.0
        self._log_cusum = self._cusum_peak = 0.0

    @property
    def e_value(self) -> float:
        return _exp(self.log_e_value)

    @property
    def raised(self) -> bool:
        return self._peak >= -math.log(self.alpha)

    @property
    def cusum(self) -> float:
        return _exp(self._log_cusum)

    @property
    def cusum_raised(self) -> bool:
        return self._cusum_peak >= math.log(self.run_length) and self.n_seen > 0

    def update(self, p: float, y: int) -> None:
        """Take one forecast and its outcome.

        Parameters
        ----------
        p : float
            Probability that was served, in [0, 1].
        y : int
            0 or 1.

        Raises
        ------
        InvalidInputError
            A probability outside [0, 1], an outcome other than 0 and 1.
        """
        p, y = check_probability(p), check_label(y)
        chance = np.concatenate(([p if y else 1.0 - p], grid_likelihoods(logit(p), y)))
        weights = self._weights * chance
        bet = float(weights.sum())
        self._weights = (1.0 - _SHARE) / bet * weights + _SHARE * _PRIOR
        # Dividing by more than p(y) only ever makes the evidence smaller, so calling it certain does not break the bet.
        gain = math.log(bet) - math.log(likelihood(p, y))
        self.n_seen += 1
        self.log_e_value += gain
        self._peak = max(self._peak, self.log_e_value)
        self._log_cusum = max(self._log_cusum, 0.0) + gain
        self._cusum_peak = max(self._cusum_peak, self._log_cusum)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; whoever goes on from there computes the same bits."""
        return {
            "name": self.name,
            "format_version": FORMAT_VERSION,
            "params": {"alpha": self.alpha, "run_length": self.run_length},
            "state": {
                "n_seen": self.n_seen,
                "weights": self._weights.tolist(),
                "log_e_value": self.log_e_value,
                "peak": self._peak,
                "log_cusum": self._log_cusum,
                "cusum_peak": self._cusum_peak,
            },
        }

    @classmethod
    def from_dict(cls, data: Any) -> CalibrationAlarm:
        """The alarm that :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            Anything that :meth:`to_dict` would not have written.
        """
        params, state = read_saved(data, cls.name)
        alarm = cls(params.number("alpha", TINY, 1.0 - TINY), run_length=params.number("run_length", 1.0))
        alarm.n_seen = state.integer("n_seen")
        alarm._weights = state.array("weights", (GRID_SIZE + 1,), 0.0)
        alarm.log_e_value, alarm._peak = state.number("log_e_value"), state.number("peak", 0.0)
        alarm._log_cusum, alarm._cusum_peak = state.number("log_cusum"), state.number("cusum_peak", 0.0)
        params.close()
        state.close()
        return alarm


def _exp(t: float) -> float:
    try:
        return math.exp(t)
    except OverflowError:
        return math.inf

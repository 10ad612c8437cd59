"""Model averaging over calibrators: what a user gets who chose nothing."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from mlflow_caliber._cells import tie_groups
from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray, IntArray
from mlflow_caliber.calibrators._base import Calibrator
from mlflow_caliber.calibrators._identity import IdentityCalibrator
from mlflow_caliber.calibrators._isotonic import CenteredIsotonicCalibrator
from mlflow_caliber.calibrators._parametric import BetaCalibrator, SigmoidCalibrator

__all__ = ["AutoCalibrator"]

_N_FOLDS = 5
# Prior weights, as ratios. The identity's grows with the rows, above 50: for each superfluous parameter the likelihood
# of held-out rows charges about a constant, so that calibrated scores would never be recognised for certain. Growth in
# proportion makes it the charge of Schwarz's criterion for the two parameters that the sigmoid has more.
_PRIOR = {"identity": 2.0, "sigmoid": 4.0, "beta": 4.0, "centered_isotonic": 1.0}
_ROWS_PER_IDENTITY = 50.0
# A millionth of the identity stays in every average: it costs at most 1e-6 nats and keeps scores apart that the
# other maps would tie, so that the AUC of continuous scores cannot change.
_ROUNDING = 1e-13
_IDENTITY_FLOOR = 1e-6
# Probabilities nearer to 0 or 1 than this are not punished harder when candidates are compared.
_LOSS_CLIP = 1e-6
# Rows of a cell are no longer told apart beyond this number.
_MOST_ROWS = 1e12
# More distinct scores than this are merged into cells, which share this many leading bits of s or of 1 - s: no cell is
# wider than a thousandth of the distance to the nearer end of the scale.
_MANY_SCORES = 1 << 15
_CELL_BITS = 10
_MANTISSA_BITS = 52


def _candidates() -> dict[str, Calibrator]:
    return {
        "identity": IdentityCalibrator(),
        "sigmoid": SigmoidCalibrator(prior_precision=3.0, clip=_LOSS_CLIP),
        "beta": BetaCalibrator(prior_precision=2.0, clip=_LOSS_CLIP),
        "centered_isotonic": CenteredIsotonicCalibrator(clip_ends=True, prior_rows=60.0),
    }


class _Tally(NamedTuple):
    """By increasing score, the weight of the zeros and of the ones that have it."""

    score: FloatArray
    zeros: FloatArray
    ones: FloatArray

    @property
    def rows(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Scores, shares of ones and weights, of the cells that have any."""
        weight = self.zeros + self.ones
        used = weight > 0.0
        return self.score[used], self.ones[used] / weight[used], weight[used]

    def log_likelihood(self, calibrator: Calibrator) -> float:
        used = self.zeros + self.ones > 0.0
        p = np.clip(calibrator._map(self.score[used]), _LOSS_CLIP, 1.0 - _LOSS_CLIP)
        return float(self.ones[used] @ np.log(p) + self.zeros[used] @ np.log1p(-p))


class AutoCalibrator(Calibrator):
    """The average of four maps, each weighted by how well it predicts held-out rows. The default.

    The candidates are the identity, the sigmoid, beta calibration and centered isotonic regression, the last three
    pulled toward the identity by priors. A candidate's weight is proportional to its prior weight (2, 4, 4 and 1; that
    of the identity is multiplied by n/50 when there are more than 50 rows) times its likelihood under 5-fold
    cross-validation. Scores that are calibrated already therefore change little, few rows give a careful sigmoid, and
    many give the shape that is in the data.

    The average of non-decreasing maps never decreases, and a trace of the identity always remains, so the ranking of
    continuous scores, and with it the AUC, stays what it was. Neither the order of the rows nor a seed plays a part:
    folds are dealt along the sorted scores, and equal rows are spread over them by a fixed draw.

    More than 32,768 distinct scores are merged into cells, no wider than a thousandth of their distance to 0 or 1, for
    the cross-validation and for the two maps with a formula, which moves these by less than 1e-5.

    Attributes
    ----------
    weights_ : dict of str to float
        Weight of each candidate; they sum to one.
    calibrators_ : dict of str to Calibrator
        The candidates, fitted on all rows.
    n_samples_ : int
        Rows with positive weight.

    References
    ----------
    Hoeting, J., Madigan, D., Raftery, A., Volinsky, C. (1999). Bayesian model averaging: a tutorial.
    Statistical Science 14(4).
    Yao, Y., Vehtari, A., Simpson, D., Gelman, A. (2018). Using stacking to average Bayesian predictive distributions
    (section on pseudo-BMA, which weights by cross-validated likelihood). Bayesian Analysis 13(3).

    Examples
    --------
    >>> import numpy as np
    >>> scores = (np.arange(400) + 0.5) / 400
    >>> y = (np.arange(400) * 0.618 % 1 < scores**2).astype(int)  # the truth is the square of the score
    >>> calibrator = AutoCalibrator().fit(scores, y)
    >>> calibrator.predict([0.2, 0.5, 0.8]).round(2)
    array([0.07, 0.27, 0.63])
    >>> calibrator.weights_["identity"] < 0.01
    True
    """

    name: ClassVar[str] = "auto"
    weights_: dict[str, float]
    calibrators_: dict[str, Calibrator]

    def _fit(self, scores: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> None:
        tally = _merged(_tally(scores, y, weight))
        folds = _folds(tally)
        candidates = _candidates()
        log_likelihood = np.array([_cross_validated(each, folds) for each in candidates.values()])
        for name, candidate in candidates.items():
            # Cells leave formulas alone, but would tie the knots of a broken line.
            rows = (scores, y, weight) if name == "centered_isotonic" else tally.rows
            candidate._fit(*rows)
            candidate.n_samples_ = scores.size
        posterior = _posterior(log_likelihood, float(tally.zeros.sum() + tally.ones.sum()))
        self.weights_ = dict(zip(candidates, posterior.tolist(), strict=True))
        self.calibrators_ = candidates

    def _map(self, scores: FloatArray) -> FloatArray:
        total = np.zeros_like(scores)
        for name, candidate in self.calibrators_.items():
            total += self.weights_[name] * candidate._map(scores)
        return np.minimum(total, 1.0)  # the weights sum to one only up to rounding

    def _state(self) -> dict[str, Any]:
        return {
            "weights": dict(self.weights_),
            "candidates": {name: candidate._state() for name, candidate in self.calibrators_.items()},
        }

    def _restore(self, state: StateReader) -> None:
        weights, states = state.nested("weights"), state.nested("candidates")
        self.calibrators_ = _candidates()
        self.weights_ = {name: weights.number(name, 0.0, 1.0) for name in self.calibrators_}
        total = sum(self.weights_.values())
        if abs(total - 1.0) > 1e-9:
            raise weights.fault(f"must sum to 1, got a sum of {total:.12g}.")
        for name, candidate in self.calibrators_.items():
            candidate_state = states.nested(name)
            candidate._restore(candidate_state)
            candidate.n_samples_ = self.n_samples_
            candidate_state.close()
        weights.close()
        states.close()


def _posterior(log_likelihood: FloatArray, weight: float) -> FloatArray:
    """Prior times likelihood, normalised; the first candidate is the identity."""
    prior = np.array(list(_PRIOR.values()))
    prior[0] *= max(1.0, weight / _ROWS_PER_IDENTITY)
    posterior: FloatArray = softmax(np.log(prior) + log_likelihood)
    posterior[0] = max(posterior[0], _IDENTITY_FLOOR)
    posterior /= posterior.sum()
    return posterior


def _tally(scores: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> _Tally:
    """Rows of one score as one cell. The order of the rows is forgotten.

    Copies of a row may be scored a rounding error apart, by where they stand in a batch: they are one score.
    """
    ties = tie_groups(y, scores, weight)
    unit = 1.0 if weight is None else float(weight.max())
    starts = np.flatnonzero(np.diff(ties.value, prepend=-1.0) > _ROUNDING)
    negative, positive = (np.add.reduceat(each, starts) for each in (ties.weight - ties.positive, ties.positive))
    return _Tally(ties.value[starts], unit * negative, unit * positive)


def _merged(tally: _Tally) -> _Tally:
    """Of very many scores, neighbours as one, at their weighted mean."""
    if tally.score.size <= _MANY_SCORES:
        return tally
    cell = _cell(tally.score)
    starts = np.flatnonzero(np.append(True, cell[1:] != cell[:-1]))
    weight = tally.zeros + tally.ones
    zeros, ones, total = (np.add.reduceat(each, starts) for each in (tally.zeros, tally.ones, weight * tally.score))
    last = tally.score[np.append(starts[1:], cell.size) - 1]
    return _Tally(np.clip(total / (zeros + ones), tally.score[starts], last), zeros, ones)


def _cell(scores: FloatArray) -> NDArray[np.int64]:
    """A number for each score, the same for scores that agree in the leading bits of their distance to the nearer end.

    It depends on nothing but the score, so that a weight keeps acting as repeated rows.
    """
    low = scores < 0.5
    bits = np.where(low, scores, 1.0 - scores).view(np.int64) >> (_MANTISSA_BITS - _CELL_BITS)
    return np.where(low, bits, -1 - bits)


def _folds(tally: _Tally) -> list[tuple[_Tally, _Tally]]:
    """For each fold, the tally of its rows and that of all the others."""
    weight = np.column_stack([tally.zeros, tally.ones])
    rows = np.where(weight > 0.0, np.clip(np.rint(weight), 1.0, _MOST_ROWS), 0.0).astype(np.int64)
    unit = weight / np.maximum(rows, 1)
    dealt = _rows_of_folds(rows)
    return [
        (_Tally(tally.score, *(inside * unit).T), _Tally(tally.score, *((rows - inside) * unit).T)) for inside in dealt
    ]


def _rows_of_folds(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows of each score and label are in each fold, shape (folds, scores, 2).

    Single rows are dealt round. Of several equal ones each draws its fold, from the same random numbers every time:
    dealt round, the ones of a score would be spread over the folds more evenly than chance, and the rows held out
    would resemble the others so much that over-fitting went unseen.
    """
    counts = np.random.default_rng(0).multinomial(rows, np.full(_N_FOLDS, 1.0 / _N_FOLDS))
    single = rows == 1
    counts[single] = np.eye(_N_FOLDS, dtype=np.int64)[np.arange(np.count_nonzero(single)) % _N_FOLDS]
    return np.moveaxis(counts, -1, 0)


def _cross_validated(candidate: Calibrator, folds: list[tuple[_Tally, _Tally]]) -> float:
    """Log likelihood of every row under the map fitted on the other folds."""
    total = 0.0
    for inside, others in folds:
        if others.zeros.any() or others.ones.any():
            candidate._fit(*others.rows)
            total += inside.log_likelihood(candidate)
    return total

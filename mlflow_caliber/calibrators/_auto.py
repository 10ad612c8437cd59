"""Model averaging over calibrators: what a user gets who chose nothing."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import softmax

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.calibrators._base import Calibrator
from mlflow_caliber.calibrators._identity import IdentityCalibrator
from mlflow_caliber.calibrators._isotonic import CenteredIsotonicCalibrator
from mlflow_caliber.calibrators._parametric import BetaCalibrator, SigmoidCalibrator
from mlflow_caliber.calibrators._state import StateReader

__all__ = ["AutoCalibrator"]

_N_FOLDS = 5
_IDENTITY_PRIOR = 0.5
# A millionth of the identity stays in every average: it costs at most 1e-6 nats and keeps scores apart that the
# other maps would tie, so that the AUC of continuous scores cannot change.
_IDENTITY_FLOOR = 1e-6
# Probabilities nearer to 0 or 1 than this are not punished harder when candidates are compared.
_LOSS_CLIP = 1e-6
# A pool of rows must not be split below what float64 resolves of a running total of weights.
_SMALLEST_MASS = 1e-9


def _candidates() -> dict[str, Calibrator]:
    return {
        "identity": IdentityCalibrator(),
        "sigmoid": SigmoidCalibrator(prior_precision=(4.0, 2.0), clip=_LOSS_CLIP),
        "beta": BetaCalibrator(prior_precision=(8.0, 8.0, 2.0), clip=_LOSS_CLIP),
        "centered_isotonic": CenteredIsotonicCalibrator(clip_ends=True, prior_rows=60.0),
    }


class AutoCalibrator(Calibrator):
    """The average of four maps, each weighted by how well it predicts held-out rows. The default.

    The candidates are the identity, the sigmoid, beta calibration and centered isotonic regression, the last three
    pulled toward the identity by priors. A candidate's weight is proportional to its prior weight (one half for the
    identity, the rest shared equally) times its likelihood under 5-fold cross-validation. Scores that are calibrated
    already therefore change little, few rows give a careful sigmoid, and many give the shape that is in the data.

    The average of non-decreasing maps never decreases, and a trace of the identity always remains, so the ranking of
    continuous scores, and with it the AUC, stays what it was. Nothing is random: folds are cut along the sorted scores,
    so neither the order of the rows nor a seed plays a part.

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
    array([0.07, 0.28, 0.64])
    >>> calibrator.weights_["identity"] < 0.01
    True
    """

    name: ClassVar[str] = "auto"
    weights_: dict[str, float]
    calibrators_: dict[str, Calibrator]

    def _fit(self, scores: FloatArray, y: FloatArray, weight: FloatArray) -> None:
        cells = _merge_rows(scores, y, weight)
        held_out = _fold_masses(cells[2])
        candidates = _candidates()
        log_likelihood = np.array([_cross_validated(each, cells, held_out) for each in candidates.values()])
        for candidate in candidates.values():
            candidate._fit(*cells)
            candidate.n_samples_ = scores.size
        self.weights_ = dict(zip(candidates, _posterior(log_likelihood).tolist(), strict=True))
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


def _posterior(log_likelihood: FloatArray) -> FloatArray:
    """Prior times likelihood, normalised; the first candidate is the identity."""
    others = log_likelihood.size - 1
    prior = np.array([_IDENTITY_PRIOR] + [(1.0 - _IDENTITY_PRIOR) / others] * others)
    weights: FloatArray = softmax(np.log(prior) + log_likelihood)
    weights[0] = max(weights[0], _IDENTITY_FLOOR)
    weights /= weights.sum()
    return weights


def _merge_rows(scores: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rows with the same score and label as one, sorted by both: the order of the rows is forgotten."""
    order = np.lexsort((weight, y, scores))
    x, labels = scores[order], y[order]
    new = np.append(True, (np.diff(x) > 0.0) | (np.diff(labels) != 0.0))
    starts = np.flatnonzero(new)
    return x[starts], labels[starts], np.add.reduceat(weight[order], starts)


def _fold_masses(weight: FloatArray) -> FloatArray:
    """How much of each cell's weight belongs to each fold, shape (folds, cells).

    Rows lie end to end on a line, each as long as its weight, and the line is dealt out to the folds by turns of length
    one. Unweighted, that is rank modulo 5; a row of weight 2 is dealt exactly as two equal rows would be.
    """
    ends = np.cumsum(weight)
    bounds = np.append(0.0, ends)
    turn, position = np.divmod(bounds, _N_FOLDS)
    folds = np.arange(_N_FOLDS)[:, None]
    mass = np.diff(turn + np.clip(position - folds, 0.0, 1.0), axis=1)
    return np.where(mass < _SMALLEST_MASS, 0.0, mass)


def _cross_validated(
    candidate: Calibrator, cells: tuple[FloatArray, FloatArray, FloatArray], held_out: FloatArray
) -> float:
    """Log likelihood of every row under the map fitted on the other folds."""
    x, y, weight = cells
    total = 0.0
    for mass in held_out:
        rest = weight - mass
        train, test = rest > _SMALLEST_MASS, mass > 0.0
        if not train.any() or not test.any():
            continue  # less than two rows of weight in all: nothing to hold out
        candidate._fit(x[train], y[train], rest[train])
        p = np.clip(candidate._map(x[test]), _LOSS_CLIP, 1.0 - _LOSS_CLIP)
        total += float(mass[test] @ np.log(np.where(y[test] == 1.0, p, 1.0 - p)))
    return total

"""What a drop in quality calls for: nothing, a new calibrator, a new model, or a person's eyes.

Falling AUC and rising calibration error are no diagnosis by themselves: a population of closer cases lowers the AUC of
a perfect model. What a model *should* score on today's rows follows from its own probabilities; only a shortfall
against that says that the model itself has become worse.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from mlflow_caliber import metrics
from mlflow_caliber._odds import one_in
from mlflow_caliber._validation import check_non_negative, check_unit_interval
from mlflow_caliber.calibrators import SigmoidCalibrator
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import BrierDecomposition, Outcomes

__all__ = ["Diagnosis", "DiagnosisEvidence", "DiagnosisVerdict", "diagnose"]

DiagnosisVerdict = Literal["none", "recalibrate", "recalibrate_and_retrain", "investigate"]

_COMMON = 0.01
MIN_ROWS_PER_CLASS = 10
"""Fewer rows of a class than this are no evidence, and get no verdict."""

_POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class DiagnosisEvidence:
    """The numbers behind a verdict.

    Calibration is about class 1, with more than two classes about the winning one; it reads the served probabilities.
    The AUC (with more than two classes the mean over classes of each against the rest) reads the raw scores.

    Attributes
    ----------
    n_reference, n_live : int
        Rows that carry weight.
    calibration_p : float
        p-value of :func:`~mlflow_caliber.metrics.calibration_score_test` on the live rows.
    slope, intercept : float
        Of the live outcomes on the logit of the served probability; 1 and 0 when calibrated. A slope below 1: the
        probabilities are too extreme. An intercept above 0: they are too low.
    ece_reference, ece_live : float
        Expected calibration error, 10 bins of equal mass.
    roc_auc_reference, roc_auc_live : float
        As measured.
    roc_auc_expected : float
        What the live probabilities promise, corrected by ``roc_auc_offset``.
    roc_auc_offset : float
        By how much the reference fell short of (below 0) or exceeded its own promise.
    shortfall : float
        ``roc_auc_expected - roc_auc_live``.
    shortfall_z : float
        The part of it beyond the margin, in standard errors.
    detectable_shortfall : float
        The shortfall that would be called one with a chance of 80 % on so many rows. A verdict of ``none`` says
        little about anything smaller.
    mcb_change, dsc_change : float
        Live less reference, parts of the Brier score: what recalibration can win back, and what the ranking earns,
        which it cannot. (A change of the population alone also moves the second.)
    """

    n_reference: int
    n_live: int
    calibration_p: float
    slope: float
    intercept: float
    ece_reference: float
    ece_live: float
    roc_auc_reference: float
    roc_auc_live: float
    roc_auc_expected: float
    roc_auc_offset: float
    shortfall: float
    shortfall_z: float
    detectable_shortfall: float
    mcb_change: float
    dsc_change: float


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A verdict, its evidence in numbers, and the same as a sentence; see :func:`diagnose`.

    Attributes
    ----------
    verdict : {"none", "recalibrate", "recalibrate_and_retrain", "investigate"}
        What to do.
    sentence : str
        The verdict and its reasons, for people.
    evidence : DiagnosisEvidence
        What it rests on.
    """

    verdict: DiagnosisVerdict
    sentence: str
    evidence: DiagnosisEvidence

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state."""
        return asdict(self)


def diagnose(
    reference: Outcomes | Sequence[ArrayLike],
    live: Outcomes | Sequence[ArrayLike],
    *,
    alpha: float = 0.01,
    auc_margin: float = 0.02,
    auc_alpha: float = 0.05,
) -> Diagnosis:
    r"""Say whether live outcomes call for a new calibrator, a new model, or neither.

    Two questions are asked of the live rows. *Are the probabilities off?* Yes, if the score test of intercept and slope
    has a p-value below `alpha`. *Does the ranking fall short?* Yes, if

    .. math:: z = \frac{A_{exp} + o - A_{live} - \text{margin}}{\sqrt{v_{live} + v_{ref}}} > z_{1 - \text{auc\_alpha}}

    where :math:`A_{exp}` is the AUC that the live probabilities themselves promise, :math:`o = A_{ref} - A_{exp,ref}`
    how far the reference was from its own promise, and `v` DeLong's variances. Asking for the promise, and not for the
    AUC of the reference, is what keeps a mere change of the population from looking like a worse model.

    ======================== ==================== =======================
    verdict                  probabilities off    ranking falls short
    ======================== ==================== =======================
    none                     no                   no
    recalibrate              yes                  no
    recalibrate_and_retrain  yes                  yes
    investigate              no                   yes
    ======================== ==================== =======================

    Parameters
    ----------
    reference : Outcomes or pair (y_true, y_proba)
        Rows on which the model was found good, not those that it was fitted on: the evaluation before its release.
    live : Outcomes or pair (y_true, y_proba)
        The latest rows whose outcomes are known. They must be all rows, or a random part of them: rows that a person
        reviewed because the model abstained are no sample of the rest.
    alpha : float, default=0.01
        Level of the test of calibration, in (0, 1).
    auc_margin : float, default=0.02
        Shortfall of the AUC that does not matter, not negative.
    auc_alpha : float, default=0.05
        Level of the test of the shortfall, in (0, 1).

    Returns
    -------
    Diagnosis
        With more than two classes, calibration is about the winning one. A model that only has confidence and
        correctness can be given as ``(correct, confidence)``.

    Raises
    ------
    InvalidInputError
        When either side has fewer than 10 rows of a class: that is too little for a verdict, and ``none`` would be a
        guess. Also for arrays, levels or a margin that cannot be used.

    Notes
    -----
    Slope compression (over-confidence) is a loss of information as well: where outcomes follow the score less closely
    than promised, the AUC falls short of the promise, and the verdict asks for both. With outcomes drawn as in the
    simulations of ``tests/simulations/test_diagnosis.py`` and 1000 rows on either side, the right verdict is found in
    at least 95 % of the draws.

    References
    ----------
    Cox (1958), "Two Further Applications of a Model for Binary Regression", Biometrika (the score test).
    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves: A Nonparametric Approach", Biometrics.

    Examples
    --------
    >>> import numpy as np
    >>> from mlflow_caliber import diagnose
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.05, 0.95, 2000)
    >>> before, after = rng.random(2000) < p, rng.random(2000) < p / (p + 0.4 * (1 - p))
    >>> diagnosis = diagnose((before, p), (after, p))
    >>> diagnosis.verdict
    'recalibrate'
    >>> diagnosis.evidence.intercept  # ln(1 / 0.4) is the truth
    0.9
    """
    level = check_unit_interval(alpha, "alpha", open_ends=True)
    critical = NormalDist().inv_cdf(1.0 - check_unit_interval(auc_alpha, "auc_alpha", open_ends=True))
    margin = check_non_negative(auc_margin, "auc_margin")
    before, now = _Side.of(reference, "reference"), _Side.of(live, "live")
    evidence = _evidence(before, now, margin, critical)
    off, short = evidence.calibration_p < level, evidence.shortfall_z > critical
    verdict = _VERDICTS[off, short]
    return Diagnosis(verdict=verdict, sentence=_sentence(verdict, evidence), evidence=evidence)


_VERDICTS: dict[tuple[bool, bool], DiagnosisVerdict] = {
    (False, False): "none",
    (True, False): "recalibrate",
    (True, True): "recalibrate_and_retrain",
    (False, True): "investigate",
}


@dataclass(frozen=True, eq=False)
class _Side:
    """One sample, and what its AUC is, how sure it is and what it should be."""

    outcomes: Outcomes
    auc: float
    variance: float
    promised: float

    @classmethod
    def of(cls, given: Outcomes | Sequence[ArrayLike], name: str) -> _Side:
        outcomes = Outcomes.of(given, name)
        _check_enough(outcomes, name)
        y, raw, weight = outcomes.y_true, outcomes.raw, outcomes.sample_weight
        of_two = outcomes.binary
        auc = metrics.roc_auc if of_two else metrics.multiclass_roc_auc
        variance = metrics.roc_auc_variance if of_two else metrics.multiclass_roc_auc_variance
        return cls(
            outcomes,
            auc(y, raw, sample_weight=weight),
            variance(y, raw, sample_weight=weight),
            metrics.expected_roc_auc(outcomes.y_proba, y_score=raw, sample_weight=weight),
        )

    @property
    def ece(self) -> float:
        return metrics.expected_calibration_error(*self.outcomes.event, sample_weight=self.outcomes.sample_weight)

    @property
    def decomposition(self) -> BrierDecomposition:
        of_two = self.outcomes.binary
        decompose = metrics.brier_decomposition if of_two else metrics.multiclass_brier_decomposition
        return decompose(self.outcomes.y_true, self.outcomes.y_proba, sample_weight=self.outcomes.sample_weight)


def _check_enough(outcomes: Outcomes, name: str) -> None:
    n_classes = 2 if outcomes.binary else outcomes.y_proba.shape[1]
    seen = outcomes.y_true if outcomes.sample_weight is None else outcomes.y_true[outcomes.sample_weight > 0.0]
    rows = np.bincount(seen.astype(np.intp), minlength=n_classes)
    if rows.min() < MIN_ROWS_PER_CLASS:
        raise InvalidInputError(
            f"diagnose needs at least {MIN_ROWS_PER_CLASS} rows of every class in {name}, got {rows.min()} of class "
            f"{rows.argmin()} in {rows.sum()} rows: too few for a verdict."
        )


def _evidence(before: _Side, now: _Side, margin: float, critical: float) -> DiagnosisEvidence:
    event, weight = now.outcomes.event, now.outcomes.sample_weight
    # The prior of the sigmoid keeps slope and intercept finite on any data; on these many rows it is hardly felt.
    slope, intercept = SigmoidCalibrator(clip=1e-6).fit(event[1], event[0], sample_weight=weight).coef_
    offset = before.auc - before.promised
    shortfall = now.promised + offset - now.auc
    # (Not 0: where both samples are ranked perfectly there is no shortfall to be divided by it.)
    error = max(before.variance + now.variance, np.finfo(np.float64).tiny) ** 0.5
    was, is_now = before.decomposition, now.decomposition
    return DiagnosisEvidence(
        n_reference=before.outcomes.n,
        n_live=now.outcomes.n,
        calibration_p=metrics.calibration_score_test(*event, sample_weight=weight).p_value,
        slope=float(slope),
        intercept=float(intercept),
        ece_reference=before.ece,
        ece_live=now.ece,
        roc_auc_reference=before.auc,
        roc_auc_live=now.auc,
        roc_auc_expected=now.promised + offset,
        roc_auc_offset=offset,
        shortfall=shortfall,
        shortfall_z=(shortfall - margin) / error,
        detectable_shortfall=margin + (critical + NormalDist().inv_cdf(_POWER)) * error,
        mcb_change=is_now.miscalibration - was.miscalibration,
        dsc_change=is_now.discrimination - was.discrimination,
    )


def _sentence(verdict: DiagnosisVerdict, evidence: DiagnosisEvidence) -> str:
    e = evidence
    p = e.calibration_p
    chance = f"{p:.0%}" if p >= _COMMON else one_in(-math.log(max(p, sys.float_info.min)))
    fit = f"of samples of {e.n_live} rows that fit, {chance} are as far off; slope {e.slope:.2f}, "
    fit += f"intercept {e.intercept:+.2f}"
    auc = f"AUC {e.roc_auc_live:.3f}, expected {e.roc_auc_expected:.3f}"
    limit = f"a shortfall below {e.detectable_shortfall:.3f} could have been missed"
    return {
        "none": f"Nothing to do: the probabilities fit the outcomes ({fit}), and the ranking is what they promise "
        f"({auc}; {limit}).",
        "recalibrate": f"Recalibrate: the probabilities do not fit the outcomes any more ({fit}), while the ranking is "
        f"what they promise ({auc}; {limit}).",
        "recalibrate_and_retrain": f"Recalibrate now and retrain: the probabilities do not fit the outcomes any more "
        f"({fit}), and the ranking falls short of what they promise ({auc}), which no calibrator can mend.",
        "investigate": f"Investigate: the ranking falls short of what the probabilities promise ({auc}), and yet they "
        f"fit the outcomes ({fit}); look at the data, the labels and the segments before anything else.",
    }[verdict]

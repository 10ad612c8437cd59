"""How good the model is today, before any label has come: what its probabilities promise, and whether to trust that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from mlflow_caliber._validation import check_flag, check_probabilities, check_unit_interval
from mlflow_caliber.drift._state import list_of, number, read_version, text
from mlflow_caliber.exceptions import StateError
from mlflow_caliber.metrics import (
    ExpectedPerformance,
    Interval,
    Outcomes,
    calibration_score_test,
    expected_performance,
)

Validity = Literal["valid", "unverified", "invalid"]

FORMAT_VERSION = 1
VALIDITIES: tuple[Validity, ...] = ("valid", "unverified", "invalid")

MIN_LABELLED = 200
"""On fewer labelled rows the test sees only gross errors, and its silence proves little."""
MAX_OUTSIDE = 0.05
"""Share of scores outside the range of the labelled ones up to which that range speaks for all."""


@dataclass(frozen=True, kw_only=True)
class PerformanceEstimate(ExpectedPerformance):
    """What a model promises about itself on rows without labels; see :func:`estimate_performance`.

    To the values and intervals of :class:`~mlflow_caliber.metrics.ExpectedPerformance` it adds whether to believe them.

    Attributes
    ----------
    validity : {"valid", "unverified", "invalid"}
        Whether there is reason to believe that the probabilities are calibrated here. All numbers rest on that.
    sentence : str
        Why.
    n_labelled : int
        Rows of the reference, 0 without one.
    calibration_p : float or None
        p-value of the score test on the reference.
    outside : float or None
        Share of rows whose score lies outside the range of the reference.
    """

    validity: Validity
    sentence: str
    n_labelled: int
    calibration_p: float | None
    outside: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state, without NaN."""
        state = {"format_version": FORMAT_VERSION, **asdict(self)}
        return {key: list(value) if isinstance(value, Interval) else value for key, value in state.items()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> PerformanceEstimate:
        """The estimate from its JSON.

        Raises
        ------
        StateError
            If a field is missing, of another type or not finite, or the format version is another.
        """
        where = "The performance estimate"
        read_version(state, FORMAT_VERSION, where)
        validity = text(state, "validity", where)
        if validity not in VALIDITIES:
            raise StateError(f"{where} must have a validity of {', '.join(VALIDITIES)}, got {validity!r}.")
        auc = _read_optional(state, "roc_auc", where)
        return cls(
            n=int(number(state, "n", where, whole=True)),
            accuracy=number(state, "accuracy", where),
            accuracy_interval=_read_interval(state, "accuracy_interval", where),
            f1=_read_optional(state, "f1", where),
            roc_auc=auc,
            roc_auc_interval=None if auc is None else _read_interval(state, "roc_auc_interval", where),
            confidence=number(state, "confidence", where),
            validity=validity,
            sentence=text(state, "sentence", where),
            n_labelled=int(number(state, "n_labelled", where, whole=True)),
            calibration_p=_read_optional(state, "calibration_p", where),
            outside=_read_optional(state, "outside", where),
        )


def estimate_performance(
    y_proba: ArrayLike,
    *,
    reference: Outcomes | Sequence[ArrayLike] | None = None,
    alarm: bool = False,
    y_score: ArrayLike | None = None,
    threshold: float = 0.5,
    confidence: float = 0.95,
    alpha: float = 0.01,
    sample_weight: ArrayLike | None = None,
) -> PerformanceEstimate:
    """Estimate accuracy, F1 and ROC AUC on rows whose outcomes are not known yet.

    A calibrated probability says how often its row is right, so calibrated probabilities say how good their model is.
    That holds for any change of the population (covariate shift) under which they stay calibrated, and for no other:
    when the same case has become more or less likely to be positive, the estimate is wrong and cannot know it. So it
    comes with a verdict on itself, from the latest rows whose labels have arrived.

    Parameters
    ----------
    y_proba : array-like of shape (n,) or (n, K)
        The served, calibrated probabilities, of class 1 or of every class.
    reference : Outcomes or pair (y_true, y_proba), optional
        The latest rows with labels. Without them the estimate is ``unverified``.
    alarm : bool, default=False
        Whether a calibration alarm is up; the estimate is ``invalid`` then.
    y_score : array-like of the shape of `y_proba`, optional
        Raw scores that rank the rows for the AUC, where a calibrator has made ties.
    threshold : float, default=0.5
        Class 1 is predicted above it, in [0, 1]. Of more than two classes the most probable one is predicted.
    confidence : float, default=0.95
        Level of the intervals, in (0, 1).
    alpha : float, default=0.01
        Level of the test of calibration on the reference, in (0, 1).
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    PerformanceEstimate
        ``valid``: on at least 200 labelled rows the score test of calibration (with more than two classes about the
        winning one) does not reject at `alpha`, and at most 5 % of the scores lie outside the range of theirs.
        ``invalid``: the test rejects, or there is an alarm. ``unverified``: anything else. The intervals allow for the
        draw of the rows and of their outcomes, not for a loss of calibration.

    Raises
    ------
    InvalidInputError
        For arguments that cannot be used.

    See Also
    --------
    mlflow_caliber.metrics.expected_precision : Precision, and recall, in the same manner.

    References
    ----------
    Guillory et al. (2021), "Predicting with Confidence on Unseen Distributions", ICCV (accuracy from confidence).
    Garg et al. (2022), "Leveraging Unlabeled Data to Predict Out-of-Distribution Performance", ICLR (why no method can
    do without an assumption such as calibration).

    Examples
    --------
    >>> from mlflow_caliber.drift import estimate_performance
    >>> estimate = estimate_performance([0.1, 0.4, 0.35, 0.8] * 50)
    >>> estimate.accuracy, estimate.accuracy_interval
    (0.7375, Interval(low=0.671, high=0.797))
    >>> estimate.validity
    'unverified'
    """
    check_unit_interval(alpha, "alpha", open_ends=True)
    expected = expected_performance(
        y_proba, y_score=y_score, threshold=threshold, confidence=confidence, sample_weight=sample_weight
    )
    evidence = None if reference is None else _Evidence.of(y_proba, Outcomes.of(reference, "reference"))
    validity, sentence = _verdict(evidence, alarm=check_flag(alarm, "alarm"), alpha=alpha)
    return PerformanceEstimate(
        **vars(expected),
        validity=validity,
        sentence=sentence,
        n_labelled=0 if evidence is None else evidence.n,
        calibration_p=None if evidence is None else evidence.p_value,
        outside=None if evidence is None else evidence.outside,
    )


@dataclass(frozen=True)
class _Evidence:
    """What the labelled rows say about the calibration of the others."""

    n: int
    p_value: float
    low: float
    high: float
    outside: float

    @classmethod
    def of(cls, y_proba: ArrayLike, reference: Outcomes) -> _Evidence:
        outcome, p = reference.event
        low, high = float(p.min()), float(p.max())
        proba = check_probabilities(y_proba)
        live = proba if proba.ndim == 1 else proba.max(axis=1)
        outside = float(np.mean((live < low) | (live > high)))
        test = calibration_score_test(outcome, p, sample_weight=reference.sample_weight)
        return cls(reference.n, test.p_value, low, high, outside)


def _verdict(evidence: _Evidence | None, *, alarm: bool, alpha: float) -> tuple[Validity, str]:
    if alarm:
        return "invalid", "Invalid, because the calibration alarm is up: the probabilities are not what they promise."
    if evidence is None:
        return "unverified", "Unverified: no labelled rows were given, so nothing shows that calibration holds here."
    test = f"score test p = {evidence.p_value:.2g} on {evidence.n} labelled rows"
    if evidence.p_value < alpha:
        return "invalid", f"Invalid, because the probabilities do not fit the latest outcomes ({test})."
    if evidence.n < MIN_LABELLED:
        wanted = f"{evidence.n} labelled rows, of {MIN_LABELLED} wanted, are too few to show that calibration holds"
        return "unverified", f"Unverified: {wanted}."
    if evidence.outside > MAX_OUTSIDE:
        span = f"[{evidence.low:.3g}, {evidence.high:.3g}]"
        return "unverified", (
            f"Unverified: {evidence.outside:.1%} of the scores lie outside {span}, the range in which labelled rows "
            f"show that calibration holds ({test})."
        )
    return "valid", f"Valid while calibration holds, against which the latest outcomes do not speak ({test})."


def _read_optional(state: Mapping[str, Any], key: str, where: str) -> float | None:
    return None if key in state and state[key] is None else number(state, key, where)


def _read_interval(state: Mapping[str, Any], key: str, where: str) -> Interval:
    ends = list_of(state, key, (int, float), where)
    if len(ends) != 2:
        raise StateError(f"{where} must have the two ends of {key!r}, got {len(ends)} numbers.")
    pair = dict(zip(("low", "high"), ends, strict=True))
    return Interval(number(pair, "low", where), number(pair, "high", where))

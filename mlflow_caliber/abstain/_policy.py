"""The abstain policy: a value that says which predictions are withheld."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber._validation import (
    FloatArray,
    check_at_least,
    check_binary_labels,
    check_choice,
    check_class_names,
    check_column,
    check_confidence,
    check_known_keys,
    check_no_missing,
    check_same_length,
    check_scores,
    check_segment,
    check_text,
    check_thresholds,
    check_unit_interval,
)
from mlflow_caliber.abstain._audit import drawn
from mlflow_caliber.abstain._certificate import Certificate
from mlflow_caliber.abstain._certify import certify_all, certify_classes, surest_first
from mlflow_caliber.abstain._names import class_names, label_texts, thresholds_of
from mlflow_caliber.abstain._rules import capacity_threshold, cost_threshold
from mlflow_caliber.exceptions import InvalidInputError, StateError

FORMAT_VERSION = 2
_ON_ERROR = ("abstain", "raw")
_KEYS_OF_1 = ("threshold", "segment_thresholds", "on_calibrator_error")
_KEYS = (*_KEYS_OF_1, "class_thresholds", "audit_share", "audit_salt", "certificate")
# Above every confidence.
_NEVER = np.inf


@dataclass(frozen=True)
class AbstainPolicy:
    """Withhold a prediction whose confidence lies below a threshold.

    Set the threshold, or let it follow: from a limit on the error rate of answers (:meth:`certify`), from the reviews
    there is room for (:meth:`for_capacity`), or from what an error and a review cost (:meth:`from_costs`).

    Parameters
    ----------
    threshold : float, default=0.0
        Predictions of confidence < threshold are withheld; in [0, 1]. 0 withholds none, save those of confidence NaN.
    segment_thresholds : mapping of str to float, optional
        Thresholds of their own for named segments.
    class_thresholds : mapping of str to float, optional
        Thresholds of their own for predicted classes, named by the text of their label.
    audit_share : float, default=0.0
        Share of all predictions that :meth:`audit` draws, in [0, 1]: those of them that are answered are to be labelled
        all the same, for the labels of withheld cases alone say nothing about the answered ones.
    audit_salt : str, default=""
        Another text draws other predictions.
    on_calibrator_error : {"abstain", "raw"}, default="abstain"
        What serving does when the calibrator fails: withhold the prediction, or answer with the raw probability.
    certificate : Certificate, optional
        What is promised of the thresholds. They must be those that were certified; a certificate that was not granted
        withholds everything. ``dataclasses.replace(policy, threshold=0.8, certificate=None)`` overrides it.

    Raises
    ------
    InvalidInputError
        For a threshold or share outside [0, 1], a name that is no text, an unknown `on_calibrator_error`, or thresholds
        that are not those of the certificate.

    Notes
    -----
    One threshold holds for a row: that of its segment or of its predicted class if there is one, the stricter if there
    are both, and else `threshold`.

    References
    ----------
    Chow (1970), "On Optimum Recognition Error and Reject Tradeoff", IEEE Transactions on Information Theory.

    Examples
    --------
    >>> from mlflow_caliber.abstain import AbstainPolicy
    >>> policy = AbstainPolicy(0.7, segment_thresholds={"new": 0.9})
    >>> policy.apply([0.6, 0.7, 0.8, float("nan")])
    array([ True, False, False,  True])
    >>> policy.apply([0.8, 0.8, 0.8], segment=["new", "old", None])
    array([ True, False, False])
    """

    threshold: float = 0.0
    segment_thresholds: Mapping[str, float] | None = field(default=None, kw_only=True, hash=False)
    class_thresholds: Mapping[str, float] | None = field(default=None, kw_only=True, hash=False)
    audit_share: float = field(default=0.0, kw_only=True)
    audit_salt: str = field(default="", kw_only=True)
    on_calibrator_error: Literal["abstain", "raw"] = field(default="abstain", kw_only=True)
    certificate: Certificate | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_choice(self.on_calibrator_error, "on_calibrator_error", _ON_ERROR)
        check_text(self.audit_salt, "audit_salt")
        for name in ("threshold", "audit_share"):
            object.__setattr__(self, name, check_unit_interval(getattr(self, name), name))
        for name in ("segment_thresholds", "class_thresholds"):
            object.__setattr__(self, name, check_thresholds(getattr(self, name), name))
        if self.certificate is not None:
            _check_certified(self, self.certificate)

    @classmethod
    def certify(
        cls,
        confidence: ArrayLike,
        correct: ArrayLike,
        *,
        max_risk: float,
        delta: float = 0.05,
        predicted: ArrayLike | None = None,
        classes: Sequence[Any] | None = None,
        calibrator_revision: str | None = None,
        predictions_per_day: float | None = None,
        reviews_per_day: float | None = None,
    ) -> AbstainPolicy:
        """The loosest threshold for which these rows show that answers are wrong at most at the rate `max_risk`.

        The rows must be new to model and calibrator (neither was fitted on them), drawn like the cases to come, and
        scored as those will be. There are no sample weights: the bound counts errors among exchangeable rows, and a
        weighted row is not one.

        Parameters
        ----------
        confidence : array-like of shape (n,)
            Calibrated probability of the predicted label, in [0, 1].
        correct : array-like of shape (n,)
            1 where the predicted label was right, else 0.
        max_risk : float
            Limit of the error rate of answered cases, in (0, 1).
        delta : float, default=0.05
            The chance of granting a certificate that does not hold, in (0, 1).
        predicted : array-like of shape (n,), optional
            The predicted label of each row: then each class gets a threshold of its own, and the limit holds for each.
            A class without a certificate is withheld throughout.
        classes : sequence, optional
            All labels that can be predicted; by default those that were.
        calibrator_revision : str, optional
            Kept with the certificate: the calibrator it is about.
        predictions_per_day, reviews_per_day : float, optional
            The traffic that is expected and the number of reviews there is room for: the certificate then says how many
            reviews it takes and whether they are too many.

        Returns
        -------
        AbstainPolicy
            With ``certificate``. Where that is not granted, the policy answers nothing.

        Raises
        ------
        InvalidInputError
            For arrays that cannot be used, limits outside (0, 1), or predicted labels that are not among `classes`.

        Notes
        -----
        Fixed-sequence testing, an instance of Learn then Test. Some 60 thresholds, which depend on the confidences but
        not on which answers are right, go from strict to loose in equal steps of rows, from a tenth of the rows (and
        at least ``2 ceil(ln(delta) / ln(1 - max_risk))``) to all. At each, whole tie groups counted, the hypothesis of
        an error rate above `max_risk` is rejected where Clopper and Pearson's upper bound at level ``1 - delta`` is at
        most `max_risk`. The first that is not rejected ends it, so `delta` is spent once. The tests of K classes take
        ``delta / K`` each.

        References
        ----------
        Angelopoulos, Bates, Candès, Jordan and Lei (2021), "Learn then Test: Calibrating Predictive Algorithms to
        Achieve Risk Control", arXiv 2110.01052. Geifman and El-Yaniv (2017), "Selective Classification for Deep Neural
        Networks", NeurIPS.

        Examples
        --------
        >>> confidence = [0.95] * 700 + [0.6] * 300
        >>> correct = [1] * 660 + [0] * 40 + [1, 0] * 150
        >>> policy = AbstainPolicy.certify(confidence, correct, max_risk=0.1)
        >>> policy.threshold, policy.certificate.coverage
        (0.95, 0.7)
        >>> refused = AbstainPolicy.certify(confidence, correct, max_risk=0.01)
        >>> refused.certificate.granted, refused.apply([0.99])
        (False, array([ True]))
        """
        conf, right = check_scores(confidence, "confidence"), check_binary_labels(correct, "correct")
        check_same_length(confidence=conf, correct=right)
        risk = check_unit_interval(max_risk, "max_risk", open_ends=True)
        chance = check_unit_interval(delta, "delta", open_ends=True)
        stated = {
            "calibrator_revision": calibrator_revision,
            "predictions_per_day": predictions_per_day,
            "reviews_per_day": reviews_per_day,
        }
        if predicted is None:
            if classes is not None:
                raise InvalidInputError("classes goes with predicted, got no predicted.")
            certificate = certify_all(surest_first(conf, right), risk, chance, stated)
            return cls(certificate.threshold, certificate=certificate)
        labels = label_texts(predicted, conf.size)
        names = class_names(classes, labels)
        certificate = certify_classes(conf, right, labels, names, risk, chance, stated)
        parts = certificate.classes or {}
        own = {name: part.threshold for name, part in parts.items()}
        return cls(certificate.threshold, class_thresholds=own, certificate=certificate)

    @classmethod
    def for_capacity(
        cls, confidence: ArrayLike, *, reviews_per_day: float, predictions_per_day: float, delta: float = 0.05
    ) -> AbstainPolicy:
        """The strictest threshold that does not send more predictions to review than there is room for.

        Parameters
        ----------
        confidence : array-like of shape (n,)
            Confidences of predictions like those to come, in [0, 1]; no labels are needed.
        reviews_per_day, predictions_per_day : float
            How many can be reviewed, of how many; the second more than 0.
        delta : float, default=0.05
            The chance, over the draw of these rows, that more than that share of predictions is withheld in the long
            run, in (0, 1). A single day still varies around its mean.

        Returns
        -------
        AbstainPolicy
            Its threshold is a confidence of these rows: the greatest k-th smallest of n with
            ``P(Binomial(n, reviews_per_day / predictions_per_day) < k) <= delta``; 0 where there is none, 1 where all
            can be reviewed.

        Raises
        ------
        InvalidInputError
            For confidences outside [0, 1], negative numbers, or no predictions.

        References
        ----------
        Wilks (1941), "Determination of Sample Sizes for Setting Tolerance Limits", Annals of Mathematical Statistics.

        Examples
        --------
        >>> confidence = [k / 1000 for k in range(500, 1000)]
        >>> AbstainPolicy.for_capacity(confidence, reviews_per_day=80, predictions_per_day=400).threshold
        0.584
        """
        conf = check_scores(confidence, "confidence")
        chance = check_unit_interval(delta, "delta", open_ends=True)
        per_day = check_at_least(predictions_per_day, "predictions_per_day", 0.0)
        if per_day == 0.0:
            raise InvalidInputError("predictions_per_day must be more than 0, got 0.")
        rate = check_at_least(reviews_per_day, "reviews_per_day", 0.0) / per_day
        return cls(capacity_threshold(conf, rate, chance))

    @classmethod
    def from_costs(
        cls,
        *,
        review: float,
        error: float | None = None,
        false_positive: float | None = None,
        false_negative: float | None = None,
        classes: Sequence[Any] = (0, 1),
    ) -> AbstainPolicy:
        """Withhold where a review costs less than the error that is to be expected (Chow's rule).

        Right as far as confidences are calibrated: an answer of confidence c is wrong with chance 1 - c.

        Parameters
        ----------
        review : float
            Cost of one review, at least 0, in any unit.
        error : float, optional
            Cost of one wrong answer, whichever class was predicted.
        false_positive, false_negative : float, optional
            In place of `error`, with two classes: the cost of a wrong answer where the second of `classes` was
            predicted, and where the first was.
        classes : sequence of two labels, default=(0, 1)
            The negative and the positive class of `false_positive` and `false_negative`.

        Returns
        -------
        AbstainPolicy
            Threshold ``1 - review / error``, at least 0; or one such threshold for each class.

        Raises
        ------
        InvalidInputError
            For negative costs, or when not either `error` or both others are given.

        Notes
        -----
        The label is fixed beforehand: positive where its probability p exceeds 1/2. So a positive answer is withheld
        where ``review < (1 - p) false_positive``, and a negative one where ``review < p false_negative``. Where reviews
        cost at most half of either error that is ``review < min(p false_negative, (1 - p) false_positive)``.

        References
        ----------
        Chow (1970), "On Optimum Recognition Error and Reject Tradeoff", IEEE Transactions on Information Theory.

        Examples
        --------
        >>> AbstainPolicy.from_costs(review=5, error=50).threshold
        0.9
        >>> AbstainPolicy.from_costs(review=5, false_positive=20, false_negative=100).class_thresholds
        {'0': 0.95, '1': 0.75}
        """
        cost = check_at_least(review, "review", 0.0)
        if (error is None) == (false_positive is None) or (false_positive is None) != (false_negative is None):
            raise InvalidInputError(
                "from_costs needs either error or both false_positive and false_negative, got "
                f"error={error!r}, false_positive={false_positive!r}, false_negative={false_negative!r}."
            )
        if error is not None:
            return cls(cost_threshold(cost, check_at_least(error, "error", 0.0)))
        negative, positive = check_class_names(classes, 2)
        own = {
            negative: cost_threshold(cost, check_at_least(false_negative, "false_negative", 0.0)),
            positive: cost_threshold(cost, check_at_least(false_positive, "false_positive", 0.0)),
        }
        return cls(max(own.values()), class_thresholds=own)

    def apply(
        self, confidence: ArrayLike, *, segment: Any = None, predicted: Any = None, threshold: float | None = None
    ) -> NDArray[np.bool_]:
        """Which predictions are withheld.

        Parameters
        ----------
        confidence : array-like of shape (n,)
            Calibrated probability of the predicted label; NaN (no confidence is known) is withheld. `n` may be 0.
        segment : str or array-like of shape (n,), optional
            The segment of all rows, or of each row; unknown and missing ones have no threshold of their own.
        predicted : label or array-like of shape (n,), optional
            The predicted label of all rows, or of each row; needed where the policy has thresholds for classes.
        threshold : float, optional
            Used for every row in place of the policy's thresholds, those of segments and classes and a certificate that
            was not granted included.

        Returns
        -------
        ndarray of shape (n,), bool
            True where the prediction is withheld.

        Raises
        ------
        InvalidInputError
            For confidences that are no numbers, segments or labels of another length, labels that are needed and not
            given, or a threshold outside [0, 1].
        """
        conf = check_confidence(confidence)
        if threshold is None:
            limit = self._limit(segment, predicted, conf.size)
        else:
            limit = check_unit_interval(threshold, "threshold")
        # Not conf < limit: a NaN must come out withheld.
        return np.logical_not(conf >= limit)

    def audit(self, ids: Any) -> NDArray[np.bool_]:
        """Which predictions are drawn for an audit: a random `audit_share` of all ids, whatever their confidence.

        The draw depends on the text of the id and on `audit_salt` alone: it is the same on every machine and however
        often it is asked for, and who changes the threshold does not change it. Label those that are answered too.

        Parameters
        ----------
        ids : array-like of shape (n,)
            Prediction ids, read as text; none missing.

        Returns
        -------
        ndarray of shape (n,), bool

        Raises
        ------
        InvalidInputError
            When ids are missing or no column.

        Examples
        --------
        >>> policy = AbstainPolicy(0.7, audit_share=0.05)
        >>> bool(policy.audit([f"case-{k}" for k in range(10_000)]).mean().round(2) == 0.05)
        True
        """
        column = check_no_missing(check_column(ids, "ids", np.size(ids)), "ids")
        return drawn(column, self.audit_share, self.audit_salt)

    def suspended(self, reason: str) -> AbstainPolicy:
        """The same policy, its certificate (if it has one) marked as no longer holding.

        Thresholds stay as they are, and what was withheld for want of a certificate stays withheld.

        Parameters
        ----------
        reason : str
            Why, in words that follow "suspended:", such as "the calibrator was refitted".
        """
        if self.certificate is None:
            return self
        return replace(self, certificate=replace(self.certificate, suspended=check_text(reason, "reason")))

    def _limit(self, segment: Any, predicted: Any, n: int) -> float | FloatArray:
        limit = np.fmax(self._segment_limit(segment, n), self._class_limit(predicted, n))
        certificate = self.certificate
        # What no certificate speaks of is not answered.
        other = self.threshold if certificate is None or _certifies_all(certificate) else _NEVER
        return np.where(np.isnan(limit), other, limit)

    def _segment_limit(self, segment: Any, n: int) -> float | FloatArray:
        thresholds: Mapping[Any, float] = self.segment_thresholds or {}
        if segment is None or isinstance(segment, str):
            return thresholds.get(segment, np.nan)
        return thresholds_of(check_segment(segment, n), thresholds)

    def _class_limit(self, predicted: Any, n: int) -> float | FloatArray:
        if self.class_thresholds is None:
            return np.nan
        if predicted is None:
            raise InvalidInputError(
                f"predicted must be given: the policy has thresholds for {', '.join(self.class_thresholds)}."
            )
        thresholds = dict(self.class_thresholds)
        if self.certificate is not None and self.certificate.classes is not None:
            refused = [name for name, part in self.certificate.classes.items() if not part.granted]
            thresholds.update(dict.fromkeys(refused, _NEVER))
        if np.ndim(predicted) == 0:
            return thresholds.get(str(predicted), np.nan)
        return thresholds_of(check_column(predicted, "predicted", n), thresholds)

    def to_dict(self) -> dict[str, Any]:
        """The policy as plain JSON values.

        Examples
        --------
        >>> state = AbstainPolicy(0.7).to_dict()
        >>> {key: value for key, value in state.items() if value is not None}
        {'format_version': 2, 'threshold': 0.7, 'audit_share': 0.0, 'audit_salt': '', 'on_calibrator_error': 'abstain'}
        """
        return {
            "format_version": FORMAT_VERSION,
            "threshold": self.threshold,
            "segment_thresholds": None if self.segment_thresholds is None else dict(self.segment_thresholds),
            "class_thresholds": None if self.class_thresholds is None else dict(self.class_thresholds),
            "audit_share": self.audit_share,
            "audit_salt": self.audit_salt,
            "on_calibrator_error": self.on_calibrator_error,
            "certificate": None if self.certificate is None else self.certificate.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> AbstainPolicy:
        """The policy that :meth:`to_dict` wrote, in this format version or the one before.

        Raises
        ------
        StateError
            When `state` is no mapping, has another format version, or holds a value that no policy can have.
        ConfigError
            When it holds an unknown key.
        """
        if not isinstance(state, Mapping):
            raise StateError(f"An abstain policy must be read from a mapping, got a {type(state).__name__}.")
        version = state.get("format_version")
        if type(version) is not int or version not in (1, FORMAT_VERSION):
            raise StateError(f"An abstain policy must have format_version 1 or {FORMAT_VERSION}, got {version!r}.")
        values = {key: value for key, value in state.items() if key != "format_version"}
        check_known_keys(values, _KEYS_OF_1 if version == 1 else _KEYS, "abstain policy")
        certificate = values.get("certificate")
        if certificate is not None:
            values["certificate"] = Certificate.from_dict(certificate)
        try:
            return cls(**values)
        except InvalidInputError as error:
            raise StateError(f"An abstain policy cannot be read: {error}") from error


def _certifies_all(certificate: Certificate) -> bool:
    return certificate.granted and certificate.classes is None


def _check_certified(policy: AbstainPolicy, certificate: Certificate) -> None:
    if not isinstance(certificate, Certificate):
        raise InvalidInputError(f"certificate must be a Certificate, got a {type(certificate).__name__}.")
    parts = certificate.classes
    own = None if parts is None else {name: part.threshold for name, part in parts.items()}
    certified = (certificate.threshold, None, own)
    given = (policy.threshold, policy.segment_thresholds, policy.class_thresholds)
    for name, wanted, got in zip(
        ("threshold", "segment_thresholds", "class_thresholds"), certified, given, strict=True
    ):
        if wanted != got:
            raise InvalidInputError(
                f"{name} must be what the certificate is about, {wanted}, got {got}; with certificate=None it is free."
            )

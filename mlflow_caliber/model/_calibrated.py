"""A calibrated model: a frozen scorer, a calibrator that can be refitted, and an abstain policy.

The prediction frame is made here and nowhere else. Its columns are the contract that the pyfunc output, the store and
the API share: fixed order, fixed dtypes, never a missing value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from mlflow_caliber._validation import (
    FloatArray,
    check_probability_matrix,
    check_segment,
    check_unit_interval,
    row_count,
)
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.calibrators import Calibrator, MulticlassCalibrator, make_calibrator
from mlflow_caliber.exceptions import CaliberError, InvalidInputError

__all__ = [
    "FRAME_COLUMNS",
    "REASONS",
    "UNCALIBRATED",
    "CalibratedModel",
    "Calibrates",
    "Scorer",
    "check_pos_label",
    "encode_labels",
    "fit_calibrator",
    "is_unfitted",
]

FRAME_COLUMNS = (
    "prediction",
    "probability",
    "raw_probability",
    "confidence",
    "abstained",
    "reason",
    "prediction_id",
    "calibrator_revision",
)
"""Columns of the prediction frame; with more than two classes ``probabilities`` follows."""

REASONS: Mapping[str, str] = {
    "": "not abstained",
    "low_confidence": "the calibrated probability of the predicted label is below the policy's threshold for it, or no "
    "certificate was granted",
    "unscorable_row": "the base model has no score for this row; the answer is the most frequent class",
    "calibrator_unavailable": "the calibrator could not be loaded or applied; the answer rests on the raw score",
    "policy_unavailable": "the abstain policy could not be loaded, so nothing may be answered",
}
"""Why a prediction was withheld: the values of the column ``reason``."""

UNCALIBRATED = "uncalibrated"
"""The ``calibrator_revision`` of an answer that no calibrator has touched."""


class Scorer(Protocol):
    """What a base model has to offer: class probabilities, in the order of ``classes_``."""

    @property
    def classes_(self) -> NDArray[Any]:
        """Class labels."""

    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities of shape (n, K); rows that have no score are NaN."""


class Calibrates(Protocol):
    """Anything that maps scores to probabilities and can be written down."""

    def predict(self, scores: ArrayLike) -> FloatArray:
        """Probabilities of the shape of ``scores``."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state."""


def encode_labels(y: ArrayLike, classes: NDArray[Any], name: str = "y") -> NDArray[np.intp]:
    """Positions of the labels ``y`` in ``classes``.

    Raises
    ------
    InvalidInputError
        When a label is missing or is not among ``classes``.

    Examples
    --------
    >>> encode_labels(["no", "yes", "no"], np.array(["no", "yes"]))
    array([0, 1, 0])
    """
    labels = pd.Index(np.asarray(y, dtype=object).ravel())
    codes = pd.Index(np.asarray(classes, dtype=object)).get_indexer(labels)
    if (codes < 0).any():
        stranger = labels[int(np.argmax(codes < 0))]
        known = ", ".join(repr(_plain(label)) for label in classes[:10])
        raise InvalidInputError(f"{name} must hold the model's classes ({known}), got {_plain(stranger)!r}.")
    return np.asarray(codes, dtype=np.intp)


def check_pos_label(pos_label: Any, classes: NDArray[Any]) -> int:
    """Position of the positive class; the second of two when nothing is said, as in scikit-learn."""
    if pos_label is None:
        return 1
    if len(classes) != 2:
        raise InvalidInputError(f"pos_label is for two classes, got {len(classes)} classes.")
    return int(encode_labels([pos_label], classes, "pos_label")[0])


def fit_calibrator(
    method: str | Calibrates,
    proba: FloatArray,
    codes: NDArray[np.intp],
    pos_index: int,
    sample_weight: Any = None,
    *,
    segment: Any = None,
) -> Calibrates:
    """Fit a calibrator on raw class probabilities; one that is fitted already is returned as it is.

    Parameters
    ----------
    method : str or calibrator
        A name that :func:`mlflow_caliber.calibrators.make_calibrator` knows, for more than two classes one that
        :class:`mlflow_caliber.calibrators.MulticlassCalibrator` knows, or a calibrator. One that is not fitted is
        copied, and the copy fitted.
    proba : array of shape (n, K)
        Raw probabilities of the base model, in the order of its classes.
    codes : array of shape (n,)
        Class positions of the true labels.
    pos_index : int
        Position of the positive class; unused when K > 2.
    sample_weight : array of shape (n,), optional
        Weights, read as repeated rows.
    segment : array of shape (n,), optional
        The segment of each row, for a calibrator that uses it.
    """
    many = proba.shape[1] > 2
    if isinstance(method, str):
        method = MulticlassCalibrator(method=method) if many else make_calibrator(method)
    if not is_unfitted(method):
        return method
    if many != isinstance(method, MulticlassCalibrator):
        wanted = "a MulticlassCalibrator" if many else "a calibrator for two classes"
        raise InvalidInputError(f"{proba.shape[1]} classes need {wanted}, got {type(method).__name__}.")
    calibrator: Any = clone(method)
    asked = _asked(calibrator, segment)
    if asked and segment is None:
        raise InvalidInputError(
            f"The {calibrator.name} calibrator needs the segment of each row: name its column by segment_column=."
        )
    if many:
        return calibrator.fit(proba, codes, sample_weight, **asked)  # type: ignore[no-any-return]
    positive = (codes == pos_index).astype(np.float64)
    return calibrator.fit(proba[:, pos_index], positive, sample_weight, **asked)  # type: ignore[no-any-return]


def is_unfitted(calibrator: Any) -> bool:
    """Whether it is one of ours that has seen no data; of foreign ones only ``predict`` is known."""
    if not isinstance(calibrator, Calibrator | MulticlassCalibrator):
        return False
    try:
        check_is_fitted(calibrator)
    except NotFittedError:
        return True
    return False


def _asked(calibrator: Any, segment: Any) -> dict[str, Any]:
    """What a calibrator wants to know of the rows beside their scores."""
    return {"segment": segment} if getattr(calibrator, "uses_segment", False) else {}


@dataclass(frozen=True)
class CalibratedModel:
    """Base model, calibrator and abstain policy as one predictor.

    Parameters
    ----------
    scorer : Scorer
        The frozen base model: anything with ``classes_`` and ``predict_proba``.
    calibrator : calibrator or None
        Fitted; for more than two classes it maps (n, K) matrices. None means that it could not be loaded: answers rest
        on the raw score and ``policy.on_calibrator_error`` says whether they are withheld.
    policy : AbstainPolicy or None
        None means that it could not be loaded: every answer is withheld.
    pos_label : label, optional
        The positive class of a binary model; by default the second of ``classes_``.
    revision : str
        Name of the calibrator's state, repeated in every prediction.
    class_prior : sequence of K floats, optional
        Class frequencies, the answer for a row that the base model cannot score; uniform by default.
    segment_column : str, optional
        Column of the input that names each row's segment, for the policy's segment thresholds and for a segmented
        calibrator.
    profile : mapping, optional
        Profile of the calibration rows (:func:`mlflow_caliber.drift.feature_profile` of :meth:`profiled`), which drift
        can be measured against.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from mlflow_caliber.abstain import AbstainPolicy
    >>> from mlflow_caliber.calibrators import make_calibrator
    >>> X, y = np.arange(8.0).reshape(-1, 1), np.array([0, 0, 0, 1, 0, 1, 1, 1])
    >>> base = LogisticRegression().fit(X, y)
    >>> isotonic = make_calibrator("isotonic").fit(base.predict_proba(X)[:, 1], y)
    >>> model = CalibratedModel(base, isotonic, AbstainPolicy(threshold=0.6), revision="r1")
    >>> model.predict_frame(X[[0, 3, 7]])[["prediction", "probability", "abstained", "reason"]]
       prediction  probability  abstained          reason
    0           0          0.0      False
    1           0          0.5       True  low_confidence
    2           1          1.0      False
    """

    scorer: Scorer
    calibrator: Calibrates | None
    policy: AbstainPolicy | None = field(default_factory=AbstainPolicy)
    pos_label: Any = None
    revision: str = ""
    class_prior: Sequence[float] | None = None
    segment_column: str | None = None
    profile: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_pos_label(self.pos_label, self.classes_)

    @cached_property
    def classes_(self) -> NDArray[Any]:
        """Class labels, in the order of the probability columns."""
        return np.asarray(self.scorer.classes_)

    @cached_property
    def pos_index(self) -> int:
        """Position of the positive class (binary models)."""
        return check_pos_label(self.pos_label, self.classes_)

    def with_calibrator(self, calibrator: Calibrates, revision: str) -> CalibratedModel:
        """The same base and policy behind another calibrator."""
        return replace(self, calibrator=calibrator, revision=revision)

    def raw_proba(self, X: Any) -> FloatArray:
        """The base model's class probabilities, shape (n, K); rows without a score hold NaN."""
        return _score(self.scorer, self._features(X))

    def calibrate(self, raw: FloatArray, segment: Any = None) -> FloatArray:
        """Calibrated class probabilities of raw ones, both of shape (n, K).

        ``segment``, that of all rows or of each (:meth:`segments_of`), only matters to a segmented calibrator.
        """
        if self.calibrator is None or len(raw) == 0:
            return raw
        asked = _asked(self.calibrator, segment)
        if raw.shape[1] > 2:
            return np.asarray(self.calibrator.predict(raw, **asked), dtype=np.float64)
        positive = np.asarray(self.calibrator.predict(raw[:, self.pos_index], **asked), dtype=np.float64)
        columns = (1.0 - positive, positive) if self.pos_index == 1 else (positive, 1.0 - positive)
        return np.column_stack(columns)

    def profiled(self, X: Any, raw: FloatArray) -> pd.DataFrame:
        """Features and raw scores (``score:<label>``) as one table; features that are no table are left out."""
        table = isinstance(X, pd.DataFrame) or (isinstance(X, np.ndarray) and X.ndim == 2)
        frame = pd.DataFrame(X).rename(columns=str) if table else pd.DataFrame(index=range(len(raw)))
        shown = [self.pos_index] if raw.shape[1] == 2 else range(raw.shape[1])
        return frame.assign(**{f"score:{self.classes_[k]}": raw[:, k] for k in shown})

    def predict_proba(self, X: Any, *, segment: Any = None) -> FloatArray:
        """Calibrated class probabilities, shape (n, K), in the order of ``classes_``; the prior for unscorable rows."""
        raw, unscorable = self._fill(self.raw_proba(X))
        return self._fill(self.calibrate(raw, self.segments_of(X, segment)), unscorable)[0]

    def predict(self, X: Any, *, segment: Any = None) -> NDArray[Any]:
        """The best guess for each row, whether the policy would withhold it or not."""
        return np.asarray(self.classes_[self.best_guess(self.predict_proba(X, segment=segment))])

    def predict_frame(
        self,
        X: Any,
        *,
        segment: Any = None,
        abstain_threshold: float | None = None,
        prediction_id: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """The prediction frame: one row a prediction, columns :data:`FRAME_COLUMNS`.

        Parameters
        ----------
        X : DataFrame or array of shape (n, d)
            Features, as the base model wants them.
        segment : str or array of shape (n,), optional
            Segment of the rows; by default read from ``segment_column``.
        abstain_threshold : float in [0, 1], optional
            Replaces the policy's thresholds for this call.
        prediction_id : sequence of n str, optional
            One id a row; empty strings when not given.

        Returns
        -------
        DataFrame
            ``probability`` and ``raw_probability`` speak of the positive class of a binary model and of the predicted
            class when there are more; ``confidence`` is the calibrated probability of the predicted label.

        Raises
        ------
        InvalidInputError
            For a threshold outside [0, 1] or rows that the base model refuses altogether.
        """
        threshold = None if abstain_threshold is None else check_unit_interval(abstain_threshold, "abstain_threshold")
        segments = self.segments_of(X, segment)
        raw, unscorable = self._fill(self.raw_proba(X))
        calibrated, calibrator_failed = self._calibrate_or_raw(raw, segments)
        calibrated, _ = self._fill(calibrated, unscorable)
        best = self.best_guess(calibrated)
        rows = np.arange(len(best))
        confidence = calibrated[rows, best]
        binary = calibrated.shape[1] == 2
        shown = np.full_like(best, self.pos_index) if binary else best
        labels = self.classes_[best]
        asked = {"segment": segments, "predicted": labels, "threshold": threshold}
        reason = self._reasons(confidence, unscorable, calibrator_failed, asked)
        index = pd.RangeIndex(len(best))  # one for all columns, or pandas spends its time on aligning them
        columns: dict[str, Any] = {
            "prediction": _text(labels.tolist(), index) if labels.dtype.kind in "OUS" else labels,
            "probability": calibrated[rows, shown],
            "raw_probability": raw[rows, shown],
            "confidence": confidence,
            "abstained": reason != "",
            "reason": _text(reason, index),
            "prediction_id": _text([""] * len(best) if prediction_id is None else prediction_id, index),
            "calibrator_revision": _text([UNCALIBRATED if calibrator_failed else self.revision] * len(best), index),
        }
        if not binary:
            columns["probabilities"] = _text(calibrated.tolist(), index)
        return pd.DataFrame(columns, index=index)

    def best_guess(self, proba: FloatArray) -> NDArray[np.intp]:
        """Class positions of the most probable class of each row."""
        if proba.shape[1] > 2:
            return np.asarray(proba.argmax(axis=1), dtype=np.intp)
        # One rule for two classes everywhere: positive only when its probability exceeds one half.
        positive = proba[:, self.pos_index] > 0.5
        return np.where(positive, self.pos_index, 1 - self.pos_index).astype(np.intp)

    def _features(self, X: Any) -> Any:
        """The input without the segment column, when there is one column more than the base model was fitted on."""
        column = self.segment_column
        if column is None or not isinstance(X, pd.DataFrame) or column not in X.columns:
            return X
        n_features = getattr(self.scorer, "n_features_in_", None)
        return X.drop(columns=column) if n_features == X.shape[1] - 1 else X

    def _fill(
        self, proba: FloatArray, unscorable: NDArray[np.bool_] | None = None
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Give rows without a score the class prior, and say which they are."""
        if unscorable is None:
            unscorable = np.logical_not(np.isfinite(proba).all(axis=1))
        if not unscorable.any():
            return proba, unscorable
        n_classes = proba.shape[1]
        prior = np.full(n_classes, 1.0 / n_classes) if self.class_prior is None else np.asarray(self.class_prior)
        return np.where(unscorable[:, None], prior, proba), unscorable

    def _calibrate_or_raw(self, raw: FloatArray, segment: Any) -> tuple[FloatArray, bool]:
        if self.calibrator is None:
            return raw, True
        try:
            calibrated = self.calibrate(raw, segment)
        except Exception:  # whatever a calibrator does wrong, a prediction is still owed
            return raw, True
        sound = calibrated.shape == raw.shape and bool(np.isfinite(calibrated).all())
        return (calibrated, False) if sound else (raw, True)

    def segments_of(self, X: Any, segment: Any = None) -> Any:
        """The segment of each row: the given one, else what ``segment_column`` holds, else None."""
        if segment is not None:
            return segment if isinstance(segment, str) else check_segment(segment, row_count(X))
        column = self.segment_column
        if column is None or not isinstance(X, pd.DataFrame) or column not in X.columns:
            return None
        return check_segment(X[column], row_count(X))

    def _reasons(
        self,
        confidence: FloatArray,
        unscorable: NDArray[np.bool_],
        calibrator_failed: bool,
        asked: Mapping[str, Any],
    ) -> NDArray[Any]:
        reason = np.full(len(confidence), "", dtype=object)
        if self.policy is None:
            reason[:] = "policy_unavailable"
            return reason
        reason[self.policy.apply(confidence, **asked)] = "low_confidence"
        if calibrator_failed and self.policy.on_calibrator_error == "abstain":
            reason[:] = "calibrator_unavailable"
        reason[unscorable] = "unscorable_row"
        return reason


def _score(scorer: Scorer, X: Any) -> FloatArray:
    """Score all rows; if the model refuses, find the rows whose missing values it cannot take and leave them NaN."""
    n_classes = len(scorer.classes_)
    n_rows = row_count(X)
    if n_rows == 0:
        return np.empty((0, n_classes))
    try:
        proba = scorer.predict_proba(X)
    except CaliberError:
        raise
    except Exception as error:  # every library has errors of its own
        table = isinstance(X, pd.DataFrame | np.ndarray) and X.ndim == 2
        missing: NDArray[np.bool_] = pd.DataFrame(X).isna().to_numpy() if table else np.zeros((n_rows, 1), dtype=bool)
        if not missing.any():
            # The base model's own words may quote data, so they travel as the cause and not in the sentence.
            raise InvalidInputError(
                f"The base model could not score these {n_rows} rows ({type(error).__name__}); "
                "send the columns and types of its signature."
            ) from error
        return _score_by_pattern(scorer, X, missing)
    return _checked(proba, n_classes)


def _score_by_pattern(scorer: Scorer, X: Any, missing: NDArray[np.bool_]) -> FloatArray:
    """Score rows with the same columns missing together, so that no row's answer depends on its company."""
    result = np.full((len(missing), len(scorer.classes_)), np.nan)
    patterns, which = np.unique(missing, axis=0, return_inverse=True)
    for k, pattern in enumerate(patterns):
        rows = which.ravel() == k
        if not pattern.any():
            result[rows] = _score(scorer, X[rows])
            continue
        with contextlib.suppress(Exception):  # these missing values are what the model cannot take
            result[rows] = _checked(scorer.predict_proba(X[rows]), result.shape[1])
    return result


def _checked(proba: Any, n_classes: int) -> FloatArray:
    """Probabilities as ``float64`` rows that sum to one; rows with NaN stay NaN."""
    matrix = np.asarray(proba, dtype=np.float64)
    if matrix.ndim != 2:
        raise InvalidInputError(f"The base model must give probabilities of shape (n, K), got shape {matrix.shape}.")
    finite = np.isfinite(matrix).all(axis=1)
    result = np.full_like(matrix, np.nan)
    if finite.any():
        # float32 models overshoot by rounding; more than that is no probability.
        rounded = np.where(np.abs(matrix - matrix.clip(0.0, 1.0)) < 1e-5, matrix.clip(0.0, 1.0), matrix)
        result[finite] = check_probability_matrix(rounded[finite], "base model's probabilities", n_classes=n_classes)
    return result


def _text(values: Sequence[Any] | NDArray[Any], index: pd.Index[Any]) -> pd.Series[Any]:
    # One dtype under pandas 2 and 3; the string dtype of pandas 3 takes six times as long to become JSON.
    return pd.Series(values, dtype=object, index=index)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value

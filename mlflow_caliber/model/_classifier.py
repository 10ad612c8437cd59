"""CaliberClassifier: a calibrated model with scikit-learn's manners."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import check_cv
from sklearn.utils import Tags, assert_all_finite, check_consistent_length, column_or_1d, get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from mlflow_caliber._validation import FloatArray, check_count, check_weights
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.calibrators import SegmentedCalibrator
from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.model._calibrated import CalibratedModel, encode_labels, fit_calibrator

__all__ = ["CaliberClassifier"]


class CaliberClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier whose probabilities are calibrated and whose doubtful answers are marked.

    An unfitted estimator is fitted on all rows, and its calibrator on out-of-fold scores, so that no row is scored by a
    model that has seen it. A fitted one wrapped in :class:`sklearn.frozen.FrozenEstimator` is left alone and only the
    calibrator is fitted. Folds follow from the content of the rows, not from their order: equal rows share a fold, and
    so weights act exactly as repeated rows.

    Parameters
    ----------
    estimator : classifier, default LogisticRegression()
        Anything with ``predict_proba``.
    method : str, default "auto"
        Name of the calibrator, see :func:`mlflow_caliber.calibrators.make_calibrator`.
    cv : int >= 2, or splitter or iterable of (train, test), default 5
        Number of folds for the out-of-fold scores, lowered to the size of the smallest class; or scikit-learn's splits,
        such as ``TimeSeriesSplit``, whose test parts must not overlap. Rows in none of them do not calibrate.
    abstain_threshold : float in [0, 1], default 0.0
        Predictions of a lower calibrated confidence are marked by :meth:`abstains`.

    Attributes
    ----------
    classes_ : array of shape (K,)
        Class labels.
    estimator_ : classifier
        The base model, fitted on all rows (or the frozen one).
    calibrated_model_ : CalibratedModel
        What :func:`mlflow_caliber.save_model` saves.
    n_features_in_ : int
        Number of features seen in ``fit``.

    Raises
    ------
    InvalidInputError
        From ``fit``, for one class only, or a class with a single row.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(n_samples=400, random_state=0)
    >>> model = CaliberClassifier(method="isotonic", abstain_threshold=0.9).fit(X, y)
    >>> model.predict_proba(X[:2]).shape
    (2, 2)
    >>> bool(model.abstains(X).mean() < 0.5)
    True
    """

    def __init__(
        self, estimator: Any = None, *, method: str = "auto", cv: Any = 5, abstain_threshold: float = 0.0
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.cv = cv
        self.abstain_threshold = abstain_threshold

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> CaliberClassifier:
        """Fit the base model (unless it is frozen) and the calibrator.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
            Features.
        y : array of shape (n,)
            Labels of any type.
        sample_weight : array of shape (n,), optional
            Weights, read as repeated rows; rows of weight 0 are left out.
        """
        if self.method == SegmentedCalibrator.name:
            raise InvalidInputError(
                "CaliberClassifier knows no segments, got method='segmented': fit the base model and save it with "
                "save_model(..., calibrator='segmented', segment_column=...)."
            )
        if y is None:
            raise ValueError("This CaliberClassifier estimator requires y to be passed, but the target y is None.")
        X, labels, weights = self._checked(X, y, sample_weight)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise OneClassError(
                f"CaliberClassifier needs at least 2 classes, got {len(self.classes_)} class in {len(labels)} rows."
            )
        base = LogisticRegression() if self.estimator is None else self.estimator
        if isinstance(base, FrozenEstimator):
            self.estimator_ = base
            self.classes_ = np.asarray(base.classes_)
            scores = np.asarray(base.predict_proba(X), dtype=np.float64)
        else:
            # First on all rows: what the base does not take, it says here in its own words.
            self.estimator_ = _fit(base, X, labels, weights)
            scores = _out_of_fold(base, X, labels, weights, self.cv)
        self.calibrated_model_ = self._calibrated(scores, encode_labels(labels, self.classes_), weights)
        return self

    def _checked(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[Any, NDArray[Any], FloatArray | None]:
        """Rows, labels and weights that can be indexed; what X holds is for the base model to judge."""
        validate_data(self, X=X, y=y, skip_check_array=True)
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        if sparse.issparse(X):
            X = X.tocsr()  # type: ignore[attr-defined]  # every sparse format has it
        elif not hasattr(X, "iloc"):
            X = np.asarray(X)
        check_consistent_length(X, labels)
        return X, labels, check_weights(sample_weight, len(labels))

    def _calibrated(self, scores: FloatArray, codes: NDArray[np.intp], weights: FloatArray | None) -> CalibratedModel:
        used = np.isfinite(scores).all(axis=1)
        weights = np.ones(len(codes)) if weights is None else weights
        return CalibratedModel(
            scorer=self.estimator_,
            calibrator=fit_calibrator(self.method, scores[used], codes[used], 1, weights[used]),
            policy=AbstainPolicy(threshold=self.abstain_threshold),
            revision=self.method,
            class_prior=tuple(np.bincount(codes, weights, minlength=len(self.classes_)) / weights.sum()),
        )

    def predict_proba(self, X: Any) -> FloatArray:
        """Calibrated class probabilities, shape (n, K), in the order of ``classes_``."""
        check_is_fitted(self)
        return self.calibrated_model_.calibrate(np.asarray(self.estimator_.predict_proba(X), dtype=np.float64))

    def predict(self, X: Any) -> NDArray[Any]:
        """The best guess for each row, withheld or not."""
        proba = self.predict_proba(X)
        return np.asarray(self.classes_[self.calibrated_model_.best_guess(proba)])

    def abstains(self, X: Any) -> NDArray[np.bool_]:
        """True where the calibrated confidence is below ``abstain_threshold``."""
        return AbstainPolicy(threshold=self.abstain_threshold).apply(self.predict_proba(X).max(axis=1))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        base = LogisticRegression() if self.estimator is None else self.estimator
        tags.input_tags = get_tags(base).input_tags
        return tags


def _fit(base: Any, X: Any, y: NDArray[Any], weights: FloatArray | None) -> Any:
    if weights is None:
        return clone(base).fit(X, y)
    if not has_fit_parameter(base, "sample_weight"):
        raise InvalidInputError(f"sample_weight was given, but {type(base).__name__}.fit does not take it.")
    return clone(base).fit(X, y, sample_weight=weights)


def _out_of_fold(base: Any, X: Any, y: NDArray[Any], weights: FloatArray | None, cv: Any) -> FloatArray:
    """Score every row by a model that was fitted without it (and without its copies); NaN for rows in no test part."""
    classes, codes = np.unique(y, return_inverse=True)
    scores = np.full((len(y), len(classes)), np.nan)
    for train, test in _splits(X, y, codes, weights, cv):
        if np.isfinite(scores[test]).any():
            raise InvalidInputError("cv must give test parts that do not overlap, got a row in two of them.")
        model = _fit(base, _rows(X, train), y[train], None if weights is None else weights[train])
        scores[test] = 0.0
        scores[np.ix_(test, np.searchsorted(classes, model.classes_))] = model.predict_proba(_rows(X, test))
    return scores


def _splits(
    X: Any, y: NDArray[Any], codes: NDArray[np.intp], weights: FloatArray | None, cv: Any
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to fit on and rows to score, without those of weight 0."""
    counts = np.ones(len(y), dtype=bool) if weights is None else weights > 0.0
    if not isinstance(cv, str) and (hasattr(cv, "split") or isinstance(cv, Iterable)):
        for train, test in check_cv(cv).split(X, y):
            yield np.asarray(train)[counts[train]], np.asarray(test)[counts[test]]
        return
    fold = _content_folds(_row_hashes(X), np.where(counts, codes, -1), check_count(cv, "cv", minimum=2))
    for k in np.unique(fold[counts]):
        yield np.flatnonzero(counts & (fold != k)), np.flatnonzero(counts & (fold == k))


def _content_folds(keys: NDArray[np.uint64], codes: NDArray[np.intp], cv: int) -> NDArray[np.intp]:
    """Fold of each row: within a class, distinct rows are dealt round by the order of their hash."""
    fold = np.zeros(len(codes), dtype=np.intp)
    classes = np.unique(codes[codes >= 0])
    sizes = [len(np.unique(keys[codes == k])) for k in classes]
    smallest = int(np.argmin(sizes))
    if sizes[smallest] < 2:
        raise InvalidInputError(
            "Out-of-fold calibration needs at least 2 distinct rows of every class, "
            f"got n_samples = 1 for class number {classes[smallest]}."
        )
    n_folds = min(cv, sizes[smallest])
    for k in classes:
        rows = codes == k
        fold[rows] = np.unique(keys[rows], return_inverse=True)[1] % n_folds
    return fold


def _row_hashes(X: Any) -> NDArray[np.uint64]:
    if sparse.issparse(X):
        table: Any = X
        spans = zip(table.indptr[:-1], table.indptr[1:], strict=True)
        texts = [table.indices[a:b].tobytes().hex() + "|" + table.data[a:b].tobytes().hex() for a, b in spans]
        return pd.util.hash_array(np.array(texts, dtype=object), categorize=False)
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X.reshape(len(X), -1))
    return np.asarray(pd.util.hash_pandas_object(frame, index=False), dtype=np.uint64)


def _rows(X: Any, rows: NDArray[np.intp]) -> Any:
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]

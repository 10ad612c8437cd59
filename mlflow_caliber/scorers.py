"""Any MLflow model, or any fitted classifier, as class probabilities.

Nothing is guessed from values: each kind of model has an adapter that knows where its probabilities are, and a model
that only gives labels is refused with a sentence that says what to do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.exceptions import UnsupportedModelError
from mlflow_caliber.model import CalibratedModel, Scorer

__all__ = [
    "ColumnScorer",
    "EstimatorScorer",
    "LightGBMBoosterScorer",
    "ProbaColumn",
    "XGBoostBoosterScorer",
    "kind_of",
    "scorer_for",
    "scorer_from_path",
    "scorer_from_pyfunc",
]

ProbaColumn = str | int | Sequence[str]
"""Where a generic model keeps its probabilities: a column name, a position, or one column name a class."""

NATIVE_FLAVORS = ("sklearn", "xgboost", "lightgbm", "catboost")
"""MLflow flavors whose native model gives probabilities, in the order in which they are tried."""


@dataclass(frozen=True)
class EstimatorScorer:
    """A fitted estimator with ``predict_proba`` and ``classes_``: scikit-learn's manners.

    Parameters
    ----------
    estimator : classifier
        Fitted.
    labels : sequence of K labels, optional
        Names to use in place of the estimator's own ``classes_``, in the same order.
    """

    estimator: Any
    labels: Sequence[Any] | None = None

    @cached_property
    def classes_(self) -> NDArray[Any]:
        """Class labels, in the order of the probability columns."""
        own = np.asarray(self.estimator.classes_)
        return own if self.labels is None else _labels(self.labels, len(own))

    @cached_property
    def n_features_in_(self) -> int | None:
        """Number of features that the estimator was fitted on, where it says so."""
        return getattr(self.estimator, "n_features_in_", None)

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities, shape (n, K)."""
        return np.asarray(self.estimator.predict_proba(_as_fitted(X, self._names)), dtype=np.float64)

    @cached_property
    def _names(self) -> list[str] | None:
        return _feature_names(self.estimator)


@dataclass(frozen=True)
class XGBoostBoosterScorer:
    """A bare ``xgboost.Booster`` with a logistic or softprob objective."""

    booster: Any
    classes_: NDArray[Any]

    @cached_property
    def n_features_in_(self) -> int:
        """Number of features that the booster was trained on."""
        return int(self.booster.num_features())

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities, shape (n, K)."""
        import xgboost

        features = xgboost.DMatrix(_as_fitted(X, self.booster.feature_names))
        return _two_columns(self.booster.predict(features))


@dataclass(frozen=True)
class LightGBMBoosterScorer:
    """A bare ``lightgbm.Booster`` with a binary or multiclass objective."""

    booster: Any
    classes_: NDArray[Any]

    @cached_property
    def n_features_in_(self) -> int:
        """Number of features that the booster was trained on."""
        return int(self.booster.num_feature())

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities, shape (n, K)."""
        return _two_columns(self.booster.predict(_as_fitted(X, self._names)))

    @cached_property
    def _names(self) -> list[str] | None:
        return _given_names(self.booster.feature_name())


@dataclass(frozen=True)
class ColumnScorer:
    """A generic model whose output holds the probabilities in a declared place.

    Parameters
    ----------
    predictor : object with ``predict``
        A loaded pyfunc model, or a ``PythonModel`` behind one.
    proba_column : str, int or sequence of str
        One place: the positive (second) class's probability. K names: one a class, in the order of ``classes_``.
    classes_ : array of shape (K,)
        Class labels.
    """

    predictor: Any
    proba_column: ProbaColumn
    classes_: NDArray[Any]

    def predict_proba(self, X: Any) -> FloatArray:
        """Class probabilities, shape (n, K)."""
        output = self.predictor.predict(X)
        if isinstance(self.proba_column, str | int):
            return _two_columns(_column(output, self.proba_column))
        return np.column_stack([_column(output, name) for name in self.proba_column])


def kind_of(model: Any) -> str:
    """The MLflow flavor that fits an in-memory model, or ``pyfunc`` for a ``PythonModel``.

    Raises
    ------
    UnsupportedModelError
        When the model gives no probabilities.
    """
    # A subclass of a library's classifier is saved by that library's flavor, so its ancestors count too.
    roots = [ancestor.__module__.split(".", 1)[0] for ancestor in type(model).__mro__]
    native = next((root for root in roots if root in ("xgboost", "lightgbm", "catboost")), "sklearn")
    if _is_booster(model):
        return native
    if _is_python_model(model):
        return "pyfunc"
    if not hasattr(model, "predict_proba"):
        raise UnsupportedModelError(
            f"A base model must give probabilities, got {type(model).__name__}, which has no predict_proba. Use a "
            "classifier that has it (for a margin classifier, scikit-learn's CalibratedClassifierCV gives one), or a "
            "PythonModel with proba_column naming where its probabilities are."
        )
    if not hasattr(model, "classes_"):
        raise UnsupportedModelError(f"A base model must be fitted, got {type(model).__name__} without classes_.")
    return native


def scorer_for(model: Any, *, proba_column: ProbaColumn | None = None, classes: Sequence[Any] | None = None) -> Scorer:
    """Class probabilities of an in-memory model.

    Parameters
    ----------
    model : fitted classifier, booster or PythonModel
        The base model.
    proba_column : str, int or sequence of str, optional
        For a generic model: where its probabilities are.
    classes : sequence of K labels, optional
        For models that do not know their labels: 0 .. K-1 by default for boosters and generic models, the classifier's
        own ``classes_`` otherwise (XGBClassifier, for one, only takes 0 .. K-1).

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> scorer = scorer_for(LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"]))
    >>> scorer.classes_.tolist(), scorer.predict_proba([[0.5]]).round(3).tolist()
    (['no', 'yes'], [[0.5, 0.5]])
    """
    kind = kind_of(model)
    if kind == "pyfunc":
        return _column_scorer(_PythonModelPredictor(model), proba_column, classes)
    if _is_booster(model):
        return _xgboost_booster(model, classes) if kind == "xgboost" else _lightgbm_booster(model, classes)
    scorer = EstimatorScorer(model, None if classes is None else tuple(classes))
    _ = scorer.classes_  # a wrong number of labels is refused here and not at the first prediction
    return scorer


def scorer_from_path(
    path: str, *, proba_column: ProbaColumn | None = None, classes: Sequence[Any] | None = None
) -> Scorer:
    """Class probabilities of a saved MLflow model folder of any flavor."""
    import mlflow
    from mlflow.models import Model

    flavors = Model.load(path).flavors
    if "caliber" in flavors:
        raise UnsupportedModelError(
            "A base model must be uncalibrated, got a caliber model: a calibrator on a calibrator compounds errors. "
            "Use mlflow_caliber.recalibrate to give it a new calibrator."
        )
    flavor = next((name for name in NATIVE_FLAVORS if name in flavors), None)
    if proba_column is None and flavor is not None:
        return scorer_for(getattr(mlflow, flavor).load_model(path), classes=classes)
    return _column_scorer(mlflow.pyfunc.load_model(path), proba_column, classes)


def scorer_from_pyfunc(
    model: Any, *, proba_column: ProbaColumn | None = None, classes: Sequence[Any] | None = None
) -> Scorer | CalibratedModel:
    """Class probabilities of a loaded pyfunc model: its :class:`CalibratedModel` if it is ours, else its raw model."""
    if proba_column is None:
        raw = _raw_model(model)
        if isinstance(raw, CalibratedModel):
            return raw
        if raw is not None and not _is_python_model(raw):
            return scorer_for(raw, classes=classes)
    return _column_scorer(model, proba_column, classes)


def _raw_model(model: Any) -> Any:
    """The native model behind MLflow's wrapper; None for generic models, which have none to give."""
    try:
        return model.get_raw_model()
    except (AttributeError, NotImplementedError):
        return None


@dataclass(frozen=True)
class _PythonModelPredictor:
    """A ``PythonModel`` in memory, called as MLflow would call it."""

    model: Any

    def predict(self, X: Any) -> Any:
        return self.model.predict(None, X)


def _column_scorer(predictor: Any, proba_column: ProbaColumn | None, classes: Sequence[Any] | None) -> ColumnScorer:
    if proba_column is None:
        raise UnsupportedModelError(
            "A generic MLflow model must say where its probabilities are, got no proba_column. Name the column of the "
            "positive class (or one column a class), or a position when the output has no names."
        )
    if isinstance(proba_column, str | int):
        labels = (0, 1) if classes is None else tuple(classes)
        wanted = 2
    else:
        labels = tuple(range(len(proba_column))) if classes is None else tuple(classes)
        wanted = len(proba_column)
    if len(labels) != wanted:
        raise UnsupportedModelError(f"proba_column gives {wanted} classes, got {len(labels)} labels in classes.")
    return ColumnScorer(predictor, proba_column, np.asarray(labels))


def _xgboost_booster(booster: Any, classes: Sequence[Any] | None) -> Scorer:
    learner = json.loads(booster.save_config())["learner"]
    objective = learner["objective"]["name"]
    if objective not in ("binary:logistic", "multi:softprob"):
        raise UnsupportedModelError(f"An xgboost Booster must have a probability objective, got {objective}.")
    n_classes = max(2, int(learner["learner_model_param"]["num_class"]))
    return XGBoostBoosterScorer(booster, _labels(classes, n_classes))


def _lightgbm_booster(booster: Any, classes: Sequence[Any] | None) -> Scorer:
    header = booster.model_to_string(num_iteration=1).split("tree_sizes", 1)[0].splitlines()
    objective = next((line.removeprefix("objective=") for line in header if line.startswith("objective=")), "unknown")
    if objective.split(" ", 1)[0] not in ("binary", "cross_entropy", "multiclass", "multiclassova"):
        raise UnsupportedModelError(f"A lightgbm Booster must have a probability objective, got {objective}.")
    return LightGBMBoosterScorer(booster, _labels(classes, max(2, booster.num_model_per_iteration())))


def _labels(classes: Sequence[Any] | None, n_classes: int) -> NDArray[Any]:
    labels = np.arange(n_classes) if classes is None else np.asarray(classes)
    if len(labels) != n_classes:
        raise UnsupportedModelError(f"The base model has {n_classes} classes, got {len(labels)} labels in classes.")
    return labels


def _two_columns(values: Any) -> FloatArray:
    proba = np.asarray(values, dtype=np.float64)
    if proba.ndim == 2 and proba.shape[1] == 1:
        proba = proba[:, 0]
    return np.column_stack((1.0 - proba, proba)) if proba.ndim == 1 else proba


def _column(output: Any, place: str | int) -> FloatArray:
    if isinstance(output, pd.DataFrame):
        if isinstance(place, str) and place not in output.columns:
            raise UnsupportedModelError(
                f"The base model's output must hold the column {place!r}, got {list(map(str, output.columns))[:20]}."
            )
        column = output[place] if isinstance(place, str) else output.iloc[:, place]
        return np.asarray(column, dtype=np.float64)
    if isinstance(output, dict) and place in output:
        return np.asarray(output[place], dtype=np.float64)
    if isinstance(output, list) and output and isinstance(output[0], dict):
        return _column(pd.DataFrame(output), place)
    values = np.asarray(output, dtype=np.float64)
    if isinstance(place, str):
        raise UnsupportedModelError(
            f"The base model's output must hold the column {place!r}, got an array of shape {values.shape}: "
            "give proba_column as a position."
        )
    return values if values.ndim == 1 else values[:, place]


def _as_fitted(X: Any, names: list[str] | None) -> Any:
    """Give features as the model was fitted: named columns in its order, or a bare array."""
    if isinstance(X, pd.DataFrame):
        if names is None:
            return _as_array(X) if _all_numeric(X) else X
        return X if list(X.columns) == names else X[names] if set(names) <= set(X.columns) else X
    if names is not None and isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == len(names):
        return pd.DataFrame(X, columns=names)
    return X


def _as_array(X: pd.DataFrame) -> NDArray[Any]:
    # Nullable columns become an object array unless told otherwise, and pd.NA is no number to any model.
    nullable = any(isinstance(dtype, pd.api.extensions.ExtensionDtype) for dtype in X.dtypes)
    return X.to_numpy(dtype=np.float64, na_value=np.nan) if nullable else X.to_numpy()


def _feature_names(estimator: Any) -> list[str] | None:
    """Names the estimator was fitted with; None when it was fitted on a bare array."""
    found = getattr(estimator, "feature_names_in_", None)
    if found is None:
        found = getattr(estimator, "feature_names_", None)  # CatBoost
    return None if found is None else _given_names(found)


def _given_names(found: Iterable[Any]) -> list[str] | None:
    """The names, or None when the library has made them up for a bare array."""
    names = [str(name) for name in found]
    invented = ([f"Column_{i}" for i in range(len(names))], [str(i) for i in range(len(names))])  # LightGBM, CatBoost
    return None if names in invented else names


def _all_numeric(X: pd.DataFrame) -> bool:
    return all(dtype.kind in "biuf" for dtype in X.dtypes)


def _is_booster(model: Any) -> bool:
    return type(model).__name__ == "Booster" and type(model).__module__.split(".", 1)[0] in ("xgboost", "lightgbm")


def _is_python_model(model: Any) -> bool:
    return any(f"{c.__module__}.{c.__name__}" == "mlflow.pyfunc.model.PythonModel" for c in type(model).__mro__)

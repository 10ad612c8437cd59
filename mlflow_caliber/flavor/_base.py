"""The base model of a save: where its probabilities come from and how it is stored as an MLflow model of its own."""

from __future__ import annotations

import copy
import importlib.metadata
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from sklearn.frozen import FrozenEstimator

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import InvalidInputError, UnsupportedModelError
from mlflow_caliber.flavor._requirements import base_requirements, read_requirements
from mlflow_caliber.flavor._uris import pin_uri
from mlflow_caliber.model import CaliberClassifier, CalibratedModel, Calibrates, Scorer
from mlflow_caliber.scorers import (
    ColumnScorer,
    EstimatorScorer,
    LightGBMBoosterScorer,
    ProbaColumn,
    XGBoostBoosterScorer,
    kind_of,
    scorer_for,
    scorer_from_path,
)

__all__ = ["BASE_DIR", "Base", "resolve_base"]

BASE_DIR = "base_model"

_TRUSTED_ROOTS = ("sklearn", "numpy", "scipy", "pandas", "xgboost", "lightgbm", "catboost", "mlflow_caliber")
"""Libraries whose types a skops file may name without being asked: their own MLflow flavors load them anyway."""


@dataclass(frozen=True)
class Base:
    """A base model on its way into a saved folder; ``store`` writes it and returns its requirements."""

    scorer: Scorer
    store: Callable[[Path], list[str]]
    reference: Mapping[str, Any]
    calibrator: Calibrates | None = None
    policy: AbstainPolicy | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)


def resolve_base(
    model: Any,
    *,
    proba_column: ProbaColumn | None,
    classes: Sequence[Any] | None,
    bundle_base: bool,
    save_kwargs: Mapping[str, Any] | None,
) -> Base:
    """Find the scorer of whatever was handed in and the way to store it."""
    if isinstance(model, CalibratedModel):
        return _from_calibrated(model, save_kwargs)
    if isinstance(model, CaliberClassifier):
        if not hasattr(model, "calibrated_model_"):
            raise InvalidInputError("A CaliberClassifier must be fitted before it is saved.")
        return _from_calibrated(model.calibrated_model_, save_kwargs)
    if isinstance(model, str | Path):
        return _from_uri(str(model), proba_column, classes, bundle_base)
    if not bundle_base:
        raise InvalidInputError("bundle_base=False needs a base model given by URI, got a model in memory.")
    return _from_memory(model, proba_column, classes, save_kwargs)


def _from_memory(
    model: Any,
    proba_column: ProbaColumn | None,
    classes: Sequence[Any] | None,
    save_kwargs: Mapping[str, Any] | None,
) -> Base:
    scorer = scorer_for(model, proba_column=proba_column, classes=classes)
    kind = kind_of(model)
    options = dict(save_kwargs or {})
    if not options.keys() & {"pip_requirements", "conda_env"}:
        extra = options.pop("extra_pip_requirements", [])
        options["pip_requirements"] = [*base_requirements(model, _serialiser(kind)), *extra]
    if kind == "sklearn" and options.get("serialization_format", "skops") == "skops":
        options.setdefault("skops_trusted_types", _known_types(model))

    def store(folder: Path) -> list[str]:
        if kind == "pyfunc":
            mlflow.pyfunc.save_model(str(folder), python_model=model, **options)
        else:
            getattr(mlflow, kind).save_model(model, str(folder), **options)
        return read_requirements(folder)

    return Base(scorer, store, {"path": BASE_DIR})


def _from_uri(uri: str, proba_column: ProbaColumn | None, classes: Sequence[Any] | None, bundle_base: bool) -> Base:
    uri = pin_uri(uri).uri
    source = Path(mlflow.artifacts.download_artifacts(uri))
    scorer = scorer_from_path(str(source), proba_column=proba_column, classes=classes)

    def store(folder: Path) -> list[str]:
        if bundle_base:
            # Leave out what MLflow and Python add to a folder after it was saved.
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns("registered_model_meta", "__pycache__"))
        return read_requirements(source)

    return Base(scorer, store, {"path": BASE_DIR} if bundle_base else {"uri": uri})


def _from_calibrated(model: CalibratedModel, save_kwargs: Mapping[str, Any] | None) -> Base:
    native, classes = _native(model.scorer)
    base = _from_memory(native, None, classes, save_kwargs)
    defaults = {
        "pos_label": model.pos_label,
        "segment_column": model.segment_column,
        "class_prior": model.class_prior,
        "profile": model.profile,
        "classes": classes,
    }
    return Base(base.scorer, base.store, base.reference, model.calibrator, model.policy, defaults)


def _native(scorer: Any) -> tuple[Any, Sequence[Any] | None]:
    """The model behind a scorer, and the labels it does not know itself."""
    if isinstance(scorer, FrozenEstimator):
        return scorer.estimator, None
    if isinstance(scorer, EstimatorScorer):
        return scorer.estimator, scorer.labels
    if isinstance(scorer, XGBoostBoosterScorer | LightGBMBoosterScorer):
        return scorer.booster, scorer.classes_.tolist()
    if isinstance(scorer, ColumnScorer):
        raise UnsupportedModelError(
            "A CalibratedModel around a generic MLflow model cannot be saved from memory; "
            "save its base model by URI, or use mlflow_caliber.recalibrate on the saved model."
        )
    return scorer, None


def _serialiser(kind: str) -> list[str]:
    name = {"sklearn": "skops", "pyfunc": "cloudpickle"}.get(kind)
    return [f"{name}=={importlib.metadata.version(name)}"] if name else []


def _known_types(model: Any) -> list[str]:
    """Types of well-known libraries in a model, which skops would otherwise refuse one by one."""
    import skops.io
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

    if isinstance(model, RandomForestClassifier | ExtraTreesClassifier):
        # One tree has the types of all, and writing a forest twice takes seconds.
        trees, model = model.estimators_, copy.copy(model)
        model.estimators_ = trees[:1]
    found = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    return [name for name in found if name.split(".", 1)[0] in _TRUSTED_ROOTS]

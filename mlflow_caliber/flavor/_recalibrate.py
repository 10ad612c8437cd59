"""Refit the calibrator of a saved model on new labelled rows, the base frozen, and log the result as a new version."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.flavor._load import base_folder, flavor_conf, read_model
from mlflow_caliber.flavor._replace import carried_over, tag_lineage
from mlflow_caliber.flavor._save import check_calibration_data, log_model
from mlflow_caliber.flavor._state import revision_of
from mlflow_caliber.flavor._uris import pin_uri
from mlflow_caliber.metrics import (
    expected_calibration_error,
    log_loss,
    multiclass_log_loss,
    top_label_calibration_error,
)
from mlflow_caliber.model import CalibratedModel, Calibrates, encode_labels, fit_calibrator
from mlflow_caliber.online import CorrectedCalibrator

__all__ = ["Recalibration", "recalibrate"]

_N_FOLDS = 5
_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Recalibration:
    """What a recalibration did.

    Attributes
    ----------
    model_uri : str
        The new model: ``models:/name/version`` when it was registered, else ``models:/m-...``.
    registered_model_name, version : str or None
        Where it was registered.
    parent_uri, parent_version : str, str or None
        What it was made from.
    n : int
        Labelled rows used.
    calibrator, revision, parent_revision : str
        The calibrator's name, its state's name, and that of the parent.
    log_loss_before, log_loss_after : float
        Log loss on the new rows, in nats: of the parent's calibrator, which has not seen them, and of the new one,
        cross-fitted in five blocks so that it has not seen them either.
    ece_before, ece_after : float
        Expected calibration error of the same probabilities (top label for more than two classes).
    """

    model_uri: str
    registered_model_name: str | None
    version: str | None
    parent_uri: str
    parent_version: str | None
    n: int
    calibrator: str
    revision: str
    parent_revision: str
    log_loss_before: float
    log_loss_after: float
    ece_before: float
    ece_after: float

    @property
    def improved(self) -> bool:
        """Whether the new calibrator predicts unseen new rows better than the old one."""
        return self.log_loss_after < self.log_loss_before

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        return {**asdict(self), "improved": self.improved}


def recalibrate(
    model_uri: str,
    data: Any,
    targets: str | ArrayLike | None = None,
    *,
    calibrator: str | None = None,
    sample_weight: str | ArrayLike | None = None,
    policy: AbstainPolicy | None = None,
    registered_model_name: str | None = None,
    name: str = "model",
    **log_kwargs: Any,
) -> Recalibration:
    """Give a saved model a new calibrator; its base stays the same to the byte.

    Parameters
    ----------
    model_uri : str
        A caliber model: ``models:/name/1``, ``models:/name@champion``, ``runs:/...`` or a path.
    data : DataFrame or array of shape (n, d)
        New rows, with the columns of the model's signature.
    targets : str or array of shape (n,)
        True labels, or the column of ``data`` that has them.
    calibrator : str, optional
        Name of the calibrator; by default the parent's, with its parameters.
    sample_weight : str or array of shape (n,), optional
        Weights, or the column of ``data`` that has them.
    policy : AbstainPolicy, optional
        The parent's by default, its certificate suspended: that was about the parent's calibrator.
    registered_model_name : str, optional
        Where to register the new version; by default where ``model_uri`` says, and nowhere for other URIs.
    name, **log_kwargs
        Passed to :func:`log_model`; what is not said here is carried over from the parent.

    Returns
    -------
    Recalibration

    Raises
    ------
    InvalidInputError
        For rows that cannot be used: no labels, one class only, labels that the model does not know. For a parent whose
        policy is broken, unless one is given. (A broken calibrator is no hindrance: it is replaced.)

    Examples
    --------
    >>> result = recalibrate("models:/credit@champion", outcomes, "repaid")  # doctest: +SKIP
    >>> result.model_uri, result.log_loss_before - result.log_loss_after     # doctest: +SKIP
    ('models:/credit/2', 0.0031)
    """
    X, y, weights = check_calibration_data(_split(data, targets, sample_weight))
    source = pin_uri(model_uri)
    folder = Path(mlflow.artifacts.download_artifacts(source.uri))
    conf = flavor_conf(folder)
    carried = {**carried_over(folder, conf), **log_kwargs}
    if "signature" not in log_kwargs and carried["segment_column"] != conf.get("segment_column"):
        carried["signature"] = None  # the parent's may lack that column; the new rows have it
    parent = replace(read_model(folder, strict=False), segment_column=carried["segment_column"])
    if policy is None:
        policy = _inherited_policy(parent)
    all_rows, keep = _usable(parent, X, y, weights)
    rows = all_rows.where(keep)
    method = calibrator or _like(parent)
    fitted = _fit(method, parent, rows)
    before, after = parent.calibrate(rows.raw, rows.segment), _cross_fitted(method, parent, rows)
    registered_as = registered_model_name or source.name
    options = {
        "registered_model_name": registered_as,
        "bundle_base": "path" in conf["base"],
        "calibrator": fitted,
        "calibration_data": (X if keep.all() else X[keep], y[keep], rows.weights),
        "policy": policy,
        **carried,
    }
    info = log_model(str(base_folder(folder, conf)) if "path" in conf["base"] else conf["base"]["uri"], name, **options)
    version = None if info.registered_model_version is None else str(info.registered_model_version)
    result = Recalibration(
        model_uri=info.model_uri if version is None else f"models:/{registered_as}/{version}",
        registered_model_name=registered_as,
        version=version,
        parent_uri=model_uri,
        parent_version=source.version,
        n=len(rows.codes),
        calibrator=_name_of(fitted),
        revision=revision_of(fitted),
        parent_revision=parent.revision,
        log_loss_before=_log_loss(rows, before, parent),
        log_loss_after=_log_loss(rows, after, parent),
        ece_before=_ece(rows, before, parent),
        ece_after=_ece(rows, after, parent),
    )
    if version is not None and registered_as is not None:
        tag_lineage(registered_as, version, result.revision, source.version)
    return result


@dataclass(frozen=True)
class _Rows:
    """Rows as a calibrator sees them."""

    raw: FloatArray
    codes: NDArray[np.intp]
    weights: FloatArray | None
    segment: NDArray[Any] | None

    def where(self, keep: _Mask) -> _Rows:
        """The rows that are kept."""
        weights, segment = (None if each is None else each[keep] for each in (self.weights, self.segment))
        return _Rows(self.raw[keep], self.codes[keep], weights, segment)


def _inherited_policy(parent: CalibratedModel) -> AbstainPolicy:
    if parent.policy is None:
        raise InvalidInputError("The parent's abstain policy cannot be read: give policy=, got none.")
    return parent.policy.suspended("the calibrator was refitted")


def _usable(parent: CalibratedModel, X: Any, y: NDArray[Any], weights: FloatArray | None) -> tuple[_Rows, _Mask]:
    """The rows, and which of them count: those that the base model scored and that have a positive weight."""
    raw, codes = parent.raw_proba(X), encode_labels(y, parent.classes_, "targets")
    scored = np.isfinite(raw).all(axis=1)
    if not scored.any():
        raise InvalidInputError(f"The base model must score the new rows, got no score for any of {len(raw)}.")
    keep: _Mask = np.asarray(scored if weights is None else scored & (weights > 0.0))
    counts = np.bincount(codes[keep], minlength=len(parent.classes_))
    if (counts >= 2).sum() < 2:
        raise OneClassError(
            "Recalibration needs at least two rows of at least two classes, "
            f"got {', '.join(f'{n} of {label!s}' for label, n in zip(parent.classes_, counts, strict=True))}."
        )
    return _Rows(raw, codes, weights, parent.segments_of(X)), keep


def _split(data: Any, targets: str | ArrayLike | None, sample_weight: str | ArrayLike | None) -> tuple[Any, ...]:
    """Take label and weight columns out of the rows."""
    taken = [column for column in (targets, sample_weight) if isinstance(column, str)]
    if taken and not isinstance(data, pd.DataFrame):
        raise InvalidInputError(f"A column name needs data as a DataFrame, got a {type(data).__name__}.")
    absent = [column for column in taken if column not in data.columns]
    if absent:
        raise InvalidInputError(f"data must hold the column {absent[0]!r}, got {list(map(str, data.columns))[:20]}.")
    if targets is None:
        raise InvalidInputError("targets must name or hold the true labels, got none.")
    y = data[targets].to_numpy() if isinstance(targets, str) else np.asarray(targets)
    weights = data[sample_weight].to_numpy() if isinstance(sample_weight, str) else sample_weight
    X = data.drop(columns=taken) if taken else data
    return (X, y) if weights is None else (X, y, weights)


def _like(parent: CalibratedModel) -> str | Calibrates:
    """An unfitted calibrator like the parent's, without what was learned live; ``auto`` when its file is broken."""
    calibrator = parent.calibrator
    while isinstance(calibrator, CorrectedCalibrator):
        calibrator = calibrator.shipped
    return "auto" if calibrator is None else clone(calibrator)


def _name_of(calibrator: Calibrates) -> str:
    state = calibrator.to_dict()
    return str(state["params"]["method"]) if state["name"] == "multiclass" else str(state["name"])


def _fit(method: str | Calibrates, parent: CalibratedModel, rows: _Rows) -> Calibrates:
    return fit_calibrator(method, rows.raw, rows.codes, parent.pos_index, rows.weights, segment=rows.segment)


def _cross_fitted(method: str | Calibrates, parent: CalibratedModel, rows: _Rows) -> FloatArray:
    """Probabilities of the new calibrator for rows it was not fitted on."""
    fold = _folds(rows.codes)
    result = np.empty_like(rows.raw)
    for k in np.unique(fold):
        in_fold: _Mask = fold == k
        fitted, test = _fit(method, parent, rows.where(~in_fold)), rows.where(in_fold)
        result[in_fold] = parent.with_calibrator(fitted, "").calibrate(test.raw, test.segment)
    return result


def _folds(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Deal the rows of each class round in their order: every fold has its share of each class and of all times."""
    fold = np.empty(len(codes), dtype=np.intp)
    for k in np.unique(codes):
        fold[codes == k] = np.arange(np.count_nonzero(codes == k)) % _N_FOLDS
    return fold


def _log_loss(rows: _Rows, proba: FloatArray, model: CalibratedModel) -> float:
    if proba.shape[1] > 2:
        return float(multiclass_log_loss(rows.codes, proba, sample_weight=rows.weights))
    positive = model.pos_index
    return float(log_loss(rows.codes == positive, proba[:, positive], sample_weight=rows.weights))


def _ece(rows: _Rows, proba: FloatArray, model: CalibratedModel) -> float:
    if proba.shape[1] > 2:
        return float(top_label_calibration_error(rows.codes, proba, sample_weight=rows.weights))
    positive = model.pos_index
    return float(expected_calibration_error(rows.codes == positive, proba[:, positive], sample_weight=rows.weights))

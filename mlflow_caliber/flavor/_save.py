"""Write a calibrated model as an MLflow model."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import Schema
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray, check_weights, row_count
from mlflow_caliber._version import __version__
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.drift import feature_profile
from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.flavor._base import BASE_DIR, Base, resolve_base
from mlflow_caliber.flavor._load import read_calibrator
from mlflow_caliber.flavor._requirements import combined_requirements
from mlflow_caliber.flavor._signature import check_output_mode, input_schema, model_signature
from mlflow_caliber.flavor._state import FLAVOR_NAME, FORMAT_VERSION, revision_of, write_state
from mlflow_caliber.model import CalibratedModel, Calibrates, encode_labels, fit_calibrator, is_unfitted
from mlflow_caliber.scorers import ProbaColumn

__all__ = ["check_calibration_data", "log_model", "save_model"]


def save_model(
    model: Any,
    path: str,
    *,
    calibrator: str | Calibrates | None = None,
    calibration_data: Sequence[Any] | None = None,
    policy: AbstainPolicy | None = None,
    pos_label: Any = None,
    proba_column: ProbaColumn | None = None,
    classes: Sequence[Any] | None = None,
    output: str = "frame",
    segment_column: str | None = None,
    class_prior: Sequence[float] | None = None,
    profile: Mapping[str, Any] | None = None,
    bundle_base: bool = True,
    signature: ModelSignature | None = None,
    input_example: Any = None,
    pip_requirements: list[str] | None = None,
    extra_pip_requirements: list[str] | None = None,
    code_paths: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
    base_save_kwargs: Mapping[str, Any] | None = None,
    mlflow_model: Model | None = None,
) -> None:
    """Calibrate a base model and save both as one MLflow model.

    Parameters
    ----------
    model : fitted classifier, booster, PythonModel, URI or path, CalibratedModel or CaliberClassifier
        The base model. It is never refitted. A URI (``models:/...``, ``runs:/...``) or path names any MLflow model.
    path : str
        Folder to write; it must not exist or be empty.
    calibrator : str or calibrator, default "auto"
        Name of the calibrator to fit on ``calibration_data``, see
        :func:`mlflow_caliber.calibrators.make_calibrator` (with more than two classes also "vector", and not
        "segmented"); or a calibrator, which is fitted unless it is already.
    calibration_data : (X, y) or (X, y, sample_weight), optional
        Labelled rows that the base model was not fitted on. Needed unless the calibrator is fitted or "identity".
    policy : AbstainPolicy, optional
        Which predictions go to a person; by default none does.
    pos_label : label, optional
        The positive class of a binary model; by default the second of the model's ``classes_``.
    proba_column : str, int or sequence of str, optional
        For a generic pyfunc model: the output column of the positive class's probability, or one column a class.
    classes : sequence of K labels, optional
        Labels of a model that does not know them: by default 0 .. K-1 for boosters and generic models, the classifier's
        own ``classes_`` for others (XGBClassifier, for one, only takes 0 .. K-1).
    output : {"frame", "label", "proba"}, default "frame"
        What ``predict`` answers unless ``model_config`` or a request's params say otherwise.
    segment_column : str, optional
        Input column that names each row's segment, for the policy's segment thresholds and for the calibrator
        "segmented", which needs it. It need not be a feature of the base model.
    class_prior, profile : sequence of K floats and mapping, optional
        Class frequencies and profile of the rows that the calibrator was fitted on, when it is fitted already and those
        rows are not at hand; from ``calibration_data`` they are computed.
    bundle_base : bool, default True
        False stores a base model given by URI as a reference instead of a copy. An alias, a stage or ``latest`` is
        resolved now: the calibrator is for this very version.
    signature : ModelSignature, optional
        Only its inputs are used; by default they are read off the calibration data, or else the input example.
    input_example, pip_requirements, extra_pip_requirements, code_paths, metadata, mlflow_model
        As in every MLflow flavor. Requirements are the base's and ours; they are never inferred by running the model.
    base_save_kwargs : mapping, optional
        Arguments for the base flavor's own ``save_model``, such as ``{"skops_trusted_types": [...]}``.

    Raises
    ------
    InvalidInputError
        For calibration data that is missing or cannot be used.
    UnsupportedModelError
        For a base model that gives no probabilities.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = make_classification(n_samples=600, random_state=0)
    >>> base = LogisticRegression().fit(X[:300], y[:300])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(base, folder + "/m", calibrator="isotonic", calibration_data=(X[300:], y[300:]))
    ...     sorted(file.name for file in Path(folder, "m", "caliber").iterdir())
    ['calibrator.json', 'policy.json', 'reference.json']
    """
    check_output_mode(output)
    base = resolve_base(
        model, proba_column=proba_column, classes=classes, bundle_base=bundle_base, save_kwargs=base_save_kwargs
    )
    data = None if calibration_data is None else check_calibration_data(calibration_data)
    given = {
        "policy": policy,
        "pos_label": pos_label,
        "segment_column": segment_column,
        "class_prior": class_prior,
        "profile": profile,
    }
    ready = _fitted(base, calibrator, data, given)
    inputs = signature.inputs if signature is not None else input_schema(input_example if data is None else data[0])
    _check_segment_column(ready, inputs)
    mlflow_model = Model() if mlflow_model is None else mlflow_model
    mlflow_model.add_flavor(FLAVOR_NAME, **_conf(base, ready, proba_column, classes))
    with tempfile.TemporaryDirectory() as staging:
        # Both parts are complete before the model's folder exists, so a failure leaves no half of a model behind.
        base_needs = base.store(Path(staging, BASE_DIR))
        write_state(Path(staging), _state(ready))
        with warnings.catch_warnings():
            # MLflow asks for an example to check the signature with; ours is made by the code that fills it.
            warnings.filterwarnings("ignore", message=".*input example was not provided.*")
            mlflow.pyfunc.save_model(
                path,
                loader_module="mlflow_caliber",
                mlflow_model=mlflow_model,
                signature=model_signature(ready, inputs, output),
                input_example=input_example,
                pip_requirements=pip_requirements
                or combined_requirements([*base_needs, *(extra_pip_requirements or [])], bool(code_paths)),
                code_paths=code_paths,
                metadata=metadata,
                model_config={"output": output, "abstain_threshold": None, "store_uri": None},
            )
        for part in Path(staging).iterdir():
            shutil.move(str(part), path)


def log_model(
    model: Any,
    name: str = "model",
    *,
    registered_model_name: str | None = None,
    await_registration_for: int = 300,
    run_id: str | None = None,
    params: dict[str, Any] | None = None,
    tags: dict[str, Any] | None = None,
    model_type: str | None = None,
    step: int = 0,
    **save_kwargs: Any,
) -> ModelInfo:
    """Save a calibrated model to MLflow, and register it if a name is given.

    Parameters
    ----------
    model : see :func:`save_model`
        The base model.
    name : str, default "model"
        Name of the logged model.
    registered_model_name : str, optional
        Registered model that gets a new version.
    await_registration_for, run_id, params, tags, model_type, step
        As in every MLflow flavor.
    **save_kwargs
        Arguments of :func:`save_model`.

    Returns
    -------
    ModelInfo
        MLflow's description of the logged model, with ``model_uri`` and ``registered_model_version``.

    Examples
    --------
    >>> log_model(classifier, name="credit", calibrator="isotonic",
    ...           calibration_data=(X_cal, y_cal), registered_model_name="credit")  # doctest: +SKIP
    """
    import mlflow_caliber

    info: ModelInfo = Model.log(
        artifact_path=None,
        name=name,
        flavor=mlflow_caliber,
        registered_model_name=registered_model_name,
        await_registration_for=await_registration_for,
        run_id=run_id,
        params=params,
        tags=tags,
        model_type=model_type,
        step=step,
        model=model,
        **save_kwargs,
    )
    return info


def check_calibration_data(data: Sequence[Any]) -> tuple[Any, NDArray[Any], FloatArray | None]:
    """(X, y) or (X, y, sample_weight) with one label and one weight a row."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise InvalidInputError(
            f"calibration_data must be (X, y) or (X, y, sample_weight), got a {type(data).__name__}."
        )
    X, y = data[0], np.asarray(data[1]).ravel()
    n_rows = row_count(X)
    if n_rows != len(y):
        raise InvalidInputError(f"calibration_data must have one label a row, got {len(y)} labels for {n_rows} rows.")
    if n_rows == 0:
        raise InvalidInputError("calibration_data must hold at least one row, got none.")
    return X, y, check_weights(data[2] if len(data) == 3 else None, len(y))


def _fitted(
    base: Base,
    calibrator: str | Calibrates | None,
    data: tuple[Any, NDArray[Any], FloatArray | None] | None,
    given: Mapping[str, Any],
) -> CalibratedModel:
    """The model to save: base, fitted calibrator and policy; what is not given is as in the model handed in."""
    policy = given["policy"]
    if not isinstance(policy, AbstainPolicy | None):
        raise InvalidInputError(f"policy must be an AbstainPolicy, got a {type(policy).__name__}.")
    kept: dict[str, Any] = {
        name: base.defaults.get(name) if given[name] is None else given[name]
        for name in ("pos_label", "class_prior", "segment_column", "profile")
    }
    bare = CalibratedModel(scorer=base.scorer, calibrator=None, policy=policy or base.policy or AbstainPolicy(), **kept)
    wanted = calibrator if calibrator is not None else base.calibrator if base.calibrator is not None else "auto"
    if data is not None:
        return _calibrated_on(bare, wanted, *data)
    if wanted == "identity":
        n_classes = len(bare.classes_)
        wanted = fit_calibrator("identity", np.eye(n_classes), np.arange(n_classes), bare.pos_index)
    if isinstance(wanted, str) or is_unfitted(wanted):
        raise InvalidInputError(f"calibrator={wanted!r} must be fitted: give calibration_data=(X, y), got none.")
    return bare.with_calibrator(_readable(wanted, bare), revision_of(wanted))


def _calibrated_on(
    bare: CalibratedModel, wanted: str | Calibrates, X: Any, y: NDArray[Any], weights: FloatArray | None
) -> CalibratedModel:
    """The model with a calibrator that was fitted on these rows, and with their frequencies and profile."""
    raw, segment = bare.raw_proba(X), bare.segments_of(X)
    n_bad = int((~np.isfinite(raw)).any(axis=1).sum())
    if n_bad:
        raise InvalidInputError(f"The base model must score every calibration row, got no score for {n_bad} rows.")
    codes = encode_labels(y, bare.classes_, "calibration_data's y")
    fitted = fit_calibrator(wanted, raw, codes, bare.pos_index, weights, segment=segment)
    counts = np.bincount(codes, weights, minlength=len(bare.classes_))
    return replace(
        bare,
        calibrator=_readable(fitted, bare),
        revision=revision_of(fitted),
        class_prior=tuple(float(share) for share in counts / counts.sum()),
        profile=feature_profile(bare.profiled(X, raw)),
    )


def _readable(calibrator: Calibrates, model: CalibratedModel) -> Calibrates:
    """The calibrator, once it is sure that the saved model will be able to read and use it."""
    if isinstance(calibrator, type) or not hasattr(calibrator, "to_dict"):
        got = f"the class {calibrator.__name__}" if isinstance(calibrator, type) else type(calibrator).__name__
        raise InvalidInputError(
            f"calibrator must be a name or one of mlflow_caliber's calibrators, fitted or not, got {got}."
        )
    try:
        read_calibrator(calibrator.to_dict(), len(model.classes_))
    except StateError as error:
        raise InvalidInputError(f"calibrator cannot be saved: {error}") from error
    return calibrator


def _check_segment_column(model: CalibratedModel, inputs: Schema | None) -> None:
    """A column that is not in the signature would be dropped by MLflow, and the segments of its rows never known."""
    column = model.segment_column
    if column is None and getattr(model.calibrator, "uses_segment", False):
        # Served, it would answer with its pooled map in every segment.
        raise InvalidInputError("A segmented calibrator needs to be told the segments: give segment_column=, got none.")
    if column is None or inputs is None or not inputs.has_input_names() or column in inputs.input_names():
        return
    raise InvalidInputError(
        f"segment_column must be a column of the calibration data, got {column!r} "
        f"beside {list(map(str, inputs.input_names()))[:20]}."
    )


def _conf(
    base: Base, model: CalibratedModel, proba_column: ProbaColumn | None, classes: Sequence[Any] | None
) -> dict[str, Any]:
    """What the MLmodel file says of the model: plain YAML values."""
    labels = base.defaults.get("classes") if classes is None else classes
    return {
        "format_version": FORMAT_VERSION,
        "caliber_version": __version__,
        "base": dict(base.reference),
        "proba_column": proba_column
        if proba_column is None or isinstance(proba_column, str | int)
        else [*proba_column],
        "classes": None if labels is None else np.asarray(labels).tolist(),
        "pos_label": None if model.pos_label is None else np.asarray(model.pos_label).item(),
        "segment_column": model.segment_column,
    }


def _reference(model: CalibratedModel) -> dict[str, Any]:
    """Class frequencies and profile of the calibration rows, so that drift needs no other data later."""
    prior = None if model.class_prior is None else [float(share) for share in model.class_prior]
    return {"format_version": FORMAT_VERSION, "class_prior": prior, "profile": model.profile}


def _state(model: CalibratedModel) -> dict[str, Any]:
    assert model.calibrator is not None
    assert model.policy is not None
    return {"calibrator": model.calibrator.to_dict(), "policy": model.policy.to_dict(), "reference": _reference(model)}

"""From what MLflow hands an evaluator to arrays: labels, probabilities, weights, segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray, check_probability_matrix, check_weights
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.evaluator._config import EvaluatorConfig
from mlflow_caliber.exceptions import ConfigError, InvalidInputError, StateError
from mlflow_caliber.model import CalibratedModel, check_pos_label, encode_labels
from mlflow_caliber.scorers import ProbaColumn, scorer_from_pyfunc

__all__ = ["ScoredRows", "rows_of_model", "rows_of_static_data"]


@dataclass(frozen=True)
class ScoredRows:
    """One evaluation set, scored.

    Attributes
    ----------
    y : array of shape (n,)
        0 and 1 (the positive class) for two classes, class positions for more.
    proba : array of shape (n,) or (n, K)
        Calibrated probability of the positive class, or of every class.
    raw : array like ``proba`` or None
        The same before calibration; None when there is no calibrator.
    classes : tuple of str
        In the order of the probabilities; of two, the second is the positive one.
    policy : AbstainPolicy or None
        What is evaluated.
    features : DataFrame
        What came with the labels, for segments, drift and the data digest; neither weights nor probabilities.
    labels : array of shape (n,)
        The labels as they came.
    weights : array of shape (n,) or None
        Sample weights.
    policy_segment : array of shape (n,) or None
        The segment of each row that the policy's thresholds per segment go by.
    profile : mapping or None
        A caliber model's own profile of its calibration data.
    profiled : DataFrame or None
        What is compared with that profile.
    """

    y: NDArray[np.intp]
    proba: FloatArray
    raw: FloatArray | None
    classes: tuple[str, ...]
    policy: AbstainPolicy | None
    features: pd.DataFrame
    labels: NDArray[Any]
    weights: FloatArray | None
    policy_segment: NDArray[Any] | None = None
    profile: Mapping[str, Any] | None = None
    profiled: pd.DataFrame | None = None

    def segments(self, config: EvaluatorConfig) -> Mapping[str, NDArray[Any]]:
        """The segment columns, each with a bounded number of values."""
        columns = {name: _column(self.features, name, "segments") for name in config.segments}
        for name, column in columns.items():
            n_values = column.nunique(dropna=False)
            if n_values > config.max_segments:
                raise ConfigError(
                    f"segments: column {name!r} must have at most {config.max_segments} values (max_segments), "
                    f"got {n_values}; group them first."
                )
        return {name: column.to_numpy() for name, column in columns.items()}


def rows_of_model(model: Any, dataset: Any, config: EvaluatorConfig) -> ScoredRows:
    """Score the data set by a loaded pyfunc model."""
    if config.raw_column is not None:
        raise ConfigError("raw_column is for static data: with a model, the model itself knows its raw probabilities.")
    labels, table = _labels(dataset), _frame(dataset.features_data)
    weights, features = _weights(table, config), _without(table, [config.sample_weight])
    calibrated = _calibrated_model(model, config)
    # Bare arrays stay bare: many models are fitted without column names.
    inputs = (
        _model_inputs(model, features) if isinstance(dataset.features_data, pd.DataFrame) else dataset.features_data
    )
    raw = calibrated.raw_proba(inputs)
    _check_all_scored(raw)
    classes = calibrated.classes_
    pos_index = calibrated.pos_index if config.pos_label is None else check_pos_label(config.pos_label, classes)
    ours = calibrated.calibrator is not None
    segment = calibrated.segments_of(inputs)
    return ScoredRows(
        y=_outcomes(labels, classes, pos_index),
        proba=_stated(calibrated.calibrate(raw, segment), pos_index),
        raw=_stated(raw, pos_index) if ours else None,
        classes=_names(classes, pos_index),
        policy=_policy(config, calibrated.policy if ours else None),
        features=features,
        labels=labels,
        weights=weights,
        policy_segment=segment,
        profile=calibrated.profile,
        profiled=None if calibrated.profile is None else calibrated.profiled(inputs, raw),
    )


def rows_of_static_data(dataset: Any, config: EvaluatorConfig) -> ScoredRows:
    """Take probabilities that were computed elsewhere."""
    labels, table = _labels(dataset), _frame(dataset.features_data)
    given = dataset.predictions_name if dataset.predictions_data is not None else None
    if given is not None:
        table = pd.concat([table, pd.Series(dataset.predictions_data, index=table.index, name=given)], axis=1)
    names = _column_names(table, config.proba_column, "proba_column") or ([] if given is None else [given])
    if not names:
        raise ConfigError(
            "Static data must say where the probabilities are, got neither predictions= nor proba_column."
        )
    raw_names = _column_names(table, config.raw_column, "raw_column")
    proba = _probabilities(table, names)
    classes = _static_classes(labels, config, 2 if proba.ndim == 1 else proba.shape[1])
    pos_index = check_pos_label(config.pos_label, classes)
    return ScoredRows(
        y=_outcomes(labels, classes, pos_index),
        proba=_stated(proba, pos_index),
        raw=_stated(_probabilities(table, raw_names), pos_index) if raw_names else None,
        classes=_names(classes, pos_index),
        policy=_policy(config, None),
        features=_without(table, [given, *names, *raw_names, config.sample_weight]),
        labels=labels,
        weights=_weights(table, config),
    )


# --- what both have ---------------------------------------------------------------------------------------------------


def _labels(dataset: Any) -> NDArray[Any]:
    return np.asarray(dataset.labels_data).reshape(-1)


def _frame(features: Any) -> pd.DataFrame:
    if isinstance(features, pd.DataFrame):
        return features
    array = np.asarray(features)
    return pd.DataFrame(array.reshape(len(array), -1)).rename(columns=str)


def _without(table: pd.DataFrame, names: list[str | None]) -> pd.DataFrame:
    return table.drop(columns=[name for name in names if name is not None], errors="ignore")


def _column(table: pd.DataFrame, name: str, what: str) -> pd.Series[Any]:
    if list(table.columns).count(name) != 1:
        raise ConfigError(
            f"{what}: the data must hold the column {name!r} once, got {', '.join(map(str, table.columns[:20]))}."
        )
    return table[name]


def _weights(table: pd.DataFrame, config: EvaluatorConfig) -> FloatArray | None:
    if config.sample_weight is None:
        return None
    return check_weights(_column(table, config.sample_weight, "sample_weight").to_numpy(), len(table))


def _policy(config: EvaluatorConfig, own: AbstainPolicy | None) -> AbstainPolicy | None:
    return own if config.abstain_threshold is None else AbstainPolicy(threshold=config.abstain_threshold)


def _outcomes(labels: NDArray[Any], classes: NDArray[Any], pos_index: int) -> NDArray[np.intp]:
    codes = encode_labels(labels, classes, "targets")
    return codes if len(classes) > 2 else (codes == pos_index).astype(np.intp)


def _stated(proba: FloatArray, pos_index: int) -> FloatArray:
    """What the report is about: one probability a row for two classes, all of them for more."""
    return np.ascontiguousarray(proba[:, pos_index]) if proba.ndim == 2 and proba.shape[1] == 2 else proba


def _names(classes: NDArray[Any], pos_index: int) -> tuple[str, ...]:
    """Class names; of two, the positive one last."""
    names = tuple(str(label) for label in classes)
    return names if len(names) > 2 or pos_index == 1 else names[::-1]


# --- models -----------------------------------------------------------------------------------------------------------


def _calibrated_model(model: Any, config: EvaluatorConfig) -> CalibratedModel:
    """The caliber model itself; any other model as one without a calibrator."""
    scorer = scorer_from_pyfunc(model, proba_column=config.proba_column, classes=config.classes)
    if not isinstance(scorer, CalibratedModel):
        return CalibratedModel(scorer, None, pos_label=config.pos_label)
    if scorer.calibrator is None or scorer.policy is None:
        lost = "calibrator" if scorer.calibrator is None else "policy"
        raise StateError(f"A caliber model must be whole to be judged, but its {lost} could not be loaded.")
    return scorer


def _model_inputs(model: Any, features: pd.DataFrame) -> pd.DataFrame:
    """The columns that the model's signature names; without names, all of them."""
    metadata = getattr(model, "metadata", None)
    schema = None if metadata is None else metadata.get_input_schema()
    if schema is None or not schema.has_input_names():
        return features
    absent = [name for name in schema.required_input_names() if name not in features.columns]
    if absent:
        raise InvalidInputError(
            f"The data must hold the columns of the model's signature, got none of: {', '.join(absent[:20])}."
        )
    return features[[name for name in schema.input_names() if name in features.columns]]


def _check_all_scored(raw: FloatArray) -> None:
    n_unscored = int((~np.isfinite(raw)).any(axis=1).sum())
    if n_unscored:
        raise InvalidInputError(
            f"The model must score every row, got no score for {n_unscored} of {len(raw)} rows (missing values?)."
        )


# --- static data ------------------------------------------------------------------------------------------------------


def _column_names(table: pd.DataFrame, place: ProbaColumn | None, what: str) -> list[str]:
    if place is None:
        return []
    if isinstance(place, int):
        if not -len(table.columns) <= place < len(table.columns):
            raise ConfigError(f"{what}: a position must fit the {len(table.columns)} columns of the data, got {place}.")
        place = table.columns[place]
    return [place] if isinstance(place, str) else list(place)


def _probabilities(table: pd.DataFrame, names: list[str]) -> FloatArray:
    """Shape (n,) for one column of numbers, (n, K) for several or for one of lists."""
    columns = [_column(table, name, "proba_column") for name in names]
    if len(columns) == 1 and columns[0].map(pd.api.types.is_list_like).all():
        return check_probability_matrix(_lists_of_one_length(columns[0]), names[0])
    for name, column in zip(names, columns, strict=True):
        if not pd.api.types.is_float_dtype(column):
            raise InvalidInputError(
                f"The column {name!r} must hold probabilities, got {column.dtype} values: labels alone cannot be "
                "judged for calibration."
            )
    arrays = [column.to_numpy(dtype=np.float64, na_value=np.nan) for column in columns]
    return arrays[0] if len(arrays) == 1 else check_probability_matrix(np.column_stack(arrays), ", ".join(names))


def _lists_of_one_length(column: pd.Series[Any]) -> list[Any]:
    lengths = sorted(set(column.map(len)))
    if len(lengths) > 1:
        raise InvalidInputError(f"The column {column.name!r} must hold lists of one length, got {lengths[:5]}.")
    return column.tolist()


def _static_classes(labels: NDArray[Any], config: EvaluatorConfig, n_classes: int) -> NDArray[Any]:
    """The labels in the order of the probabilities: as told, or those in the data, sorted."""
    if config.classes is not None:
        found = list(config.classes)
    else:
        found = _sorted_labels(labels)
        if n_classes == 2 and len(found) == 1:
            found = _with_its_opposite(found[0], config.pos_label)
    if len(found) != n_classes:
        raise ConfigError(
            f"{n_classes} probabilities a row need {n_classes} labels, got {', '.join(map(repr, found[:20]))}: "
            "name them all with classes=[...]."
        )
    return np.array(found, dtype=object)


def _sorted_labels(labels: NDArray[Any]) -> list[Any]:
    n_missing = int(pd.isna(labels).sum())
    if n_missing:
        raise InvalidInputError(f"targets must be known, got {n_missing} missing of {len(labels)}.")
    try:
        return list(np.unique(labels).tolist())
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in labels.tolist()})
        raise InvalidInputError(f"targets must be labels of one kind, got {', '.join(kinds)}.") from error


def _with_its_opposite(label: Any, pos_label: Any) -> list[Any]:
    """Two classes where the rows hold only one of them."""
    if pos_label is not None and pos_label != label:
        return [label, pos_label]
    return [False, True] if isinstance(label, bool) else [0, 1] if label in (0, 1) else [label]

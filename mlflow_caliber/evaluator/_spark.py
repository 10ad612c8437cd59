"""Evaluating a Spark frame: MLflow hands an evaluator its first 10,000 rows, so the frame itself comes as a setting."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.data.evaluation_dataset import EvaluationDataset

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.drift import DriftReport
from mlflow_caliber.evaluator._config import EvaluatorConfig
from mlflow_caliber.exceptions import ConfigError, InvalidInputError
from mlflow_caliber.model import CalibratedModel
from mlflow_caliber.report import ReliabilityReport
from mlflow_caliber.scorers import scorer_from_pyfunc

if TYPE_CHECKING:
    from mlflow_caliber.batches import ReportStatistics

__all__ = ["SparkFindings", "find_in_spark", "refuse_cut_data"]

_LIMIT = EvaluationDataset.SPARK_DATAFRAME_LIMIT
_RAW, _SCORED = "caliber_raw", "CASE WHEN reason <> 'unscorable_row' THEN raw_probability END"


@dataclass(frozen=True)
class SparkFindings:
    """What all rows of a Spark frame gave."""

    report: ReliabilityReport
    drift: DriftReport | None
    statistics: ReportStatistics


@dataclass(frozen=True)
class _Scored:
    """A frame with its probabilities, and what is known of whoever said them."""

    df: Any
    probability: str
    raw: str | None
    classes: tuple[str, ...] | None
    policy: AbstainPolicy | None = None
    profile: Mapping[str, Any] | None = None


def refuse_cut_data(dataset: Any, run_id: str) -> None:
    """Refuse the first rows of a Spark frame in the place of all.

    What MLflow was given it has logged to the run. The profile of a Spark frame is its approximate count, or nothing
    where that failed.
    """
    if "pyspark" not in sys.modules or len(dataset.features_data) < _LIMIT:
        return
    inputs = mlflow.get_run(run_id).inputs
    for given in [] if inputs is None else inputs.dataset_inputs:
        profile = json.loads(given.dataset.profile or "null")
        if given.dataset.digest == dataset.digest and (profile is None or "approx_count" in profile):
            raise InvalidInputError(
                f"MLflow hands an evaluator the first {_LIMIT} rows of a Spark frame, and no others: give the frame "
                'itself too, evaluator_config={"spark_frame": df}, or fewer rows as df.limit(n).toPandas().'
            )


def find_in_spark(dataset: Any, config: EvaluatorConfig, model: Any) -> SparkFindings:
    """Report on all rows: their probabilities stand in columns, or a caliber model says them.

    Raises
    ------
    ConfigError
        For a setting that needs rows in memory, or a model that is not ours.
    InvalidInputError
        If a row cannot be read.
    """
    from mlflow_caliber import spark  # and with it PySpark, which few have

    if dataset.targets_name is None:
        raise ConfigError("spark_frame: name the column of the labels with targets=..., got none.")
    if config.evidently:
        raise ConfigError("evidently: Evidently draws rows in memory, and a Spark frame has none there; leave it out.")
    scored = _of_columns(dataset, config) if model is None else _of_model(model, config)
    statistics = spark.report_statistics(
        scored.df,
        dataset.targets_name,
        scored.probability,
        raw=scored.raw,
        segments=config.segments,
        sample_weight=config.sample_weight,
        classes=scored.classes,
    )
    _check_few_segments(statistics, config)
    policy = scored.policy if config.abstain_threshold is None else AbstainPolicy(threshold=config.abstain_threshold)
    report = statistics.report(classes=scored.classes, policy=policy, n_bins=config.n_bins, strategy=config.strategy)
    return SparkFindings(report, _drift(config, dataset.targets_name, scored), statistics)


def _of_columns(dataset: Any, config: EvaluatorConfig) -> _Scored:
    probability = _one_name(config.proba_column or dataset.predictions_name, "proba_column")
    if probability is None:
        raise ConfigError(
            "Static data must say where the probabilities are, got neither predictions= nor proba_column."
        )
    classes = _positive_last(config.classes, config.pos_label)
    return _Scored(config.spark_frame, probability, _one_name(config.raw_column, "raw_column"), classes)


def _one_name(column: Any, what: str) -> str | None:
    if column is not None and not isinstance(column, str):
        raise ConfigError(f"{what}: a Spark frame is of two classes, so name one column, got {column!r}.")
    return column


def _of_model(model: Any, config: EvaluatorConfig) -> _Scored:
    from mlflow_caliber import spark

    found = scorer_from_pyfunc(model, proba_column=config.proba_column, classes=config.classes)
    path = getattr(getattr(model, "_model_impl", None), "path", None)
    if not isinstance(found, CalibratedModel) or path is None:
        raise ConfigError(
            "spark_frame: only a caliber model can score a Spark frame here; score it first, and evaluate the columns "
            "without a model."
        )
    if config.raw_column is not None:
        raise ConfigError("raw_column is for static data: with a model, the model itself knows its raw probabilities.")
    classes = _positive_last(list(found.classes_), found.classes_[found.pos_index])
    if classes is None or config.pos_label not in (None, found.classes_[found.pos_index]):
        raise ConfigError(f"pos_label must be the model's own in a Spark frame, got {config.pos_label!r}.")
    # A row that the model could not score has a stand-in in the frame, which is nothing to judge it by.
    df = spark.score(config.spark_frame, str(path)).selectExpr("*", f"{_SCORED} AS {_RAW}")
    return _Scored(df, "probability", _RAW, classes, found.policy, found.profile)


def _positive_last(classes: Iterable[Any] | None, pos_label: Any) -> tuple[str, ...] | None:
    names = None if classes is None else [str(label) for label in classes]
    if names is None:
        if pos_label not in (None, 1, True, 1.0):
            raise ConfigError(f"pos_label: name both classes of a Spark frame with classes=[...], got {pos_label!r}.")
        return None
    if len(names) != 2:
        raise ConfigError(f"spark_frame: a Spark frame is reported on for two classes, got {len(names)}.")
    if pos_label is None or str(pos_label) == names[1]:
        return names[0], names[1]
    if str(pos_label) != names[0]:
        raise ConfigError(f"pos_label must be one of {', '.join(names)}, got {pos_label!r}.")
    return names[1], names[0]


def _check_few_segments(statistics: ReportStatistics, config: EvaluatorConfig) -> None:
    for name, parts in statistics.segments.items():
        if len(parts) > config.max_segments:
            raise ConfigError(
                f"segments: column {name!r} must have at most {config.max_segments} values (max_segments), "
                f"got {len(parts)}; group them first."
            )


def _drift(config: EvaluatorConfig, target: str, scored: _Scored) -> DriftReport | None:
    """Drift against the reference rows, else against the profile that a caliber model carries."""
    from mlflow_caliber import spark

    reference = config.reference_frame()
    no_features = [target, config.sample_weight, scored.probability, scored.raw]
    features = [f"`{name}`" for name in config.spark_frame.columns if name not in no_features]
    if reference is not None:
        reference = reference.drop(columns=no_features, errors="ignore")
        return spark.drift_report(reference, config.spark_frame.select(*features), method=config.drift_methods)
    if scored.profile is None or scored.classes is None:
        return None
    current = scored.df.selectExpr(*features, f"{_RAW} AS `score:{scored.classes[1]}`")
    return spark.drift_report(scored.profile, current, method=config.drift_methods)

"""The evaluator: score once, report once, write everything down."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models.evaluation import EvaluationResult, ModelEvaluator
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from mlflow_caliber.drift import DriftReport, drift_from_profile, drift_report
from mlflow_caliber.evaluator._config import EvaluatorConfig
from mlflow_caliber.evaluator._inputs import ScoredRows, rows_of_model, rows_of_static_data
from mlflow_caliber.evaluator._log import Evaluation, log_evaluation, log_spark
from mlflow_caliber.evaluator._spark import find_in_spark, refuse_cut_data
from mlflow_caliber.evidence import ModelIdentity, identify_model
from mlflow_caliber.exceptions import CaliberError, EvidenceError
from mlflow_caliber.report import reliability_report

__all__ = ["CaliberEvaluator"]

_SHARED_KEYS = frozenset({"pos_label"})
"""Settings that MLflow's own evaluators know too: alone they do not mean us."""


class CaliberEvaluator(ModelEvaluator):
    """Reliability of a classifier's probabilities, as an MLflow evaluator.

    MLflow finds it by its entry point ``mlflow.model_evaluator = caliber``; nobody makes one by hand. Settings are
    those of :class:`EvaluatorConfig`.

    Examples
    --------
    >>> mlflow.models.evaluate("models:/credit/1", df, targets="repaid", model_type="classifier",
    ...                        evaluators="caliber", evaluator_config={"segments": ["region"]})  # doctest: +SKIP
    """

    @classmethod
    def can_evaluate(cls, *, model_type: str | None, evaluator_config: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        """Whether we take part: always when named, and uninvited only with a config of our own.

        With ``evaluators=None`` MLflow runs every installed evaluator that says yes, so a yes without being asked would
        put our metrics, and our errors, into everybody's evaluations.
        """
        if model_type != "classifier":
            return False
        return _is_named(inspect.currentframe()) or _is_ours(evaluator_config)

    def evaluate(
        self,
        *,
        model_type: str,
        dataset: Any,
        run_id: str,
        evaluator_config: Mapping[str, Any] | None,
        model: Any = None,
        model_id: str | None = None,
        **kwargs: Any,
    ) -> EvaluationResult:
        """Evaluate and log; MLflow calls this."""
        try:
            config = EvaluatorConfig.from_dict(_flat(evaluator_config))
            if config.spark_frame is not None:
                return log_spark(find_in_spark(dataset, config, model), dataset.name, config, run_id, model_id)
            refuse_cut_data(dataset, run_id)
            rows = rows_of_static_data(dataset, config) if model is None else rows_of_model(model, dataset, config)
            evaluation = _evaluation(rows, config, dataset, _identity(model, config))
        except CaliberError as error:
            raise MlflowException(f"caliber evaluator: {error}", error_code=INVALID_PARAMETER_VALUE) from error
        return log_evaluation(evaluation, run_id, model_id)


def _is_named(frame: FrameType | None) -> bool:
    """Whether MLflow asks an evaluator that it is about to run, rather than every one that is installed.

    It asks both with the same arguments; only who asks tells them apart. Should that function ever get another name,
    we stay out unless there is a config: the mistake that the user notices.
    """
    caller = frame.f_back if frame is not None else None
    return caller is not None and caller.f_code.co_name == "_evaluate"


def _is_ours(config: Any) -> bool:
    given = set(config) if isinstance(config, Mapping) else set()
    return given <= set(EvaluatorConfig.keys()) and bool(given - _SHARED_KEYS)


def _flat(config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The nested form, ``{"caliber": {...}}``, is MLflow's for a list of evaluators; for one alone it is as clear."""
    nested = config.get("caliber") if config is not None and set(config) == {"caliber"} else None
    return nested if isinstance(nested, Mapping) else config


def _evaluation(rows: ScoredRows, config: EvaluatorConfig, dataset: Any, model: ModelIdentity | None) -> Evaluation:
    segments = rows.segments(config)
    report = reliability_report(
        rows.y,
        rows.proba,
        raw=rows.raw,
        classes=rows.classes,
        policy=rows.policy,
        policy_segment=rows.policy_segment,
        segments=segments,
        sample_weight=rows.weights,
        n_bins=config.n_bins,
        strategy=config.strategy,
    )
    reference = config.reference_frame()
    if reference is not None:
        # The target and the weights of the earlier rows are no features to compare.
        reference = reference.drop(columns=[dataset.targets_name, config.sample_weight], errors="ignore")
    return Evaluation(
        rows=rows,
        segments=segments,
        report=report,
        drift=_drift(rows, reference, config.drift_methods),
        model=model,
        data_name=dataset.name,
        # Evidently draws rows against rows; without it, and without being asked for it, the native report is enough.
        evidently_reference=None if config.evidently is False else reference,
        policy_sha256=config.policy_sha256,
    )


def _drift(rows: ScoredRows, reference: pd.DataFrame | None, method: tuple[str, ...]) -> DriftReport | None:
    """Drift against the reference rows, else against the profile that a caliber model carries."""
    if reference is not None:
        return drift_report(reference, rows.features, method=method)
    if rows.profile is None or rows.profiled is None:
        return None
    return drift_from_profile(rows.profile, rows.profiled, method=method)


def _identity(model: Any, config: EvaluatorConfig) -> ModelIdentity | None:
    """Who was evaluated, by the digest of its files.

    None for predictions, for models that no store holds, and for an ``abstain_threshold`` that the model does not have.
    MLflow's ``model_id`` is no help: the caller may set it, and by default it is the last model that was logged.
    """
    metadata = getattr(model, "metadata", None)
    if metadata is None or config.abstain_threshold is not None:
        return None
    places = [f"models:/{metadata.model_id}"] if metadata.model_id else []
    if metadata.run_id and metadata.artifact_path:
        places.append(f"runs:/{metadata.run_id}/{metadata.artifact_path}")
    loaded_from = getattr(getattr(model, "_model_impl", None), "path", None)
    if loaded_from is not None:  # a caliber model remembers: nothing to download, and these very files were loaded
        return replace(identify_model(loaded_from), uri=next(iter(places), str(loaded_from)))
    return next((found for found in map(_identified, places) if found is not None), None)


def _identified(uri: str) -> ModelIdentity | None:
    try:
        return identify_model(uri)
    except EvidenceError:
        return None

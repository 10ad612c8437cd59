"""Write an evaluation to its run: metrics, tags, and the artifacts of ``caliber/``."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.models.evaluation import EvaluationArtifact, EvaluationResult
from mlflow.models.evaluation.artifacts import ImageEvaluationArtifact, JsonEvaluationArtifact, TextEvaluationArtifact
from numpy.typing import NDArray

from mlflow_caliber._signing import EVIDENCE_KEYS, Keyring
from mlflow_caliber.drift import DriftReport, evidently_report
from mlflow_caliber.evaluator._config import EvaluatorConfig
from mlflow_caliber.evaluator._inputs import ScoredRows
from mlflow_caliber.evaluator._keys import metrics_of
from mlflow_caliber.evaluator._spark import SparkFindings
from mlflow_caliber.evidence import (
    DRIFT_JSON,
    EVIDENTLY_HTML,
    RELIABILITY_PNG,
    REPORT_HTML,
    REPORT_JSON,
    REPORT_SIG,
    RISK_COVERAGE_PNG,
    ROWS_PARQUET,
    TAG_DATA_DIGEST,
    TAG_MODEL_DIGEST,
    DataIdentity,
    Evidence,
    ModelIdentity,
    Rows,
    data_digest,
)
from mlflow_caliber.exceptions import CaliberError
from mlflow_caliber.report import ReliabilityReport

__all__ = ["Evaluation", "log_evaluation", "log_spark"]

_NO_MODEL = ("none: predictions alone, or settings that are not the model's own", "none: this passes no gate")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Everything that one evaluation found, before any of it is written."""

    rows: ScoredRows
    segments: Mapping[str, NDArray[Any]]
    report: ReliabilityReport
    drift: DriftReport | None
    model: ModelIdentity | None
    data_name: str | None
    evidently_reference: pd.DataFrame | None
    """Rows that Evidently's page compares with; None for no page."""
    policy_sha256: str | None


def log_evaluation(evaluation: Evaluation, run_id: str, model_id: str | None) -> EvaluationResult:
    """Log artifacts, metrics and tags to the run and return them as MLflow wants them."""

    def write(root: Path) -> tuple[Evidence, list[str]]:
        evidence = _evidence(evaluation, run_id, root)
        names = _write(evidence, evaluation.report, root)
        if evaluation.evidently_reference is not None:
            names += _evidently(evaluation.evidently_reference, evaluation.rows.features, root)
        return evidence, names

    return _log(write, metrics_of(evaluation.report, evaluation.drift), run_id, model_id)


def log_spark(
    found: SparkFindings, data_name: str | None, config: EvaluatorConfig, run_id: str, model_id: str | None
) -> EvaluationResult:
    """The same for a Spark frame: there are no rows to write, so that no gate can make the report again from them."""

    def write(root: Path) -> tuple[Evidence, list[str]]:
        content = json.dumps(found.statistics.to_dict(), sort_keys=True)
        digest = f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
        evidence = Evidence(
            model=None,
            data=DataIdentity(digest=digest, name=data_name, n=found.report.n),
            report=found.report.to_dict(),
            drift=None if found.drift is None else found.drift.to_dict(),
            run_id=run_id,
            policy_sha256=config.policy_sha256,
        )
        return evidence, _write(evidence, found.report, root)

    return _log(write, metrics_of(found.report, found.drift), run_id, model_id)


_Write = Callable[[Path], tuple[Evidence, list[str]]]
"""Writes files below a folder; the evidence, and the names of what people read."""


def _log(write: _Write, metrics: dict[str, float], run_id: str, model_id: str | None) -> EvaluationResult:
    client = MlflowClient()
    evidence, artifacts = _log_artifacts(write, run_id, client)
    tags = [RunTag(TAG_DATA_DIGEST, evidence.data.digest)]
    if evidence.model is not None:
        tags.append(RunTag(TAG_MODEL_DIGEST, evidence.model.digest))
    # With a model id MLflow itself logs what is returned, to the run and to the logged model; twice would be twice.
    stamp = time.time_ns() // 1_000_000
    logged = [] if model_id is not None else [Metric(key, value, stamp, 0) for key, value in metrics.items()]
    # Last, because the tags point to the artifacts.
    client.log_batch(run_id, metrics=logged, tags=tags)
    return EvaluationResult(metrics=metrics, artifacts=artifacts, run_id=run_id)  # type: ignore[no-untyped-call]


def _log_artifacts(write: _Write, run_id: str, client: MlflowClient) -> tuple[Evidence, dict[str, EvaluationArtifact]]:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / REPORT_JSON).parent.mkdir()
        evidence, names = write(root)
        artifacts = {name: _artifact(name, root) for name in names}
        client.log_artifacts(run_id, folder)
    return evidence, artifacts


def _evidence(evaluation: Evaluation, run_id: str, root: Path) -> Evidence:
    """The evidence, with its rows beside it."""
    rows = evaluation.rows
    return Evidence(
        model=evaluation.model,
        data=DataIdentity(
            digest=data_digest(rows.features, rows.labels, rows.weights), name=evaluation.data_name, n=len(rows.y)
        ),
        report=evaluation.report.to_dict(),
        drift=None if evaluation.drift is None else evaluation.drift.to_dict(),
        run_id=run_id,
        rows_sha256=_rows(evaluation).write(root / ROWS_PARQUET),
        policy_sha256=evaluation.policy_sha256,
    )


def _rows(evaluation: Evaluation) -> Rows:
    """All that the report was made of, so that a gate can make it again."""
    rows = evaluation.rows
    return Rows(
        y=rows.y,
        p=rows.proba,
        weight=rows.weights,
        raw=rows.raw,
        group=rows.policy_segment,
        segments=evaluation.segments,
    )


def _write(evidence: Evidence, report: ReliabilityReport, root: Path) -> list[str]:
    """Write what people read below ``root``, and name it."""
    content = evidence.to_json()
    (root / REPORT_JSON).write_bytes(content)
    keyring = Keyring.from_environment(EVIDENCE_KEYS)
    if keyring is not None:
        (root / REPORT_SIG).write_text(keyring.sign("evidence", content), encoding="utf-8")
    names = [REPORT_JSON, *_show(evidence, report, root)]
    if evidence.drift is not None:
        (root / DRIFT_JSON).write_text(json.dumps(evidence.drift, indent=1, allow_nan=False), encoding="utf-8")
        names.append(DRIFT_JSON)
    return names


def _show(evidence: Evidence, report: ReliabilityReport, root: Path) -> list[str]:
    """Draw the figures once, and put them into the pictures and the page."""
    from mlflow_caliber.html import render_report  # with matplotlib, which takes a second to import
    from mlflow_caliber.plots import report_figures, save_png

    figures = report_figures(report)
    for name, figure in ((RELIABILITY_PNG, "reliability"), (RISK_COVERAGE_PNG, "risk_coverage")):
        save_png(figures[figure], root / name)
    page = render_report(
        report, title="Reliability report", context=_context(evidence), drift=evidence.drift, figures=figures
    )
    (root / REPORT_HTML).write_text(page, encoding="utf-8")
    return [RELIABILITY_PNG, RISK_COVERAGE_PNG, REPORT_HTML]


def _context(evidence: Evidence) -> dict[str, str]:
    model = evidence.model
    uri, digest = (model.uri, model.digest) if model is not None else _NO_MODEL
    return {
        "Model": uri,
        "Model digest": digest,
        "Data": evidence.data.name or "unnamed",
        "Data digest": evidence.data.digest,
        "Evaluated": evidence.created_at,
        "Written by": f"mlflow-caliber {evidence.caliber_version}",
    }


def _evidently(reference: pd.DataFrame, current: pd.DataFrame, root: Path) -> list[str]:
    try:
        evidently_report(reference, current, root / EVIDENTLY_HTML)
    except CaliberError as error:
        _logger.warning("Drift was measured natively; Evidently's page is left out. %s", error)
        return []
    return [EVIDENTLY_HTML]


def _artifact(name: str, root: Path) -> EvaluationArtifact:
    """MLflow's handle of a file, content included: ``EvaluationResult.save`` writes nothing that was not loaded."""
    kind, load = _KINDS[Path(name).suffix]
    artifact: EvaluationArtifact = kind(uri=mlflow.get_artifact_uri(name), content=load(root / name))
    return artifact


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _read_image(path: Path) -> Any:
    from PIL import Image  # comes with matplotlib

    with Image.open(path) as image:
        image.load()
    return image


_KINDS: Mapping[str, tuple[Any, Callable[[Path], Any]]] = {
    ".json": (JsonEvaluationArtifact, _read_json),
    ".html": (TextEvaluationArtifact, _read_text),
    ".png": (ImageEvaluationArtifact, _read_image),
}

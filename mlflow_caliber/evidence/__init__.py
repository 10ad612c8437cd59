"""Evidence: the report of one model version on one data set, bound to both by digests.

The evaluator writes it as run artifacts, the gate reads it back. A number in a tag or in a run's metrics can be
written by anybody; evidence is believed because its digests are recomputed: the model's from the version's own files,
the rows' from the parquet file that the report names, and the report itself from these rows.
"""

from __future__ import annotations

from mlflow_caliber.evidence._digests import data_digest, model_digest, short_digest
from mlflow_caliber.evidence._recompute import recompute, report_like
from mlflow_caliber.evidence._record import DataIdentity, Evidence, ModelIdentity
from mlflow_caliber.evidence._rows import Rows
from mlflow_caliber.evidence._store import (
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
    evidence_signer,
    find_all_evidence,
    identify_model,
    load_evidence,
    load_rows,
    resolve_model_path,
)

__all__ = [
    "DRIFT_JSON",
    "EVIDENTLY_HTML",
    "RELIABILITY_PNG",
    "REPORT_HTML",
    "REPORT_JSON",
    "REPORT_SIG",
    "RISK_COVERAGE_PNG",
    "ROWS_PARQUET",
    "TAG_DATA_DIGEST",
    "TAG_MODEL_DIGEST",
    "DataIdentity",
    "Evidence",
    "ModelIdentity",
    "Rows",
    "data_digest",
    "evidence_signer",
    "find_all_evidence",
    "identify_model",
    "load_evidence",
    "load_rows",
    "model_digest",
    "recompute",
    "report_like",
    "resolve_model_path",
    "short_digest",
]

"""Where evidence lies in MLflow: found by tags, read back and checked."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from mlflow_caliber.evidence._digests import model_digest, sha256, short_digest
from mlflow_caliber.evidence._record import Evidence, ModelIdentity
from mlflow_caliber.evidence._rows import Rows
from mlflow_caliber.exceptions import EvidenceError, OptionalDependencyError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlflow_caliber._signing import Keyring

# Artifacts of an evaluation run.
REPORT_JSON = "caliber/report.json"
REPORT_SIG = "caliber/report.sig"
ROWS_PARQUET = "caliber/rows.parquet"
REPORT_HTML = "caliber/report.html"
RELIABILITY_PNG = "caliber/reliability.png"
RISK_COVERAGE_PNG = "caliber/risk_coverage.png"
DRIFT_JSON = "caliber/drift.json"
EVIDENTLY_HTML = "caliber/evidently_drift.html"

LARGEST_REPORT = 50_000_000
"""Bytes of ``caliber/report.json`` that are read; a real one has some hundred thousand."""
LARGEST_ROWS = 20_000_000
"""Rows that are read; whoever evaluates more samples them."""

# Tags of an evaluation run: how the gate finds it. They are a signpost, never the proof.
TAG_MODEL_DIGEST = "caliber_model_digest"
TAG_DATA_DIGEST = "caliber_data_digest"


def resolve_model_path(uri: str | Path, *, dst_path: str | Path | None = None) -> Path:
    """
    The local folder of a model: ``models:/name/1``, ``models:/name@alias``, ``models:/m-<id>``, ``runs:/...``, a path.

    A local folder is returned as it is; anything else is downloaded by MLflow, into ``dst_path`` when that is given.

    Raises
    ------
    EvidenceError
        If MLflow does not find it; the sentence carries MLflow's.

    Examples
    --------
    >>> resolve_model_path(".")
    PosixPath('.')
    """
    if Path(uri).is_dir():
        return Path(uri)
    from mlflow.artifacts import download_artifacts  # takes seconds, so not above
    from mlflow.exceptions import MlflowException

    try:
        return Path(download_artifacts(str(uri), dst_path=None if dst_path is None else str(dst_path)))
    except (MlflowException, OSError) as error:
        raise EvidenceError(f"The model {str(uri)!r} must be one that MLflow finds: {error}") from error


def identify_model(uri: str | Path) -> ModelIdentity:
    """
    The identity of a model, computed from its own files and never from tags.

    Raises
    ------
    EvidenceError
        If there is no such model.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "MLmodel").write_text("model_id: m-1")
    >>> identify_model(folder).model_id
    'm-1'
    """
    # Into a folder of our own: without one MLflow writes into a local artifact store in place.
    with tempfile.TemporaryDirectory() as scratch:
        path = resolve_model_path(uri, dst_path=scratch)
        digest = model_digest(path)
        meta = yaml.safe_load((path / "MLmodel").read_text(encoding="utf-8")) or {}
    return ModelIdentity(digest=digest, uri=str(uri), model_id=meta.get("model_id"), model_uuid=meta.get("model_uuid"))


def find_all_evidence(client: MlflowClient, digest: str, *, data_digest: str | None = None) -> tuple[str, ...]:
    """
    Every run, in any experiment, that says it evaluated the model with this digest; the oldest first.

    What the run says is only how it is found: :func:`load_evidence` and the gate check the evidence itself.

    Parameters
    ----------
    client : MlflowClient
        Of the tracking server.
    digest : str
        The model's, from :func:`model_digest`.
    data_digest : str, optional
        Only runs on this evaluation set.

    Returns
    -------
    tuple of str
        The runs' ids.
    """
    wanted = _wanted(digest, data_digest)
    search = partial(client.search_runs, _experiments(client), wanted, order_by=["attributes.start_time ASC"])
    return tuple(str(run.info.run_id) for run in _all_pages(search))


def _wanted(digest: str, data_digest: str | None) -> str:
    model = f"tags.{TAG_MODEL_DIGEST} = '{digest}'"
    return model if data_digest is None else f"{model} and tags.{TAG_DATA_DIGEST} = '{data_digest}'"


def _experiments(client: MlflowClient) -> list[str]:
    return [experiment.experiment_id for experiment in _all_pages(client.search_experiments)]


def _all_pages(search: Callable[..., Any]) -> Iterator[Any]:
    page = search()
    yield from page
    while page.token:
        page = search(page_token=page.token)
        yield from page


def load_evidence(run_id: str, client: MlflowClient) -> Evidence:
    """
    The evidence of a run.

    Raises
    ------
    EvidenceError
        If the run has no ``caliber/report.json``, or if that is not the file that the evaluator wrote for this run.
    """
    with _artifact(run_id, REPORT_JSON, client) as path:
        if path.stat().st_size > LARGEST_REPORT:
            raise EvidenceError(
                f"{REPORT_JSON} of run {run_id} must have at most {LARGEST_REPORT:,} bytes, "
                f"got {path.stat().st_size:,}."
            )
        content = path.read_bytes()
    try:
        state = json.loads(content)
    except ValueError as error:
        raise EvidenceError(f"{REPORT_JSON} of run {run_id} must be JSON: {error}.") from error
    evidence = Evidence.from_dict(state)
    if evidence.to_json() != content:
        raise EvidenceError(f"{REPORT_JSON} of run {run_id} must be as the evaluator wrote it, got an edited file.")
    if evidence.run_id not in (None, run_id):
        raise EvidenceError(f"{REPORT_JSON} of run {run_id} must be its own, got the one of run {evidence.run_id}.")
    return evidence


def evidence_signer(run_id: str, evidence: Evidence, client: MlflowClient, keyring: Keyring) -> str:
    """
    The name of the key that signed the evidence of a run.

    Parameters
    ----------
    run_id : str
        The run.
    evidence : Evidence
        What :func:`load_evidence` gave for it.
    client : MlflowClient
        Of the tracking server.
    keyring : Keyring
        The keys of trusted evaluators.

    Returns
    -------
    str
        The key's name.

    Raises
    ------
    EvidenceError
        If the run has no ``caliber/report.sig``.
    SignatureError
        If that is a signature of another content, or of no known key.
    """
    with _artifact(run_id, REPORT_SIG, client) as path:
        signature = path.read_text(encoding="utf-8", errors="replace").strip()
    return keyring.verify("evidence", evidence.to_json(), signature)


def load_rows(evidence: Evidence, run_id: str, client: MlflowClient) -> Rows:
    """
    The rows behind the evidence of a run, if they are still those that it names.

    Raises
    ------
    EvidenceError
        If the run has no ``caliber/rows.parquet``, or one with another digest.
    """
    with _artifact(run_id, ROWS_PARQUET, client) as path:
        digest = sha256(path.read_bytes())
        if digest != evidence.rows_sha256:
            named = "none" if evidence.rows_sha256 is None else short_digest(evidence.rows_sha256)
            raise EvidenceError(
                f"{ROWS_PARQUET} of run {run_id} must have the digest that its evidence names ({named}), "
                f"got {short_digest(digest)}."
            )
        n = _rows_in(path, run_id)
        if n != evidence.data.n or n > LARGEST_ROWS:
            raise EvidenceError(
                f"{ROWS_PARQUET} of run {run_id} must have {evidence.data.n} rows, and at most {LARGEST_ROWS:,}, "
                f"got {n}."
            )
        return Rows.from_frame(pd.read_parquet(path))


def _rows_in(path: Path, run_id: str) -> int:
    """How many rows there are, before they are unpacked: a small file can hold very many."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise OptionalDependencyError("Reading rows needs pyarrow: pip install 'mlflow-caliber[evaluate]'.") from error
    try:
        return int(ParquetFile(path).metadata.num_rows)
    except (ArrowException, OSError) as error:
        raise EvidenceError(
            f"{ROWS_PARQUET} of run {run_id} must be a Parquet file, got none that can be read."
        ) from error


@contextmanager
def _artifact(run_id: str, name: str, client: MlflowClient) -> Iterator[Path]:
    from mlflow.exceptions import MlflowException  # takes seconds, so not above

    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = Path(client.download_artifacts(run_id, name, scratch))
        except (MlflowException, OSError) as error:
            # Its text may hold paths of the server.
            raise EvidenceError(f"Run {run_id} must hold {name}, which evaluators='caliber' writes.") from error
        yield path

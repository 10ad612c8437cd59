"""The report made once more from its rows, so that a gate rests on no number that somebody wrote down."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.evidence._record import Evidence
from mlflow_caliber.evidence._rows import Rows
from mlflow_caliber.exceptions import EvidenceError, InvalidInputError
from mlflow_caliber.report import ReliabilityReport, reliability_report

_DRAWN = frozenset({"ece_null_mean", "ece_null_p95"})
"""Metrics from random numbers, whose streams may differ between versions of NumPy."""


def recompute(evidence: Evidence, rows: Rows) -> ReliabilityReport:
    """
    The report of the evidence, made again from its rows, if the stored one says the same.

    Parameters
    ----------
    evidence : Evidence
        Its report names the parameters: bins, confidence, classes and abstain policy.
    rows : Rows
        The rows that :func:`load_rows` gives.

    Returns
    -------
    ReliabilityReport
        With everything that the stored one claims.

    Raises
    ------
    EvidenceError
        If the rows are not enough for the report, or if a metric differs from the stored one.

    Notes
    -----
    Metrics have to agree within 1e-9 of their size. The noise floor of the calibration error is drawn at random and is
    not compared, only made again.

    Examples
    --------
    >>> import numpy as np
    >>> from mlflow_caliber.evidence import DataIdentity
    >>> rows = Rows(y=np.array([0, 1]), p=np.array([0.2, 0.7]))
    >>> report = reliability_report(rows.y, rows.p).to_dict()
    >>> evidence = Evidence(model=None, data=DataIdentity(digest="sha256:" + "1" * 64, n=2), report=report)
    >>> recompute(evidence, rows).metrics["brier"]
    0.065
    """
    stored = evidence.reliability
    _check_enough(stored, rows)
    report = report_like(stored, rows)
    _check_agrees(stored, report, evidence.caliber_version)
    return report


def report_like(report: ReliabilityReport, rows: Rows, *, confidence: float | None = None) -> ReliabilityReport:
    """
    A report of rows, made with the parameters of another report.

    Parameters
    ----------
    report : ReliabilityReport
        Its bins, classes and abstain policy are taken.
    rows : Rows
        What it is about.
    confidence : float, optional
        Level of the intervals; by default that of ``report``.

    Returns
    -------
    ReliabilityReport
        Sliced by all segment columns of the rows.

    Raises
    ------
    EvidenceError
        If the rows do not fit the report's classes, or cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> first = reliability_report([0, 1], [0.2, 0.7], n_bins=2)
    >>> report_like(first, Rows(y=np.array([0, 1, 1]), p=np.array([0.2, 0.7, 0.9])), confidence=0.9).confidence
    0.9
    """
    try:
        return reliability_report(
            rows.y,
            rows.p,
            raw=rows.raw,
            classes=report.classes,
            policy=None if report.policy is None else AbstainPolicy.from_dict(report.policy),
            policy_segment=rows.group,
            segments=rows.segments,
            sample_weight=rows.weight,
            n_bins=report.n_bins,
            strategy="uniform" if report.strategy == "uniform" else "quantile",
            confidence=report.confidence if confidence is None else confidence,
        )
    except InvalidInputError as error:
        raise EvidenceError(f"The report must be one of its rows: {error}") from error


def _check_enough(stored: ReliabilityReport, rows: Rows) -> None:
    """Evidence of earlier versions kept neither the raw probabilities nor the segments."""
    absent = sorted({segment.column for segment in stored.segments} - set(rows.segments))
    if stored.raw is not None and rows.raw is None:
        absent.append("the probabilities before calibration")
    if absent:
        raise EvidenceError(
            f"The rows must hold all that the report is made of, got none of: {', '.join(absent)}. "
            "Earlier versions did not keep it: evaluate the model again."
        )


def _check_agrees(stored: ReliabilityReport, again: ReliabilityReport, version: str) -> None:
    if (stored.kind, stored.n) != (again.kind, again.n):
        raise _edited(f"{stored.n} {stored.kind} rows for {again.n} {again.kind}", version)
    found = dict(_metrics(again))
    for where, metrics in _metrics(stored):
        for key, value in metrics.items():
            other = found.get(where, {}).get(key)
            if key in _DRAWN or (other is not None and math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12)):
                continue
            given = "no value" if other is None else f"{other:.9g}"
            raise _edited(f"{key}{where} {value:.9g} for {given}", version)


def _metrics(report: ReliabilityReport) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Every set of metrics of a report, and what it is of."""
    yield "", report.metrics
    if report.raw is not None:
        yield " before calibration", report.raw.metrics
    for segment in report.segments:
        yield f" of {segment.column} = {segment.value}", {**segment.metrics, "n": segment.n}


def _edited(got: str, version: str) -> EvidenceError:
    return EvidenceError(
        f"The report must say what its rows give, got {got}: the report was edited, or written by a version that "
        f"measures otherwise ({version}). Evaluate the model again."
    )

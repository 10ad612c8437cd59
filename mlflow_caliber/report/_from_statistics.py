"""A report of more rows than fit in memory, or that lie on many machines: made from their merged statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from mlflow_caliber._validation import check_class_names, check_unit_interval
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.report._compute import MAX_CURVE_POINTS
from mlflow_caliber.report._measure import WHOLE_ONLY, Settings
from mlflow_caliber.report._state import HISTOGRAM_BINS
from mlflow_caliber.report._values import ReliabilityReport, SegmentReport

_V = TypeVar("_V")
Parts = Mapping[str, Mapping[str, ScoreStatistics]]


def report_from_statistics(
    statistics: ScoreStatistics,
    *,
    raw: ScoreStatistics | None = None,
    classes: Sequence[Any] | None = None,
    policy: AbstainPolicy | None = None,
    segments: Parts | None = None,
    raw_segments: Parts | None = None,
    n_bins: int = 10,
    strategy: Literal["quantile", "uniform"] = "quantile",
    confidence: float = 0.95,
    random_state: int = 0,
) -> ReliabilityReport:
    """Make the report of two classes that :func:`reliability_report` would make of the rows behind the statistics.

    Parameters
    ----------
    statistics : ScoreStatistics
        Of the outcomes and the probability of class 1.
    raw : ScoreStatistics, optional
        Of the same outcomes and the probability before calibration; gives ``report.raw``, and the AUC.
    classes : sequence of two, optional
        Names of class 0 and class 1; by default their numbers.
    policy : AbstainPolicy, optional
        Its ``threshold`` decides what is answered. Statistics do not know the segment of a row, so a policy with
        thresholds per segment or class is refused.
    segments : mapping of column name to mapping of value to ScoreStatistics, optional
        One report per value.
    raw_segments : mapping, optional
        The same of the probability before calibration; given if and only if ``raw`` and ``segments`` are.
    n_bins, strategy, confidence, random_state
        As for :func:`reliability_report`.

    Returns
    -------
    ReliabilityReport
        ``exact`` says whether the statistics kept every distinct score. If not, the numbers are those of the rows
        within the tolerances that :class:`~mlflow_caliber.metrics.ScoreStatistics` states. ``change`` is empty: pairs
        of rows are not kept.

    Raises
    ------
    InvalidInputError
        If no row has been seen, ``raw`` or ``raw_segments`` is of other rows, or the policy needs what is not kept.

    Examples
    --------
    >>> from mlflow_caliber.metrics import ScoreStatistics
    >>> chunks = [([0, 1], [0.1, 0.35]), ([0, 1], [0.4, 0.8])]
    >>> statistics = sum(ScoreStatistics.from_rows(y, p) for y, p in chunks)
    >>> report_from_statistics(statistics, n_bins=2).metrics["roc_auc"]
    0.75
    """
    names = check_class_names(classes, 2)
    level = check_unit_interval(confidence, "confidence", open_ends=True)
    settings = Settings(names, n_bins, strategy, policy, level, random_state)
    segments, raw_segments = segments or {}, raw_segments or {}
    if raw is not None and raw.n != statistics.n:
        raise InvalidInputError(f"raw must be of the same {statistics.n} rows, got {raw.n}.")
    if _sizes(raw_segments) != ({} if raw is None else _sizes(segments)):
        raise InvalidInputError("raw_segments must hold the rows of segments where raw is given, and else nothing.")
    relative = statistics.without_common_weight()
    if relative is not statistics:  # as of rows: equal weights say nothing
        statistics, raw = relative, None if raw is None else raw.without_common_weight()
        segments, raw_segments = _without_common_weight(segments), _without_common_weight(raw_segments)
    after = _report(statistics, settings, segments)
    if raw is None:
        return after
    before = _report(raw, settings, {column: raw_segments[column] for column in segments})
    spread = {"roc_auc": before.intervals["roc_auc"]} if "roc_auc" in before.metrics else {}
    return replace(
        after,
        raw=before,
        metrics=after.metrics | _auc(before.metrics),
        intervals=after.intervals | spread,
        segments=tuple(
            replace(part, metrics=part.metrics | _auc(of_raw.metrics))
            for part, of_raw in zip(after.segments, before.segments, strict=True)
        ),
    )


def _auc(metrics: Mapping[str, float]) -> dict[str, float]:
    return {"roc_auc": metrics["roc_auc"]} if "roc_auc" in metrics else {}


def _sizes(columns: Parts) -> dict[str, dict[str, int]]:
    return {column: {value: part.n for value, part in parts.items()} for column, parts in columns.items()}


def _without_common_weight(columns: Parts) -> Parts:
    return {
        column: {value: part.without_common_weight() for value, part in parts.items()}
        for column, parts in columns.items()
    }


def _reading(settings: Settings) -> dict[str, Any]:
    threshold = _one_threshold(settings.policy)
    return {**settings.binning, "threshold": threshold, "random_state": settings.random_state}


def _one_threshold(policy: AbstainPolicy | None) -> float:
    if policy is None:
        return 0.0
    if policy.segment_thresholds or policy.class_thresholds or _withholds_all(policy):
        raise InvalidInputError(
            "policy must have one threshold for a report from statistics, got thresholds per segment or class, or a "
            "certificate that was not granted."
        )
    return policy.threshold


def _withholds_all(policy: AbstainPolicy) -> bool:
    return policy.certificate is not None and not policy.certificate.granted


def _report(statistics: ScoreStatistics, settings: Settings, segments: Parts) -> ReliabilityReport:
    measured = statistics.measure(**_reading(settings))
    corp = statistics.corp_curve(confidence=settings.confidence, random_state=settings.random_state)
    return ReliabilityReport(
        kind="binary",
        n=statistics.n,
        weighted=statistics.weighted,
        classes=settings.classes,
        **settings.binning,
        metrics=measured.metrics,
        not_computed=measured.not_computed,
        intervals=statistics.intervals(confidence=settings.confidence, **_reading(settings)),
        confidence=settings.confidence,
        change={},
        curve=statistics.reliability_curve(confidence=settings.confidence, **settings.binning),
        corp=corp.downsample(MAX_CURVE_POINTS),
        histogram=tuple(statistics.histogram(HISTOGRAM_BINS).tolist()),
        risk_coverage=statistics.risk_coverage_curve().downsample(MAX_CURVE_POINTS),
        per_class={},
        segments=tuple(_segments(segments, settings)),
        policy=None if settings.policy is None else settings.policy.to_dict(),
        exact=statistics.exact,
    )


def _segments(segments: Parts, settings: Settings) -> Iterator[SegmentReport]:
    for column, parts in segments.items():
        for value in sorted(parts):
            statistics = parts[value]
            found = statistics.measure(**_reading(settings))
            curve = statistics.reliability_curve(confidence=settings.confidence, **settings.binning)
            values, reasons = _of_a_slice(found.metrics), _of_a_slice(found.not_computed)
            yield SegmentReport(column, value, statistics.n, values, reasons, curve)


def _of_a_slice(by_key: dict[str, _V]) -> dict[str, _V]:
    return {key: value for key, value in by_key.items() if key not in WHOLE_ONLY}

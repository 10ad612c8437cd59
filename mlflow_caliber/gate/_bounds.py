"""Rules on one version's own numbers: of all rows, of one segment, of the worst segment."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlflow_caliber.evidence import Rows
from mlflow_caliber.gate._estimate import Estimate, estimate, rows_needed
from mlflow_caliber.gate._outcome import RuleOutcome, Verdict, bounds_in_words, unknown, would_decide
from mlflow_caliber.gate._side import Side, rows_of
from mlflow_caliber.gate.policy import Bound
from mlflow_caliber.report import SegmentReport


def bound(rule: Bound, side: Side) -> RuleOutcome:
    """Hold a bound against the evidence."""
    if rule.confidence is not None:
        return _with_confidence(rule, rule.confidence, side)
    return _of_all(rule, side) if rule.segment is None else _of_segments(rule, side)


# --- against the value -----------------------------------------------------------------------------------------------


def _of_all(rule: Bound, side: Side) -> RuleOutcome:
    value, reason = side.metric(rule.key)
    if value is None:
        return unknown(rule, bounds_in_words(rule), reason)
    interval = side.report.intervals.get(rule.key)
    return _judged(rule, "pass" if _excess(rule, value) <= 0.0 else "fail", f"{value:.6g}", interval=interval)


def _of_segments(rule: Bound, side: Side) -> RuleOutcome:
    segments, reason = side.segments(rule)
    if not segments:
        return unknown(rule, bounds_in_words(rule), reason)
    measured = [segment for segment in segments if rule.key in segment.metrics]
    worst = max(measured, key=lambda segment: _excess(rule, segment.metrics[rule.key]), default=None)
    if worst is not None and _excess(rule, worst.metrics[rule.key]) > 0.0:
        return _judged(rule, "fail", _in_segment(rule, worst))
    if worst is None or len(measured) < len(segments):
        blank = next(segment for segment in segments if rule.key not in segment.metrics)
        return unknown(rule, bounds_in_words(rule), _blank(blank, blank.not_computed.get(rule.key)))
    return _judged(rule, "pass", _in_segment(rule, worst))


def _blank(segment: SegmentReport, reason: str | None) -> str:
    return f"of {_name(segment)}: {reason or 'the evaluation does not hold it for segments'}"


def _in_segment(rule: Bound, segment: SegmentReport) -> str:
    return f"{segment.metrics[rule.key]:.6g} ({_name(segment)}, {segment.n} rows)"


def _name(segment: SegmentReport) -> str:
    return f"{segment.column} = {segment.value}"


def _excess(rule: Bound, value: float) -> float:
    """How far a value lies outside of the bounds; at most zero inside."""
    below = -math.inf if rule.min is None else rule.min - value
    above = -math.inf if rule.max is None else value - rule.max
    return max(below, above)


def _judged(
    rule: Bound,
    verdict: Verdict,
    got: str,
    *,
    how: str = "",
    interval: tuple[float, float] | None = None,
    rows_needed: int | None = None,
) -> RuleOutcome:
    wanted = bounds_in_words(rule)
    return RuleOutcome(
        rule=str(rule),
        verdict=verdict,
        wanted=wanted,
        got=got,
        sentence=f"{rule.subject} must be {wanted}, got {got}{how}.{would_decide(rows_needed)}",
        interval=None if interval is None else (interval[0], interval[1]),
        rows_needed=rows_needed,
    )


# --- against the interval --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """The rows that a bound is held against, all or those of a segment, and what they show."""

    rows: Rows
    segment: SegmentReport | None
    found: Estimate | str

    @property
    def where(self) -> str:
        n = f"{len(self.rows.y)} rows"
        return n if self.segment is None else f"{_name(self.segment)}, {n}"


def _with_confidence(rule: Bound, confidence: float, side: Side) -> RuleOutcome:
    if side.rows is None:
        return unknown(rule, bounds_in_words(rule), "a bound with a confidence needs the rows behind the evidence")
    segments: tuple[SegmentReport, ...] = ()
    if rule.segment is not None:
        segments, reason = side.segments(rule)
        if not segments:
            return unknown(rule, bounds_in_words(rule), reason)
    # Of many segments one looks bad by chance: all of their bounds hold at once (Bonferroni).
    level = 1.0 - (1.0 - confidence) / max(len(segments), 1)
    cut = [side.rows] if rule.segment is None else rows_of(side.rows, segments)
    parts = [
        _Part(rows, segment, estimate(rule.key, rows, side.report, level))
        for rows, segment in zip(cut, segments or (None,), strict=True)
    ]
    at_once = f", {level:.4g} each for {len(segments)} segments" if len(segments) > 1 else ""
    return _worst_part(rule, parts, side.report.n, f"one-sided {confidence:.4g} bounds{at_once}")


def _worst_part(rule: Bound, parts: list[_Part], n: int, level: str) -> RuleOutcome:
    """The part that decides: one that fails, else one that leaves it open, else the one nearest to the limit."""
    measured = [(part, part.found) for part in parts if isinstance(part.found, Estimate)]
    blank = next((part for part in parts if isinstance(part.found, str)), None)
    of_verdict: dict[Verdict, list[tuple[_Part, Estimate]]] = {"fail": [], "inconclusive": [], "pass": []}
    for part, found in measured:
        of_verdict[found.verdict(rule)].append((part, found))
    verdict: Verdict = next((verdict for verdict, those in of_verdict.items() if those), "inconclusive")
    if blank is not None and verdict != "fail":
        reason = str(blank.found) if blank.segment is None else _blank(blank.segment, str(blank.found))
        return unknown(rule, bounds_in_words(rule), reason)
    part, found = max(of_verdict[verdict], key=lambda entry: _excess(rule, entry[1].value))
    factors = [other.rows_factor(rule) for _, other in of_verdict["inconclusive"]] if verdict == "inconclusive" else []
    return _judged(
        rule,
        verdict,
        f"{found.value:.6g}, between {found.low:.6g} and {found.high:.6g}",
        how=f" ({level}; {part.where})",
        interval=(found.low, found.high),
        rows_needed=rows_needed(n, factors),
    )

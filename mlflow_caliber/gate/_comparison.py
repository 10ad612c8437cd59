"""Two versions on the same rows: the paired difference of a proper score, candidate less champion."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.evidence import Rows, short_digest
from mlflow_caliber.exceptions import EvidenceError, InvalidInputError
from mlflow_caliber.gate._outcome import RuleOutcome, Verdict, unknown, would_decide
from mlflow_caliber.gate._sequential import SequentialComparison
from mlflow_caliber.gate._side import Side, rows_of
from mlflow_caliber.gate.policy import Comparison
from mlflow_caliber.metrics import PairedDifference, PairedMetric, compare_models
from mlflow_caliber.report import SegmentReport

PAIRED_SCORES: dict[str, PairedMetric] = {"brier": "brier", "log_loss": "log_loss"}
GREATEST_SURPRISE = math.log(100.0)
"""Up to here the log loss of a row counts sequentially, a probability of .01: a bet must know what it can lose."""

_FEWEST = 10  # so few rows may be alike by chance


class PairedRows(NamedTuple):
    """One data set on which both versions were evaluated."""

    data_digest: str
    candidate: Rows
    champion: Rows


History = Callable[[], Sequence[PairedRows]]


@dataclass(frozen=True)
class Opponent:
    """Who is compared with: their evidence, or why there is none, and what the two have been through together."""

    side: Side | None
    no_evidence: str | None
    history: History | None


def comparison(rule: Comparison, ours: Side, opponent: Opponent) -> RuleOutcome:
    """Hold a comparison against the evidence of the two."""
    wanted = f"at most {rule.max_regression:g} worse than {rule.versus}"
    theirs = opponent.side
    if theirs is None and opponent.no_evidence is None:
        got = f"no {rule.versus} yet"
        sentence = f"{rule.metric} has nothing to be compared with: {got}."
        return RuleOutcome(rule=str(rule), verdict="pass", wanted=wanted, got=got, sentence=sentence)
    if rule.sequential:
        return _sequential(rule, wanted, opponent)
    if theirs is None:
        return unknown(rule, wanted, opponent.no_evidence or "")
    data = (ours.evidence.data.digest, theirs.evidence.data.digest)
    if data[0] != data[1]:
        digests = " and ".join(map(short_digest, data))
        return unknown(rule, wanted, f"the two were evaluated on different data ({digests})")
    return (_paired if rule.in_pairs else _two_values)(rule, wanted, ours, theirs)


def _two_values(rule: Comparison, wanted: str, ours: Side, theirs: Side) -> RuleOutcome:
    (value, reason), (other, other_reason) = ours.metric(rule.key), theirs.metric(rule.key)
    if value is None or other is None:
        side, why = ("the candidate", reason) if value is None else (rule.versus, other_reason)
        return unknown(rule, wanted, f"of {side}: {why}")
    got = f"{value:.6g} against {other:.6g}"
    return RuleOutcome(
        rule=str(rule),
        verdict="pass" if rule.sign * (value - other) <= rule.max_regression else "fail",
        wanted=wanted,
        got=got,
        sentence=f"{rule.metric} must be {wanted}, got {got} (two values; this metric has no comparison in pairs).",
    )


# --- in pairs --------------------------------------------------------------------------------------------------------


def paired_difference(
    metric: PairedMetric, candidate: Rows, champion: Rows, *, confidence: float, margin: float = 0.0
) -> PairedDifference:
    """Compare two versions row by row; each end of the interval is a one-sided bound of the given confidence.

    Raises
    ------
    EvidenceError
        If the rows of the two are not the same, or if there are fewer than two.
    """
    _check_same(candidate, champion)
    two_sided = 2.0 * confidence - 1.0
    try:
        return compare_models(
            candidate.y,
            champion.p,
            candidate.p,
            metric=metric,
            confidence=two_sided,
            sample_weight=candidate.weight,
            margin=margin,
        )
    except InvalidInputError as error:
        raise EvidenceError(str(error)) from error


def _check_same(candidate: Rows, champion: Rows) -> None:
    if candidate.p.shape != champion.p.shape or not np.array_equal(candidate.y, champion.y):
        raise EvidenceError(
            "A paired comparison must have the same rows and classes on both sides, "
            f"got probabilities of shape {candidate.p.shape} and {champion.p.shape}, or labels that differ."
        )


def _paired(rule: Comparison, wanted: str, ours: Side, theirs: Side) -> RuleOutcome:
    if ours.rows is None or theirs.rows is None:
        return unknown(rule, wanted, "a comparison in pairs needs the rows of both")
    if rule.segment is None:
        found = _difference(rule, ours.rows, theirs.rows, rule.confidence)
        return _decided(rule, wanted, found, f"one-sided {rule.confidence:.4g} bounds on {found.n} paired rows", 1.0)
    segments, reason = ours.segments(rule)
    if not segments:
        return unknown(rule, wanted, reason)
    # The segments are the candidate's: the champion may have been evaluated with others, on the same rows.
    cut = Rows(y=theirs.rows.y, p=theirs.rows.p, weight=theirs.rows.weight, segments=ours.rows.segments)
    level = 1.0 - (1.0 - rule.confidence) / len(segments)
    sides = zip(rows_of(ours.rows, segments), rows_of(cut, segments), segments, strict=True)
    return _worst(rule, wanted, [(_difference(rule, a, b, level), segment) for a, b, segment in sides], ours.report.n)


def _difference(rule: Comparison, candidate: Rows, champion: Rows, confidence: float) -> PairedDifference:
    return paired_difference(
        PAIRED_SCORES[rule.key], candidate, champion, confidence=confidence, margin=rule.max_regression
    )


def _worst(rule: Comparison, wanted: str, found: list[tuple[PairedDifference, SegmentReport]], n: int) -> RuleOutcome:
    order: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")
    one, segment = max(found, key=lambda entry: (order.index(_VERDICTS[entry[0].verdict]), entry[0].difference))
    each = f", corrected for {len(found)} segments" if len(found) > 1 else ""
    how = f"one-sided {rule.confidence:.4g} bounds{each}; {segment.column} = {segment.value}, {one.n} paired rows"
    return _decided(rule, wanted, one, how, n / one.n)


def _decided(rule: Comparison, wanted: str, found: PairedDifference, how: str, factor: float) -> RuleOutcome:
    verdict = _VERDICTS[found.verdict]
    open_ended = verdict != "inconclusive" or found.rows_needed is None
    needed = None if open_ended else math.ceil((found.rows_needed or 0) * factor)
    got = f"{found.difference:+.6g}, between {found.interval.low:+.6g} and {found.interval.high:+.6g}"
    return RuleOutcome(
        rule=str(rule),
        verdict=verdict,
        wanted=wanted,
        got=got,
        sentence=f"{rule.subject} must be {wanted}, got {got} ({how}).{would_decide(needed)}",
        interval=(found.interval.low, found.interval.high),
        rows_needed=needed,
    )


_VERDICTS: dict[str, Verdict] = {
    "better": "pass",
    "non_inferior": "pass",
    "worse": "fail",
    "inconclusive": "inconclusive",
}


# --- as the data come ------------------------------------------------------------------------------------------------


def _sequential(rule: Comparison, wanted: str, opponent: Opponent) -> RuleOutcome:
    if opponent.history is None:
        return unknown(rule, wanted, "a sequential comparison needs every data set on which both were evaluated")
    sets: dict[str, PairedRows] = {}
    for pair in opponent.history():
        sets.setdefault(pair.data_digest, pair)  # a data set counts once
    if not sets:
        return unknown(rule, wanted, opponent.no_evidence or "there is no data set on which both were evaluated")
    repeated = _repeated(list(sets.values()))
    if repeated is not None:
        return unknown(rule, wanted, repeated)
    if any(pair.candidate.weight is not None for pair in sets.values()):
        return unknown(rule, wanted, "a sequential comparison takes no sample weights")
    test = SequentialComparison(margin=rule.max_regression, confidence=rule.confidence, bound=_bound(rule, sets))
    for pair in sets.values():
        test = test.update(score_differences(rule.key, pair.candidate, pair.champion))
    return _tested(rule, wanted, test, list(sets))


def _repeated(sets: list[PairedRows]) -> str | None:
    """A data set that was only made longer would bring its rows again; what else they share cannot be seen."""
    for later, earlier in itertools.permutations(sets, 2):
        n = len(earlier.candidate.y)
        if _FEWEST <= n <= len(later.candidate.y) and any(
            _same_rows(later, earlier, part) for part in (slice(n), slice(-n, None))
        ):
            names = short_digest(later.data_digest), short_digest(earlier.data_digest)
            return f"the data set {names[0]} holds the rows of {names[1]} again, and each may count once"
    return None


def _same_rows(later: PairedRows, earlier: PairedRows, part: slice) -> bool:
    arrays = ((sets.candidate.y, sets.candidate.p, sets.champion.p) for sets in (later, earlier))
    return all(np.array_equal(longer[part], shorter) for longer, shorter in zip(*arrays, strict=True))


def _tested(rule: Comparison, wanted: str, test: SequentialComparison, data: list[str]) -> RuleOutcome:
    got = f"evidence of {test.e_value:.4g} for it and {test.e_value_against:.4g} against it"
    needed, sets = test.rows_needed, "1 data set" if len(data) == 1 else f"{len(data)} data sets"
    return RuleOutcome(
        rule=str(rule),
        verdict=test.verdict,
        wanted=wanted,
        got=got,
        sentence=f"{rule.metric} must be {wanted}, got {got} ({test.threshold:.4g} decides; {test.n} paired rows of "
        f"{sets}, valid however often it is looked at).{would_decide(needed)}",
        rows_needed=needed,
        sequential={"e_value": test.e_value, "e_value_against": test.e_value_against, "n": test.n, "data": data},
    )


def _bound(rule: Comparison, sets: dict[str, PairedRows]) -> float:
    """The largest difference of two scores that there can be."""
    if rule.key == "log_loss":
        return GREATEST_SURPRISE
    return 1.0 if next(iter(sets.values())).candidate.p.ndim == 1 else 2.0


def score_differences(key: str, candidate: Rows, champion: Rows) -> FloatArray:
    """Each row's score of the candidate less that of the champion."""
    _check_same(candidate, champion)
    score = _brier if key == "brier" else _surprise
    return score(candidate) - score(champion)


def _brier(rows: Rows) -> FloatArray:
    if rows.p.ndim == 1:
        return np.asarray((rows.p - rows.y) ** 2)
    return np.asarray(np.square(rows.p - np.eye(rows.p.shape[1])[rows.y]).sum(axis=1))


def _surprise(rows: Rows) -> FloatArray:
    chosen = np.where(rows.y == 1, rows.p, 1.0 - rows.p) if rows.p.ndim == 1 else rows.p[np.arange(len(rows.y)), rows.y]
    return -np.log(np.maximum(chosen, math.exp(-GREATEST_SURPRISE)))

"""Policy and evidence -> decision. Pure: no MLflow, no file, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from mlflow_caliber.evidence import Evidence, Rows, short_digest
from mlflow_caliber.exceptions import EvidenceError, InvalidInputError
from mlflow_caliber.gate._comparison import PAIRED_SCORES, paired_difference
from mlflow_caliber.gate.policy import Bound, Comparison, GatePolicy, Rule, TargetPolicy
from mlflow_caliber.report import ReliabilityReport, SegmentReport

Verdict = Literal["pass", "fail", "inconclusive"]
RowsLoader = Callable[[], Rows]

CLOCK_SKEW = timedelta(hours=1)  # the evaluating and the gating machine need not agree to the minute


@dataclass(frozen=True, kw_only=True)
class RuleOutcome:
    """
    What one rule said.

    Parameters
    ----------
    rule : str
        The rule, as its policy writes it.
    verdict : {"pass", "fail", "inconclusive"}
        Inconclusive: the evidence does not decide it.
    wanted, got : str
        What the rule asks for, and what the evidence holds.
    sentence : str
        The same for people.
    rows_needed : int, optional
        When more rows would decide: about how many in total.
    """

    rule: str
    verdict: Verdict
    wanted: str
    got: str
    sentence: str
    rows_needed: int | None = None


@dataclass(frozen=True, kw_only=True)
class GateDecision:
    """
    What the gate said, on which policy and which evidence.

    Parameters
    ----------
    target : str
        The alias or stage that was asked for.
    verdict : {"pass", "fail", "inconclusive"}
        Fail if any rule fails, else inconclusive if any is.
    rules : tuple of RuleOutcome
        Every rule, in the policy's order, behind the demands on the evidence itself.
    policy_sha256, model_digest, data_digest, evidence_sha256 : str
        What was decided on.
    evidence_run_id : str, optional
        The run that holds the evidence.
    champion_evidence_sha256 : str, optional
        The evidence of the version that was compared with.
    """

    target: str
    verdict: Verdict
    rules: tuple[RuleOutcome, ...]
    policy_sha256: str
    model_digest: str
    data_digest: str
    evidence_sha256: str
    evidence_run_id: str | None = None
    champion_evidence_sha256: str | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the rules that brought about a verdict other than pass."""
        return tuple(outcome.sentence for outcome in self.rules if outcome.verdict == self.verdict != "pass")

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)


def decide(
    policy: GatePolicy,
    candidate: Evidence,
    champion: Evidence | None = None,
    *,
    target: str = "champion",
    now: datetime | None = None,
    candidate_rows: RowsLoader | None = None,
    champion_rows: RowsLoader | None = None,
    no_evidence: str | None = None,
) -> GateDecision:
    """
    Hold a policy against evidence.

    Parameters
    ----------
    policy : GatePolicy
        The policy.
    candidate : Evidence
        Of the version that asks.
    champion : Evidence, optional
        Of the version to compare with; without one, rules that compare pass: there is no champion yet.
    target : str
        The alias or stage that is asked for.
    now : datetime, optional
        The time, with its zone; needed when the policy limits the evidence's age.
    candidate_rows, champion_rows : callable, optional
        Give the :class:`~mlflow_caliber.evidence.Rows` behind the evidence; called when a rule compares in pairs.
    no_evidence : str, optional
        There is a champion but no evidence of it: why. Rules that compare are inconclusive then.

    Returns
    -------
    GateDecision
        With one outcome for each rule.

    Raises
    ------
    ConfigError
        If the policy does not name the target.
    EvidenceError
        If the evidence cannot be read, or is not what it says it is.

    Notes
    -----
    Brier score and log loss are compared in pairs: the rule passes if the one-sided upper bound of the mean difference
    is within the margin, fails if the lower bound is beyond it, and is otherwise inconclusive. Other metrics are no
    mean over rows; they are compared as two values, and the sentence says so.

    Examples
    --------
    >>> from mlflow_caliber.evidence import DataIdentity, ModelIdentity
    >>> from mlflow_caliber.report import reliability_report
    >>> evidence = Evidence(
    ...     model=ModelIdentity(digest="sha256:" + "0" * 64, uri="models:/churn/1"),
    ...     data=DataIdentity(digest="sha256:" + "1" * 64, n=2),
    ...     report=reliability_report([0, 1], [0.5, 0.5]).to_dict(),
    ... )
    >>> rules = [{"metric": "caliber_brier", "max": 0.2}]
    >>> decision = decide(GatePolicy.from_dict({"targets": {"champion": {"rules": rules}}}), evidence)
    >>> decision.verdict, decision.reasons
    ('fail', ('caliber_brier must be at most 0.2, got 0.25.',))
    """
    wanted = policy.target(target)
    if candidate.model is None:
        raise EvidenceError("Evidence for a gate must be about a model, got that of predictions without one.")
    ours = _Side(candidate, candidate.reliability, candidate_rows)
    theirs = None if champion is None else _Side(champion, champion.reliability, champion_rows)
    rules = (_outcome(rule, ours, theirs, no_evidence) for rule in wanted.rules)
    outcomes = (*_demands(wanted, ours, now), *rules)
    return GateDecision(
        target=wanted.target,
        verdict=_overall(outcomes),
        rules=outcomes,
        policy_sha256=policy.sha256,
        model_digest=candidate.model.digest,
        data_digest=candidate.data.digest,
        evidence_sha256=candidate.sha256,
        evidence_run_id=candidate.run_id,
        champion_evidence_sha256=None if champion is None else champion.sha256,
    )


@dataclass(frozen=True)
class _Side:
    """One of the two that are compared: its evidence, the report in it, and its rows when they can be had."""

    evidence: Evidence
    report: ReliabilityReport
    rows: RowsLoader | None

    def metric(self, key: str) -> tuple[float | None, str]:
        """A metric's value, or None and why there is none."""
        if key == "drift_share":
            drift = self.evidence.drift or {}
            return drift.get("share"), "the evaluation compared no column with a reference"
        return self.report.metrics.get(key), self.report.not_computed.get(key, "the evaluation does not hold it")


def _overall(outcomes: tuple[RuleOutcome, ...]) -> Verdict:
    verdicts = {outcome.verdict for outcome in outcomes}
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"


def _outcome(rule: Rule, ours: _Side, theirs: _Side | None, no_evidence: str | None) -> RuleOutcome:
    if isinstance(rule, Comparison):
        return _comparison(rule, ours, theirs, no_evidence)
    return _worst_segment(rule, ours.report) if rule.segment else _bound(rule, ours)


# --- demands on the evidence -----------------------------------------------------------------------------------------


def _demands(policy: TargetPolicy, ours: _Side, now: datetime | None) -> Iterator[RuleOutcome]:
    if policy.min_rows > 1:
        yield _enough_rows(policy.min_rows, ours.report.n)
    if policy.max_age_days is not None:
        yield _young_enough(policy.max_age_days, ours.evidence, now)


def _enough_rows(min_rows: int, n: int) -> RuleOutcome:
    return RuleOutcome(
        rule=f"min_rows {min_rows}",
        verdict="pass" if n >= min_rows else "inconclusive",
        wanted=f"at least {min_rows} rows",
        got=f"{n} rows",
        sentence=f"The evaluation must have at least {min_rows} rows, got {n}.",
        rows_needed=None if n >= min_rows else min_rows,
    )


def _young_enough(max_age_days: float, evidence: Evidence, now: datetime | None) -> RuleOutcome:
    if now is None or now.tzinfo is None:
        raise InvalidInputError(f"now must be a time with its zone, as the policy limits the age, got {now!r}.")
    age = now - datetime.fromisoformat(evidence.created_at)
    days = age / timedelta(days=1)
    return RuleOutcome(
        rule=f"max_age_days {max_age_days:g}",
        verdict="pass" if -CLOCK_SKEW <= age <= timedelta(days=max_age_days) else "fail",
        wanted=f"at most {max_age_days:g} days old",
        got=f"{days:.1f} days",
        sentence=f"The evidence must be at most {max_age_days:g} days old, got {days:.1f} (of {evidence.created_at}).",
    )


# --- bounds ----------------------------------------------------------------------------------------------------------


def _bound(rule: Bound, ours: _Side) -> RuleOutcome:
    value, reason = ours.metric(rule.key)
    if value is None:
        return _unknown(rule, _range(rule), reason)
    return _bounded(rule, "pass" if _excess(rule, value) <= 0.0 else "fail", f"{value:.6g}")


def _bounded(rule: Bound, verdict: Verdict, got: str) -> RuleOutcome:
    wanted = _range(rule)
    sentence = f"{rule.subject} must be {wanted}, got {got}."
    return RuleOutcome(rule=str(rule), verdict=verdict, wanted=wanted, got=got, sentence=sentence)


def _worst_segment(rule: Bound, report: ReliabilityReport) -> RuleOutcome:
    segments = [segment for segment in report.segments if segment.n >= rule.smallest_segment]
    if not segments:
        reason = f"the evaluation has no segment of at least {rule.smallest_segment} rows"
        return _unknown(rule, _range(rule), reason)
    measured = [segment for segment in segments if rule.key in segment.metrics]
    worst = max(measured, key=lambda segment: _excess(rule, segment.metrics[rule.key]), default=None)
    if worst is not None and _excess(rule, worst.metrics[rule.key]) > 0.0:
        return _bounded(rule, "fail", _in_segment(rule, worst))
    if worst is None or len(measured) < len(segments):
        blank = next(segment for segment in segments if rule.key not in segment.metrics)
        reason = blank.not_computed.get(rule.key, "the evaluation does not hold it for segments")
        return _unknown(rule, _range(rule), f"of {blank.column} = {blank.value}: {reason}")
    return _bounded(rule, "pass", _in_segment(rule, worst))


def _in_segment(rule: Bound, segment: SegmentReport) -> str:
    return f"{segment.metrics[rule.key]:.6g} ({segment.column} = {segment.value}, {segment.n} rows)"


def _excess(rule: Bound, value: float) -> float:
    """How far a value lies outside of the bounds; at most zero inside."""
    below = -float("inf") if rule.min is None else rule.min - value
    above = -float("inf") if rule.max is None else value - rule.max
    return max(below, above)


def _range(rule: Bound) -> str:
    if rule.min is not None and rule.max is not None:
        return f"between {rule.min:g} and {rule.max:g}"
    return f"at most {rule.max:g}" if rule.min is None else f"at least {rule.min:g}"


def _unknown(rule: Rule, wanted: str, reason: str) -> RuleOutcome:
    subject = rule.subject if isinstance(rule, Bound) else rule.metric
    sentence = f"{subject} must be {wanted}, got no value: {reason.rstrip('.')}."
    return RuleOutcome(rule=str(rule), verdict="inconclusive", wanted=wanted, got="no value", sentence=sentence)


# --- comparisons -----------------------------------------------------------------------------------------------------


def _comparison(rule: Comparison, ours: _Side, theirs: _Side | None, no_evidence: str | None) -> RuleOutcome:
    wanted = f"at most {rule.max_regression:g} worse than {rule.versus}"
    if no_evidence is not None:
        return _unknown(rule, wanted, no_evidence)
    if theirs is None:
        sentence = f"{rule.metric} has nothing to be compared with: no {rule.versus} yet."
        return RuleOutcome(
            rule=str(rule), verdict="pass", wanted=wanted, got=f"no {rule.versus} yet", sentence=sentence
        )
    data = (ours.evidence.data.digest, theirs.evidence.data.digest)
    if data[0] != data[1]:
        digests = " and ".join(map(short_digest, data))
        return _unknown(rule, wanted, f"the two were evaluated on different data ({digests})")
    return (_paired if rule.key in PAIRED_SCORES else _two_values)(rule, wanted, ours, theirs)


def _paired(rule: Comparison, wanted: str, ours: _Side, theirs: _Side) -> RuleOutcome:
    if ours.rows is None or theirs.rows is None:
        return _unknown(rule, wanted, "a comparison in pairs needs the rows of both")
    found = paired_difference(
        PAIRED_SCORES[rule.key], ours.rows(), theirs.rows(), confidence=rule.confidence, margin=rule.max_regression
    )
    verdict = _VERDICTS[found.verdict]
    needed = found.rows_needed if verdict == "inconclusive" else None
    got = f"{found.difference:+.6g}, between {found.interval.low:+.6g} and {found.interval.high:+.6g}"
    more = f" About {needed} rows would decide." if needed is not None else ""
    return RuleOutcome(
        rule=str(rule),
        verdict=verdict,
        wanted=wanted,
        got=got,
        sentence=f"{rule.metric} must be {wanted}, got {got} "
        f"(one-sided {rule.confidence:.4g} bounds on {found.n} paired rows).{more}",
        rows_needed=needed,
    )


_VERDICTS: dict[str, Verdict] = {
    "better": "pass",
    "non_inferior": "pass",
    "worse": "fail",
    "inconclusive": "inconclusive",
}


def _two_values(rule: Comparison, wanted: str, ours: _Side, theirs: _Side) -> RuleOutcome:
    (value, reason), (other, other_reason) = ours.metric(rule.key), theirs.metric(rule.key)
    if value is None or other is None:
        side, why = ("the candidate", reason) if value is None else (rule.versus, other_reason)
        return _unknown(rule, wanted, f"of {side}: {why}")
    got = f"{value:.6g} against {other:.6g}"
    return RuleOutcome(
        rule=str(rule),
        verdict="pass" if rule.sign * (value - other) <= rule.max_regression else "fail",
        wanted=wanted,
        got=got,
        sentence=f"{rule.metric} must be {wanted}, got {got} (two values; this metric has no comparison in pairs).",
    )

"""What a policy demands beside its rules: of the evidence, of the abstain policy, of people."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mlflow_caliber.evidence import Evidence
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.gate._certified import certified
from mlflow_caliber.gate._outcome import RuleOutcome, Verdict
from mlflow_caliber.gate._side import Side
from mlflow_caliber.gate.policy import ApprovalPolicy, TargetPolicy

CLOCK_SKEW = timedelta(hours=1)  # the evaluating and the gating machine need not agree to the minute


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a version beside its evidence."""

    now: datetime | None = None
    approvals: Collection[str] = ()
    authors: Collection[str] = ()
    artifacts: Collection[str] | None = None
    signer: str | None = None
    no_signature: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def demands(policy: TargetPolicy, ours: Side, facts: Facts) -> Iterator[RuleOutcome]:
    """One outcome for each demand of the policy."""
    if policy.min_rows > 1:
        yield _enough_rows(policy.min_rows, ours.report.n)
    if policy.max_age_days is not None:
        yield _young_enough(policy.max_age_days, ours.evidence, facts.now)
    if policy.signed_evidence:
        yield _signed(facts)
    for name in policy.artifacts:
        yield _held(name, facts.artifacts)
    if policy.certificate is not None:
        yield certified(policy.certificate, ours)
    if policy.approvals is not None:
        yield _approved(policy.approvals, facts)


def zoned(now: datetime | None, why: str) -> datetime:
    """The time, if it is one that can be reckoned with."""
    if now is None or now.tzinfo is None:
        raise InvalidInputError(f"now must be a time with its zone, as {why}, got {now!r}.")
    return now


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
    age = zoned(now, "the policy limits the age") - datetime.fromisoformat(evidence.created_at)
    days = age / timedelta(days=1)
    return RuleOutcome(
        rule=f"max_age_days {max_age_days:g}",
        verdict="pass" if -CLOCK_SKEW <= age <= timedelta(days=max_age_days) else "fail",
        wanted=f"at most {max_age_days:g} days old",
        got=f"{days:.1f} days",
        sentence=f"The evidence must be at most {max_age_days:g} days old, got {days:.1f} (of {evidence.created_at}).",
    )


def _signed(facts: Facts) -> RuleOutcome:
    got = "no signature that can be checked" if facts.signer is None else f"the signature of {facts.signer}"
    why = f": {facts.no_signature.rstrip('.')}" if facts.signer is None and facts.no_signature else ""
    return RuleOutcome(
        rule="signed_evidence",
        verdict="fail" if facts.signer is None else "pass",
        wanted="a signature of a trusted evaluator",
        got=got,
        sentence=f"The evidence must have a signature of a trusted evaluator, got {got}{why}.",
    )


def _held(name: str, artifacts: Collection[str] | None) -> RuleOutcome:
    verdict: Verdict = "inconclusive" if artifacts is None else "pass" if name in artifacts else "fail"
    got = {"inconclusive": "no list of its artifacts", "pass": "it", "fail": "none"}[verdict]
    return RuleOutcome(
        rule=f"artifact {name}",
        verdict=verdict,
        wanted=name,
        got=got,
        sentence=f"The run with the evidence must hold {name}, got {got}.",
    )


# --- people ----------------------------------------------------------------------------------------------------------


def counted_approvals(policy: ApprovalPolicy, facts: Facts) -> tuple[str, ...]:
    """The approvals that count: each person once, in any case of letters; the tag, if it is set, as one more."""
    may = {_person(name) for name in policy.approvers}
    authors = {_person(name) for name in facts.authors}
    by_person = {_person(name): name for name in sorted(facts.approvals)}
    named = [
        name
        for person, name in by_person.items()
        # Four eyes cannot be counted before it is known whose the first two are.
        if (not may or person in may) and (not policy.not_author or (authors and person not in authors))
    ]
    if policy.tag is not None and facts.tags.get(policy.tag) == policy.tag_value:
        named.append(f"{policy.tag}={policy.tag_value}")
    return tuple(named)


def _person(name: str) -> str:
    return name.strip().casefold()


def _approved(policy: ApprovalPolicy, facts: Facts) -> RuleOutcome:
    counted = counted_approvals(policy, facts)
    missing = policy.count - len(counted)
    people = "1 person" if policy.count == 1 else f"{policy.count} people"
    got = f"{len(counted)} ({', '.join(counted)})" if counted else "0"
    rest = f": {missing} more {'is' if missing == 1 else 'are'} missing. {_who(policy, facts)}".rstrip()
    return RuleOutcome(
        rule=f"approvals {policy.count}",
        verdict="pass" if missing <= 0 else "inconclusive",
        wanted=f"approvals of {people}",
        got=got,
        sentence=f"The version must have the approvals of {people}, got {got}{rest if missing > 0 else '.'}",
    )


def _who(policy: ApprovalPolicy, facts: Facts) -> str:
    """Who can, and who cannot, give what is missing."""
    said = [f"Only {', '.join(policy.approvers)} may approve."] if policy.approvers else []
    if policy.not_author and facts.authors:
        said.append(f"{', '.join(sorted(facts.authors))} may not approve: the version is theirs.")
    elif policy.not_author:
        said.append("Nobody can approve before the author is known, who may not.")
    if policy.tag is not None:
        said.append(f"The tag {policy.tag} = {policy.tag_value} counts as one.")
    return " ".join(said)

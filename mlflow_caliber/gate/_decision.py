"""Policy and evidence -> decision. Pure: no MLflow, no file, no clock."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from mlflow_caliber.evidence import Evidence, short_digest
from mlflow_caliber.exceptions import EvidenceError
from mlflow_caliber.gate._bounds import bound
from mlflow_caliber.gate._comparison import History, Opponent, comparison
from mlflow_caliber.gate._demands import Facts, counted_approvals, demands, zoned
from mlflow_caliber.gate._outcome import RuleOutcome, Verdict
from mlflow_caliber.gate._side import RowsLoader, Side
from mlflow_caliber.gate.policy import Comparison, GatePolicy, TargetPolicy

_NO_TAGS: Mapping[str, str] = MappingProxyType({})


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
    approvals : tuple of str
        The approvals that counted, when the policy asks for any.
    expires_at : str, optional
        When this pass ends, in UTC as ISO 8601, if the policy says so.
    signer : str, optional
        The key that signed the evidence.
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
    approvals: tuple[str, ...] = ()
    expires_at: str | None = None
    signer: str | None = None

    @property
    def status(self) -> str:
        """The verdict as tags have it: ``passed``, ``failed`` or ``inconclusive``."""
        return {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}[self.verdict]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the rules that brought about a verdict other than pass."""
        return tuple(outcome.sentence for outcome in self.rules if outcome.verdict == self.verdict != "pass")

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> GateDecision:
        """Read :meth:`to_dict` back, from JSON too."""
        rules = tuple(RuleOutcome.from_dict(rule) for rule in state["rules"])
        return cls(**{**state, "rules": rules, "approvals": tuple(state["approvals"])})


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
    history: History | None = None,
    approvals: Collection[str] = (),
    authors: Collection[str] = (),
    artifacts: Collection[str] | None = None,
    signer: str | None = None,
    no_signature: str | None = None,
    tags: Mapping[str, str] = _NO_TAGS,
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
        The time, with its zone; needed when the policy limits the evidence's age or how long a pass holds.
    candidate_rows, champion_rows : callable, optional
        Give the :class:`~mlflow_caliber.evidence.Rows` behind the evidence. Every rule is then held against the report
        that is made again from them; without them against the report as it was written.
    no_evidence : str, optional
        There is a champion but no evidence of it: why. Rules that compare are inconclusive then.
    history : callable, optional
        Gives a :class:`PairedRows` for each data set on which both were evaluated, the oldest first; called when a rule
        is sequential.
    approvals : collection of str
        Who approved exactly this model, target, policy and evidence.
    authors : collection of str
        Who made the version.
    artifacts : collection of str, optional
        What the run with the evidence holds.
    signer : str, optional
        The key that signed the evidence, if a signature was found and verified.
    no_signature : str, optional
        Why there is no signer.
    tags : mapping of str to str
        Of the version; read for the approval tag that the policy names, and for nothing else.

    Returns
    -------
    GateDecision
        With one outcome for each rule.

    Raises
    ------
    ConfigError
        If the policy does not name the target.
    EvidenceError
        If the evidence cannot be read, or is not what it says it is: its report must say what its rows give.

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
    _check_made_for(policy, candidate)
    facts = Facts(
        now=now,
        approvals=approvals,
        authors=authors,
        artifacts=artifacts,
        signer=signer,
        no_signature=no_signature,
        tags=tags,
    )
    ours = Side(candidate, candidate_rows)
    theirs = Opponent(None if champion is None else Side(champion, champion_rows), no_evidence, history)
    rules = (
        comparison(rule, ours, theirs) if isinstance(rule, Comparison) else bound(rule, ours) for rule in wanted.rules
    )
    outcomes = (*demands(wanted, ours, facts), *rules)
    verdict = _overall(outcomes)
    return GateDecision(
        target=wanted.target,
        verdict=verdict,
        rules=outcomes,
        policy_sha256=policy.sha256,
        model_digest=candidate.model.digest,
        data_digest=candidate.data.digest,
        evidence_sha256=candidate.sha256,
        evidence_run_id=candidate.run_id,
        champion_evidence_sha256=None if champion is None else champion.sha256,
        approvals=() if wanted.approvals is None else counted_approvals(wanted.approvals, facts),
        expires_at=_expiry(wanted, verdict, now),
        signer=signer,
    )


def _check_made_for(policy: GatePolicy, candidate: Evidence) -> None:
    if candidate.policy_sha256 not in (None, policy.sha256):
        raise EvidenceError(
            f"Evidence must be made for this policy ({short_digest(policy.sha256)}), got evidence for another one "
            f"({short_digest(str(candidate.policy_sha256))}): evaluate the model again."
        )


def _overall(outcomes: tuple[RuleOutcome, ...]) -> Verdict:
    verdicts = {outcome.verdict for outcome in outcomes}
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"


def _expiry(wanted: TargetPolicy, verdict: Verdict, now: datetime | None) -> str | None:
    if wanted.expires_after_days is None:
        return None
    ends = zoned(now, "a pass expires") + timedelta(days=wanted.expires_after_days)
    return ends.astimezone(UTC).isoformat(timespec="seconds") if verdict == "pass" else None

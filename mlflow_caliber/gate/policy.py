"""Policy and evidence -> decision. Pure: no MLflow, no clock, no file but the policy's own.

A :class:`GatePolicy` says, per target, which :class:`Rule` a version has to keep. :func:`decide` holds them against
:class:`~mlflow_caliber.evidence.Evidence` and answers with a :class:`GateDecision`: pass, fail, or inconclusive.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlflow_caliber._validation import check_known_keys
from mlflow_caliber.config import check_section, read_config
from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.metrics import METRIC_PREFIX, METRICS

__all__ = [
    "ApprovalPolicy",
    "Bound",
    "CertificatePolicy",
    "Comparison",
    "GatePolicy",
    "Rule",
    "TargetPolicy",
]

Part = TypeVar("Part")
STAGES = ("Staging", "Production")
DEFAULT_SEGMENT_ROWS = 30  # of many small slices, one always looks terrible by chance
WITH_INTERVAL = (
    *("ece", "brier", "log_loss", "mcb", "dsc", "unc", "roc_auc", "aurc", "e_aurc", "augrc"),
    *("coverage", "selective_risk", "abstain_rate", "accuracy", "prevalence"),
)
"""The metrics whose sampling error is known, so that a bound on them can have a confidence."""
PAIRED = ("brier", "log_loss")
"""The metrics that are compared in pairs: proper scores, and means over the rows that the evidence keeps."""
_DEFAULTS = {"on_expiry": "tag", "signed_evidence": False, "artifacts": (), "approvers": (), "sequential": False}
"""Left out of the canonical form, so that a policy that does not name them keeps the digest that it always had."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """
    A bound on one metric, of all rows, of one segment or of every segment.

    Parameters
    ----------
    metric : str
        As MLflow names it, such as ``caliber_brier``.
    min, max : float, optional
        The ends of the range that passes; at least one.
    segment : str, optional
        ``worst``: hold the bound against every segment of the evaluation; or one segment, ``<column>=<value>``.
    min_rows : int, optional
        With ``segment``: smaller segments are passed over.
    confidence : float, optional
        Hold the bound against the interval whose ends are one-sided bounds of this level; without it against the value.

    Examples
    --------
    >>> str(Bound(metric="caliber_ece", max=0.1, segment="worst"))
    'caliber_ece in the worst segment max 0.1'
    >>> str(Bound(metric="caliber_ece", max=0.05, confidence=0.95))
    'caliber_ece max 0.05 with confidence 0.95'
    """

    metric: str
    min: float | None = None
    max: float | None = None
    segment: str | None = None
    min_rows: int | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ConfigError(f"The rule '{self}' must have min at most max, got {self.min:g} above {self.max:g}.")
        if self.confidence is not None and self.key not in WITH_INTERVAL:
            known = ", ".join(METRIC_PREFIX + key for key in WITH_INTERVAL)
            raise ConfigError(f"The rule '{self}' must be on a metric with an interval ({known}), got {self.metric}.")
        _check_segment(self)

    def __str__(self) -> str:
        ends = " ".join(f"{name} {end:g}" for name, end in (("min", self.min), ("max", self.max)) if end is not None)
        level = "" if self.confidence is None else f" with confidence {self.confidence:g}"
        return f"{self.subject} {ends}{level}"

    @property
    def subject(self) -> str:
        """What the bound is on, for sentences."""
        return self.metric + _inside(self.segment)

    @property
    def key(self) -> str:
        """The metric's key in a report."""
        return self.metric.removeprefix(METRIC_PREFIX)

    @property
    def smallest_segment(self) -> int:
        """The least number of rows of a segment that counts."""
        return DEFAULT_SEGMENT_ROWS if self.min_rows is None else self.min_rows


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """
    A comparison with the version that another alias points to, on the same rows.

    Parameters
    ----------
    metric : str
        As MLflow names it; Brier score and log loss are compared in pairs, other metrics as two values.
    versus : str
        The alias or stage of the other version.
    max_regression : float
        By how much the candidate may be worse, in the metric's own unit.
    confidence : float
        Of each one-sided bound on the paired difference.
    segment : str, optional
        ``worst``: in every segment; or one segment, ``<column>=<value>``. For what is compared in pairs.
    min_rows : int, optional
        With ``segment``: smaller segments are passed over.
    sequential : bool
        Judge every data set on which both were evaluated, as they come. For what is compared in pairs.

    Examples
    --------
    >>> str(Comparison(metric="caliber_brier", versus="champion", max_regression=0.002))
    'caliber_brier versus champion max_regression 0.002'
    """

    metric: str
    versus: str
    max_regression: float
    confidence: float = 0.95
    segment: str | None = None
    min_rows: int | None = None
    sequential: bool = False

    def __post_init__(self) -> None:
        if (self.sequential or self.segment is not None) and not self.in_pairs:
            wanted = " or ".join(METRIC_PREFIX + key for key in PAIRED)
            raise ConfigError(f"The rule '{self}' must be on {wanted} to be sequential or by segment.")
        if self.sequential and self.segment is not None:
            raise ConfigError(f"The rule '{self}' must be on all rows to be sequential, got segment {self.segment!r}.")
        _check_segment(self)

    def __str__(self) -> str:
        sequential = " sequential" if self.sequential else ""
        return f"{self.subject} versus {self.versus} max_regression {self.max_regression:g}{sequential}"

    @property
    def subject(self) -> str:
        """What is compared, for sentences."""
        return self.metric + _inside(self.segment)

    @property
    def key(self) -> str:
        """The metric's key in a report."""
        return self.metric.removeprefix(METRIC_PREFIX)

    @property
    def in_pairs(self) -> bool:
        """Whether the two versions are compared row by row."""
        return self.key in PAIRED

    @property
    def smallest_segment(self) -> int:
        """The least number of rows of a segment that counts."""
        return DEFAULT_SEGMENT_ROWS if self.min_rows is None else self.min_rows

    @property
    def sign(self) -> float:
        """+1 if more is worse, -1 if more is better: sign times the difference is the regression."""
        return -1.0 if METRICS[self.key].greater_is_better else 1.0


Rule = Bound | Comparison


def _inside(segment: str | None) -> str:
    if segment is None:
        return ""
    return " in the worst segment" if segment == "worst" else f" in {segment.replace('=', ' = ', 1)}"


def _check_segment(rule: Rule) -> None:
    if rule.min_rows is not None and rule.segment is None:
        raise ConfigError(f"The rule '{rule}' must have a segment when it has min_rows, got none.")


@dataclass(frozen=True, kw_only=True)
class CertificatePolicy:
    """
    The certificate that the abstain policy of a version must carry.

    Parameters
    ----------
    max_risk : float
        The largest error rate of answered cases that it may promise.
    max_delta : float
        The largest chance of being wrong about that.

    Examples
    --------
    >>> CertificatePolicy(max_risk=0.05).max_delta
    0.05
    """

    max_risk: float
    max_delta: float = 0.05


@dataclass(frozen=True, kw_only=True)
class ApprovalPolicy:
    """
    Who has to approve a version.

    Parameters
    ----------
    count : int
        So many different people.
    not_author : bool
        Whether whoever made the version may not approve it.
    approvers : tuple of str
        Only these count; when it is empty everybody does.
    tag, tag_value : str, optional
        A tag of the version that counts as one approval when it has this value.

    Examples
    --------
    >>> ApprovalPolicy(count=2).not_author
    True
    """

    count: int = 1
    not_author: bool = True
    approvers: tuple[str, ...] = ()
    tag: str | None = None
    tag_value: str | None = None

    def __post_init__(self) -> None:
        if (self.tag is None) != (self.tag_value is None):
            given = "tag" if self.tag_value is None else "tag_value"
            raise ConfigError(f"approvals must have tag and tag_value together, got {given} alone.")
        most = len(self.approvers) + (self.tag is not None)
        if self.approvers and most < self.count:
            raise ConfigError(f"approvals must name at least as many approvers as its count {self.count}, got {most}.")


@dataclass(frozen=True, kw_only=True)
class TargetPolicy:
    """
    What a version must show to get one alias or legacy stage.

    Parameters
    ----------
    target : str
        The alias, or the stage as MLflow spells it.
    kind : {"alias", "stage"}
        Which of the two it is.
    rules : tuple of Rule
        All of them have to pass.
    min_rows : int
        Fewer evaluated rows decide nothing.
    max_age_days : float, optional
        Older evidence fails.
    expires_after_days : float, optional
        How long a pass holds.
    on_expiry : {"tag", "demote"}
        When it ends: say so on the version, or take the target away too.
    signed_evidence : bool
        Whether a trusted evaluator must have signed the evidence.
    artifacts : tuple of str
        What the run with the evidence must hold.
    certificate : CertificatePolicy, optional
        The certificate that the abstain policy must carry.
    approvals : ApprovalPolicy, optional
        Who has to approve.
    """

    target: str
    kind: str
    rules: tuple[Rule, ...]
    min_rows: int = 1
    max_age_days: float | None = None
    expires_after_days: float | None = None
    on_expiry: Literal["tag", "demote"] = "tag"
    signed_evidence: bool = False
    artifacts: tuple[str, ...] = ()
    certificate: CertificatePolicy | None = None
    approvals: ApprovalPolicy | None = None

    def __post_init__(self) -> None:
        others = sorted({rule.versus for rule in self.rules if isinstance(rule, Comparison)})
        if len(others) > 1:
            raise ConfigError(f"gate.targets.{self.target} must compare with one version, got {', '.join(others)}.")
        if self.on_expiry == "demote" and self.expires_after_days is None:
            raise ConfigError(f"gate.targets.{self.target} must have expires_after_days to demote on expiry, got none.")

    @property
    def versus(self) -> str | None:
        """The alias or stage of the one version that the rules compare with, if any does."""
        return next((rule.versus for rule in self.rules if isinstance(rule, Comparison)), None)


@dataclass(frozen=True)
class GatePolicy:
    """
    The ``gate`` section of ``caliber.yaml``: a :class:`TargetPolicy` for each alias or legacy stage.

    Examples
    --------
    >>> rules = [{"metric": "caliber_brier", "max": 0.2}]
    >>> policy = GatePolicy.from_dict({"targets": {"champion": {"rules": rules}}})
    >>> str(policy.target("champion").rules[0])
    'caliber_brier max 0.2'
    """

    targets: Mapping[str, TargetPolicy]

    @classmethod
    def load(cls, path: str | Path) -> GatePolicy:
        """
        Read the policy of a ``caliber.yaml``.

        Raises
        ------
        ConfigError
            If the file cannot be read, holds a key that is not known, or has no ``gate`` section.
        """
        config = read_config(path)
        if "gate" not in config:
            raise ConfigError(f"{path} must have a gate section to gate with, got none.")
        return cls.from_dict(config["gate"])

    @classmethod
    def from_dict(cls, section: Any) -> GatePolicy:
        """
        Read the ``gate`` section, as YAML or JSON gives it.

        Raises
        ------
        ConfigError
            With the place, what was wanted and what came.
        """
        targets: dict[str, TargetPolicy] = {}
        for name, values in check_section("gate", section)["targets"].items():
            policy = _target(name, values)
            if policy.target in targets:
                raise ConfigError(f"gate.targets must name a target once, got {policy.target!r} twice.")
            targets[policy.target] = policy
        return cls(targets)

    def to_dict(self) -> dict[str, Any]:
        """The section in its canonical form: whatever was left out or written out, it is the same."""
        return {"targets": {name: _canonical(asdict(policy)) for name, policy in self.targets.items()}}

    @property
    def sha256(self) -> str:
        """The digest of the canonical form, so of what the policy says and not of how the file is laid out."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"

    def sequential(self) -> GatePolicy:
        """The same policy with every comparison in pairs judged sequentially; its digest is another one."""
        return GatePolicy({name: _sequential(policy) for name, policy in self.targets.items()})

    def target(self, name: str) -> TargetPolicy:
        """
        The policy of one alias or stage (stages in any case, as in MLflow).

        Raises
        ------
        ConfigError
            If the policy does not name it.
        """
        if name not in self.targets:
            name = canonical_stage(name) or name
        check_known_keys([name], self.targets, "gate.targets")
        return self.targets[name]


def _target(name: str, values: dict[str, Any]) -> TargetPolicy:
    stage = canonical_stage(name)
    kind = values.pop("kind", "stage" if stage else "alias")
    if kind == "stage" and stage is None:
        raise ConfigError(f"gate.targets.{name} must be Staging or Production to be a stage, got {name!r}.")
    if kind == "alias" and re.fullmatch(r"latest|v\d+", name, re.IGNORECASE):
        raise ConfigError(f"gate.targets.{name} must be an alias that can be set; MLflow reserves {name!r}.")
    rules = tuple(Comparison(**rule) if "versus" in rule else Bound(**rule) for rule in values.pop("rules"))
    return TargetPolicy(
        target=stage if kind == "stage" and stage else name,
        kind=kind,
        rules=rules,
        artifacts=tuple(values.pop("artifacts", ())),
        certificate=_part(CertificatePolicy, values.pop("certificate", None)),
        approvals=_part(ApprovalPolicy, values.pop("approvals", None)),
        **values,
    )


def _part(kind: type[Part], values: dict[str, Any] | None) -> Part | None:
    if values is None:
        return None
    return kind(**{key: tuple(entry) if isinstance(entry, list) else entry for key, entry in values.items()})


def canonical_stage(name: str) -> str | None:
    return next((stage for stage in STAGES if stage.lower() == name.lower()), None)


def _sequential(policy: TargetPolicy) -> TargetPolicy:
    rules = (
        replace(rule, sequential=True)
        if isinstance(rule, Comparison) and rule.in_pairs and rule.segment is None
        else rule
        for rule in policy.rules
    )
    return replace(policy, rules=tuple(rules))


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        said = {key: entry for key, entry in value.items() if entry is not None and key != "target"}
        return {key: _canonical(entry) for key, entry in said.items() if _DEFAULTS.get(key, ...) != entry}
    return [_canonical(entry) for entry in value] if isinstance(value, list | tuple) else value

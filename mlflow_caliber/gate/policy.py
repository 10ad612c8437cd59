"""Policy and evidence -> decision. Pure: no MLflow, no clock, no file but the policy's own.

A :class:`GatePolicy` says, per target, which :class:`Rule` a version has to keep. :func:`decide` holds them against
:class:`~mlflow_caliber.evidence.Evidence` and answers with a :class:`GateDecision`: pass, fail, or inconclusive.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow_caliber._validation import check_known_keys
from mlflow_caliber.config import check_section, read_config
from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.metrics import METRIC_PREFIX, METRICS

__all__ = ["Bound", "Comparison", "GatePolicy", "Rule", "TargetPolicy"]

STAGES = ("Staging", "Production")
DEFAULT_SEGMENT_ROWS = 30  # of many small slices, one always looks terrible by chance


@dataclass(frozen=True, kw_only=True)
class Bound:
    """
    A bound on one metric, of all rows or of every segment.

    Parameters
    ----------
    metric : str
        As MLflow names it, such as ``caliber_brier``.
    min, max : float, optional
        The ends of the range that passes; at least one.
    segment : {"worst"}, optional
        Hold the bound against every segment of the evaluation.
    min_rows : int, optional
        With ``segment``: smaller segments are passed over.

    Examples
    --------
    >>> str(Bound(metric="caliber_ece", max=0.1, segment="worst"))
    'caliber_ece in the worst segment max 0.1'
    """

    metric: str
    min: float | None = None
    max: float | None = None
    segment: str | None = None
    min_rows: int | None = None

    def __post_init__(self) -> None:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ConfigError(f"The rule '{self}' must have min at most max, got {self.min:g} above {self.max:g}.")
        if self.min_rows is not None and self.segment is None:
            raise ConfigError(f"The rule '{self}' must have a segment when it has min_rows, got none.")

    def __str__(self) -> str:
        ends = " ".join(f"{name} {end:g}" for name, end in (("min", self.min), ("max", self.max)) if end is not None)
        return f"{self.subject} {ends}"

    @property
    def subject(self) -> str:
        """What the bound is on, for sentences."""
        return f"{self.metric} in the worst segment" if self.segment else self.metric

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

    Examples
    --------
    >>> str(Comparison(metric="caliber_brier", versus="champion", max_regression=0.002))
    'caliber_brier versus champion max_regression 0.002'
    """

    metric: str
    versus: str
    max_regression: float
    confidence: float = 0.95

    def __str__(self) -> str:
        return f"{self.metric} versus {self.versus} max_regression {self.max_regression:g}"

    @property
    def key(self) -> str:
        """The metric's key in a report."""
        return self.metric.removeprefix(METRIC_PREFIX)

    @property
    def sign(self) -> float:
        """+1 if more is worse, -1 if more is better: sign times the difference is the regression."""
        return -1.0 if METRICS[self.key].greater_is_better else 1.0


Rule = Bound | Comparison


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
    """

    target: str
    kind: str
    rules: tuple[Rule, ...]
    min_rows: int = 1
    max_age_days: float | None = None

    def __post_init__(self) -> None:
        others = sorted({rule.versus for rule in self.rules if isinstance(rule, Comparison)})
        if len(others) > 1:
            raise ConfigError(f"gate.targets.{self.target} must compare with one version, got {', '.join(others)}.")

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
        """The section in its canonical form: defaults written out, stages as MLflow spells them."""
        return {"targets": {name: _without_none(asdict(policy)) for name, policy in self.targets.items()}}

    @property
    def sha256(self) -> str:
        """The digest of the canonical form, so of what the policy says and not of how the file is laid out."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"

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
    return TargetPolicy(target=stage if kind == "stage" and stage else name, kind=kind, rules=rules, **values)


def canonical_stage(name: str) -> str | None:
    return next((stage for stage in STAGES if stage.lower() == name.lower()), None)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None and key != "target"}
    return [_without_none(entry) for entry in value] if isinstance(value, list | tuple) else value

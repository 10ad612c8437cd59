"""What one rule said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlflow_caliber.gate.policy import Bound, Rule

Verdict = Literal["pass", "fail", "inconclusive"]


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
    interval : tuple of two floats, optional
        Of the value, or of the paired difference. A rule with a confidence is decided by it; beside a rule that looks
        at the value alone it stands for people to see, at the level of the report.
    rows_needed : int, optional
        When more rows would decide: about how many in total.
    sequential : mapping, optional
        Of a sequential comparison: both wealths, the rows, and the data sets that were used, in their order.
    """

    rule: str
    verdict: Verdict
    wanted: str
    got: str
    sentence: str
    interval: tuple[float, float] | None = None
    rows_needed: int | None = None
    sequential: Mapping[str, Any] | None = None

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> RuleOutcome:
        """Read back what JSON made of it."""
        low_high = state["interval"]
        return cls(**{**state, "interval": None if low_high is None else (low_high[0], low_high[1])})


def unknown(rule: Rule, wanted: str, reason: str, rows_needed: int | None = None) -> RuleOutcome:
    """Inconclusive, because there is no value to judge."""
    sentence = f"{rule.subject} must be {wanted}, got no value: {reason.rstrip('.')}."
    return RuleOutcome(
        rule=str(rule),
        verdict="inconclusive",
        wanted=wanted,
        got="no value",
        sentence=sentence,
        rows_needed=rows_needed,
    )


def bounds_in_words(rule: Bound) -> str:
    """The range that passes."""
    if rule.min is not None and rule.max is not None:
        return f"between {rule.min:g} and {rule.max:g}"
    return f"at most {rule.max:g}" if rule.min is None else f"at least {rule.min:g}"


def would_decide(rows_needed: int | None) -> str:
    """How many rows it takes, as the end of a sentence."""
    return "" if rows_needed is None else f" About {rows_needed} rows would decide."

"""Promotion gates: policy and evidence -> decision; decision -> tags and aliases in the registry.

==============  ====================================================================================================
``policy``      :class:`GatePolicy`: what a version must show, from ``caliber.yaml``; pure
``decide``      policy and evidence -> :class:`GateDecision`; pure
``registry``    :func:`gate_version`, :func:`promote`, :func:`rollback`: the only part that talks to MLflow
==============  ====================================================================================================
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlflow_caliber.gate._decision import GateDecision, RuleOutcome, decide
from mlflow_caliber.gate.policy import Bound, Comparison, GatePolicy, Rule, TargetPolicy

if TYPE_CHECKING:
    from mlflow_caliber.gate.registry import Move, gate_version, promote, rollback

__all__ = [
    "Bound",
    "Comparison",
    "GateDecision",
    "GatePolicy",
    "Move",
    "Rule",
    "RuleOutcome",
    "TargetPolicy",
    "decide",
    "gate_version",
    "promote",
    "rollback",
]

_REGISTRY = ("Move", "gate_version", "promote", "rollback")


def __getattr__(name: str) -> Any:
    # The registry imports MLflow, which takes seconds; policy and decision do without.
    if name not in _REGISTRY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.registry"), name)

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

from mlflow_caliber.gate._comparison import PairedRows
from mlflow_caliber.gate._decision import GateDecision, decide
from mlflow_caliber.gate._governance import Freeze, Governance, Holding, Override, VersionIdentity, disagreements
from mlflow_caliber.gate._outcome import RuleOutcome
from mlflow_caliber.gate._sequential import SequentialComparison
from mlflow_caliber.gate.policy import (
    ApprovalPolicy,
    Bound,
    CertificatePolicy,
    Comparison,
    GatePolicy,
    Rule,
    TargetPolicy,
)

if TYPE_CHECKING:
    from mlflow_caliber.gate._examine import Examination, Opponent, examine
    from mlflow_caliber.gate._finder import EvidenceFinder
    from mlflow_caliber.gate._remote import RemoteGuard, RemoteLedger, find_guard
    from mlflow_caliber.gate._verify import verify_model
    from mlflow_caliber.gate.registry import Move, gate_version, promote, rollback

__all__ = [
    "ApprovalPolicy",
    "Bound",
    "CertificatePolicy",
    "Comparison",
    "EvidenceFinder",
    "Examination",
    "Freeze",
    "GateDecision",
    "GatePolicy",
    "Governance",
    "Holding",
    "Move",
    "Opponent",
    "Override",
    "PairedRows",
    "RemoteGuard",
    "RemoteLedger",
    "Rule",
    "RuleOutcome",
    "SequentialComparison",
    "TargetPolicy",
    "VersionIdentity",
    "decide",
    "disagreements",
    "examine",
    "find_guard",
    "gate_version",
    "promote",
    "rollback",
    "verify_model",
]

# These import MLflow, which takes seconds; policy, decision and governance do without.
_WITH_MLFLOW = {
    **dict.fromkeys(("Move", "gate_version", "promote", "rollback"), "registry"),
    **dict.fromkeys(("Examination", "Opponent", "examine"), "_examine"),
    "EvidenceFinder": "_finder",
    **dict.fromkeys(("RemoteGuard", "RemoteLedger", "find_guard"), "_remote"),
    "verify_model": "_verify",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_MLFLOW:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WITH_MLFLOW[name]}"), name)

"""``gate``, ``promote`` and ``rollback``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from mlflow_caliber.cli._common import OF_VERDICT, PASSED, Command, Function, emit, mlflow_options, table, use_mlflow
from mlflow_caliber.exceptions import ConfigError, PromotionError

if TYPE_CHECKING:
    from mlflow_caliber.gate import GateDecision, GatePolicy


def _version_options(function: Function) -> Function:
    for option in reversed(
        [
            click.argument("name"),
            click.argument("version", type=click.IntRange(min=1)),
            click.option("--target", default="champion", show_default=True, help="Alias or legacy stage."),
            click.option("--config", metavar="FILE", help="caliber.yaml [CALIBER_CONFIG, ./caliber.yaml]."),
            click.option("--evidence-run", metavar="RUN_ID", help="Run with the evidence; by default the newest."),
            mlflow_options,
        ]
    ):
        function = option(function)
    return function


@click.command(cls=Command, example="mlflow-caliber gate churn 2 --target champion --config caliber.yaml")
@_version_options
@click.option(
    "--sequential",
    is_flag=True,
    help="Judge comparisons in pairs over every data set on which both versions were evaluated.",
)
def gate(
    *,
    name: str,
    version: int,
    target: str,
    config: str | None,
    evidence_run: str | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
    sequential: bool,
) -> int:
    """
    Hold the evidence on a model version against the policy.

    NAME is a registered model, VERSION its number. The verdict is written to the version's tags; no alias is moved.
    """
    policy = _policy(config, target, registry_uri or tracking_uri)
    use_mlflow(tracking_uri, registry_uri)
    from mlflow_caliber.gate import gate_version

    decision = gate_version(name, version, target, policy, evidence_run=evidence_run, sequential=sequential)
    result = {"name": name, "version": str(version), **decision.to_dict()}
    emit(result, _as_text(name, version, decision), as_json=as_json)
    return OF_VERDICT[decision.verdict]


@click.command(cls=Command, example="mlflow-caliber promote churn 2 --target champion --config caliber.yaml")
@_version_options
def promote(
    *,
    name: str,
    version: int,
    target: str,
    config: str | None,
    evidence_run: str | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """
    Gate a model version anew and, if it passes, give it the alias.

    The former holder keeps the alias `previous`, for a rollback.
    """
    policy = _policy(config, target, registry_uri or tracking_uri)
    use_mlflow(tracking_uri, registry_uri)
    from mlflow_caliber.gate import promote as promote_version

    try:
        move = promote_version(name, version, target, policy, evidence_run=evidence_run)
    except PromotionError as error:
        if error.decision is not None and not as_json:
            click.echo(_as_text(name, version, error.decision))
        raise
    checks = "" if move.decision is None else _as_text(name, version, move.decision) + "\n"
    emit(move.to_dict(), checks + move.sentence, as_json=as_json)
    return PASSED


@click.command(cls=Command, example="mlflow-caliber rollback churn --target champion")
@click.argument("name")
@click.option("--target", default="champion", show_default=True, help="Alias or legacy stage.")
@click.option("--kind", type=click.Choice(["alias", "stage"]), help="By default Staging and Production are stages.")
@mlflow_options
def rollback(
    *, name: str, target: str, kind: str | None, tracking_uri: str | None, registry_uri: str | None, as_json: bool
) -> int:
    """
    Give the alias back to the version that held it before.

    Each call goes one promotion further back. It is not gated, so that it works in an emergency.
    """
    use_mlflow(tracking_uri, registry_uri)
    from mlflow_caliber.gate import rollback as roll_back

    move = roll_back(name, target, kind=kind)
    emit(move.to_dict(), move.sentence, as_json=as_json)
    return PASSED


def _policy(config: str | None, target: str, registry_uri: str | None) -> GatePolicy | None:
    """The policy, read before MLflow is imported: a typing error in it is answered at once."""
    from mlflow_caliber.config import find_config
    from mlflow_caliber.gate import GatePolicy

    try:
        found = find_config(config)
    except ConfigError:
        # A guarded server has its own; whether this one is guarded, only it can say.
        if config is None and _is_server(registry_uri):
            return None
        raise
    policy = GatePolicy.load(found)
    policy.target(target)
    return policy


def _is_server(uri: str | None) -> bool:
    named = uri or os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI", "")
    return named.startswith(("http://", "https://"))


def _as_text(name: str, version: int, decision: GateDecision) -> str:
    rows: list[tuple[Any, ...]] = [(f"  {outcome.verdict}", outcome.sentence) for outcome in decision.rules]
    head = f"{decision.verdict.upper()}: version {version} of {name!r} as {decision.target}"
    return f"{head}\n{table(rows)}\n  evidence: run {decision.evidence_run_id}, {decision.evidence_sha256[:19]}"

"""``approve``, ``override``, ``freeze``, ``unfreeze``, ``expire``, ``verify``: what people say, and proofs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlflow_caliber.cli._common import FAILED, PASSED, Command, emit, mlflow_options, use_mlflow
from mlflow_caliber.exceptions import CaliberError, ConfigError

if TYPE_CHECKING:
    from mlflow_caliber.gate import RemoteGuard

_NAME = click.argument("name")
_VERSION = click.argument("version", type=click.IntRange(min=1))
_TARGET = click.option("--target", default="champion", show_default=True, help="Alias or legacy stage.")
_ANY_TARGET = click.option("--target", default="*", show_default=True, help="Alias or legacy stage; * for all.")


def _guard(tracking_uri: str | None, registry_uri: str | None) -> RemoteGuard:
    use_mlflow(tracking_uri, registry_uri)
    from mlflow_caliber.gate import find_guard

    guard = find_guard()
    if guard is None:
        raise ConfigError(
            "The registry must be guarded for this, got one that is not: start its server with "
            "`mlflow server --app-name caliber`."
        )
    return guard


@click.command(cls=Command, example="mlflow-caliber approve churn 2 --comment 'read the report'")
@_NAME
@_VERSION
@_TARGET
@click.option("--comment", default="", help="What is to be remembered with it.")
@click.option("--withdraw", is_flag=True, help="Take an earlier approval back.")
@mlflow_options
def approve(
    *,
    name: str,
    version: int,
    target: str,
    comment: str,
    withdraw: bool,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """
    Approve a version: these files, under the present policy, on the present evidence.

    You are who you are to the server (MLFLOW_TRACKING_USERNAME); the policy says who may approve.
    """
    guard = _guard(tracking_uri, registry_uri)
    result = guard.post(
        "approve", name=name, version=str(version), target=target, comment=comment, withdraw=withdraw or None
    )
    people = ", ".join(result["approvals"]) or "nobody"
    emit(result, f"Version {version} of {name!r} as {target} is approved by {people}.", as_json=as_json)
    return PASSED


@click.command(cls=Command, example="mlflow-caliber override churn 2 --days 7 --reason 'outage of v1, ticket 4711'")
@_NAME
@_VERSION
@_TARGET
@click.option("--reason", required=True, help="Why; it stays in the audit log and in the version's tags.")
@click.option("--days", type=click.FloatRange(0.0, 365.0, min_open=True), required=True, help="For how long.")
@mlflow_options
def override(
    *,
    name: str,
    version: int,
    target: str,
    reason: str,
    days: float,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """Answer for a version that does not pass; promote it afterwards."""
    guard = _guard(tracking_uri, registry_uri)
    result = guard.post("override", name=name, version=str(version), target=target, reason=reason, days=days)
    sentence = f"{result['actor']} answers for version {version} of {name!r} as {target} until {result['expires_at']}."
    emit(result, sentence, as_json=as_json)
    return PASSED


@click.command(
    cls=Command, example="mlflow-caliber freeze churn --reason 'audit week' --until 2026-12-01T00:00:00+00:00"
)
@_NAME
@_ANY_TARGET
@click.option("--reason", required=True, help="Why.")
@click.option("--until", metavar="TIME", help="ISO 8601 with its zone; without it until `unfreeze`.")
@mlflow_options
def freeze(
    *,
    name: str,
    target: str,
    reason: str,
    until: str | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """Stop promotions of a model; rollbacks still work."""
    guard = _guard(tracking_uri, registry_uri)
    result = guard.post("freeze", name=name, target=target, reason=reason, until=until)
    emit(result, f"{name!r} is frozen ({target}).", as_json=as_json)
    return PASSED


@click.command(cls=Command, example="mlflow-caliber unfreeze churn")
@_NAME
@_ANY_TARGET
@click.option("--reason", default="", help="Why.")
@mlflow_options
def unfreeze(
    *, name: str, target: str, reason: str, tracking_uri: str | None, registry_uri: str | None, as_json: bool
) -> int:
    """Let promotions of a model go on."""
    guard = _guard(tracking_uri, registry_uri)
    result = guard.post("unfreeze", name=name, target=target, reason=reason)
    emit(result, f"{name!r} is not frozen any more ({target}).", as_json=as_json)
    return PASSED


@click.command(cls=Command, example="mlflow-caliber expire churn")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@mlflow_options
def expire(*, names: tuple[str, ...], tracking_uri: str | None, registry_uri: str | None, as_json: bool) -> int:
    """
    Mark the passes that have run out, and demote where the policy says so.

    Run it from a scheduler; it changes nothing while nothing has expired.
    """
    guard = _guard(tracking_uri, registry_uri)
    found: dict[str, Any] = {name: guard.post("expire", name=name)["expired"] for name in names}
    lines = [f"{name}: {each['target']} of version {each['version']}" for name in names for each in found[name]]
    emit({"expired": found}, "\n".join(lines) or "Nothing has expired.", as_json=as_json)
    return PASSED


@click.command(cls=Command, example="mlflow-caliber verify models:/churn@champion")
@click.argument("model_uri")
@click.option("--target", help="What it must be signed for; by default the alias in the URI.")
@mlflow_options
def verify(
    *, model_uri: str, target: str | None, tracking_uri: str | None, registry_uri: str | None, as_json: bool
) -> int:
    """
    Verify that a guard signed this version: its files, for its alias, until now.

    Needs the server's keys in MLFLOW_CALIBER_DECISION_KEYS and nothing of the server but the registry's tags.
    """
    use_mlflow(tracking_uri, registry_uri)
    from mlflow_caliber.gate import verify_model

    try:
        decision = verify_model(model_uri, target)
    except CaliberError as error:
        if isinstance(error, ConfigError):
            raise
        emit({"verified": False, "reason": str(error)}, f"NOT VERIFIED: {error}", as_json=as_json)
        return FAILED
    sentence = (
        f"VERIFIED: version {decision.version} of {decision.name!r} for {decision.target} ({decision.status} at "
        f"{decision.decided_at}, until {decision.expires_at or 'further notice'})."
    )
    emit({"verified": True, **vars(decision)}, sentence, as_json=as_json)
    return PASSED

"""MLflow's own app, basic-auth if asked for, and the guard around the store that both of them use."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, g, has_request_context
from mlflow.environment_variables import _MLFLOW_SGI_NAME
from mlflow.server import app as flask_app
from mlflow.server import handlers

from mlflow_caliber._signing import DECISION_KEYS, EVIDENCE_KEYS, Keyring
from mlflow_caliber.config import find_config
from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.gate import GatePolicy
from mlflow_caliber.gate.registry import previous_alias
from mlflow_caliber.guard._files import ServerClient
from mlflow_caliber.guard._governor import Governor
from mlflow_caliber.guard._pages import add_pages
from mlflow_caliber.guard._routes import add_routes
from mlflow_caliber.guard._store import check_guardable, guard_store
from mlflow_caliber.guard._watch import Watch
from mlflow_caliber.ledger import Ledger
from mlflow_caliber.signed_decision import tags_of

__all__ = ["BASE_APP", "assemble"]

BASE_APP = "CALIBER_BASE_APP"
_BASIC_AUTH = "basic-auth"


def assemble() -> Any:
    """The app of this process."""
    policy = GatePolicy.load(find_config())
    base = os.environ.get(BASE_APP, "")
    if base not in ("", _BASIC_AUTH):
        raise ConfigError(f"{BASE_APP} must be {_BASIC_AUTH!r} or not set, got {base!r}.")
    if os.environ.get("MLFLOW_ENABLE_WORKSPACES", "").lower() in ("1", "true"):
        raise ConfigError("mlflow-caliber must guard a server without workspaces, got MLFLOW_ENABLE_WORKSPACES.")
    _check_guardable_by(policy)
    people = bool(base)
    if not people:
        _check_without_people(policy)
    app = _with_basic_auth(flask_app) if people else flask_app
    governor = _guard(policy, people)
    add_routes(flask_app, governor, people=people)
    add_pages(flask_app, governor, people=people)
    if people or _MLFLOW_SGI_NAME.get() != "uvicorn":
        return app
    from mlflow.server.fastapi_app import create_fastapi_app

    return create_fastapi_app(flask_app)


def _check_guardable_by(policy: GatePolicy) -> None:
    """A policy whose own aliases anybody could move, or which would move one another's, guards nothing."""
    for target in policy.targets.values():
        if target.versus is not None and target.versus not in policy.targets:
            raise ConfigError(
                f"gate.targets.{target.target} must compare with a target of the policy, or anybody could point "
                f"{target.versus!r} elsewhere; got one that the policy does not name."
            )
        if previous_alias(target.target) in policy.targets:
            raise ConfigError(
                f"gate.targets must leave {previous_alias(target.target)!r} to the former holders of "
                f"{target.target!r}, got it as a target."
            )
    taken = [tags_of(target) for target in policy.targets]
    if len(set(taken)) < len(taken):
        raise ConfigError("gate.targets must be told apart without regard to case and hyphens, got two that are not.")


def _check_without_people(policy: GatePolicy) -> None:
    for target in policy.targets.values():
        if target.approvals is not None and target.approvals.tag is None:
            raise ConfigError(
                f"gate.targets.{target.target}.approvals must have people whom the server knows, got a server without "
                f"authentication: set {BASE_APP}={_BASIC_AUTH}."
            )


def _with_basic_auth(app: Flask) -> Any:
    from mlflow.server import auth

    return auth.create_app(app)


def _guard(policy: GatePolicy, people: bool) -> Governor:
    store: Any = handlers._get_model_registry_store()
    keys = Keyring.from_environment(DECISION_KEYS)
    actor = _user if people else _nobody
    check_guardable(store)
    ledger = Ledger(store.engine, keys)
    governor = Governor(
        store.engine,
        ServerClient(_tracking_uri(), store.db_uri),
        policy,
        ledger,
        keys=keys,
        evidence_keys=Keyring.from_environment(EVIDENCE_KEYS),
        actor=actor,
    )
    guard_store(store, governor)
    Watch(store.engine, policy, ledger, actor).start()
    return governor


def _tracking_uri() -> str:
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR

    return os.environ[BACKEND_STORE_URI_ENV_VAR]


def _user() -> str | None:
    """Who basic-auth let in; the request got here only after it did."""
    if not has_request_context():
        return None
    known = getattr(g, "mlflow_authenticated_user", None)
    if known is None:  # older MLflow: ask what let the request in, not the header
        from mlflow.server import auth

        known = getattr(auth.authenticate_request(), "username", None)
    return None if known is None else str(known)


def _nobody() -> str | None:
    return None

"""The guard's own routes, for the command line, for CI and for the pages: JSON in, JSON out.

They are Flask routes, like MLflow's: basic-auth stands in front of them. Who may do what to which model is asked here
once more, whatever the front door let through.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Flask, Response, jsonify, request
from mlflow.exceptions import MlflowException
from mlflow.server.handlers import _get_paths, catch_mlflow_exception

from mlflow_caliber._version import __version__
from mlflow_caliber.gate import Governance
from mlflow_caliber.guard._governor import Governor
from mlflow_caliber.guard._registry import as_mlflow_error, refusal
from mlflow_caliber.ledger import Entry

__all__ = ["ROUTES", "Route", "add_routes"]

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Route:
    """One route: what it may do (``read``, ``update`` or ``manage`` the model that it names), and what does it."""

    method: str
    path: str
    permission: str | None
    answer: Callable[[Governor, Body], Any]
    about: str


def add_routes(app: Flask, governor: Governor, *, people: bool) -> None:
    """Add every route to MLflow's app; with people, behind their permissions."""
    for route in ROUTES:
        for path in _get_paths(route.path):
            add_route(app, path, route.method, _view(route, governor, people), people=people)


def add_route(app: Flask, path: str, method: str, view: Callable[[], Any], *, people: bool) -> None:
    """One view at one path, known to basic-auth as one that asks for permissions by itself."""
    app.add_url_rule(path, endpoint=f"caliber {method} {path}", view_func=view, methods=[method])
    if people:
        from mlflow.server import auth

        for verb in {method, "HEAD" if method == "GET" else method}:
            auth.BEFORE_REQUEST_VALIDATORS[path, verb] = lambda: True


def check_permission(permission: str | None) -> None:
    """Refuse who may not ``permission`` the model that the request names."""
    from mlflow.server import auth

    if permission is None or auth.sender_is_admin():
        return
    if permission == "admin" or not getattr(auth, f"validate_can_{permission}_registered_model")():
        raise refusal(f"This takes the permission to {permission} the model, got a user without it.")


def _view(route: Route, governor: Governor, people: bool) -> Callable[[], Response]:
    @catch_mlflow_exception
    @functools.wraps(route.answer)
    def view() -> Response:
        with as_mlflow_error():
            body = _body() if route.method == "POST" else request.args
            if people:
                check_permission(route.permission)
            return jsonify(route.answer(governor, body))

    return view


def _body() -> Body:
    # A browser sends a form to another site without asking; it does not send JSON.
    if not request.is_json:
        raise MlflowException.invalid_parameter_value("The body must be JSON, with Content-Type application/json.")
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise MlflowException.invalid_parameter_value("The body must be one JSON object.")
    return body


def _text(body: Body, key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or (value == "" and default is None):
        raise MlflowException.invalid_parameter_value(f"{key} must be a text, got {type(value).__name__}.")
    if "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
        raise MlflowException.invalid_parameter_value(f"{key} must be a text that can be stored, got one that cannot.")
    return value


def _version_of(body: Body) -> tuple[str, str, str]:
    return _text(body, "name"), _text(body, "version"), _text(body, "target", "champion")


def _run_of(body: Body) -> str | None:
    return None if body.get("evidence_run") is None else _text(body, "evidence_run")


def _check_policy(governor: Governor, body: Body) -> None:
    known = body.get("policy_sha256")
    if known not in (None, governor.policy.sha256):
        raise MlflowException.invalid_parameter_value(
            f"The policy must be the server's own ({governor.policy.sha256}), got one with digest {known}."
        )


# --- answers ---------------------------------------------------------------------------------------------------------


def _guard(governor: Governor, _: Body) -> Any:
    return {
        "guard": "caliber",
        "caliber_version": __version__,
        "policy": governor.policy.to_dict(),
        "policy_sha256": governor.policy.sha256,
        "user": governor.actor,
    }


def _gate(governor: Governor, body: Body) -> Any:
    _check_policy(governor, body)
    sequential = body.get("sequential") is True
    case = governor.gate(*_version_of(body), evidence_run=_run_of(body), sequential=sequential)
    return {
        "decision": case.examined.decision.to_dict(),
        "evidence_run_id": case.examined.run_id,
        "status": case.status,
    }


def _promote(governor: Governor, body: Body) -> Any:
    _check_policy(governor, body)
    return governor.promote(*_version_of(body), evidence_run=_run_of(body)).to_dict()


def _rollback(governor: Governor, body: Body) -> Any:
    return governor.rollback(_text(body, "name"), _text(body, "target", "champion")).to_dict()


def _approve(governor: Governor, body: Body) -> Any:
    withdraw = body.get("withdraw") is True
    seen = None if body.get("evidence_sha256") is None else _text(body, "evidence_sha256")
    comment = _text(body, "comment", "")
    who = governor.approve(*_version_of(body), comment=comment, withdraw=withdraw, evidence_sha256=seen)
    return {"approvals": list(who)}


def _override(governor: Governor, body: Body) -> Any:
    days = body.get("days")
    if not isinstance(days, int | float) or isinstance(days, bool):
        raise MlflowException.invalid_parameter_value(f"days must be a number, got {type(days).__name__}.")
    return governor.override(*_version_of(body), reason=_text(body, "reason", ""), days=float(days)).to_dict()


def _freeze(governor: Governor, body: Body) -> Any:
    name, target = _text(body, "name"), _text(body, "target", "*")
    until = body.get("until")
    governor.freeze(name, target, reason=_text(body, "reason", ""), until=None if until is None else _instant(until))
    return {"name": name, "target": target, "frozen": True}


def _instant(value: Any) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise MlflowException.invalid_parameter_value("until must be a time with its zone, in ISO 8601.")
    return found


def _unfreeze(governor: Governor, body: Body) -> Any:
    name, target = _text(body, "name"), _text(body, "target", "*")
    governor.unfreeze(name, target, reason=_text(body, "reason", ""))
    return {"name": name, "target": target, "frozen": False}


def _expire(governor: Governor, body: Body) -> Any:
    expired = governor.expire(_text(body, "name"))
    return {"expired": [{"version": each.version, "target": each.target} for each in expired]}


def _ledger(governor: Governor, body: Body) -> Any:
    entries = governor.ledger.entries(
        model=_text(body, "name"), after=_whole(body, "after", 0), limit=min(_whole(body, "limit", 1000), 10_000)
    )
    return {"entries": [entry.to_dict() for entry in entries]}


def _chain(governor: Governor, body: Body) -> Any:
    """Every entry, for a copy of the whole log."""
    limit = min(_whole(body, "limit", 1000), 10_000)
    entries: tuple[Entry, ...] = governor.ledger.entries(after=_whole(body, "after", 0), limit=limit)
    return {"entries": [entry.to_dict() for entry in entries], "head": governor.ledger.head().to_dict()}


def _whole(body: Body, key: str, default: int) -> int:
    value = str(body.get(key, default))
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise MlflowException.invalid_parameter_value(f"{key} must be a whole number.")
    return int(value)


def _verify(governor: Governor, body: Body) -> Any:
    return governor.ledger.verify(anchor=body.get("anchor")).to_dict()


def _status(governor: Governor, body: Body) -> Any:
    name = _text(body, "name")
    governance: Governance = governor.governance(name)
    return {"name": name, **governance.to_dict()}


ROUTES: tuple[Route, ...] = (
    Route("GET", "/caliber/guard", None, _guard, "Whether this server guards its registry, and by which policy."),
    Route("GET", "/caliber/status", "read", _status, "Who holds what of a model, and what binds it."),
    Route("POST", "/caliber/gate", "update", _gate, "Hold the policy against a version; its tags get the verdict."),
    Route("POST", "/caliber/promote", "update", _promote, "Decide anew and, on a pass, move the alias or stage."),
    Route("POST", "/caliber/rollback", "update", _rollback, "Back to the version that held the target before."),
    Route("POST", "/caliber/approve", "read", _approve, "Approve a version, or withdraw that."),
    Route("POST", "/caliber/override", "manage", _override, "Answer for a version that does not pass."),
    Route("POST", "/caliber/freeze", "manage", _freeze, "Stop promotions."),
    Route("POST", "/caliber/unfreeze", "manage", _unfreeze, "Let promotions go on."),
    Route("POST", "/caliber/expire", "update", _expire, "Mark passes that have run out."),
    Route("GET", "/caliber/ledger", "read", _ledger, "A model's entries of the audit log."),
    Route("GET", "/caliber/chain", "admin", _chain, "The whole audit log."),
    Route("GET", "/caliber/verify", None, _verify, "Verify the audit log."),
)
"""Every route, under ``/api/2.0`` and ``/ajax-api/2.0``."""

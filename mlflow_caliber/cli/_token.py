"""``token``: who may use the service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from mlflow_caliber.cli._common import PASSED, Command, actor, emit, table
from mlflow_caliber.cli._store import at_time, open_store_at, store_option

if TYPE_CHECKING:
    from mlflow_caliber.store import Token

__all__ = ["token"]

# As the store has them; a test compares, since --help loads no store.
ROLES = ("ingest", "review", "view", "admin")
_STORE = "--store sqlite:///caliber.db"


@click.group()
def token() -> None:
    """Who may use the service: create, list, revoke."""


@token.command(cls=Command, example=f"mlflow-caliber token create loader --role ingest --model credit {_STORE}")
@click.argument("name")
@click.option("--role", "roles", type=click.Choice(ROLES), multiple=True, required=True, help="What its bearer may do.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="For this model only; by default for all.")
@click.option("--days", type=click.FloatRange(min=0.0, min_open=True), help="Dead after so many days.")
@store_option
def create(
    *,
    name: str,
    roles: tuple[str, ...],
    models: tuple[str, ...],
    days: float | None,
    store_uri: str | None,
    as_json: bool,
) -> int:
    """Make a token for NAME, and print it: this once, as the store keeps only a digest of it."""
    with open_store_at(store_uri, create=True) as opened:
        made, text = opened.create_token(name, roles, models or None, days, actor=actor())
    if not as_json:
        click.echo(_described(made), err=True)
    emit({"token": text, **_told(made)}, text, as_json=as_json)
    return PASSED


@token.command("list", cls=Command, example=f"mlflow-caliber token list {_STORE}")
@store_option
def list_(*, store_uri: str | None, as_json: bool) -> int:
    """All tokens, dead ones too."""
    with open_store_at(store_uri) as opened:
        found = opened.tokens()
    rows: list[tuple[str, ...]] = [("id", "name", "roles", "models", "expires", "state")]
    rows += [
        (each.id, each.name, " ".join(each.roles), _models(each), at_time(each.expires_at), state_of(each, time.time()))
        for each in found
    ]
    emit({"tokens": [_told(each) for each in found]}, table(rows), as_json=as_json)
    return PASSED


@token.command(cls=Command, example=f"mlflow-caliber token revoke 0123456789ab {_STORE}")
@click.argument("token_id", metavar="ID")
@store_option
def revoke(*, token_id: str, store_uri: str | None, as_json: bool) -> int:
    """Make a token, and the sessions that were opened with it, useless."""
    with open_store_at(store_uri) as opened:
        revoked = opened.revoke_token(token_id, actor())
    emit(_told(revoked), f"{revoked.name}'s token {revoked.id} is revoked.", as_json=as_json)
    return PASSED


def state_of(token: Token, now: float) -> str:
    """Whether it works: "alive", "expired" or "revoked"."""
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= now else "alive"


def _told(token: Token) -> dict[str, object]:
    return {key: value for key, value in token.to_dict().items() if key != "kind"}


def _models(token: Token) -> str:
    return "all" if token.models is None else " ".join(token.models)


def _described(token: Token) -> str:
    ends = "" if token.expires_at is None else f", until {at_time(token.expires_at)}"
    return f"Token {token.id} of {token.name} may {', '.join(token.roles)}; models: {_models(token)}{ends}."

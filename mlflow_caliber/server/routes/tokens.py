"""Tokens, and who one is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from mlflow_caliber.server._access import Caller, allow, caller_of
from mlflow_caliber.server._service import Served
from mlflow_caliber.store import Token

router = APIRouter(tags=["access"])


class Me(BaseModel):
    """Who asks."""

    name: str
    roles: list[str]
    models: list[str] | None
    via: str
    csrf: str | None


class TokenIn(BaseModel):
    """A token to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "loader", "roles": ["ingest"], "models": ["churn"], "days": 90}]},
    )

    name: str = Field(min_length=1, max_length=200)
    roles: list[str] = Field(description='Of "ingest", "review", "view", "admin".')
    models: list[str] | None = Field(None, description="The models that it is for; null for all.")
    days: float | None = Field(None, gt=0, le=36_500, description="It is dead after so many days; null for never.")


class TokenOut(BaseModel):
    """A token, without its secret."""

    id: str
    name: str
    roles: list[str]
    models: list[str] | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None


class NewToken(TokenOut):
    """A new token: its text is shown this once."""

    token: str


class TokensOut(BaseModel):
    """All tokens, dead ones too."""

    tokens: list[TokenOut]


async def governor(caller: Annotated[Caller, Depends(allow("admin"))]) -> Caller:
    """An admin of all models: who may see only some must not make tokens for others."""
    if caller.models is not None:
        raise HTTPException(403, "Only an admin of all models may see and make tokens.")
    return caller


Governor = Annotated[Caller, Depends(governor)]


@router.get("/me", response_model=Me, summary="Who I am")
async def me(caller: Annotated[Caller, Depends(caller_of)]) -> Me:
    """The name, the roles and the models of the caller."""
    models = None if caller.models is None else list(caller.models)
    return Me(name=caller.name, roles=list(caller.roles), models=models, via=caller.via, csrf=caller.csrf)


@router.get("/tokens", response_model=TokensOut, summary="All tokens")
def get_tokens(_: Governor, service: Served) -> TokensOut:
    """All tokens, without their secrets, which nobody has kept."""
    return TokensOut(tokens=[TokenOut(**_shown(token)) for token in service.store.tokens()])


@router.post("/tokens", response_model=NewToken, status_code=201, summary="Make a token")
def post_token(body: TokenIn, caller: Governor, service: Served) -> NewToken:
    """Make a token. Its text is in this answer and nowhere else."""
    token, text = service.store.create_token(body.name, body.roles, body.models, body.days, actor=caller.name)
    return NewToken(token=text, **_shown(token))


@router.delete("/tokens/{token_id}", response_model=TokenOut, summary="Revoke a token")
def delete_token(token_id: str, caller: Governor, service: Served) -> TokenOut:
    """Revoke a token and its sessions: in this process at once, in others within two seconds."""
    token = service.store.revoke_token(token_id, caller.name)
    service.forget()
    return TokenOut(**_shown(token))


def _shown(token: Token) -> dict[str, Any]:
    return {name: value for name, value in token.to_dict().items() if name != "kind"}

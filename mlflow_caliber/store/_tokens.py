"""Who may use the service: tokens that people and programs carry, and sessions that are opened with them."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber._validation import check_at_least
from mlflow_caliber.exceptions import InvalidInputError, NotFoundError
from mlflow_caliber.store._base import write_audit
from mlflow_caliber.store._checks import check_name, shown
from mlflow_caliber.store._database import Database
from mlflow_caliber.store._schema import tokens

__all__ = ["ROLES", "Token", "TokensPart"]

ROLES = ("ingest", "review", "view", "admin")
_DAY = 86_400.0
_TEXT = re.compile(r"cal_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
# A secret has 256 random bits. Nobody can try them all, so a plain digest keeps it as well as a slow one would, and
# every request can afford it.
_NO_DIGEST = hashlib.sha256(b"").hexdigest()
_parents = tokens.alias("parents")


@dataclass(frozen=True, kw_only=True)
class Token:
    """What a token or a session allows; never its secret.

    Parameters
    ----------
    id : str
        Twelve hexadecimal digits.
    name : str
        Whose it is; the audit trail calls its bearer so.
    roles : tuple of {"ingest", "review", "view", "admin"}
        What the bearer may do.
    models : tuple of str or None
        The models that it is for; None for all.
    created_at, expires_at, revoked_at : float
        Seconds since 1970; None for never.
    kind : {"token", "session"}
        A session has the name, the roles and the models of the token that it was opened with.

    Examples
    --------
    >>> Token(id="0123456789ab", name="loader", roles=("ingest",), created_at=0.0).models is None
    True
    """

    id: str
    name: str
    roles: tuple[str, ...]
    models: tuple[str, ...] | None = None
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    kind: str = "token"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class TokensPart:
    """The tokens of a store."""

    _database: Database

    def create_token(
        self,
        name: str,
        roles: Iterable[str],
        models: Iterable[str] | None = None,
        days: float | None = None,
        *,
        actor: str,
    ) -> tuple[Token, str]:
        """Make a token. Its text is given once: the store keeps only a digest of its secret.

        Parameters
        ----------
        name : str
            Whose it is.
        roles : iterable of {"ingest", "review", "view", "admin"}
            What the bearer may do.
        models : iterable of str, optional
            The models that it is for; by default all.
        days : float, optional
            After so many days it is dead; by default never.
        actor : str
            Who makes it, for the audit trail.

        Returns
        -------
        tuple of (Token, str)
            What it allows, and the text that its bearer shows.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> store = open_store("sqlite://")
        >>> token, text = store.create_token("loader", ["ingest"], models=["churn"], actor="mia")
        >>> store.find_token(text) == token
        True
        """
        given = {
            "name": check_name(name, "name"),
            "roles": list(_checked_roles(roles)),
            "models": None if models is None else list(_checked_models(models)),
        }
        lasts = None if days is None else _checked_span(days, "days") * _DAY
        with self._database.write() as connection:
            now = self._database.now(connection)
            row, text = _new_row("token", given, now, lasts)
            connection.execute(sa.insert(tokens).values(row))
            detail = {**given, "expires_at": row["expires_at"]}
            write_audit(connection, now, actor, "create_token", f"token/{row['id']}", detail)
        return _token(row), text

    def find_token(self, text: str) -> Token | None:
        """The token or session with this text, if there is one that is alive.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").find_token("cal_0123456789ab_" + "x" * 43) is None
        True
        """
        read = _TEXT.fullmatch(text)
        if read is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(_FIND, {"token_id": read[1]}).mappings().first()
            # One that is not there is compared too: the time of the answer tells nothing about ids.
            same = hmac.compare_digest(_digest(read[2]), _NO_DIGEST if row is None else row["digest"])
            if row is None or not same or row["revoked_at"] is not None or row["parent_revoked_at"] is not None:
                return None
            ends = [row[key] for key in ("expires_at", "parent_expires_at") if row[key] is not None]
            if ends and self._database.now(connection) >= min(ends):
                return None
        return _token(row)

    def tokens(self) -> tuple[Token, ...]:
        """All tokens, dead ones too, in the order in which they were made.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").tokens()
        ()
        """
        query = sa.select(tokens).where(tokens.c.kind == "token").order_by(tokens.c.created_at, tokens.c.id)
        with self._database.read() as connection:
            return tuple(_token(row) for row in connection.execute(query).mappings())

    def revoke_token(self, token_id: str, actor: str) -> Token:
        """Make a token and its sessions useless at once. One that is revoked already stays as it is.

        Raises
        ------
        NotFoundError
            If there is no such token.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> store = open_store("sqlite://")
        >>> token, text = store.create_token("loader", ["ingest"], actor="mia")
        >>> revoked = store.revoke_token(token.id, "mia")
        >>> store.find_token(text) is None
        True
        """
        this = (tokens.c.id == str(token_id)) & (tokens.c.kind == "token")
        with self._database.write() as connection:
            row = connection.execute(sa.select(tokens).where(this).with_for_update()).mappings().first()
            if row is None:
                raise NotFoundError(f"There must be a token {shown(token_id)}, and there is none.")
            if row["revoked_at"] is not None:
                return _token(row)
            now = self._database.now(connection)
            connection.execute(sa.update(tokens).where(this).values(revoked_at=now))
            write_audit(connection, now, actor, "revoke_token", f"token/{row['id']}", {"name": row["name"]})
        return replace(_token(row), revoked_at=now)

    def open_session(self, token: Token, seconds: float) -> str:
        """Open a session with a token and return its text. It ends after so long, or with the token.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> store = open_store("sqlite://")
        >>> token, _ = store.create_token("mia", ["review"], actor="root")
        >>> store.find_token(store.open_session(token, 3600.0)).kind
        'session'
        """
        if token.kind != "token":
            raise InvalidInputError(f"A session must be opened with a token, got a {token.kind}.")
        lasts = _checked_span(seconds, "seconds")
        with self._database.write() as connection:
            now = self._database.now(connection)
            row, text = _new_row("session", {"name": token.name, "roles": [], "models": None}, now, lasts)
            row["parent_id"] = token.id
            connection.execute(sa.insert(tokens).values(row))
            write_audit(connection, now, token.name, "open_session", f"token/{token.id}", {})
        return text

    def close_session(self, text: str) -> None:
        """Forget a session; of one that is not there nothing is said."""
        read = _TEXT.fullmatch(text)
        if read is not None:
            this = (tokens.c.id == read[1]) & (tokens.c.digest == _digest(read[2])) & (tokens.c.kind == "session")
            with self._database.write() as connection:
                connection.execute(sa.delete(tokens).where(this))

    def prune_tokens(self, before: float) -> int:
        """Forget sessions and tokens that were dead at ``before``, in seconds since 1970; how many they were.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").prune_tokens(0.0)
        0
        """
        dead = (tokens.c.expires_at < before) | (tokens.c.revoked_at < before)
        with self._database.write() as connection:
            return _delete_dead(connection, dead)


def _delete_dead(connection: Connection, dead: sa.ColumnElement[bool]) -> int:
    gone = connection.execute(sa.delete(tokens).where(dead)).rowcount
    alive = sa.select(_parents.c.id).where(_parents.c.kind == "token")
    orphans = (tokens.c.kind == "session") & tokens.c.parent_id.not_in(alive)
    return int(gone + connection.execute(sa.delete(tokens).where(orphans)).rowcount)


def _new_row(kind: str, given: dict[str, Any], now: float, lasts: float | None) -> tuple[dict[str, Any], str]:
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = {
        "id": token_id,
        "kind": kind,
        "digest": _digest(secret),
        "parent_id": None,
        "created_at": now,
        "expires_at": None if lasts is None else now + lasts,
        "revoked_at": None,
        **given,
    }
    return row, f"cal_{token_id}_{secret}"


def _token(row: dict[str, Any] | RowMapping) -> Token:
    models = row["models"]
    return Token(
        id=row["id"],
        name=row["name"],
        roles=tuple(row["roles"]),
        models=None if models is None else tuple(models),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        kind=row["kind"],
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _checked_roles(roles: Iterable[str]) -> tuple[str, ...]:
    given = [] if isinstance(roles, str) else list(roles)
    if not given or any(role not in ROLES for role in given):
        raise InvalidInputError(f"roles must be some of {', '.join(ROLES)}, got {shown(roles)}.")
    return tuple(role for role in ROLES if role in given)


def _checked_models(models: Iterable[str]) -> tuple[str, ...]:
    given = [] if isinstance(models, str) else list(models)
    if not given:
        raise InvalidInputError(f"models must be a list of names, or None for all, got {shown(models)}.")
    return tuple(sorted({check_name(model, "each of models") for model in given}))


def _checked_span(value: float, name: str) -> float:
    if check_at_least(value, name, 0.0) == 0.0:
        raise InvalidInputError(f"{name} must be above 0, got 0.")
    return float(value)


def _find() -> sa.Select[Any]:
    # A session is what its token is now: it has no roles of its own that could outlive a change.
    of_parent = [
        sa.func.coalesce(_parents.c.name, tokens.c.name).label("name"),
        sa.case((tokens.c.parent_id.is_(None), tokens.c.roles), else_=_parents.c.roles).label("roles"),
        sa.case((tokens.c.parent_id.is_(None), tokens.c.models), else_=_parents.c.models).label("models"),
        _parents.c.expires_at.label("parent_expires_at"),
        _parents.c.revoked_at.label("parent_revoked_at"),
    ]
    own = [tokens.c[key] for key in ("id", "kind", "digest", "created_at", "expires_at", "revoked_at")]
    joined = tokens.outerjoin(_parents, _parents.c.id == tokens.c.parent_id)
    of_nobody = tokens.c.parent_id.is_not(None) & _parents.c.id.is_(None)
    return sa.select(*own, *of_parent).select_from(joined).where((tokens.c.id == sa.bindparam("token_id")) & ~of_nobody)


_FIND = _find()

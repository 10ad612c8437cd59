"""MLflow's registry tables, read and written in a transaction of one's own.

MLflow gives its store no hook, so this room knows its mapped classes; nothing outside of it does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    PERMISSION_DENIED,
    RESOURCE_CONFLICT,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModelAlias,
)
from sqlalchemy.orm import Session

from mlflow_caliber.exceptions import CaliberError

_logger = logging.getLogger(__name__)

__all__ = [
    "Registry",
    "as_mlflow_error",
    "conflict",
    "is_prompt",
    "normalized",
    "permits",
    "refusal",
    "transaction",
]

_PERMIT = "caliber_permit"
# What MLflow puts where a version's files would be: a prompt has none, so nothing can ever serve it.
_PROMPT_LOCATIONS = ("dummy-source", "prompt-template")
_PRAGMAS = ("PRAGMA foreign_keys = ON", "PRAGMA busy_timeout = 20000")


def refusal(sentence: str) -> MlflowException:
    """What a client is told that may not do what it asked for."""
    return MlflowException(sentence, error_code=PERMISSION_DENIED)


def conflict(sentence: str) -> MlflowException:
    """What a client is told that somebody else overtook."""
    return MlflowException(sentence, error_code=RESOURCE_CONFLICT)


@contextmanager
def as_mlflow_error() -> Iterator[None]:
    """Errors that MLflow's handlers know, with one sentence each; what nobody foresaw goes to the log only."""
    try:
        yield
    except MlflowException:
        raise
    except CaliberError as error:
        raise MlflowException.invalid_parameter_value(str(error)) from error
    except Exception as error:
        _logger.exception("The guard could not decide; nothing was changed.")
        raise MlflowException(
            "The guard could not decide, so nothing was changed; the server's log says why."
        ) from error


def permits(session: Session | None) -> bool:
    """Whether a session is the guard's own, in which a decision was made."""
    return session is not None and bool(session.info.get(_PERMIT))


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[Session]:
    """A session of the guard's own: all of it is committed, or nothing."""
    try:
        with Session(engine, info={_PERMIT: True}) as session, session.begin():
            if engine.dialect.name == "sqlite":
                for pragma in _PRAGMAS:
                    session.execute(sa.text(pragma))
            yield session
    except sa.exc.OperationalError as error:
        raise MlflowException(
            "The registry's database is busy or away; nothing was changed. Try again.", TEMPORARILY_UNAVAILABLE
        ) from error
    except sa.exc.SQLAlchemyError as error:
        raise MlflowException("The registry's database refused the change; nothing was changed.", INTERNAL_ERROR) from (
            error
        )


def is_prompt(connection: sa.Connection, name: str, version: int) -> bool:
    """
    Whether a version is a prompt: by what it is, and not by tags, which anybody can set and remove.

    A prompt has no files, whatever its tags say, and neither has any other version of its name: in a model, a version
    without files would take the alias from one that has them.
    """
    versions = SqlModelVersion.__table__
    location = sa.func.coalesce(versions.c.storage_location, versions.c.source)
    of_name = sa.select(versions.c.version, location).where(versions.c.name == name)
    found = {number: place in _PROMPT_LOCATIONS for number, place in connection.execute(of_name)}
    return found.get(version, False) and all(found.values())


class Registry:
    """What the guard reads and writes of one registered model, in one session."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name

    def version(self, version: str | int) -> Any:
        """A version that was not deleted, or MLflow's usual error."""
        query = sa.select(SqlModelVersion).where(
            SqlModelVersion.name == self._name, SqlModelVersion.version == _number(version)
        )
        found = self._session.execute(query).scalar_one_or_none()
        if found is None or found.current_stage == "Deleted_Internal":
            raise MlflowException(f"Model Version (name={self._name}, version={version}) not found", _NOT_FOUND)
        return found

    def alias_holder(self, alias: str) -> str | None:
        """The version that an alias points to, as it stands in the database now."""
        aliases = SqlRegisteredModelAlias.__table__
        query = sa.select(aliases.c.version).where(aliases.c.name == self._name, aliases.c.alias == alias)
        # For update: under repeatable read a plain select would show the past.
        found = self._session.execute(query.with_for_update()).scalar()
        return None if found is None else str(found)

    def stage_holder(self, stage: str) -> str | None:
        """The newest version in a stage."""
        versions = SqlModelVersion.__table__
        query = sa.select(sa.func.max(versions.c.version)).where(
            versions.c.name == self._name, versions.c.current_stage == stage
        )
        found = self._session.execute(query).scalar()
        return None if found is None else str(found)

    def put_alias(self, alias: str, version: str) -> None:
        """Point an alias to a version."""
        row = self.version(version)
        self._session.merge(_like(row, SqlRegisteredModelAlias, name=self._name, alias=alias, version=row.version))

    def drop_alias(self, alias: str) -> None:
        """Take an alias away, if it is there."""
        query = sa.select(SqlRegisteredModelAlias).where(
            SqlRegisteredModelAlias.name == self._name, SqlRegisteredModelAlias.alias == alias
        )
        for row in self._session.execute(query).scalars():
            self._session.delete(row)

    def put_stage(self, stage: str, version: str | None) -> None:
        """Move a version to a stage, and those that were there to Archived."""
        query = sa.select(SqlModelVersion).where(
            SqlModelVersion.name == self._name, SqlModelVersion.current_stage == stage
        )
        former: list[Any] = list(self._session.execute(query).scalars())
        for row in former:
            row.current_stage = "Archived"
        if version is not None:
            self.version(version).current_stage = stage

    def put_tags(self, version: str, tags: Mapping[str, str | None]) -> None:
        """Set tags of a version; None takes one away."""
        row = self.version(version)
        for key, value in tags.items():
            tag = _like(row, SqlModelVersionTag, name=self._name, version=row.version, key=key, value=value)
            if value is not None:
                self._session.merge(tag)
            elif there := self._session.get(SqlModelVersionTag, sa.inspect(type(tag)).primary_key_from_instance(tag)):
                self._session.delete(there)

    def tags(self, version: str) -> dict[str, str]:
        """The tags of a version."""
        tags = SqlModelVersionTag.__table__
        query = sa.select(tags.c.key, tags.c.value).where(tags.c.name == self._name, tags.c.version == _number(version))
        return {tag.key: tag.value for tag in self._session.execute(query)}


_LARGEST_VERSION = 2**31 - 1
_NOT_FOUND = RESOURCE_DOES_NOT_EXIST


def normalized(version: str | int) -> str:
    """A version's number as MLflow writes it, however it was spelled."""
    return str(_number(version))


def _number(version: str | int) -> int:
    try:
        return min(int(version), _LARGEST_VERSION)  # the column's; there is no such version
    except (TypeError, ValueError):
        raise MlflowException.invalid_parameter_value(
            f"Model version must be a whole number, got {version!r}."
        ) from None


def _like(row: Any, kind: type[Any], **values: Any) -> Any:
    """A new row of the same workspace, on versions of MLflow that know workspaces."""
    workspace = {"workspace": row.workspace} if hasattr(row, "workspace") else {}
    return kind(**values, **workspace)

"""What lists of the registry show: a fixed number of queries a page, however many models and versions there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)

from mlflow_caliber.guard._registry import _PROMPT_LOCATIONS

__all__ = ["Catalog", "Listed"]

_MODELS = SqlRegisteredModel.__table__
_MODEL_TAGS = SqlRegisteredModelTag.__table__
_ALIASES = SqlRegisteredModelAlias.__table__
_VERSIONS = SqlModelVersion.__table__
_TAGS = SqlModelVersionTag.__table__

_LOCATION = sa.func.coalesce(_VERSIONS.c.storage_location, _VERSIONS.c.source)
_IS_MODEL = (_VERSIONS.c.current_stage != "Deleted_Internal") & (
    _LOCATION.is_(None) | _LOCATION.not_in(_PROMPT_LOCATIONS)
)
_NO_STAGES = (None, "None", "Archived")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A model version as a list shows it."""

    version: str
    created_at: int
    user: str | None
    run_id: str | None
    stage: str | None
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def places(self) -> tuple[str, ...]:
        """The aliases and the stage that it holds."""
        return (*self.aliases, *(() if self.stage in _NO_STAGES else (str(self.stage),)))


class Catalog:
    """Reads MLflow's registry tables; prompts, which lie in the same tables, are left out."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def models(self) -> tuple[str, ...]:
        """
        The names of all registered models, sorted.

        A prompt is what has no files. Its tag counts only where there is no version to look at: anybody can set a tag,
        and a model must not vanish from the list by one.
        """
        tagged = sa.select(_MODEL_TAGS.c.name).where(
            _MODEL_TAGS.c.key == IS_PROMPT_TAG_KEY, sa.func.lower(_MODEL_TAGS.c.value) == "true"
        )
        with self._engine.connect() as connection:
            every = set(connection.execute(sa.select(_MODELS.c.name)).scalars())
            real = set(connection.execute(sa.select(_VERSIONS.c.name).where(_IS_MODEL).distinct()).scalars())
            versioned = set(connection.execute(sa.select(_VERSIONS.c.name).distinct()).scalars())
            prompts = set(connection.execute(tagged).scalars())
        return tuple(sorted(name for name in every if name in real or (name not in versioned and name not in prompts)))

    def holders(self, targets: Iterable[tuple[str, str]], name: str | None = None) -> dict[str, dict[str, str]]:
        """The version that holds each target (with its kind), by model and target; of one model or of all."""
        aliases = [target for target, kind in targets if kind == "alias"]
        stages = [target for target, kind in targets if kind == "stage"]
        named = sa.select(_ALIASES.c.name, _ALIASES.c.alias, _ALIASES.c.version).where(_ALIASES.c.alias.in_(aliases))
        staged = (
            sa.select(_VERSIONS.c.name, _VERSIONS.c.current_stage, sa.func.max(_VERSIONS.c.version))
            .where(_VERSIONS.c.current_stage.in_(stages))
            .group_by(_VERSIONS.c.name, _VERSIONS.c.current_stage)
        )
        if name is not None:
            named, staged = named.where(_ALIASES.c.name == name), staged.where(_VERSIONS.c.name == name)
        found: dict[str, dict[str, str]] = defaultdict(dict)
        with self._engine.connect() as connection:
            for model, target, version in (*connection.execute(named), *connection.execute(staged)):
                found[model][target] = str(version)
        return dict(found)

    def count(self, name: str) -> int:
        """How many versions a model has."""
        query = sa.select(sa.func.count()).where(_VERSIONS.c.name == name, _IS_MODEL)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def versions(self, name: str, *, offset: int = 0, limit: int = 50) -> tuple[Listed, ...]:
        """Versions of a model, the newest first."""
        query = sa.select(_VERSIONS).where(_VERSIONS.c.name == name, _IS_MODEL)
        return self._listed(name, query.order_by(_VERSIONS.c.version.desc()).offset(offset).limit(limit))

    def version(self, name: str, version: str) -> Listed | None:
        """One version of a model."""
        if not version.isdecimal() or len(version) > 9:
            return None
        query = sa.select(_VERSIONS).where(_VERSIONS.c.name == name, _VERSIONS.c.version == int(version), _IS_MODEL)
        return next(iter(self._listed(name, query)), None)

    def _listed(self, name: str, query: sa.Select[tuple[object, ...]]) -> tuple[Listed, ...]:
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
            numbers = [row["version"] for row in rows]
            tags = self._tags(connection, name, numbers)
            aliases = self._aliases(connection, name, numbers)
        return tuple(
            Listed(
                version=str(row["version"]),
                created_at=int(row["creation_time"] or 0),
                user=row["user_id"] or None,
                run_id=row["run_id"] or None,
                stage=row["current_stage"],
                aliases=tuple(sorted(aliases[row["version"]])),
                tags=tags[row["version"]],
            )
            for row in rows
        )

    def _tags(self, connection: sa.Connection, name: str, numbers: Sequence[int]) -> dict[int, dict[str, str]]:
        query = sa.select(_TAGS.c.version, _TAGS.c.key, _TAGS.c.value)
        found: dict[int, dict[str, str]] = defaultdict(dict)
        for version, key, value in connection.execute(query.where(_TAGS.c.name == name, _TAGS.c.version.in_(numbers))):
            found[version][key] = value or ""
        return found

    def _aliases(self, connection: sa.Connection, name: str, numbers: Sequence[int]) -> dict[int, list[str]]:
        query = sa.select(_ALIASES.c.version, _ALIASES.c.alias)
        found: dict[int, list[str]] = defaultdict(list)
        wanted = (_ALIASES.c.name == name) & _ALIASES.c.version.in_(numbers)
        for version, alias in connection.execute(query.where(wanted)):
            found[version].append(alias)
        return found

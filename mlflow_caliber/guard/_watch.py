"""Every change to the registry's rows, seen inside the transaction that makes it, whatever request made it.

No parsing of requests: paths, verbs, encodings and spellings do not matter here, only the rows that are about to be
written. What needs a decision is refused unless the guard itself writes it; what anybody may take away is recorded in
the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)
from sqlalchemy import event
from sqlalchemy.orm import object_session

from mlflow_caliber.gate import GatePolicy, Governance
from mlflow_caliber.guard._names import guarded_aliases, is_reserved_tag, taken_for
from mlflow_caliber.guard._registry import is_prompt, permits, refusal
from mlflow_caliber.ledger import Ledger

__all__ = ["Watch"]

_DELETED = "Deleted_Internal"

Handler = Callable[[Any, sa.Connection, Any], None]


class Watch:
    """
    Refuses guarded changes that the guard did not decide, and records what leaves a guarded place.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of the registry that is watched; other databases in the process are none of its business.
    policy : GatePolicy
        Names the guarded aliases and stages.
    ledger : Ledger
        In the same database.
    actor : callable
        Who makes the present request; None if the server does not know its users.
    """

    def __init__(self, engine: sa.Engine, policy: GatePolicy, ledger: Ledger, actor: Callable[[], str | None]) -> None:
        self._url = engine.url
        self._ledger = ledger
        self._actor = actor
        kinds = {target.target: target.kind for target in policy.targets.values()}
        self._targets = frozenset(name for name, kind in kinds.items() if kind == "alias")
        self._stages = frozenset(name for name, kind in kinds.items() if kind == "stage")
        self._aliases = guarded_aliases(self._targets) | guarded_aliases(self._stages) - self._stages

    def start(self) -> None:
        """Begin to watch."""
        for kind, moment, handler in self._handlers():
            event.listen(kind, moment, handler)

    def stop(self) -> None:
        """Leave the process as it was."""
        for kind, moment, handler in self._handlers():
            event.remove(kind, moment, handler)

    def _handlers(self) -> Iterator[tuple[type[Any], str, Handler]]:
        yield SqlRegisteredModelAlias, "before_insert", self._alias_put
        yield SqlRegisteredModelAlias, "before_update", self._alias_put
        yield SqlRegisteredModelAlias, "before_delete", self._alias_removed
        yield SqlModelVersion, "before_insert", self._version_changed
        yield SqlModelVersion, "before_update", self._version_changed
        yield SqlModelVersion, "after_insert", self._version_created
        yield SqlModelVersion, "before_delete", self._version_removed
        yield SqlRegisteredModel, "before_update", self._model_changed
        yield SqlRegisteredModel, "before_delete", self._model_removed
        for kind in (SqlModelVersionTag, SqlRegisteredModelTag):
            for moment in ("before_insert", "before_update", "before_delete"):
                yield kind, moment, self._tag_changed

    def _is_decided(self, connection: sa.Connection, row: Any) -> bool:
        """Whether it is another database's row, or one that the guard itself writes."""
        return connection.engine.url != self._url or permits(object_session(row))

    # --- aliases ---

    def _alias_put(self, _mapper: Any, connection: sa.Connection, row: Any) -> None:
        other = taken_for(row.alias, self._aliases)
        guarded = row.alias in self._aliases
        if not (guarded or other) or self._is_decided(connection, row):
            return
        if is_prompt(connection, row.name, row.version):
            return
        if guarded:
            raise refusal(f"The alias {row.alias!r} of {row.name!r} is guarded: only a promotion that passes sets it.")
        raise refusal(f"The alias {row.alias!r} of {row.name!r} must not be taken for the guarded {other!r}.")

    def _alias_removed(self, _mapper: Any, connection: sa.Connection, row: Any) -> None:
        if row.alias not in self._targets or self._is_decided(connection, row):
            return
        if not is_prompt(connection, row.name, row.version):
            self._record_removal(connection, row.name, str(row.version), row.alias)

    # --- versions ---

    def _version_changed(self, _mapper: Any, connection: sa.Connection, row: Any) -> None:
        history: Any = sa.inspect(row).attrs.current_stage.history
        if not history.has_changes() or self._is_decided(connection, row):
            return
        for stage in self._stages.intersection(history.added):
            raise refusal(f"The stage {stage!r} of {row.name!r} is guarded: only a promotion that passes enters it.")
        for stage in self._stages.intersection(history.deleted):
            self._record_removal(connection, row.name, str(row.version), stage)
        if _DELETED in history.added and self._is_governed(connection, row.name):
            self._record_model(connection, row.name, "delete", {"versions": [str(row.version)]})

    def _version_created(self, _mapper: Any, connection: sa.Connection, row: Any) -> None:
        author = self._actor()
        if author is not None and not self._is_decided(connection, row):
            self._ledger.set_author(connection, row.name, str(row.version), row.creation_time, author)

    def _version_removed(self, _mapper: Any, connection: sa.Connection, row: Any) -> None:
        if row.current_stage in self._stages and not self._is_decided(connection, row):
            self._record_removal(connection, row.name, str(row.version), row.current_stage)

    def _record_removal(self, connection: sa.Connection, name: str, version: str, target: str) -> None:
        self._ledger.append(
            connection,
            actor=self._actor() or "unknown",
            action="remove",
            model=name,
            version=version,
            target=target,
            detail={"former": version},
        )

    # --- registered models ---

    def _model_changed(self, _mapper: Any, connection: sa.Connection, row: Any) -> None:
        history: Any = sa.inspect(row).attrs.name.history
        if not history.deleted or self._is_decided(connection, row):
            return
        former = history.deleted[0]
        self._ledger.lock(connection)  # or a promotion could come between this look and the renaming
        held = self._held(connection, former)
        if held:
            raise refusal(
                f"The model {former!r} must hold no guarded alias or stage to be renamed, got {', '.join(held)}: "
                "another model of that name would stand where its decisions are. Take them away first."
            )
        self._check_not_frozen(connection, former)
        self._take_authors_along(connection, former, row.name)
        if self._is_governed(connection, former):
            self._record_model(connection, former, "rename", {"name": row.name})

    def _check_not_frozen(self, connection: sa.Connection, name: str) -> None:
        governance, now = Governance.of(self._ledger.entries(model=name, connection=connection)), datetime.now(UTC)
        for each in governance.freezes():
            if governance.freeze(each.target, now) is not None:
                raise refusal(f"The model {name!r} must not be frozen to be renamed, got a freeze by {each.actor}.")

    def _take_authors_along(self, connection: sa.Connection, former: str, name: str) -> None:
        versions = SqlModelVersion.__table__
        query = sa.select(versions.c.version, versions.c.creation_time).where(versions.c.name == former)
        for version, created_at in connection.execute(query).all():
            for author in self._ledger.authors(former, str(version), created_at, connection):
                self._ledger.set_author(connection, name, str(version), created_at, author)

    def _model_removed(self, _mapper: Any, connection: sa.Connection, row: Any) -> None:
        if not self._is_decided(connection, row) and self._is_governed(connection, row.name):
            self._record_model(connection, row.name, "delete", {"versions": None})

    def _is_governed(self, connection: sa.Connection, name: str) -> bool:
        return bool(self._ledger.entries(model=name, limit=1, connection=connection))

    def _held(self, connection: sa.Connection, name: str) -> list[str]:
        aliases, versions = SqlRegisteredModelAlias.__table__, SqlModelVersion.__table__
        named = sa.select(aliases.c.alias, aliases.c.version).where(
            aliases.c.name == name, aliases.c.alias.in_(self._aliases)
        )
        aliased = [each.alias for each in connection.execute(named) if not is_prompt(connection, name, each.version)]
        staged = sa.select(versions.c.current_stage).where(
            versions.c.name == name, versions.c.current_stage.in_(self._stages)
        )
        return sorted({*aliased, *connection.execute(staged).scalars()})

    def _record_model(self, connection: sa.Connection, name: str, action: str, detail: dict[str, Any]) -> None:
        self._ledger.append(connection, actor=self._actor() or "unknown", action=action, model=name, detail=detail)

    # --- tags ---

    def _tag_changed(self, _mapper: Any, connection: sa.Connection, row: Any) -> None:
        if not is_reserved_tag(row.key) or self._is_decided(connection, row):
            return
        session = object_session(row)
        owners = () if session is None else (each for each in session.deleted if _owns(each, row))
        if next(iter(owners), None) is None:  # a tag goes with the version or model that it is on
            raise refusal(
                f"The tag {row.key!r} of {row.name!r} belongs to the guard, or could be taken for one of its."
            )


def _owns(owner: Any, tag: Any) -> bool:
    if isinstance(owner, SqlModelVersion) and isinstance(tag, SqlModelVersionTag):
        return bool(owner.name == tag.name and owner.version == tag.version)
    return isinstance(owner, SqlRegisteredModel) and bool(owner.name == tag.name)

"""MLflow's registry store as the guarded server has it: what needs a decision goes to the governor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from mlflow.entities.model_registry.model_version_stages import get_canonical_stage
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.guard._names import is_reserved_tag
from mlflow_caliber.guard._registry import as_mlflow_error

if TYPE_CHECKING:
    from mlflow_caliber.guard._governor import Governor

__all__ = ["GuardedStore", "check_guardable", "guard_store"]


class GuardedStore(SqlAlchemyStore):
    """
    A registry store whose guarded aliases and stages are set by a :class:`Governor`.

    Whatever else writes to the registry is seen by the watch, one floor below.
    """

    governor: Governor

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """As MLflow's; a guarded alias has to be earned."""
        with as_mlflow_error():
            if self.governor.decides(name, version, alias, "alias"):
                self.governor.promote(name, version, alias)
                return
        super().set_registered_model_alias(name, alias, version)

    def transition_model_version_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: bool
    ) -> ModelVersion:
        """As MLflow's; a guarded stage has to be earned, and has one holder: the others are archived."""
        canonical = get_canonical_stage(stage)
        with as_mlflow_error():
            if self.governor.decides(name, version, canonical, "stage"):
                self.governor.promote(name, version, canonical)
                return self.get_model_version(name, version)
        return super().transition_model_version_stage(name, version, stage, archive_existing_versions)

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Sequence[ModelVersionTag] | None = None,
        *rest: Any,
        **others: Any,
    ) -> ModelVersion:
        """As MLflow's, but without the guard's own tags: a copy carries no verdict over."""
        kept = [tag for tag in tags or () if not is_reserved_tag(tag.key)]
        return super().create_model_version(name, source, run_id, kept, *rest, **others)


def check_guardable(store: Any) -> None:
    """
    Refuse a registry that does not live in a database.

    Raises
    ------
    ConfigError
        With what to do.
    """
    if not isinstance(store, SqlAlchemyStore):
        raise ConfigError(
            "mlflow-caliber must guard a registry in a database, so that a promotion and its audit entry are one "
            f"transaction, got a {type(store).__name__}: start the server with --backend-store-uri sqlite:///... or "
            "postgresql://..."
        )


def guard_store(store: Any, governor: Governor) -> None:
    """Put a store under a governor: the very object that MLflow's handlers hold."""
    kind = type(store)
    store.__class__ = type(f"Guarded{kind.__name__}", (GuardedStore, kind), {})
    store.governor = governor

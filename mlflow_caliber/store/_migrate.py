"""From any schema to any other: which one a database has, and Alembic's way to the wanted one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from mlflow_caliber.exceptions import SchemaVersionError, StoreError
from mlflow_caliber.store._database import Database

__all__ = ["VERSION_TABLE", "downgrade", "prepare", "upgrade"]

# A name of its own, so that the store is never taken for MLflow's database, nor MLflow's for a store.
VERSION_TABLE = "caliber_schema"
_LOCK = 0x63616C69626572  # any number that nobody else uses for an advisory lock
_TIMEOUT = 30.0
_ONE_AT_A_TIME = threading.Lock()  # what Alembic migrates is a global of its own


def upgrade(uri: str) -> str:
    """Bring a store to the newest schema; a new database becomes a store.

    Returns
    -------
    str
        The schema version that it has now.

    Raises
    ------
    SchemaVersionError
        If the store was written by a newer mlflow-caliber.
    StoreError
        If the database is something else, or cannot be reached.

    Examples
    --------
    >>> upgrade("sqlite://")
    '0004'
    """
    with closing(_opened(uri)) as database:
        _migrate(database, lambda connection: _upgrade_here(database, connection))
    return _newest()


def downgrade(uri: str, revision: str) -> str:
    """Bring a store to an older schema. What the newer tables hold is lost; ``"base"`` drops everything.

    Returns
    -------
    str
        The schema version that it has now.

    Raises
    ------
    SchemaVersionError
        If `revision` is not a version of the schema, or newer than what the store has.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     uri = f"sqlite:///{folder}/caliber.db"
    ...     upgrade(uri), downgrade(uri, "0001")
    ('0004', '0001')
    """
    if revision not in {*_versions(), "base"}:
        known = ", ".join(["base", *_versions()])
        raise SchemaVersionError(f"The schema version must be one of {known}, got {revision!r}.")
    with closing(_opened(uri)) as database:
        _migrate(database, lambda connection: _downgrade_here(database, connection, revision))
    return revision


def prepare(database: Database, *, create: bool) -> None:
    """See to it that the database has the newest schema: a new one is given it, any other must have it."""
    if database.missing_file and not create:
        raise StoreError(f"There is no store at {database.place}.")
    with database.read() as connection:
        version, empty = _version(database, connection)
    if not empty:
        _check_current(database, version)
    elif create:
        _migrate(database, lambda connection: _upgrade_here(database, connection))
    else:
        raise StoreError(f"There is no store at {database.place}: the database is empty.")


def _migrate(database: Database, step: Callable[[Connection], None]) -> None:
    with database.read() as connection:
        _version(database, connection)  # refuses a database that is not ours before anything is set in it
    if database.is_sqlite:
        database.use_wal()
    with _ONE_AT_A_TIME, database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        step(connection)


def _upgrade_here(database: Database, connection: Connection) -> None:
    version, _ = _version(database, connection)
    if version is not None and version not in _versions():
        raise SchemaVersionError(_too_new(database, version))
    command.upgrade(_config(connection), "head")


def _downgrade_here(database: Database, connection: Connection, revision: str) -> None:
    version, _ = _version(database, connection)
    if version is not None and version not in _versions():
        raise SchemaVersionError(_too_new(database, version))
    if version is None or (revision != "base" and revision > version):
        got = "none" if version is None else version
        raise SchemaVersionError(f"The store at {database.place} has schema {got}, which is older than {revision}.")
    command.downgrade(_config(connection), revision)


def _version(database: Database, connection: Connection) -> tuple[str | None, bool]:
    """The schema version, and whether the database holds nothing at all."""
    tables = sa.inspect(connection).get_table_names()
    if tables and VERSION_TABLE not in tables:
        names = ", ".join(sorted(tables)[:3])
        raise StoreError(
            f"The database at {database.place} is not a store of mlflow-caliber: it holds other tables ({names}). "
            "Give the store a database of its own."
        )
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision(), not tables


def _check_current(database: Database, version: str | None) -> None:
    if version is None or version in _versions()[:-1]:
        got = "no schema" if version is None else f"schema {version}"
        raise SchemaVersionError(
            f"The store at {database.place} has {got}, and this mlflow-caliber needs {_newest()}: "
            "run `mlflow-caliber db upgrade`."
        )
    if version != _newest():
        raise SchemaVersionError(_too_new(database, version))


def _too_new(database: Database, version: str) -> str:
    return (
        f"The store at {database.place} has schema {version}, which is newer than {_newest()}, the newest that this "
        "mlflow-caliber knows: install a newer mlflow-caliber."
    )


def _opened(uri: str) -> Database:
    return Database(uri, timeout=_TIMEOUT, clock=None)


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    folder = str(Path(__file__).parent / "migrations").replace("%", "%%")  # the configuration's own sign
    config.set_main_option("script_location", folder)
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    return config


@cache
def _versions() -> tuple[str, ...]:
    """All schema versions, the oldest first."""
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    return tuple(script.revision for script in scripts)[::-1]


def _newest() -> str:
    return _versions()[-1]

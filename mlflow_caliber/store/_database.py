"""One database, SQLite or PostgreSQL: its transactions, its clock, and its faults as sentences."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import Pool, QueuePool

from mlflow_caliber.exceptions import OptionalDependencyError, StoreError

__all__ = ["Database", "check_store_uri", "insert_if_absent"]

_POSTGRES = {"postgres", "postgresql", "postgresql+psycopg"}
_SQLITE = {"sqlite", "sqlite+pysqlite"}
_BUSY = ("database is locked", "lock timeout", "QueuePool limit")


class Database:
    """Transactions on the database at ``uri``.

    :meth:`read` sees one moment of the database throughout; :meth:`write` is all or nothing. Neither may be opened
    inside another by the same thread.
    """

    def __init__(self, uri: str, *, timeout: float, clock: Callable[[], float] | None) -> None:
        self._url = _checked_url(uri)
        self.place = _place(self._url)
        self._timeout = timeout
        self._clock = clock
        self._pid = os.getpid()
        self._of_parents: list[Pool] = []
        try:
            self._engine = _engine(self._url, timeout)
        except ModuleNotFoundError as error:
            sentence = "A store on PostgreSQL needs psycopg: pip install 'mlflow-caliber[postgres]'."
            raise OptionalDependencyError(sentence) from error
        weakref.finalize(self, _dispose, self._engine, self._pid).atexit = False
        snapshot: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reader = self._engine.execution_options(**({} if self.is_sqlite else snapshot))
        self._writer = self._engine.execution_options(begin_immediate=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite; else it is PostgreSQL."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def missing_file(self) -> bool:
        """Whether this is an SQLite file that is not there."""
        return self.is_sqlite and not _in_memory(self._url) and not _file(self._url).exists()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, from one snapshot."""
        with self._faults_as_sentences(), self._own(self._reader).begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, or rolled back by an exception."""
        with self._faults_as_sentences(), self._own(self._writer).begin() as connection:
            yield connection

    def use_wal(self) -> None:
        """Let readers of SQLite read while somebody writes. The file remembers it."""
        with self._faults_as_sentences():
            connection = self._engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()

    def now(self, connection: Connection) -> float:
        """Seconds since 1970: the given clock's, or PostgreSQL's own, which all its clients share."""
        if self._clock is not None:
            return float(self._clock())
        if self.is_sqlite:
            return time.time()
        seconds = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8")
        return float(seconds.scalar_one())

    def close(self) -> None:
        """Close all connections."""
        self._own(self._engine).dispose()

    def _own(self, engine: Engine) -> Engine:
        """The engine, without connections that a parent process had opened before it forked."""
        if os.getpid() != self._pid:
            # Kept, not closed: closing would speak to the parent's server, or give up the parent's file locks.
            self._of_parents.append(self._engine.pool)
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return engine

    @contextmanager
    def _faults_as_sentences(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, self._driver_error) as error:
            raise StoreError(self._sentence(error)) from error

    @property
    def _driver_error(self) -> type[Exception]:
        """What the driver itself raises, where a statement goes to it directly."""
        error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        return error

    def _sentence(self, error: Exception) -> str:
        what = str(error.orig if isinstance(error, DBAPIError) else error).strip()
        if any(sign in what for sign in _BUSY):
            return f"The store at {self.place} is busy: somebody else has held it for over {self._timeout:g} s."
        return f"The store at {self.place} cannot be used: {what.splitlines()[0] if what else type(error).__name__}."


def check_store_uri(uri: str) -> None:
    """Refuse what cannot be the URI of a store; nothing is opened."""
    _checked_url(uri)


def insert_if_absent(connection: Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
    """Insert the row unless its key is taken, also by a transaction that runs at the same time."""
    if connection.dialect.name == "sqlite":
        connection.execute(sqlite.insert(table).values(**row).on_conflict_do_nothing())
    else:
        connection.execute(postgresql.insert(table).values(**row).on_conflict_do_nothing())


def _dispose(engine: Engine, pid: int) -> None:
    if os.getpid() == pid:
        engine.dispose()


def _checked_url(uri: str) -> URL:
    wanted = "A store's URI must look like sqlite:///caliber.db or postgresql://user:password@host/database"
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError, AttributeError):
        raise StoreError(f"{wanted}, got something that cannot be read as a URI.") from None  # it may hold a password
    if url.drivername in _POSTGRES:
        if "@" in f"{url.host}{url.database}":  # what was read as the host, or behind it, is the rest of a password
            raise StoreError(f"{wanted}, and an @ in the user or the password must be written %40.")
        return url.set(drivername="postgresql+psycopg")
    if url.drivername in _SQLITE:
        return url
    raise StoreError(f"{wanted}, got one that begins with {url.drivername}://.")


def _place(url: URL) -> str:
    """The URI without user, password and options."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database or ':memory:'}"
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


def _in_memory(url: URL) -> bool:
    return url.database in {None, "", ":memory:", "file::memory:"} or str(url.query.get("mode")) == "memory"


def _file(url: URL) -> Path:
    """The file of an SQLite database, which may be named by a URI of SQLite's own."""
    name = str(url.database)
    if name.startswith("file:") and "uri" in url.query:
        name = unquote(name.removeprefix("file:"))
        name = f"/{name.lstrip('/')}" if name.startswith("/") else name  # also file:///path
    return Path(name)


def _engine(url: URL, timeout: float) -> Engine:
    # Parameters are rows of somebody's data: they stay out of traces.
    options: dict[str, Any] = {"hide_parameters": True, "pool_timeout": timeout}
    if url.get_backend_name() != "sqlite":
        waits = {"connect_timeout": max(2, round(timeout))}
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args=waits, **options)
        sa.event.listen(engine, "connect", _postgres_setter(timeout))
        return engine
    if _in_memory(url):
        # One connection is one database: threads take turns.
        options |= {"pool_size": 1, "max_overflow": 0}
    connect: dict[str, Any] = {"timeout": timeout, "check_same_thread": False}
    engine = sa.create_engine(url, poolclass=QueuePool, connect_args=connect, **options)
    if not _in_memory(url) and "mode" not in url.query:
        sa.event.listen(engine, "do_connect", _file_maker(_file(url)))
    sa.event.listen(engine, "connect", _set_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgres_setter(timeout: float) -> Callable[[Any, Any], None]:
    def set_postgres(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {round(timeout * 1000)}")
        connection.commit()

    return set_postgres


def _file_maker(file: Path) -> Callable[..., None]:
    def make_file(*_: Any) -> None:
        """A new file is for its owner alone: it will hold people's data. What SQLite puts beside it inherits that."""
        with suppress(OSError):  # it is there, or SQLite will say what is wrong
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    return make_file


def _set_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    connection.execute("PRAGMA foreign_keys = ON")
    # FULL: a receipt is a promise. With NORMAL, power that fails may take the last commits with it.
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: a reader that turns into a writer later is refused when others wrote meanwhile.
    immediate = connection.get_execution_options().get("begin_immediate", False)
    cursor = connection.connection.cursor()
    try:
        cursor.execute("BEGIN IMMEDIATE" if immediate else "BEGIN")
    finally:
        cursor.close()

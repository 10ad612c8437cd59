"""The ledger in a database: its lock, writing, reading, verifying."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from mlflow_caliber._signing import Keyring
from mlflow_caliber.exceptions import OptionalDependencyError, StateError, StoreError
from mlflow_caliber.ledger._chain import Broken, Chain, Verification
from mlflow_caliber.ledger._entry import Entry, Head, canonical, check_name, check_what, parsed_detail
from mlflow_caliber.ledger._tables import HEAD_ID, authors, check_format, entries, head, place, prepare

__all__ = ["Ledger", "open_ledger"]

_CHUNK = 1_000
_PATIENCE = 10.0  # seconds that a busy database is asked again
_BUSY = ("database is locked", "table is locked", "deadlock", "lock timeout", "lock wait", "could not serialize")
_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")


class Ledger:
    """
    The log of a registry, in the registry's own database; the tables are made when they are not there.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of the registry's database.
    keys : Keyring, optional
        Entries are signed with the first one, and verified with any of them.
    create : bool
        Whether missing tables are made; without it a database that has none is refused.
    clock : callable, optional
        The time, with its zone; by default this machine's.

    Raises
    ------
    SchemaVersionError
        If a newer mlflow-caliber has written the ledger.
    StoreError
        If the database cannot be used.

    Examples
    --------
    >>> import sqlalchemy
    >>> ledger = Ledger(sqlalchemy.create_engine("sqlite://"))
    >>> entry = ledger.record(actor="mia", action="freeze", model="churn", target="champion",
    ...                       detail={"reason": "audit", "until": None})
    >>> entry.seq, ledger.verify().ok
    (1, True)
    """

    def __init__(
        self,
        engine: Engine,
        keys: Keyring | None = None,
        *,
        create: bool = True,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._clock = clock or (lambda: datetime.now(UTC))
        self.place = place(engine)
        with self._faults_as_sentences():
            prepare(engine, create=create)

    def __repr__(self) -> str:
        return f"Ledger({self.place!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the engine's idle connections."""
        self._engine.dispose()

    # --- writing -----------------------------------------------------------------------------------------------------

    def lock(self, connection: Connection) -> Head:
        """
        Take the ledger's lock until the connection's transaction ends, and return the head as it is now.

        Whoever decides by what the ledger says takes it first: two writers then stand in line.
        """
        this = head.c.id == HEAD_ID
        # A write that changes nothing: on SQLite it takes the database's write lock, elsewhere the row's.
        connection.execute(sa.update(head).where(this).values(seq=head.c.seq))
        # For update: MySQL otherwise answers with what was there when the transaction began.
        row = connection.execute(sa.select(head).where(this).with_for_update()).mappings().first()
        if row is None:
            raise StoreError("The ledger must have its head to be written to, got none: verify it first.")
        check_format(row["format"])
        return _head_of(row)

    def append(
        self,
        connection: Connection,
        *,
        actor: str,
        action: str,
        model: str,
        version: str | None = None,
        target: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Entry:
        """
        Write an entry in the transaction of the connection, which may be somebody else's: it stands or falls with it.

        Parameters
        ----------
        connection : sqlalchemy.Connection
            Of the registry's database.
        actor, action, model, version, target, detail
            As :class:`Entry` says. The detail is kept for ever: no secret belongs into it.

        Returns
        -------
        Entry
            As it will be read, once the transaction is committed.

        Raises
        ------
        InvalidInputError
            If the entry cannot be written; nothing was done then.
        StoreError
            If the ledger has lost its head.
        sqlalchemy.exc.SQLAlchemyError
            As it comes, for the owner of the transaction.
        """
        what = check_what(actor, action, model, version, target, detail)
        last = self.lock(connection)
        unsigned = Entry(
            seq=last.seq + 1,
            at=self._time_after(connection, last.seq),
            previous_sha256=last.sha256,
            sha256="",
            signature=None,
            **what,
        )
        hashed = replace(unsigned, sha256=unsigned.content_sha256())
        entry = replace(hashed, signature=hashed.sign(self._keys))
        connection.execute(sa.insert(entries).values({**entry.to_dict(), "detail": canonical(entry.detail)}))
        new = Head(format=last.format, seq=entry.seq, sha256=entry.sha256, signature=None)
        values = {"seq": new.seq, "sha256": new.sha256, "signature": new.sign(self._keys)}
        connection.execute(sa.update(head).where(head.c.id == HEAD_ID).values(values))
        return entry

    def record(
        self,
        *,
        actor: str,
        action: str,
        model: str,
        version: str | None = None,
        target: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Entry:
        """
        Write an entry in a transaction of its own; a busy database is asked again for some seconds.

        Not from within a transaction on the same database: on SQLite that one would wait for itself.
        """
        what = check_what(actor, action, model, version, target, detail)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with self._engine.begin() as connection:
                    return self.append(connection, **what)
            except SQLAlchemyError as error:
                if not _busy(error) or time.monotonic() > deadline:
                    raise StoreError(self._sentence(error)) from error
            time.sleep(0.02)

    def set_author(self, connection: Connection, model: str, version: str, created_at: int, author: str) -> None:
        """Note who made a model version, in the transaction of the connection; who is noted already stays."""
        key = {"model": check_name(model, "model"), "version": check_name(version, "version"), "created_at": created_at}
        if not self.authors(model, version, created_at, connection):
            connection.execute(sa.insert(authors).values(**key, author=check_name(author, "actor")))

    # --- reading -----------------------------------------------------------------------------------------------------

    def authors(
        self, model: str, version: str, created_at: int, connection: Connection | None = None
    ) -> tuple[str, ...]:
        """Who made the version that was created at that time (milliseconds since 1970); nobody if it is not known."""
        this = (authors.c.model == model) & (authors.c.version == version) & (authors.c.created_at == created_at)
        with self._reading(connection) as reader:
            return tuple(reader.execute(sa.select(authors.c.author).where(this)).scalars())

    def entries(
        self,
        *,
        model: str | None = None,
        target: str | None = None,
        after: int = 0,
        limit: int | None = None,
        connection: Connection | None = None,
    ) -> tuple[Entry, ...]:
        """
        Entries in their order: of one model, of one target, behind a number, at most so many.

        With a connection they are read in its transaction. A :class:`StateError` if one cannot be read.
        """
        query = sa.select(entries).where(entries.c.seq > after).order_by(entries.c.seq)
        if model is not None:
            query = query.where(entries.c.model == model)
        if target is not None:
            query = query.where(entries.c.target == target)
        if limit is not None:
            query = query.limit(limit)
        with self._reading(connection) as reader:
            found = [_entry_or_broken(row) for row in reader.execute(query).mappings()]
        for entry in found:
            if isinstance(entry, Broken):
                raise StateError(f"Entry {entry.seq} of the ledger cannot be read: {entry.reason}.")
        return tuple(entry for entry in found if isinstance(entry, Entry))

    def head(self) -> Head:
        """Where the ledger ends."""
        found = self._head_or_none()
        if found is None:
            raise StoreError(f"The ledger at {self.place} must have a head, got none: verify it.")
        return found

    def verify(self, *, anchor: str | None = None, signed_from: int = 1) -> Verification:
        """
        Read the whole log and say what is wrong with it. Others may write meanwhile.

        Parameters
        ----------
        anchor : str, optional
            ``seq:sha256`` of an earlier verification; that entry must still be in the chain.
        signed_from : int
            Where keys were given later than the ledger: entries before this number need no signature.

        Examples
        --------
        >>> ledger = open_ledger("sqlite://")
        >>> first = ledger.record(actor="mia", action="refuse", model="churn", detail={"reason": "frozen"})
        >>> ledger.verify(anchor=f"1:{first.sha256}").ok
        True
        >>> ledger.verify(anchor="2:" + "0" * 64).problems
        ('The anchor is entry 2, but the ledger ends at 1: it was cut off.',)
        """
        chain = Chain(self._keys, anchor, signed_from)
        with self._reading(None) as reader:
            last = reader.execute(sa.select(sa.func.max(entries.c.seq))).scalar() or 0
        # The head is read behind the last number: they are written together, so an honest one is not before it.
        end = self._end(chain)
        if not isinstance(last, int):  # SQLite keeps a text in a column of numbers
            chain.problem(f"Numbers of entries must be whole numbers, got {last!r:.40}.")
            last = 0
        for found in self._chunks(max(last, end.seq if end else 0)):
            chain.take(found)
        return chain.close(end)

    def _end(self, chain: Chain) -> Head | None:
        try:
            return self._head_or_none()
        except StateError as error:
            chain.problem(f"The head cannot be read: {error}")
            return None

    def _chunks(self, last: int) -> Iterator[list[Entry | Broken]]:
        query = sa.select(entries).where(entries.c.seq <= last).order_by(entries.c.seq).limit(_CHUNK)
        beyond = query
        while True:
            with self._reading(None) as reader:
                rows = reader.execute(beyond).mappings().all()
            if not rows:
                return
            yield [_entry_or_broken(row) for row in rows]
            beyond = query.where(entries.c.seq > rows[-1]["seq"])

    def _head_or_none(self) -> Head | None:
        with self._reading(None) as reader:
            row = reader.execute(sa.select(head).where(head.c.id == HEAD_ID)).mappings().first()
        return None if row is None else _head_of(row)

    def _time_after(self, connection: Connection, seq: int) -> str:
        """The present, or the last entry's time if that is later: time never runs backwards in the chain."""
        now = self._clock().astimezone(UTC).isoformat(timespec="microseconds")
        last = connection.execute(sa.select(entries.c.at).where(entries.c.seq == seq)).scalar()
        return max(now, str(last)) if _AT.fullmatch(str(last)) else now

    @contextmanager
    def _reading(self, connection: Connection | None) -> Iterator[Connection]:
        if connection is not None:
            yield connection
            return
        with self._faults_as_sentences(), self._engine.connect() as own:
            yield own

    @contextmanager
    def _faults_as_sentences(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise StoreError(self._sentence(error)) from error

    def _sentence(self, error: SQLAlchemyError) -> str:
        if _busy(error):
            return f"The ledger at {self.place} is busy: somebody else has held it for over {_PATIENCE:g} s."
        what = str(error.orig if isinstance(error, DBAPIError) else error).strip()
        return f"The ledger at {self.place} cannot be used: {what.splitlines()[0] if what else type(error).__name__}."


def open_ledger(
    uri: str, *, keys: Keyring | None = None, create: bool = True, clock: Callable[[], datetime] | None = None
) -> Ledger:
    """
    Open the ledger of the registry at a database URI, as MLflow takes it.

    Parameters
    ----------
    uri : str
        ``sqlite:///mlflow.db``, ``postgresql://user:password@host/database``, ...
    keys, create, clock
        As :class:`Ledger` says.

    Raises
    ------
    StoreError
        If the database cannot be reached, or has no ledger and ``create`` is false.

    Examples
    --------
    >>> with open_ledger("sqlite://") as ledger:
    ...     ledger.head().seq
    0
    """
    engine = _engine(uri)
    if not create and _is_missing_file(engine):
        raise StoreError(f"There is no ledger at {place(engine)}.")
    try:
        return Ledger(engine, keys, create=create, clock=clock)
    except BaseException:
        engine.dispose()
        raise


def _engine(uri: str) -> Engine:
    wanted = "A ledger's URI must be that of a database, such as sqlite:///mlflow.db or postgresql://host/mlflow"
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError, AttributeError):
        raise StoreError(f"{wanted}, got something that cannot be read as one.") from None  # it may hold a password
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg" if find_spec("psycopg") else "postgresql")
    wait = {"connect_args": {"timeout": _PATIENCE}} if url.get_backend_name() == "sqlite" else {}
    try:
        return sa.create_engine(url, hide_parameters=True, pool_pre_ping=True, **wait)
    except (NoSuchModuleError, ArgumentError):
        raise StoreError(f"{wanted}, got one that begins with {url.drivername}://.") from None
    except ModuleNotFoundError as error:
        raise OptionalDependencyError(
            f"A ledger at {url.drivername}:// needs {error.name}, which is missing."
        ) from error


def _is_missing_file(engine: Engine) -> bool:
    file = engine.url.database
    is_file = engine.url.get_backend_name() == "sqlite" and file and not file.startswith((":memory:", "file:"))
    return bool(is_file) and not Path(str(file)).exists()


def _busy(error: SQLAlchemyError) -> bool:
    what = str(error.orig if isinstance(error, DBAPIError) else error).lower()
    return any(sign in what for sign in _BUSY)


def _head_of(row: RowMapping) -> Head:
    return Head.from_dict({name: row[name] for name in ("format", "seq", "sha256", "signature")}, "The ledger's head")


def _entry_or_broken(row: RowMapping) -> Entry | Broken:
    try:
        return Entry.from_dict({**row, "detail": parsed_detail(row["detail"])})
    except StateError as error:
        return Broken(row["seq"] if isinstance(row["seq"], int) else None, str(error).rstrip("."))

"""The store: one database with any number of streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mlflow_caliber._validation import check_count, check_number
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._base import AuditEntry, write_audit
from mlflow_caliber.store._checks import check_name, check_stream_classes, shown
from mlflow_caliber.store._database import Database, insert_if_absent
from mlflow_caliber.store._migrate import prepare
from mlflow_caliber.store._record import locked_stream
from mlflow_caliber.store._schema import audit, outcomes, predictions, streams
from mlflow_caliber.store._stream import Stream

__all__ = ["Store", "open_store"]


def open_store(
    uri: str, *, create: bool = True, timeout: float = 30.0, clock: Callable[[], float] | None = None
) -> Store:
    """Open the store at ``uri``; an empty database becomes one.

    Parameters
    ----------
    uri : str
        ``sqlite:///caliber.db``, ``sqlite://`` (in memory, for tests), ``postgresql://user:password@host/database``.
    create : bool
        Whether a new database may be made a store.
    timeout : float
        How many seconds to wait for whoever holds the database.
    clock : callable, optional
        Seconds since 1970; by default this machine's clock, on PostgreSQL the server's.

    Raises
    ------
    SchemaVersionError
        If the store was written by an older mlflow-caliber (:func:`upgrade` it) or a newer one.
    StoreError
        If the database is something else, cannot be reached, or is not there and ``create`` is false.

    Examples
    --------
    >>> with open_store("sqlite://") as store:
    ...     stream = store.stream("churn", "3", classes=["stays", "leaves"])
    ...     store.streams()
    (Stream(model='churn', version='3'),)
    """
    timeout = check_number(timeout, "timeout")
    if timeout <= 0.0:
        raise InvalidInputError(f"timeout must be above 0 seconds, got {timeout:g}.")
    database = Database(uri, timeout=timeout, clock=clock)
    try:
        prepare(database, create=create)
    except BaseException:
        database.close()
        raise
    return Store(database)


class Store:
    """An open store, got from :func:`open_store`. Threads may share it; a forked process may go on using it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __repr__(self) -> str:
        return f"Store({self._database.place!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def stream(self, model: str, version: str, classes: Iterable[Any] | None = None, positive: Any = None) -> Stream:
        """The stream of a model version, created when it is new.

        Parameters
        ----------
        model, version : str
            Whose predictions they are.
        classes : iterable of labels, optional
            In the order of the model's probabilities. Without it any label is taken; it can be given once, later, if
            it names every label that was recorded.
        positive : label, optional
            Of two classes, the one whose probability is recorded; by default the second.

        Raises
        ------
        InvalidInputError
            If the stream has other classes.

        Examples
        --------
        >>> store = open_store("sqlite://")
        >>> _ = store.stream("churn", "3", classes=[0, 1])
        >>> store.stream("churn", "3").classes
        ('0', '1')
        >>> store.stream("churn", "3", classes=[1, 0])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        mlflow_caliber.exceptions.InvalidInputError: The stream churn/3 has the classes '0', '1' with '1' positive, ...
        """
        check_name(model, "model")
        check_name(version, "version")
        names, named_positive = check_stream_classes(classes, positive)
        this = (streams.c.model == model) & (streams.c.version == version)
        with self._database.write() as connection:
            row = connection.execute(sa.select(streams).where(this)).mappings().first()
            if row is None:
                now = self._database.now(connection)
                new = {"model": model, "version": version, "created_at": now, "next_seq": 1, "last_recorded_at": 0.0}
                given = {"classes": None if names is None else list(names), "positive": named_positive}
                insert_if_absent(connection, streams, new | given)
                row = connection.execute(sa.select(streams).where(this)).mappings().one()
            if names is not None:
                row = _with_classes(connection, row, names, named_positive)
            return self._stream(row)

    def streams(self) -> tuple[Stream, ...]:
        """All streams, in the order in which they were created."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(streams).order_by(streams.c.id)).mappings()
            return tuple(self._stream(row) for row in rows)

    def audit(self, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Note who did what, for ever."""
        with self._database.write() as connection:
            write_audit(connection, self._database.now(connection), actor, action, subject, detail)

    def audit_trail(self, limit: int = 100) -> tuple[AuditEntry, ...]:
        """The last acts, the newest first.

        Examples
        --------
        >>> store = open_store("sqlite://")
        >>> store.audit("mia", "export", "churn/3", {"rows": 10})
        >>> store.audit_trail()[0].action
        'export'
        """
        query = sa.select(audit).order_by(audit.c.id.desc()).limit(check_count(limit, "limit"))
        with self._database.read() as connection:
            rows = connection.execute(query).mappings()
            return tuple(AuditEntry(**{name: row[name] for name in row if name != "id"}) for row in rows)

    def _stream(self, row: RowMapping) -> Stream:
        classes = None if row["classes"] is None else tuple(row["classes"])
        return Stream(self._database, row["id"], row["model"], row["version"], classes, row["positive"])


def _with_classes(connection: Connection, row: RowMapping, names: tuple[str, ...], positive: str | None) -> RowMapping:
    """The stream's row when it has these classes, or can be given them."""
    row = locked_stream(connection, row["id"])
    subject = f"{row['model']}/{row['version']}"
    if row["classes"] is None:
        for table, column in ((outcomes, outcomes.c.outcome), (predictions, predictions.c.prediction)):
            strange = sa.select(column).where(table.c.stream_id == row["id"], column.not_in(names)).limit(1)
            label = connection.execute(strange).scalar()
            if label is not None:
                raise InvalidInputError(
                    f"The stream {subject} has recorded the label {shown(label)}, which is not among {_spelled(names)}."
                )
        values = {"classes": list(names), "positive": positive}
        connection.execute(sa.update(streams).where(streams.c.id == row["id"]).values(values))
        return locked_stream(connection, row["id"])
    if (tuple(row["classes"]), row["positive"]) != (names, positive):
        has, came = _described(row["classes"], row["positive"]), _described(names, positive)
        raise InvalidInputError(f"The stream {subject} has the classes {has}, got {came}.")
    return row


def _spelled(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _described(names: Iterable[str], positive: str | None) -> str:
    return _spelled(names) + ("" if positive is None else f" with {positive!r} positive")

"""The store: one database with any number of streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_caliber._validation import check_count, check_number
from mlflow_caliber.exceptions import ConflictError, InvalidInputError
from mlflow_caliber.store._base import AuditEntry, write_audit
from mlflow_caliber.store._checks import check_name, check_path_name, check_stream_classes, shown
from mlflow_caliber.store._database import Database, insert_if_absent
from mlflow_caliber.store._integrity import IntegrityPart
from mlflow_caliber.store._log import check_kinds
from mlflow_caliber.store._migrate import prepare
from mlflow_caliber.store._record import Item, locked_stream, record_parts
from mlflow_caliber.store._schema import alarms, audit, outcomes, predictions, reviews, rollup_heads, streams
from mlflow_caliber.store._stream import Stream
from mlflow_caliber.store._tokens import TokensPart
from mlflow_caliber.store._values import Receipt

__all__ = ["Attention", "Store", "open_store"]


@dataclass
class Attention:
    """How many open alarms of each severity, and cases for reviewers, a stream has; and the id of its newest alarm."""

    alarms: dict[str, int] = field(default_factory=dict)
    newest_alarm: int = 0
    reviews: int = 0


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


class Store(TokensPart, IntegrityPart):
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
            If the stream has other classes; or if it is new and a name holds ``/`` or is ``.`` or ``..``: it could not
            stand in an address, and ``a/b`` of ``c`` could be taken for ``a`` of ``b/c``.

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
                check_path_name(model, "model")
                check_path_name(version, "version")
                now = self._database.now(connection)
                new = {"model": model, "version": version, "created_at": now, "next_seq": 1, "last_recorded_at": 0.0}
                given = {"classes": None if names is None else list(names), "positive": named_positive}
                insert_if_absent(connection, streams, new | given)
                row = connection.execute(sa.select(streams).where(this)).mappings().one()
            if names is not None:
                return self._stream(_with_classes(connection, row, names, named_positive))
            return self._stream(row)

    def find_stream(self, model: str, version: str) -> Stream | None:
        """The stream of a model version if there is one; unlike :meth:`stream`, it creates nothing.

        Examples
        --------
        >>> open_store("sqlite://").find_stream("churn", "3") is None
        True
        """
        with self._database.read() as connection:
            row = connection.execute(_FIND, {"of_model": model, "of_version": version}).mappings().first()
        return None if row is None else self._stream(row)

    def ends(self) -> dict[int, int]:
        """The number of the last entry of every stream, by the stream's id."""
        with self._database.read() as connection:
            return {row.id: row.next_seq - 1 for row in connection.execute(_ENDS)}

    def attention(self) -> dict[int, Attention]:
        """What waits for somebody, by the id of the stream; streams where nothing does are left out."""
        found: dict[int, Attention] = {}
        with self._database.read() as connection:
            for row in connection.execute(_OPEN_ALARMS):
                waits = found.setdefault(row.stream_id, Attention())
                waits.alarms[row.severity] = row.n
                waits.newest_alarm = max(waits.newest_alarm, row.newest)
            for row in connection.execute(_OPEN_REVIEWS):
                found.setdefault(row.stream_id, Attention()).reviews = row.n
        return found

    def streams(self) -> tuple[Stream, ...]:
        """All streams, in the order in which they were created."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(streams).order_by(streams.c.id)).mappings()
            return tuple(self._stream(row) for row in rows)

    def record(
        self, batches: Sequence[tuple[Stream, Sequence[Item]]], *, keep_refused: bool = True
    ) -> tuple[Receipt, ...]:
        """Record batches of any streams in one transaction, each as :meth:`Stream.record` would.

        Whoever collects the batches of many callers pays for one commit instead of many.

        Parameters
        ----------
        batches : sequence of (Stream, sequence of Prediction and Outcome)
            In their order. Events in a tuple are taken together or not at all: a prediction that brings its outcome.
        keep_refused : bool
            Whether rows that cannot be taken are kept in the store with their sentences: not where the sender is told.

        Returns
        -------
        tuple of Receipt
            One a batch. Once they are returned, the rows are on disk.

        Raises
        ------
        StoreError
            If the database is away or busy: nothing was recorded.

        Examples
        --------
        >>> from mlflow_caliber.store import Outcome
        >>> store = open_store("sqlite://")
        >>> happened = Outcome(prediction_id="a", outcome=1, observed_at=60.0)
        >>> batches = [(store.stream("churn", version), [happened]) for version in "12"]
        >>> [receipt.recorded for receipt in store.record(batches)]
        [1, 1]
        """
        receipts: dict[int, Receipt] = {}
        for _, events in batches:
            check_kinds(events)
        with self._database.write() as connection:
            now = self._database.now(connection)
            # In the order of their ids: two processes that lock the same streams never wait for each other.
            for stream_id in sorted({stream.id for stream, _ in batches}):
                places = [i for i, (stream, _) in enumerate(batches) if stream.id == stream_id]
                parts = [batches[i][1] for i in places]
                found = record_parts(connection, stream_id, parts, now, keep_refused=keep_refused)
                receipts |= dict(zip(places, found, strict=True))
        return tuple(receipts[i] for i in range(len(batches)))

    def audit(self, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Note who did what, for ever."""
        with self._database.write() as connection:
            write_audit(connection, self._database.now(connection), actor, action, subject, detail)

    def audit_trail(
        self, limit: int = 100, *, before: int | None = None, models: Iterable[str] | None = None
    ) -> tuple[AuditEntry, ...]:
        """The last acts, the newest first.

        Parameters
        ----------
        limit : int
            So many at most.
        before : int, optional
            Only acts in front of that number.
        models : iterable of str, optional
            Only acts on streams of these models.

        Examples
        --------
        >>> store = open_store("sqlite://")
        >>> store.audit("mia", "export", "churn/3", {"rows": 10})
        >>> store.audit_trail()[0].action, store.audit_trail(models=["fraud"])
        ('export', ())
        """
        query = sa.select(audit).order_by(audit.c.id.desc()).limit(check_count(limit, "limit"))
        if before is not None:
            query = query.where(audit.c.id < check_count(before, "before", minimum=0))
        if models is not None:
            about = (audit.c.subject.startswith(f"{model}/", autoescape=True) for model in models)
            query = query.where(sa.or_(sa.false(), *about))
        with self._database.read() as connection:
            return tuple(AuditEntry(**row) for row in connection.execute(query).mappings())

    def _stream(self, row: Any) -> Stream:
        classes = None if row["classes"] is None else tuple(row["classes"])
        return Stream(
            self._database, row["id"], row["model"], row["version"], classes, row["positive"], row["created_at"]
        )


_FIND = sa.select(streams).where(
    streams.c.model == sa.bindparam("of_model"), streams.c.version == sa.bindparam("of_version")
)
_OPEN_ALARMS = (
    sa.select(
        alarms.c.stream_id, alarms.c.severity, sa.func.count().label("n"), sa.func.max(alarms.c.id).label("newest")
    )
    .where(alarms.c.resolved_at.is_(None))
    .group_by(alarms.c.stream_id, alarms.c.severity)
)
_OPEN_REVIEWS = (
    sa.select(reviews.c.stream_id, sa.func.count().label("n"))
    .where(reviews.c.status.in_(["open", "claimed"]))
    .group_by(reviews.c.stream_id)
)
_ENDS = sa.select(streams.c.id, streams.c.next_seq)


def _with_classes(connection: Connection, row: Any, names: tuple[str, ...], positive: str | None) -> Any:
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
        pruned = sa.select(rollup_heads.c.pruned).where(rollup_heads.c.stream_id == row["id"])
        if positive is not None and connection.execute(pruned).scalar():
            raise ConflictError(
                f"Classes of {subject} cannot be named any more: rows were pruned, and their sums do not know them."
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

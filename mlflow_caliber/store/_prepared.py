"""Statements of the busiest path: compiled once, and handed to the driver as they are.

What SQLAlchemy does around a statement (parameters, results, events) takes ten times as long as to look a row up, and
that is paid for every event that comes alone. Transactions, connections and all other statements stay SQLAlchemy's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

__all__ = ["Insert", "Prepared", "ids_among"]


class Prepared:
    """A statement whose parameters are texts and numbers.

    Parameters
    ----------
    statement : Executable
        With bound parameters that are given by name.
    """

    def __init__(self, statement: sa.Executable) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None]] = {}

    def run(self, connection: Connection, **values: Any) -> list[tuple[Any, ...]]:
        """The rows as the driver gives them: JSON is text on SQLite, and a truth value a number."""
        text, order = self._for(connection)
        cursor = _cursor(connection)
        try:
            cursor.execute(text, values if order is None else [values[name] for name in order])
            return [] if cursor.description is None else cursor.fetchall()
        finally:
            cursor.close()

    def _for(self, connection: Connection) -> tuple[str, tuple[str, ...] | None]:
        found = self._compiled.get(connection.dialect.name)
        if found is None:
            compiled = self._statement.compile(dialect=connection.dialect)  # type: ignore[attr-defined]
            order = compiled.positiontup
            found = (str(compiled), None if order is None else tuple(order))
            self._compiled[connection.dialect.name] = found
        return found


class Insert:
    """Rows into a table: columns that a row does not name are null, or have the database's own default.

    Parameters
    ----------
    table : Table
        Where to.
    names : sequence of str
        The columns that rows name, all of them in every row.
    """

    def __init__(self, table: sa.Table, names: Sequence[str]) -> None:
        self._table, self._names = table, tuple(names)
        self._values = itemgetter(*names)
        self._json = tuple(name for name in names if isinstance(table.c[name].type, sa.JSON))

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert them in their order."""
        sign = "?" if connection.dialect.name == "sqlite" else "%s"
        columns = ", ".join(f'"{name}"' for name in self._names)
        text = f'INSERT INTO "{self._table.name}" ({columns}) VALUES ({", ".join([sign] * len(self._names))})'  # noqa: S608 - names of our own
        cursor = _cursor(connection)
        try:
            cursor.executemany(text, [self._values(self._spelled(row)) for row in rows])
        finally:
            cursor.close()

    def _spelled(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row with JSON as text."""
        for name in self._json:
            if row[name] is not None:
                row = {**row, name: json.dumps(row[name])}
        return row


def ids_among(table: sa.Table, names: Sequence[str]) -> _IdsAmong:
    """The columns of the stream's rows whose prediction ids are among those given."""
    return _IdsAmong(table, names)


class _IdsAmong:
    """A look-up of any number of ids with one text: each database has its own way to take a list."""

    def __init__(self, table: sa.Table, names: Sequence[str]) -> None:
        columns = ", ".join(f'"{name}"' for name in names)
        asked = f'SELECT {columns} FROM "{table.name}" WHERE '  # noqa: S608 - names of our own
        self._sqlite = asked + "stream_id = ? AND prediction_id IN (SELECT value FROM json_each(?))"  # noqa: S608
        self._postgres = asked + "stream_id = %s AND prediction_id = ANY(%s)"

    def run(self, connection: Connection, stream_id: int, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        """The rows, in no order."""
        if not ids:
            return []
        cursor = _cursor(connection)
        try:
            if connection.dialect.name == "sqlite":
                cursor.execute(self._sqlite, (stream_id, json.dumps(ids)))
            else:
                cursor.execute(self._postgres, (stream_id, list(ids)))
            return list(cursor.fetchall())
        finally:
            cursor.close()


def _cursor(connection: Connection) -> Any:
    return connection.connection.cursor()

"""The tables, in the registry's database beside MLflow's own, and how they come into being."""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from mlflow_caliber.exceptions import SchemaVersionError, StoreError
from mlflow_caliber.ledger._entry import FORMAT, GENESIS

__all__ = ["HEAD_ID", "authors", "check_format", "entries", "head", "place", "prepare"]

HEAD_ID = 1
_ATTEMPTS = 6

# Names have lengths: MySQL and SQL Server take no unbounded text into a key. No foreign keys: what is deleted in the
# registry stays here.
metadata = sa.MetaData()

entries = sa.Table(
    "caliber_ledger",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("actor", sa.Unicode(256), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("model", sa.Unicode(256), nullable=False),
    sa.Column("version", sa.Unicode(64)),
    sa.Column("target", sa.Unicode(256)),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("previous_sha256", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(256)),
    sa.Index("caliber_ledger_model", "model", "seq"),
)

head = sa.Table(
    "caliber_ledger_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("format", sa.Integer, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(256)),
)

authors = sa.Table(
    "caliber_authors",
    metadata,
    sa.Column("model", sa.Unicode(256), primary_key=True),
    sa.Column("version", sa.Unicode(64), primary_key=True),
    sa.Column("created_at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("author", sa.Unicode(256), nullable=False),
)


def prepare(engine: Engine, *, create: bool) -> None:
    """See to it that the tables are there, in the format that this package writes."""
    if create:
        _create_tables(engine)
        _create_head(engine)
    elif not sa.inspect(engine).has_table(head.name):
        raise StoreError(f"There is no ledger at {place(engine)}.")
    with engine.connect() as connection:
        found = connection.execute(sa.select(head.c.format).where(head.c.id == HEAD_ID)).scalar()
    if found is not None:
        check_format(found)


def check_format(found: int) -> None:
    """Refuse a ledger that a newer package has written."""
    if found != FORMAT:
        raise SchemaVersionError(
            f"The ledger must have format {FORMAT}, got {found}: "
            f"{'install a newer mlflow-caliber' if found > FORMAT else 'it was not written by mlflow-caliber'}."
        )


def place(engine: Engine) -> str:
    """The database's address without user, password and options."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database or ':memory:'}"
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()}://{url.host or ''}{port}/{url.database or ''}"


def _create_tables(engine: Engine) -> None:
    """Several workers start at once: one of them makes a table, and the others look again."""
    for attempt in range(_ATTEMPTS):
        try:
            metadata.create_all(engine)
        except SQLAlchemyError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.05 * 2**attempt)
        else:
            return


def _create_head(engine: Engine) -> None:
    try:
        with engine.begin() as connection:
            if _is_new(connection):
                row = {"id": HEAD_ID, "format": FORMAT, "seq": 0, "sha256": GENESIS}
                connection.execute(sa.insert(head).values(row))
    except IntegrityError:
        pass  # another worker was faster


def _is_new(connection: Connection) -> bool:
    """Whether nothing was ever written. A ledger that has lost its head gets no new one: that is for a person."""
    counted = [connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() for table in (head, entries)]
    return counted == [0, 0]

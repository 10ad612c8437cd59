"""Schema versions: up, down, too old, too new, and not ours."""

from __future__ import annotations

import re
import sqlite3

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from mlflow_caliber.exceptions import CaliberError, SchemaVersionError, StoreError
from mlflow_caliber.store import downgrade, open_store, upgrade
from mlflow_caliber.store._migrate import VERSION_TABLE
from mlflow_caliber.store._schema import metadata


@pytest.fixture
def connected(uri):
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    yield engine.begin
    engine.dispose()


def test_the_migrations_lead_to_the_schema(connected):
    with connected() as connection:
        # (PostgreSQL lists the partitions of a table as tables.)
        ours = {"version_table": VERSION_TABLE, "compare_type": True, "include_name": _is_no_partition}
        assert compare_metadata(MigrationContext.configure(connection, opts=ours), metadata) == []


def _is_no_partition(name, kind, parents):
    return kind != "table" or not re.search(r"_p\d\d$", name)


def test_down_and_up_keeps_the_log(uri, said, happened):
    with open_store(uri) as store:
        stream = store.stream("churn", "3", classes=[0, 1])
        stream.record([said(abstained=True, features={"x": 1}), happened()])
        stream.raise_alarm("calibration", "all", "info", "x", {})
        before = stream.log()
        stream.claim_review(before[0].event.prediction_id, "mia")
    assert downgrade(uri, "0001") == "0001"
    with pytest.raises(SchemaVersionError, match=r"has schema 0001, .* needs 0004: run `mlflow-caliber db upgrade`"):
        open_store(uri)
    assert upgrade(uri) == upgrade(uri) == "0004"
    with open_store(uri, create=False) as store:
        (stream,) = store.streams()
        assert stream.log() == before
        (case,) = stream.open_reviews()
        assert (case.status, case.claimed_by) == ("claimed", "mia"), "who had a case before the upgrade still has it"
        assert stream.open_alarms() == ()
        assert stream.record([said("new")]).recorded == 1


def test_all_the_way_down(uri, connected):
    with pytest.raises(SchemaVersionError, match="must be one of base, 0001, 0002, 0003, 0004, got '0009'"):
        downgrade(uri, "0009")
    assert downgrade(uri, "base") == "base"
    with connected() as connection:
        assert sa.inspect(connection).get_table_names() == [VERSION_TABLE]
    with pytest.raises(SchemaVersionError, match="has no schema, and this mlflow-caliber needs 0004"):
        open_store(uri)
    with pytest.raises(SchemaVersionError, match="has schema none, which is older than 0001"):
        downgrade(uri, "0001")
    assert upgrade(uri) == "0004"
    open_store(uri).close()


def test_a_newer_schema(uri, connected):
    with connected() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '0099'"))
    for act in (open_store, upgrade, lambda uri: downgrade(uri, "0001")):
        with pytest.raises(SchemaVersionError, match="has schema 0099, which is newer than 0004"):
            act(uri)


def test_somebody_elses_database(new_uri):
    uri = new_uri()
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE experiments (id INTEGER)"))
    for act in (open_store, upgrade, lambda uri: downgrade(uri, "base")):
        with pytest.raises(StoreError, match=r"not a store of mlflow-caliber: it holds other tables \(experiments\)"):
            act(uri)
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == ["experiments"]
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
    engine.dispose()


def test_an_empty_database_is_made_a_store_unless_forbidden(new_uri):
    uri = new_uri()
    with pytest.raises(StoreError, match="There is no store at"):
        open_store(uri, create=False)
    open_store(uri).close()
    open_store(uri, create=False).close()


def test_sqlite_files(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/100%.db") as store, sqlite3.connect(tmp_path / "100%.db") as connection:
        assert repr(store) == f"Store('sqlite:///{tmp_path}/100%.db')"
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        with store._database.write() as ours:
            settings = [ours.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "foreign_keys")]
            assert settings == [2, 1]
    connection.close()
    with pytest.raises(StoreError, match="There is no store at"):
        open_store(f"sqlite:///{tmp_path}/nothing.db", create=False)
    assert not (tmp_path / "nothing.db").exists()
    with pytest.raises(StoreError, match="cannot be used: unable to open database file"):
        open_store(f"sqlite:///{tmp_path}/nowhere/caliber.db")
    (tmp_path / "text.db").write_text("not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match="cannot be used: file is not a database"):
        open_store(f"sqlite:///{tmp_path}/text.db")


def test_a_new_file_is_for_its_owner_alone(tmp_path, said):
    for number, name in enumerate((f"sqlite:///{tmp_path}/0.db", f"sqlite:///file:{tmp_path}/1.db?uri=true")):
        with open_store(name) as store:
            store.stream("churn", "1").record([said()])
            files = sorted(tmp_path.glob(f"{number}.db*"))
            assert len(files) == 3
            assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3
    (tmp_path / "old.db").touch()
    (tmp_path / "old.db").chmod(0o640)
    open_store(f"sqlite:///{tmp_path}/old.db").close()
    assert (tmp_path / "old.db").stat().st_mode & 0o777 == 0o640, "what is there already stays as it is"


def test_sqlites_own_uris(tmp_path):
    name = f"sqlite:///file:{tmp_path}/a%20b.db?mode={{}}&uri=true"
    with pytest.raises(StoreError, match="There is no store at"):
        open_store(name.format("ro"), create=False)
    with open_store(f"sqlite:///{tmp_path}/a b.db") as store:
        store.stream("churn", "1")
    with open_store(name.format("ro"), create=False) as store:
        assert [stream.model for stream in store.streams()] == ["churn"]
        with pytest.raises(StoreError, match="readonly"):
            store.stream("other", "1")


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("postgresql://caliber:s3c@secret@nohost/db", "an @ in the user or the password must be written %40"),
        ("postgresql://caliber:x@secret/y@nohost/db", "an @ in the user or the password must be written %40"),
        ("postgresql://calib/er:secret@nohost/db", "an @ in the user or the password must be written %40"),
        ("postgresql://caliber:x@se:secret@nohost/db", "got something that cannot be read as a URI"),
        ("mysql://caliber:secret@host/db", r"got one that begins with mysql://\."),
        ("caliber.db secret", "got something that cannot be read as a URI"),
        (None, "got something that cannot be read as a URI"),
        ("postgresql://caliber:secret@127.0.0.1:1/db", r"postgresql://127\.0\.0\.1:1/db cannot be used: "),
        ("postgresql://caliber@127.0.0.1:1/db?password=secret", r"postgresql://127\.0\.0\.1:1/db cannot be used: "),
    ],
)
def test_uris_that_lead_nowhere(uri, sentence):
    with pytest.raises(CaliberError, match=sentence) as raised:
        open_store(uri, timeout=2.0)
    assert isinstance(raised.value, StoreError)
    assert "secret" not in str(raised.value)
    assert "secret" not in str(raised.value.__cause__)

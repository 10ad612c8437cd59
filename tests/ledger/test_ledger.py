"""Writing and reading: the contract, on each database."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from mlflow_caliber.exceptions import InvalidInputError, OptionalDependencyError, SchemaVersionError, StoreError
from mlflow_caliber.ledger import ACTIONS, LARGEST_DETAIL, Ledger, open_ledger


def engine_of(ledger):
    return ledger._engine


def test_entries_come_back_as_they_were_written(ledger, act):
    written = [ledger.record(**act(n, model=f"model-{n % 2}", version=str(n))) for n in range(4)]
    assert ledger.entries() == tuple(written)
    assert [entry.seq for entry in written] == [1, 2, 3, 4]
    assert written[0].previous_sha256 == "0" * 64
    assert [entry.previous_sha256 for entry in written[1:]] == [entry.sha256 for entry in written[:-1]]
    assert all(entry.content_sha256() == entry.sha256 for entry in written)
    assert ledger.head().anchor == f"4:{written[-1].sha256}"


def test_entries_can_be_asked_for(ledger, act):
    for n in range(6):
        ledger.record(**act(n, model=f"model-{n % 2}", target="champion" if n < 3 else None))

    def numbers(**asked):
        return [entry.seq for entry in ledger.entries(**asked)]

    assert numbers(model="model-0") == [1, 3, 5]
    assert numbers(model="model-0", target="champion") == [1, 3]
    assert numbers(after=2, limit=3) == [3, 4, 5]
    assert numbers(model="model-2") == []


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_can_be_written(ledger, act, action):
    assert ledger.record(**act(action=action, version=None, target=None, detail=None)).action == action


def test_an_entry_stands_or_falls_with_its_transaction(ledger, act):
    with engine_of(ledger).connect() as connection:
        ledger.append(connection, **act())
        assert len(ledger.entries(connection=connection)) == 1
        connection.rollback()
    assert ledger.entries() == ()
    assert ledger.head().seq == 0
    with engine_of(ledger).begin() as connection:
        ledger.append(connection, **act(1))
        ledger.append(connection, **act(2))
    assert [entry.seq for entry in ledger.entries()] == [1, 2]
    assert ledger.verify().ok


def test_a_refused_entry_leaves_the_transaction_usable(ledger, act):
    with engine_of(ledger).begin() as connection:
        ledger.append(connection, **act(1))
        with pytest.raises(InvalidInputError, match="action must be one of"):
            ledger.append(connection, **act(action="smile"))
        ledger.append(connection, **act(2))
    assert len(ledger.entries()) == 2


def test_the_lock_makes_others_wait(ledger, act, uri, keys):
    """Who has locked sees nothing change; who comes second writes behind."""
    entered, done = threading.Event(), []

    def second():
        entered.wait(10)
        with open_ledger(uri, keys=keys) as other:
            done.append(other.record(**act(2)))

    thread = threading.Thread(target=second)
    thread.start()
    with engine_of(ledger).begin() as connection:
        assert ledger.lock(connection).seq == 0
        entered.set()
        thread.join(0.5)
        assert not done
        first = ledger.append(connection, **act(1))
    thread.join(20)
    assert (first.seq, done[0].seq) == (1, 2)
    assert ledger.verify().ok


def test_time_never_runs_backwards(ledger, act, clock):
    first = ledger.record(**act(1))
    clock.wait(-3600)
    second = ledger.record(**act(2))
    clock.wait(7200)
    third = ledger.record(**act(3))
    assert first.at == second.at == "2026-11-22T12:00:00.000000+00:00"
    assert third.at == "2026-11-22T13:00:00.000000+00:00"
    assert ledger.verify().warnings == ()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"actor": ""}, "actor must be a text of 1 to 256 characters, got ''"),
        ({"actor": None}, "actor must be a text of 1 to 256 characters, got None"),
        ({"model": "m" * 257}, "model must be a text of 1 to 256 characters"),
        ({"version": 3}, "version must be a text of 1 to 64 characters, got 3"),
        ({"target": "a\0b"}, "target must be a text"),
        ({"actor": "\ud800"}, "actor must be a text"),
        ({"action": "Promote"}, "action must be one of"),
        ({"detail": {"at": datetime.now(UTC)}}, "detail must be a mapping that JSON can hold"),
        ({"detail": {"x": float("nan")}}, "detail must be a mapping that JSON can hold"),
        ({"detail": {1: 2, "b": 3}}, "detail must be a mapping that JSON can hold"),
        ({"detail": "text"}, "detail must be a mapping that JSON can hold"),
        ({"detail": {"text": "x" * LARGEST_DETAIL}}, "detail must be at most 64,000 bytes of JSON, got 64,011"),
    ],
)
def test_what_cannot_be_written_is_refused_with_a_sentence(ledger, act, changed, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        ledger.record(**act(**changed))
    assert ledger.entries() == ()


def test_the_largest_detail_fits(ledger, act):
    detail = {"text": "x" * (LARGEST_DETAIL - 11)}
    ledger.record(**act(detail=detail))
    assert ledger.entries()[0].detail == detail


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=64)


@given(detail=st.dictionaries(st.text(), JSON, max_size=4), actor=NAMES, model=NAMES)
def test_any_text_and_any_json_comes_back(detail, actor, model):
    with open_ledger("sqlite://") as ledger:
        written = ledger.record(actor=actor, action="gate", model=model, detail=detail)
        assert (written.actor, written.model, written.detail) == (actor, model, detail)
        assert ledger.entries() == (written,)
        assert ledger.verify().ok


def test_any_text_and_any_json_comes_back_from_each_database(ledger):
    detail = {"ключ": "\0 \ud800 \U0001f600 \\u0000", "numbers": [1e308, 5e-324, -0.0, 2**70, 0.1], "none": None}
    written = ledger.record(actor="Мiя \U0001f600 ", action="gate", model="'; DROP TABLE x; --", detail=detail)
    assert ledger.entries() == (written,)
    assert ledger.verify().ok


def test_signatures_are_those_of_the_first_key(ledger, act, keys):
    entry = ledger.record(**act())
    assert entry.signature.startswith("v1,2026,")
    assert entry.signed_by(keys) == "2026"
    assert ledger.head().signed_by(keys) == "2026"


def test_without_keys_nothing_is_signed(uri, act):
    with open_ledger(uri) as ledger:
        assert ledger.record(**act()).signature is None
        assert ledger.head().signature is None
        assert ledger.verify().ok


def test_authors_are_kept_by_version_and_time(ledger):
    with engine_of(ledger).begin() as connection:
        ledger.set_author(connection, "churn", "1", 1_000, "mia")
        ledger.set_author(connection, "churn", "1", 1_000, "eve")  # who is noted stays
        assert ledger.authors("churn", "1", 1_000, connection) == ("mia",)
    assert ledger.authors("churn", "1", 1_000) == ("mia",)
    assert ledger.authors("churn", "1", 2_000) == ()  # deleted and made again: another version


# --- opening ---------------------------------------------------------------------------------------------------------


def test_opening_again_changes_nothing(uri, act):
    with open_ledger(uri) as ledger:
        ledger.record(**act())
    with open_ledger(uri) as ledger, open_ledger(uri, create=False) as again:
        assert ledger.head() == again.head()
        assert again.record(**act()).seq == 2


def test_a_database_without_a_ledger_is_left_alone_when_asked_so(uri, tmp_path):
    with pytest.raises(StoreError, match="There is no ledger at"):
        open_ledger(uri, create=False)
    assert list(tmp_path.iterdir()) == []
    open_ledger("sqlite:///mlflow-like.db").close()


def test_other_tables_are_left_alone(uri, act):
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE model_versions (name VARCHAR(10))"))
        connection.execute(sa.text("INSERT INTO model_versions VALUES ('churn')"))
    ledger = Ledger(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE model_versions SET name = 'other'"))
        ledger.append(connection, **act())
        connection.rollback()
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT name FROM model_versions")).scalar() == "churn"
    assert ledger.entries() == ()
    tables = {"model_versions", "caliber_ledger", "caliber_ledger_head", "caliber_authors"}
    assert set(sa.inspect(engine).get_table_names()) == tables
    engine.dispose()


def test_a_newer_format_is_refused(ledger, uri, act):
    with engine_of(ledger).begin() as connection:
        connection.execute(sa.text("UPDATE caliber_ledger_head SET format = 2"))
    with pytest.raises(SchemaVersionError, match="format 1, got 2: install a newer mlflow-caliber"):
        open_ledger(uri)
    with pytest.raises(SchemaVersionError, match="format 1, got 2"):
        ledger.record(**act())


def test_a_ledger_without_its_head_is_not_written_to_and_gets_no_new_one(ledger, uri, act):
    ledger.record(**act())
    with engine_of(ledger).begin() as connection:
        connection.execute(sa.text("DELETE FROM caliber_ledger_head"))
    with open_ledger(uri) as again:
        with pytest.raises(StoreError, match="must have its head to be written to, got none"):
            again.record(**act())
        with pytest.raises(StoreError, match="must have a head, got none"):
            again.head()


def test_who_starts_at_once_finds_one_ledger(uri, act):
    """Eight at a time, on an empty database."""
    start, opened, faults = threading.Barrier(8), [], []

    def worker():
        try:
            start.wait(10)
            opened.append(open_ledger(uri))
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    for ledger in opened:
        ledger.record(**act())
    assert opened[0].verify().n == 8
    assert opened[0].verify().ok
    for ledger in opened:
        ledger.close()


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("http://localhost:5000", "must be that of a database, such as .*, got one that begins with http://"),
        ("no uri", "got something that cannot be read as one"),
        ("sqlite:////no/such/folder/x.db", "The ledger at sqlite:////no/such/folder/x.db cannot be used"),
    ],
)
def test_an_address_that_is_none(uri, sentence):
    with pytest.raises(StoreError, match=sentence):
        open_ledger(uri)


def test_a_missing_driver_is_named():
    with pytest.raises(OptionalDependencyError, match="A ledger at mysql:// needs MySQLdb"):
        open_ledger("mysql://localhost/x")


def test_no_password_in_any_sentence():
    with pytest.raises(StoreError) as raised:
        open_ledger("postgresql://mia:hunter2@localhost:1/x")
    assert "hunter2" not in str(raised.value)
    assert "postgresql://localhost:1/x" in str(raised.value)


def test_a_busy_database_is_asked_again_and_then_given_up(uri, act, monkeypatch):
    if not uri.startswith("sqlite"):
        pytest.skip("PostgreSQL waits by itself")
    ledger = Ledger(sa.create_engine(uri, connect_args={"timeout": 0.01}))
    monkeypatch.setattr("mlflow_caliber.ledger._ledger._PATIENCE", 0.3)
    with open_ledger(uri) as other, engine_of(other).begin() as connection:
        other.lock(connection)
        with pytest.raises(StoreError, match=r"is busy: somebody else has held it for over 0\.3 s"):
            ledger.record(**act())
    assert ledger.record(**act()).seq == 1
    ledger.close()

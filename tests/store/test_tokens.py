"""Tokens and sessions: what they allow, when they end, and that nobody finds their secrets in the database."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
import sqlalchemy as sa

from mlflow_caliber.exceptions import InvalidInputError, NotFoundError
from mlflow_caliber.store import ROLES, open_store

DAY = 86_400.0


@pytest.fixture
def made(store):
    """Of everybody's, one token that ends and one session of it."""
    token, text = store.create_token("mia", ["view", "review"], models=["churn", "credit"], days=2, actor="root")
    return token, text, store.open_session(token, 3_600.0)


def test_what_a_token_allows(store, clock, made):
    token, text, _ = made
    assert token == store.find_token(text) == store.tokens()[0]
    assert (token.name, token.roles, token.models) == ("mia", ("review", "view"), ("churn", "credit"))
    assert (token.created_at, token.expires_at, token.revoked_at) == (clock.now, clock.now + 2 * DAY, None)
    assert token.to_dict()["kind"] == "token"
    clock.now += 1.0
    everything, _ = store.create_token("root", ROLES, actor="root")
    assert (everything.models, everything.expires_at) == (None, None)
    assert [each.name for each in store.tokens()] == ["mia", "root"]


def test_a_session_is_what_its_token_is(store, clock, made):
    token, _, session = made
    found = store.find_token(session)
    assert (found.kind, found.name, found.roles, found.models) == ("session", token.name, token.roles, token.models)
    assert found.id != token.id
    assert [each.id for each in store.tokens()] == [token.id]
    clock.now += 3_600.0
    assert store.find_token(session) is None


@pytest.mark.parametrize(
    "text", ["", "cal_", "Bearer x", "cal_" + "0" * 12 + "_" + "x" * 42, "cal_" + "Z" * 12 + "_" + "x" * 43, "é" * 60]
)
def test_what_is_no_token(store, text):
    assert store.find_token(text) is None
    store.close_session(text)


def test_another_secret_or_another_id_is_no_token(store, made):
    token, text, session = made
    other = store.create_token("eve", ["view"], actor="root")[1]
    assert store.find_token(text[:-1] + ("a" if text[-1] != "a" else "b")) is None
    assert store.find_token(text[:17] + other[17:]) is None
    assert store.find_token("cal_" + "0" * 12 + text[16:]) is None
    assert store.find_token(text + "\n") is None
    store.close_session(session[:-1] + ("a" if session[-1] != "a" else "b"))
    store.close_session(text)
    assert store.find_token(session) is not None
    assert store.find_token(text) == token


def test_an_expired_token_is_dead_and_so_is_its_session(store, clock, made):
    token, text, _ = made
    session = store.open_session(token, 30 * DAY)
    clock.now += 2 * DAY - 1.0
    assert store.find_token(text) is not None
    assert store.find_token(session) is not None
    clock.now += 1.0
    assert store.find_token(text) is None
    assert store.find_token(session) is None


def test_a_revoked_token_is_dead_and_so_is_its_session(store, clock, made):
    token, text, session = made
    clock.now += 5.0
    revoked = store.revoke_token(token.id, "root")
    assert revoked.revoked_at == clock.now
    assert store.find_token(text) is None
    assert store.find_token(session) is None
    clock.now += 5.0
    assert store.revoke_token(token.id, "root") == revoked
    assert [entry.action for entry in store.audit_trail()].count("revoke_token") == 1
    with pytest.raises(NotFoundError, match="There must be a token 'nobody', and there is none"):
        store.revoke_token("nobody", "root")


def test_a_closed_session_is_gone(store, made):
    _, text, session = made
    store.close_session(session)
    assert store.find_token(session) is None
    assert store.find_token(text) is not None


def test_a_session_opens_no_session_and_is_revoked_with_its_token_only(store, made):
    _, _, session = made
    found = store.find_token(session)
    with pytest.raises(InvalidInputError, match="must be opened with a token, got a session"):
        store.open_session(found, 60.0)
    with pytest.raises(NotFoundError, match="and there is none"):
        store.revoke_token(found.id, "root")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"roles": []}, "roles must be some of ingest, review, view, admin"),
        ({"roles": ["root"]}, r"got \['root'\]"),
        ({"roles": "view"}, "got 'view'"),
        ({"models": []}, "models must be a list of names, or None for all"),
        ({"models": "churn"}, "got 'churn'"),
        ({"models": [""]}, "each of models"),
        ({"name": ""}, "name must not be empty"),
        ({"days": 0}, "days must be above 0"),
        ({"days": -1}, "days must be a finite number of at least 0"),
        ({"days": float("nan")}, "days must be a finite number"),
        ({"actor": ""}, "actor must not be empty"),
    ],
)
def test_what_cannot_be_made(store, wrong, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        store.create_token(**{"name": "mia", "roles": ["view"], "actor": "root", **wrong})
    assert store.tokens() == ()


def test_the_trail_says_who_did_and_never_the_secret(store, made):
    token, text, session = made
    store.revoke_token(token.id, "ann")
    trail = store.audit_trail()
    assert [(entry.actor, entry.action) for entry in trail] == [
        ("ann", "revoke_token"),
        ("mia", "open_session"),
        ("root", "create_token"),
    ]
    assert {entry.subject for entry in trail} == {f"token/{token.id}"}
    assert trail[-1].detail["models"] == ["churn", "credit"]
    assert not any(secret[17:] in str(trail) + repr(token) for secret in (text, session))


def test_what_is_dead_for_long_is_pruned(store, clock, made):
    token, text, _ = made
    revoked, _ = store.create_token("eve", ["view"], actor="root")
    living, _ = store.create_token("ann", ["view"], actor="root")
    store.revoke_token(revoked.id, "root")
    store.open_session(revoked, 30 * DAY)
    clock.now += DAY
    assert store.prune_tokens(clock.now) == 3  # the session of an hour, the revoked token, and its session
    assert {each.id for each in store.tokens()} == {token.id, living.id}
    assert store.find_token(text) is not None
    assert store.prune_tokens(clock.now) == 0


def test_nobody_finds_a_secret_in_the_whole_database(uri, made_in):
    texts = made_in(uri)
    dump = _dump(uri)
    assert "create_token" in dump
    for text in texts:
        assert text[4:16] in dump
        assert text[17:] not in dump


@pytest.fixture
def made_in():
    def make(uri):
        with open_store(uri) as store:
            token, text = store.create_token("mia", ["admin"], actor="root")
            return text, store.open_session(token, 60.0)

    return make


def _dump(uri):
    if uri.startswith("sqlite"):
        file = uri.removeprefix("sqlite:///")
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        with open(file, "rb") as content:
            return content.read().decode("latin-1")
    names = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://", 1))
    tables = sa.inspect(names).get_table_names()
    names.dispose()
    with psycopg.connect(uri) as connection:
        return str([connection.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables])

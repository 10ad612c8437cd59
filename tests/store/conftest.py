"""Both databases, really running: what holds for one must hold for the other."""

from __future__ import annotations

import itertools

import psycopg
import pytest

from mlflow_caliber.store import Outcome, Prediction, open_store, upgrade


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def templates(postgres):
    """The name of a PostgreSQL database by what is in it: nothing, or an empty store."""
    with psycopg.connect(postgres(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # no test pulls the plug
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE template_store")
    upgrade(postgres("template_store"))
    return {"empty": "template1", "store": "template_store"}


_numbers = itertools.count()


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def new_uri(request, tmp_path_factory):
    """A function that makes a database, empty or with an empty store in it, and returns its URI."""

    def sqlite(content="empty"):
        uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/caliber.db"
        if content == "store":
            upgrade(uri)
        return uri

    def postgresql(content="empty"):
        name = f"caliber_{next(_numbers)}"
        server, templates = request.getfixturevalue("postgres"), request.getfixturevalue("templates")
        with psycopg.connect(server(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {templates[content]}")
        return server(name)

    return sqlite if request.param == "sqlite" else postgresql


@pytest.fixture(scope="session")
def shared_uri(new_uri):
    return new_uri("store")


@pytest.fixture
def uri(new_uri):
    return new_uri("store")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(uri, clock):
    with open_store(uri, clock=clock) as store:
        yield store


@pytest.fixture
def stream(shared_uri, clock):
    """A new stream, in a database that has others."""
    with open_store(shared_uri, clock=clock) as store:
        yield store.stream("churn", str(next(_numbers)), classes=[0, 1])


@pytest.fixture(scope="session")
def said():
    """A prediction that can be recorded, but for what the test changes."""

    def said(prediction_id="a", **changed):
        ordinary = {
            "predicted_at": 100.0,
            "raw_probability": 0.9,
            "base_probability": 0.8,
            "probability": 0.7,
            "prediction": 1,
            "confidence": 0.7,
        }
        return Prediction(prediction_id=prediction_id, **{**ordinary, **changed})

    return said


@pytest.fixture(scope="session")
def happened():
    def happened(prediction_id="a", outcome=1, observed_at=200.0, source="observed"):
        return Outcome(prediction_id=prediction_id, outcome=outcome, observed_at=observed_at, source=source)

    return happened

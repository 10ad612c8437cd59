"""The ledger in both databases, really running: what holds for one must hold for the other."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from mlflow_caliber._signing import Keyring
from mlflow_caliber.ledger import open_ledger

_numbers = itertools.count()


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture(params=["sqlite", "postgres"])
def uri(request, tmp_path):
    """A database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/registry.db"
    server, name = request.getfixturevalue("postgres"), f"ledger_{next(_numbers)}"
    with psycopg.connect(server(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server(name)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="session")
def keys():
    return Keyring.parse("2026:" + "k" * 32)


@pytest.fixture
def ledger(uri, keys, clock):
    with open_ledger(uri, keys=keys, clock=clock) as ledger:
        yield ledger


@pytest.fixture(scope="session")
def act():
    """An entry that can be written, but for what the test changes."""

    def act(number=0, **changed):
        ordinary = {"actor": "mia", "action": "freeze", "model": "churn", "target": "champion"}
        return {**ordinary, "detail": {"reason": f"audit {number}", "until": None}, **changed}

    return act

"""A store whose clock a test sets, with one stream."""

from __future__ import annotations

import pytest

from live_streams import Clock
from mlflow_caliber.live import _reports
from mlflow_caliber.store import open_store


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def uri(tmp_path):
    return f"sqlite:///{tmp_path}/caliber.db"


@pytest.fixture
def store(uri, clock):
    with open_store(uri, clock=clock) as store:
        yield store


@pytest.fixture
def stream(store):
    return store.stream("churn", "1", classes=[0, 1])


@pytest.fixture
def nothing_is_believed(monkeypatch):
    """Answers about ranges are kept for seconds; here each is made."""
    monkeypatch.setattr(_reports, "_BELIEVED", -1.0)

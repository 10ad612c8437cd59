"""A service in this process, with one stream of two classes."""

from __future__ import annotations

import pytest

from live_service import API, service

BASE = f"{API}/models/churn/versions/1"


@pytest.fixture
def client():
    with service() as client:
        client.put(BASE, json={"classes": ["no", "yes"], "settings": {"abstain_threshold": 0.7}}).raise_for_status()
        yield client

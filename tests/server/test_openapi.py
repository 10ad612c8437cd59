"""The OpenAPI document says what the service does: machines try it, address by address."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi import checks

from live_service import API, service
from live_streams import said
from mlflow_caliber.store import ReviewSettings, StreamSettings

pytestmark = pytest.mark.system

load_all_checks()
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
PHASES = [Phase.explicit, Phase.generate]
ORDINARY = {"deadline": None, "phases": PHASES, "suppress_health_check": list(HealthCheck), "database": None}


@schemathesis.serializer("application/x-ndjson")
def lines(_, value):
    return str(value).encode("utf-8", "replace")


@pytest.fixture(scope="module")
def client():
    """A service with one of everything, so that what is found is looked at too."""
    with service(rate=0.0) as client:
        stream = client.store.stream("churn", "1", classes=["no", "yes"])
        stream.change_settings(StreamSettings(abstain_threshold=0.7, review=ReviewSettings(audit_share=0.5)), "root")
        stream.record([said(f"p{i}", 0.6 + i / 100, 1e9, prediction="yes", abstained=None) for i in range(20)])
        stream.raise_alarm("drift", "age", "warning", "It drifts.", {"score": 0.3, "threshold": 0.2})
        yield client


def call(case, client):
    """One request; half of those that name a model version name the one that is there."""
    if "model" in (case.path_parameters or {}) and len(str(case.path_parameters["model"])) % 2:
        case.path_parameters |= {"model": "churn", "version": "1"}
        if "prediction_id" in case.path_parameters:
            case.path_parameters["prediction_id"] = "p3"
    answer = case.call(headers={**(case.headers or {}), "Authorization": f"Bearer {client.token}"})
    case.validate_response(answer, checks=CHECKS)


def try_all(client, examples):
    """Every operation with so many requests; what is not as the document says, by operation."""
    document = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    wrong = {}
    for found in document.get_all_operations():
        operation = found.ok()

        @settings(max_examples=examples, derandomize=True, **ORDINARY)
        @given(case=operation.as_strategy())
        def attempt(case):
            call(case, client)

        try:
            attempt()
        except Exception as error:  # told together: one lie must not hide the others
            wrong[operation.label] = str(error)[:1_000]
    assert wrong == {}, "\n\n".join(f"{label}: {sentence}" for label, sentence in wrong.items())


def test_the_document_is_true(client):
    try_all(client, 5)


@pytest.mark.slow
def test_the_document_is_true_whatever_one_tries(client):
    try_all(client, 300)


def test_every_operation_tells_of_its_errors_and_has_a_summary(client):
    found = client.app.openapi()
    assert found["security"] == [{"token": []}]
    for path, methods in found["paths"].items():
        for method, told in methods.items():
            assert told["summary"], (method, path)
            for status in ("401", "403", "404", "422", "429", "503"):
                content = told["responses"][status]["content"]
                assert list(content) == ["application/problem+json"], (method, path, status)
    assert f"{API}/models/{{model}}/versions/{{version}}/events" in found["paths"]

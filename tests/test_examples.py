"""The examples that others copy: a workflow whose commands exist, and a receiver that believes nobody."""

import asyncio
import importlib.util
import json
import shlex
import time
from pathlib import Path

import pytest
import yaml

from mlflow_caliber.cli import main

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SECRET = "a-secret-between-two"


def test_the_workflow_runs_commands_that_exist():
    workflow = yaml.safe_load((EXAMPLES / "github-actions" / "gate.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    runs = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step]
    ours = [shlex.split(run)[1:] for run in runs if run.startswith("mlflow-caliber")]
    assert [words[0] for words in ours] == ["gate", "promote", "verify"]
    for words in ours:
        given = [word.replace("$VERSION", "2") for word in words[1:]]
        main.commands[words[0]].make_context(words[0], given)
    # Nothing that a stranger can type is pasted into a shell.
    assert not [run for run in runs if "${{" in run]


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.setenv("MLFLOW_WEBHOOK_SECRET", SECRET)
    spec = importlib.util.spec_from_file_location("receiver", EXAMPLES / "webhook" / "receiver.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.gated = []
    monkeypatch.setattr(module, "regate", lambda name, version: module.gated.append((name, version)))
    return module


def send(receiver, *, action="created", delivery="d-1", stamp=None, secret=SECRET, change=b""):
    import httpx
    from mlflow.webhooks.delivery import _generate_hmac_signature

    body = json.dumps({"entity": "model_version", "action": action, "data": {"name": "churn", "version": "2"}})
    stamp = str(int(time.time()) if stamp is None else stamp)
    headers = {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": stamp,
        "X-MLflow-Signature": _generate_hmac_signature(secret, delivery, stamp, body),
    }

    async def post():
        transport = httpx.ASGITransport(receiver.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            return await client.post("/", content=body.encode() + change, headers=headers)

    return asyncio.run(post())


def test_a_new_version_is_gated_once_however_often_it_is_told(receiver):
    assert [send(receiver).json()["status"] for _ in range(3)] == ["accepted", "ignored", "ignored"]
    assert receiver.gated == [("churn", "2")]


def test_other_events_are_none_of_its_business(receiver):
    assert send(receiver, action="tag_set").json()["status"] == "ignored"
    assert receiver.gated == []


@pytest.mark.parametrize("forged", [{"secret": "other"}, {"stamp": 1}, {"change": b" "}])
def test_what_mlflow_did_not_sign_is_refused(receiver, forged):
    assert send(receiver, **forged).status_code == 401
    assert receiver.gated == []

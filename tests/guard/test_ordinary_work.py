"""What is nobody's way around the gate works on a guarded server as it does on a plain one."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import mlflow
import pytest
import requests
from mlflow import MlflowClient

from registry_servers import ADMIN

from .attempts._fleet import SURROUNDINGS, fleet
from .attempts._site import BAD, GOOD, UNKNOWN
from .attempts._target import Target

pytestmark = pytest.mark.system


@pytest.fixture
def sites(request, tmp_path_factory, monkeypatch):
    """Gives the server of a kind."""
    for name, value in SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    return fleet(request, tmp_path_factory)


_IDS = re.compile(r"[0-9a-f]{32}|[0-9a-f-]{36}|\d+$|\b\d+\b(?=/)|m-[0-9a-f]+|risk-\d+")


@pytest.fixture
def requested(monkeypatch):
    """Every request that MLflow's client makes, without the ids in it, and its status."""
    seen = []
    ask = requests.Session.request

    def record(session, method, url, *rest, **options):
        response = ask(session, method, url, *rest, **options)
        path = _IDS.sub("*", url.partition("/api/")[2])
        seen.append((method, path, response.status_code))
        return response

    monkeypatch.setattr(requests.Session, "request", record)
    return seen


def track(target):
    """Experiments and runs with all that is logged to them."""
    client, site = target.client, target.site
    experiment = client.create_experiment(f"work {target.name}")
    client.set_experiment_tag(experiment, "caliber_note", "of an experiment")
    run_id = client.create_run(experiment, tags={"caliber_model_digest": "of a run"}).info.run_id
    client.log_param(run_id, "depth", 3)
    for step in range(3):
        client.log_metric(run_id, "caliber_brier", 0.1, step=step)
    client.log_text(run_id, "words", "notes/readme.txt")
    client.log_artifacts(run_id, str(site.folders[GOOD]), "model")
    assert [entry.path for entry in client.list_artifacts(run_id, "notes")] == ["notes/readme.txt"]
    client.search_runs([experiment], "params.depth = '3'")
    client.set_terminated(run_id)
    client.delete_run(run_id)
    client.restore_run(run_id)
    client.rename_experiment(experiment, f"done {target.name}")
    return run_id


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return model_input


def log_and_register(target):
    """A model logged and registered in one call, and loaded again."""
    name = target.name + "-logged"
    mlflow.set_experiment(experiment_id=target.client.create_experiment(f"models {target.name}"))
    mlflow.pyfunc.log_model(name="echo", python_model=Echo(), registered_model_name=name, pip_requirements=["mlflow"])
    target.client.set_registered_model_alias(name, "shadow", "1")
    assert mlflow.pyfunc.load_model(f"models:/{name}@shadow").predict(["a"]) == ["a"]
    assert mlflow.pyfunc.load_model(f"models:/{name}/1").predict(["a"]) == ["a"]


def register(target, run_id):
    """Versions, with everything about them that nobody guards."""
    client, name = target.client, target.name + "-free"
    client.create_registered_model(name, tags={"team": "risk"}, description="for work")
    for _ in range(3):
        client.create_model_version(name, f"runs:/{run_id}/model", run_id, tags={"by": "hand"}, await_creation_for=0)
    client.update_model_version(name, "1", description="the first")
    client.update_registered_model(name, "all of them")
    client.set_model_version_tag(name, "1", "calibration", "isotonic")
    client.delete_model_version_tag(name, "1", "calibration")
    client.set_registered_model_tag(name, "owner", "risk")
    client.delete_registered_model_tag(name, "owner")
    for alias in ("shadow", "challenger", "candidate", "champions", "чемпион"):
        client.set_registered_model_alias(name, alias, "1")
        client.set_registered_model_alias(name, alias, "2")
        assert str(client.get_model_version_by_alias(name, alias).version) == "2"
        client.delete_registered_model_alias(name, alias)
    for stage in ("Staging", "Archived", "None", "staging"):
        client.transition_model_version_stage(name, "2", stage, archive_existing_versions=stage.lower() == "staging")
    assert len(client.search_model_versions(f"name = '{name}'")) == 3
    client.search_registered_models(f"name = '{name}'")
    client.get_latest_versions(name)
    client.delete_model_version(name, "3")
    client.rename_registered_model(name, name + "-new")
    client.delete_registered_model(name + "-new")


def copy(target):
    """A copy of a version; of the champion's too, whose verdict stays behind."""
    client, copied = target.client, target.name + "-copy"
    client.copy_model_version(f"models:/{target.name}/{BAD}", copied)
    client.copy_model_version(f"models:/{target.name}/{GOOD}", copied)
    assert not any(key.startswith("caliber_") for key in target.tags("2", copied))
    client.set_registered_model_alias(copied, "shadow", "2")
    client.delete_registered_model_alias(target.name, "champion")  # what guards nobody may be taken away


def prompt(target):
    """Prompts have aliases of their own."""
    name = f"hello-{target.name}"
    for text in ("Hello {{ name }}", "Good day {{ name }}"):
        mlflow.genai.register_prompt(name, text, commit_message="words", tags={"team": "risk"})
    for alias in ("champion", "Champion", "previous", "shadow"):
        mlflow.genai.set_prompt_alias(name, alias, 1)
        mlflow.genai.set_prompt_alias(name, alias, 2)
        assert mlflow.genai.load_prompt(f"prompts:/{name}@{alias}", cache_ttl_seconds=0).version == 2
    mlflow.genai.delete_prompt_alias(name, "champion")
    target.client.set_prompt_version_tag(name, "1", "tone", "warm")
    mlflow.genai.search_prompts(f"name = '{name}'")
    target.client.delete_prompt_version(name, "1")


def webhook(target):
    """A webhook for every change of an alias."""
    client = MlflowClient(target.site.uri, target.site.uri)
    made = client.create_webhook("aliases", "https://1.1.1.1/hook", ["model_version_alias.created"])
    client.list_webhooks()
    client.delete_webhook(made.webhook_id)


def work(target):
    mlflow.set_tracking_uri(target.site.uri)
    mlflow.set_registry_uri(target.site.uri)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of stages, and of type hints
        register(target, track(target))
        log_and_register(target)
        copy(target)
        prompt(target)


def summary(requested):
    return Counter(each for each in requested if "server-info" not in each[1])


@pytest.mark.parametrize("kind", ["guarded", pytest.param("people", marks=pytest.mark.slow)])
def test_all_requests_of_ordinary_work_are_answered_alike(sites, requested, kind):
    found = {}
    for each in ("plain", kind):
        target = Target.on(sites(each))
        requested.clear()
        work(target)
        found[each] = summary(requested)
    assert found[kind] == found["plain"]
    assert sum(found[kind].values()) > 100


@pytest.mark.parametrize("kind", ["guarded", pytest.param("people", marks=pytest.mark.slow)])
def test_webhooks_are_made(sites, requested, monkeypatch, kind):
    found = {}
    for each in ("plain", kind):
        target = Target.on(sites(each))
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
        requested.clear()
        webhook(target)
        found[each] = summary(requested)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", SURROUNDINGS["MLFLOW_TRACKING_USERNAME"])
    assert found[kind] == found["plain"]


@pytest.mark.parametrize("kind", ["guarded", pytest.param("people", marks=pytest.mark.slow)])
def test_a_free_alias_is_set_in_mlflows_own_pages(browser, sites, tmp_path, kind):
    target = Target.on(sites(kind))
    credentials = {
        "username": SURROUNDINGS["MLFLOW_TRACKING_USERNAME"],
        "password": SURROUNDINGS["MLFLOW_TRACKING_PASSWORD"],
    }
    failed = []
    context = browser.new_context(viewport={"width": 1300, "height": 900}, http_credentials=credentials)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("response", lambda it: failed.append(f"{it.status} {it.url}") if it.status >= 500 else None)
    page.goto(f"{target.site.uri}/#/models")
    page.get_by_role("dialog").get_by_text("Try it now").click()  # MLflow greets whoever comes first
    page.get_by_placeholder("Search register").fill(target.name)
    page.keyboard.press("Enter")
    page.get_by_role("link", name=target.name, exact=True).first.click()
    _set_alias(page, BAD, "shadow")
    page.get_by_role("dialog").wait_for(state="detached")
    page.screenshot(path=tmp_path / "shadow.png")
    _set_alias(page, UNKNOWN, "champion")
    page.get_by_role("dialog").get_by_text("must have evidence").wait_for()
    page.screenshot(path=tmp_path / "champion.png")
    context.close()
    assert failed == []
    assert (target.holder("shadow"), target.holder()) == (BAD, GOOD)


def _set_alias(page, version, alias):
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=f"Version {version}", exact=True))
    row.get_by_role("button").last.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").fill(alias)
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Save aliases").click()

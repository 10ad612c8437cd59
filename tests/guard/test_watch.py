"""Whatever writes to the registry's tables through MLflow's classes, in whatever store of the process, is seen."""

import pytest
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException

from refusals import refused


@pytest.fixture
def watched(guard):
    """A registry with one version that has no evidence; ``client`` goes around the guarded store."""
    guarded = guard()
    guarded.name = guarded.world.register(guarded.world.model(), guarded.world.model())
    return guarded


def test_a_guarded_alias_is_set_by_the_governor_only(watched):
    refused(lambda: watched.client.set_registered_model_alias(watched.name, "champion", 1), "'champion' .* is guarded")
    assert watched.world.aliases(watched.name) == {}


@pytest.mark.parametrize("alias", ["Champion", "сhampion", "champi0n", "champion\n"])
def test_aliases_that_look_like_it_are_refused(watched, alias):
    refused(lambda: watched.client.set_registered_model_alias(watched.name, alias, 1), "must not be taken for")
    assert watched.world.aliases(watched.name) == {}


def test_the_alias_of_former_holders_is_the_guards_too(watched):
    refused(lambda: watched.client.set_registered_model_alias(watched.name, "previous", 1), "is guarded")


def test_other_aliases_and_tags_are_free(watched):
    client = watched.client
    client.set_registered_model_alias(watched.name, "shadow", 1)
    client.set_registered_model_alias(watched.name, "shadow", 2)
    client.delete_registered_model_alias(watched.name, "shadow")
    client.set_model_version_tag(watched.name, "1", "team", "risk")
    client.delete_model_version_tag(watched.name, "1", "team")
    client.set_registered_model_tag(watched.name, "team", "risk")
    client.update_model_version(watched.name, "1", "text")
    client.rename_registered_model(watched.name, watched.name + "-new")
    client.delete_model_version(watched.name + "-new", "1")
    client.delete_registered_model(watched.name + "-new")
    assert watched.ledger.entries() == ()


@pytest.mark.parametrize("key", ["caliber_gate_status", "Caliber_gate_status", " caliber_x", "саliber_gate_status"])
def test_the_guards_tags_are_refused_on_versions_and_models(watched, key):
    refused(lambda: watched.client.set_model_version_tag(watched.name, "1", key, "passed"), "belongs to the guard")
    refused(lambda: watched.client.set_registered_model_tag(watched.name, key, "passed"), "belongs to the guard")
    tags = [RegisteredModelTag(key, "passed")]
    refused(lambda: watched.store.create_registered_model("new", tags), "belongs to the guard")
    tags = [ModelVersionTag(key, "passed")]
    other = watched.client._get_registry_client().store  # not the guarded one
    refused(lambda: other.create_model_version(watched.name, "s", tags=tags), "belongs to the guard")
    assert watched.world.tags(watched.name, 1) == {}


def test_the_guarded_store_leaves_the_guards_tags_out_of_new_versions(watched):
    tags = [ModelVersionTag("caliber_gate_status", "passed"), ModelVersionTag("team", "risk")]
    made = watched.store.create_model_version(watched.name, watched.world.model().as_uri(), tags=tags)
    assert watched.world.tags(watched.name, made.version) == {"team": "risk"}


def test_a_copy_carries_no_verdict_over(guard):
    guarded = guard()
    name, _ = guarded.version()
    guarded.store.set_registered_model_alias(name, "champion", "1")
    copied = guarded.store.copy_model_version(guarded.store.get_model_version(name, "1"), "copy")
    assert guarded.world.tags("copy", copied.version) == {}
    assert guarded.world.tags(name, 1)["caliber_gate_status"] == "passed"


def test_removing_a_guarded_alias_is_recorded_however_it_goes(guard):
    guarded = guard()
    for how in ("alias", "version", "model"):
        name, version = guarded.version()
        guarded.store.set_registered_model_alias(name, "champion", version)
        if how == "alias":
            guarded.client.delete_registered_model_alias(name, "champion")
        elif how == "version":
            guarded.client.delete_model_version(name, version)
        else:
            guarded.client.delete_registered_model(name)
        assert sorted(set(guarded.actions(name)) - {"delete"}) == ["promote", "remove"], how
        assert ("delete" in guarded.actions(name)) == (how != "alias")
        (entry,) = (each for each in guarded.ledger.entries(model=name) if each.action == "remove")
        assert (entry.actor, entry.target, entry.version) == ("mia", "champion", "1")
        assert guarded.governor.governance(name).holder("champion") is None


def test_a_model_with_a_guarded_alias_keeps_its_name(guard):
    guarded = guard()
    name, version = guarded.version()
    guarded.store.set_registered_model_alias(name, "champion", version)
    refused(lambda: guarded.client.rename_registered_model(name, "other"), "must hold no guarded alias")
    guarded.client.delete_registered_model_alias(name, "champion")
    guarded.client.delete_registered_model_alias(name, "previous")
    guarded.client.rename_registered_model(name, "other")
    assert guarded.actions(name) == ["promote", "remove", "rename"]


def test_authors_are_remembered(watched):
    watched.user = "noor"
    version = watched.client.create_model_version(watched.name, source=watched.world.model().as_uri())
    known = watched.ledger.authors(watched.name, version.version, version.creation_timestamp)
    assert known == ("noor",)


def test_another_registry_in_the_process_is_none_of_its_business(watched, tmp_path_factory):
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("plain")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db", f"sqlite:///{folder}/mlflow.db")
    client.create_registered_model("m")
    client.create_model_version("m", source=folder.as_uri())
    client.set_registered_model_alias("m", "champion", 1)
    client.set_model_version_tag("m", "1", "caliber_gate_status", "passed")
    assert client.get_model_version_by_alias("m", "champion").version == 1


def test_prompts_keep_their_aliases(watched):
    import mlflow

    mlflow.set_registry_uri(watched.store.db_uri)
    mlflow.set_tracking_uri(watched.store.db_uri)
    prompt = mlflow.genai.register_prompt("greeting", "Hello {{ name }}")
    mlflow.genai.set_prompt_alias("greeting", "champion", prompt.version)
    mlflow.genai.set_prompt_alias("greeting", "Champion", prompt.version)
    assert mlflow.genai.load_prompt("prompts:/greeting@champion").version == prompt.version


def test_a_model_that_is_tagged_as_a_prompt_is_a_model(watched):
    store = watched.client._get_registry_client().store  # MLflow's client would not even ask
    for set_tag, where in ((store.set_registered_model_tag, ()), (store.set_model_version_tag, ("1",))):
        set_tag(watched.name, *where, ModelVersionTag("mlflow.prompt.is_prompt", "true"))
    refused(lambda: store.set_registered_model_alias(watched.name, "champion", "1"), "is guarded")
    refused(lambda: watched.store.set_registered_model_alias(watched.name, "champion", "1"), "must have evidence")


def test_a_version_without_files_does_not_take_a_models_alias(guard):
    guarded = guard()
    name, version = guarded.version()
    guarded.store.set_registered_model_alias(name, "champion", version)
    tags = [ModelVersionTag("mlflow.prompt.is_prompt", "true"), ModelVersionTag("mlflow.prompt.text", "hi")]
    made = guarded.store.create_model_version(name, "prompt-template", tags=tags)
    for alias in ("champion", "previous", "Champion"):
        with pytest.raises(MlflowException):
            guarded.store.set_registered_model_alias(name, alias, made.version)
    assert guarded.world.aliases(name) == {"champion": "1"}


def test_prompts_leave_no_trace_in_the_ledger(watched):
    store = watched.store
    store.create_registered_model("greeting", [RegisteredModelTag("mlflow.prompt.is_prompt", "true")])
    store.create_model_version("greeting", "prompt-template")
    store.set_registered_model_alias("greeting", "champion", "1")
    store.rename_registered_model("greeting", "welcome")
    store.delete_registered_model_alias("welcome", "champion")
    assert watched.ledger.entries() == ()


@pytest.mark.parametrize("version", ["²", "9" * 30, "9" * 19, "x", "-1", "1.0", ""])
def test_versions_that_are_none_get_mlflows_own_errors(watched, version):
    with pytest.raises(MlflowException) as caught:
        watched.store.set_registered_model_alias(watched.name, "champion", version)
    assert caught.value.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")

"""Versions and models deleted, made anew, renamed, copied, or passed off as prompts."""

from __future__ import annotations

from ._attempt import Attempts, Judge, champion_is_not, entered, holds
from ._site import BAD, GOOD, UNKNOWN
from ._target import Target

ANEW, NAMES, PROMPTS, DUELS = (Attempts(kind) for kind in ("made anew", "rename", "prompt", "no opponent"))
IS_PROMPT = "mlflow.prompt.is_prompt"


def _bad_is_champion(suffix: str = "", version: str = "1") -> Judge:
    return lambda target: target.holder(name=target.name + suffix) == version


# --- deleted and made anew -------------------------------------------------------------------------------------------


@ANEW.of("the model, with a bad first version", _bad_is_champion(), quick=True)
def _model_anew(target: Target) -> None:
    target.client.delete_registered_model(target.name)
    target.client.create_registered_model(target.name)
    target.register(target.site.sources[BAD])
    target.alias("1")


@ANEW.of("the model, with the champion's stage", entered("1"))
def _model_anew_stage(target: Target) -> None:
    target.call("model-versions/transition-stage", version=GOOD, stage="Production")
    target.client.delete_registered_model(target.name)
    target.client.create_registered_model(target.name)
    target.register(target.site.sources[BAD])
    target.call("model-versions/transition-stage", version="1", stage="Production")


@ANEW.of("the champion deleted, then the next one asked for", holds(BAD))
def _champion_deleted(target: Target) -> None:
    target.client.delete_model_version(target.name, GOOD)
    target.alias()


@ANEW.of("all but the bad one deleted", holds(UNKNOWN))
def _only_one_left(target: Target) -> None:
    for version in (GOOD, BAD):
        target.client.delete_model_version(target.name, version)
    target.alias(UNKNOWN)


@ANEW.of("a pass, then the version deleted and registered again from other files", holds("5"))
def _passed_then_deleted(target: Target) -> None:
    _, version, _ = target.fresh()
    if target.site.guarded:
        assert target.call("caliber/gate", version=version, target="champion").body["status"] == "passed"
    target.client.delete_model_version(target.name, version)
    target.alias(target.register(target.site.sources[UNKNOWN]))


@ANEW.of("a copy of a bad version in a model of its own", _bad_is_champion("-copy"))
def _copy(target: Target) -> None:
    target.attempt(lambda client: client.copy_model_version(f"models:/{target.name}/{BAD}", target.name + "-copy"))
    target.call("registered-models/alias", name=target.name + "-copy", alias="champion", version="1")


# --- renamed ---------------------------------------------------------------------------------------------------------


def _rename(target: Target, name: str, new_name: str) -> None:
    target.post("/api/2.0/mlflow/registered-models/rename", {"name": name, "new_name": new_name})


def _other(target: Target) -> str:
    """Another model, whose only version is bad."""
    other = target.name + "-other"
    target.client.create_registered_model(other)
    target.register(target.site.sources[BAD], other)
    return other


@NAMES.of("away, with the champion", lambda t: t.holder(name=t.name + "-away") == GOOD, quick=True)
def _away(target: Target) -> None:
    _rename(target, target.name, target.name + "-away")


@NAMES.of("away, in the stage", lambda t: t.in_stage(GOOD, name=t.name + "-away"))
def _away_stage(target: Target) -> None:
    target.call("model-versions/transition-stage", version=GOOD, stage="Production")
    target.client.delete_registered_model_alias(target.name, "champion")
    _rename(target, target.name, target.name + "-away")


@NAMES.of("by ajax-api, with blanks", lambda t: t.holder(name=" " + t.name + " ") == GOOD)
def _away_blanks(target: Target) -> None:
    body = {"name": target.name, "new_name": f" {target.name} "}
    target.post("/ajax-api/2.0/mlflow//registered-models/rename", body)


@NAMES.of("away, and another one into the name", lambda t: t.holder() == "1" and t.holder(name=t.name + "-old") == "1")
def _change_places(target: Target) -> None:
    other = _other(target)
    _rename(target, target.name, target.name + "-old")
    if target.answers[-1].status == 200:
        _rename(target, other, target.name)
        target.alias("1")


@NAMES.of("another one into the name of a deleted one", _bad_is_champion())
def _into_a_free_name(target: Target) -> None:
    other = _other(target)
    target.client.delete_registered_model(target.name)
    _rename(target, other, target.name)
    target.alias("1")


@NAMES.of("with the alias of an unguarded name", _bad_is_champion())
def _with_an_alias(target: Target) -> None:
    """An alias that is set under one name and wanted under another."""
    other = _other(target)
    target.call("registered-models/alias", name=other, alias="champion", version="1")
    target.client.delete_registered_model(target.name)
    _rename(target, other, target.name)


# --- prompts ---------------------------------------------------------------------------------------------------------


def _tag_model(target: Target, value: str = "true") -> None:
    target.call("registered-models/set-tag", key=IS_PROMPT, value=value)


def _tag_version(target: Target, version: str = BAD, value: str = "true") -> None:
    target.call("model-versions/set-tag", version=version, key=IS_PROMPT, value=value)


def _untag(target: Target) -> None:
    target.post(
        "/api/2.0/mlflow/registered-models/delete-tag", {"name": target.name, "key": IS_PROMPT}, method="DELETE"
    )


@PROMPTS.of("the model tagged as one, then not", holds(BAD), quick=True)
def _tagged_model(target: Target) -> None:
    _tag_model(target)
    target.alias()
    _untag(target)


@PROMPTS.of("the version tagged as one", holds(BAD), quick=True)
def _tagged_version(target: Target) -> None:
    _tag_version(target)
    target.alias()


@PROMPTS.of("both tagged, in capitals, with a text", holds(BAD))
def _tagged_both(target: Target) -> None:
    _tag_model(target, "TRUE")
    _tag_version(target, value="True")
    target.call("model-versions/set-tag", version=BAD, key="mlflow.prompt.text", value="Hello")
    target.call("model-versions/set-tag", version=BAD, key="_mlflow_prompt_type", value="text")
    target.alias()
    _untag(target)


@PROMPTS.of("tagged as one, into the stage", entered(BAD))
def _tagged_stage(target: Target) -> None:
    _tag_model(target)
    _tag_version(target)
    target.call("model-versions/transition-stage", version=BAD, stage="Production")
    _untag(target)


def _make_prompt(target: Target, name: str) -> str:
    tags = [{"key": IS_PROMPT, "value": "true"}, {"key": "mlflow.prompt.text", "value": "Hello"}]
    body = {"name": name, "source": "prompt-template", "tags": tags}
    return str(target.post("/api/2.0/mlflow/model-versions/create", body).body["model_version"]["version"])


@PROMPTS.of("a prompt in the model takes the champion's place", champion_is_not(GOOD))
def _prompt_in_a_model(target: Target) -> None:
    """What serves the champion then has no files; and nobody decided that it should leave."""
    target.alias(_make_prompt(target, target.name))


@PROMPTS.of("a model that began as a prompt", _bad_is_champion("-p", "2"))
def _began_as_prompt(target: Target) -> None:
    name = target.name + "-p"
    tags = [{"key": IS_PROMPT, "value": "true"}]
    target.post("/api/2.0/mlflow/registered-models/create", {"name": name, "tags": tags})
    _make_prompt(target, name)
    target.register(target.site.sources[BAD], name)
    target.call("registered-models/alias", name=name, alias="champion", version="1")
    target.call("registered-models/alias", name=name, alias="champion", version="2")


@PROMPTS.of("a prompt's version that says it has files", holds("4"))
def _prompt_with_files(target: Target) -> None:
    tags = [{"key": IS_PROMPT, "value": "false"}, {"key": IS_PROMPT, "value": "true"}]
    body = {"source": target.site.sources[BAD], "run_id": target.site.run_id}
    target.call("model-versions/create", **body, tags=tags)
    target.call("model-versions/create", **body, tags=tags[:1])
    target.alias("4")


@PROMPTS.of("a look-alike alias of a prompt in the model", holds("4", "Champion"))
def _look_alike(target: Target) -> None:
    target.alias(_make_prompt(target, target.name), "Champion")


# --- a comparison with nobody ----------------------------------------------------------------------------------------


def _reigning(target: Target) -> str:
    """A version that holds the target with a comparison, and is better than the bad one."""
    _, version, _ = target.fresh()
    target.alias(version, "challenged")
    assert target.holder("challenged") == version
    return version


@DUELS.of("the alias taken away before it is asked for", holds(BAD, "challenged"), quick=True)
def _taken_away(target: Target) -> None:
    _reigning(target)
    target.client.delete_registered_model_alias(target.name, "challenged")
    target.alias(alias="challenged")


@DUELS.of("the version deleted before it is asked for", holds(BAD, "challenged"))
def _deleted(target: Target) -> None:
    target.client.delete_model_version(target.name, _reigning(target))
    target.alias(alias="challenged")


@DUELS.of("asked for in its presence", holds(BAD, "challenged"))
def _in_presence(target: Target) -> None:
    _reigning(target)
    target.alias(alias="challenged")


@DUELS.of("its files deleted", holds(BAD, "challenged"))
def _files_deleted(target: Target) -> None:
    import requests

    from registry_servers import PASSWORD

    from ._site import MALLORY

    version = _reigning(target)
    source = target.client.get_model_version(target.name, version).source.removeprefix("mlflow-artifacts:")
    for name in ("MLmodel", "weights.txt"):
        url = f"{target.site.uri}/api/2.0/mlflow-artifacts/artifacts{source}/{name}"
        requests.delete(url, auth=(MALLORY, PASSWORD), timeout=60).raise_for_status()
    target.alias(alias="challenged")

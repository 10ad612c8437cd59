"""Files changed after the evaluation or the verdict, and sources that show one model here and another there."""

from __future__ import annotations

from collections.abc import Callable

import requests

from registry_servers import PASSWORD

from ._attempt import Attempts, holds
from ._site import BAD, GOOD, MALLORY
from ._target import Target, whole

FILES, SOURCES = Attempts("artifact"), Attempts("source")


def _loads_what_was_not_evaluated(target: Target) -> bool:
    """The champion is the new version, and its files are not those of its evidence."""
    return target.holder() == "4" and target.loads() != target.keep["evaluated"]


def _put(target: Target, place: str, content: bytes) -> None:
    """Write one artifact over HTTP."""
    _artifact(target, "PUT", place, content)


def _artifact(target: Target, method: str, place: str, content: bytes = b"") -> None:
    experiment = target.site.root.removeprefix("mlflow-artifacts:/").lstrip("/")
    url = f"{target.site.uri}/api/2.0/mlflow-artifacts/artifacts/{experiment}/{place}"
    answer = requests.request(method, url, data=content, auth=(MALLORY, PASSWORD), timeout=60)
    answer.raise_for_status()


def _tampered(name: str, change: Callable[[Target, str], None], *, quick: bool = False, gated: bool = True) -> None:
    """Two attempts: changed after the evaluation; and after the verdict was written."""

    def act(target: Target, gate: bool) -> None:
        folder, version, _ = target.fresh()
        target.keep["evaluated"] = whole(folder)
        if gate and target.site.guarded:
            assert target.call("caliber/gate", version=version, target="champion").body["status"] == "passed"
        change(target, folder.name)
        target.alias(version)

    judge = _loads_what_was_not_evaluated
    FILES.add(f"{name} after the evaluation", lambda target: act(target, gate=False), judge, quick=quick)
    if gated:
        FILES.add(f"{name} after the verdict", lambda target: act(target, gate=True), judge)


_tampered("weights overwritten", lambda t, place: _put(t, f"{place}/weights.txt", b"others"), quick=True)
_tampered("a file added", lambda t, place: _put(t, f"{place}/code/sitecustomize.py", b"import os"), quick=True)
_tampered("a file deleted", lambda t, place: _artifact(t, "DELETE", f"{place}/weights.txt"))
_tampered("MLmodel edited", lambda t, place: _put(t, f"{place}/MLmodel", b"model_id: m-other\n"))
_tampered("one byte added", lambda t, place: _put(t, f"{place}/extra", b""), gated=False)
_tampered("a file of the same name in capitals", lambda t, p: _put(t, f"{p}/WEIGHTS.TXT", b"x"), gated=False)
_tampered("MLflow's meta file in a folder", lambda t, p: _put(t, f"{p}/x/registered_model_meta", b"x"), gated=False)
_tampered(
    "compiled code added",
    lambda t, place: _put(t, f"{place}/code/__pycache__/model.cpython-311.pyc", b"compiled"),
    gated=False,
)


def _hidden_weights(target: Target) -> None:
    """Weights in a folder that Python uses for itself."""
    folder = target.site.model()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "weights.pkl").write_text("good")
    target.keep["evaluated"] = whole(folder)
    target.site.evaluate(folder)
    version = target.register(target.site.upload(folder))
    _put(target, f"{folder.name}/__pycache__/weights.pkl", b"bad")
    target.alias(version)


FILES.add("weights where Python keeps compiled code", _hidden_weights, _loads_what_was_not_evaluated)


@FILES.of("another model uploaded over it", _loads_what_was_not_evaluated)
def _uploaded_over(target: Target) -> None:
    folder, version, _ = target.fresh()
    target.keep["evaluated"] = whole(folder)
    target.site.upload(target.site.folders[BAD], folder.name)
    target.alias(version)


@FILES.of("changed while it is asked for again and again", _loads_what_was_not_evaluated)
def _changed_back_and_forth(target: Target) -> None:
    folder, version, _ = target.fresh()
    target.keep["evaluated"] = whole(folder)
    for content in (b"others", b"still others"):
        _put(target, f"{folder.name}/weights.txt", content)
        target.alias(version)


@FILES.of("the logged model of the version written again", _loads_what_was_not_evaluated)
def _logged_model(target: Target) -> None:
    folder = target.site.model()
    target.keep["evaluated"] = whole(folder)
    logged = target.client.create_logged_model(target.site.experiment)
    target.client.log_model_artifacts(logged.model_id, str(folder))
    target.site.evaluate(folder)
    version = target.register(f"models:/{logged.model_id}", model_id=logged.model_id)
    (folder / "weights.txt").write_text("others")
    target.client.log_model_artifacts(logged.model_id, str(folder))
    target.alias(version)


@FILES.of("all of them deleted", holds("4"))
def _all_deleted(target: Target) -> None:
    folder, version, _ = target.fresh()
    for name in ("MLmodel", "weights.txt"):
        _artifact(target, "DELETE", f"{folder.name}/{name}")
    target.alias(version)


# --- sources ---------------------------------------------------------------------------------------------------------


@SOURCES.of("a store that nobody knows", holds("4"))
def _unknown_store(target: Target) -> None:
    target.alias(str(target.client.create_model_version(target.name, "carrier-pigeon://loft/model").version))


@SOURCES.of("runs:/, resolved anew by whoever loads it", holds("4"), quick=True)
def _runs(target: Target) -> None:
    place = target.site.sources[GOOD].rpartition("/")[2]
    body = {"source": f"runs:/{target.site.run_id}/{place}", "run_id": target.site.run_id}
    target.alias(target.call("model-versions/create", **body).body["model_version"]["version"])


def _shows_another(target: Target) -> bool:
    """Whoever loads the champion gets files that nobody evaluated as good."""
    return target.holder() == "4" and target.loads() == whole(target.site.folders[BAD])


for _name, _good, _bad in (
    ("blank", "{}%20model", "{} model"),
    ("query", "{}?x", "{}"),
    ("fragment", "{}#x", "{}"),
    ("letter", "{}%61", "{}a"),
):

    @SOURCES.of(f"a path that is read in two ways: {_name}", _shows_another)
    def _two_ways(target: Target, good: str = _good, bad: str = _bad) -> None:
        folder = target.site.folders[BAD]
        place = f"two-{target.name}"
        target.site.upload(folder, bad.format(place))
        target.alias(target.register(f"{target.site.root}/{good.format(place)}"))


@SOURCES.of("a version that was itself a copy of a bad one", lambda t: t.holder() == "4")
def _by_reference(target: Target) -> None:
    made = target.call("model-versions/create", source=f"models:/{target.name}/{BAD}").body
    target.alias(made["model_version"]["version"])


@SOURCES.of("a folder above the model", holds("4"))
def _parent(target: Target) -> None:
    target.alias(target.register(target.site.root))


@SOURCES.of("a folder inside of the model", holds("5"))
def _inside(target: Target) -> None:
    folder, _, _ = target.fresh()
    _put(target, f"{folder.name}/inner/MLmodel", b"model_id: inner\n")
    target.alias(target.register(f"{target.site.root}/{folder.name}/inner"), "champion")

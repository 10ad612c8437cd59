"""The guard's tags: forged, overwritten, taken away, carried over; and signatures used again."""

from __future__ import annotations

from ._attempt import Attempts, Judge
from ._site import BAD, GOOD, UNKNOWN
from ._target import Target

TAGS, REPLAYS = Attempts("tag"), Attempts("replay")
STATUS = "caliber_gate_status"
SIGNED = {
    STATUS: "passed",
    "caliber_decision": '{"status":"passed","version":"1"}',
    "caliber_signature": "v1,test," + "0" * 64,
    "caliber_model_digest": "sha256:" + "0" * 64,
}


def carries(key: str, value: str = "passed", version: str = BAD) -> Judge:
    """A version has a tag."""
    return lambda target: target.tags(version).get(key) == value


def _set(target: Target, key: str, value: str = "passed", version: str = BAD) -> None:
    target.call("model-versions/set-tag", version=version, key=key, value=value)


# --- set, overwritten, taken away ------------------------------------------------------------------------------------

for _key in (STATUS, "caliber_decision", "caliber_signature", "caliber_approved_by", "caliber_model_digest"):
    TAGS.add(f"set {_key}", lambda target, key=_key: _set(target, key), carries(_key), quick=_key == STATUS)
TAGS.add(
    "set on a version by ajax-api",
    lambda t: t.post(
        "/ajax-api/2.0/mlflow/model-versions/set-tag",
        {"name": t.name, "version": "0" + BAD, "key": STATUS, "value": "passed"},
    ),
    carries(STATUS),
)
for _name, _key in {
    "capital": "Caliber_gate_status", "capitals": "CALIBER_GATE_STATUS", "blank before": " caliber_gate_status",
    "blank behind": "caliber_gate_status ", "dot": "caliber.gate_status", "dash": "caliber-gate-status",
    "slash": "caliber/gate_status", "one for l": "ca1iber_gate_status", "I for l": "caIiber_gate_status",
    "one Cyrillic letter": "саliber_gate_status", "Cyrillic wherever there is one": "саlіbеr_gаtе_ѕtаtuѕ",
    "full-width": "ｃaliber_gate_status", "accent": "cáliber_gate_status", "dotless i": "calıber_gate_status",
}.items():  # fmt: skip
    TAGS.add(
        f"look-alike, {_name}",
        lambda target, key=_key: _set(target, key),
        carries(_key),
        quick=_name in ("capital", "blank before"),
    )


@TAGS.of("set on the registered model", lambda target: target.model_tags().get(STATUS) == "passed", quick=True)
def _on_model(target: Target) -> None:
    target.call("registered-models/set-tag", key=STATUS, value="passed")


@TAGS.of("set when the model is made", lambda target: target.model_tags(target.name + "-new").get(STATUS) == "passed")
def _at_create(target: Target) -> None:
    body = {"name": target.name + "-new", "tags": [{"key": STATUS, "value": "passed"}]}
    target.post("/api/2.0/mlflow/registered-models/create", body)


@TAGS.of("set when the version is made", carries(STATUS, version="4"), ignored=True, quick=True)
def _at_create_version(target: Target) -> None:
    tags = [{"key": key, "value": value} for key, value in SIGNED.items()]
    target.call("model-versions/create", source=target.site.sources[BAD], run_id=target.site.run_id, tags=tags)


@TAGS.of("set twice when the version is made", carries(STATUS, version="4"), ignored=True)
def _twice_at_create(target: Target) -> None:
    tags = [{"key": "team", "value": "x"}, {"key": STATUS, "value": "failed"}, {"key": STATUS, "value": "passed"}]
    target.call("model-versions/create", source=target.site.sources[BAD], run_id=target.site.run_id, tags=tags)


def _lay(target: Target) -> None:
    """On a plain server nobody wrote a verdict: write one, so that it can be overwritten."""
    if not target.site.guarded:
        _set(target, STATUS, "passed", GOOD)
    assert target.tags(GOOD)[STATUS] == "passed"


@TAGS.of("overwritten", carries(STATUS, "failed", GOOD), quick=True)
def _overwrite(target: Target) -> None:
    _lay(target)
    _set(target, STATUS, "failed", GOOD)


@TAGS.of("taken away", lambda target: STATUS not in target.tags(GOOD), quick=True)
def _delete(target: Target) -> None:
    _lay(target)
    body = {"name": target.name, "version": GOOD, "key": STATUS}
    target.post("/api/2.0/mlflow/model-versions/delete-tag", body, method="DELETE")


@TAGS.of("carried over by a copy", lambda t: STATUS in t.tags("1", t.name + "-copy"), ignored=True, quick=True)
def _copy(target: Target) -> None:
    _lay(target)
    target.attempt(lambda client: client.copy_model_version(f"models:/{target.name}/{GOOD}", target.name + "-copy"))


@TAGS.of("a failed version copied until it looks passed", carries(STATUS, version="4"), ignored=True)
def _copy_here(target: Target) -> None:
    _lay(target)
    target.attempt(lambda client: client.copy_model_version(f"models:/{target.name}/{GOOD}", target.name))


@TAGS.of("set as an alias is asked for", lambda t: t.holder() == BAD or carries(STATUS)(t))
def _tag_then_alias(target: Target) -> None:
    for key, value in SIGNED.items():
        _set(target, key, value)
    target.alias()


# --- signatures used again -------------------------------------------------------------------------------------------


def _signed(target: Target) -> dict[str, str]:
    """The tags of the version that passed."""
    if not target.site.guarded:
        for key, value in SIGNED.items():
            _set(target, key, value, GOOD)
    found = {key: value for key, value in target.tags(GOOD).items() if key.startswith("caliber_")}
    assert found[STATUS] == "passed"
    return found


def _took_over(version: str, name: str = "") -> Judge:
    return lambda target: STATUS in target.tags(version, target.name + name)


@REPLAYS.of("on another version", lambda t: t.holder() == BAD or _took_over(BAD)(t), quick=True)
def _on_another_version(target: Target) -> None:
    for key, value in _signed(target).items():
        _set(target, key, value)
    target.alias()


@REPLAYS.of("on one never evaluated", lambda t: t.holder() == UNKNOWN or _took_over(UNKNOWN)(t))
def _on_unknown(target: Target) -> None:
    for key, value in _signed(target).items():
        _set(target, key, value, UNKNOWN)
    target.alias(UNKNOWN)


@REPLAYS.of("on another model", lambda t: t.holder(name=t.name + "-b") == "1" or _took_over("1", "-b")(t))
def _on_another_model(target: Target) -> None:
    found, other = _signed(target), target.name + "-b"
    target.client.create_registered_model(other)
    target.register(target.site.sources[BAD], other)
    for key, value in found.items():
        _set_on(target, other, key, value)
    target.call("registered-models/alias", name=other, alias="champion", version="1")


@REPLAYS.of("on a model made anew", lambda t: t.holder() == "1" or _took_over("1")(t), quick=True)
def _on_a_model_made_anew(target: Target) -> None:
    found = _signed(target)
    target.client.delete_registered_model(target.name)
    target.client.create_registered_model(target.name)
    target.register(target.site.sources[BAD])
    for key, value in found.items():
        _set_on(target, target.name, key, value)
    target.alias("1")


@REPLAYS.of("when the version is made", lambda t: t.holder() == "4" or _took_over("4")(t))
def _when_made(target: Target) -> None:
    tags = [{"key": key, "value": value} for key, value in _signed(target).items()]
    target.call("model-versions/create", source=target.site.sources[BAD], run_id=target.site.run_id, tags=tags)
    target.alias("4")


@REPLAYS.of("copied into place", lambda t: t.holder(name=t.name + "-c") == "2")
def _copied(target: Target) -> None:
    other = target.name + "-c"
    for version in (GOOD, BAD):
        source = f"models:/{target.name}/{version}"
        target.attempt(lambda client, source=source: client.copy_model_version(source, other))
    target.call("registered-models/alias", name=other, alias="champion", version="2")


def _set_on(target: Target, name: str, key: str, value: str) -> None:
    body = {"name": name, "version": "1", "key": key, "value": value}
    target.post("/api/2.0/mlflow/model-versions/set-tag", body)

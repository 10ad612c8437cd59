"""Approvals, overrides, freezes and rollbacks by whoever may not, or for what they were not given."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from registry_servers import ADMIN

from ._attempt import Attempts, champion_is_not, holds
from ._site import BAD, ERIN, GOOD, MALLORY, NOOR, OLU, UNKNOWN
from ._target import Target

API, OVERRIDES, FREEZES, ROLLBACKS, APPROVALS = (
    Attempts(kind) for kind in ("guard's own routes", "override", "freeze", "rollback", "approval")
)
PEOPLE, NOBODY, GUARD_ONLY = ("people",), ("guarded",), {"plain": False}


# --- promote and gate ------------------------------------------------------------------------------------------------


def _promote(target: Target, /, version: str = BAD, **more: object) -> None:
    target.call("caliber/promote", **{"version": version, "target": "champion", **more})


API.add("promote the failed one", _promote, holds(BAD), **GUARD_ONLY, quick=True)
API.add("promote the unknown one", lambda t: _promote(t, UNKNOWN), holds(UNKNOWN), **GUARD_ONLY)
API.add(
    "promote on another model's evidence",
    lambda t: _promote(t, evidence_run=t.site.evidence[GOOD]),
    holds(BAD),
    **GUARD_ONLY,
    quick=True,
)
API.add("promote under another policy", lambda t: _promote(t, policy_sha256="0" * 64), holds(BAD), **GUARD_ONLY)
API.add(
    "bring the decision along",
    lambda t: _promote(t, decision={"verdict": "pass"}, status="passed", force=True, approvals=[NOOR, OLU]),
    holds(BAD),
    **GUARD_ONLY,
)
for _place in ("shadow", "previous", "Champion", "champion ", "production"):
    API.add(
        f"promote to {_place!r}",
        lambda t, place=_place: _promote(t, target=place),
        lambda t, place=_place: t.holder(place) == BAD or t.in_stage(BAD),
        **GUARD_ONLY,
    )
for _run in ({"$ne": ""}, ["x"], "../" * 8, "x" * 5000, 7):
    API.add(
        f"promote on the run {str(_run)[:12]}",
        lambda t, run=_run: _promote(t, evidence_run=run),
        holds(BAD),
        **GUARD_ONLY,
    )
for _version in ("02", "２", "2 ", "²", "2.0", ["2"], True, None):
    API.add(
        f"promote version {_version!r}",
        lambda t, version=_version: _promote(t, version),
        holds(BAD),
        **GUARD_ONLY,
    )


@API.of("a form from another site", holds(BAD), **GUARD_ONLY)
def _form(target: Target) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        data = f'{{"name": "{target.name}", "version": "{BAD}", "target": "champion"}}'
        target.post("/api/2.0/caliber/promote", data=data, headers={"Content-Type": kind})


@API.of("evidence that was deleted, named by its run", holds("4"), **GUARD_ONLY)
def _deleted_evidence(target: Target) -> None:
    _, version, run_id = target.fresh()
    target.client.delete_run(run_id)
    _promote(target, version, evidence_run=run_id)


# --- overrides -------------------------------------------------------------------------------------------------------


def _override(target: Target, user: str = MALLORY, version: str = BAD, days: float = 30.0, **more: object) -> None:
    body = {"version": version, "target": "champion", "reason": "because", "days": days, **more}
    target.call("caliber/override", user=user, **body)


@OVERRIDES.of("expired", holds(BAD), quick=True)
def _expired(target: Target) -> None:
    if target.site.guarded:
        _override(target, ADMIN if target.site.kind == "people" else MALLORY, days=1e-6)
        time.sleep(2.0)
    target.alias()


@OVERRIDES.of("for another version", holds(UNKNOWN))
def _other_version(target: Target) -> None:
    if target.site.guarded:
        _override(target, ADMIN if target.site.kind == "people" else MALLORY)
    target.alias(UNKNOWN)


@OVERRIDES.of("for another target", holds(BAD, "signed"))
def _other_target(target: Target) -> None:
    if target.site.guarded:
        _override(target, ADMIN if target.site.kind == "people" else MALLORY)
    target.alias(BAD, "signed")


@OVERRIDES.of("for a model of that name made anew", holds("2"))
def _anew(target: Target) -> None:
    if target.site.guarded:
        _override(target, ADMIN if target.site.kind == "people" else MALLORY)
    target.client.delete_registered_model(target.name)
    target.client.create_registered_model(target.name)
    for version in (GOOD, BAD):
        target.register(target.site.sources[version])
    target.alias("2")


@OVERRIDES.of("for other files", holds("4"))
def _other_files(target: Target) -> None:
    folder, version, _ = target.fresh(good=False)
    if target.site.guarded:
        _override(target, ADMIN if target.site.kind == "people" else MALLORY, version)
    (folder / "weights.txt").write_text("others")
    target.site.upload(folder)
    target.alias(version)


@OVERRIDES.of("by nobody, where the server knows nobody", holds(BAD), on=NOBODY, **GUARD_ONLY, quick=True)
def _by_nobody(target: Target) -> None:
    _override(target)
    target.alias()


def _as_editor(target: Target) -> None:
    """Somebody who may change the model, and not manage it."""
    body = {"username": ERIN, "resource_type": "registered_model", "resource_id": target.name, "permission": "EDIT"}
    answer = target.site.ask("users/permissions/grant", body, user=ADMIN)
    if answer.status_code == 404:
        url = f"{target.site.uri}/api/3.0/mlflow/users/permissions/grant"
        import requests

        from registry_servers import PASSWORD

        answer = requests.post(url, json=body, auth=(ADMIN, PASSWORD), timeout=60)
    answer.raise_for_status()


@OVERRIDES.of("by an editor", holds(BAD), on=PEOPLE, **GUARD_ONLY)
def _by_editor(target: Target) -> None:
    _as_editor(target)
    _override(target, ERIN)
    target.alias(user=ERIN)


@OVERRIDES.of("by a reader", holds(BAD), on=PEOPLE, **GUARD_ONLY)
def _by_reader(target: Target) -> None:
    _override(target, NOOR)
    target.alias()


@OVERRIDES.of("by an editor who says to be the admin", holds(BAD), on=PEOPLE, **GUARD_ONLY)
def _forged(target: Target) -> None:
    _as_editor(target)
    headers = dict.fromkeys(("X-Remote-User", "X-Forwarded-User", "X-Mlflow-User", "X-Auth-Request-User"), ADMIN)
    body = {"name": target.name, "version": BAD, "target": "champion", "reason": "x", "days": 1}
    more = dict.fromkeys(("actor", "user", "username", "user_id"), ADMIN)
    for path in ("/api/2.0/caliber/override", "/ajax-api/2.0/caliber/override", "/api/2.0//caliber/override"):
        target.post(path, body | more, user=ERIN, headers=headers)
    target.alias(user=ERIN)


@OVERRIDES.of("by an editor of this model and manager of another", holds(BAD), on=PEOPLE, **GUARD_ONLY)
def _confused(target: Target) -> None:
    """The permission is asked for one model, and the override written for another."""
    _as_editor(target)
    own = target.name + "-erin"
    target.call("registered-models/create", name=own, user=ERIN)
    body = f'"version": "{BAD}", "target": "champion", "reason": "x", "days": 1'
    for text in (
        f'{{"name": "{own}", "name": "{target.name}", {body}}}',
        f'{{"name": "{target.name}", {body}, "name ": "{own}", "model": "{own}"}}',
        f'{{"name": ["{own}", "{target.name}"], {body}}}',
        f'{{"name": " {target.name}", {body}}}',
    ):
        path = f"/api/2.0/caliber/override?name={own}"
        target.post(path, data=text, user=ERIN, headers={"Content-Type": "application/json"})
    target.alias(user=ERIN)


@OVERRIDES.of("without a password", holds(BAD), on=PEOPLE, **GUARD_ONLY)
def _anonymous(target: Target) -> None:
    import requests

    body = {"name": target.name, "version": BAD, "target": "champion", "reason": "x", "days": 1}
    for auth in (None, (ADMIN, ""), (ADMIN, "wrong")):
        requests.post(f"{target.site.uri}/api/2.0/caliber/override", json=body, auth=auth, timeout=60)
    target.alias()


@OVERRIDES.of("by the author", holds(BAD), on=PEOPLE, **GUARD_ONLY)
def _by_the_author(target: Target) -> None:
    """Whoever made a model manages it on MLflow's server; four eyes are not two."""
    _override(target)
    target.alias()


for _name, _more in {
    "without a reason": {"reason": "  "},
    "for ever": {"days": 1e9},
    "for less than no time": {"days": -1},
    "for infinity": {"days": 1e400},
    "for not a number": {"days": "NaN"},
    "for true": {"days": True},
}.items():

    def _odd(target: Target, more: dict[str, object] = _more) -> None:
        user = ADMIN if target.site.kind == "people" else MALLORY
        body = {"name": target.name, "version": BAD, "target": "champion", "reason": "x", **more}
        import json

        text = json.dumps(body)
        target.post("/api/2.0/caliber/override", data=text, user=user, headers={"Content-Type": "application/json"})
        target.alias()

    OVERRIDES.add(_name, _odd, holds(BAD), **GUARD_ONLY)


# --- freezes ---------------------------------------------------------------------------------------------------------


def _freeze(target: Target, place: str = "champion", **more: object) -> None:
    if target.site.guarded:
        user = ADMIN if target.site.kind == "people" else MALLORY
        answer = target.call("caliber/freeze", target=place, reason="audit week.", user=user, **more)
        assert answer.status == 200, answer


@FREEZES.of("a good version of a frozen model", holds("4"), on=PEOPLE)
def _frozen(target: Target) -> None:
    _freeze(target)
    target.alias(target.fresh()[1])


@FREEZES.of("a good version, every target frozen", holds("4", "signed"), on=PEOPLE)
def _all_frozen(target: Target) -> None:
    _freeze(target, "*")
    target.alias(target.fresh()[1], "signed")


@FREEZES.of("a good version, frozen until next month", holds("4"), on=PEOPLE)
def _frozen_for_now(target: Target) -> None:
    _freeze(target, until=(datetime.now(UTC) + timedelta(days=30)).isoformat())
    target.alias(target.fresh()[1])


@FREEZES.of("the model under another name", lambda t: t.holder(name=t.name + "-thawed") == "4", on=PEOPLE)
def _thawed(target: Target) -> None:
    _freeze(target, "*")
    _, version, _ = target.fresh()
    target.client.delete_registered_model_alias(target.name, "champion")
    body = {"name": target.name, "new_name": target.name + "-thawed"}
    target.post("/api/2.0/mlflow/registered-models/rename", body)
    target.call("registered-models/alias", name=target.name + "-thawed", alias="champion", version=version)


@FREEZES.of("the model deleted and made anew", holds("1"), on=PEOPLE)
def _made_anew(target: Target) -> None:
    _freeze(target, "*")
    target.client.delete_registered_model(target.name)
    target.client.create_registered_model(target.name)
    target.register(target.site.sources[GOOD])
    target.alias("1")


@FREEZES.of("lifted by an editor", holds("4"), on=PEOPLE, **GUARD_ONLY)
def _lifted_by_editor(target: Target) -> None:
    _as_editor(target)
    _freeze(target)
    _, version, _ = target.fresh()
    for path in ("caliber/unfreeze", "caliber/freeze"):
        target.call(path, target="champion", reason="x", until="2000-01-01T00:00:00+00:00", user=ERIN)
    target.alias(version, user=ERIN)


@FREEZES.of("the last holder's freeze overwritten by one that is over", holds("4"), on=PEOPLE, **GUARD_ONLY)
def _frozen_shorter(target: Target) -> None:
    _as_editor(target)
    _freeze(target, "*")
    _, version, _ = target.fresh()
    target.call("caliber/unfreeze", target="champion", user=ERIN)
    target.alias(version, user=ERIN)


# --- rollbacks -------------------------------------------------------------------------------------------------------


@ROLLBACKS.of("to nobody", champion_is_not(GOOD), **GUARD_ONLY, quick=True)
def _to_nobody(target: Target) -> None:
    target.call("caliber/rollback", target="champion")


@ROLLBACKS.of("to a version that was never promoted", champion_is_not(GOOD), **GUARD_ONLY)
def _never_promoted(target: Target) -> None:
    target.call("registered-models/alias", alias="previous", version=BAD)
    target.call("caliber/rollback", target="champion", version=BAD, to=BAD)


@ROLLBACKS.of("to other files than were promoted", lambda t: t.holder() == "4", **GUARD_ONLY)
def _other_files_then(target: Target) -> None:
    folder, version, _ = target.fresh()
    target.alias(version)
    target.alias(GOOD)
    assert target.holder() == GOOD
    (folder / "weights.txt").write_text("others")
    target.site.upload(folder)
    target.call("caliber/rollback", target="champion")


@ROLLBACKS.of("by a reader", champion_is_not("4"), on=PEOPLE, **GUARD_ONLY)
def _by_a_reader(target: Target) -> None:
    target.alias(target.fresh()[1])
    target.call("caliber/rollback", target="champion", user=NOOR)


# --- approvals -------------------------------------------------------------------------------------------------------


def _approve(target: Target, /, user: str, version: str = GOOD, **more: object) -> None:
    target.call("caliber/approve", **{"version": version, "target": "approved", "user": user, **more})


APPROVED = holds(GOOD, "approved")


@APPROVALS.of("none", APPROVED, on=PEOPLE)
def _none(target: Target) -> None:
    target.alias(GOOD, "approved")


@APPROVALS.of("one of two", APPROVED, on=PEOPLE, **GUARD_ONLY)
def _one(target: Target) -> None:
    _approve(target, NOOR)
    target.alias(GOOD, "approved")


@APPROVALS.of("the author's", APPROVED, on=PEOPLE, **GUARD_ONLY)
def _authors(target: Target) -> None:
    _approve(target, NOOR)
    _approve(target, MALLORY)
    target.alias(GOOD, "approved")


@APPROVALS.of("the same person twice", APPROVED, on=PEOPLE, **GUARD_ONLY)
def _twice(target: Target) -> None:
    for _ in range(3):
        _approve(target, NOOR)
    target.alias(GOOD, "approved")


@APPROVALS.of("in somebody else's name", APPROVED, on=PEOPLE, **GUARD_ONLY)
def _in_the_name(target: Target) -> None:
    _approve(target, NOOR)
    body = {"name": target.name, "version": GOOD, "target": "approved", "user": OLU, "actor": OLU}
    headers = dict.fromkeys(("X-Remote-User", "X-Forwarded-User", "X-Forwarded-Preferred-Username"), OLU)
    target.post(f"/api/2.0/caliber/approve?user={OLU}", body, headers=headers)
    target.alias(GOOD, "approved")


@APPROVALS.of("of another version", APPROVED, on=PEOPLE, **GUARD_ONLY)
def _of_another(target: Target) -> None:
    version = target.fresh()[1]
    for user in (NOOR, OLU):
        _approve(target, user, version)
    target.alias(GOOD, "approved")


@APPROVALS.of("of older evidence", holds("4", "approved"), on=PEOPLE, **GUARD_ONLY)
def _of_older_evidence(target: Target) -> None:
    folder, version, _ = target.fresh()
    for user in (NOOR, OLU):
        _approve(target, user, version)
    target.site.evaluate(folder)
    target.alias(version, "approved")


@APPROVALS.of("of other files", holds("4", "approved"), on=PEOPLE, **GUARD_ONLY)
def _of_other_files(target: Target) -> None:
    folder, version, _ = target.fresh()
    for user in (NOOR, OLU):
        _approve(target, user, version)
    (folder / "weights.txt").write_text("others")
    target.site.upload(folder)
    target.alias(version, "approved")


@APPROVALS.of("withdrawn", APPROVED, on=PEOPLE, **GUARD_ONLY)
def _withdrawn(target: Target) -> None:
    for user in (NOOR, OLU):
        _approve(target, user)
    _approve(target, OLU, withdraw=True)
    target.alias(GOOD, "approved")


@APPROVALS.of("for another target", APPROVED, on=PEOPLE, **GUARD_ONLY)
def _for_another_target(target: Target) -> None:
    for user in (NOOR, OLU):
        _approve(target, user, target="champion")
    target.alias(GOOD, "approved")


@APPROVALS.of("of a version that fails", holds(BAD, "approved"), on=PEOPLE, **GUARD_ONLY)
def _of_a_failure(target: Target) -> None:
    for user in (NOOR, OLU):
        _approve(target, user, BAD)
    target.alias(BAD, "approved")


def _ghost_run(target: Target) -> str:
    """A run of the author's that says somebody else made it."""
    run = target.client.create_run(target.site.experiment, tags={"mlflow.user": "ghost"}).info
    target.client.log_artifacts(run.run_id, str(target.site.folders[GOOD]), "model")
    return str(run.run_id)


@APPROVALS.of("the author's, after a rename hid who it was", lambda t: t.holder("approved", t.name + "-new") == "1",
              on=PEOPLE, **GUARD_ONLY)  # fmt: skip
def _laundered(target: Target) -> None:
    run_id = _ghost_run(target)
    first, new = target.name + "-first", target.name + "-new"
    target.client.create_registered_model(first)
    target.register(f"{target.client.get_run(run_id).info.artifact_uri}/model", first, run_id)
    target.client.rename_registered_model(first, new)
    for user in (NOOR, MALLORY):
        _approve(target, user, "1", name=new)
    target.call("registered-models/alias", name=new, alias="approved", version="1")


@APPROVALS.of("the trainer's, where somebody else registered the version", holds("4", "approved"),
              on=PEOPLE, **GUARD_ONLY)  # fmt: skip
def _trainer(target: Target) -> None:
    """Whoever made the model may not approve it, whoever carried it to the registry."""
    _as_editor(target)
    folder = target.site.model()
    target.site.evaluate(folder)
    run = target.client.create_run(target.site.experiment, tags={"mlflow.user": MALLORY}).info
    source = target.site.upload(folder, run_id=run.run_id)
    made = target.call("model-versions/create", source=source, run_id=run.run_id, user=ERIN)
    version = made.body["model_version"]["version"]
    for user in (NOOR, MALLORY):
        _approve(target, user, version)
    target.alias(version, "approved")

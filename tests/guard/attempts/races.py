"""Many at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests

from ._attempt import Attempts, holds
from ._site import BAD, UNKNOWN
from ._target import Target

RACES = Attempts("race")


def _together(*acts: Callable[[], object], times: int = 6) -> None:
    """Each act several times, all of them at once."""
    with ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(_again, act, times) for act in acts]:
            done.result()


def _again(act: Callable[[], object], times: int) -> None:
    for _ in range(times):
        act()


@RACES.of("many bad promoters and a good one", holds(BAD), quick=True)
def _many(target: Target) -> None:
    _, good, _ = target.fresh()
    target.alias(good)
    _together(*[lambda: target.alias(BAD)] * 6)
    assert not target.site.guarded or target.holder() == good


@RACES.of("bad ones beside renewals of the good one", lambda t: t.keep["seen"] - {"1"} != set())
def _beside(target: Target) -> None:
    target.keep["seen"] = set()

    def look() -> None:
        for _ in range(40):
            for row in target.query("select version from registered_model_aliases where name = ?", target.name):
                target.keep["seen"].add(str(row[0]))

    _together(lambda: target.alias("1"), lambda: target.alias(BAD), lambda: target.alias(UNKNOWN), look)


@RACES.of("tagged as a prompt while it is asked for", holds(BAD))
def _prompt(target: Target) -> None:
    key = "mlflow.prompt.is_prompt"

    def flicker() -> None:
        target.call("registered-models/set-tag", key=key, value="true")
        body = {"name": target.name, "key": key}
        requests.delete(f"{target.site.uri}/api/2.0/mlflow/registered-models/delete-tag", json=body, timeout=60)

    _together(flicker, target.alias, target.alias)
    target.alias()


@RACES.of("stage and alias at once", lambda t: t.holder() == BAD or t.in_stage(BAD))
def _both(target: Target) -> None:
    def stage() -> None:
        target.call("model-versions/transition-stage", version=BAD, stage="Production")

    _together(target.alias, stage, target.alias, stage)


@RACES.of("forged tags while a good version is gated", lambda t: t.tags(BAD).get("caliber_gate_status") == "passed")
def _tags(target: Target) -> None:
    def forge() -> None:
        target.call("model-versions/set-tag", version=BAD, key="caliber_gate_status", value="passed")

    _together(forge, lambda: target.alias("1"), forge)

"""A registry with a ledger, evidence and live outcomes: a story of two champions, for tests of what an auditor sees."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from live_streams import Clock, fill
from mlflow_caliber._signing import Keyring
from mlflow_caliber.evidence import identify_model, load_evidence
from mlflow_caliber.gate import GatePolicy, VersionIdentity, decide
from mlflow_caliber.ledger import Ledger, open_ledger
from mlflow_caliber.store import open_store
from registry_world import World, make_policy, make_rows

KEYS_TEXT = "2026:" + "k" * 32
START = datetime(2026, 11, 1, 9, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script>"


@dataclass
class Story:
    """Where everything is, and what happened."""

    world: World
    uri: str
    store_uri: str
    name: str
    policy: GatePolicy
    ledger: Ledger
    identities: dict[str, VersionIdentity]
    now: datetime = START

    def later(self, **passed: float) -> None:
        self.now += timedelta(**passed)

    def write(self, action: str, version: str | None, actor: str, **detail: Any) -> None:
        about = {} if version is None else {"identity": self.identities[version].to_dict()}
        self.ledger.record(
            actor=actor, action=action, model=self.name, version=version, target="champion", detail={**about, **detail}
        )
        self.later(minutes=10)

    def decision(self, version: str, run_id: str, **changed: Any) -> dict[str, Any]:
        """What a gate says, as the ledger keeps it."""
        found = decide(self.policy, load_evidence(run_id, self.world.client), now=self.now).to_dict()
        kept = ("verdict", "policy_sha256", "evidence_sha256", "evidence_run_id", "expires_at")
        rules = [{key: rule[key] for key in ("rule", "verdict", "sentence")} for rule in found["rules"]]
        return {**{key: found[key] for key in kept}, "rules": rules, "approvals": [], **changed}

    def grounds(self, decision: dict[str, Any]) -> dict[str, str]:
        return {key: decision[key] for key in ("policy_sha256", "evidence_sha256")}


def make_story(folder: Path) -> Story:
    """Version 1 is promoted, frozen, and replaced by version 2, which fails the gate and is overridden."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow and its imports warn of themselves while they are imported
        import mlflow
        from mlflow import MlflowClient

    uri = f"sqlite:///{folder}/mlflow.db"
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        client = MlflowClient()
        experiment = client.create_experiment("gate", artifact_location=(folder / "artifacts").as_uri())
        return _told(World(folder, client, experiment), uri, f"sqlite:///{folder}/live.db")
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


def _told(world: World, uri: str, store_uri: str) -> Story:
    folders = [world.model(), world.model()]
    name = world.register(*folders)
    runs = [world.evaluate(folders[0], make_rows()), world.evaluate(folders[1], make_rows(temperature=0.5, seed=1))]
    rules = [{"metric": "caliber_brier", "max": 0.3}, {"metric": "caliber_ece", "max": 0.05}]
    policy = make_policy(*rules, expires_after_days=30)
    identities = {}
    for number, model in enumerate(folders, start=1):
        row = world.client.get_model_version(name, str(number))
        identities[str(number)] = VersionIdentity(
            name=name,
            version=str(number),
            created_at=int(row.creation_timestamp),
            source=str(row.source),
            run_id=None,
            model_digest=identify_model(model).digest,
        )
    ledger = open_ledger(uri, keys=Keyring.parse(KEYS_TEXT), clock=lambda: story.now)
    story = Story(world, uri, store_uri, name, policy, ledger, identities)
    _first_champion(story, runs[0])
    _second_champion(story, runs[1])
    _live(story)
    return story


def _first_champion(story: Story, run_id: str) -> None:
    decision = story.decision("1", run_id)
    story.write("gate", "1", "mia", decision=decision)
    for who in ("ann", "bob", "eve"):
        story.write("approve", "1", who, **story.grounds(decision), comment=f"Looked at it. {HOSTILE}")
    story.write("withdraw", "1", "eve", **story.grounds(decision), comment="I am its author after all.")
    _promote(story, "1", "mia", decision | {"approvals": ["ann", "bob"]}, former=None, override=None)
    story.later(days=3)
    story.write("freeze", None, "ann", reason="The yearly audit.", until=None)
    story.write("refuse", "2", "mia", reason="champion is frozen by ann: The yearly audit.")
    story.later(days=1)
    story.write("unfreeze", None, "ann", reason="The audit is over.", until=None)


def _second_champion(story: Story, run_id: str) -> None:
    decision = story.decision("2", run_id)
    story.write("gate", "2", "mia", decision=decision)
    ends = (story.now + timedelta(days=20)).isoformat()
    said = {"policy_sha256": decision["policy_sha256"], "reason": "Version 1 is down; the risk committee agreed."}
    story.write("override", "2", "ann", **said, expires_at=ends)
    override = {"actor": "ann", "reason": said["reason"], "expires_at": ends}
    _promote(story, "2", "mia", decision, former="1", override=override)


def _promote(story: Story, version: str, actor: str, decision: dict[str, Any], **detail: Any) -> None:
    kept = {"policy": story.policy.to_dict(), "signature_key": "2026"}
    story.write("promote", version, actor, decision=decision, **detail, **kept)
    story.world.client.set_registered_model_alias(story.name, "champion", version)


def _live(story: Story) -> None:
    """Version 2 is overconfident in production too."""
    clock = Clock(story.now.timestamp())
    with open_store(story.store_uri, clock=clock) as store:
        stream = store.stream(story.name, "2", classes=[0, 1])
        fill(stream, clock, 1_000, truth=lambda p: 0.25 + 0.5 * p)

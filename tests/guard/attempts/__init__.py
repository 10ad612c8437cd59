"""Ways around the gate, each shown to work on a plain server before it is tried on a guarded one."""

from __future__ import annotations

from . import artifacts, evidence, identity, names, people, races, tags, wire
from ._attempt import Attempt

ATTEMPTS: tuple[Attempt, ...] = (
    *(*wire.PATHS, *wire.VERBS, *wire.TYPES, *wire.BODIES),
    *(*names.VERSIONS, *names.ALIASES, *names.STAGES),
    *(*tags.TAGS, *tags.REPLAYS),
    *evidence.EVIDENCE,
    *(*artifacts.FILES, *artifacts.SOURCES),
    *(*identity.ANEW, *identity.NAMES, *identity.PROMPTS, *identity.DUELS),
    *(*people.API, *people.OVERRIDES, *people.FREEZES, *people.ROLLBACKS, *people.APPROVALS),
    *races.RACES,
)

__all__ = ["ATTEMPTS", "Attempt"]

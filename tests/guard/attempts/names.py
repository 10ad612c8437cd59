"""Other spellings of versions, aliases and stages."""

from __future__ import annotations

from ._attempt import Attempts, entered, holds
from ._site import BAD, UNKNOWN
from ._target import Target

VERSIONS, ALIASES, STAGES = (Attempts(kind) for kind in ("version spelling", "alias spelling", "stage spelling"))

_SPELLINGS = {
    "leading zero": "02", "leading zeros": "0000000002", "plus": "+2", "blank before": " 2", "blank behind": "2 ",
    "line end": "2\n", "tab": "\t2", "full-width": "２", "Arabic-Indic": "٢", "Devanagari": "२", "mathematical": "𝟐",
    "underscore": "0_2", "no-break space": "\u00a02",
}  # fmt: skip
for _name, _spelled in _SPELLINGS.items():
    VERSIONS.add(
        _name,
        lambda target, spelled=_spelled: target.alias(spelled),
        holds(BAD),
        quick=_name in ("leading zero", "plus", "full-width"),
    )
for _name in ("leading zero", "blank before", "full-width"):
    VERSIONS.add(
        f"stage, {_name}",
        lambda target, spelled=_SPELLINGS[_name]: target.call(
            "model-versions/transition-stage", version=spelled, stage="Production", archive_existing_versions=True
        ),
        entered(BAD),
    )

_LOOK_ALIKES = {
    "capital": "Champion", "capitals": "CHAMPION", "zero for o": "champi0n", "one for i": "champ1on",
    "l for i": "champlon", "one Cyrillic letter": "сhampion", "Cyrillic wherever there is one": "сһаmріоn",
    "Greek letter": "champiοn", "full-width": "ｃｈａｍｐｉｏｎ", "mathematical": "𝐜𝐡𝐚𝐦𝐩𝐢𝐨𝐧", "accent": "chámpion",
    "dotless i": "champıon", "Latin alpha": "chɑmpion", "underscore behind": "champion_",
    "underscore in front": "_champion", "dash behind": "champion-", "line end": "champion\n",
    "r and n for m": "charnpion", "superscript": "champioⁿ",
}  # fmt: skip
for _name, _alias in _LOOK_ALIKES.items():
    ALIASES.add(
        _name,
        lambda target, alias=_alias: target.alias(alias=alias),
        holds(BAD, _alias),
        quick=_name in ("capital", "one Cyrillic letter", "line end", "zero for o"),
    )
for _alias in ("previous", "Previous", "previous_production", "previous_signed"):
    ALIASES.add(
        f"the former holder: {_alias}",
        lambda target, alias=_alias: target.alias(alias=alias),
        holds(BAD, _alias),
        quick=_alias == "previous",
    )
for _alias in ("Signed", "Challenged", "ｓigned"):
    ALIASES.add(f"like another target: {_alias}", lambda t, a=_alias: t.alias(alias=a), holds(BAD, _alias))

for _stage in ("Production", "production", "PRODUCTION", "pRoDuCtIoN"):
    STAGES.add(
        _stage,
        lambda target, stage=_stage: target.call("model-versions/transition-stage", version=BAD, stage=stage),
        entered(BAD),
        quick=_stage in ("Production", "pRoDuCtIoN"),
    )


@STAGES.of("by way of Staging", entered(BAD))
def _staging_first(target: Target) -> None:
    for stage in ("Staging", "Archived", "None", "Production"):
        target.call("model-versions/transition-stage", version=BAD, stage=stage)


@STAGES.of("MLflow's client", entered(UNKNOWN), quick=True)
def _client(target: Target) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MLflow wants aliases instead
        target.attempt(lambda client: client.transition_model_version_stage(target.name, UNKNOWN, "Production"))

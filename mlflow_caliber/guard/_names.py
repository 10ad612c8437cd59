"""Names that a person, or a database, could take for one another."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from mlflow_caliber.gate.registry import previous_alias

__all__ = ["RESERVED_PREFIX", "guarded_aliases", "is_reserved_tag", "taken_for"]

RESERVED_PREFIX = "caliber_"
_SHAPES = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "5": "s", "$": "s"} | dict.fromkeys("-./: ", "_"))
# Letters of other scripts that look like Latin ones in most typefaces.
_TWINS = str.maketrans(
    dict(zip("аӓвгԁеһієјкмнопрсѕтухѡѵԛԝ", "aabrdehlejkmhonpcstyxwvqw", strict=True))
    | dict(zip("αβγεηικνορτυχωϲ", "abyenlkvoptuxwc", strict=True))
)
_FOREIGN = "\N{REPLACEMENT CHARACTER}"


@lru_cache(maxsize=4096)
def skeleton(name: str) -> str:
    """
    What a name looks like: without case, accents, widths, invisible characters and look-alike signs.

    A letter of another script than Latin becomes one wildcard sign: there is no saying what it is taken for.

    Examples
    --------
    >>> skeleton("Champion") == skeleton("ch\N{LATIN SMALL LETTER A WITH DIAERESIS}mpion") == skeleton("champi0n")
    True
    """
    # NFKD parts accents from letters and maps wide and styled letters to plain ones; casefold then settles the case.
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    shown = (sign for sign in plain if unicodedata.category(sign)[0] not in "MCZ" or sign == " ")
    return "".join(_shape(sign.translate(_TWINS)) for sign in shown).replace("rn", "m").strip("_ ")


def _shape(sign: str) -> str:
    if sign.isascii():
        return sign.translate(_SHAPES)
    named = unicodedata.name(sign, "")
    # Dotless i and the like have no decomposition, but they are Latin letters all the same.
    return named.split(" LETTER ")[-1].split()[-1][:1].lower().translate(_SHAPES) if _is_latin(named) else _FOREIGN


def _is_latin(named: str) -> bool:
    return named.startswith("LATIN ") and " LETTER " in named


def looks_like(name: str, other: str) -> bool:
    """
    Whether a name could be read as another one.

    Examples
    --------
    >>> looks_like("\N{CYRILLIC SMALL LETTER ES}hampion", "champion"), looks_like("challenger1", "challenger")
    (True, False)
    """
    mine, theirs = skeleton(name), skeleton(other)
    if len(mine) != len(theirs):
        return False
    foreign = mine.count(_FOREIGN)
    # A word that is mostly in another script is that script's own word.
    return 2 * foreign <= len(mine) and all(a in (b, _FOREIGN) for a, b in zip(mine, theirs, strict=True))


@lru_cache(maxsize=4096)
def taken_for(name: str, guarded: frozenset[str]) -> str | None:
    """The guarded name that this name is not, but could be taken for."""
    return None if name in guarded else next((each for each in sorted(guarded) if looks_like(name, each)), None)


def guarded_aliases(targets: Iterable[str]) -> frozenset[str]:
    """The targets themselves and the aliases that keep their former holders."""
    names = frozenset(targets)
    return names | {previous_alias(name) for name in names}


@lru_cache(maxsize=4096)
def is_reserved_tag(key: str) -> bool:
    """
    Whether a tag's key belongs to the guard, or could be taken for one that does.

    Examples
    --------
    >>> is_reserved_tag("caliber_gate_status"), is_reserved_tag(" Caliber.gate_status"), is_reserved_tag("calibration")
    (True, True, False)
    """
    mine, ours = skeleton(key), skeleton(RESERVED_PREFIX)
    return mine[len(ours) :][:1] in ("", "_", _FOREIGN) and looks_like(mine[: len(ours)], ours)

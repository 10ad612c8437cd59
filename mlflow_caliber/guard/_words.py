"""Times, ages, and what each entry of the ledger says, in words that a risk officer reads.

Names, tags, reasons and comments are what somebody typed: they are cut, and signs that have no shape of their own are
made visible. The templates escape them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mlflow_caliber.ledger import Entry

__all__ = ["age", "day", "in_words", "instant", "moment", "said_more", "shown"]

LONGEST = 200
_UNSEEN = "\N{REPLACEMENT CHARACTER}"
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def shown(value: object, longest: int = LONGEST) -> str:
    r"""
    A text of unknown origin on one line: cut, with a sign for what could not be seen, such as a change of direction.

    Examples
    --------
    >>> shown("churn\u202egnp.exe", 12)
    'churn�gnp.e…'
    """
    text = " ".join(str(value).split())
    plain = "".join(sign if sign.isprintable() else _UNSEEN for sign in text)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def instant(value: Any) -> datetime | None:
    """A time out of ISO 8601 text or of milliseconds since 1970; None if it is neither."""
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value / 1000.0, UTC)
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)


def moment(value: Any) -> str:
    """
    A time as the pages write it.

    Examples
    --------
    >>> moment("2026-11-22T12:00:00.123456+00:00"), moment(None)
    ('2026-11-22 12:00 UTC', '–')
    """
    found = instant(value)
    return "–" if found is None else f"{found:%Y-%m-%d %H:%M} UTC"


def day(value: Any) -> str:
    """The day of a time."""
    found = instant(value)
    return "–" if found is None else f"{found:%Y-%m-%d}"


def age(value: Any, now: datetime) -> str:
    """
    How long ago a time was, or how far off it is.

    Examples
    --------
    >>> now = datetime(2026, 11, 22, tzinfo=UTC)
    >>> age("2026-11-20T00:00:00+00:00", now), age("2026-11-22T05:00:00+00:00", now)
    ('2 days ago', 'in 5 hours')
    """
    found = instant(value)
    if found is None:
        return "–"
    gap = abs(now - found)
    unit, name = next(
        ((u, n) for u, n in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")) if gap >= u), (None, "")
    )
    if unit is None:
        return "just now"
    count = gap // unit
    spelled = f"{count} {name}{'' if count == 1 else 's'}"
    return f"{spelled} ago" if found <= now else f"in {spelled}"


# --- entries ---------------------------------------------------------------------------------------------------------


def in_words(entry: Entry) -> str:
    """
    What an entry says, without who and when. Whatever its detail holds, there is a sentence.

    Examples
    --------
    >>> entry = Entry(seq=1, at="2026-11-22T12:00:00.000000+00:00", actor="mia", action="freeze", model="churn",
    ...               version=None, target="champion", detail={"reason": "audit", "until": None},
    ...               previous_sha256="0" * 64, sha256="", signature=None)
    >>> in_words(entry)
    'froze champion until it is lifted'
    """
    return shown(_SAYS.get(entry.action, _unknown)(entry, entry.detail), 600)


def said_more(entry: Entry) -> tuple[str, ...]:
    """The reason, the comment, or the sentences of the rules that did not pass."""
    typed = [entry.detail.get(key) for key in ("reason", "comment")]
    found = [shown(text, 1000) for text in typed if isinstance(text, str) and text]
    rules = _mapping(entry.detail.get("decision")).get("rules")
    for rule in rules if isinstance(rules, list) else []:
        said = _mapping(rule)
        if said.get("verdict") != "pass" and said.get("sentence"):
            found.append(shown(said["sentence"], 600))
    override = _mapping(entry.detail.get("override"))
    if override.get("reason"):
        found.append(shown(f"Override by {override.get('actor')}: {override['reason']}", 1000))
    return tuple(found[:20])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _place(entry: Entry) -> str:
    return "all targets" if entry.target in (None, "*") else str(entry.target)


def _gate(entry: Entry, detail: Mapping[str, Any]) -> str:
    verdict = _mapping(detail.get("decision")).get("verdict", "unknown")
    return f"held version {entry.version} against the policy for {_place(entry)}: {verdict}"


def _promote(entry: Entry, detail: Mapping[str, Any]) -> str:
    former = detail.get("former")
    if former == entry.version:
        return f"renewed version {entry.version} as {_place(entry)}"
    instead = f", instead of version {former}" if former else ""
    how = " by an override" if _mapping(detail.get("decision")).get("status") == "overridden" else ""
    return f"promoted version {entry.version} to {_place(entry)}{how}{instead}"


def _rollback(entry: Entry, detail: Mapping[str, Any]) -> str:
    return f"rolled {_place(entry)} back to version {entry.version}, from version {detail.get('former')}"


def _expire(entry: Entry, detail: Mapping[str, Any]) -> str:
    taken = f", and took {_place(entry)} away" if detail.get("demoted") else ""
    return f"marked the pass of version {entry.version} as expired{taken}"


def _override(entry: Entry, detail: Mapping[str, Any]) -> str:
    until = moment(detail.get("expires_at"))
    return f"answered for version {entry.version} as {_place(entry)}, whatever the gate says, until {until}"


def _freeze(entry: Entry, detail: Mapping[str, Any]) -> str:
    until = moment(detail.get("until")) if detail.get("until") else "it is lifted"
    return f"froze {_place(entry)} until {until}"


def _delete(_: Entry, detail: Mapping[str, Any]) -> str:
    versions = detail.get("versions")
    listed = ", ".join(map(str, versions)) if isinstance(versions, list) and versions else "all"
    return f"deleted the model with its versions ({listed})"


def _unknown(entry: Entry, _: Mapping[str, Any]) -> str:
    return f"{entry.action} of version {entry.version} as {_place(entry)}"


_SAYS: Mapping[str, Callable[[Entry, Mapping[str, Any]], str]] = {
    "gate": _gate,
    "promote": _promote,
    "rollback": _rollback,
    "remove": lambda entry, _: f"took {_place(entry)} away from version {entry.version}",
    "approve": lambda entry, _: f"approved version {entry.version} as {_place(entry)}",
    "withdraw": lambda entry, _: f"withdrew the approval of version {entry.version} as {_place(entry)}",
    "override": _override,
    "freeze": _freeze,
    "unfreeze": lambda entry, _: f"lifted the freeze of {_place(entry)}",
    "expire": _expire,
    "refuse": lambda entry, _: f"asked for {_place(entry)} on version {entry.version}, and was refused",
    "delete": _delete,
    "rename": lambda _, detail: f"renamed the model to {detail.get('name')}",
}

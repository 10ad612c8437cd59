"""What stands on the pages about all models and about one model.

Lists are made from the registry's rows and the ledger only; nothing is examined for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from mlflow_caliber.gate import Governance, Holding
from mlflow_caliber.gate.registry import TAG_GATE_STATUS
from mlflow_caliber.guard._catalog import Listed
from mlflow_caliber.guard._chronicle import Matters, Pending
from mlflow_caliber.guard._desk import Desk, link
from mlflow_caliber.guard._words import age, day, instant, moment, shown
from mlflow_caliber.ledger import Entry

__all__ = ["Held", "held", "index", "model", "page_number", "pages"]

PER_PAGE = 50
MODELS_PER_PAGE = 200
_LATELY = timedelta(days=7)
_SOON = timedelta(days=7)

Arguments = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Held:
    """A guarded target and who holds it."""

    target: str
    version: str | None
    status: str | None
    since: str = ""
    by: str = ""
    expires: str = ""
    url: str = ""


@dataclass(frozen=True)
class Matter:
    """Something that somebody should look at."""

    kind: str
    sentence: str


# --- all models ------------------------------------------------------------------------------------------------------


def index(desk: Desk, arguments: Arguments) -> dict[str, Any]:
    """All models that the reader may read."""
    wanted = arguments.get("q", "").strip()
    names = desk.readable(desk.catalog.models())
    found = [name for name in names if wanted.casefold() in name.casefold()]
    number = page_number(arguments)
    here = found[number * MODELS_PER_PAGE : (number + 1) * MODELS_PER_PAGE]
    holders, matters, now = desk.catalog.holders(desk.targets()), desk.chronicle.matters(here), desk.now()
    rows = [_row(desk, name, holders.get(name, {}), matters[name], now) for name in here]
    return {
        "rows": rows,
        "wanted": wanted,
        "any": bool(names),
        "found": len(found),
        "open": sum(bool(row["matters"]) for row in rows),
        "turn": pages("", number, len(found), MODELS_PER_PAGE, q=wanted or None),
        "targets": [target for target, _ in desk.targets()],
    }


def _row(desk: Desk, name: str, holders: Mapping[str, str], matters: Matters, now: datetime) -> dict[str, Any]:
    return {
        "name": name,
        "url": link("model", name=name),
        "held": [held(name, target, holders.get(target), matters.governance, now) for target, _ in desk.targets()],
        "matters": list(_open(desk, holders, matters, now)),
    }


def held(name: str, target: str, version: str | None, governance: Governance, now: datetime) -> Held:
    """A target as it stands in the registry, and what the ledger says of that."""
    if version is None:
        return Held(target=target, version=None, status=None)
    url, holding = link("version", name=name, version=version, target=target), governance.holder(target)
    if holding is None or holding.version != version:
        return Held(target=target, version=version, status="unrecorded", url=url)
    expires = moment(holding.expires_at) if holding.expires_at else ""
    return Held(
        target=target,
        version=version,
        status=_status(holding, now),
        since=moment(_first_of(governance, holding).since),
        by=holding.actor,
        expires=expires,
        url=url,
    )


def _first_of(governance: Governance, holding: Holding) -> Holding:
    """The promotion that began an unbroken hold: renewals do not begin it anew."""
    first = holding
    for earlier in reversed(governance.history(holding.target)):
        if earlier.seq < first.seq:
            if earlier.version != holding.version or earlier.until != first.since:
                break
            first = earlier
    return first


def _status(holding: Holding, now: datetime) -> str:
    ends = instant(holding.expires_at)
    if holding.expired or (ends is not None and ends <= now):
        return "expired"
    return "passed" if holding.decision is None or holding.decision.get("verdict") == "pass" else "overridden"


def _open(desk: Desk, holders: Mapping[str, str], matters: Matters, now: datetime) -> Iterator[Matter]:
    yield from _freezes([target for target, _ in desk.targets()], matters.governance, now)
    for target, _ in desk.targets():
        yield from _of_target(target, holders.get(target), matters.governance, now)
    counts = {target: policy.approvals for target, policy in desk.governor.policy.targets.items()}
    for (version, target), pending in matters.pending.items():
        demand = counts.get(target)
        if pending.waits and demand is not None:
            yield _waiting(version, target, len(pending.approved_by), demand.count)
        elif pending.refused is not None and _is_recent(pending.refused, now):
            yield _refused(version, target, pending, pending.refused)


def _freezes(targets: list[str], governance: Governance, now: datetime) -> Iterator[Matter]:
    for frozen in dict.fromkeys(governance.freeze(target, now) for target in targets):
        if frozen is not None:
            what = "Everything" if frozen.target == "*" else frozen.target
            until = moment(frozen.until) if frozen.until else "it is lifted"
            yield Matter("frozen", f"{what} is frozen by {frozen.actor} until {until}: {shown(frozen.reason)}")


def _of_target(target: str, version: str | None, governance: Governance, now: datetime) -> Iterator[Matter]:
    holding = governance.holder(target)
    recorded = None if holding is None else holding.version
    if recorded != version:
        yield Matter(
            "unrecorded",
            f"{target} is {_spelled(version)}, but the audit log says {_spelled(recorded)}: it was set before the guard"
            " was there, or around it.",
        )
    elif holding is not None:
        yield from _ending(target, holding, now)


def _ending(target: str, holding: Holding, now: datetime) -> Iterator[Matter]:
    ends = instant(holding.expires_at)
    if _status(holding, now) == "expired":
        yield Matter("expired", f"The pass of version {holding.version} as {target} expired {age(ends or '', now)}.")
    elif ends is not None and ends - now <= _SOON:
        yield Matter("ending", f"The pass of version {holding.version} as {target} ends {age(ends.isoformat(), now)}.")


def _waiting(version: str, target: str, given: int, count: int) -> Matter:
    if given >= count:
        return Matter(
            "approved", f"Version {version} was approved as {target} ({given} of {count}) and can be promoted."
        )
    return Matter("waiting", f"Version {version} waits for approvals as {target}: {given} of {count}.")


def _refused(version: str, target: str, pending: Pending, entry: Entry) -> Matter:
    reason = shown(entry.detail.get("reason", ""), 160)
    return Matter("refused", f"Version {version} was refused as {target} on {day(entry.at)}: {reason}")


def _is_recent(entry: Entry, now: datetime) -> bool:
    at = instant(entry.at)
    return at is not None and now - at <= _LATELY


def _spelled(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"


# --- one model -------------------------------------------------------------------------------------------------------


def model(desk: Desk, arguments: Arguments) -> dict[str, Any]:
    """One model: who holds what, its versions, and what binds it."""
    name, number, now = arguments.get("name", ""), page_number(arguments), desk.now()
    total = desk.catalog.count(name)
    if not total and name not in desk.catalog.models():
        raise MlflowException(f"There must be a registered model {name!r:.100}, got none.", RESOURCE_DOES_NOT_EXIST)
    entries = desk.governor.ledger.entries(model=name)
    governance, matters = Governance.of(entries), desk.chronicle.matters([name])[name]
    holders = desk.catalog.holders(desk.targets(), name).get(name, {})
    promoted = _promotions(governance)
    listed = desk.catalog.versions(name, offset=number * PER_PAGE, limit=PER_PAGE)
    return {
        "name": name,
        "held": [held(name, target, holders.get(target), governance, now) for target, _ in desk.targets()],
        "matters": list(_open(desk, holders, matters, now)),
        "versions": [_version_row(name, each, promoted.get(each.version)) for each in listed],
        "total": total,
        "turn": pages("model", number, total, PER_PAGE, name=name),
        "history": list(_history(governance)),
        "asked": _asked(governance, arguments.get("on", "")),
        "freezes": [(each, governance.freeze(each.target, now) == each) for each in governance.freezes()],
        "overrides": list(_overrides(entries, now)),
        "may_manage": desk.may("manage"),
    }


def _version_row(name: str, listed: Listed, promoted: Holding | None) -> dict[str, Any]:
    return {
        "version": listed.version,
        "url": link("version", name=name, version=listed.version),
        "created": moment(listed.created_at),
        "places": listed.places,
        "status": listed.tags.get(TAG_GATE_STATUS),
        "promoted": "" if promoted is None else f"{shown(promoted.actor, 60)}, {day(promoted.since)}",
    }


def _promotions(governance: Governance) -> dict[str, Holding]:
    """The last act that gave each version a target."""
    every = (holding for target in governance.targets for holding in governance.history(target))
    return {holding.version: holding for holding in sorted(every, key=lambda each: each.seq)}


def _history(governance: Governance) -> Iterator[dict[str, Any]]:
    for target in governance.targets:
        rows = [_holding(each) for each in reversed(governance.history(target))]
        yield {"target": target, "rows": rows[:PER_PAGE], "left_out": max(0, len(rows) - PER_PAGE)}


def _holding(holding: Holding) -> dict[str, str]:
    decision, override = holding.decision or {}, holding.override or {}
    how = "overridden" if decision.get("status") == "overridden" else holding.action
    return {
        "version": holding.version,
        "since": moment(holding.since),
        "until": moment(holding.until) if holding.until else "now",
        "by": holding.actor,
        "how": {"promote": "promotion", "rollback": "rollback", "overridden": "override"}.get(how, how),
        "why": shown(override.get("reason", "")) if how == "overridden" else "",
        "target": holding.target,
    }


def _asked(governance: Governance, on: str) -> dict[str, Any] | None:
    """Who held each target on a day, in UTC; None if nobody asked."""
    try:
        begins = datetime.strptime(on, "%Y-%m-%d").replace(tzinfo=UTC) if on else None
    except ValueError:
        raise MlflowException.invalid_parameter_value(
            f"The day must be a date such as 2026-11-22, got {on!r:.40}."
        ) from None
    if begins is None:
        return None
    found = [
        _holding(each)
        for target in governance.targets
        for each in governance.history(target)
        if _overlaps(each, begins, begins + timedelta(days=1))
    ]
    return {"on": on, "rows": found}


def _overlaps(holding: Holding, begins: datetime, ends: datetime) -> bool:
    since, until = instant(holding.since), instant(holding.until)
    return since is not None and since < ends and (until is None or until > begins)


def _overrides(entries: tuple[Entry, ...], now: datetime) -> Iterator[dict[str, Any]]:
    for entry in reversed(entries):
        if entry.action == "override":
            ends = instant(entry.detail.get("expires_at"))
            yield {
                "version": entry.version,
                "target": entry.target,
                "by": entry.actor,
                "at": moment(entry.at),
                "until": moment(entry.detail.get("expires_at")),
                "reason": shown(entry.detail.get("reason", ""), 1000),
                "holds": ends is not None and ends > now,
            }


# --- turning pages ---------------------------------------------------------------------------------------------------


def page_number(arguments: Arguments) -> int:
    """The page that is asked for, from 0."""
    text = arguments.get("page", "0")
    if not text.isdecimal() or len(text) > 6:
        raise MlflowException.invalid_parameter_value(f"page must be a whole number, got {text!r:.40}.")
    return int(text)


def pages(page: str, number: int, total: int, per_page: int, /, **values: Any) -> dict[str, Any]:
    """Where one can turn to from here, and where here is."""
    last = max(0, (total - 1) // per_page)
    return {
        "newer": link(page, **values, page=number - 1) if number > 0 else None,
        "older": link(page, **values, page=number + 1) if number < last else None,
        "here": f"{number + 1} of {last + 1}" if last else "",
    }

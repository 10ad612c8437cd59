"""What stands on the page of an audit pack; ``templates/audit.html.j2`` says how it looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlflow_caliber.evidence import Evidence
from mlflow_caliber.exceptions import CaliberError, StateError
from mlflow_caliber.html import render_page
from mlflow_caliber.metrics import METRICS
from mlflow_caliber.plots import figure_svg, report_figures
from mlflow_caliber.report import ReliabilityReport

if TYPE_CHECKING:
    from mlflow_caliber.gate.pack import AuditPack

__all__ = ["render_pack"]

_METRICS = ("ece", "ece_upper", "brier", "log_loss", "roc_auc", "accuracy", "coverage", "selective_risk")
_MOST_ENTRIES = 200
_LONGEST_POLICY = 40_000


def render_pack(pack: AuditPack) -> str:
    """Return the page of a pack."""
    parts = pack.parts
    subject, entries = parts["subject"], parts["ledger"]["entries"]
    report, live = _report(parts["evidence"]), _live_report(parts["live"])
    page = render_page(
        "audit.html.j2",
        title=f"Audit pack: version {subject['version']} of {subject['name']} as {subject['target']}",
        facts=list(_facts(pack)),
        summary=list(_summary(pack, report, live)),
        parts=parts,
        numbers=list(_numbers(report, live)),
        level="" if report is None else f"{report.confidence:.0%}",
        has_live=live is not None,
        figures={} if report is None else _figures(report),
        people=list(_people(parts)),
        policy_text=parts["policy"]["text"][:_LONGEST_POLICY],
        entries=[{**entry, "about": _about(entry)} for entry in entries[-_MOST_ENTRIES:]],
        left_out=max(0, len(entries) - _MOST_ENTRIES),
        digests=pack.sha256,
    )
    return page.encode("utf-8", "replace").decode()  # a lone surrogate could not be written to a file


def _facts(pack: AuditPack) -> Iterator[tuple[str, str]]:
    parts, identity = pack.parts, pack.parts["subject"]["identity"]
    yield "Made", _moment(pack.created_at)
    if identity is not None:
        yield "Model files", f"{identity['model_digest']} ({identity['source']})"
        yield "Training run", identity["run_id"] or "not known"
    for name in ("policy", "evidence"):
        yield name.capitalize(), parts[name]["sha256"] or "none"
    verification = parts["ledger"]["verification"]
    if verification is not None and verification["anchor"]:
        yield "Anchor of the log", verification["anchor"]


# --- in short --------------------------------------------------------------------------------------------------------


def _summary(
    pack: AuditPack, report: ReliabilityReport | None, live: ReliabilityReport | None
) -> Iterator[tuple[str, str]]:
    parts = pack.parts
    yield "What was decided?", _decided(parts)
    yield "On what evidence?", _on_evidence(parts["evidence"])
    yield "Who answered for it?", _answered(parts)
    yield "Does it hold now?", _holds(parts, pack.created_at)
    yield "Can the log be relied on?", _chain(parts["ledger"])
    yield "What has happened since?", _since(parts["live"]) + _live_error(report, live)


def _decided(parts: Mapping[str, Any]) -> str:
    said, subject = parts["decision"], parts["subject"]
    if "decision" not in said:
        return str(said["note"])
    decision = said["decision"]
    passed = sum(rule["verdict"] == "pass" for rule in decision["rules"])
    rules = f"The gate said {decision['verdict']}: {passed} of {len(decision['rules'])} rules passed."
    if said["action"] != "promote":
        return f"{said['note']} {rules}"
    instead = f" instead of version {said['former']}" if said["former"] else ""
    who = f"{said['actor']} made version {subject['version']} {subject['target']}{instead} on {_moment(said['at'])}."
    return f"{who} {rules}"


def _on_evidence(evidence: Mapping[str, Any]) -> str:
    content = evidence["content"]
    if content is None:
        return str(evidence["note"])
    data, when = content["data"], _moment(content["created_at"])
    what = f"{data['n']:,} cases of {data['name'] or 'a data set without a name'}, evaluated {when}"
    same = "It is the very evidence that was decided on." if evidence["matches"] else evidence["note"]
    return f"{what} (run {evidence['run_id']}). {same}"


def _answered(parts: Mapping[str, Any]) -> str:
    counted, said = parts["approvals"]["counted"], parts["decision"]
    approved = f"Approved by {', '.join(counted)}." if counted else "No approval counted."
    used = said.get("override")
    if not used or said["decision"]["verdict"] == "pass":
        return f"{approved} Nothing was overridden."
    return f"{approved} {used['actor']} overrode the gate until {_moment(used['expires_at'])}: {used['reason']}"


def _holds(parts: Mapping[str, Any], made: str) -> str:
    subject = parts["subject"]
    if not subject["holds_now"]:
        now = "nobody" if subject["holder"] is None else f"version {subject['holder']}"
        return f"No: by the ledger, {now} is {subject['target']} now."
    last = subject["holdings"][-1]
    held = f"It is {subject['target']} since {_moment(last['since'])}."
    if last["expires_at"] is None:
        return f"{held} What it rests on has no end."
    over = datetime.fromisoformat(last["expires_at"]) <= datetime.fromisoformat(made)
    return f"{held} What it rests on {'has ended' if over else 'ends'} on {_moment(last['expires_at'])}."


def _chain(ledger: Mapping[str, Any]) -> str:
    found = ledger["verification"]
    if found is None:
        return str(ledger["note"])
    if not found["ok"]:
        return f"No: {' '.join(found['problems'][:5])}"
    signed = (
        f"{found['signed']:,} are signed" if found["keys_given"] else "signatures were not looked at, for want of keys"
    )
    return f"All {found['n']:,} entries of the ledger are in one unbroken chain; {signed}."


def _since(live: Mapping[str, Any]) -> str:
    if "window" not in live:
        return str(live.get("note", ""))
    maturity, window = live["window"]["maturity"], live["window"]
    counts = f"{maturity['predictions']:,} predictions, of which {maturity['labelled']:,} have an outcome"
    note = "" if window["report"] else f" {window['report_note']}"
    return f"Since {_moment(live['since'])}: {counts}.{note}"


def _live_error(report: ReliabilityReport | None, live: ReliabilityReport | None) -> str:
    """The calibration error then and now, as a sentence."""
    now = None if live is None else live.metrics.get("ece")
    if live is None or now is None:
        return ""
    then = None if report is None else report.metrics.get("ece")
    before = "" if then is None else f", {then:.4f} at the gate"
    shipped = "" if live.raw is None else f", {live.raw.metrics['ece']:.4f} as the model was shipped"
    return f" Over {live.n:,} settled outcomes the calibration error (ECE) is {now:.4f} as served{shipped}{before}."


# --- numbers and figures ---------------------------------------------------------------------------------------------


def _report(evidence: Mapping[str, Any]) -> ReliabilityReport | None:
    try:
        return None if evidence["content"] is None else Evidence.from_dict(evidence["content"]).reliability
    except CaliberError:
        return None  # of another format; the JSON has it


def _live_report(live: Mapping[str, Any]) -> ReliabilityReport | None:
    try:
        state = live["window"]["report"]
        return None if state is None else ReliabilityReport.from_dict(state)
    except (KeyError, StateError):
        return None


def _numbers(report: ReliabilityReport | None, live: ReliabilityReport | None) -> Iterator[dict[str, str]]:
    """A row for each metric: at the gate, and live as shipped and as served."""
    shipped = None if live is None else live.raw
    for key in _METRICS:
        cells = [_value(each, key) for each in (report, shipped, live)]
        if any(cells):
            interval = None if report is None else report.intervals.get(key)
            spread = "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"
            names = ("gate", "shipped", "served")
            yield {"label": METRICS[key].label, "interval": spread, **dict(zip(names, cells, strict=True))}


def _value(report: Any, key: str) -> str:
    value = None if report is None else report.metrics.get(key)
    return "" if value is None else f"{value:.4f}"


def _figures(report: ReliabilityReport) -> dict[str, str]:
    drawn = report_figures(report)
    return {name: figure_svg(drawn[name], name) for name in ("reliability", "risk_coverage")}


# --- people and the log ----------------------------------------------------------------------------------------------


def _people(parts: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Approvals, overrides and freezes, in the order of the log."""
    acts = [*parts["approvals"]["words"], *parts["overrides"], *parts["freezes"]]
    for act in sorted(acts, key=lambda act: int(act["seq"])):
        words = act.get("reason") or act.get("comment") or ""
        ends = act.get("expires_at") or act.get("until")
        yield {**act, "words": words, "ends": _moment(ends) if ends else "", "at": _moment(act["at"])}


def _about(entry: Mapping[str, Any]) -> str:
    """An entry's detail in a few words."""
    detail = entry["detail"]
    former = f"instead of version {detail['former']}" if detail.get("former") else ""
    if detail.get("decision"):
        return ", ".join(filter(None, (f"verdict {detail['decision']['verdict']}", former)))
    if "versions" in detail:
        return f"versions {', '.join(map(str, detail['versions'] or ['all']))}"
    if "demoted" in detail:
        return "demoted" if detail["demoted"] else "not demoted"
    if entry["action"] == "rename":
        return f"now {detail.get('name')}"
    return str(detail.get("reason") or detail.get("comment") or former)


def _moment(text: str | None) -> str:
    """A time as people read it; the log has it to the microsecond."""
    return "" if text is None else f"{text[:10]} {text[11:16]} UTC" if text.endswith("+00:00") else text

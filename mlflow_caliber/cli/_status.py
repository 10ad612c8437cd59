"""``status``: how live models are, on a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mlflow_caliber.cli._common import FAILED, PASSED, Command, emit, table
from mlflow_caliber.cli._store import at_time, open_store_at, store_option
from mlflow_caliber.exceptions import ConfigError

if TYPE_CHECKING:
    from mlflow_caliber.live import Observation
    from mlflow_caliber.store import Alarm, Store, Stream

__all__ = ["status"]

_METRICS = ("ece", "brier", "log_loss")


@click.command(cls=Command, example="mlflow-caliber status --store sqlite:///caliber.db --model credit")
@store_option
@click.option("--model", metavar="NAME", help="Only this model.")
@click.option("--version", metavar="VERSION", help="Only this version of it.")
@click.option("--days", type=click.FloatRange(min=0.0, min_open=True), help="The window; by default the monitor's, 7.")
@click.option("--config", metavar="FILE", help="caliber.yaml with a section live [CALIBER_CONFIG, ./caliber.yaml].")
def status(
    *,
    store_uri: str | None,
    model: str | None,
    version: str | None,
    days: float | None,
    config: str | None,
    as_json: bool,
) -> int:
    """
    Show how live models are: what is served, how reliable it is, what was learned, who serves, what is wrong.

    It only reads. With an open critical alarm the exit code is 1.
    """
    with open_store_at(store_uri) as opened:
        from mlflow_caliber.live import MonitorSettings, live_section, observe

        settings = MonitorSettings.from_dict(live_section(config))
        settings = settings if days is None else replace(settings, window_days=days)
        pages, values, critical = [], [], False
        for stream in _streams(opened, model, version):
            alarms, seen = stream.open_alarms(), observe(stream, settings=settings)
            critical |= any(alarm.severity == "critical" for alarm in alarms)
            values.append({**seen.to_dict(), "alarms": [vars(alarm) for alarm in alarms]})
            pages.append("\n".join(_page(seen, alarms)))
    text = "\n\n".join(pages) or "The store holds no stream."
    emit({"streams": values, "critical": critical}, text, as_json=as_json)
    return FAILED if critical else PASSED


def _streams(store: Store, model: str | None, version: str | None) -> list[Stream]:
    every = store.streams()
    found = [stream for stream in every if model in {None, stream.model} and version in {None, stream.version}]
    if every and not found:
        known = ", ".join(f"{stream.model}/{stream.version}" for stream in every[:20])
        asked = " ".join(part for part in (model, version and f"version {version}") if part)
        raise ConfigError(f"The store must hold {asked}, it holds {known}.")
    return found


def _page(seen: Observation, alarms: tuple[Alarm, ...]) -> Iterator[str]:
    yield f"{seen.model}/{seen.version}"
    yield table([(f"  {name}", text) for name, text in _facts(seen)])
    yield from _reliability(seen)
    if seen.replicas:
        yield "  serving processes"
        yield table([(f"    {replica.name}", *_process(replica, seen)) for replica in seen.replicas])
    yield f"  open alarms: {len(alarms) or 'none'}"
    for alarm in alarms:
        yield f"    {alarm.severity.upper()} {alarm.kind} ({alarm.key}), since {at_time(alarm.opened_at)}"
        yield f"      {' '.join(alarm.sentence.split())}"


def _facts(seen: Observation) -> Iterator[tuple[str, str]]:
    counts = seen.counts
    yield "served", _served(seen)
    yield "last prediction", f"{at_time(counts.last_prediction_at)}; {counts.predictions:,} in the log"
    corrections = f"{counts.corrections:,} corrections, {counts.unmatched:,} without a prediction"
    yield "last outcome", f"{at_time(counts.last_outcome_at)}; {counts.outcomes:,} in the log, {corrections}"
    yield "refused rows", f"{counts.refused:,}"
    yield from _learning(seen)
    maturity = seen.window.maturity
    delay = "" if maturity.median_delay is None else f", median delay {_duration(maturity.median_delay)}"
    yield "outcomes in the window", f"{maturity.labelled:,} of {maturity.predictions:,} predictions{delay}"
    ages = [f"{group.labelled / group.n:.0%} from {_duration(group.days * 86_400.0)}" for group in maturity.ages]
    if ages:
        yield "by age", ", ".join(ages)


def _served(seen: Observation) -> str:
    served = seen.served
    pinned = ", pinned" if served.pinned else ""
    if served.number == 0:
        return f"the shipped calibrator{pinned}"
    learned = f"{served.n_learned:,} outcomes, published {at_time(served.published_at)}"
    return f"revision {served.number} ({served.revision}{pinned}), {learned}"


def _learning(seen: Observation) -> Iterator[tuple[str, str]]:
    from mlflow_caliber.live import MANY_UNREAD

    learning = seen.learning
    if learning is None:
        yield "learner", "nobody has learned from this stream"
        return
    lag = f"the oldest for {_duration(learning.lag_seconds)}" if learning.unread else "up to date"
    unread = f"more than {MANY_UNREAD - 1:,}" if learning.unread >= MANY_UNREAD else f"{learning.unread:,}"
    yield "learner", f"{learning.holder or 'nobody'}, at entry {learning.position:,}, {unread} unread, {lag}"
    if learning.trouble:
        yield "learner's state", learning.trouble
        return
    lost = f"{learning.late:,} late, {learning.expired:,} expired, {learning.corrected:,} corrected"
    yield "outcomes learned", f"{learning.learned:,}; {learning.n_waiting:,} predictions wait, {lost}"
    if learning.learned:
        what = "a gain" if learning.excess <= 0 else "a cost"
        each = f"{abs(learning.excess) / learning.learned:.4f} an outcome"
        yield "against the shipped", f"{what} of {abs(learning.excess):.1f} nats, {each}"
    if learning.base is not None and learning.served is not None:
        sides = f"shipped {learning.base.e_value}, served {learning.served.e_value}"
        yield "e-values", f"{sides} (calibrated: below 20)"


def _reliability(seen: Observation) -> Iterator[str]:
    report = seen.window.report
    if report is None:
        yield f"  {seen.window.report_note}"
        return
    shipped = report.raw
    rows: list[tuple[str, ...]] = [(f"  {report.n:,} settled outcomes", "shipped", "", "served", "")]
    for key in _METRICS:
        sides = [("", "") if side is None else _measured(side, key) for side in (shipped, report)]
        rows.append((f"    {key}", *sides[0], *sides[1]))
    yield table(rows)
    if seen.window.diagnosis is None:
        yield f"  {seen.window.diagnosis_note}"
    else:
        yield f"  {seen.window.diagnosis.sentence}"


def _measured(report: Any, key: str) -> tuple[str, str]:
    value, interval = report.metrics.get(key), report.intervals.get(key)
    text = "-" if value is None else f"{value:.4f}"
    return text, "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"


def _process(replica: Any, seen: Observation) -> tuple[str, str, str]:
    seen_ago = f"{_duration(max(0.0, seen.at - replica.seen_at))} ago{' SILENT' if replica.silent else ''}"
    revision = f"{replica.revision}{' BEHIND' if replica.stale else ''}"
    dropped = f"{replica.dropped:,} dropped"
    trouble = " ".join(replica.trouble.split())
    return seen_ago, revision, f"{dropped}; {trouble}" if trouble else dropped


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"

"""A report in a terminal and in a notebook: the headline with its intervals, before and after, the worst segment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING

from mlflow_caliber.metrics import METRICS, Interval
from mlflow_caliber.report._sketch import reliability_svg

if TYPE_CHECKING:
    from mlflow_caliber.report._values import ReliabilityReport

HEADLINE = ("ece", "brier", "log_loss", "roc_auc", "aurc", "accuracy", "coverage", "selective_risk")


def headline(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that a summary shows, in its order."""
    return {key: metrics[key] for key in HEADLINE if key in metrics}


def as_text(report: ReliabilityReport) -> str:
    """A few lines for a terminal."""
    header, *rows = _table(report)
    width = max(len(row[0]) for row in (header, *rows))
    lines = [_title(report), *(_line(row, width) for row in (header, *rows))]
    return "\n".join([*lines, *_notes(report)])


def as_html(report: ReliabilityReport) -> str:
    """A diagram and a small table for a notebook; every text from outside is escaped."""
    header, *rows = _table(report)
    body = "".join(_html_row(row, "td") for row in rows)
    notes = "".join(f"<p>{escape(note)}</p>" for note in _notes(report))
    caption = f"<caption>{escape(_title(report))}</caption>"
    table = f"<table>{caption}<thead>{_html_row(header, 'th')}</thead><tbody>{body}</tbody></table>{notes}"
    look = "display:flex;flex-wrap:wrap;gap:1rem;align-items:center"
    return f'<div style="{look}"><div>{table}</div><div>{reliability_svg(report)}</div></div>'


def _title(report: ReliabilityReport) -> str:
    weighted = ", weighted" if report.weighted else ""
    return f"Reliability of {report.n:,} {report.kind} predictions{weighted}"


def _table(report: ReliabilityReport) -> list[tuple[str, ...]]:
    columns = [report.metrics] if report.raw is None else [report.raw.metrics, report.metrics]
    names = ("value",) if report.raw is None else ("before", "after")
    rows = [
        (METRICS[key].label, *(_number(column.get(key)) for column in columns), _interval(report.intervals.get(key)))
        for key in headline(report.metrics)
    ]
    return [("", *names, f"{report.confidence:.0%} interval"), *rows]


def _notes(report: ReliabilityReport) -> Iterable[str]:
    floor = report.metrics.get("ece_null_p95")
    if floor is not None:
        yield f"A calibrated model of this size would show an ECE up to {floor:.4f} in 19 of 20 samples."
    worst = report.worst_segment("ece")
    if worst is not None:
        yield f"Worst segment by ece: {worst.column} = {worst.value} ({worst.n:,} rows), {worst.metrics['ece']:.4f}"
    if report.not_computed:
        yield f"Not computed: {', '.join(report.not_computed)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"


def _line(row: tuple[str, ...], width: int) -> str:
    *cells, interval = row[1:]
    return (f"  {row[0]:<{width}}" + "".join(f"{cell:>9}" for cell in cells) + f"   {interval}").rstrip()


def _html_row(row: tuple[str, ...], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"

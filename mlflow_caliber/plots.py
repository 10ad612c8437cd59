"""Draws a report: report in, matplotlib Figure out, and nothing else.

Figures are made with matplotlib's object interface: no pyplot, no global settings, nothing registered, so they can be
drawn in a server and dropped. Lines differ in dash and marker and not only in colour; the colours are the Okabe-Ito
set, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from mlflow_caliber.report import HISTOGRAM_BINS, ReliabilityReport

__all__ = ["drift_bars", "figure_svg", "reliability_diagram", "risk_coverage_plot"]

# What each colour is for, under the name of the CSS variable that a page may set in its place.
INK = {
    "after": "#0072b2",
    "before": "#d55e00",
    "reference": "#767676",
    "ink": "#262626",
    "grid": "#dcdcdc",
    "paper": "#ffffff",
}
MAX_DRIFT_BARS = 20
MAX_NAME = 24

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.5,
    "text.usetex": False,
    "text.color": INK["ink"],
    "axes.labelcolor": INK["ink"],
    "axes.edgecolor": INK["ink"],
    "xtick.color": INK["ink"],
    "ytick.color": INK["ink"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK["grid"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
_AFTER = {"color": INK["after"], "marker": "o", "markersize": 5.0, "linewidth": 1.6}
_BEFORE = {"color": INK["before"], "marker": "s", "markersize": 4.5, "linewidth": 1.2, "linestyle": (0, (4, 2))}


def reliability_diagram(report: ReliabilityReport, *, title: str | None = None) -> Figure:
    """Draw stated probability against observed frequency, with the 95 % interval of each bin and where the rows lie.

    Parameters
    ----------
    report : ReliabilityReport
        With ``report.raw`` the curve before calibration is drawn beside the one after it.
    title : str, optional
        Printed above the legend.

    Returns
    -------
    matplotlib.figure.Figure
        4.6 x 5.2 inches; not registered with pyplot, so it needs no closing.

    Examples
    --------
    >>> from mlflow_caliber.report import reliability_report
    >>> figure = reliability_diagram(reliability_report([0, 1, 1, 0], [0.2, 0.7, 0.9, 0.4], n_bins=2))
    >>> figure.axes[0].get_ylabel()
    'Observed frequency'
    """
    binary = report.kind == "binary"
    with mpl.rc_context(_STYLE):
        figure = _figure(4.6, 5.2)
        curves, strip = figure.subplots(2, 1, sharex=True, height_ratios=[4.2, 1.0])
        curves.plot([0, 1], [0, 1], color=INK["reference"], linewidth=1.0, linestyle=":", label="perfectly calibrated")
        if report.raw is not None:
            _curve(curves, report.raw, _BEFORE, "before calibration")
        _curve(curves, report, _AFTER, "model" if report.raw is None else "after calibration", interval=True)
        limits = _where_the_rows_are(report)
        _histogram(strip, report, limits)
        curves.set(xlim=limits, ylim=limits, ylabel="Observed frequency" if binary else "Share correct")
        curves.locator_params(nbins=5)
        strip.set(xlabel="Predicted probability" if binary else "Confidence in the predicted class", ylabel="Cases")
        _finish(figure, curves, title)
    return figure


def risk_coverage_plot(report: ReliabilityReport, *, title: str | None = None) -> Figure:
    """Draw the error rate among the answered cases against the share answered, most confident cases first.

    Parameters
    ----------
    report : ReliabilityReport
        Its policy's operating point is marked; an oracle that withholds exactly the wrong answers and a confidence
        that says nothing give the scale.
    title : str, optional
        Printed above the legend.

    Returns
    -------
    matplotlib.figure.Figure
        4.6 x 4.2 inches; not registered with pyplot, so it needs no closing.

    Examples
    --------
    >>> from mlflow_caliber.report import reliability_report
    >>> figure = risk_coverage_plot(reliability_report([0, 1, 1, 0], [0.2, 0.7, 0.9, 0.6]))
    >>> figure.axes[0].get_xlabel()
    'Coverage (share of cases answered)'
    """
    error_rate = float(report.risk_coverage.risk[-1])
    with mpl.rc_context(_STYLE):
        figure = _figure(4.6, 4.2)
        axes = figure.subplots()
        _risk_references(axes, error_rate)
        if report.raw is not None:
            _risk_curve(axes, report.raw, _BEFORE, "before calibration")
        _risk_curve(axes, report, _AFTER, "model" if report.raw is None else "after calibration")
        _policy_point(axes, report)
        axes.set(xlim=(0, 1.015), ylim=(0, _risk_limit(report, error_rate)))
        once = ", each counted once" if report.weighted else ""
        axes.set(xlabel=f"Coverage (share of cases answered{once})", ylabel="Error rate among answered")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100.0 * share, 6):g}%"))
        _finish(figure, axes, title)
    return figure


def drift_bars(drift: Mapping[str, Any], *, title: str | None = None) -> Figure:
    """Draw how far each column is from the reference, the farthest first, with the threshold of each.

    Parameters
    ----------
    drift : mapping
        ``DriftReport.to_dict()`` of :mod:`mlflow_caliber.drift`. The 20 columns that are farthest are drawn.
    title : str, optional
        Printed above the legend.

    Returns
    -------
    matplotlib.figure.Figure
        As high as the columns need; not registered with pyplot, so it needs no closing.

    Examples
    --------
    >>> column = {"column": "age", "method": "psi", "statistic": 0.3, "threshold": 0.1, "drifted": True}
    >>> drift_bars({"columns": [column]}).axes[0].get_xlabel()
    'Distance from the reference (PSI)'
    """
    columns = sorted(drift["columns"], key=lambda column: -column["statistic"])[:MAX_DRIFT_BARS][::-1]
    with mpl.rc_context(_STYLE):
        figure = _figure(4.6, 1.3 + 0.24 * max(len(columns), 1))
        axes = figure.subplots()
        for drifted, label in ((True, "drifted"), (False, "not drifted")):
            _bars(axes, columns, drifted=drifted, label=label)
        thresholds = [column["threshold"] for column in columns]
        axes.plot(thresholds, range(len(columns)), "|", color=INK["ink"], markersize=11, markeredgewidth=1.6)
        axes.plot([], [], "|", color=INK["ink"], markersize=8, markeredgewidth=1.6, label="threshold")
        axes.set_yticks(range(len(columns)), [_short(column["column"]) for column in columns], parse_math=False)
        axes.set(ylim=(-0.6, max(len(columns), 1) - 0.4), xlabel=f"Distance from the reference ({_methods(columns)})")
        axes.set_xlim(0.0, 1.08 * max([column["statistic"] for column in columns] + thresholds, default=1.0) or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))  # a label such as 0.0025 is wide
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        _finish(figure, axes, title, columns=3)
    return figure


def figure_svg(figure: Figure, name: str) -> str:
    """Return a figure as an ``<svg>`` element to put into a page.

    Texts stay texts, in the page's font, and each colour follows a CSS variable of the page where it sets one
    (``--after``, ``--before``, ``--reference``, ``--ink``, ``--grid``, ``--paper``), so a figure follows a dark theme.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        One of this module's.
    name : str
        Prefix of the element ids, so that two figures of one page do not share any.

    Returns
    -------
    str
        The same text for the same figure: no date, no random ids.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # A name in a script that matplotlib's own font lacks is no fault here: the browser has the font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"(?<=\n) +", "", svg)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"\s*font-family: [^;\"]*;?", "", svg)
    for variable, colour in INK.items():
        svg = svg.replace(colour, f"var(--{variable}, {colour})")
    return svg


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _finish(figure: Figure, axes: Axes, title: str | None, *, columns: int = 2) -> None:
    """The legend above the data, and the title above that."""
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside upper left", ncols=columns, alignment="left")
    if title is not None:
        legend.set_title(_printable(title))
        legend.get_title().set(parse_math=False, fontsize=10.0, fontweight="bold")


def _curve(axes: Axes, report: ReliabilityReport, style: dict[str, Any], label: str, *, interval: bool = False) -> None:
    curve = report.curve
    x, y = curve.mean_predicted, curve.mean_observed
    if interval:
        spread = np.abs(np.stack([curve.interval_low - y, curve.interval_high - y]))
        band = {"color": style["color"], "alpha": 0.15, "linewidth": 0, "label": "95% interval of each bin"}
        axes.fill_between(x, curve.interval_low, curve.interval_high, **band)
        axes.errorbar(x, y, yerr=spread, fmt="none", ecolor=style["color"], elinewidth=1.0, capsize=2.5)
    face = style["color"] if interval else "white"
    axes.plot(x, y, **style, markerfacecolor=face, clip_on=False, label=f"{label} (ECE {report.metrics['ece']:.3f})")


def _where_the_rows_are(report: ReliabilityReport) -> tuple[float, float]:
    """Limits of both axes: whole tenths around every row and interval, so that a rare event is not a speck."""
    curves = [one.curve for one in (report, report.raw) if one is not None]
    low = min(float(min(c.lower_edge.min(), c.mean_observed.min())) for c in curves)
    high = max(float(max(c.upper_edge.max(), c.mean_observed.max())) for c in curves)
    low, high = min(low, float(curves[0].interval_low.min())), max(high, float(curves[0].interval_high.max()))
    return np.floor(10.0 * low) / 10.0, max(np.ceil(10.0 * high), np.floor(10.0 * low) + 1.0) / 10.0


def _histogram(axes: Axes, report: ReliabilityReport, limits: tuple[float, float]) -> None:
    # A bar spans five, two or one of the report's bins, so that about twenty bars fill the axis at any zoom.
    width = limits[1] - limits[0]
    step = 5 if width > 0.45 else 2 if width > 0.25 else 1
    edges = np.linspace(0.0, 1.0, HISTOGRAM_BINS // step + 1)
    axes.stairs(_counts(report, step), edges, fill=True, color=INK["after"], alpha=0.35)
    if report.raw is not None:
        axes.stairs(_counts(report.raw, step), edges, color=INK["before"], linewidth=1.2, linestyle=(0, (4, 2)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True, min_n_ticks=2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.set_ylim(bottom=0)


def _counts(report: ReliabilityReport, step: int) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.reshape(report.histogram, (-1, step)).sum(axis=1)
    return counts


def _risk_references(axes: Axes, error_rate: float) -> None:
    """No ranking at all, and the best one: it answers every right case before the first wrong one."""
    coverage = np.unique(np.append(np.linspace(0.005, 1.0, 200), 1.0 - error_rate))
    best = np.maximum(0.0, 1.0 - (1.0 - error_rate) / np.maximum(coverage, 1e-12))
    axes.axhline(error_rate, color=INK["reference"], linewidth=1.0, linestyle=(0, (1, 2)), label="random order")
    axes.plot(coverage, best, color=INK["reference"], linewidth=1.0, linestyle=(0, (6, 2, 1, 2)), label="oracle")


def _risk_curve(axes: Axes, report: ReliabilityReport, style: dict[str, Any], label: str) -> None:
    curve = report.risk_coverage
    look = {**style, "clip_on": False} if len(curve) == 1 else {**style, "marker": ""}
    axes.plot(curve.coverage, curve.risk, **look, label=label)


def _policy_point(axes: Axes, report: ReliabilityReport) -> None:
    curve = report.risk_coverage
    if report.policy is None or "selective_risk" not in report.metrics:
        return
    coverage, risk = report.metrics["coverage"], report.metrics["selective_risk"]
    label = f"policy: answers {coverage:.0%}, error {risk:.1%}"
    if report.weighted:  # the curve counts rows once, so the point goes where the threshold lies on it
        nearest = int(np.flatnonzero(curve.threshold >= report.policy["threshold"])[-1])
        coverage, risk = float(curve.coverage[nearest]), float(curve.risk[nearest])
    axes.plot(coverage, risk, "D", color=INK["ink"], markersize=7, zorder=5, clip_on=False, label=label)


def _risk_limit(report: ReliabilityReport, error_rate: float) -> float:
    """Top of the axis: the first few cases of a curve swing to 0 or 1 and must not flatten the rest."""
    settled = [
        float(one.risk_coverage.risk[one.risk_coverage.coverage >= 0.05].max())
        for one in (report, report.raw)
        if one is not None
    ]
    return min(1.02, 1.15 * max(error_rate, *settled)) or 0.05


def _bars(axes: Axes, columns: list[Mapping[str, Any]], *, drifted: bool, label: str) -> None:
    rows = [i for i, column in enumerate(columns) if column["drifted"] == drifted]
    if rows:
        colour, hatch = (INK["before"], "///") if drifted else (INK["after"], "")
        values = [columns[i]["statistic"] for i in rows]
        axes.barh(rows, values, 0.62, color=colour, alpha=0.75, hatch=hatch, edgecolor="white", label=label)


def _methods(columns: list[Mapping[str, Any]]) -> str:
    return ", ".join(sorted({str(column["method"]).upper() for column in columns})) or "no column tested"


def _short(name: object) -> str:
    """A name that does not squeeze the plot."""
    text = _printable(name)
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"


def _printable(text: object) -> str:
    """One line without the control characters and surrogates that a font renderer chokes on."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())

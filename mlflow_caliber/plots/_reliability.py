"""Reliability diagrams: of a whole report, and of its segments side by side."""

from __future__ import annotations

import math
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from scipy.special import ndtri

from mlflow_caliber._validation import check_choice, check_count
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import CorpCurve, ReliabilityCurve
from mlflow_caliber.plots._style import AFTER, BEFORE, DASHED, INK, STYLE, finish, new_figure, printable, short
from mlflow_caliber.report import HISTOGRAM_BINS, ReliabilityReport, SegmentReport

PANEL_COLUMNS = 4  # at most


def reliability_diagram(
    report: ReliabilityReport, *, style: Literal["corp", "binned"] = "corp", title: str | None = None
) -> Figure:
    """Draw stated probability against observed frequency, what chance alone would do, and where the rows lie.

    Parameters
    ----------
    report : ReliabilityReport
        With ``report.raw`` the curve before calibration is drawn beside the one after it.
    style : {"corp", "binned"}, default="corp"
        ``corp``: the isotonic curve, which needs no bins, and the band in which a calibrated model's curve would lie.
        ``binned``: a point a bin with the interval of its frequency, and around the diagonal the bar in which a
        calibrated model's point would lie. Reports of format version 1 have no CORP curve and are drawn binned.
    title : str, optional
        Printed above the legend.

    Returns
    -------
    matplotlib.figure.Figure
        4.6 x 5.2 inches; not registered with pyplot, so it needs no closing.

    References
    ----------
    Dimitriadis, Gneiting and Jordan (2021), "Stable reliability diagrams for probabilistic classifiers", PNAS (corp).
    Bröcker and Smith (2007), "Increasing the Reliability of Reliability Diagrams", Weather and Forecasting (the bars).

    Examples
    --------
    >>> from mlflow_caliber.report import reliability_report
    >>> figure = reliability_diagram(reliability_report([0, 1, 1, 0], [0.2, 0.7, 0.9, 0.4], n_bins=2))
    >>> figure.axes[0].get_ylabel()
    'Observed frequency'
    """
    check_choice(style, "style", ("corp", "binned"))
    binary = report.kind == "binary"
    with mpl.rc_context(STYLE):
        figure = new_figure(4.6, 5.2)
        curves, strip = figure.subplots(2, 1, sharex=True, height_ratios=[4.2, 1.0])
        _diagonal(curves)
        if style == "corp" and report.corp is not None:
            _corp(curves, report, report.corp)
        else:
            _binned(curves, report)
        limits = _where_the_rows_are(report)
        _histogram(strip, report, limits)
        curves.set(xlim=limits, ylim=limits, ylabel="Observed frequency" if binary else "Share correct")
        curves.locator_params(nbins=5)
        strip.set(xlabel="Predicted probability" if binary else "Confidence in the predicted class", ylabel="Cases")
        finish(figure, curves, title, columns=1)
    return figure


def segment_diagrams(
    report: ReliabilityReport, *, column: str | None = None, max_panels: int = 12, title: str | None = None
) -> Figure:
    """Draw a small reliability diagram for each segment of one column, all on the same axes.

    Parameters
    ----------
    report : ReliabilityReport
        With segments.
    column : str, optional
        Whose values; default the first column of the report's segments.
    max_panels : int, default=12
        The segments of most rows are drawn, in the report's order.
    title : str, optional
        Printed above the legend.

    Returns
    -------
    matplotlib.figure.Figure
        At most four panels a row; not registered with pyplot, so it needs no closing.

    Raises
    ------
    InvalidInputError
        If the report has no segment of that column with a curve.

    Examples
    --------
    >>> from mlflow_caliber.report import reliability_report
    >>> report = reliability_report([0, 1, 1, 0], [0.2, 0.7, 0.9, 0.4], segments={"site": ["a", "b", "a", "b"]})
    >>> [axes.get_title() for axes in segment_diagrams(report).axes]
    ['a', 'b']
    """
    shown = _shown_segments(report, column, check_count(max_panels, "max_panels"))
    n_rows = math.ceil(len(shown) / PANEL_COLUMNS)
    n_columns = math.ceil(len(shown) / n_rows)
    with mpl.rc_context(STYLE):
        figure = new_figure(0.8 + 1.7 * max(n_columns, 2), 1.3 + 1.75 * n_rows)
        grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
        panels = list(grid.flat)
        for axes, (segment, curve) in zip(panels, shown, strict=False):
            _panel(axes, segment, curve)
        for axes in panels[len(shown) :]:
            axes.remove()
        for axes in panels[len(shown) - n_columns : len(shown)]:
            axes.tick_params(labelbottom=True)  # the lowest of its column, even above an empty place
        figure.supxlabel("Predicted probability" if report.kind == "binary" else "Confidence", fontsize=9.0)
        figure.supylabel("Observed frequency" if report.kind == "binary" else "Share correct", fontsize=9.0)
        finish(figure, panels[0], title)
    return figure


def _shown_segments(
    report: ReliabilityReport, column: str | None, max_panels: int
) -> list[tuple[SegmentReport, ReliabilityCurve]]:
    drawable = [(segment, segment.curve) for segment in report.segments if segment.curve is not None]
    known = list(dict.fromkeys(segment.column for segment, _ in drawable))
    wanted = column if column is not None or not known else known[0]
    found = [pair for pair in drawable if pair[0].column == wanted]
    if not found:
        raise InvalidInputError(
            f"column must be one by which the report is sliced ({', '.join(known) or 'it has none'}), got {column!r}."
        )
    smallest_shown = sorted((segment.n for segment, _ in found), reverse=True)[:max_panels][-1]
    return [pair for pair in found if pair[0].n >= smallest_shown][:max_panels]


def _panel(axes: Axes, segment: SegmentReport, curve: ReliabilityCurve) -> None:
    _diagonal(axes)
    _points(axes, curve, {**AFTER, "markersize": 3.5, "linewidth": 1.2}, "observed, with interval", interval=True)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.locator_params(nbins=3)
    axes.set_title(short(segment.value), fontsize=9.0, parse_math=False, pad=15.0)
    note = f"n = {segment.n:,}, ECE {segment.metrics['ece']:.3f}"
    axes.text(0.5, 1.03, note, transform=axes.transAxes, ha="center", va="bottom", fontsize=7.5)


def _diagonal(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=INK["reference"], linewidth=1.0, linestyle=":", label="perfectly calibrated")


def _corp(axes: Axes, report: ReliabilityReport, corp: CorpCurve) -> None:
    band = f"{report.confidence:.0%} of calibrated models"
    axes.fill_between(
        corp.probability, corp.band_low, corp.band_high, color=INK["reference"], alpha=0.22, linewidth=0, label=band
    )
    if report.raw is not None and report.raw.corp is not None:
        _corp_line(axes, report.raw.corp, BEFORE, _label(report.raw, "before calibration"))
    _corp_line(axes, corp, AFTER, _label(report, _name(report)))


def _corp_line(axes: Axes, corp: CorpCurve, style: dict[str, Any], label: str) -> None:
    line = style if len(corp) == 1 else {**style, "marker": ""}
    axes.plot(corp.probability, corp.recalibrated, **line, clip_on=False, label=label)


def _binned(axes: Axes, report: ReliabilityReport) -> None:
    _consistency_bars(axes, report.curve, report.confidence)
    if report.raw is not None:
        _points(axes, report.raw.curve, BEFORE, _label(report.raw, "before calibration"))
    _points(axes, report.curve, AFTER, _label(report, _name(report)), interval=True)


def _consistency_bars(axes: Axes, curve: ReliabilityCurve, confidence: float) -> None:
    """Where the point of each bin would lie if the bin's mean probability were right."""
    p = curve.mean_predicted
    half = ndtri((1.0 + confidence) / 2.0) * np.sqrt(p * (1.0 - p) / curve.count)
    low, high = np.maximum(p - half, 0.0), np.minimum(p + half, 1.0)
    axes.vlines(p, low, high, color=INK["reference"], alpha=0.3, linewidth=7, label=f"{confidence:.0%} if calibrated")


def _points(axes: Axes, curve: ReliabilityCurve, style: dict[str, Any], label: str, *, interval: bool = False) -> None:
    x, y = curve.mean_predicted, curve.mean_observed
    if interval:
        spread = np.abs(np.stack([curve.interval_low - y, curve.interval_high - y]))
        axes.errorbar(x, y, yerr=spread, fmt="none", ecolor=style["color"], elinewidth=1.0, capsize=2.5)
    face = style["color"] if interval else "white"
    axes.plot(x, y, **style, markerfacecolor=face, clip_on=False, label=label)


def _name(report: ReliabilityReport) -> str:
    return "model" if report.raw is None else "after calibration"


def _label(report: ReliabilityReport, name: str) -> str:
    interval = report.intervals.get("ece")
    spread = "" if interval is None else f", {report.confidence:.0%} interval {interval.low:.3f}–{interval.high:.3f}"
    return printable(f"{name} (ECE {report.metrics['ece']:.3f}{spread})")


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
        axes.stairs(_counts(report.raw, step), edges, color=INK["before"], linewidth=1.2, linestyle=DASHED)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True, min_n_ticks=2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.set_ylim(bottom=0)


def _counts(report: ReliabilityReport, step: int) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.reshape(report.histogram, (-1, step)).sum(axis=1)
    return counts

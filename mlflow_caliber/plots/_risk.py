"""The risk-coverage plot."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from mlflow_caliber.plots._style import AFTER, BEFORE, INK, STYLE, finish, new_figure
from mlflow_caliber.report import ReliabilityReport


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
    with mpl.rc_context(STYLE):
        figure = new_figure(4.6, 4.2)
        axes = figure.subplots()
        _risk_references(axes, error_rate)
        if report.raw is not None:
            _risk_curve(axes, report.raw, BEFORE, "before calibration")
        _risk_curve(axes, report, AFTER, "model" if report.raw is None else "after calibration")
        _policy_point(axes, report)
        axes.set(xlim=(0, 1.015), ylim=(0, _risk_limit(report, error_rate)))
        axes.set(xlabel="Coverage (share of cases answered)", ylabel="Error rate among answered")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100.0 * share, 6):g}%"))
        finish(figure, axes, title)
    return figure


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
    if report.policy is None or "selective_risk" not in report.metrics:
        return
    coverage, risk = report.metrics["coverage"], report.metrics["selective_risk"]
    label = f"policy: answers {coverage:.0%}, error {risk:.1%}"
    axes.plot(coverage, risk, "D", color=INK["ink"], markersize=6, zorder=5, clip_on=False, label=label)
    if "selective_risk" in report.intervals:
        ends, name = report.intervals["selective_risk"], f"{report.confidence:.0%} interval of its error"
        axes.plot([coverage, coverage], ends, color=INK["ink"], linewidth=1.4, zorder=5, clip_on=False, label=name)


def _risk_limit(report: ReliabilityReport, error_rate: float) -> float:
    """Top of the axis: the first few cases of a curve swing to 0 or 1 and must not flatten the rest."""
    settled = [
        float(one.risk_coverage.risk[one.risk_coverage.coverage >= 0.05].max())
        for one in (report, report.raw)
        if one is not None
    ]
    return min(1.02, 1.15 * max(error_rate, *settled)) or 0.05

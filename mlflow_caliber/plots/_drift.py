"""Drift, column by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlflow_caliber.plots._style import INK, STYLE, finish, new_figure, short

MAX_DRIFT_BARS = 20
_METHOD_NAMES = {
    "psi": "PSI",
    "ks": "KS",
    "wasserstein": "Wasserstein",
    "jensen_shannon": "Jensen–Shannon",
    "chi_square": "chi-square",
    "cramers_v": "Cramér's V",
}


def drift_bars(drift: Mapping[str, Any], *, title: str | None = None) -> Figure:
    """Draw how far each column is from the reference, the farthest first, with the threshold of each.

    Where columns were judged by different statistics, which share no scale, bars are multiples of the threshold.

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
    columns = [_drawn(column, _mixed(drift)) for column in farthest_first(drift)[:MAX_DRIFT_BARS][::-1]]
    with mpl.rc_context(STYLE):
        figure = new_figure(4.6, 1.3 + 0.24 * max(len(columns), 1))
        axes = figure.subplots()
        for drifted, label in ((True, "drifted"), (False, "not drifted")):
            _bars(axes, columns, drifted=drifted, label=label)
        thresholds = [column["threshold"] for column in columns]
        axes.plot(thresholds, range(len(columns)), "|", color=INK["ink"], markersize=11, markeredgewidth=1.6)
        axes.plot([], [], "|", color=INK["ink"], markersize=8, markeredgewidth=1.6, label="threshold")
        axes.set_yticks(range(len(columns)), [short(column["column"]) for column in columns], parse_math=False)
        axes.set(ylim=(-0.6, max(len(columns), 1) - 0.4), xlabel=_distance(drift))
        axes.set_xlim(0.0, 1.08 * max([column["statistic"] for column in columns] + thresholds, default=1.0) or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))  # a label such as 0.0025 is wide
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        finish(figure, axes, title, columns=3)
    return figure


def _bars(axes: Axes, columns: list[Mapping[str, Any]], *, drifted: bool, label: str) -> None:
    rows = [i for i, column in enumerate(columns) if column["drifted"] == drifted]
    if rows:
        colour, hatch = (INK["before"], "///") if drifted else (INK["after"], "")
        values = [columns[i]["statistic"] for i in rows]
        axes.barh(rows, values, 0.62, color=colour, alpha=0.75, hatch=hatch, edgecolor="white", label=label)


def farthest_first(drift: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The columns of a drift report in the order in which they are shown, by the distance that is drawn."""
    return sorted(drift["columns"], key=lambda column: -_drawn(column, _mixed(drift))["statistic"])


def _mixed(drift: Mapping[str, Any]) -> bool:
    return len({column["method"] for column in drift["columns"]}) > 1


def _drawn(column: Mapping[str, Any], mixed: bool) -> Mapping[str, Any]:
    if not mixed or column["threshold"] == 0.0:
        return column
    return {**column, "statistic": column["statistic"] / column["threshold"], "threshold": 1.0}


def _distance(drift: Mapping[str, Any]) -> str:
    methods = sorted({_METHOD_NAMES.get(column["method"], column["method"]) for column in drift["columns"]})
    what = "Distance in multiples of the threshold" if _mixed(drift) else "Distance from the reference"
    return f"{what} ({', '.join(methods) or 'no column tested'})"

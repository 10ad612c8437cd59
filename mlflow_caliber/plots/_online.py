"""A backtest, drawn."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlflow_caliber.online import Backtest
from mlflow_caliber.plots._style import AFTER, BEFORE, INK, STYLE, finish, new_figure, short

# Lines are drawn through so many points of a long stream.
_POINTS = 1000
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#262626", "#767676")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


def backtest_plot(result: Backtest, *, title: str | None = None) -> Figure:
    """Draw what a recalibrator lost or gained against the raw scores over time, and how it weighed its experts.

    Parameters
    ----------
    result : Backtest
        Of :func:`mlflow_caliber.online.backtest`.
    title : str, optional
        Printed above the legend.

    Returns
    -------
    matplotlib.figure.Figure
        6.4 x 3.2 inches, or 6.4 x 5.6 with weights; not registered with pyplot, so it needs no closing.

    Examples
    --------
    >>> from mlflow_caliber.online import HedgedRecalibrator, backtest
    >>> figure = backtest_plot(backtest(HedgedRecalibrator(), [0.2, 0.7, 0.9] * 10, [0, 1, 0] * 10))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['Excess log loss, summed (nats)', 'Weight']
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(6.4, 5.6 if result.weights else 3.2)
        panels = figure.subplots(2 if result.weights else 1, 1, sharex=True, squeeze=False)[:, 0]
        _excess(panels[0], result)
        if result.weights:
            _weights(panels[1], result)
        panels[-1].set_xlabel("Forecast")
        figure.align_ylabels()
        finish(figure, panels[0], title, columns=4)
    return figure


def _excess(axes: Axes, result: Backtest) -> None:
    total = result.cumulative_excess
    at = np.unique(np.linspace(0, total.size - 1, _POINTS).astype(int))
    before: dict[str, Any] = {**BEFORE, "marker": ""}
    after: dict[str, Any] = {**AFTER, "marker": ""}
    axes.axhline(0.0, label="raw scores", **before)
    axes.plot(at + 1, total[at], label="served", **after)
    bound = getattr(result.recalibrator, "excess_bound", None)
    if bound is not None:
        axes.axhline(bound, color=INK["reference"], linewidth=1.0, linestyle=(0, (1, 2)), label="never above")
    axes.set_ylabel("Excess log loss, summed (nats)")


def _weights(axes: Axes, result: Backtest) -> None:
    for k, (name, weight) in enumerate(result.weights.items()):
        look: dict[str, Any] = {"color": _PALETTE[k % len(_PALETTE)], "linestyle": _DASHES[k % len(_DASHES)]}
        axes.plot(result.moments, weight, linewidth=1.3, label=short(name), **look)
    axes.set(ylim=(-0.02, 1.02), ylabel="Weight")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.2)

"""Draws a report: report in, matplotlib Figure out, and nothing else.

Figures are made with matplotlib's object interface: no pyplot, no global settings, nothing registered, so they can be
drawn in a server and dropped. Lines differ in dash and marker and not only in colour; the colours are the Okabe-Ito
set, which colour-blind readers can tell apart.
"""

from matplotlib.figure import Figure

from mlflow_caliber.plots._drift import drift_bars, farthest_first
from mlflow_caliber.plots._online import backtest_plot
from mlflow_caliber.plots._reliability import reliability_diagram, segment_diagrams
from mlflow_caliber.plots._report import report_figures
from mlflow_caliber.plots._risk import risk_coverage_plot
from mlflow_caliber.plots._style import figure_svg, save_png

__all__ = [
    "Figure",
    "backtest_plot",
    "drift_bars",
    "farthest_first",
    "figure_svg",
    "reliability_diagram",
    "report_figures",
    "risk_coverage_plot",
    "save_png",
    "segment_diagrams",
]

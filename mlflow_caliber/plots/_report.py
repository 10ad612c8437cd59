"""All figures of a report, drawn once for every place that shows them."""

from __future__ import annotations

from matplotlib.figure import Figure

from mlflow_caliber.plots._reliability import reliability_diagram, segment_diagrams
from mlflow_caliber.plots._risk import risk_coverage_plot
from mlflow_caliber.report import ReliabilityReport

_MAX_PANELS = 8  # for a page that stays small


def report_figures(report: ReliabilityReport) -> dict[str, Figure]:
    """Draw what a report can show.

    Parameters
    ----------
    report : ReliabilityReport
        What was measured.

    Returns
    -------
    dict of str to Figure
        ``reliability``, ``risk_coverage`` and, of a sliced report, ``segments`` (the eight largest of its
        first column).

    Examples
    --------
    >>> from mlflow_caliber.report import reliability_report
    >>> list(report_figures(reliability_report([0, 1, 1, 0], [0.2, 0.7, 0.9, 0.4])))
    ['reliability', 'risk_coverage']
    """
    figures = {"reliability": reliability_diagram(report), "risk_coverage": risk_coverage_plot(report)}
    if any(segment.curve is not None for segment in report.segments):
        figures["segments"] = segment_diagrams(report, max_panels=_MAX_PANELS)
    return figures

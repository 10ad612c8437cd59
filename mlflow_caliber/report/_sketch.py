"""A small reliability diagram as SVG text, for notebooks: it needs no plotting library and follows a dark theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_caliber._validation import FloatArray

if TYPE_CHECKING:
    from mlflow_caliber.report._values import ReliabilityReport

SIZE, MARGIN = 220, 26
_STYLES = {"after": 'stroke="#0072b2" stroke-width="2"', "before": 'stroke="#d55e00" stroke-dasharray="5 3"'}


def reliability_svg(report: ReliabilityReport) -> str:
    """The diagonal, the curve after and before calibration, and the band of chance where the report has one."""
    width = SIZE + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{width}" viewBox="0 0 {width} {width}" '
        'role="img" aria-label="Reliability diagram" font-size="10" fill="none" stroke="none">',
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIZE}" height="{SIZE}" stroke="currentColor" stroke-opacity=".3"/>',
        _band(report),
        f'<path d="M{_point(0.0, 0.0)}L{_point(1.0, 1.0)}" stroke="currentColor" stroke-dasharray="2 3"/>',
        "" if report.raw is None else _line(report.raw, "before"),
        _line(report, "after"),
        *_texts(report, width),
        "</svg>",
    ]
    return "".join(parts)


def _band(report: ReliabilityReport) -> str:
    corp = report.corp
    if corp is None:
        return ""
    there = _path(corp.probability, corp.band_high)
    back = _path(corp.probability[::-1], corp.band_low[::-1])
    return f'<path d="M{there}L{back}Z" fill="currentColor" fill-opacity=".15"/>'


def _line(report: ReliabilityReport, name: str) -> str:
    corp, curve = report.corp, report.curve
    points = (curve.mean_predicted, curve.mean_observed) if corp is None else (corp.probability, corp.recalibrated)
    return f'<path d="M{_path(*points)}" {_STYLES[name]} stroke-linejoin="round" stroke-linecap="round"/>'


def _texts(report: ReliabilityReport, width: int) -> list[str]:
    binary = report.kind == "binary"
    below = "predicted probability" if binary else "confidence"
    beside = "observed frequency" if binary else "share correct"
    look = 'fill="currentColor" text-anchor="middle"'
    middle, low, high = width / 2, MARGIN, MARGIN + SIZE
    return [
        f'<text x="{low}" y="{high + 12}" {look}>0</text><text x="{high}" y="{high + 12}" {look}>1</text>',
        f'<text x="{low - 7}" y="{high + 3}" {look}>0</text><text x="{low - 7}" y="{low + 3}" {look}>1</text>',
        f'<text x="{middle}" y="{width - 8}" {look}>{below}</text>',
        f'<text x="{middle}" y="14" {look} transform="rotate(-90 {middle} {middle})">{beside}</text>',
    ]


def _path(x: FloatArray, y: FloatArray) -> str:
    return "L".join(_point(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True))


def _point(x: float, y: float) -> str:
    return f"{MARGIN + SIZE * x:.1f},{MARGIN + SIZE * (1.0 - y):.1f}"

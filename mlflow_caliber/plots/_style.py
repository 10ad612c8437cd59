"""What all figures share: colours, settings, the place of the legend, and the ways out to PNG and SVG."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# What each colour is for, under the name of the CSS variable that a page may set in its place.
INK = {
    "after": "#0072b2",
    "before": "#d55e00",
    "reference": "#767676",
    "ink": "#262626",
    "grid": "#dcdcdc",
    "paper": "#ffffff",
}
MAX_NAME = 24

STYLE: Any = {
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
_NO_LAYOUT: Any = {"figure.autolayout": False, "figure.constrained_layout.use": False}
DASHED = (0, (4, 2))
AFTER = {"color": INK["after"], "marker": "o", "markersize": 5.0, "linewidth": 1.6}
BEFORE = {"color": INK["before"], "marker": "s", "markersize": 4.5, "linewidth": 1.2, "linestyle": DASHED}


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches which pyplot knows nothing of."""
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def finish(figure: Figure, axes: Axes, title: str | None, *, columns: int = 2) -> None:
    """The legend above the data, and the title above that."""
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside upper left", ncols=columns, alignment="left")
    if title is not None:
        legend.set_title(printable(title))
        legend.get_title().set(parse_math=False, fontsize=10.0, fontweight="bold")


def settle(figure: Figure) -> None:
    """Lay a finished figure out once: every rendering would do it again, to the same end, and draw twice for it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        with warnings.catch_warnings(), mpl.rc_context(_NO_LAYOUT):
            _ignore_missing_glyphs()
            engine.execute(figure)
            figure.set_layout_engine(None)


def save_png(figure: Figure, file: str | Path | BinaryIO) -> None:
    """Write a figure as PNG, 150 dots an inch.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        One of this module's.
    file : path or binary file
        Where to.
    """
    settle(figure)
    with warnings.catch_warnings():
        _ignore_missing_glyphs()
        figure.savefig(file, format="png", dpi=150)


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
    settle(figure)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        _ignore_missing_glyphs()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"(?<=\n) +", "", svg)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"\s*font-family: [^;\"]*;?", "", svg)
    for variable, colour in INK.items():
        svg = svg.replace(colour, f"var(--{variable}, {colour})")
    return svg


def _ignore_missing_glyphs() -> None:
    # A name in a script that matplotlib's own font lacks is no fault: a browser has the font, a PNG shows a box.
    warnings.filterwarnings("ignore", message="Glyph .* missing from")


def short(name: object) -> str:
    """A name that does not squeeze the plot."""
    text = printable(name)
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"


def printable(text: object) -> str:
    """One line without the control characters and surrogates that a font renderer chokes on."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())

"""Figures of a page: one style, drawn by matplotlib, embedded as SVG."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

WIDTH_IN = 7.8  # as wide as the page's column, so that text has the size that is set here
PNG_DPI = 160
BLUE, ORANGE, GREEN, VIOLET, GREY = "#1f5fa8", "#c2570c", "#2a7f3f", "#7a3e9d", "#8a939d"
COLOURS = (BLUE, ORANGE, GREEN, VIOLET, "#b3261e", "#0f7f8c", "#8c6d1f", "#4a4f57")

_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "font.family": "sans-serif",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#57606a",
    "axes.labelcolor": "#1b1f24",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": "#3c444d",
    "ytick.color": "#3c444d",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    # Outlines instead of text: a page looks the same where another font is installed.
    "svg.fonttype": "path",
    # Names of clip paths are random otherwise, and the same run gives another file each time.
    "svg.hashsalt": "longskip",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the page's style; nothing global stays changed."""
    with mpl.rc_context(_STYLE):
        yield


def canvas(
    columns: int, *, height_in: float, rows: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of the page's width and its axes, row by row."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    return figure, list(axes.flat)


def svg_uri(figure: Figure) -> str:
    """Return the figure as a ``data:`` address."""
    text = io.BytesIO()
    FigureCanvasSVG(figure)
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(text.getvalue()).decode("ascii")


def shades(count: int) -> list[Any]:
    """Return ``count`` colours from dark to light, for lines that follow each other in time."""
    return [colormaps["viridis"](0.9 * i / max(count - 1, 1)) for i in range(count)]


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``<name>.png`` and ``<name>.svg``; return both. The same figure gives the same bytes.

    To be called within ``style()``, as an SVG takes its fonts and names when it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    FigureCanvasAgg(figure)
    figure.savefig(png, dpi=PNG_DPI, metadata={"Software": None})
    FigureCanvasSVG(figure)
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg

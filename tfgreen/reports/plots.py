"""Plots of a report as inline SVG: drawn once, readable on a light and on a dark page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

Triple: TypeAlias = tuple[float, float, float]  # a value, and the ends of its interval

INK = "#010203"  # drawn in this color, then replaced: SVG inside a page can follow the page's text color
BAR = "#2a9d8f"
LINES = ("#2a9d8f", "#e76f51", "#8a6fdf", "#c9921b", "#4a90d9", "#d65b9a")
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLES = ("-", "--", "-.", ":")  # lines differ in style as well as in color


def bars(title: str, axis: str, values: Mapping[str, float | None], labels: Mapping[str, str]) -> str:
    """An ``<svg>`` element (no XML header, no reference, no script) with one horizontal bar per name, first on top.

    ``labels`` are written at the bars; a value of None is drawn as the words "not available".
    """
    figure, axes = _axes(1.1 + 0.42 * max(2, len(values)))
    for row, (name, value) in enumerate(values.items()):
        axes.barh(row, value or 0.0, color=BAR, height=0.62)
        text = "not available" if value is None else labels[name]
        axes.text(value or 0.0, row, f" {text}", va="center", ha="left", color=INK, fontsize=9, parse_math=False)
    axes.set_yticks(range(len(values)))
    axes.set_yticklabels([_shorten(name) for name in values], parse_math=False)
    axes.invert_yaxis()
    longest = max((value for value in values.values() if value is not None), default=0.0)
    axes.set_xlim(0, longest * 1.42 or 1.0)  # room for the text at the longest bar
    axes.locator_params(axis="x", nbins=6)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= 1.15 * longest])
    return _svg(figure, axes, title, axis, "")


def lines(
    title: str, x_axis: str, y_axis: str, series: Mapping[str, Sequence[tuple[float, float | None]]],
    bands: Mapping[str, Sequence[Triple]] = MappingProxyType({}), marks: Mapping[str, Triple] = MappingProxyType({}),
) -> str:
    """An ``<svg>`` element, as :func:`bars`, with one line per series of ``(x, y)`` points; a None leaves a gap.

    ``bands`` are the ``(x, low, high)`` round the line of that name; ``marks`` are upright lines at ``(x, low, high)``.
    """
    figure, axes = _axes(3.1)
    for i, (name, points) in enumerate(series.items()):
        x = [point[0] for point in points]
        y = [float("nan") if point[1] is None else point[1] for point in points]
        color, style = LINES[i % len(LINES)], STYLES[i % len(STYLES)]
        marker = "o" if len(points) < 30 else ""
        axes.plot(x, y, style, color=color, linewidth=1.8, marker=marker, markersize=3, label=f"\u200b{name}")
        if name in bands:
            at, low, high = zip(*bands[name])
            axes.fill_between(at, low, high, color=color, alpha=0.2, linewidth=0)
    for name, (middle, start, end) in marks.items():
        axes.axvspan(start, end, color=INK, alpha=0.1, linewidth=0)
        axes.axvline(middle, color=INK, linewidth=1.2, linestyle=":", label=f"\u200b{name}")
    if bands or marks:
        axes.set_ylim(bottom=0)  # quantities with an interval, which are compared by their heights
    axes.locator_params(axis="x", integer=True)
    if len(series) + len(marks) > 1:
        _write_names(axes.legend(frameon=False, labelcolor=INK, fontsize=9))
    return _svg(figure, axes, title, x_axis, y_axis)


def scatter(title: str, x_axis: str, y_axis: str, points: Mapping[str, tuple[Triple, Triple]]) -> str:
    """An ``<svg>`` element, as :func:`bars`, with a point per name: ``(x, low, high)`` and ``(y, low, high)``.

    Intervals are drawn as error bars.
    """
    figure, axes = _axes(3.1 + 0.22 * len(points))
    for i, (name, (x, y)) in enumerate(points.items()):
        color, marker = LINES[i % len(LINES)], MARKERS[i % len(MARKERS)]
        sideways, upright = ([[value - low], [high - value]] for value, low, high in (x, y))
        axes.errorbar(
            x[0], y[0], xerr=sideways, yerr=upright, color=color, marker=marker, linestyle="", markersize=6, capsize=3,
            label=f"\u200b{name}",
        )
    axes.set_xlim(0, 1.08 * max(x[2] for x, _ in points.values()))
    axes.margins(y=0.15)
    _write_names(figure.legend(loc="outside lower left", frameon=False, labelcolor=INK, fontsize=9))
    return _svg(figure, axes, title, x_axis, y_axis)


def _write_names(legend: Legend) -> None:
    """The names as they are: no mathematics; the mark kept Matplotlib from leaving out those that begin with _."""
    for text in legend.get_texts():
        text.set_text(text.get_text().lstrip("\u200b"))
        text.set_parse_math(False)


def _axes(height: float) -> tuple[Figure, Axes]:
    # The object interface: pyplot would keep the figure, and pick a window system.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _svg(figure: Figure, axes: Axes, title: str, x_axis: str, y_axis: str) -> str:
    axes.set_title(title, color=INK, fontsize=11, loc="left", parse_math=False)
    axes.set_xlabel(x_axis, color=INK, fontsize=9, parse_math=False)
    axes.set_ylabel(y_axis, color=INK, fontsize=9, parse_math=False)
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script the font lacks: boxes
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    svg = re.sub(r"<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)  # comments repeat the labels
    return svg.replace(INK, "currentColor").strip()


def _shorten(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}\u2026"

"""Plots of a report as SVG in HTML: small, without a script, in the colours of a light page and a dark one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

Triple: TypeAlias = tuple[float, float, float]  # a value, and the ends of its interval
Points: TypeAlias = Sequence[tuple[float, float | None]]

COLORS = ("#2a9d8f", "#e76f51", "#8a6fdf", "#c9921b", "#4a90d9", "#d65b9a")
DASHES = ("", "6 3", "6 3 1.5 3", "1.5 3")  # lines differ in style as well as in colour
MARKERS: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>',
    lambda x, y: f'<path d="M{x - 4:.1f} {y - 4:.1f}h8v8h-8z"/>',
    lambda x, y: f'<path d="M{x:.1f} {y - 5.2:.1f}l5.2 9.2h-10.4z"/>',
    lambda x, y: f'<path d="M{x:.1f} {y - 5.6:.1f}l5.6 5.6l-5.6 5.6l-5.6 -5.6z"/>',
    lambda x, y: f'<path d="M{x:.1f} {y + 5.2:.1f}l5.2 -9.2h-10.4z"/>',
)
WIDTH, HEIGHT, TOP, BOTTOM, RIGHT = 360, 232, 26, 40, 14
CHARACTER = 6.4  # widest digit at the size of the labels


class Axis(NamedTuple):
    """Ticks, and the ends of what is drawn."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where a value lies between the ends, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], *, zero: bool = False, most: float = math.inf, whole: bool = False) -> Axis:
    """An axis round values: from ``zero`` on if they are lengths to compare, no further than ``most``.

    Example:
        >>> axis([12, 87], zero=True).ticks
        (0.0, 20.0, 40.0, 60.0, 80.0)
    """
    low, high = min(values), max(values)
    pad = 0.06 * (high - low or abs(high) or 1.0)
    low, high = (min(0.0, low), high + pad) if zero else (low - pad, high + pad)
    high = min(high, max(most, max(values)))
    rough = (high - low) / 5.5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(s for s in (1, 2, 2.5, 5, 10) if s * power >= 0.999 * rough)
    step = max(1.0, math.ceil(step)) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, tuple(float(f"{i * step:.12g}") for i in range(first, last + 1)))


def lines(
    title: str, x_label: str, y_label: str, series: Mapping[str, Points],
    bands: Mapping[str, Sequence[Triple]] = MappingProxyType({}), marks: Mapping[str, Triple] = MappingProxyType({}),
) -> str:
    """A ``<figure>`` with one line per series of ``(x, y)`` points; a None leaves a gap.

    ``bands`` are the ``(x, low, high)`` round the line of that name; ``marks`` are upright lines at ``(x, low, high)``.
    """
    flat = [point for points in series.values() for point in points]
    ends = [end for band in bands.values() for _, *both in band for end in both]
    ys = [y for _, y in flat if y is not None] + ends
    xs = [x for x, _ in flat]
    if not ys:
        return _figure(title, "", "", x_label, y_label)
    across = axis([*xs, *(mark[0] for mark in marks.values())], whole=all(float(x).is_integer() for x in xs))
    if len(set(xs)) > 1:  # lines fill the width
        across = Axis(min(xs), max(xs), tuple(tick for tick in across.ticks if min(xs) <= tick <= max(xs)))
    up = axis(ys, zero=bool(bands or marks))  # quantities with an interval are compared by their heights
    frame = _Frame(across, up)
    parts = [frame.grid()]
    for name, (middle, start, end) in marks.items():
        left, right = (min(max(frame.x(x), frame.left), WIDTH - RIGHT) for x in (start, end))
        parts.append(f'<path class="mark" d="M{left:.1f} {TOP}H{right:.1f}V{HEIGHT - BOTTOM}H{left:.1f}z"/>')
        parts.append(f'<path class="rule" d="M{frame.x(middle):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for place, (name, points) in enumerate(series.items()):
        color = COLORS[place % len(COLORS)]
        if name in bands:
            upper = [(x, high) for x, _, high in bands[name]]
            lower = [(x, low) for x, low, _ in reversed(bands[name])]
            parts.append(f'<path fill="{color}" fill-opacity=".18" d="{frame.path([*upper, *lower])}z"/>')
        dash = DASHES[place % len(DASHES)]
        for piece in _pieces(points):
            style = f'fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}" stroke-linejoin="round"'
            parts.append(f'<path {style} d="{frame.path(piece)}"/>')
            if len(piece) == 1:
                ((at, value),) = piece
                parts.append(f'<circle fill="{color}" cx="{frame.x(at):.1f}" cy="{frame.y(value):.1f}" r="3"/>')
    swatches = [(name, _line(place)) for place, name in enumerate(series)]
    swatches += [(name, '<path class="rule" d="M1 6H21"/>') for name in marks]
    return _figure(title, "".join(parts), _legend(swatches) if len(swatches) > 1 else "", x_label, y_label)


def scatter(
    title: str, x_label: str, y_label: str, points: Mapping[str, tuple[Triple, Triple]], most: float = math.inf,
    is_high_better: bool = True, ring: str = "",
) -> str:
    """A ``<figure>`` with a mark per name at ``(x, low, high)`` and ``(y, low, high)``; intervals are whiskers.

    The x axis begins at 0, since lengths are compared; the y axis is as long as the intervals, up to ``most``. Of more
    than two, a line joins those that no other beats in both; the one called ``ring`` stands out.
    """
    across = axis([x[2] for x, _ in points.values()], zero=True)
    frame = _Frame(across, axis([end for _, y in points.values() for end in y], most=most))
    parts = [frame.grid()]
    front = _front([(x[0], y[0]) for x, y in points.values()], is_high_better)
    if len(points) > 2 and len(front) > 1:
        steps = [(x, y) for (_, before), (x, y) in zip([front[0], *front], front) for y in (before, y)]
        parts.append(f'<path class="rule" stroke-opacity=".45" d="{frame.path(steps)}"/>')
    for place, (name, (x, y)) in enumerate(points.items()):
        left, low = frame.x(x[0]), frame.y(y[0])
        (begin, end), (bottom, top) = map(frame.x, x[1:]), map(frame.y, y[1:])
        whiskers = f"M{begin:.1f} {low:.1f}H{end:.1f}M{left:.1f} {bottom:.1f}V{top:.1f}"
        color = COLORS[place % len(COLORS)]
        parts.append(f'<path stroke="{color}" stroke-width="1.5" stroke-opacity=".55" d="{whiskers}"/>')
        if name == ring:
            parts.append(f'<circle class="axis" fill="none" cx="{left:.1f}" cy="{low:.1f}" r="9"/>')
        parts.append(f'<g fill="{color}" class="point">{_marker(place)(left, low)}</g>')
    return _figure(title, "".join(parts), "", x_label, y_label)


def _front(points: Sequence[tuple[float, float]], is_high_better: bool) -> list[tuple[float, float]]:
    """The points that no other beats: from the smallest x on, each with a better y than all before."""
    front = list[tuple[float, float]]()
    for x, y in sorted(points, key=lambda point: (point[0], -point[1] if is_high_better else point[1])):
        if not front or (y > front[-1][1] if is_high_better else y < front[-1][1]):
            front.append((x, y))
    return front


def point_legend(names: Sequence[str]) -> str:
    """The marks of :func:`scatter` with their names, once for several plots."""
    fill = (f'<g fill="{COLORS[place % len(COLORS)]}">{_marker(place)(11, 6)}</g>' for place in range(len(names)))
    return _legend(list(zip(names, fill)))


class _Frame:
    """Where values lie on the page."""

    def __init__(self, across: Axis, up: Axis) -> None:
        self.across, self.up = across, up
        self.labels = _tick_labels(up.ticks)
        self.left = 10 + CHARACTER * max(map(len, self.labels), default=1)

    def x(self, value: float) -> float:
        return self.left + self.across.place(value) * (WIDTH - RIGHT - self.left)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.up.place(value) * (HEIGHT - BOTTOM - TOP)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)

    def grid(self) -> str:
        parts = []
        for value, label in zip(self.up.ticks, self.labels):
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{self.left:.1f} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{self.left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        for value, label in zip(self.across.ticks, _tick_labels(self.across.ticks)):
            x = self.x(value)
            parts.append(f'<path class="axis" d="M{x:.1f} {HEIGHT - BOTTOM}v4"/>')
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label}</text>')
        parts.append(f'<path class="axis" d="M{self.left:.1f} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
        return "".join(parts)


def _tick_labels(ticks: Sequence[float]) -> list[str]:
    """As many decimals as tell the ticks apart."""
    for digits in range(7):
        texts = [f"{tick:,.{digits}f}" for tick in ticks]
        read = [float(text.replace(",", "")) for text in texts]
        if all(math.isclose(*pair, rel_tol=1e-6, abs_tol=1e-12) for pair in zip(read, ticks)):
            return texts
    return [f"{tick:.3g}" for tick in ticks]


def _pieces(points: Points) -> Iterator[list[tuple[float, float]]]:
    piece: list[tuple[float, float]] = []
    for x, y in [*points, (0.0, None)]:
        if y is not None:
            piece.append((x, y))
        elif piece:
            yield piece
            piece = []


def _marker(place: int) -> Callable[[float, float], str]:
    return MARKERS[place % len(MARKERS)]


def _line(place: int) -> str:
    color, dash = COLORS[place % len(COLORS)], DASHES[place % len(DASHES)]
    return f'<path stroke="{color}" stroke-width="2" stroke-dasharray="{dash}" d="M1 6H21"/>'


def _legend(swatches: Sequence[tuple[str, str]]) -> str:
    svg = '<svg width="22" height="12" fill="currentColor" aria-hidden="true">'
    parts = (f"<span>{svg}{mark}</svg>{escape(name)}</span> " for name, mark in swatches)
    return f'<p class="legend">{"".join(parts)}</p>'


_RULES = (
    "<style>.plot>svg{max-width:30rem}.plot .grid{stroke:currentColor;stroke-opacity:.14}"
    ".plot .axis{stroke:currentColor;stroke-opacity:.5}.plot .mark{fill-opacity:.1}"
    ".plot .rule{stroke:currentColor;stroke-dasharray:2 3;fill:none}"
    ".plot text{font:11px system-ui,sans-serif;fill-opacity:.8}</style>"
)


def _figure(title: str, inside: str, legend: str, x_label: str, y_label: str) -> str:
    label = f"{title}: {y_label} over {x_label}"
    words = f'<text x="2" y="12">{escape(y_label)}</text>'
    words += f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>'
    if not inside:
        words += f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no values</text>'
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" fill="currentColor" role="img" aria-label="{escape(label)}">'
    caption = f"<figcaption>{escape(title)}</figcaption>"
    return f'<figure class="plot">{caption}{drawing}{_RULES}{inside}{words}</svg>{legend}</figure>'

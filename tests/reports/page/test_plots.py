"""Plots: lines and points stand where their values are, in the page's own colour."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from tfgreen.reports.page import plots


def well_formed(html):
    xml.etree.ElementTree.fromstring(html)
    return html


def paths(html, color, attribute="stroke"):
    """The points of each path in a colour."""
    found = re.findall(rf'<path[^>]*{attribute}="{color}"[^>]*d="(M[^"]*)"', html)
    return [[tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", path)] for path in found]


def test_lines_leave_gaps_and_stand_where_their_values_are():
    series = {"a <b> $c$": [(1, 1.0), (2, 3.0), (3, None), (4, 4.0)], "_d": [(1, 2.0), (4, 2.0)]}
    html = well_formed(plots.lines("t & u", "epoch", "loss <x>", series))
    ((x1, y1), (x2, y2)), ((x3, y3), (x4, y4)) = (paths(html, color)[0] for color in plots.COLORS[:2])
    assert x2 - x1 == pytest.approx((x4 - x3) / 3, abs=0.2) and x1 == x3
    assert y1 - y3 == pytest.approx((y1 - y2) / 2, abs=0.2) and y3 == y4  # SVG counts downwards
    assert '<circle fill="#2a9d8f"' in html  # the point alone after the gap
    assert 'stroke-dasharray="6 3"' in html and "a &lt;b&gt; $c$" in html and "currentColor" in html
    assert "a &lt;b&gt;" not in plots.lines("t", "x", "y", {"a <b>": [(0, 1), (1, 2)]})  # one line needs no legend


def test_intervals_are_drawn_from_zero():
    html = well_formed(
        plots.lines("t", "x", "y", {"a": [(0, 5.0), (10, 10.0)]}, {"a": [(0, 4, 6), (10, 8, 12)]}, {"even": (5, 4, 20)})
    )
    (band,) = paths(html, plots.COLORS[0], "fill")
    (line,) = paths(html, plots.COLORS[0])[:1]
    bottom = plots.HEIGHT - plots.BOTTOM
    assert (bottom - line[0][1]) * 2 == pytest.approx(bottom - line[1][1], abs=0.3)
    assert (bottom - band[0][1]) / (bottom - band[-1][1]) == pytest.approx(6 / 4, abs=0.02)
    assert 'class="rule"' in html and f"H{plots.WIDTH - plots.RIGHT:.1f}V" in html  # the mark ends with the plot


def test_points_have_whiskers_and_lengths_begin_at_zero():
    points = {"a": ((10, 10, 10), (99.2, 98, 99.7)), "b": ((20, 18, 22), (99.4, 98, 99.9))}
    html = well_formed(plots.scatter("size", "kB", "accuracy (%)", points, most=100))
    whiskers = r'stroke="{}"[^>]*d="M[\d.]+ [\d.]+H[\d.]+M([\d.]+)'
    ten, twenty = (float(re.search(whiskers.format(color), html)[1]) for color in plots.COLORS[:2])
    left = float(re.search(r'class="grid" d="M([\d.]+)', html)[1])
    assert twenty - left == pytest.approx(2 * (ten - left), abs=0.3)
    ticks = [float(tick) for tick in re.findall(r'text-anchor="end">([\d.]+)</text>', html)]
    assert min(ticks) >= 97.5 and max(ticks) <= 100 and len(ticks) > 2
    assert 'class="rule"' not in html
    assert plots.point_legend(["a", "<b>"]).count("<svg") == 2 and "&lt;b&gt;" in plots.point_legend(["<b>"])


@pytest.mark.parametrize(
    ("values", "options", "ticks"),
    [
        ([99.17, 99.44], {}, (99.2, 99.3, 99.4)),
        ([0.02, 0.008], {"zero": True}, (0.0, 0.005, 0.01, 0.015, 0.02)),
        ([1, 12], {"whole": True}, (3.0, 6.0, 9.0, 12.0)),
        ([5, 5], {}, (4.8, 5.0, 5.2)),
        ([0, 0], {"zero": True}, (0.0, 0.02, 0.04, 0.06)),
    ],
)
def test_axes_have_round_ticks(values, options, ticks):
    found = plots.axis(values, **options)
    assert found.ticks == ticks
    assert found.low <= min(values) and found.high >= max(values) and found.low < found.high


def test_nothing_to_draw_says_so():
    for series in ({}, {"a": []}, {"a": [(1, None)]}):
        assert "no values" in well_formed(plots.lines("t", "x", "y", series))
    assert "<circle" in well_formed(plots.lines("t", "x", "y", {"a": [(3, 7.0)]}))


def test_it_imports_nothing_heavy():
    code = (
        "import sys\nfrom tfgreen.reports.page import plots\n"
        "plots.lines('Loss', 'epoch', 'loss', {'training': [(1, 2.0), (2, None), (3, 1.0)], 'v': [(1, 2.0)]})\n"
        "if {'matplotlib', 'tensorflow', 'keras'} & set(sys.modules): raise SystemExit('heavy import')\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_front_joins_what_no_other_beats():
    exact = {name: ((x, x, x), (y, y, y)) for name, x, y in [("a", 9, 5), ("b", 1, 2), ("c", 4, 1), ("d", 4, 4)]}
    html = well_formed(plots.scatter("size", "kB", "accuracy", exact, ring="d"))
    assert html.count('class="rule"') == 1 and html.count('r="9"') == 1
    points = [(x[0], y[0]) for x, y in exact.values()]
    assert plots._front(points, True) == [(1, 2), (4, 4), (9, 5)]  # of errors, the smallest is the best
    assert plots._front(points, False) == [(1, 2), (4, 1)]

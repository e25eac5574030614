"""Plots: bars and lines stand where their values are, in the page's own color."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from tfgreen.reports import plots


def test_bars_are_as_long_as_their_values_and_follow_the_page_color():
    svg = plots.bars("Size", "size (kB)", {"a": 200.0, "b": 100.0, "c": None}, {"a": "200 kB", "b": "100 kB"})
    assert "currentColor" in svg and plots.INK not in svg and "<!--" not in svg
    bars = re.findall(r'<path d="M ([\d.]+) [\d.]+ \nL ([\d.]+) [^"]*"[^>]*style="fill: #2a9d8f', svg)
    lengths = [float(right) - float(left) for left, right in bars]
    assert lengths[0] == pytest.approx(2 * lengths[1], rel=1e-3) and lengths[2] == 0


def test_lines_leave_gaps_and_do_not_touch_pyplot():
    code = (
        "import sys\nfrom tfgreen.reports import plots\n"
        "svg = plots.lines('Loss', 'epoch', 'loss', {'training': [(1, 2.0), (2, None), (3, 1.0)], 'v': [(1, 2.0)]})\n"
        "if 'matplotlib.pyplot' in sys.modules or 'tensorflow' in sys.modules: raise SystemExit('heavy import')\n"
        "if svg.count('<svg') != 1: raise SystemExit(svg[:200])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_points_stand_where_their_values_are_and_names_are_written_as_they_are():
    series = {"a <b> $c$": [(1, 1.0), (2, 3.0), (3, None), (4, 4.0)], "_d": [(1, 2.0)]}
    svg = plots.lines("t", "epoch", "loss <x>", series)
    xml.etree.ElementTree.fromstring(svg)
    color = plots.LINES[0]
    dots = re.findall(rf'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: {color}', svg)
    x, y = ([float(dot[i]) for dot in dots[:3]] for i in (0, 1))
    assert [x[1] - x[0], x[2] - x[0]] == pytest.approx([(x[2] - x[0]) / 3, x[2] - x[0]], rel=1e-3)
    assert (y[0] - y[1]) / (y[0] - y[2]) == pytest.approx(2 / 3, rel=1e-3)  # SVG counts downwards
    assert svg.count("stroke-dasharray") >= 1  # the second line differs in style as well


def paths(svg, style):
    """The points of each path of this style, in the coordinates of the SVG."""
    found = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none; {style}', svg)
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)] for path in found]


def test_a_band_and_a_mark_stand_where_their_numbers_are():
    bands, marks = {"a": [(0, 0.0, 0.0), (10, 8.0, 12.0)]}, {"here": (5, 4, 6)}
    svg = plots.lines("t", "x", "y", {"a": [(0, 0.0), (10, 10.0)]}, bands, marks)
    xml.etree.ElementTree.fromstring(svg)
    (x0, y0), (x1, y1) = paths(svg, "stroke: #2a9d8f")[0]
    (mark, _), (same, _) = paths(svg, "stroke-dasharray")[0]
    assert mark == same == pytest.approx((x0 + x1) / 2, abs=0.1)
    outline = re.search(r'FillBetween.*? d="([^"]*)"', svg, re.DOTALL)[1]
    area = [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", outline)]
    xs, ys = zip(*area)
    ends = sorted({y for x, y in area if x == max(xs)})
    assert (ends[-1] - ends[0]) / (y0 - y1) == pytest.approx(0.4, abs=0.01)
    assert max(xs) - min(xs) == pytest.approx(x1 - x0, abs=0.1)


def test_points_have_error_bars_of_their_intervals():
    points = {"_a $x$": ((2.0, 1.0, 3.0), (80.0, 80.0, 80.0)), "b <c>": ((4.0, 4.0, 4.0), (90.0, 85.0, 95.0))}
    svg = plots.scatter("Energy", "energy (mJ)", "accuracy (%)", points)
    xml.etree.ElementTree.fromstring(svg)
    sideways, (only_x, _) = paths(svg, "stroke: #2a9d8f")[:2]
    (right, _), upright = paths(svg, "stroke: #e76f51")[:2]
    unit = sideways[1][0] - sideways[0][0]  # of two millijoules
    assert right[0] - only_x[0] == pytest.approx(unit, rel=1e-3) and sideways[0][1] == sideways[1][1]
    assert upright[0][0] == upright[1][0] and upright[0][1] - upright[1][1] > 10

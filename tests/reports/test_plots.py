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

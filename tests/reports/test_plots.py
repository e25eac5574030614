"""The comparison of runs: each run is drawn in its place, the mean as a bar, the reference as a line."""

from __future__ import annotations

import re
import xml.etree.ElementTree

import pytest

from tfgreen.reports.plots import INK, LINES, comparison

RUNS = {"student alone": [74.0, 75.0, 77.0], "student <distilled> $x$": [79.0]}


def dots(svg: str, color: str) -> list[float]:
    return [float(x) for x in re.findall(rf'<use [^>]*x="([\d.]+)"[^>]*style="fill: {color}', svg)]


def test_runs_means_and_reference_stand_where_their_values_are():
    svg = comparison("CIFAR-10", "test accuracy, %", RUNS, reference=("teacher", 83.75))
    xml.etree.ElementTree.fromstring(svg)
    assert INK not in svg
    alone, distilled = dots(svg, LINES[0]), dots(svg, LINES[1])
    assert len(alone) == 3 and len(distilled) == 1
    unit = alone[1] - alone[0]
    assert unit > 0
    assert [alone[2] - alone[0], distilled[0] - alone[0]] == pytest.approx([3 * unit, 5 * unit], rel=1e-3)
    strokes = re.findall(r'd="M ([\d.]+) [\d.]+ \nL ([\d.]+) [\d.]+ \n" clip', svg)
    upright = [float(x) for x, again in strokes if x == again]
    for value in (75.3333, 79.0, 83.75):  # two means and the teacher
        assert any(x == pytest.approx(alone[0] + (value - 74.0) * unit, abs=0.05) for x in upright), value


def test_without_a_reference_there_is_no_dashed_line():
    assert "stroke-dasharray" not in comparison("t", "a", RUNS)
    assert "stroke-dasharray" in comparison("t", "a", RUNS, reference=("teacher", 80.0))

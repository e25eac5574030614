"""The report: strict JSON that comes back, files written whole, and shown in a terminal and a notebook."""

from __future__ import annotations

import json
import math

import pytest

from tests.reports.examples import full, partial, whole_report
from tfgreen.energy.carbon.break_even import break_even
from tfgreen.errors import FileError
from tfgreen.reports.report import RunReport
from tfgreen.reports.variant import EnergyPerInference


@pytest.fixture()
def report():
    return whole_report()


def test_json_has_the_agreed_format_is_strict_and_round_trips(report, tmp_path):
    path, html, markdown = report.save(tmp_path / "new" / "out")
    data = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"not strict JSON: {word}"))
    assert list(data) == [
        "format", "tfgreen", "title", "verdict", "metric", "chosen", "variants", "limits", "steps", "skipped", "layers",
        "curves", "break_even", "environment", "command", "seed",
    ]  # fmt: skip
    assert data["format"] == 1 and data["verdict"]["holds"] is False and data["limits"][0]["holds"] is True
    keys = {"name", "metric", "size_bytes", "gzip_bytes", "nonzero_bytes", "sparsity", "memory_bytes", "latency_ms"}
    keys |= {"energy", "co2e_kg", "verified", "intervals"}
    first, second = data["variants"]
    assert set(first) == set(second) == keys | {"sources", "reasons"}
    assert first["latency_ms"] == {"median": 3.21, "p90": 3.9}
    assert first["energy"] == {"joules_per_inference": 0.0132, "source": "estimated"}
    assert second["latency_ms"] == {"median": None, "p90": None}  # the path stays, the figure is null
    assert second["energy"] == {"joules_per_inference": None, "source": "unavailable"}
    assert second["reasons"]["energy"] and second["verified"] is False
    assert data["curves"][0]["series"]["training"] == [[1, 2.0], [2, None], [3, 1.0]]
    assert RunReport.load(tmp_path / "new" / "out") == RunReport.load(path) == report
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "report.json", "report.md"]
    assert html.read_text() == report.to_html() and markdown.read_text() == report.to_markdown()


def test_bad_reports_are_refused(tmp_path):
    with pytest.raises(ValueError, match="different names"):
        RunReport(variants=[full(), full()])
    with pytest.raises(ValueError, match="one or more"):
        RunReport(variants=[])
    with pytest.raises(ValueError, match="'name'"):
        RunReport(variants=[full()], steps=[{"seconds": 1}])
    with pytest.raises(TypeError, match="plain values"):
        RunReport(variants=[full()], steps=[{"name": "prune", "model": object()}])
    with pytest.raises(ValueError, match="chosen"):
        RunReport(variants=[full()], chosen="int8")
    with pytest.raises(ValueError, match="'float32', metric: expected a share"):
        RunReport(variants=[full(metric=83.8)])
    good = whole_report().to_dict()
    less = {key: value for key, value in good.items() if key != "limits"}
    wrong = [less, {**good, "format": 99}, {**good, "variants": [{}]}, {**good, "curves": 3}, {**good, "metric": None}]
    for content in ("{", "[]", "{}", *map(json.dumps, wrong)):
        (tmp_path / "report.json").write_text(content)
        with pytest.raises(OSError, match="not a report.json"):
            RunReport.load(tmp_path)
    with pytest.raises(OSError, match="missing"):
        RunReport.load(tmp_path / "missing")
    with pytest.raises(OSError, match="cannot be written"):
        RunReport(variants=[full()]).save(tmp_path / "report.json" / "below")


def test_it_is_shown_in_a_terminal_and_in_a_notebook(report, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert "3.24\u00d7 smaller" in repr(report) and max(map(len, repr(report).splitlines())) <= 100
    shown = RunReport(variants=[full("<u>"), partial()])._repr_html_()
    assert "<table " in shown and "&lt;u&gt;" in shown and "no benchmark was asked for" in shown
    assert "<u>" not in shown


def test_a_break_even_that_never_comes_is_read_back(tmp_path):
    before, after = (EnergyPerInference(x, "measured", (0.8 * x, 1.2 * x)) for x in (1.0, 0.9))
    report = whole_report(break_even=break_even(before, after, cost=10))
    path, _, _ = report.save(tmp_path)
    assert json.loads(path.read_text())["break_even"]["inferences_interval"][1] is None
    assert RunReport.load(path) == report and report.break_even.inferences_interval[1] == math.inf


def test_the_verdict_is_about_the_chosen_variant():
    report = whole_report(chosen="float32", limits=[])
    assert report.chosen_variant.name == "float32" and report.verdict.sentence.startswith("float32: accuracy 83.80 %")


def test_a_run_that_is_not_finished_is_called_so(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileError, match="the run is not finished.*it goes on"):
        RunReport.load(tmp_path)

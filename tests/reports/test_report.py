"""The report: strict JSON that comes back, files written whole, and shown in a terminal and a notebook."""

from __future__ import annotations

import json

import pytest

from tests.reports.examples import full, partial, whole_report
from tfgreen.reports.report import RunReport


@pytest.fixture()
def report():
    return whole_report()


def test_json_has_the_agreed_format_is_strict_and_round_trips(report, tmp_path):
    path, _ = report.save(tmp_path / "new" / "out")
    data = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"not strict JSON: {word}"))
    assert {"tfgreen", "variants", "environment", "steps"} <= set(data)
    keys = {"name", "accuracy", "size_bytes", "gzip_bytes", "sparsity", "latency_ms", "energy", "co2e_kg", "verified"}
    keys |= {"nonzero_bytes"}
    first, second = data["variants"]
    assert set(first) == set(second) == keys | {"sources", "reasons"}
    assert first["latency_ms"] == {"median": 3.21, "p90": 3.9}
    assert first["energy"] == {"joules_per_inference": 0.0132, "source": "estimated"}
    assert second["latency_ms"] == {"median": None, "p90": None}  # the path stays, the figure is null
    assert second["energy"] == {"joules_per_inference": None, "source": "unavailable"}
    assert second["reasons"]["energy"] and second["verified"] is False
    assert data["curves"][0]["series"]["training"] == [[1, 2.0], [2, None], [3, 1.0]]
    assert RunReport.load(tmp_path / "new" / "out") == RunReport.load(path) == report
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "report.json"]


def test_bad_reports_are_refused(tmp_path):
    with pytest.raises(ValueError, match="different names"):
        RunReport(variants=[full(), full()])
    with pytest.raises(ValueError, match="one or more"):
        RunReport(variants=[])
    with pytest.raises(ValueError, match="'name'"):
        RunReport(variants=[full()], steps=[{"seconds": 1}])
    with pytest.raises(TypeError, match="plain values"):
        RunReport(variants=[full()], steps=[{"name": "prune", "model": object()}])
    for content in ("{", "[]", "{}", '{"variants": [{}], "steps": [], "environment": {}}'):
        (tmp_path / "report.json").write_text(content)
        with pytest.raises(OSError, match="not a report.json"):
            RunReport.load(tmp_path)
    with pytest.raises(OSError, match="missing"):
        RunReport.load(tmp_path / "missing")
    with pytest.raises(OSError, match="cannot be written"):
        RunReport(variants=[full()]).save(tmp_path / "report.json" / "below")


def test_it_is_shown_in_a_terminal_and_in_a_notebook(report, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert "3.24x smaller" in repr(report) and max(map(len, repr(report).splitlines())) <= 100
    shown = RunReport(variants=[full("<b>"), partial()])._repr_html_()
    assert shown.startswith("<table ") and "&lt;b&gt;" in shown and "no benchmark was asked for" in shown
    assert "<b>" not in shown

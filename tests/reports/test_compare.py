"""compare_reports: the chosen variants of saved runs, and what makes them hard to compare."""

from __future__ import annotations

import json

import pytest

from tests.reports.examples import full, partial, whole_report
from tfgreen.reports.compare import compare_reports
from tfgreen.reports.metric import Metric
from tfgreen.reports.variant import EnergyPerInference


@pytest.fixture
def folders(tmp_path):
    whole_report(chosen="float32").save(tmp_path / "runs" / "a")
    whole_report(environment={"cpu": "another"}).save(tmp_path / "runs" / "b")
    whole_report(variants=[full("fast", energy=EnergyPerInference(0.001, "measured"))]).save(tmp_path / "other" / "b")
    return [tmp_path / "runs" / "a", tmp_path / "runs" / "b", tmp_path / "other" / "b" / "report.json"]


def test_each_run_stands_by_its_chosen_variant_and_the_best_is_marked(folders):
    found = compare_reports(folders)
    assert [variant.name for variant in found.variants] == ["runs/a", "runs/b", "other/b"]
    assert found.best["gzip_bytes"] == ["runs/b"] and found.best["metric"] == ["runs/a", "other/b"]
    assert found.best["energy"] == ["other/b"] and "latency_ms" not in found.best  # equal
    text = str(found)
    assert "31 kB *" in text and "290 kB *" not in text and "* the best of its column" in text
    assert "runs/b with the best size, gzip size and non-zero weights" in repr(found)
    assert "another" in text and "Energies that were measured and estimated do not compare" in text
    assert "<table" in found._repr_html_()


def test_it_is_saved_as_json_html_and_markdown(folders, tmp_path):
    data, html, markdown = compare_reports(folders[:2]).save(tmp_path / "out")
    plain = json.loads(data.read_text())
    assert [run["name"] for run in plain["runs"]] == ["a", "b"] and plain["best"]["size_bytes"] == ["b"]
    assert 'class="best"' in html.read_text() and "What each run says" in html.read_text()
    assert "**98 kB**" in markdown.read_text()


def test_what_cannot_be_compared_is_named(folders, tmp_path):
    with pytest.raises(ValueError, match="two reports or more"):
        compare_reports(folders[:1])
    with pytest.raises(ValueError, match="twice"):
        compare_reports([folders[0], folders[0] / "report.json"])
    with pytest.raises(TypeError, match="list of folders"):
        compare_reports("ab")
    with pytest.raises(OSError, match="nowhere"):
        compare_reports([folders[0], tmp_path / "nowhere"])
    whole_report(metric=Metric(name="error", share=False), variants=[partial()]).save(tmp_path / "error")
    with pytest.raises(OSError, match="error: cannot be compared: its metric is error, that of a is accuracy"):
        compare_reports([folders[0], tmp_path / "error"])

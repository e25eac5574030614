"""The report: every figure with its source, strict JSON, one self-contained page, a table that fits."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from tfgreen.errors import TfgreenError
from tfgreen.reports import plots
from tfgreen.reports.environment import environment
from tfgreen.reports.figures import ratio_text, value_text
from tfgreen.reports.report import (
    FIGURES,
    Comparison,
    Curve,
    EnergyPerInference,
    Latency,
    RunReport,
    Variant,
    training_curves,
)

SOURCES = {
    "accuracy": "measured: 10,000 test images through the .tflite",
    "size_bytes": "counted: bytes of the file",
    "gzip_bytes": "counted: gzip at level 9",
    "nonzero_bytes": "counted: bytes of the weights that are not zero",
    "sparsity": "counted: zeros among the compressible weights",
    "latency_ms": "measured: 200 runs on one thread",
    "energy": "estimated: 4 W per busy thread",
    "co2e_kg": "estimated: energy x 0.381 kg per kWh in Germany (2023)",
}
FULL = {
    "accuracy": 0.838,
    "size_bytes": 318_000,
    "gzip_bytes": 290_000,
    "nonzero_bytes": 310_000,
    "sparsity": 0.0,
    "latency_ms": Latency(3.21, 3.9),
    "energy": EnergyPerInference(0.0132, "estimated"),
    "co2e_kg": 1.4e-9,
}


def full(name="float32", **changes):
    return Variant(name=name, verified=True, sources=SOURCES, **{**FULL, **changes})


def partial(name="pruned-int8"):
    reasons = {f: "no benchmark was asked for" for f in ("latency_ms", "energy", "co2e_kg")}
    return Variant(
        name=name,
        accuracy=0.831,
        size_bytes=98_000,
        gzip_bytes=31_000,
        nonzero_bytes=19_000,
        sparsity=0.8,
        sources={f: SOURCES[f] for f in FIGURES if f not in reasons},
        reasons={**reasons, "verified": "largest difference 0.2 is above 0.1"},
    )


@pytest.fixture()
def report():
    curves = training_curves({"loss": [2.0, math.nan, 1.0], "val_loss": [2.1, 1.6, 1.4]}, title="pruning")
    steps = [(0, 0.0), (100, 0.5), (200, 0.8)]
    sparsity = Curve(title="Sparsity", x_label="training step", y_label="share of zeros", series={"conv": steps})
    return RunReport(
        variants=[full(), partial()],
        steps=[{"name": "prune", "config": {"final_sparsity": 0.8}, "seconds": np.float32(12.5)}],
        environment=environment(),
        curves=[*curves, sparsity],
    )


# ------------------------------------------------------------------------------------------------------ JSON
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


def test_numpy_figures_become_plain_numbers():
    variant = full(accuracy=np.float32(0.5), size_bytes=np.int64(7), latency_ms=Latency(np.float64(1), np.float32(2)))
    text = json.dumps(variant.to_dict(), allow_nan=False)
    assert json.loads(text)["size_bytes"] == 7 and type(variant.size_bytes) is int
    assert Variant.from_dict(json.loads(text)).to_dict() == variant.to_dict()


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"accuracy": 83.8}, ValueError, "accuracy"),
        ({"accuracy": math.nan}, ValueError, "accuracy"),
        ({"accuracy": "good"}, TypeError, "accuracy"),
        ({"sparsity": -0.1}, ValueError, "sparsity"),
        ({"size_bytes": 0}, ValueError, "use None and a reason"),
        ({"latency_ms": Latency(0.0, 1.0)}, ValueError, "use None and a reason"),
        ({"latency_ms": Latency(1.0, math.inf)}, ValueError, "latency_ms"),
        ({"energy": EnergyPerInference(0.0, "measured")}, ValueError, "use None and a reason"),
        ({"energy": EnergyPerInference(1.0, "guessed")}, ValueError, "'measured' or 'estimated'"),
        ({"co2e_kg": 0.0}, ValueError, "use None and a reason"),
        ({"co2e_kg": None}, ValueError, "reason"),
        ({"sources": {**SOURCES, "accuracy": ""}}, ValueError, "begins with one of"),
        ({"sources": {**SOURCES, "accuracy": "from the log"}}, ValueError, "begins with one of"),
        ({"sources": {**SOURCES, "speed": "measured"}}, ValueError, "speed"),
        ({"name": ""}, ValueError, "name"),
        ({"verified": np.bool_(True)}, TypeError, "verified"),
    ],
)
def test_a_figure_without_source_or_reason_is_refused(changes, error, text):
    arguments = {"name": "int8", "sources": SOURCES, **FULL, **changes}
    with pytest.raises(error, match=text) as raised:
        Variant(**arguments)
    assert isinstance(raised.value, TfgreenError)


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
    with pytest.raises(OSError, match="cannot be made"):
        RunReport(variants=[full()]).save(tmp_path / "report.json" / "below")


# ------------------------------------------------------------------------------------------------------ HTML
class Page(HTMLParser):
    """Collects tags, attributes that can load something, and text; checks that elements are closed in order."""

    VOID = {"meta", "br", "hr", "img", "link", "input"}

    def __init__(self, html):
        super().__init__()
        self.tags, self.loads, self.words, self.open = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [v for k, v in attributes if k.split(":")[-1] in ("src", "href", "srcset", "action", "data")]
        self.loads += re.findall(r"url\(([^)]*)\)", " ".join(v or "" for _, v in attributes))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_page_is_self_contained_and_well_formed(report, tmp_path):
    html = report.save(tmp_path)[1].read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(page.tags)
    assert all(target.startswith("#") for target in page.loads)  # only pieces of the page itself
    assert "@import" not in html and "url(http" not in html
    assert page.tags.count("svg") == 4 + 2  # size, accuracy, latency, energy; loss, sparsity
    assert 'name="viewport"' in html and "prefers-color-scheme: dark" in html
    text = " ".join(" ".join(page.words).split())
    for words in ("318 kB", "3.24x smaller", "no benchmark was asked for", "200 runs on one thread", "final_sparsity"):
        assert words in text
    assert "largest difference 0.2" in text and environment()["python"] in text


def test_names_cannot_break_out_of_the_page(tmp_path):
    evil = "<script>alert(1)</script>--> $\\frac{ _x"
    bad = RunReport(
        variants=[full(evil), partial("</svg>\u6f22")],
        steps=[{"name": evil, "<b>": evil}],
        environment={evil: evil},
        curves=[Curve(title=evil, x_label=evil, y_label=evil, series={evil: [(0, 1)], "_hidden": [(0, 2)]})],
        comparisons=[Comparison(evil, evil, {evil: [1.0]}, (evil, 2.0))],
    )
    page = Page(bad.save(tmp_path)[1].read_text(encoding="utf-8"))
    assert "script" not in page.tags and page.open == []
    assert evil in "".join(page.words)


def test_an_unfinished_report_still_has_a_page(tmp_path):
    bare = Variant(name="float32", reasons=dict.fromkeys(FIGURES, "the run was stopped"))
    html = RunReport(variants=[bare]).save(tmp_path)[1].read_text(encoding="utf-8")
    assert "<svg" not in html and "the run was stopped" in html and "<h2>Steps" not in html


# ----------------------------------------------------------------------------------------------------- plots
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


# ----------------------------------------------------------------------------------------------------- table
@pytest.mark.parametrize("width", [60, 80, 140])
def test_table_fits_and_tells_ratios_sources_and_reasons(report, width):
    out = io.StringIO()
    variants = [*report.variants, partial("[red]pruned-clustered-int8")]
    RunReport(variants=variants).print(Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(out.getvalue().split())
    assert "3.24x smaller" in text and "-0.70 points" in text
    assert "[red]pruned-clustered-int8" in text  # not read as markup
    assert "[2] size: counted: bytes of the file" in text
    assert "none: no benchmark was asked for" in text and "not verified: largest difference" in text


@pytest.mark.parametrize(
    ("figure", "value", "text"),
    [
        ("size_bytes", 1_234_567, "1.23 MB"),
        ("size_bytes", 999, "999 B"),
        ("accuracy", 0.0, "0.00 %"),
        ("latency_ms", Latency(0.0123, 1234.0), "0.0123 / 1234 ms"),
        ("energy", EnergyPerInference(2.5e-6, "measured"), "2.5 \u00b5J"),
        ("co2e_kg", 2.0, "2 kg"),
        ("co2e_kg", 1.4e-9, "1.4 \u00b5g"),
    ],
)
def test_units(figure, value, text):
    assert value_text(full(**{figure: value}), figure) == text


def test_ratios_are_against_the_first():
    first, second = full(), full("int8", latency_ms=Latency(6.42, 7.0), size_bytes=317_900, accuracy=0.838)
    assert ratio_text(first, first, "size_bytes") == ""
    assert ratio_text(second, first, "latency_ms") == "2x slower"
    assert ratio_text(second, first, "size_bytes") == ratio_text(second, first, "accuracy") == "same"
    assert ratio_text(partial(), first, "energy") == ""


def test_environment_is_plain_and_imports_no_package():
    code = (
        "import sys, json\nfrom tfgreen.reports.environment import environment\nprint(json.dumps(environment()))\n"
        "if {'tensorflow', 'keras', 'codecarbon'} & set(sys.modules): raise SystemExit('heavy import')"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    data = json.loads(done.stdout)
    assert data["packages"]["tensorflow"] and data["packages"]["keras"] and data["cores"] >= 1


def test_the_report_of_a_pruned_model_says_what_pruning_shrinks(report, tmp_path):
    sentence = "a .tflite stores zeros like any other number"
    _, html = report.save(tmp_path / "pruned")
    assert sentence in html.read_text()
    _, html = RunReport(variants=[full()]).save(tmp_path / "dense")
    assert sentence not in html.read_text()


def test_a_comparison_is_drawn_in_the_page_and_in_a_notebook_and_comes_back_from_json(tmp_path):
    runs = {"student alone": [74.1, 75.0], "student distilled": [76.2, 76.9]}
    comparison = Comparison("CIFAR-10", "test accuracy, %", runs, ("teacher", 83.75))
    report = RunReport(variants=[full("small")], comparisons=[comparison])
    again = RunReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    assert again.comparisons == report.comparisons
    svg = comparison._repr_html_()
    page = report.save(tmp_path)[1].read_text(encoding="utf-8")
    assert svg.startswith("<svg") and "stroke-dasharray" in svg and "stroke-dasharray" in page  # the teacher's line


@pytest.mark.parametrize("values", [{}, {"alone": []}, {"alone": [1.0, math.nan]}])
def test_a_comparison_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match="comparison 't'.*finite values"):
        Comparison("t", "a", values)

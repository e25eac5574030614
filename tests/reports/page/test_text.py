"""The table for the terminal: fits, and tells ratios, sources and reasons."""

from __future__ import annotations

import pytest

from tests.reports.examples import full, partial
from tfgreen.reports.limits import Limit
from tfgreen.reports.metric import Metric
from tfgreen.reports.page.text import limits_text, report_html, skipped_text, variants_text
from tfgreen.reports.verdict import Verdict

LIMITS = [
    Limit(name="size", limit=100_000, value=98_000, unit="B"),
    Limit(name="latency", limit=5, value=None, unit="ms", reason="no benchmark was asked for"),
]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_table_fits_and_tells_ratios_sources_and_reasons(width):
    table = variants_text([full(), partial(), partial("[red]pruned-clustered-int8")], Metric(), width)
    assert max(map(len, table.splitlines())) <= width
    text = " ".join(table.split())
    assert "3.24\u00d7 smaller" in text and "-0.70 points" in text
    assert "[red]pruned-clustered-int8" in text
    assert "[2] size: counted: bytes of the file" in text
    assert "none: no benchmark was asked for" in text and "not verified: largest difference" in text


def test_variants_that_do_not_fit_go_on_below():
    wide = variants_text([full(), partial(), partial("int4")], Metric(), 300)
    narrow = variants_text([full(), partial(), partial("int4")], Metric(), 45)
    assert wide.count("accuracy [1] ") == 1 and narrow.count("accuracy [1] ") == 3


def test_what_pruning_shrinks_is_told_only_where_something_is_pruned():
    sentence = "stores zeros like any other number"
    assert sentence in " ".join(variants_text([full(), partial()], Metric()).split())
    assert sentence not in " ".join(variants_text([full()], Metric()).split())


def test_html_holds_the_same_escaped():
    verdict = Verdict("Fewer than <i> hoped.", None, ())
    html = report_html([full("<u>"), partial()], Metric(), verdict, LIMITS, {"distill": "<no> teacher"})
    assert "<u>" not in html and "&lt;u&gt;" in html and "than &lt;i&gt; hoped" in html
    assert "98 kB" in html and "2 kB to spare" in html and "skipped distill: &lt;no&gt; teacher" in html
    assert "3.24\u00d7 smaller" in html and "counted: bytes of the file" in html


def test_limits_and_what_was_skipped_fit_the_width():
    wide, narrow = (limits_text(LIMITS, width).splitlines() for width in (100, 40))
    assert wide[1].split("  ")[0] == "size" and wide[1].endswith("98 kB                       holds, 2 kB to spare")
    assert narrow[0] == "size: at most 100 kB; 98 kB; holds, 2 kB" and max(map(len, narrow)) <= 40
    assert skipped_text({"distill": "no teacher"}) == "skipped distill: no teacher" and skipped_text({}) == ""


def test_the_chosen_one_of_several_is_marked():
    three = [full(), partial(), partial("int4")]
    text = variants_text(three, Metric(), 200, "pruned-int8")
    assert "pruned-int8 *" in text.splitlines()[0] and "\n* the chosen one" in text
    assert " *" not in variants_text(three[:2], Metric(), 200, "pruned-int8")

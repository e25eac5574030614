"""The table for the terminal: fits, and tells ratios, sources and reasons."""

from __future__ import annotations

import pytest

from tests.reports.examples import full, partial
from tfgreen.reports.metric import Metric
from tfgreen.reports.page.text import variants_html, variants_text
from tfgreen.reports.verdict import Verdict


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
    html = variants_html([full("<u>"), partial()], Metric(), verdict)
    assert "<u>" not in html and "&lt;u&gt;" in html and "than &lt;i&gt; hoped" in html
    assert "3.24\u00d7 smaller" in html and "counted: bytes of the file" in html

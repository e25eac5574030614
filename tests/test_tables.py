"""tables: one layout of cells, as text and as HTML."""

from __future__ import annotations

import dataclasses
import re
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.tables import SentenceResult, TableResult, html_table, text_table

CELLS = st.text(st.characters(exclude_categories=("C", "Z")), max_size=6)


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_every_cell_stands_within_its_column(rows):
    lines = text_table(rows[0], rows[1:]).split("\n")
    assert len(lines) == len(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for line, row in zip(lines, rows):
        start = 0
        for cell, width in zip(row, widths):
            assert line[start : start + width].strip() == cell
            start += width + 2


def test_left_columns_are_text_and_the_others_numbers():
    assert text_table(("a", "b"), [("xx", "100")], left=1) == "a     b\nxx  100"
    assert text_table(("a", "b"), [("xx", "100")], left=-1) == "a   b\nxx  100"


def test_columns_are_aligned_alike_in_text_and_html_and_rows_marked():
    rows = [("xx", "100", "because"), ("y", "7", "")]
    assert text_table(("a", "b", "why"), rows, left=(0, 2)) == "a     b  why\nxx  100  because\ny     7"
    html = html_table(("a", "b", "why"), rows, left=(0, 2), marked={1})
    cells = re.findall(r'<(t[hd]) style="([^"]*)"', html)
    assert [re.search("text-align:(.)", style)[1] for _, style in cells] == ["l", "r", "l"] * 3
    assert [tag for tag, _ in cells] == ["th"] * 3 + ["td"] * 6
    assert ["background" in style for _, style in cells] == [False] * 6 + [True] * 3


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError):
        text_table(("a", "b"), [("x",)])


def test_html_escapes_every_text():
    html = html_table(("<a>",), [("&",)], caption='"c"')
    assert "<a>" not in html and "&lt;a&gt;" in html and ">&amp;</td>" in html and "&quot;c&quot;" in html


@dataclasses.dataclass(frozen=True, repr=False)
class Costs(TableResult):
    bytes_of: dict[str, int]

    _headings: ClassVar[tuple[str, ...]] = ("layer", "bytes")

    def _headline(self):
        return f"{len(self.bytes_of)} layers"

    def _rows(self):
        return [(name, f"{count:,}") for name, count in self.bytes_of.items()]

    def _remarks(self):
        return [f"{sum(self.bytes_of.values()):,} bytes in <all>"]


def test_a_result_that_is_a_table_shows_it_in_print_and_notebooks_and_is_a_line_in_repr():
    costs = Costs({"a": 1024, "<b>": 8})
    assert str(costs).splitlines() == ["layer  bytes", "a      1,024", "<b>        8", "1,032 bytes in <all>"]
    assert repr(costs) == "<Costs: 2 layers>"
    html = costs._repr_html_()
    assert html.startswith("<table ") and ">&lt;b&gt;</td>" in html and html.endswith("in &lt;all&gt;</p>")


def test_a_result_that_is_a_sentence_shows_it_everywhere():
    class Size(SentenceResult):
        def __str__(self):
            return "less than <1 kB>"

    assert repr(Size()) == "<Size: less than <1 kB>>" and Size()._repr_html_() == "<p>less than &lt;1 kB&gt;</p>"


def test_single_rows_of_results_are_public_and_shown():
    import json

    import keras
    import numpy as np

    import tfgreen as tg

    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3, activation="softmax", name="out")])
    lite, x = tg.convert(model), np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    with tg.EnergyMeter(region="DEU", components=("cpu",)) as meter:
        rows = [
            tg.verify(model, lite, x).outputs[0], tg.verify(model, lite, x).limits,
            tg.compare_layers(model, lite, x).layers[0], *lite.inputs, *lite.weights.values(),
            tg.profile_operators(lite, runs=1).operators[0], lite.audit.operators[0], tg.profile(model).layers[0],
            tg.summary(model).weights[0],
        ]
    for row in (*rows, *meter.reading.components, meter.reading.intensity):
        assert hasattr(tg, type(row).__name__), row
        assert re.match("<table [^>]*><caption ", row._repr_html_()) and json.dumps(row.to_dict(), allow_nan=False)

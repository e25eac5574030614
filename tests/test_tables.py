"""tables: one layout of cells, as text and as HTML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.tables import html_table, text_table

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


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError):
        text_table(("a", "b"), [("x",)])


def test_html_escapes_every_text():
    html = html_table(("<a>",), [("&",)], caption='"c"')
    assert "<a>" not in html and "&lt;a&gt;" in html and "<td>&amp;</td>" in html and "&quot;c&quot;" in html

"""The blocks of a document: HTML and Markdown know each of them."""

from __future__ import annotations

import typing

from tfgreen.reports.page.document import Block, Cell, Code, Document, Items, Notes, Plots, Section, Table, Text
from tfgreen.reports.page.html import page
from tfgreen.reports.page.markdown import markdown
from tfgreen.reports.page.sources import Source
from tfgreen.reports.verdict import Verdict


def test_every_block_is_written():
    blocks = [
        Table([Cell(""), Cell("head")], [[Cell("row"), Cell("said-Table")]]),
        Items([("name", "said-Items", ())]),
        Notes([Source(1, "label", "said-Notes")]),
        Plots(["<figure>said-Plots</figure>"], ["said-Plots"]),
        Text("said-Text"),
        Code("said-Code"),
    ]
    assert {type(block) for block in blocks} == set(typing.get_args(Block))
    document = Document("title", Verdict("Sentence.", None, ()), [Section("part", blocks)], "footer")
    for text in (page(document), markdown(document)):
        for block in blocks:
            assert f"said-{type(block).__name__}" in text, block

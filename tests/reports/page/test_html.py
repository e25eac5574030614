"""The page: self-contained, well-formed, and every text of a report escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from tests.reports.examples import full, partial, whole_report
from tfgreen.reports.curves import Curve
from tfgreen.reports.environment import environment
from tfgreen.reports.report import RunReport
from tfgreen.reports.variant import FIGURES, Variant


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


def test_page_is_self_contained_and_well_formed():
    html = whole_report().to_html()
    found = Page(html)
    assert found.open == []
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(found.tags)
    assert all(target.startswith("#") for target in found.loads)  # only pieces of the page itself
    assert {target[1:] for target in found.loads} <= set(re.findall(r'id="(\w+)"', html))
    assert "@import" not in html and "url(" not in html
    assert 'name="viewport"' in html and "prefers-color-scheme: dark" in html
    text = " ".join(" ".join(found.words).split())
    told = ("318 kB", "3.24\u00d7 smaller", "no benchmark was asked for", "200 runs on one thread", "final sparsity")
    for words in told:
        assert words in text
    assert "largest difference 0.2" in text and environment()["python"] in text
    assert "budget missed" in text and text.index("misses 1 of 3") < text.index("Before and after")


def test_names_cannot_break_out_of_the_page():
    evil = "<script>alert(1)</script>--> $\\frac{ _x"
    bad = whole_report(
        title=evil,
        variants=[full(evil), partial("</svg>\u6f22")],
        steps=[{"name": evil, "<b>": evil}],
        environment={evil: evil},
        skipped={evil: evil},
        curves=[Curve(title=evil, x_label=evil, y_label=evil, series={evil: [(0, 1)], "_hidden": [(0, 2)]})],
        command=evil,
    )
    found = Page(bad.to_html())
    assert "script" not in found.tags and found.open == []
    assert "".join(found.words).count(evil) > 8


def test_an_unfinished_report_still_has_a_page():
    bare = RunReport(variants=[Variant(name="float32", reasons=dict.fromkeys(FIGURES, "the run was stopped"))])
    html = bare.to_html()
    assert "<svg" not in html and "the run was stopped" in html and "What was done" not in html


def test_the_page_of_a_pruned_model_says_what_pruning_shrinks():
    sentence = "an int8 file stores zeros like any other number"
    assert sentence in whole_report().to_html() and sentence not in whole_report(variants=[full()]).to_html()

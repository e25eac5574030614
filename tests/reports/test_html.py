"""The page: self-contained, well-formed, and every text of a report escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from tests.reports.examples import full, partial, whole_report
from tfgreen.reports.curves import Curve
from tfgreen.reports.environment import environment
from tfgreen.reports.html import page
from tfgreen.reports.report import RunReport
from tfgreen.reports.variant import FIGURES, EnergyPerInference, Variant


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


def test_page_is_self_contained_and_well_formed(tmp_path):
    html = whole_report().save(tmp_path)[1].read_text(encoding="utf-8")
    found = Page(html)
    assert found.open == []
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(found.tags)
    assert all(target.startswith("#") for target in found.loads)  # only pieces of the page itself
    assert "@import" not in html and "url(http" not in html
    assert found.tags.count("svg") == 4 + 2  # size, accuracy, latency, energy; loss, sparsity
    assert 'name="viewport"' in html and "prefers-color-scheme: dark" in html
    text = " ".join(" ".join(found.words).split())
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
    )
    found = Page(bad.save(tmp_path)[1].read_text(encoding="utf-8"))
    assert "script" not in found.tags and found.open == []
    assert evil in "".join(found.words)


def test_an_unfinished_report_still_has_a_page():
    bare = Variant(name="float32", reasons=dict.fromkeys(FIGURES, "the run was stopped"))
    html = page([bare])
    assert "<svg" not in html and "the run was stopped" in html and "<h2>Steps" not in html


def test_the_page_of_a_pruned_model_says_what_pruning_shrinks():
    sentence = "an int8 file stores zeros like any other number"
    assert sentence in page([full(), partial()]) and sentence not in page([full()])


def test_energy_stands_against_accuracy_where_two_variants_have_both():
    two = [full("a"), full("b", energy=EnergyPerInference(0.002, "measured", (0.001, 0.003)))]
    assert page(two).count("<svg") == page([full("a"), partial()]).count("<svg") + 1

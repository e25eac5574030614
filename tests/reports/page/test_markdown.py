"""Markdown: tables and footnotes, and no text that becomes markup."""

from __future__ import annotations

from markdown_it import MarkdownIt

from tests.reports.examples import full, partial, whole_report
from tfgreen.reports.page.markdown import escape


def rendered(text):
    return MarkdownIt("commonmark").enable("table").render(text)


def test_it_says_what_the_page_says():
    text = whole_report().to_markdown()
    assert text.startswith("# digits\n\n**pruned-int8 misses 1 of 3 limits: accuracy drop is 0.7 points, ")
    assert "| size[^2] | 318 kB | **98 kB**<br>3.24\u00d7 smaller |" in text
    assert "[^2]: **size**: counted: bytes of the file" in text
    assert "- **distill**: no teacher was given" in text and "1. **prune**: config final sparsity 0.8" in text
    assert "Sparsity, share of zeros: 0 \u2192 0.8 at training step 200" in text
    assert "```\ntfgreen demo --seed 3\n```" in text
    html = rendered(text)
    assert html.count("<table>") == 3 and "<svg" not in html


def test_names_stay_text():
    evil = "<script>alert(1)</script> a|b *c* `d` [e](f) _g_\n# h & $i$"
    text = whole_report(title=evil, variants=[full(evil), partial("</p>")], skipped={evil: evil}).to_markdown()
    html = rendered(text)
    assert not any(tag in html for tag in ("<script", "<em>c", "<em>g", "<a ")) and html.count("<h1>") == 1
    shown = "&lt;script&gt;alert(1)&lt;/script&gt; a|b *c* `d` [e](f) _g_ # h &amp; $i$"
    assert html.count(shown) >= 4
    assert rendered(escape(evil)) == f"<p>{shown}</p>\n"


def test_a_command_with_backticks_stays_code():
    text = whole_report(command="echo ```date```").to_markdown()
    assert "<code>echo ```date```\n</code>" in rendered(text)

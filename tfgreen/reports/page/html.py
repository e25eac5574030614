"""A document as one HTML file that needs nothing else: no script, no request, plots inside."""

from __future__ import annotations

import functools
from pathlib import Path

from tfgreen.reports.page.document import Document


def page(document: Document) -> str:
    """The page of a document; every text in it is escaped."""
    import jinja2

    templates = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_read),
    )  # fmt: skip
    templates.tests["of"] = lambda block, name: type(block).__name__ == name
    return templates.get_template("report.html").render(document=document)


@functools.cache
def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")

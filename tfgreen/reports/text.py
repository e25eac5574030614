"""The variants of a report as text for the terminal, and as HTML for a notebook."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

from tfgreen.reports import figures
from tfgreen.reports.variant import Variant
from tfgreen.tables import html_table, text_table


def variants_text(variants: Sequence[Variant], width: int = 80) -> str:
    """A row per figure with the ratios against the first variant below it, a column per variant; then the sources.

    Variants that do not fit side by side go on in a further table: a line has ``width`` characters at most.
    """
    rows, parts, start = _rows(variants), [], 0
    while start < len(variants):
        end = start + 1
        while end < len(variants) and len(_part(variants, rows, start, end + 1).split("\n", 1)[0]) <= width:
            end += 1
        parts.append(_part(variants, rows, start, end))
        start = end
    notes = [textwrap.fill(note, width, break_on_hyphens=False) for note in _notes(variants)]
    return "\n\n".join([*parts, "\n".join(notes)])


def variants_html(variants: Sequence[Variant]) -> str:
    """The same as an HTML table with the sources below."""
    rows = [(heading, *cells) for heading, cells in _rows(variants)]
    table = html_table(("", *(variant.name for variant in variants)), rows)
    return table + "".join(f"<p>{escape(note)}</p>" for note in _notes(variants))


def _rows(variants: Sequence[Variant]) -> list[tuple[str, list[str]]]:
    """Heading and a cell per variant; ratios are a row without a heading."""
    rows = []
    for figure in figures.used_figures(variants):
        rows.append((figures.shown(figure), [figures.value_text(variant, figure) for variant in variants]))
        ratios = [figures.ratio_text(variant, variants[0], figure) for variant in variants]
        if any(ratios):
            rows.append(("", ratios))
    return [*rows, ("verified", ["yes" if variant.verified else "no" for variant in variants])]


def _part(variants: Sequence[Variant], rows: list[tuple[str, list[str]]], start: int, end: int) -> str:
    names = [variant.name for variant in variants[start:end]]
    return text_table(("", *names), [(heading, *cells[start:end]) for heading, cells in rows])


def _notes(variants: Sequence[Variant]) -> list[str]:
    remark = [figures.WHAT_PRUNING_SHRINKS] if any(variant.sparsity for variant in variants) else []
    sources = [
        f"[{number}] {label}: " + "; ".join(f"{names}: {text}" if names else text for names, text in texts)
        for number, label, texts in figures.footnotes(variants)
    ]
    return [*remark, *sources, *figures.unverified(variants)]

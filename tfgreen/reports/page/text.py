"""The variants of a report as text for the terminal, and as HTML for a notebook."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

from tfgreen.reports import figures
from tfgreen.reports.metric import Metric
from tfgreen.reports.page.sources import number_of, sources
from tfgreen.reports.variant import Variant
from tfgreen.reports.verdict import Verdict
from tfgreen.tables import html_table, text_table


def variants_text(variants: Sequence[Variant], metric: Metric, width: int = 80) -> str:
    """A row per figure with the changes against the first variant below it, a column per variant; then the sources.

    Variants that do not fit side by side go on in a further table: a line has ``width`` characters at most.
    """
    rows, parts, start = _rows(variants, metric), [], 0
    while start < len(variants):
        end = start + 1
        while end < len(variants) and len(_part(variants, rows, start, end + 1).split("\n", 1)[0]) <= width:
            end += 1
        parts.append(_part(variants, rows, start, end))
        start = end
    notes = [textwrap.fill(note, width, break_on_hyphens=False) for note in _notes(variants, metric)]
    return "\n\n".join([*parts, "\n".join(notes)])


def variants_html(variants: Sequence[Variant], metric: Metric, verdict: Verdict) -> str:
    """The verdict and the same as an HTML table, with the sources to unfold."""
    rows = [(heading, *cells) for heading, cells in _rows(variants, metric)]
    table = html_table(("", *(variant.name for variant in variants)), rows)
    notes = "".join(f"<p>{escape(note)}</p>" for note in _notes(variants, metric))
    return f"<p><b>{escape(verdict.sentence)}</b></p>{table}<details><summary>Sources</summary>{notes}</details>"


def _rows(variants: Sequence[Variant], metric: Metric) -> list[tuple[str, list[str]]]:
    """Heading and a cell per variant; changes are a row without a heading."""
    rows = []
    for figure in figures.used_figures(variants):
        heading = f"{figures.label(figure, metric)} [{number_of(figure)}]"
        rows.append((heading, [figures.value_text(variant, figure, metric) for variant in variants]))
        changes = [figures.change_text(variant, variants[0], figure, metric) for variant in variants]
        if any(changes):
            rows.append(("", changes))
    return [*rows, ("verified", ["yes" if variant.verified else "no" for variant in variants])]


def _part(variants: Sequence[Variant], rows: list[tuple[str, list[str]]], start: int, end: int) -> str:
    names = [variant.name for variant in variants[start:end]]
    return text_table(("", *names), [(heading, *cells[start:end]) for heading, cells in rows])


def _notes(variants: Sequence[Variant], metric: Metric) -> list[str]:
    remark = [figures.WHAT_PRUNING_SHRINKS] if any(variant.sparsity for variant in variants) else []
    told = []
    for source in sources(variants, metric):
        rows = "; ".join(filter(None, (source.text, *(f"{names}: {text}" for names, text in source.rows))))
        told.append(f"[{source.number}] {source.label}: {rows}")
    return [*remark, *told, *figures.unverified(variants)]

"""A report as text for the terminal, and as HTML for a notebook: budget, variants, what was skipped, sources."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from html import escape

from tfgreen.reports import figures
from tfgreen.reports.limits import Limit
from tfgreen.reports.metric import Metric
from tfgreen.reports.page.sources import number_of, sources
from tfgreen.reports.variant import Variant
from tfgreen.reports.verdict import Verdict
from tfgreen.tables import html_table, text_table


def variants_text(variants: Sequence[Variant], metric: Metric, width: int = 80, chosen: str = "") -> str:
    """A row per figure with the changes against the first variant below it, a column per variant; then the sources.

    Variants that do not fit side by side go on in a further table: a line has ``width`` characters at most. Of more
    than two, the chosen one is marked.
    """
    if len(variants) > 2:
        variants = [dataclasses.replace(v, name=f"{v.name} *") if v.name == chosen else v for v in variants]
    rows, parts, start = _rows(variants, metric), [], 0
    while start < len(variants):
        end = start + 1
        while end < len(variants) and len(_part(variants, rows, start, end + 1).split("\n", 1)[0]) <= width:
            end += 1
        parts.append(_part(variants, rows, start, end))
        start = end
    notes = [textwrap.fill(note, width, break_on_hyphens=False) for note in _notes(variants, metric)]
    return "\n\n".join([*parts, "\n".join(notes)])


def limits_text(limits: Sequence[Limit], width: int = 80) -> str:
    """A row per limit of the budget: what it is, what came out, and whether it holds."""
    table = text_table(_LIMITS, _limit_rows(limits), left=-1)
    if max(map(len, table.splitlines())) <= width:
        return table
    return "\n".join(textwrap.fill(": ".join((row[0], "; ".join(row[1:]))), width) for row in _limit_rows(limits))


def skipped_text(skipped: Mapping[str, str], width: int = 80) -> str:
    """A line for each thing that was skipped, with the reason."""
    lines = (textwrap.fill(f"skipped {name}: {why}", width, break_on_hyphens=False) for name, why in skipped.items())
    return "\n".join(lines)


def report_html(
    variants: Sequence[Variant], metric: Metric, verdict: Verdict, limits: Sequence[Limit], skipped: Mapping[str, str]
) -> str:
    """The verdict, the budget, the variants and what was skipped as HTML tables, with the sources to unfold."""
    rows = [(heading, *cells) for heading, cells in _rows(variants, metric)]
    parts = [f"<p><b>{escape(verdict.sentence)}</b></p>"]
    if limits:
        parts.append(html_table(_LIMITS, _limit_rows(limits), "Budget", left=-1))
    parts.append(html_table(("", *(variant.name for variant in variants)), rows))
    parts += [f"<p>skipped {escape(name)}: {escape(why)}</p>" for name, why in skipped.items()]
    notes = "".join(f"<p>{escape(note)}</p>" for note in _notes(variants, metric))
    return f"{''.join(parts)}<details><summary>Sources</summary>{notes}</details>"


_LIMITS = ("budget", "limit", "came out", "verdict")


def _limit_rows(limits: Sequence[Limit]) -> list[tuple[str, str, str, str]]:
    told = {True: "holds", False: "missed", None: "unknown"}
    return [
        (x.name, x.limit_text, x.value_text, told[x.holds] + (f", {x.margin_text}" if x.value is not None else ""))
        for x in limits
    ]


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
    remark = ["* the chosen one"] if any(variant.name.endswith(" *") for variant in variants) else []
    remark += [figures.WHAT_PRUNING_SHRINKS] if any(variant.sparsity for variant in variants) else []
    told = []
    for source in sources(variants, metric):
        rows = "; ".join(filter(None, (source.text, *(f"{names}: {text}" for names, text in source.rows))))
        told.append(f"[{source.number}] {source.label}: {rows}")
    return [*remark, *told, *figures.unverified(variants)]

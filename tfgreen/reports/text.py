"""The report as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tfgreen.reports.figures import WHAT_PRUNING_SHRINKS, footnotes, ratio_text, shown, value_text
from tfgreen.reports.variant import FIGURES, Variant

if TYPE_CHECKING:
    from tfgreen.reports.report import RunReport

PADDING = 3  # cell padding and border of one column


class ReportTable:
    """A Rich renderable: a row per figure and a column per variant, ratios against the first, sources as footnotes.

    Figures are rows, so that the table stays readable at 80 columns: variants that do not fit side by side go on in a
    further table below.
    """

    def __init__(self, report: RunReport) -> None:
        self._report = report

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text  # plain texts: a name in [brackets] must not be read as markup

        variants = self._report.variants
        figures = [figure for figure in FIGURES if any(getattr(v, figure) is not None for v in variants)]
        headings = [shown(figure) for figure in figures] + ["verified"]
        first_width = max(len(text) for text in headings) + PADDING + 1
        columns = [(variant, _cells(variant, variants[0], figures)) for variant in variants]
        room = options.max_width - first_width
        while columns:
            count, used = 1, _width(columns[0])
            while count < len(columns) and used + _width(columns[count]) <= room:
                used += _width(columns[count])
                count += 1
            yield _grid(headings, columns[:count])
            columns = columns[count:]
        if any(variant.sparsity for variant in variants):
            yield Text(WHAT_PRUNING_SHRINKS)
        for number, label, texts in footnotes(variants):
            parts = [f"{names}: {text}" if names else text for names, text in texts]
            yield Text(f"[{number}] {label}: {'; '.join(parts)}", style="dim")
        for variant in variants:
            if not variant.verified and variant.reasons.get("verified"):
                yield Text(f"{variant.name} is not verified: {variant.reasons['verified']}", style="dim")


def _cells(variant: Variant, first: Variant, figures: list[str]) -> list[tuple[str, str]]:
    cells = [(value_text(variant, figure), ratio_text(variant, first, figure)) for figure in figures]
    return cells + [("yes" if variant.verified else "no", "")]


def _width(column: tuple[Variant, list[tuple[str, str]]]) -> int:
    variant, cells = column
    return max(len(text) for text in [variant.name, *(part for cell in cells for part in cell)]) + PADDING


def _grid(headings: list[str], columns: list[tuple[Variant, list[tuple[str, str]]]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD)
    grid.add_column("")
    for variant, _ in columns:
        grid.add_column(Text(variant.name), justify="right", overflow="fold")
    for row, heading in enumerate(headings):
        texts = []
        for _, cells in columns:
            value, ratio = cells[row]
            text = Text(value, style={"yes": "green", "no": "red"}.get(value, ""))
            if ratio:
                text.append(f"\n{ratio}", style="dim")
            texts.append(text)
        grid.add_row(Text(heading), *texts)
    return grid

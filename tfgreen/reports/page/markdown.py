"""A document as Markdown, with the tables and footnotes that GitHub and GitLab show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tfgreen.reports.page.document import Block, Cell, Code, Document, Items, Notes, Plots, Table, Text


def markdown(document: Document) -> str:
    """The text of a document; what a plot shows stands in words."""
    lines = [f"# {escape(document.title)}", "", f"**{escape(document.verdict.sentence)}**", ""]
    lines += [f"- **{escape(f'{t.value} {t.label}')}** ({escape(t.detail)})" for t in document.verdict.tiles]
    for section in document.sections:
        parts = [part for block in section.blocks for part in _block(block)]
        if parts:
            lines += ["", f"## {escape(section.title)}", *parts]
    return "\n".join([*lines, "", escape(document.footer), ""])


def escape(text: str) -> str:
    """A text as it is: nothing in it is markup, and it stays on its line.

    Example:
        >>> escape("<b> a_b | [x] *")
        '&lt;b> a\\\\_b \\\\| \\\\[x\\\\] \\\\*'
    """
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", " ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Table):
        yield from ("", *_table(block))
    elif isinstance(block, Items):
        yield ""
        for number, (name, text, more) in enumerate(block.items, 1):
            start = f"{number}." if block.numbered else "-"
            yield f"{start} **{escape(name)}**{f': {escape(text)}' if text else ''}"
            yield from (f"{' ' * len(start)} - {escape(line)}" for line in more)
    elif isinstance(block, Notes):
        for note in block.notes:
            rows = [f"*{escape(names)}* {escape(text)}" for names, text in note.rows]
            text = "; ".join(filter(None, (escape(note.text), *rows)))
            yield from ("", f"[^{note.number}]: **{escape(note.label)}**: {text}")
    elif isinstance(block, Plots):
        yield from ("", *(f"- {escape(text)}" for text in block.words)) if block.words else ()
    elif isinstance(block, Code):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
        yield from ("", fence, block.text, fence)
    elif isinstance(block, Text):
        yield from ("", escape(block.text))


def _table(table: Table) -> Iterator[str]:
    yield _row([_cell(head) for head in table.headings])
    yield _row(["---", *["---:"] * (len(table.headings) - 1)])
    for row in table.rows:
        yield _row([_cell(cell) for cell in row])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = f"**{escape(cell.text)}**" if cell.best else escape(cell.text)
    note = f"[^{cell.note}]" if cell.note else ""
    return "<br>".join([text + note, *map(escape, cell.small)])

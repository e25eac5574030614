"""Document: what a report says, as blocks that know nothing of HTML or Markdown, so that both say the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias, Union

from tfgreen.reports.page.sources import Source
from tfgreen.reports.verdict import Verdict


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value and what stands small below it; a ``bar`` is its length as a share of the longest in its row.

    ``note`` is the number of a footnote, ``good`` colours the bar and the small text, or the text where there is none;
    ``best`` marks the best of its kind.
    """

    text: str
    small: Sequence[str] = ()
    bar: float | None = None
    note: int | None = None
    good: bool | None = None
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows with a heading in front of each; ``headings`` are above all columns, the first too."""

    headings: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]


@dataclasses.dataclass(frozen=True)
class Items:
    """Names with what they stand for, and further lines for each."""

    items: Sequence[tuple[str, str, Sequence[str]]]
    numbered: bool = False


@dataclasses.dataclass(frozen=True)
class Notes:
    """Footnotes, which cells lead to by their numbers."""

    notes: Sequence[Source]


@dataclasses.dataclass(frozen=True)
class Plots:
    """Plots as HTML with what to know about them, and the same in words for where nothing can be drawn."""

    figures: Sequence[str]
    words: Sequence[str] = ()
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclasses.dataclass(frozen=True)
class Code:
    """Lines to type."""

    text: str


Block: TypeAlias = Union[Table, Items, Notes, Plots, Text, Code]


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading with its blocks; a ``folded`` one opens at a click."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Document:
    """The verdict and the sections below it."""

    title: str
    verdict: Verdict
    sections: Sequence[Section]
    footer: str

"""The one text table: columns as wide as their widest cell; and results that are shown as one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any, ClassVar

from tfgreen.typing import PlainDict

Columns = int | Collection[int]  # the first so many, -1 for all, or these

_TABLE = "table-layout:auto;border-collapse:collapse;width:auto;margin:.4em 0;font-variant-numeric:tabular-nums"
_CAPTION = "text-align:left;font-weight:600;padding:.3em .6em;white-space:nowrap"
_CELL = "padding:.25em .6em;vertical-align:top;border-bottom:1px solid rgba(128,128,128,.25);"
_HEAD = "border-bottom:2px solid rgba(128,128,128,.6);"
_LEFT = f"{_CELL}text-align:left;max-width:36em;overflow-wrap:anywhere;"
_RIGHT = f"{_CELL}text-align:right;white-space:nowrap;"
_MARK = "background:rgba(46,160,67,.14);"


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "epoch"), counted(2000, "epoch")
        ('1 epoch', '2,000 epochs')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: Columns = 1) -> str:
    """Lay out cells in columns, two spaces apart, without trailing spaces.

    The first ``left`` columns (-1: all), or those whose numbers it holds, are aligned to the left, the others, which
    hold numbers, to the right.

    Example:
        >>> print(text_table(("layer", "bytes"), [("conv", "1,024"), ("dense", "32")]))
        layer  bytes
        conv   1,024
        dense     32
    """
    table = [list(headings), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if _is_left(column, left) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def html_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", left: Columns = 1,
    marked: Collection[int] = (),
) -> str:
    """The same as an HTML table for ``_repr_html_``, every text escaped; the rows that are ``marked`` stand out.

    Styles are those of cells, which every notebook keeps, in colours that suit a light page and a dark one.
    """

    def cells(tag: str, row: Sequence[str], mark: str = "") -> str:
        styles = [(_LEFT if _is_left(column, left) else _RIGHT) + mark for column in range(len(row))]
        return "<tr>" + "".join(f'<{tag} style="{how}">{escape(x)}</{tag}>' for x, how in zip(row, styles)) + "</tr>"

    head = f'<caption style="{_CAPTION}">{escape(caption)}</caption>' if caption else ""
    body = "".join(cells("td", row, _MARK if number in marked else "") for number, row in enumerate(rows))
    return f'<table style="{_TABLE}">{head}<thead>{cells("th", headings, _HEAD)}</thead><tbody>{body}</tbody></table>'


def _is_left(column: int, left: Columns) -> bool:
    return left < 0 or column < left if isinstance(left, int) else column in left


def plain(value: object) -> Any:
    """Plain values for JSON: results as their ``to_dict``, dataclasses as dicts, tuples as lists, NaN and inf as None.

    Example:
        >>> plain({"noise": (0.5, float("inf"))})
        {'noise': [0.5, None]}
    """
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return plain(vars(value))
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Result:
    """What :class:`SentenceResult` and :class:`TableResult` have in common; a subclass is a dataclass."""

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values for JSON; None stands for a number that is not finite."""
        return plain(vars(self))


class SentenceResult(Result):
    """A result that is a sentence: ``print``, ``repr`` and notebooks show it. A dataclass with ``repr=False``."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


class RowResult(Result):
    """A result that is a row of a table: notebooks show its fields one below the other. A dataclass."""

    def _repr_html_(self) -> str:
        cells = self.to_dict().items()
        rows = [(name, f"{value:.6g}" if isinstance(value, float) else str(value)) for name, value in cells]
        return html_table(("figure", "value"), rows, type(self).__name__, left=-1)


class TableResult(Result):
    """A result that is a table: ``print`` and notebooks show it with its remarks, ``repr`` gives one line.

    A subclass, a dataclass with ``repr=False``, names its columns and supplies the rest.
    """

    _headings: ClassVar[tuple[str, ...]] = ()
    _left: ClassVar[Columns] = 1  # as for text_table

    def _rows(self) -> Sequence[Sequence[str]]:
        raise NotImplementedError

    def _remarks(self) -> Sequence[str]:
        """Lines below the table."""
        return ()

    def _caption(self) -> str:
        """What stands above the table in a notebook."""
        return ""

    def _marked(self) -> Collection[int]:
        """The numbers of rows that stand out in a notebook."""
        return ()

    def _headline(self) -> str:
        """What ``repr`` says beside the name of the class."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._headline()}>"

    def __str__(self) -> str:
        return "\n".join([text_table(self._headings, self._rows(), self._left), *self._remarks()])

    def _repr_html_(self) -> str:
        remarks = "".join(f"<p>{escape(remark)}</p>" for remark in self._remarks())
        return html_table(self._headings, self._rows(), self._caption(), self._left, self._marked()) + remarks

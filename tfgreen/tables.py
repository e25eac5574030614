"""The one text table: columns as wide as their widest cell; and results that are shown as one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, ClassVar

from tfgreen.typing import PlainDict


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lay out cells in columns, two spaces apart, without trailing spaces.

    The first ``left`` columns (-1: all) are aligned to the left, the others, which hold numbers, to the right.

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
            cell.ljust(width) if left < 0 or column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """The same as an HTML table for ``_repr_html_``, every text escaped."""
    def cells(tag: str, row: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"

    head = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "".join(cells("td", row) for row in rows)
    return f"<table>{head}<thead>{cells('th', headings)}</thead><tbody>{body}</tbody></table>"


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
        return html_table(("figure", "value"), rows, type(self).__name__)


class TableResult(Result):
    """A result that is a table: ``print`` and notebooks show it with its remarks, ``repr`` gives one line.

    A subclass, a dataclass with ``repr=False``, names its columns and supplies the rest.
    """

    _headings: ClassVar[tuple[str, ...]] = ()
    _left: ClassVar[int] = 1  # as for text_table

    def _rows(self) -> Sequence[Sequence[str]]:
        raise NotImplementedError

    def _remarks(self) -> Sequence[str]:
        """Lines below the table."""
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
        return html_table(self._headings, self._rows()) + remarks

"""Data from CSV files: a sample in each row, numbers in the columns."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np

from tfgreen.errors import FileError, invalid_type, invalid_value
from tfgreen.files import reading
from tfgreen.recipes.data.parts import Parts, check_file, naming
from tfgreen.recipes.data.split import Split
from tfgreen.typing import Arrays, FilePath

# A column, several side by side, or a dict of these by the name of the input or output.
Columns: TypeAlias = Union[str, Sequence[str], Mapping[str, Union[str, Sequence[str]]]]


def read_csv(
    path: FilePath, targets: Columns, features: Columns | None, others: Mapping[str, FilePath | None], delimiter: str
) -> Parts:
    """The splits of one file each, see :meth:`tg.Data.from_csv`; ``others`` holds those of validation and test."""
    splits = {}
    for name, file in {"train": path, **others}.items():
        if file is not None:
            header, rows, lines = _table(file, delimiter)
            with naming(file):
                table = _Table(header, rows, lines)
                y = None if targets == () else table.arrays("targets", targets)
                if features is None:
                    features = _rest(header, targets)  # of the training file, in whose order the others are read
                splits[name] = Split(table.arrays("features", features), y, name=name, source=Path(file).name)
    return Parts(splits, Path(path).name, "Pass the file of its rows: {name}='rows.csv'.")


class _Table:
    """The cells of a file, and the line that each row is in."""

    def __init__(self, header: list[str], rows: list[list[str]], lines: list[int]) -> None:
        self.header, self.rows, self.lines = header, rows, lines

    def arrays(self, subject: str, columns: Columns) -> Arrays:
        """The columns as arrays: ``(rows,)`` of one, ``(rows, columns)`` of several, a dict of a dict."""
        if isinstance(columns, Mapping):
            return {name: self.arrays(subject, some) for name, some in columns.items()}
        is_target = subject == "targets"
        if isinstance(columns, str):
            return self._column(columns, is_target)
        if not isinstance(columns, Sequence) or not all(isinstance(name, str) for name in columns):
            raise invalid_type(subject, expected="names of columns, or a dict of them", received=columns)
        if not columns:
            raise invalid_value(subject, expected="one column or more", received="none")
        return np.stack([self._column(name, is_target) for name in columns], axis=1).astype("float32")

    def _column(self, name: str, is_target: bool) -> np.ndarray:
        if name not in self.header:
            near = difflib.get_close_matches(name, self.header, 1)
            fix = f"Did you mean '{near[0]}'?" if near else ""
            if len(self.header) == 1 and (other := next((c for c in ";\t|" if c in self.header[0]), None)):
                fix = f"Pass delimiter={other!r}."
            subject, expected = f"column '{name}'", f"one of {self.header}"
            raise invalid_value(subject, expected=expected, received="no such column", fix=fix)
        place = self.header.index(name)
        values = np.empty(len(self.rows))
        for row, (cells, line) in enumerate(zip(self.rows, self.lines)):
            try:
                values[row] = float(cells[place])
            except ValueError:
                values[row] = np.nan
            if not np.isfinite(values[row]):
                raise _no_number(name, line, cells[place], is_target)
        whole = is_target and all(cells[place].strip().lstrip("+-").isdigit() for cells in self.rows)
        with np.errstate(over="ignore"):  # an infinity is told of with the split
            return values.astype("int64" if whole else "float32")


def _no_number(name: str, line: int, cell: str, is_target: bool) -> Exception:
    if cell.strip().lower() in ("", "nan", "na", "null", "none", "inf", "-inf"):
        fix = "Fill missing values in, or leave the row out."
    elif is_target:
        fix = "Number the classes from 0 and write the numbers."
    else:
        fix = "Write texts as numbers (a column of 0 and 1 for each word), or name the columns to use in features."
    received = repr(cell if len(cell) <= 40 else cell[:40] + "...")
    return invalid_value(f"line {line}, column '{name}'", expected="a number", received=received, fix=fix)


def _rest(header: Sequence[str], targets: Columns) -> list[str]:
    parts = list(targets.values()) if isinstance(targets, Mapping) else [targets]
    used = {name for part in parts for name in ([part] if isinstance(part, str) else part)}
    return [name for name in header if name not in used]


def _table(path: FilePath, delimiter: str) -> tuple[list[str], list[list[str]], list[int]]:
    file = check_file(path, "a CSV file")
    rows, lines = [], []
    try:
        with reading(file), open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter)
            header = [name.strip() for name in next(reader, [])]
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    what = f"{len(header)} columns, as the first line has, received {len(cells)}"
                    raise FileError(f"{file}: line {reader.line_num}: expected {what}.")
                rows.append(cells)
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{file}: expected a CSV file in UTF-8, received something else ({error}).") from error
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise FileError(f"{file}: expected a name for each column, received '{twice[0]}' twice.")
    if not rows:
        raise FileError(f"{file}: expected names of columns in the first line and rows below it, received no rows.")
    return header, rows, lines

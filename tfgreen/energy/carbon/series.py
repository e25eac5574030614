"""The carbon intensity of a grid over time: read from a CSV file or from pairs, whole or refused with the row."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import re
import statistics
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeAlias

from tfgreen.errors import FileError, InvalidValueError, invalid_type, invalid_value
from tfgreen.files import write_atomic
from tfgreen.typing import FilePath

Series: TypeAlias = "FilePath | Iterable[tuple[datetime | str, float]]"

_UNIT = re.compile(r"\b(kg|kilograms?|g|grams?)( ?co2e?q?)?( eq\w*)?( of co2\w*)?( per)? kwh\b")
_TIME = re.compile(r"time|date", re.IGNORECASE)
_ZONE = re.compile(r"(?<![a-z])(?:utc|gmt)(?![a-z]) ?(?:([+-])(\d{1,2})(?::?(\d\d))?)?", re.IGNORECASE)
_GRAMS = {"k": 1.0, "g": 1e-3}  # by the first letter of the unit


@dataclasses.dataclass(frozen=True)
class IntensitySeries:
    """Kilograms of CO2 equivalent per kWh, each from its time to the next one; all ``step`` apart."""

    times: tuple[datetime, ...]
    kg_per_kwh: tuple[float, ...]
    step: timedelta
    source: str


def read_series(series: Series, column: str | None = None) -> IntensitySeries:
    """Read a CSV file, whose header names the unit, or pairs of a time and kilograms per kWh."""
    name = "series"
    if isinstance(series, (str, os.PathLike)):
        name = str(series)
        heading, found = _file_rows(Path(series), column)
        source, rows = f"{name}, column '{heading}'", list(found)
    elif column is not None:
        raise invalid_value("column", expected="None beside a series that is no file", received=repr(column))
    elif isinstance(series, Iterable):
        pairs = series.items() if hasattr(series, "items") else series
        rows, source = list(_pair_rows(pairs)), "pairs of a time and kg per kWh"
    else:
        raise invalid_type("series", expected="the path of a CSV file, or (time, kg per kWh) pairs", received=series)
    if len(rows) < 2:
        raise invalid_value(name, expected="two rows or more", received=f"{len(rows)}")
    places, times, values = zip(*rows)
    return IntensitySeries(times, values, _even_step(name, places, times), source)


def parsed_time(where: str, value: object) -> datetime:
    """A datetime, or one of an ISO 8601 text; a time zone becomes its offset at that time, which arithmetic needs."""
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", str(value)))
    except ValueError:
        fix = "Write it as 2026-01-31T13:00+00:00."
        raise invalid_value(where, expected="a time after ISO 8601", received=repr(value), fix=fix) from None
    offset = time.utcoffset()
    return time if offset is None else time.astimezone(timezone(offset))


def write_example_series(path: FilePath) -> Path:
    """Write a made file of a grid's carbon intensity, two days by the hour, as :func:`tg.best_window` reads it.

    The figures are made, and the header of the CSV file says so: a grid with sun at noon and gas in the evening. They
    stand for no country and no day.

    Raises:
        ValueError: There is a file of this name.

    Example:
        >>> import tempfile
        >>> path = write_example_series(tempfile.mkdtemp() + "/made.csv")
        >>> path.read_text(encoding="utf-8").splitlines()[:2]
        ['timestamp,made carbon intensity (gCO2eq/kWh)', '2026-06-01T00:00+00:00,340']
    """
    start, lines = datetime(2026, 6, 1, tzinfo=timezone.utc), ["timestamp,made carbon intensity (gCO2eq/kWh)"]
    for hour in range(48):
        sun, evening = max(0.0, math.sin(math.pi * (hour % 24 - 6) / 14)), math.exp(-(((hour % 24 - 20) / 2) ** 2))
        grams = 340 - (150 + 2 * hour) * sun + 90 * evening
        lines.append(f"{(start + timedelta(hours=hour)).isoformat(timespec='minutes')},{grams:.0f}")
    if Path(path).exists():
        fix = "Give another name, or delete it first."
        raise invalid_value("path", expected="the name of a new file", received=str(path), fix=fix)
    return write_atomic(Path(path), "\n".join(lines) + "\n")


# The number of a row, the header of a file included, its time and its kilograms per kWh.
_Row: TypeAlias = "tuple[int, datetime, float]"


def _file_rows(path: Path, column: str | None) -> tuple[str, Iterator[_Row]]:
    """The heading of the intensities, and the rows."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: not a readable CSV file: {error}") from error
    head = text.split("\n", 1)[0]
    rows = csv.reader(text.splitlines(), delimiter=max(",;\t", key=head.count))
    headings = [heading.strip() for heading in next(rows, [])]
    units = {place: unit for place, unit in enumerate(map(_unit, headings)) if unit}
    times = [place for place, heading in enumerate(headings) if place not in units and _TIME.search(heading)]
    if len(times) != 1 or not units:
        fix = "Name them such as 'timestamp,intensity (gCO2eq/kWh)', and leave out further columns of times."
        expected = "one column of times, and one whose heading has the unit, g or kg per kWh"
        raise invalid_value(f"{path}, header", expected=expected, received=headings, fix=fix)
    place, unit = _chosen(path, {headings[place]: (place, unit) for place, unit in units.items()}, column)
    zone = _zone(headings[times[0]])
    return headings[place], _rows_of(path, rows, headings, (times[0], place, unit, zone))


def _rows_of(
    path: Path, rows: Any, headings: list[str], how: tuple[int, int, float, timezone | None]
) -> Iterator[_Row]:
    time_at, place, unit, zone = how
    for row in rows:
        if row:
            where = f"{path}, row {rows.line_num}"
            if len(row) != len(headings):
                expected = f"{len(headings)} cells, as in the header"
                raise invalid_value(where, expected=expected, received=row)
            time, kg = _read(where, row[time_at].strip(), row[place], unit)
            yield rows.line_num, time if time.tzinfo else time.replace(tzinfo=zone), kg


def _chosen(path: Path, found: dict[str, tuple[int, float]], column: str | None) -> tuple[int, float]:
    """The place and the unit of the column of intensities that is asked for, or of the only one."""
    if column is None and len(found) == 1:
        return next(iter(found.values()))
    if column not in found:
        expected, fix = f"one of {', '.join(map(repr, found))}, the columns of {path}", ""
        if column is None:
            fix = f"Name one, such as column={next(iter(found))!r}."
        raise invalid_value("column", expected=expected, received=repr(column), fix=fix)
    return found[column]


def _zone(heading: str) -> timezone | None:
    """The zone of times that name none, from a heading such as "Datetime (UTC)" or "time (UTC+1)"."""
    found = _ZONE.search(heading)
    if found is None:
        return None
    offset = timedelta(hours=int(found[2] or 0), minutes=int(found[3] or 0))
    return timezone(-offset if found[1] == "-" else offset)


def _pair_rows(pairs: Iterable[object]) -> Iterator[_Row]:
    for number, pair in enumerate(pairs, 1):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise invalid_value(f"series, row {number}", expected="a time and kg per kWh", received=repr(pair))
        yield number, *_read(f"series, row {number}", pair[0], pair[1], 1.0)


def _unit(heading: str) -> float | None:
    """What turns the unit in a heading into kilograms per kWh, or None where it names none."""
    found = _UNIT.search(re.sub(r"[^a-z0-9]+", " ", heading.lower().replace("\u2082", "2")))
    return _GRAMS[found[1][0]] if found else None


def _read(where: str, time: object, value: object, unit: float) -> tuple[datetime, float]:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise invalid_value(where, expected="a carbon intensity >= 0", received=repr(value))
    return parsed_time(where, time), number * unit


def _even_step(name: str, rows: tuple[int, ...], times: tuple[datetime, ...]) -> timedelta:
    """The time from each row to the next, or an error that names the first row where it is another."""

    def misplaced(place: int, expected: str, fix: str) -> InvalidValueError:
        received = times[place].isoformat()
        return invalid_value(f"{name}, row {rows[place]}", expected=expected, received=received, fix=fix)

    for place, time in enumerate(times):
        if time.utcoffset() != times[0].utcoffset():
            fix = "Write all times in UTC, with +00:00."
            raise misplaced(place, f"the time zone of row {rows[0]} ({times[0].isoformat()})", fix)
    apart = [later - earlier for earlier, later in zip(times, times[1:])]
    for place, gap in enumerate(apart, 1):
        if gap <= timedelta(0):
            before = f"a time after that of row {rows[place - 1]} ({times[place - 1].isoformat()})"
            raise misplaced(place, before, "Sort the rows by time." if gap else "It stands there twice: leave one out.")
    step = statistics.mode(apart)
    for place, gap in enumerate(apart, 1):
        if gap != step:
            expected = f"{(times[place - 1] + step).isoformat()}, {step} after row {rows[place - 1]}"
            fix = "Fill the gap with figures of your own, or keep the rows on one side of it."
            raise misplaced(place, expected, fix)
    return step

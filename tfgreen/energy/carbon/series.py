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
from typing import TypeAlias

from tfgreen.errors import FileError, InvalidValueError, invalid_type, invalid_value
from tfgreen.files import write_atomic
from tfgreen.typing import FilePath

Series: TypeAlias = "FilePath | Iterable[tuple[datetime | str, float]]"

_UNIT = re.compile(r"\b(kg|kilograms?|g|grams?)( ?co2e?q?)?( eq\w*)?( of co2\w*)?( per)? kwh\b")
_TIME = re.compile(r"time|date", re.IGNORECASE)
_GRAMS = {"k": 1.0, "g": 1e-3}  # by the first letter of the unit


@dataclasses.dataclass(frozen=True)
class IntensitySeries:
    """Kilograms of CO2 equivalent per kWh, each from its time to the next one; all ``step`` apart."""

    times: tuple[datetime, ...]
    kg_per_kwh: tuple[float, ...]
    step: timedelta
    source: str


def read_series(series: Series) -> IntensitySeries:
    """Read a CSV file, whose header names the unit, or pairs of a time and kilograms per kWh."""
    if isinstance(series, (str, os.PathLike)):
        rows, source = list(_file_rows(Path(series))), f"{series}"
    elif isinstance(series, Iterable):
        pairs = series.items() if hasattr(series, "items") else series
        rows, source = list(_pair_rows(pairs)), "pairs of a time and kg per kWh"
    else:
        raise invalid_type("series", expected="the path of a CSV file, or (time, kg per kWh) pairs", received=series)
    if len(rows) < 2:
        raise invalid_value("series", expected="two rows or more", received=f"{len(rows)}")
    times, values = zip(*rows)
    return IntensitySeries(times, values, _even_step(times), source)


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
    return write_atomic(Path(path), "\n".join(lines) + "\n")


def _file_rows(path: Path) -> Iterator[tuple[datetime, float]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: not a readable CSV file: {error}") from error
    head = text.split("\n", 1)[0]
    rows = csv.reader(text.splitlines(), delimiter=max(",;\t", key=head.count))
    headings = next(rows, [])
    units = {place: unit for place, unit in enumerate(map(_unit, headings)) if unit}
    times = [place for place, heading in enumerate(headings) if place not in units and _TIME.search(heading)]
    if len(times) != 1 or len(units) != 1:
        fix = "Name them such as 'timestamp,intensity (gCO2eq/kWh)', and leave out further columns of this kind."
        expected = "one column of times, and one whose heading has the unit, g or kg per kWh"
        raise invalid_value(f"{path}, header", expected=expected, received=headings, fix=fix)
    (place, unit), = units.items()
    for number, row in enumerate(rows, 1):
        if row:
            if len(row) != len(headings):
                expected = f"{len(headings)} cells, as in the header"
                raise invalid_value(f"{path}, row {number}", expected=expected, received=row)
            yield _row(f"{path}, row {number}", row[times[0]], row[place], unit)


def _pair_rows(pairs: Iterable[object]) -> Iterator[tuple[datetime, float]]:
    for number, pair in enumerate(pairs, 1):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise invalid_value(f"series, row {number}", expected="a time and kg per kWh", received=repr(pair))
        yield _row(f"series, row {number}", pair[0], pair[1], 1.0)


def _unit(heading: str) -> float | None:
    """What turns the unit in a heading into kilograms per kWh, or None where it names none."""
    found = _UNIT.search(re.sub(r"[^a-z0-9]+", " ", heading.lower().replace("\u2082", "2")))
    return _GRAMS[found[1][0]] if found else None


def _row(where: str, time: object, value: object, unit: float) -> tuple[datetime, float]:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise invalid_value(where, expected="a carbon intensity >= 0", received=repr(value))
    return parsed_time(where, time), number * unit


def _even_step(times: tuple[datetime, ...]) -> timedelta:
    """The time from each row to the next, or an error that names the first row where it is another."""
    for number, time in enumerate(times[1:], 2):
        if time.utcoffset() != times[0].utcoffset():
            fix = "Write all times in UTC, with +00:00."
            raise _misplaced(number, time, f"the time zone of row 1 ({times[0].isoformat()})", fix)
    apart = [later - earlier for earlier, later in zip(times, times[1:])]
    for number, (earlier, gap) in enumerate(zip(times, apart), 2):
        if gap <= timedelta(0):
            twice = "it stands there twice" if not gap else "rows are in the order of time"
            raise _misplaced(number, times[number - 1], f"a time after row {number - 1} ({earlier.isoformat()})", twice)
    step = statistics.mode(apart)
    for number, (earlier, gap) in enumerate(zip(times, apart), 2):
        if gap != step:
            fix = "Fill the gap with figures of your own, or keep the rows on one side of it."
            raise _misplaced(number, times[number - 1], f"{(earlier + step).isoformat()}, {step} after the last", fix)
    return step


def _misplaced(number: int, time: datetime, expected: str, fix: str) -> InvalidValueError:
    return invalid_value(f"series, row {number}", expected=expected, received=time.isoformat(), fix=fix)

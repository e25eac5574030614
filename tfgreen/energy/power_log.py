"""PowerLog: the readings of a power meter outside of the machine, as a CSV file that another program writes."""

from __future__ import annotations

import bisect
import csv
import datetime
import math
import os
import re
import statistics
from pathlib import Path

from tfgreen.checks import check_instance, check_number
from tfgreen.errors import invalid_value
from tfgreen.typing import FilePath

_TIME = re.compile(r"^(timestamp|time)(?:[ _(\[]*(s|ms)[)\]]*)?$", re.IGNORECASE)
_POWER = re.compile(r"^(?:power[ _(\[]*)?(w|watts?|mw|milliwatts?)[)\]]*$", re.IGNORECASE)
_GAP = 5  # rows further apart than so many of their median distances
_RECENT = 30  # rows
_EXPECTED = "a header with a column 'timestamp' (Unix seconds or ISO 8601) and one of power with its unit, 'watts'"


class PowerLog:
    """A CSV file of timestamps and watts, read while another program appends to it.

    For USB and INA meters, the tools of a Jetson, or anything that can write a line per reading. The first line names
    the columns: ``timestamp`` (Unix seconds, or ISO 8601; ``timestamp_ms`` for milliseconds) and the power with its
    unit (``watts``, ``power_w``, ``milliwatts`` or ``power_mw``); other columns are left alone. Commas, semicolons or
    tabs divide them. Power between two rows is taken to be on a straight line.

    Args:
        path: The file. It must hold its header and two rows.

    Attributes:
        path: The file.

    Raises:
        ValueError: There is no file, a column or its unit is missing, a row is not a time and a power, times go
            backwards, or rows are missing: more than five times the usual distance lies between two.

    Example:
        >>> import os, time, tfgreen as tg
        >>> now = time.time()
        >>> with open("usb_meter.csv", "w") as file:
        ...     _ = file.write("timestamp,watts\\n" + "".join(f"{now + t},5.0\\n" for t in range(-3, 3)))
        >>> log = tg.PowerLog("usb_meter.csv")
        >>> log.joules_until(now) - log.joules_until(now - 2)
        10.0
        >>> with tg.EnergyMeter(external=log) as meter:
        ...     _ = sum(range(1_000_000))
        >>> meter.reading.source
        'external'
    """

    def __init__(self, path: FilePath) -> None:
        check_instance("path", path, (str, os.PathLike), "the path of a CSV file")
        self.path = Path(path)
        if not self.path.is_file():
            raise invalid_value("path", expected="a CSV file that exists", received=str(path))
        self._offset = self._row = 0
        self._times: list[float] = []
        self._watts: list[float] = []
        self._joules: list[float] = []
        self._more()
        if len(self._times) < 2:
            received = f"{len(self._times)} rows"
            raise invalid_value(str(self.path), expected="two rows of readings or more", received=received)

    @property
    def period_s(self) -> float:
        """Seconds between two of the last rows, their median."""
        last = self._times[-_RECENT:]
        return statistics.median(b - a for a, b in zip(last, last[1:]))

    def joules_until(self, seconds: float) -> float:
        """Joules from the first row to a moment in Unix seconds, whatever has been appended until now included.

        Raises:
            ValueError: The moment is before the first row, or so long after the last that rows are missing; or as for
                the class.
        """
        check_number("seconds", seconds)
        self._more()
        times, watts = self._times, self._watts
        after = seconds - times[-1]
        if seconds < times[0] or after > _GAP * self.period_s:
            where = f"{after:.3g} s after the last row" if after > 0 else f"{times[0] - seconds:.3g} s before the first"
            is_ms = times[0] > 100 * seconds > 0
            fix = "Name the column 'timestamp_ms' if its times are milliseconds." if is_ms else ""
            raise invalid_value(str(self.path), expected="rows of the time that is measured", received=where, fix=fix)
        index = bisect.bisect_right(times, seconds) - 1
        passed = seconds - times[index]
        if index + 1 == len(times):
            return self._joules[index] + passed * watts[index]
        slope = (watts[index + 1] - watts[index]) / (times[index + 1] - times[index])
        return self._joules[index] + passed * (watts[index] + slope * passed / 2)

    def _more(self) -> None:
        """Read the whole lines that were appended."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text, end, _ = file.read().rpartition(b"\n")
        self._offset += len(text) + len(end)
        for line in text.decode("utf-8", errors="replace").splitlines():
            self._row += 1
            if self._row == 1:
                line = line.removeprefix("\ufeff")
                self._delimiter = max(",;\t", key=line.count)
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=self._delimiter), [])]
            if self._row == 1:
                self._columns(cells)
            elif line.strip():
                self._append(cells)

    def _columns(self, names: list[str]) -> None:
        times = [(index, match) for index, name in enumerate(names) if (match := _TIME.match(name))]
        powers = [(index, match) for index, name in enumerate(names) if (match := _POWER.match(name))]
        for found, what in ((times, "time"), (powers, "power")):
            if len(found) > 1:
                several = f"{len(found)}: {', '.join(repr(names[index]) for index, _ in found)}"
                fix = "Leave the others out, or give them other names."
                raise invalid_value(f"{self.path}, row 1", expected=f"one column of {what}", received=several, fix=fix)
        if not times or not powers:
            raise invalid_value(f"{self.path}, row 1", expected=_EXPECTED, received=names)
        (self._time_at, time), (self._power_at, power) = times[0], powers[0]
        self._second = 1e-3 if time[2] == "ms" else 1.0
        self._watt = 1e-3 if power[1].lower().startswith("m") else 1.0

    def _append(self, cells: list[str]) -> None:
        where = f"{self.path}, row {self._row}"
        try:
            moment = _seconds(cells[self._time_at]) * self._second
            watts = float(cells[self._power_at]) * self._watt
        except (ValueError, IndexError):
            fix = "Write decimals with a point." if any("," in cell for cell in cells) else ""
            raise invalid_value(where, expected="a time and a power", received=cells, fix=fix) from None
        if not (math.isfinite(moment) and 0 <= watts < math.inf):
            raise invalid_value(where, expected="a time, and a power of 0 or more", received=cells)
        joules = 0.0
        if self._times:
            passed = moment - self._times[-1]
            if passed <= 0:
                raise invalid_value(where, expected="a time after that of the row before", received=cells)
            if len(self._times) > 2 and passed > _GAP * self.period_s:
                expected = f"rows about {self.period_s:.3g} s apart"
                raise invalid_value(where, expected=expected, received=f"a gap of {passed:.3g} s")
            joules = self._joules[-1] + passed * (watts + self._watts[-1]) / 2
        self._times.append(moment)
        self._watts.append(watts)
        self._joules.append(joules)


def _seconds(text: str) -> float:
    """Unix seconds of a number or an ISO 8601 time, of this machine's zone where it names none."""
    try:
        return float(text)
    except ValueError:
        return datetime.datetime.fromisoformat(text).timestamp()

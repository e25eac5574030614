"""best_window: the time to run a job of known length, within a series of a grid's carbon intensity."""

from __future__ import annotations

import bisect
import dataclasses
from datetime import datetime, timedelta
from typing import ClassVar

from tfgreen.checks import check_number
from tfgreen.energy.carbon.grid import doubt
from tfgreen.energy.carbon.series import IntensitySeries, Series, parsed_time, read_series
from tfgreen.errors import invalid_value
from tfgreen.tables import TableResult
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True, repr=False)
class BestWindow(TableResult):
    """The hours of least carbon for a job, beside starting at once and the mean.

    Attributes:
        start, end: The window, in the time zone of the series.
        kg_per_kwh: Mean kilograms of CO2 equivalent per kWh in it; times the job's kWh it is the job's footprint.
        now, now_kg_per_kwh: The earliest start, and the intensity of a job that starts then.
        deadline, mean_kg_per_kwh: The latest end, and the mean from ``now`` to it.
        saved_against_now, saved_against_mean: Shares saved, 0 to 1, for a job that draws steadily.
        source, note: Where the series comes from, and what it does not reach, or "".
    """

    start: datetime
    end: datetime
    kg_per_kwh: float
    now: datetime
    now_kg_per_kwh: float
    deadline: datetime
    mean_kg_per_kwh: float
    saved_against_now: float
    saved_against_mean: float
    source: str
    note: str

    _headings: ClassVar[tuple[str, ...]] = ("when", "from", "to", "kg per kWh", "the window saves")
    _left = 3

    def _headline(self) -> str:
        return f"{_shown(self.start)} to {_shown(self.end)}, saves {self.saved_against_now:.0%} against starting now"

    def _rows(self) -> list[tuple[str, ...]]:
        def row(name: str, start: datetime, end: datetime, kg: float, saved: str) -> tuple[str, ...]:
            return name, _shown(start), _shown(end), f"{kg:.4g}", saved

        length = self.end - self.start
        now, mean = f"{self.saved_against_now:.1%}", f"{self.saved_against_mean:.1%}"
        return [
            row("best window", self.start, self.end, self.kg_per_kwh, ""),
            row("starting now", self.now, self.now + length, self.now_kg_per_kwh, now),
            row("mean", self.now, self.deadline, self.mean_kg_per_kwh, mean),
        ]

    def _remarks(self) -> list[str]:
        return [f"carbon intensity: {self.source}", *([self.note] if self.note else [])]

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, times after ISO 8601."""
        fields = super().to_dict().items()
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields}


def best_window(
    series: Series, hours: float, deadline: datetime | str | None = None, *, now: datetime | str | None = None,
    column: str | None = None,
) -> BestWindow:
    """Find the time of least carbon to run a job of ``hours``, in one piece, and what that saves.

    A figure holds from its time to the next one, and the last as long as the others; starts between two rows are
    tried too. The saving is that of a job whose power does not change.

    Args:
        series: The carbon intensity of the grid, equally far apart: the path of a CSV file with a column of times
            (ISO 8601; a heading such as ``"Datetime (UTC)"`` may name their zone) and one whose heading names the
            unit, such as ``"gCO2eq/kWh"`` or ``"kg per kWh"``; or pairs of a time and kilograms per kWh.
            :func:`tg.write_example_series` writes such a file.
        hours: Length of the job, >= 0.001.
        deadline: When the job must be done, or None for the end of the series.
        now: The earliest start, or None for the start of the series; ``datetime.now(timezone.utc)`` for today's.
        column: The heading of the intensities, where a file has several columns of them.

    Raises:
        ValueError: The series has a gap, a time that is double, out of order or in another time zone (the error names
            the row), or no unit; the deadline is over, or the job does not fit before it.
        OSError: The file cannot be read.
        TypeError: An argument is of the wrong type.

    Example:
        >>> hourly = [("2026-06-01T00:00Z", 0.4), ("2026-06-01T01:00Z", 0.2), ("2026-06-01T02:00Z", 0.3)]
        >>> best = best_window(hourly, hours=1.5)
        >>> best.start.isoformat(timespec="minutes"), round(best.kg_per_kwh, 4), round(best.saved_against_now, 3)
        ('2026-06-01T01:00+00:00', 0.2333, 0.3)
    """
    check_number("hours", hours, minimum=0.001, maximum=1e6)
    found = read_series(series, column)
    length, first, last = timedelta(hours=hours), found.times[0], found.times[-1] + found.step
    earliest = first if now is None else _moment("now", now, first)
    latest = last if deadline is None else _moment("deadline", deadline, first)
    if not first <= earliest < last:
        expected = f"a time within the series, {_shown(first)} to {_shown(last)}"
        raise invalid_value("now", expected=expected, received=_shown(earliest))
    if latest <= earliest:
        after = "the start of the series" if now is None else "now"
        expected = f"a time after {after}, {_shown(earliest)}"
        fix = "That deadline is over: give a later one."
        raise invalid_value("deadline", expected=expected, received=_shown(latest), fix=fix)
    note = f"The series ends before the deadline, {_shown(latest)}: later times are not known." if latest > last else ""
    latest = min(latest, last)
    if earliest + length > latest:
        room = f"{(latest - earliest) / timedelta(hours=1):,.6g} h from {_shown(earliest)} to {_shown(latest)}"
        fix = "Give a later deadline, or a longer series."
        raise invalid_value("hours", expected=f"at most the {room}", received=hours, fix=fix)
    edges = [*found.times, last]
    starts = {earliest, latest - length, *edges, *(edge - length for edge in edges)}
    means = {start: _mean(found, start, start + length) for start in starts if earliest <= start <= latest - length}
    best = min(sorted(means), key=lambda start: round(means[start], 12))  # the earliest of equal ones
    mean = _mean(found, earliest, latest)
    return BestWindow(
        start=best,
        end=best + length,
        kg_per_kwh=means[best],
        now=earliest,
        now_kg_per_kwh=means[earliest],
        deadline=latest,
        mean_kg_per_kwh=mean,
        saved_against_now=_saved(means[best], means[earliest]),
        saved_against_mean=_saved(means[best], mean),
        source=found.source + doubt(max(found.kg_per_kwh)),
        note=note,
    )


def _mean(series: IntensitySeries, start: datetime, end: datetime) -> float:
    """The mean of the figures between two times, each weighted with how long it holds."""
    first, last = bisect.bisect_right(series.times, start), bisect.bisect_left(series.times, end)
    edges = [start, *series.times[first:last], end]
    values = series.kg_per_kwh[first - 1 : last]
    return sum((later - earlier) / (end - start) * kg for earlier, later, kg in zip(edges, edges[1:], values))


def _saved(best: float, other: float) -> float:
    return max(0.0, 1 - best / other) if other else 0.0


def _moment(name: str, value: datetime | str, like: datetime) -> datetime:
    """A time of the caller's in the time zone of the series."""
    moment = parsed_time(name, value)
    if (moment.tzinfo is None) != (like.tzinfo is None):
        expected = "a time without a time zone, as in the series" if like.tzinfo is None else "a time with a time zone"
        raise invalid_value(name, expected=expected, received=moment.isoformat())
    return moment if like.tzinfo is None else moment.astimezone(like.tzinfo)


def _shown(time: datetime) -> str:
    return time.isoformat(sep=" ", timespec="minutes")

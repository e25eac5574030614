"""measure_inference: the joules of one call that is far too short to be read off a counter."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from tfgreen.checks import check_number
from tfgreen.energy.meter import PARTS, EnergyMeter, EnergyReading
from tfgreen.energy.sources import ComponentName, Source, weakest
from tfgreen.errors import invalid_type
from tfgreen.tables import TableResult

WINDOWS = 5
# Two-sided 95 % quantiles of Student's t for 1 to 4 degrees of freedom: at most WINDOWS windows are averaged.
STUDENT_T = (12.706, 4.303, 3.182, 2.776)


@dataclasses.dataclass(frozen=True, repr=False)
class InferenceEnergy(TableResult):
    """The mean energy and CO2 equivalent of one call, over ``runs`` calls; None where there is no reading.

    ``interval`` is the 95 % confidence interval of the mean over the windows, in joules; None for a single window. It
    says how well the figure repeats, not how accurate the source is. ``source``, ``how``, ``region`` and ``co2e_how``
    are those of the last :class:`EnergyReading`.
    """

    joules_per_inference: float | None
    runs: int
    interval: tuple[float, float] | None
    source: Source
    how: str
    duration_s: float
    region: str | None
    co2e_kg_per_inference: float | None
    co2e_how: str

    _headings: ClassVar[tuple[str, ...]] = ("figure", "value", "how")
    _left = -1

    def _headline(self) -> str:
        return f"{self._rows()[0][1]} ({self.source}) per inference"

    def _rows(self) -> list[tuple[str, str, str]]:
        energy = "-" if self.joules_per_inference is None else f"{self.joules_per_inference:.3g} J"
        spread = f", 95 % interval {self.interval[0]:.3g} to {self.interval[1]:.3g} J" if self.interval else ""
        co2e = "-" if self.co2e_kg_per_inference is None else f"{self.co2e_kg_per_inference:.3g} kg"
        how = f"{self.source}: {self.how}"
        return [("energy per inference", energy + spread, how), ("CO2e per inference", co2e, self.co2e_how)]


def measure_inference(
    run: Callable[[], object],
    *,
    min_seconds: float = 5.0,
    region: str | None = None,
    components: Sequence[ComponentName] = PARTS,
    cpu_watts: float | None = None,
) -> InferenceEnergy:
    """The energy of one call of ``run``, called until ``min_seconds`` have passed; the other arguments: EnergyMeter's.

    A first call is not counted, since it allocates and fills caches. The time is cut into up to five windows whose
    spread gives the confidence interval. A GPU's counter steps every 0.1 s: 5 s keep that error near 2 % per window.
    """
    if not callable(run):
        raise invalid_type("run", expected="a callable without arguments", received=run)
    check_number("min_seconds", min_seconds, above=0)
    meter = EnergyMeter(region, components=components, cpu_watts=cpu_watts)
    run()
    windows: list[tuple[EnergyReading, int]] = []
    while sum(reading.duration_s for reading, _ in windows) < min_seconds:
        runs = 0
        with meter:
            end = time.perf_counter() + min_seconds / WINDOWS
            while runs == 0 or time.perf_counter() < end:
                run()
                runs += 1
        windows.append((meter.reading, runs))
    return _per_run(windows)


def _per_run(windows: list[tuple[EnergyReading, int]]) -> InferenceEnergy:
    runs = sum(count for _, count in windows)
    readings = [reading for reading, _ in windows]
    # What stands for all of them in words: one without energy if there is any.
    chosen = next((reading for reading in readings if reading.joules is None), readings[-1])
    joules = co2e = interval = None
    source: Source = "unavailable"
    if chosen.joules is not None:
        source = weakest(reading.source for reading in readings)
        joules = sum(reading.joules or 0.0 for reading in readings) / runs
        interval = _confidence(joules, [(reading.joules or 0.0) / count for reading, count in windows])
        if chosen.region is not None:
            co2e = sum(reading.co2e_kg or 0.0 for reading in readings) / runs
    how = f"{runs} runs in {len(windows)} window(s); {chosen.how}"
    duration = sum(reading.duration_s for reading in readings)
    return InferenceEnergy(joules, runs, interval, source, how, duration, chosen.region, co2e, chosen.co2e_how)


def _confidence(mean: float, values: list[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of up to five values (Student's t); windows hold about equally many runs."""
    count = len(values)
    if not 2 <= count <= WINDOWS:
        return None
    half = STUDENT_T[count - 2] * statistics.stdev(values) / math.sqrt(count)
    return max(0.0, mean - half), mean + half

"""The joules of calls that are far too short to be read off a counter, and whether two of them differ."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Literal

from tfgreen.checks import check_option
from tfgreen.energy.meter import EnergyMeter, EnergyReading
from tfgreen.energy.probes import FEW_STEPS
from tfgreen.energy.sources import Source, joules_text, unit_text, weakest
from tfgreen.tables import TableResult
from tfgreen.typing import PlainDict

# The median of so many windows lies between their lowest and highest with a probability of 1 - 2 / 2 ** 7 = 98 %,
# however they are distributed (the interval of the sign test).
WINDOWS = 7
# How far the medians of two runs lie apart on a quiet machine, for reasons that last longer than a run and that none of
# its windows shows: the clock, the temperature, neighbours on the same host. A hundred runs of a second each lay
# between 0.97 and 1.02 of their median (`scripts/bench_energy.py repeats`).
REPEATABILITY = 0.04
Verdict = Literal["less", "more", "no difference shown"]


@dataclasses.dataclass(frozen=True, repr=False)
class InferenceEnergy(TableResult):
    """The energy and CO2 equivalent of one inference; None where there is no reading.

    Attributes:
        joules_per_inference: The median over windows of many inferences each. What counters read holds the idle power
            of the machine; an estimate is of this process alone.
        interval: The lowest and the highest window, in joules: the median of ever more windows lies between them with
            a probability of 98 %. It is at least 4 % to each side, since a machine is faster or slower for longer than
            a run. It says how well the figure repeats, not how accurate the source is.
        net_joules_per_inference: The same without idle power, as in :class:`tg.EnergyReading`.
        windows: Joules per inference of each window.
        runs: Inferences that were measured.
        source, how, region, co2e_how: Those of the :class:`tg.EnergyReading` of the last window, or of the first that
            has no energy.
        duration_s: Seconds of all windows.
        co2e_kg_per_inference: Kilograms of CO2 equivalent, or None.
    """

    joules_per_inference: float | None
    interval: tuple[float, float] | None
    net_joules_per_inference: float | None
    windows: tuple[float, ...]
    runs: int
    source: Source
    how: str
    duration_s: float
    region: str | None
    co2e_kg_per_inference: float | None
    co2e_how: str

    _headings: ClassVar[tuple[str, ...]] = ("figure", "value", "how")
    _left = -1

    def _headline(self) -> str:
        return f"{joules_text(self.joules_per_inference, self.interval)} ({self.source}) per inference"

    def _rows(self) -> list[tuple[str, str, str]]:
        energy = joules_text(self.joules_per_inference, self.interval)
        rows = [("energy per inference", energy, f"{self.source}: {self.how}")]
        if self.net_joules_per_inference is not None and self.source != "estimate":
            rows.append(("without idle power", unit_text(self.net_joules_per_inference, "J"), "as it was read first"))
        return [*rows, ("CO2e per inference", unit_text(self.co2e_kg_per_inference, "kg"), self.co2e_how)]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EnergyComparison(TableResult, Mapping[str, InferenceEnergy]):
    """A mapping from the names of models that were measured in turn to their energies; prints as a table.

    Attributes:
        results: The same as a plain mapping.
        ratios: For each model its energy over that of the first, with the lowest and highest of the rounds: the median
            of ever more rounds lies between them with a probability of 98 %. None where there is no reading.
    """

    results: Mapping[str, InferenceEnergy]
    ratios: Mapping[str, tuple[float, float, float] | None]

    _headings: ClassVar[tuple[str, ...]] = ("model", "per inference", "of the first", "verdict")
    _left = (0, 1, 2, 3)

    def __getitem__(self, name: str) -> InferenceEnergy:
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def verdict(self, name: str) -> Verdict:
        """Whether a model needs ``"less"`` or ``"more"`` energy than the first, or ``"no difference shown"``.

        A difference is shown where every round had it in the same direction. Raises ``ValueError`` for a name that was
        not measured.
        """
        check_option("name", name, tuple(self.ratios))
        ratio = self.ratios[name]
        if ratio is None or ratio[1] <= 1 <= ratio[2]:
            return "no difference shown"
        return "less" if ratio[2] < 1 else "more"

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, and ``"verdicts"``."""
        return {**super().to_dict(), "verdicts": {name: self.verdict(name) for name in list(self)[1:]}}

    def _headline(self) -> str:
        return ", ".join(f"{name} {unit_text(item.joules_per_inference, 'J')}" for name, item in self.items())

    def _rows(self) -> list[tuple[str, str, str, str]]:
        first, rows = next(iter(self)), list[tuple[str, str, str, str]]()
        for name, item in self.items():
            ratio = self.ratios[name]
            times = "-" if ratio is None or name == first else f"x {ratio[0]:.3g} ({ratio[1]:.3g} to {ratio[2]:.3g})"
            verdict = "" if name == first else self.verdict(name)
            rows.append((name, joules_text(item.joules_per_inference, item.interval), times, verdict))
        return rows

    def _remarks(self) -> list[str]:
        name, first = next(iter(self.items()))
        return [f"source of '{name}': {first.source}; {first.how}"]


def measure_in_turn(
    calls: Mapping[str, Callable[[], object]], meter: EnergyMeter, seconds: float
) -> dict[str, InferenceEnergy]:
    """The energy of one call of each, over seven windows of each in turn, ``seconds`` in all for each.

    A first call is not counted, since it allocates and fills caches. Windows are lengthened to ten updates of the
    slowest counter.
    """
    for call in calls.values():
        call()
    with meter:
        next(iter(calls.values()))()
    update = max(part.update_s for part in meter.reading.components)
    window = max(seconds / WINDOWS, FEW_STEPS * update)
    found: dict[str, list[tuple[EnergyReading, int]]] = {name: [] for name in calls}
    for _ in range(WINDOWS):
        for name, call in calls.items():
            runs = 0
            with meter:
                end = time.perf_counter() + window
                while runs == 0 or time.perf_counter() < end:
                    call()
                    runs += 1
            found[name].append((meter.reading, runs))
    return {name: _per_run(windows) for name, windows in found.items()}


def compare(results: Mapping[str, InferenceEnergy]) -> EnergyComparison:
    """Set energies that were measured in turn beside the first of them, round by round."""
    first = next(iter(results.values())).windows
    ratios: dict[str, tuple[float, float, float] | None] = {}
    for name, item in results.items():
        found = [one / other for one, other in zip(item.windows, first)]
        ratios[name] = (statistics.median(found), min(found), max(found)) if found else None
    return EnergyComparison(dict(results), ratios)


def _per_run(windows: list[tuple[EnergyReading, int]]) -> InferenceEnergy:
    runs, readings = sum(count for _, count in windows), [reading for reading, _ in windows]
    # What stands for all of them in words: one without energy if there is any.
    chosen = next((reading for reading in readings if reading.joules is None), readings[-1])
    duration = sum(reading.duration_s for reading in readings)
    is_read = chosen.joules is not None
    brackets = f", lowest to highest in brackets, and at least {REPEATABILITY:.0%} to each side" if is_read else ""
    how = f"{runs} runs in {len(windows)} windows{brackets}; the last one: {chosen.how}"
    joules = net = interval = co2e = None
    values: tuple[float, ...] = ()
    source: Source = "unavailable"
    if chosen.joules is not None:
        source = weakest(reading.source for reading in readings)
        values = tuple((reading.joules or 0.0) / count for reading, count in windows)
        joules = statistics.median(values)
        interval = (min(*values, (1 - REPEATABILITY) * joules), max(*values, (1 + REPEATABILITY) * joules))
        if chosen.net_joules is not None:
            net = statistics.median((reading.net_joules or 0.0) / count for reading, count in windows)
        if chosen.co2e_kg is not None:
            co2e = joules * chosen.co2e_kg / chosen.joules
    return InferenceEnergy(
        joules, interval, net, values, runs, source, how, duration, chosen.region, co2e, chosen.co2e_how
    )

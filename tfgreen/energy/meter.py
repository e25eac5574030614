"""EnergyMeter: the joules of a block of code, how they were obtained, and what they emit."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import ClassVar, TypeVar

from tfgreen.checks import check_number
from tfgreen.energy import codecarbon
from tfgreen.energy.carbon.grid import GridIntensity, grid_intensity
from tfgreen.energy.probes import Probe, probes
from tfgreen.energy.sources import COMPONENTS, ComponentName, EnergyComponent, Source, unavailable
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.tables import TableResult
from tfgreen.typing import PlainDict

T = TypeVar("T")
JOULES_PER_KWH = 3.6e6
NO_REGION = "no region was given; pass one, such as EnergyMeter(region='DEU')"


@dataclasses.dataclass(frozen=True, repr=False)
class EnergyReading(TableResult):
    """What a block of code used; prints as a table of its components.

    Attributes:
        joules: Energy of all components that were read, or None. Never 0 for "no reading".
        duration_s: Wall-clock seconds of the block.
        interval: Lowest and highest joules: for a measurement from the time between two updates of the counter, for an
            estimate from the published spread of its constant. None where nothing is known about the error.
        source: ``"measured"`` (every component by a hardware counter), ``"estimated"`` (at least one component from
            load, time and a constant) or ``"unavailable"``.
        how: By which method each component was read, or why it was not.
        components: The parts, in the order cpu, gpu, ram.
        region: ISO 3166 alpha-3 code that was given, or None.
        co2e_kg: Kilograms of CO2 equivalent, or None.
        co2e_how: Where ``co2e_kg`` comes from, or why it is None.
        intensity: Grid intensity used, with its data set and year, or None.

    Example:
        >>> with EnergyMeter(components=("cpu",)) as meter:
        ...     _ = sum(i * i for i in range(100_000))
        >>> [part.name for part in meter.reading.components], meter.reading.co2e_kg
        (['cpu'], None)
    """

    joules: float | None
    duration_s: float
    interval: tuple[float, float] | None
    source: Source
    how: str
    components: tuple[EnergyComponent, ...]
    region: str | None
    co2e_kg: float | None
    co2e_how: str
    intensity: GridIntensity | None

    _headings: ClassVar[tuple[str, ...]] = ("component", "energy", "source", "how")
    _left = -1

    @property
    def kwh(self) -> float | None:
        """The same energy in kilowatt-hours, or None."""
        return None if self.joules is None else self.joules / JOULES_PER_KWH

    def _headline(self) -> str:
        return f"{_joules(self)} ({self.source}) in {self.duration_s:.3g} s"

    def _rows(self) -> list[tuple[str, ...]]:
        return [(part.name, _joules(part), part.source, part.how) for part in self.components]

    def _remarks(self) -> list[str]:
        co2e = "not known" if self.co2e_kg is None else f"{self.co2e_kg:.3g} kg"
        return [f"together: {self._headline()}", f"CO2e: {co2e} ({self.co2e_how})"]

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, and ``"kwh"``."""
        return {**super().to_dict(), "kwh": self.kwh}


class EnergyMeter:
    """Measure the energy of a ``with`` block, offline.

    Counters (RAPL, NVML, AMD SMI) are read where the system allows it; they cover the whole machine. Where there is
    none, the CPU is estimated from this process's CPU time and memory from what it occupies, and the reading says so.
    Without a region there is energy but no CO2. Nothing is printed, written, sent or run with raised rights. Meters
    can be nested in each other and in themselves (the outermost block counts), and any number can run at once. Threads
    that share one get one reading, from the first that enters to the last that leaves.

    Args:
        region: ISO 3166 alpha-3 code of the country whose grid feeds the machine, or None.
        components: Which parts to count. Leave ``"gpu"`` out to measure CPU inference on a machine with an idle GPU.
        cpu_watts: Power of the CPU at full load in watts, if you know it better than the table (estimates only).
        sample_seconds: How often counters that may wrap are read in between.

    Raises:
        ValueError: The region is unknown, a component is, or a number is not positive.
        TypeError: An argument is of the wrong type.

    Example:
        >>> with EnergyMeter(region="DEU", components=("cpu", "ram")) as meter:
        ...     _ = sum(i * i for i in range(100_000))
        >>> meter.reading.joules > 0 and meter.reading.source in ("measured", "estimated")
        True
        >>> meter.reading.intensity.country
        'Germany'
    """

    def __init__(
        self,
        region: str | None = None,
        *,
        components: Sequence[ComponentName] = COMPONENTS,
        cpu_watts: float | None = None,
        sample_seconds: float = 1.0,
    ) -> None:
        self._intensity = None if region is None else grid_intensity(region)
        if isinstance(components, str) or not isinstance(components, Sequence):
            raise invalid_type("components", expected=f"a sequence of names of {COMPONENTS}", received=components)
        if not components or set(components) - set(COMPONENTS):
            raise invalid_value("components", expected=f"one or more of {COMPONENTS}", received=components)
        check_number("cpu_watts", cpu_watts, above=0, optional=True)
        check_number("sample_seconds", sample_seconds, above=0)
        self._settings = tuple(components), cpu_watts, sample_seconds
        self._depth = 0
        self._lock = threading.Lock()
        self._reading: EnergyReading | None = None

    @property
    def reading(self) -> EnergyReading:
        """The reading of the block that ended last.

        Raises:
            ValueError: No block has ended yet.
        """
        if self._reading is None or self._depth:
            state = "the block is still running" if self._depth else "the meter has not been used"
            raise invalid_state(f"There is no reading yet, because {state}.", "Read it after 'with meter: ...'.")
        return self._reading

    def __enter__(self) -> EnergyMeter:
        with self._lock:
            if not self._depth:
                self._run = _Run(*self._settings)
            self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                components, duration = self._run.stop()
                self._reading = _summarize(components, duration, self._intensity)


class _Run:
    """One block under way: the probes, and a thread that reads counters before they wrap."""

    def __init__(self, components: Sequence[ComponentName], cpu_watts: float | None, sample_seconds: float) -> None:
        self._failed: dict[ComponentName, str] = {}
        self._done = threading.Event()
        with codecarbon.quiet():
            self._probes, self._absent = probes(components, cpu_watts)
            for probe in self._probes:
                self._attempt(probe, probe.start)
        self._sampled = [probe for probe in self._probes if probe.needs_samples]
        self._thread = threading.Thread(target=self._sample, args=(sample_seconds,), daemon=True)
        self._started = self._last = time.perf_counter()
        if self._sampled:
            self._thread.start()

    def stop(self) -> tuple[list[EnergyComponent], float]:
        """Stop the thread and take the last readings; never raises, so that the block's own error gets through."""
        duration = time.perf_counter() - self._started
        self._done.set()
        if self._sampled:
            self._thread.join()
        found = list(self._absent)
        with codecarbon.quiet():
            for probe in reversed(self._probes):
                since = self._last if probe.needs_samples else self._started
                read = None
                if probe.name not in self._failed:
                    read = self._attempt(probe, probe.read, time.perf_counter() - since, duration)
                found.append(read or unavailable(probe.name, self._failed[probe.name]))
        return sorted(found, key=lambda part: COMPONENTS.index(part.name)), duration

    def _sample(self, every: float) -> None:
        with codecarbon.quiet():
            while not self._done.wait(every):
                now = time.perf_counter()
                for probe in self._sampled:
                    self._attempt(probe, probe.sample, now - self._last)
                self._last = now

    def _attempt(self, probe: Probe, method: Callable[..., T], *seconds: float) -> T | None:
        try:
            return method(*seconds)
        except Exception as error:  # a driver may fail with any class of its own; the reading names it
            self._failed[probe.name] = f"reading it failed: {type(error).__name__}: {error}"
            return None


def _joules(part: EnergyReading | EnergyComponent) -> str:
    """The energy with its unit, or a dash."""
    return "-" if part.joules is None else f"{part.joules:.3g} J"


def _summarize(components: list[EnergyComponent], duration: float, intensity: GridIntensity | None) -> EnergyReading:
    read = [part for part in components if part.joules is not None]
    bounds = [part.bounds for part in read if part.bounds is not None]
    joules, interval, co2e = None, None, None
    source: Source = "unavailable"
    if read:
        joules = sum(part.joules or 0.0 for part in read)
        source = "measured" if all(part.source == "measured" for part in read) else "estimated"
        if len(bounds) == len(read):
            interval = (sum(low for low, _ in bounds), sum(high for _, high in bounds))
    why = NO_REGION if intensity is None else "there is no energy reading"
    if intensity is not None and joules is not None:
        co2e = joules / JOULES_PER_KWH * intensity.kg_per_kwh
        why = f"{source} energy x {intensity.origin}"
    how = "; ".join(f"{part.name} {part.source}: {part.how}" for part in components)
    region = intensity.region if intensity else None
    return EnergyReading(joules, duration, interval, source, how, tuple(components), region, co2e, why, intensity)

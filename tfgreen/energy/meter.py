"""EnergyMeter: the joules of a block of code, how they were obtained, and what they emit."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import ClassVar

from tfgreen.checks import check_number
from tfgreen.energy.carbon import exports
from tfgreen.energy.carbon.grid import JOULES_PER_KWH, GridIntensity, grid_intensity
from tfgreen.energy.power_log import PowerLog
from tfgreen.energy.sampler import SHARED, Sampler
from tfgreen.energy.sources import ComponentName, EnergyComponent, Source, joules_text, unavailable, weakest
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.tables import TableResult
from tfgreen.typing import FilePath, PlainDict

PARTS: tuple[ComponentName, ...] = ("cpu", "gpu", "ram")
NO_REGION = "no region was given; pass one, such as region='DEU'"


@dataclasses.dataclass(frozen=True, repr=False)
class EnergyReading(TableResult):
    """What a block of code used; prints as a table of its components.

    Attributes:
        joules: Energy of all components that were read, or None. Never 0 for "no reading". A counter's holds the idle
            power of the machine; an estimate is of this process alone.
        net_joules: The same without the idle power that was sampled first; at least 0. None where none was sampled,
            except for an estimate, which holds none.
        idle_watts: The idle power of what counters read, or None where none was sampled.
        duration_s: Wall-clock seconds of the block.
        interval: Lowest and highest joules: for a measurement from the time between two updates of the counter, for an
            estimate from the published spread of its constant. None where nothing is known about the error.
        source: That of the least trusted component: ``"external"`` (a power meter outside of the machine), ``"rapl"``,
            ``"nvml"`` (counters of the CPU, of the GPU), ``"estimate"`` (from load, time and a constant) or
            ``"unavailable"``.
        how: By which method each component was read, or why it was not.
        components: The parts, in the order cpu, gpu, ram; or the machine, by an external meter.
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
    net_joules: float | None
    idle_watts: float | None
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

    def to_model_card(
        self, training_type: exports.TrainingType, *, geographical_location: str | None = None,
        hardware_used: str | None = None, pue: float = 1.0,
    ) -> str:
        """Return the ``co2_eq_emissions`` block of a Hugging Face model card, as YAML text; emissions are in grams.

        Paste it between the ``---`` lines of the card. The location is the country of the region and the hardware the
        CPU, unless you name them (the Hub asks for a city or province, and for the number of GPUs). ``pue`` is the
        power usage effectiveness of the building, >= 1: its energy over that of its computers.

        Raises:
            ValueError: There is no CO2 figure, ``training_type`` is neither ``"pre-training"`` nor ``"fine-tuning"``,
                or ``pue`` is below 1.
        """
        return exports.model_card(self, training_type, geographical_location, hardware_used, pue)

    def to_codecarbon(self, project_name: str = "tfgreen", *, pue: float = 1.0) -> PlainDict:
        """Return a row of CodeCarbon's ``emissions.csv``: its columns and units, None for an empty cell.

        Energy is in kWh, emissions in kg, power in watts (the mean), duration in seconds; the time is that of the call.
        ``pue`` as above.
        """
        return exports.codecarbon_row(self, project_name, pue)

    def _headline(self) -> str:
        return f"{joules_text(self.joules, self.interval)} ({self.source}) in {self.duration_s:.3g} s"

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (part.name, joules_text(part.joules, part.bounds), part.source, part.how) for part in self.components
        ]

    def _remarks(self) -> list[str]:
        co2e = "not known" if self.co2e_kg is None else f"{self.co2e_kg:.3g} kg"
        net = "not known; pass idle_seconds=5" if self.net_joules is None else f"{self.net_joules:.3g} J"
        if self.idle_watts is not None:
            net += f" ({self.idle_watts:.3g} W)"
        elif self.net_joules is not None:
            net += " (an estimate holds none)"
        return [f"together: {self._headline()}", f"without idle power: {net}", f"CO2e: {co2e} ({self.co2e_how})"]

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, and ``"kwh"``."""
        return {**super().to_dict(), "kwh": self.kwh}


class EnergyMeter:
    """Measure the energy of a ``with`` block, offline.

    Counters (RAPL, NVML, AMD SMI) are read where the system allows it; they cover the whole machine. Where there is
    none, the CPU is estimated from this process's CPU time and memory from what it occupies, and the reading says so.
    Without a region there is energy but no CO2. Nothing is printed, written, sent or run with raised rights. Meters
    can be nested in each other and in themselves (the outermost block counts), and any number can run at once: they
    share one thread that reads. Threads that share a meter get one reading, from the first that enters to the last
    that leaves.

    Args:
        region: ISO 3166 alpha-3 code of the country whose grid feeds the machine, or None.
        components: Which parts to count. Leave ``"gpu"`` out to measure CPU inference on a machine with an idle GPU.
        cpu_watts: Power of the CPU at full load in watts, if you know it better than the table (estimates only).
        sample_seconds: How often counters that may wrap, and powers, are read in between.
        idle_seconds: So long the idle power is read before the first block, which waits for it. 0 leaves it out.
        external: A power meter of the whole device, which then takes the place of all components: the path of a CSV
            file (or a :class:`tg.PowerLog`), or a function that returns the watts of this moment, such as one that
            reads an INA sensor.

    Raises:
        ValueError: The region is unknown, a component is, a number is not positive, or the file is not as
            :class:`tg.PowerLog` wants it.
        TypeError: An argument is of the wrong type.

    Example:
        >>> with EnergyMeter(region="DEU", components=("cpu", "ram")) as meter:
        ...     _ = sum(i * i for i in range(100_000))
        >>> meter.reading.joules > 0 and meter.reading.source in ("rapl", "estimate")
        True
        >>> meter.reading.intensity.country
        'Germany'
        >>> with EnergyMeter(external=lambda: 5.0) as meter:
        ...     _ = sum(i * i for i in range(100_000))
        >>> meter.reading.source, round(meter.reading.joules / meter.reading.duration_s, 1)
        ('external', 5.0)
    """

    def __init__(
        self,
        region: str | None = None,
        *,
        components: Sequence[ComponentName] = PARTS,
        cpu_watts: float | None = None,
        sample_seconds: float = 1.0,
        idle_seconds: float = 0.0,
        external: FilePath | PowerLog | Callable[[], float] | None = None,
    ) -> None:
        self._intensity = None if region is None else grid_intensity(region)
        if isinstance(components, str) or not isinstance(components, Sequence):
            raise invalid_type("components", expected=f"a sequence of names of {PARTS}", received=components)
        if not components or set(components) - set(PARTS):
            raise invalid_value("components", expected=f"one or more of {PARTS}", received=components)
        check_number("cpu_watts", cpu_watts, above=0, optional=True)
        check_number("sample_seconds", sample_seconds, above=0)
        check_number("idle_seconds", idle_seconds, minimum=0)
        if isinstance(external, (str, os.PathLike)):
            external = PowerLog(external)
        if external is not None and not isinstance(external, PowerLog) and not callable(external):
            expected = "the path of a CSV file, a PowerLog or a function that returns watts"
            raise invalid_type("external", expected=expected, received=external)
        self._names: tuple[ComponentName, ...] = tuple(dict.fromkeys(components)) if external is None else ("machine",)
        self._external = external
        self._sampler = SHARED if external is None else Sampler()
        self._cpu_watts, self._every, self._idle_seconds = cpu_watts, sample_seconds, idle_seconds
        self._idle: dict[ComponentName, float] | None = None
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

    def so_far(self) -> EnergyReading:
        """The reading of the block that is running, until now.

        Raises:
            ValueError: No block is running.
        """
        with self._lock:
            if not self._depth:
                raise invalid_state("No block of this meter is running.", "Call it inside of 'with meter: ...'.")
            return self._read()

    def __enter__(self) -> EnergyMeter:
        with self._lock:
            if not self._depth:
                self._start = self._sampler.enter(self._names, self._every, self._external)
                # A meter that nobody holds any more, as after a training that failed, leaves too.
                self._leave = weakref.finalize(self, self._sampler.leave, self._every)
                if self._idle is None and self._idle_seconds:
                    time.sleep(self._idle_seconds)
                    end = self._sampler.snapshot(self._names)
                    parts = self._sampler.components(self._start, end, self._cpu_watts)
                    self._idle = _watts(parts, end.seconds - self._start.seconds)
                    self._start = self._sampler.snapshot(self._names, is_start=True)
            self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                try:
                    self._reading = self._read()
                finally:
                    self._leave()

    def _read(self) -> EnergyReading:
        end = self._sampler.snapshot(self._names)
        parts = self._sampler.components(self._start, end, self._cpu_watts)
        return _summarize(_unmixed(parts), end.seconds - self._start.seconds, self._idle, self._intensity)


def _watts(parts: Collection[EnergyComponent], seconds: float) -> dict[ComponentName, float]:
    """The power of what counters read; estimates hold no idle power."""
    return {part.name: part.joules / seconds for part in parts if part.joules is not None and part.source != "estimate"}


def _unmixed(parts: list[EnergyComponent]) -> list[EnergyComponent]:
    """The parts without the estimate of memory beside a CPU that is measured.

    A measurement is not to become an estimate for the sake of its smallest part.
    """
    if not any(part.source == "rapl" for part in parts):
        return parts
    why = "no counter is read for memory, and an estimate is not mixed into a measurement"
    return [unavailable("ram", why) if part.name == "ram" else part for part in parts]


def _summarize(
    components: list[EnergyComponent],
    duration: float,
    idle: Mapping[ComponentName, float] | None,
    intensity: GridIntensity | None,
) -> EnergyReading:
    read = [part for part in components if part.joules is not None]
    source = weakest(part.source for part in read)
    joules = net = watts = interval = co2e = None
    if read:
        joules = sum(part.joules or 0.0 for part in read)
        counted = [part for part in read if part.source != "estimate"]
        if idle is not None and counted and all(part.name in idle for part in counted):
            watts = sum(idle[part.name] for part in counted)
        if watts is not None or not counted:
            net = max(0.0, joules - duration * (watts or 0.0))
        bounds = [part.bounds for part in read if part.bounds is not None]
        if len(bounds) == len(read):
            interval = (sum(low for low, _ in bounds), sum(high for _, high in bounds))
    why = NO_REGION if intensity is None else "there is no energy reading"
    if intensity is not None and joules is not None:
        co2e = joules / JOULES_PER_KWH * intensity.kg_per_kwh
        why = f"energy ({source}) x {intensity.origin}"
    how = "; ".join(f"{part.name}, {part.source}: {part.how}" for part in components)
    region = intensity.region if intensity else None
    return EnergyReading(
        joules, net, watts, duration, interval, source, how, tuple(components), region, co2e, why, intensity
    )

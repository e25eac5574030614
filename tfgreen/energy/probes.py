"""Probes: read the energy of one component between two moments, each by one method."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import psutil

from tfgreen.energy import sources
from tfgreen.energy.codecarbon import GpuReader, RaplReader
from tfgreen.energy.cpu import CpuClock, thread_power
from tfgreen.energy.sources import ComponentName, EnergyComponent, unavailable

RAPL_UPDATE_S = 0.001  # Intel SDM vol. 3B, "Package RAPL domain": the counter is updated about every millisecond.
NVML_UPDATE_S = 0.1  # Yang, Adamek, Armour 2023 (arXiv:2312.02741): 100 ms on recent data-center GPUs.
# Cloud Carbon Footprint's mean of Crucial's and Micron's figures. CodeCarbon's 5 W per memory module assumes the whole
# computer: on a virtual machine, or for one process, it outweighs the CPU many times.
RAM_WATTS_PER_GB = 0.392


class Probe(Protocol):
    """Something that reads the energy of one component between :meth:`start` and :meth:`read`."""

    name: ComponentName
    needs_samples: bool

    def start(self) -> None:
        """Take the first reading."""

    def sample(self, seconds: float) -> None:
        """Collect what would be lost by reading only at the end; ``seconds`` since the previous call."""

    def read(self, seconds: float, duration: float) -> EnergyComponent:
        """Take the last reading, ``seconds`` after the previous call, for a block that lasted ``duration`` seconds."""


def probes(components: Collection[ComponentName], cpu_watts: float | None) -> tuple[list[Probe], list[EnergyComponent]]:
    """The best source for each requested component, and a component with the reason for each that has none.

    Memory is estimated, as no counter of it is read. Beside a measured CPU it is left out and named, so that a
    measurement does not become an estimate for the sake of its smallest part.
    """
    chosen: list[Probe] = []
    absent: list[EnergyComponent] = []
    counters, why = sources.rapl_state()
    if "gpu" in components:
        gpus, reason = sources.visible_gpus()
        if gpus is not None:
            chosen.append(_GpuProbe(gpus))
        else:
            absent.append(unavailable("gpu", reason))
    if "ram" in components:
        if counters and "cpu" in components:
            reason = "no counter is read for memory, and an estimate is not mixed into a measurement"
            absent.append(unavailable("ram", reason))
        else:
            chosen.append(_MemoryProbe())
    if "cpu" in components:
        # Last to start and first to be read, so that the other probes' own work is not counted.
        chosen.append(_RaplProbe() if counters else _CpuTimeProbe(cpu_watts, why))
    return chosen, absent


def _update_bounds(joules: float, update: float, duration: float) -> tuple[float, float]:
    """Bounds from the seconds between two updates of a counter: each end of the block may be so old."""
    error = joules * min(1.0, update / duration) if duration > 0 else joules
    return joules - error, joules + error


class _RaplProbe:
    name: ComponentName = "cpu"
    needs_samples = True  # the counters wrap, after minutes on a busy server

    def __init__(self) -> None:
        self._joules = 0.0
        self._rapl = RaplReader(sources.RAPL_DIR)

    def start(self) -> None:
        self._rapl.start()

    def sample(self, seconds: float) -> None:
        self._joules += self._rapl.joules(seconds)

    def read(self, seconds: float, duration: float) -> EnergyComponent:
        self.sample(seconds)
        if self._joules <= 0:
            why = f"the RAPL counters did not move in {duration:.4g} s (they are updated about every millisecond)"
            return unavailable(self.name, why)
        how = "RAPL package counters, the whole machine including idle power; bounds: one update of 1 ms at each end"
        bounds = _update_bounds(self._joules, RAPL_UPDATE_S, duration)
        return EnergyComponent(self.name, self._joules, "measured", how, bounds)


class _CpuTimeProbe:
    name: ComponentName = "cpu"
    needs_samples = False

    def __init__(self, cpu_watts: float | None, why: str) -> None:
        self._power = thread_power(cpu_watts)
        self._why = why

    def start(self) -> None:
        self._clock = CpuClock()

    def sample(self, seconds: float) -> None:
        """Nothing is lost: CPU time adds up by itself."""

    def read(self, seconds: float, duration: float) -> EnergyComponent:
        busy = self._clock.seconds()
        how = f"{busy:.4g} CPU-seconds of this process x {self._power.how}, without idle power, as {self._why}"
        bounds = self._power.bounds
        spread = (busy * bounds[0], busy * bounds[1]) if bounds else None
        return EnergyComponent(self.name, busy * self._power.watts, "estimated", how, spread)


class _MemoryProbe:
    name: ComponentName = "ram"
    needs_samples = False

    def start(self) -> None:
        self._bytes = [_resident_bytes()]

    def sample(self, seconds: float) -> None:
        self._bytes.append(_resident_bytes())

    def read(self, seconds: float, duration: float) -> EnergyComponent:
        self.sample(seconds)
        gigabytes = sum(self._bytes) / len(self._bytes) / 1e9
        joules = gigabytes * RAM_WATTS_PER_GB * duration
        how = f"{gigabytes:.3g} GB resident in this process x {RAM_WATTS_PER_GB} W per GB (Cloud Carbon Footprint)"
        return EnergyComponent(self.name, joules, "estimated", how, (joules, joules))


class _GpuProbe:
    name: ComponentName = "gpu"
    needs_samples = True  # GPUs without an energy counter are integrated from their power

    def __init__(self, gpus: GpuReader) -> None:
        self._gpus = gpus
        self._joules = 0.0
        self._answers = True

    def start(self) -> None:
        self._gpus.start()

    def sample(self, seconds: float) -> None:
        joules = self._gpus.joules(seconds)
        self._answers &= joules is not None
        self._joules += joules or 0.0

    def read(self, seconds: float, duration: float) -> EnergyComponent:
        self.sample(seconds)
        if not self._answers or self._joules <= 0:
            silent = f"the driver reported no energy for {duration:.4g} s (its counter is updated every 0.1 s)"
            why = silent if self._answers else "the driver stopped answering during the block"
            return unavailable(self.name, why)
        method = "driver's energy counter" if self._gpus.counted else "driver's power readings, averaged"
        how = f"{method}, {self._gpus.count} GPU(s) as a whole including idle power; bounds: one update of 0.1 s"
        bounds = _update_bounds(self._joules, NVML_UPDATE_S, duration)
        return EnergyComponent(self.name, self._joules, "measured", how, bounds)


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)

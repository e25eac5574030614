"""Probes: what adds up while time goes by (joules of a counter, CPU-seconds, bytes held), one per component."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Protocol

import psutil

from tfgreen.energy import sources
from tfgreen.energy.codecarbon import GpuReader
from tfgreen.energy.cpu import CpuClock, thread_power
from tfgreen.energy.power_log import PowerLog
from tfgreen.energy.rapl import RaplCounters, rapl_packages
from tfgreen.energy.sources import ComponentName, EnergyComponent, Source

RAPL_UPDATE_S = 0.001  # Intel SDM vol. 3B, "Package RAPL domain": the counter is updated about every millisecond.
NVML_UPDATE_S = 0.1  # Yang, Adamek, Armour 2023 (arXiv:2312.02741): 100 ms on recent data-center GPUs.
FEW_STEPS = 10  # of a counter in a block: below that, what is read says little
# Cloud Carbon Footprint's mean of Crucial's and Micron's figures. CodeCarbon's 5 W per memory module assumes the whole
# computer: on a virtual machine, or for one process, it outweighs the CPU many times.
RAM_WATTS_PER_GB = 0.392


class ProbeError(Exception):
    """A component that cannot be read; the text is the reason."""


class Probe(Protocol):
    """A quantity of one component, from :meth:`start` on. Any number of blocks take differences of it."""

    name: ComponentName
    needs_samples: bool  # whether something is lost where it is read only at both ends of a block

    def start(self) -> None:
        """Take the first reading."""

    def measure(self) -> None:
        """Take a reading."""

    def total(self, moment: float) -> float:
        """The quantity since the start: of a counter at the last reading; of a power, summed until ``moment``.

        Reading takes time, of a meter in the network a second; what a block used must not hold it.
        """

    def component(self, used: float, duration: float, cpu_watts: float | None) -> EnergyComponent:
        """The energy of a block of ``duration`` seconds, in which the quantity grew by ``used``."""


def best_probe(name: ComponentName, external: PowerLog | Callable[[], float] | None = None) -> Probe:
    """The most trusted probe that this machine has for a component; a ProbeError says why there is none."""
    if isinstance(external, PowerLog):
        return _LogProbe(external)
    if external is not None:
        return _PowerProbe(external)
    if name == "ram":
        return _MemoryProbe()
    if name == "gpu":
        gpus, reason = sources.visible_gpus()
        if gpus is None:
            raise ProbeError(reason)
        return _GpuProbe(gpus)
    packages, why = rapl_packages()
    return _RaplProbe(RaplCounters(packages)) if packages else _CpuTimeProbe(why)


class _Counter:
    """A probe of joules: counters wrap, and power is summed over time."""

    name: ComponentName
    needs_samples = True
    source: ClassVar[Source]
    update_s: float  # between two updates of the counter
    how: str

    def component(self, used: float, duration: float, cpu_watts: float | None) -> EnergyComponent:
        update = f"{1000 * self.update_s:.3g} ms"
        if used <= 0:
            why = f"{self.how} gave no energy in {duration:.4g} s (updated every {update})"
            return EnergyComponent(self.name, None, "unavailable", why, update_s=self.update_s)
        # Each end of the block may be as old as an update.
        error = used * min(1.0, self.update_s / duration) if duration > 0 else used
        how = f"{self.how}; interval: one update of {update} at each end"
        if duration < FEW_STEPS * self.update_s:
            how += f", of which the block holds only {duration / self.update_s:.2g}"
        return EnergyComponent(self.name, used, self.source, how, (used - error, used + error), self.update_s)


class _RaplProbe(_Counter):
    name: ComponentName = "cpu"
    source, update_s = "rapl", RAPL_UPDATE_S
    how = "RAPL package counters, the whole machine including idle power"

    def __init__(self, counters: RaplCounters) -> None:
        self._counters = counters

    def start(self) -> None:
        self._counters.start()
        self._joules = 0.0

    def measure(self) -> None:
        self._joules = self._counters.joules()

    def total(self, moment: float) -> float:
        return self._joules


class _GpuProbe(_Counter):
    name: ComponentName = "gpu"
    source, update_s = "nvml", NVML_UPDATE_S

    def __init__(self, gpus: GpuReader) -> None:
        self._gpus = gpus

    def start(self) -> None:
        self._gpus.start()
        self._joules, self._last = 0.0, time.perf_counter()
        method = "the driver's energy counter" if self._gpus.counted else "the driver's power readings, averaged"
        self.how = f"{method} of {self._gpus.count} GPU(s) as a whole, including idle power"

    def measure(self) -> None:
        now = time.perf_counter()
        joules = self._gpus.joules(now - self._last)
        if joules is None:
            raise ProbeError("the driver reported no energy: it stopped answering")
        self._joules += joules
        self._last = now

    def total(self, moment: float) -> float:
        return self._joules


class _LogProbe(_Counter):
    name: ComponentName = "machine"
    source = "external"

    def __init__(self, log: PowerLog) -> None:
        self._log = log
        self.how = f"the watts in {log.path.name}"

    def start(self) -> None:
        self._zero = time.time() - time.perf_counter()
        self._first = self._log.joules_until(time.time())
        self.update_s = self._log.period_s

    def measure(self) -> None:
        """The file is read for the moment that is asked for."""

    def total(self, moment: float) -> float:
        return self._log.joules_until(self._zero + moment) - self._first


class _PowerProbe(_Counter):
    """Watts that a function returns, summed over time by trapezoids."""

    name: ComponentName = "machine"
    source = "external"
    update_s = 0.0

    def __init__(self, watts: Callable[[], float]) -> None:
        self._watts = watts
        self.how = f"watts by {getattr(watts, '__name__', type(watts).__name__)}()"

    def start(self) -> None:
        self._joules, self._samples = 0.0, 0
        self._first = self._time = time.perf_counter()
        self._power = self._before = self._now()

    def measure(self) -> None:
        self._before, self._power = self._power, self._now()
        self._samples += 1

    def total(self, moment: float) -> float:
        self._joules += (moment - self._time) * (self._before + self._power) / 2
        self._time, self._before = moment, self._power
        self.update_s = (moment - self._first) / max(1, self._samples)
        return self._joules

    def _now(self) -> float:
        watts = float(self._watts())
        if not 0 <= watts < float("inf"):
            raise ProbeError(f"{self.how} is {watts:g}, not a power in watts")
        return watts


class _CpuTimeProbe:
    name: ComponentName = "cpu"
    needs_samples = False

    def __init__(self, why: str) -> None:
        self._why = why

    def start(self) -> None:
        self._clock = CpuClock()
        self._seconds = 0.0

    def measure(self) -> None:
        self._seconds = self._clock.seconds()

    def total(self, moment: float) -> float:
        return self._seconds

    def component(self, used: float, duration: float, cpu_watts: float | None) -> EnergyComponent:
        power = thread_power(cpu_watts)
        how = f"{used:.4g} CPU-seconds of this process x {power.how}, without idle power, as {self._why}"
        spread = (used * power.bounds[0], used * power.bounds[1]) if power.bounds else None
        return EnergyComponent(self.name, used * power.watts, "estimate", how, spread)


class _MemoryProbe:
    """Byte-seconds that this process holds, by trapezoids."""

    name: ComponentName = "ram"
    needs_samples = False

    def start(self) -> None:
        self._total, self._time = 0.0, time.perf_counter()
        self._bytes = self._before = _resident_bytes()

    def measure(self) -> None:
        self._before, self._bytes = self._bytes, _resident_bytes()

    def total(self, moment: float) -> float:
        self._total += (moment - self._time) * (self._before + self._bytes) / 2
        self._time, self._before = moment, self._bytes
        return self._total

    def component(self, used: float, duration: float, cpu_watts: float | None) -> EnergyComponent:
        joules = used / 1e9 * RAM_WATTS_PER_GB
        gigabytes = used / duration / 1e9 if duration > 0 else 0.0
        how = f"{gigabytes:.3g} GB resident in this process x {RAM_WATTS_PER_GB} W per GB (Cloud Carbon Footprint)"
        return EnergyComponent(self.name, joules, "estimate", how, (joules, joules))


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)

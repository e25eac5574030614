"""Sampler: the probes of this process, read once for all meters that are inside of a block."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from tfgreen.energy import codecarbon
from tfgreen.energy.power_log import PowerLog
from tfgreen.energy.probes import Probe, ProbeError, best_probe
from tfgreen.energy.sources import COMPONENTS, ComponentName, EnergyComponent, unavailable

External: TypeAlias = "PowerLog | Callable[[], float]"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The quantities of the probes at a moment; a text where one failed."""

    seconds: float
    quantities: Mapping[ComponentName, float | str]


class Sampler:
    """Probes that add up while at least one meter is inside of a block, and the thread that reads them in between.

    Counters wrap, and power has to be integrated: so they are read every ``sample_seconds``, the shortest that a meter
    inside asks for. A probe that fails is not read again until all meters have left.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._every: list[float] = []
        self._probes: dict[ComponentName, Probe] = {}
        self._failed: dict[ComponentName, str] = {}
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None

    def enter(self, names: Collection[ComponentName], every: float, external: External | None) -> Snapshot:
        """Start what is not read yet, and read it."""
        with self._lock, codecarbon.quiet():
            self._every.append(every)
            for name in sorted(names, key=COMPONENTS.index, reverse=True):
                if name not in self._probes and name not in self._failed:
                    with self._failures(name):
                        probe = best_probe(name, external)
                        probe.start()
                        self._probes[name] = probe
            if self._thread is None and any(probe.needs_samples for probe in self._probes.values()):
                self._thread = threading.Thread(target=self._run, daemon=True, name="tfgreen energy")
                self._thread.start()
            self._changed.notify()
            return self.snapshot(names, is_start=True)

    def leave(self, every: float) -> None:
        """Stop reading, when the last meter has left."""
        with self._lock:
            self._every.remove(every)
            thread, done = self._thread, not self._every
            if done:
                self._thread = None
                self._probes, self._failed = {}, {}
            self._changed.notify()
        if done and thread is not None:
            thread.join()

    def snapshot(self, names: Collection[ComponentName], is_start: bool = False) -> Snapshot:
        """Read the probes of some components: a start is the moment after that, an end the one before."""
        with self._lock, codecarbon.quiet():
            moment = time.perf_counter()
            # The CPU is the last of a start and the first of an end, so that the other probes' work is not counted.
            ordered = sorted(names, key=COMPONENTS.index, reverse=is_start)
            for name in ordered:
                if name in self._probes:
                    with self._failures(name):
                        self._probes[name].measure()
            if is_start:
                moment = time.perf_counter()
            found: dict[ComponentName, float | str] = {}
            for name in ordered:
                if name in self._probes:
                    with self._failures(name):
                        found[name] = self._probes[name].total(moment)
                if name in self._failed:
                    found[name] = self._failed[name]
            return Snapshot(moment, found)

    def components(self, start: Snapshot, end: Snapshot, cpu_watts: float | None) -> list[EnergyComponent]:
        """The energy of each component between two snapshots."""
        with self._lock:
            found = []
            for name, before in start.quantities.items():
                after = end.quantities[name]
                if isinstance(after, str) or isinstance(before, str):
                    found.append(unavailable(name, str(after)))
                    continue
                seconds = end.seconds - start.seconds
                found.append(self._probes[name].component(after - before, seconds, cpu_watts))
        return sorted(found, key=lambda part: COMPONENTS.index(part.name))

    @contextmanager
    def _failures(self, name: ComponentName) -> Iterator[None]:
        try:
            yield
        except ProbeError as error:
            self._failed[name] = str(error)
        except Exception as error:  # a driver may fail with any class of its own; the reading names it
            self._failed[name] = f"reading it failed: {type(error).__name__}: {error}"
        if name in self._failed:
            self._probes.pop(name, None)

    def _run(self) -> None:
        with self._lock:
            while self._every and self._thread is threading.current_thread():
                if not self._changed.wait(min(self._every)) and self._every:
                    self.snapshot(tuple(self._probes))


# One for the process: counters belong to the machine, and nested meters share what is read.
SHARED = Sampler()

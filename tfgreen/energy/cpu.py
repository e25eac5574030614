"""What this computer's CPU is, how many watts a busy thread of it may draw, and how long it was busy for us."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import re
import time
from pathlib import Path

import psutil

from tfgreen.energy import codecarbon

CPUINFO = Path("/proc/cpuinfo")

# Watts of one virtual CPU at full load over ten server CPU generations, from SPECpower_ssj2008 results: the lowest and
# highest of MAX_WATTS_BY_COMPUTE_PROCESSOR in Cloud Carbon Footprint (cloudcarbonfootprint.org/docs/methodology).
SERVER_WATTS_PER_THREAD = (1.69, 8.58)

_NOISE = re.compile(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*|\b\d+-core\b|\bwith .*", re.IGNORECASE)
# Words that make a different product of the same number: "Apple M1" is not "Apple M1 Max".
_PRODUCT_WORDS = frozenset({"pro", "max", "ultra", "v2", "v3", "v4", "v5", "v6"})


@dataclasses.dataclass(frozen=True)
class CpuIdentity:
    """Model name as the system reports it, number of sockets and threads, and whether a hypervisor is underneath."""

    model: str
    sockets: int
    threads: int
    virtual: bool


@dataclasses.dataclass(frozen=True)
class ThreadPower:
    """Watts that one busy thread is taken to draw, with the bounds known for it and the sentence that explains it."""

    watts: float
    bounds: tuple[float, float] | None
    how: str


@functools.lru_cache(maxsize=1)
def cpu_identity() -> CpuIdentity:
    """Read the CPU's identity from the system; nothing is executed and no package is imported."""
    text = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.is_file() else ""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), []).append(value.strip())
    model = (fields.get("model name") or fields.get("Model") or [platform.processor() or platform.machine()])[0]
    return CpuIdentity(
        model=model or "unknown CPU",
        sockets=max(1, len(set(fields.get("physical id", [])))),
        threads=os.cpu_count() or 1,
        virtual="hypervisor" in (fields.get("flags") or [""])[0].split(),
    )


def thread_power(cpu_watts: float | None = None) -> ThreadPower:
    """The watts of one busy thread: ``cpu_watts`` (all threads at full load), else the rated power, else a default.

    The rated power (TDP) is divided by the threads that share it, as CodeCarbon's process mode does. On a virtual
    machine it is that of the host's whole chip, of which an unknown share is ours, so CodeCarbon's default per thread
    is used, with the published spread of server CPUs as bounds.
    """
    cpu = cpu_identity()
    if cpu_watts is not None:
        return ThreadPower(cpu_watts / cpu.threads, None, f"{cpu_watts / cpu.threads:.3g} W per thread (as given)")
    tdp = rated_watts(cpu.model)
    if tdp is not None and not cpu.virtual:
        total = tdp * cpu.sockets
        how = f"{total / cpu.threads:.3g} W per thread (rated {total:g} W of {cpu.model}, {cpu.threads} threads)"
        return ThreadPower(total / cpu.threads, None, how)
    why = "virtual machine with an unknown share of the chip" if cpu.virtual else "not in CodeCarbon's table"
    low, high = SERVER_WATTS_PER_THREAD
    watts = codecarbon.thread_watts()
    how = f"{watts:g} W per busy thread (CodeCarbon's default for {cpu.model}, {why}; servers: {low} to {high} W)"
    return ThreadPower(watts, SERVER_WATTS_PER_THREAD, how)


@functools.lru_cache(maxsize=8)
def rated_watts(model: str) -> float | None:
    """The watts of one chip in CodeCarbon's TDP table, or None where no single entry fits.

    Stricter than CodeCarbon's own fuzzy match: every word of the entry must occur in the model name, and entries that
    disagree give None.
    """
    words = _words(model)
    best: dict[int, set[float]] = {}
    for entry, watts in _tdp_table():
        rest = words - entry
        if entry <= words and not rest & _PRODUCT_WORDS:
            best.setdefault(len(entry), set()).add(watts)
    candidates = best[max(best)] if best else set()
    return candidates.pop() if len(candidates) == 1 else None


class CpuClock:
    """CPU time used by this process and its children, living and ended, from construction to :meth:`seconds`.

    The process's own share is in nanoseconds, so that blocks of a few milliseconds count; the children's has the
    kernel's tick (10 ms on Linux). The parent that waited for an ended child counts it, so that the sum never drops.
    """

    def __init__(self) -> None:
        self._listing = 0.0
        self._children = self._children_seconds()
        self._own = time.process_time() - self._listing

    def seconds(self) -> float:
        """CPU-seconds since construction, summed over threads and processes; without those that this clock takes."""
        children = self._children_seconds()
        return time.process_time() - self._listing - self._own + max(0.0, children - self._children)

    def _children_seconds(self) -> float:
        before = time.thread_time()
        seconds = _children_seconds()
        self._listing += time.thread_time() - before
        return seconds


def _children_seconds() -> float:
    living = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue  # ended since it was listed: its parent counts it from now on
        living += times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
    ended = os.times()
    return living + ended.children_user + ended.children_system


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9.\-]+", _NOISE.sub(" ", name.lower())))


@functools.lru_cache(maxsize=1)
def _tdp_table() -> tuple[tuple[frozenset[str], float], ...]:
    """Entries with a model number ("AMD EPYC" alone would fit every EPYC) and a clean figure (some read "27.29.5")."""
    return tuple(
        (words, float(tdp))
        for words, tdp in ((_words(name), tdp) for name, tdp in codecarbon.rated_powers())
        if re.fullmatch(r"\d+(\.\d+)?", tdp) and any(re.search(r"\d", w) and len(w) > 1 for w in words)
    )

"""Which energy sources this machine has: counters and drivers, asked without raised rights and without a word."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Literal, TypeAlias

from tfgreen.energy import codecarbon
from tfgreen.tables import RowResult

ComponentName: TypeAlias = Literal["cpu", "gpu", "ram", "machine"]
Source: TypeAlias = Literal["external", "rapl", "nvml", "estimate", "unavailable"]

COMPONENTS: tuple[ComponentName, ...] = ("cpu", "gpu", "ram", "machine")
# In order of trust: a power meter outside of the machine, the counters of its CPU, of its GPU, and no counter at all.
TIERS: tuple[Source, ...] = ("external", "rapl", "nvml", "estimate", "unavailable")


@dataclasses.dataclass(frozen=True)
class EnergyComponent(RowResult):
    """The energy of one part of the machine, as an :class:`EnergyReading` holds it: None, never 0, for no reading.

    ``update_s`` are the seconds between two updates of the counter; 0 for an estimate.
    """

    name: ComponentName
    joules: float | None
    source: Source
    how: str
    bounds: tuple[float, float] | None = None
    update_s: float = 0.0


def weakest(parts: Iterable[Source]) -> Source:
    """The source of a sum: that of its least trusted part."""
    return max(parts, key=TIERS.index, default="unavailable")


def unit_text(value: float | None, unit: str) -> str:
    """A figure with its unit, or a dash."""
    return "-" if value is None else f"{value:.3g} {unit}"


def joules_text(joules: float | None, interval: tuple[float, float] | None) -> str:
    """Joules, and the interval where there is one."""
    spread = f" ({interval[0]:.3g} to {interval[1]:.3g} J)" if interval else ""
    return unit_text(joules, "J") + spread


def unavailable(name: ComponentName, why: str) -> EnergyComponent:
    """A component without a reading."""
    return EnergyComponent(name, None, "unavailable", why)


def visible_gpus() -> tuple[codecarbon.GpuReader | None, str]:
    """A reader for the GPUs this process may use (or None), and a phrase about them or about the reason why not."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("ROCR_VISIBLE_DEVICES"))
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return None, "all GPUs are hidden from this process (CUDA_VISIBLE_DEVICES)"
    try:
        gpus = codecarbon.GpuReader(visible)
    except Exception as error:  # a driver may fail with any class of its own
        return None, f"the GPU driver failed: {type(error).__name__}: {error}"
    if not gpus.answers:
        return None, "no GPU driver answers (NVML and AMD SMI were tried)"
    if not gpus.count:
        return None, "the GPU driver lists no device for this process"
    return gpus, f"{gpus.count} GPU(s) answer"

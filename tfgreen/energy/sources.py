"""Which energy sources this machine has: counters and drivers, asked without raised rights and without a word."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal, TypeAlias

from tfgreen.energy import codecarbon
from tfgreen.tables import RowResult

ComponentName: TypeAlias = Literal["cpu", "gpu", "ram"]
Source: TypeAlias = Literal["measured", "estimated", "unavailable"]

COMPONENTS: tuple[ComponentName, ...] = ("cpu", "gpu", "ram")
RAPL_DIR = "/sys/class/powercap/intel-rapl/subsystem"


@dataclasses.dataclass(frozen=True)
class EnergyComponent(RowResult):
    """The energy of one part of the machine, as an :class:`EnergyReading` holds it: None, never 0, for no reading."""

    name: ComponentName
    joules: float | None
    source: Source
    how: str
    bounds: tuple[float, float] | None = None


def unavailable(name: ComponentName, why: str) -> EnergyComponent:
    """A component without a reading."""
    return EnergyComponent(name, None, "unavailable", why)


def rapl_state() -> tuple[bool, str]:
    """Whether the CPU's energy counters can be read, and a phrase about them or about the reason why not."""
    base = Path(RAPL_DIR)
    folders = sorted({p.resolve() for root in (base, base.parent) for p in root.glob("*/energy_uj")})
    if not folders:
        return False, "the system shows no CPU energy counters (RAPL), as is usual in virtual machines and containers"
    denied = [path for path in folders if not _readable(path)]
    if len(denied) == len(folders):
        return False, f"reading {denied[0]} is not permitted (an administrator can allow it; tfgreen never asks for it)"
    if codecarbon.rapl_available(RAPL_DIR):
        return True, f"{len(folders) - len(denied)} counters readable below {base.parent}"
    return False, f"no package counter below {base.parent} can be read"


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


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

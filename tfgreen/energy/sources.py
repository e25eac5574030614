"""Which energy sources this machine has: counters and drivers, asked quietly and without raised rights.

CodeCarbon's hardware classes read the counters (RAPL, NVML). Its trackers are not used: they start threads, read the
user's configuration (which may name servers), fall back to the world average for an unknown country and reset the
logging of the process. Where there is no counter their figures do not hold together either: on a virtual machine,
CodeCarbon 3.3.2 gave repeated runs of one three-second busy loop 5 to 8 J in machine mode (watts grow with the cube of
the load), 10 to 59 J in process mode (8 W is all it assumes for the CPU), and 60 J for memory on top.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMPONENTS = ("cpu", "gpu", "ram")
RAPL_DIR = "/sys/class/powercap/intel-rapl/subsystem"
_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("tfgreen_quiet_codecarbon", default=False)


@dataclasses.dataclass(frozen=True)
class EnergyComponent:
    """The energy of one part of the machine.

    Attributes:
        name: ``"cpu"``, ``"gpu"`` or ``"ram"``.
        joules: Energy, or None where there is no reading; never 0 for "no reading".
        source: ``"measured"`` (hardware counter), ``"estimated"`` or ``"unavailable"``.
        how: One sentence: by which method, or why not.
        bounds: Lowest and highest joules, or None where nothing is known about the error.
    """

    name: str
    joules: float | None
    source: str
    how: str
    bounds: tuple[float, float] | None = None


def rapl_state() -> tuple[bool, str]:
    """Tell whether the CPU's energy counters can be read, and if not why."""
    base = Path(RAPL_DIR)
    folders = sorted({p.resolve() for root in (base, base.parent) for p in root.glob("*/energy_uj")})
    if not folders:
        return False, "the system shows no CPU energy counters (RAPL), as is usual in virtual machines and containers"
    denied = [path for path in folders if not _readable(path)]
    if len(denied) == len(folders):
        return False, f"reading {denied[0]} is not permitted (an administrator can allow it; tfgreen never asks for it)"
    with quiet_codecarbon():
        from codecarbon.core.cpu import is_rapl_available

        if is_rapl_available(RAPL_DIR):
            return True, f"{len(folders) - len(denied)} counters readable below {base.parent}"
    return False, f"no package counter below {base.parent} can be read"


@contextlib.contextmanager
def quiet_codecarbon() -> Iterator[None]:
    """Drop what CodeCarbon logs inside the block, in this thread only; the user's own use of it is not touched."""
    logging.getLogger("codecarbon").addFilter(_FILTER)
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


class _OthersOnly(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _quiet.get()


_FILTER = _OthersOnly()


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


def visible_gpus() -> tuple[Any, str]:
    """Return CodeCarbon's reader for the GPUs this process may use (or None), and a sentence about it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("ROCR_VISIBLE_DEVICES"))
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return None, "all GPUs are hidden from this process (CUDA_VISIBLE_DEVICES)"
    with quiet_codecarbon(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the driver bindings' own notices on import
        from codecarbon.core.config import normalize_gpu_ids
        from codecarbon.core.gpu import is_gpu_details_available
        from codecarbon.external.hardware import GPU

        if not is_gpu_details_available():
            return None, "no GPU driver answers (NVML and AMD SMI were tried)"
        try:
            gpus = GPU.from_utils(normalize_gpu_ids(visible))
        except Exception as error:  # a driver may fail with any class of its own
            return None, f"the GPU driver failed: {type(error).__name__}: {error}"
    if not gpus.gpu_ids:
        return None, "the GPU driver lists no device for this process"
    return gpus, f"{len(gpus.gpu_ids)} GPU(s) answer"

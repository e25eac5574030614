"""The one door to CodeCarbon: its data tables, and its reader of GPUs (NVML, AMD SMI).

The package is imported on first use only, as that is slow; the tables are read without it. Its trackers are not used:
they start threads, read the user's configuration (which may name servers), fall back to the world average for an
unknown country and reset the logging of the process. Nor do their estimates repeat: on a virtual machine, CodeCarbon
3.3.2 gave one three-second busy loop 5 to 8 J in machine mode, 10 to 59 J in process mode, and 60 J for memory on top.
Nor is its reader of RAPL: a package whose counter vanishes or is not permitted is left out of the sum without a word.
"""

from __future__ import annotations

import contextlib
import contextvars
import csv
import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

from tfgreen.errors import FileError
from tfgreen.typing import PlainDict

_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("tfgreen_quiet_codecarbon", default=False)


@functools.lru_cache(maxsize=1)
def energy_mix() -> dict[str, PlainDict]:
    """The table of the countries' grids: ISO 3166 alpha-3 code -> name, year, grams of CO2 equivalent per kWh."""
    return dict(json.loads(_table("data/private_infra/global_energy_mix.json").read_text(encoding="utf-8")))


@functools.lru_cache(maxsize=1)
def rated_powers() -> tuple[tuple[str, str], ...]:
    """The table of CPUs: ``(name, watts)`` as they are written there."""
    with _table("data/hardware/cpu_power.csv").open(encoding="utf-8", newline="") as file:
        return tuple((row["Name"], row["TDP"]) for row in csv.DictReader(file))


def version() -> str:
    """CodeCarbon with its version, as the source of a figure names it."""
    return f"CodeCarbon {importlib.metadata.version('codecarbon')}"


def thread_watts() -> float:
    """CodeCarbon's default for one busy CPU thread, in watts."""
    from codecarbon.core.cpu import DEFAULT_POWER_PER_CORE

    return float(DEFAULT_POWER_PER_CORE)


def csv_columns() -> list[str]:
    """The columns of the file that CodeCarbon writes, in its order."""
    from codecarbon.output_methods.emissions_data import EmissionsData

    return [field.name for field in dataclasses.fields(EmissionsData)]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what CodeCarbon logs inside the block, in this thread only; the user's own use of it is not touched."""
    logging.getLogger("codecarbon").addFilter(_others_only)
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


class GpuReader:
    """The GPUs that this process may use; ``visible`` is the value of the variable that limits them.

    ``answers`` says whether a driver answers. ``counted``, known once started, says whether each GPU has an energy
    counter; the others are integrated from their power. A driver may fail with any class of error of its own.
    """

    def __init__(self, visible: str | None) -> None:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the driver bindings' own notices on import
            from codecarbon.core.config import normalize_gpu_ids
            from codecarbon.core.gpu import is_gpu_details_available
            from codecarbon.external.hardware import GPU

            self.answers = bool(is_gpu_details_available())
            self._gpus = GPU.from_utils(normalize_gpu_ids(visible)) if self.answers else None
        self._ids = set(self._gpus.gpu_ids or ()) if self._gpus else set()
        self.count = len(self._ids)
        self.counted = False

    def start(self) -> None:
        """Take the first reading."""
        if self._gpus is None:
            return
        self._gpus.start()
        ours = [device for device in self._gpus.devices.devices if device.gpu_index in self._ids]
        # CodeCarbon documents last_energy as None for a device that has no energy counter.
        self.counted = all(device.last_energy is not None for device in ours)

    def joules(self, seconds: float) -> float | None:
        """The energy of all since the previous reading, ``seconds`` ago, in joules; None where one gives none."""
        from codecarbon.core.units import Time

        if self._gpus is None:
            return None
        self._gpus.devices.sample_power(gpu_ids=self._ids)
        deltas = self._gpus.devices.get_delta(Time.from_seconds(seconds))
        ours = [delta["delta_energy_consumption"].kWh for delta in deltas if delta["gpu_index"] in self._ids]
        return _joules(sum(ours)) if len(ours) == self.count else None


def _others_only(record: logging.LogRecord) -> bool:
    return not _quiet.get()


def _joules(kwh: float) -> float:
    from codecarbon.core.units import Energy

    return float(kwh / Energy.JOULES_TO_KWH)  # its own, rounded factor, so that nothing is lost on the way back


def _table(relative: str) -> Path:
    """The path of a data file inside CodeCarbon."""
    spec = importlib.util.find_spec("codecarbon")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise FileError(f"codecarbon/{relative}: not found; tfgreen needs codecarbon>=3.2 for its data tables.")

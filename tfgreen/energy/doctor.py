"""energy_sources: where figures of energy can come from on this machine, for `tfgreen doctor`."""

from __future__ import annotations

import dataclasses

from tfgreen.energy import sources
from tfgreen.energy.carbon.grid import grid_intensity
from tfgreen.energy.cpu import cpu_identity, rated_watts, thread_power
from tfgreen.energy.probes import RAM_WATTS_PER_GB
from tfgreen.energy.rapl import rapl_packages


@dataclasses.dataclass(frozen=True)
class EnergySource:
    """One possible source of energy figures: its name, whether it can be used here, and why or how."""

    name: str
    available: bool
    detail: str


def energy_sources() -> list[EnergySource]:
    """Every source that :class:`tfgreen.EnergyMeter` knows, in order of preference, with its state here; offline."""
    packages, why = rapl_packages()
    cpu = cpu_identity()
    tdp = rated_watts(cpu.model)
    rated = f"{tdp:g} W for one {cpu.model}" if tdp else f"{cpu.model} is not in CodeCarbon's table"
    if tdp and cpu.virtual:
        rated += ", but this is a virtual machine with an unknown share of it"
    gpus, gpu_detail = sources.visible_gpus()
    ram = f"{RAM_WATTS_PER_GB} W per GB resident in the process (Cloud Carbon Footprint); CPU estimated only"
    germany = grid_intensity("DEU")
    return [
        EnergySource("CPU counters (RAPL)", bool(packages), why),
        EnergySource("CPU rated power", tdp is not None and not cpu.virtual, rated),
        EnergySource("CPU estimate", True, f"CPU time of the process x {thread_power().how}"),
        EnergySource("GPU counters (NVML, AMD SMI)", gpus is not None, gpu_detail),
        EnergySource("external meter", True, "a CSV file or a function of watts: EnergyMeter(external=...)"),
        EnergySource("RAM estimate", True, ram),
        EnergySource("grid intensities", True, f"{germany.source}; offline; DEU: year {germany.year}"),
    ]

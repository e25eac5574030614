"""An energy reading as others write it: the model card of Hugging Face, and a row of CodeCarbon."""

from __future__ import annotations

import datetime
import decimal
import json
import os
import platform
import uuid
from typing import TYPE_CHECKING, Literal, TypeAlias

import psutil

from tfgreen.checks import check_instance, check_number, check_option
from tfgreen.energy import codecarbon
from tfgreen.energy.carbon.grid import JOULES_PER_KWH
from tfgreen.energy.cpu import cpu_identity
from tfgreen.errors import invalid_state
from tfgreen.typing import PlainDict
from tfgreen.version import __version__

if TYPE_CHECKING:
    from tfgreen.energy.meter import EnergyReading

TrainingType: TypeAlias = Literal["pre-training", "fine-tuning"]


def model_card(
    reading: EnergyReading, training_type: TrainingType, geographical_location: str | None,
    hardware_used: str | None, pue: float = 1.0,
) -> str:
    """The ``co2_eq_emissions`` of huggingface.co/docs/hub/model-cards-co2, as YAML; emissions are in grams there."""
    check_number("pue", pue, minimum=1)
    check_option("training_type", training_type, ("pre-training", "fine-tuning"))
    if reading.co2e_kg is None or reading.intensity is None:
        fix = "Measure with EnergyMeter(region=...): a card of 0 grams would be wrong."
        raise invalid_state(f"There are no emissions to state: {reading.co2e_how}.", fix)
    grams = format(decimal.Decimal(f"{1000 * reading.co2e_kg * pue:.6g}"), "f")  # YAML readers differ on 1e-05
    texts = {
        "source": f"tfgreen {__version__}: {reading.co2e_how}" + ("" if pue == 1 else f" x PUE {pue:g}"),
        "training_type": training_type,
        "geographical_location": geographical_location or reading.intensity.country,
        "hardware_used": hardware_used or _hardware(reading),
    }
    lines = ["co2_eq_emissions:", f"  emissions: {grams}"]
    for name, text in texts.items():
        check_instance(name, text, str, "a text")
        lines.append(f"  {name}: {json.dumps(text, ensure_ascii=False)}")  # a JSON string is one of YAML
    return "\n".join(lines) + "\n"


def codecarbon_row(reading: EnergyReading, project_name: str, pue: float = 1.0) -> PlainDict:
    """A row with the columns of the installed CodeCarbon's CSV; None, an empty cell, for what is not known.

    As there, energies, powers and emissions are those of the building: of the devices, times ``pue``.
    """
    check_number("pue", pue, minimum=1)
    kwh, kg = (None if value is None else value * pue for value in (reading.kwh, reading.co2e_kg))
    joules = {part.name: part.joules * pue for part in reading.components if part.joules is not None}
    grid = reading.intensity
    known: PlainDict = {
        "timestamp": datetime.datetime.now().isoformat(timespec="seconds"),
        "project_name": project_name,
        "run_id": str(uuid.uuid4()),
        "duration": reading.duration_s,  # seconds
        "emissions": kg,
        "emissions_rate": None if kg is None else kg / reading.duration_s,  # kg per second
        **{f"{name}_power": value / reading.duration_s for name, value in joules.items()},  # mean watts
        **{f"{name}_energy": value / JOULES_PER_KWH for name, value in joules.items()},
        "energy_consumed": kwh,
        "country_name": grid.country if grid else None,
        "country_iso_code": reading.region,
        "os": platform.platform(),
        "python_version": platform.python_version(),
        "codecarbon_version": f"none: written by tfgreen {__version__}",
        "cpu_count": os.cpu_count(),
        "cpu_model": cpu_identity().model,
        "ram_total_size": psutil.virtual_memory().total / 1024**3,  # GB of 1024 cubed bytes there
        "tracking_mode": "process" if reading.source == "estimate" else "machine",
        "pue": float(pue),
    }
    return {column: known.get(column) for column in codecarbon.csv_columns()}


def _hardware(reading: EnergyReading) -> str:
    """The CPU by name; that of a GPU is for the user to give."""
    cpu = cpu_identity()
    gpu = any(part.name == "gpu" and part.joules is not None for part in reading.components)
    return f"{cpu.model} ({cpu.threads} threads){' and GPU' if gpu else ''}"

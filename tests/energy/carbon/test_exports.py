"""exports: the model card's block in grams, and CodeCarbon's row in its own columns and units."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest
import yaml
from codecarbon.output_methods.emissions_data import EmissionsData

import tfgreen as tg
from tfgreen.energy.carbon.exports import codecarbon_row, model_card
from tfgreen.energy.carbon.grid import grid_intensity
from tfgreen.energy.meter import EnergyReading
from tfgreen.energy.sources import EnergyComponent


def reading(joules=7.2e6, region="DEU", gpu=None):
    """Of two kilowatt-hours in an hour, the CPU's alone."""
    parts = (EnergyComponent("cpu", joules, "rapl", "RAPL"), EnergyComponent("gpu", gpu, "nvml", "none"))
    grid = grid_intensity(region) if region else None
    kg = joules / 3.6e6 * grid.kg_per_kwh if grid and joules is not None else None
    why = f"energy (rapl) x {grid.origin}" if grid else "no region was given"
    return EnergyReading(joules, None, None, 3600.0, None, "rapl", "RAPL", parts, region, kg, why, grid)


def test_the_card_is_in_grams_with_the_keys_of_the_hub():
    run = reading()
    card = yaml.safe_load(run.to_model_card(training_type="fine-tuning"))
    block = card.pop("co2_eq_emissions")
    assert not card and list(block) == [
        "emissions", "source", "training_type", "geographical_location", "hardware_used"
    ]
    assert block["emissions"] == pytest.approx(1000 * run.co2e_kg, rel=1e-5) and block["emissions"] > 500
    assert "tfgreen" in block["source"] and "kg per kWh in Germany" in block["source"]
    assert (block["training_type"], block["geographical_location"]) == ("fine-tuning", "Germany")
    assert "threads" in block["hardware_used"]


def test_small_emissions_and_odd_texts_survive_yaml():
    place = 'Köln: "Süd" # 1 \U0001f30d'
    text = reading(joules=0.036).to_model_card("pre-training", geographical_location=place, hardware_used="1 x A100")
    block = yaml.safe_load(text)["co2_eq_emissions"]
    assert isinstance(block["emissions"], float) and 0 < block["emissions"] < 1e-4
    assert (block["geographical_location"], block["hardware_used"]) == (place, "1 x A100")
    assert yaml.safe_load(reading(gpu=5.0).to_model_card("pre-training"))["co2_eq_emissions"]["hardware_used"].endswith(
        "and GPU"
    )


def test_a_card_without_emissions_or_of_another_training_is_refused():
    with pytest.raises(ValueError, match="no emissions to state: no region.*region="):
        reading(region=None).to_model_card("fine-tuning")
    with pytest.raises(ValueError, match="training_type.*'pre-training' or 'fine-tuning'"):
        reading().to_model_card("finetuning")


def test_the_row_has_codecarbons_columns_and_units():
    run = reading()
    row = run.to_codecarbon(project_name="mine")
    assert list(row) == [field.name for field in dataclasses.fields(EmissionsData)]
    assert (row["cpu_energy"], row["energy_consumed"], row["duration"], row["cpu_power"]) == (2.0, 2.0, 3600.0, 2000.0)
    assert row["emissions"] == run.co2e_kg and row["emissions_rate"] == pytest.approx(run.co2e_kg / 3600)
    assert (row["country_iso_code"], row["country_name"], row["project_name"]) == ("DEU", "Germany", "mine")
    assert row["gpu_energy"] is None and row["ram_energy"] is None  # never 0 for no reading
    assert row["tracking_mode"] == "machine" and row["pue"] == 1 and "tfgreen" in row["codecarbon_version"]
    file = io.StringIO()
    csv.DictWriter(file, list(row)).writerow(row)
    assert ",,," in file.getvalue()


def test_a_reading_without_a_region_or_without_energy_has_empty_cells():
    with tg.EnergyMeter(components=("cpu",), cpu_watts=30) as meter:
        sum(i * i for i in range(100_000))
    row = meter.reading.to_codecarbon()
    assert row["emissions"] is None and row["country_iso_code"] is None and row["tracking_mode"] == "process"
    assert row["energy_consumed"] == pytest.approx(meter.reading.joules / 3.6e6)
    assert reading(joules=None).to_codecarbon()["energy_consumed"] is None


def test_what_the_building_draws_beside_is_in_both():
    run = reading()
    row = codecarbon_row(run, "mine", pue=1.5)
    assert (row["cpu_energy"], row["energy_consumed"], row["cpu_power"], row["pue"]) == (3.0, 3.0, 3000.0, 1.5)
    assert row["emissions"] == pytest.approx(1.5 * run.co2e_kg) == pytest.approx(3600 * row["emissions_rate"])
    block = yaml.safe_load(model_card(run, "fine-tuning", None, None, pue=1.5))["co2_eq_emissions"]
    assert block["emissions"] == pytest.approx(1500 * run.co2e_kg, rel=1e-5) and block["source"].endswith("x PUE 1.5")
    for write in (lambda: codecarbon_row(run, "mine", pue=0.9), lambda: model_card(run, "fine-tuning", None, None, 0)):
        with pytest.raises(ValueError, match="pue: expected a number >= 1"):
            write()

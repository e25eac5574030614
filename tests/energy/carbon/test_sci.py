"""sci: the standard's formula, its parts and their origin, and what the standard leaves out."""

from __future__ import annotations

import pytest

import tfgreen as tg

SERVER = tg.EmbodiedCarbon(total_kg=1200, lifetime_h=35_040, share=0.25)


def test_the_formula_of_the_standard():
    found = tg.sci(2e-7, intensity=0.4, embodied=SERVER, hours_per_unit=5e-6, pue=1.5)
    operational, embodied = 2e-7 * 1.5 * 0.4, 1200 * 5e-6 / 35_040 * 0.25  # E x I, and TE x TiR/EL x RR/ToR
    assert found.operational_kg == pytest.approx(operational) and found.embodied_kg == pytest.approx(embodied)
    assert found.kg_per_unit == pytest.approx(operational + embodied)
    assert found.unit == "inference" and found.to_dict()["kg_per_unit"] == found.kg_per_unit
    assert "x PUE 1.5 x 0.4 kg per kWh" in str(found) and "SCI per inference" in found._repr_html_()


def test_kilograms_per_unit_and_a_region():
    found = tg.sci(1.0, region="FRA", embodied=0.1, unit="training")
    france = tg.carbon_footprint(1.0, region="FRA")
    assert found.kg_per_unit == pytest.approx(0.1 + france.location_based_kg)
    assert "France" in str(found) and "training" in repr(found)


@pytest.mark.parametrize("name", ["credit_kg", "credits", "renewable_kwh", "renewables", "offsets_kg", "recs", "ppa"])
def test_market_instruments_are_refused_with_the_reason(name):
    with pytest.raises(ValueError, match=f"no argument '{name}': ISO/IEC 21031 excludes.*tg.carbon_footprint"):
        tg.sci(1.0, intensity=0.4, embodied=0, **{name: 1.0})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"intensity": 0.4, "embodied": 0, "sparse": 1}, TypeError, "unexpected argument 'sparse'"),
        ({"intensity": 0.4, "embodied": SERVER}, ValueError, "Pass hours_per_unit"),
        ({"intensity": 0.4, "embodied": 0, "hours_per_unit": 1}, ValueError, "hours_per_unit.*None"),
        ({"intensity": 0.4}, TypeError, "embodied"),
        ({"intensity": 0.4, "embodied": -1}, ValueError, "embodied.*>= 0"),
        ({"intensity": 0.4, "embodied": 0, "pue": 0.9}, ValueError, "pue.*>= 1"),
        ({"intensity": 0.4, "embodied": 0, "unit": 1}, TypeError, "unit"),
        ({"embodied": 0}, ValueError, "intensity, region: expected exactly one"),
        ({"region": "UK", "embodied": 0}, ValueError, "GBR"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        tg.sci(1.0, **arguments)


@pytest.mark.parametrize(("name", "value"), [("total_kg", -1), ("lifetime_h", 0), ("share", 1.5), ("share", 0)])
def test_a_device_has_possible_figures(name, value):
    with pytest.raises(ValueError, match=f"EmbodiedCarbon, {name}"):
        tg.EmbodiedCarbon(**{"total_kg": 1, "lifetime_h": 1, "share": 1, name: value})
    with pytest.raises(ValueError, match="energy_kwh_per_unit"):
        tg.sci(-1, intensity=0.4, embodied=0)


def test_a_unit_has_a_name_and_a_training_may_be_a_reading():
    with pytest.raises(ValueError, match="unit: expected a text such as 'inference', received ' '"):
        tg.sci(0.002, intensity=0.5, embodied=0.1, unit=" ")
    budget = tg.EnergyBudget(max_kwh=1)
    budget.kwh = 0.002
    assert tg.sci(budget, intensity=0.5, embodied=0.1, unit="training").operational_kg == 0.001


def test_a_unit_cannot_reserve_a_device_for_longer_than_it_lives():
    with pytest.raises(ValueError, match="hours_per_unit: expected at most the 35040 hours"):
        tg.sci(1.0, intensity=0.5, embodied=tg.EmbodiedCarbon(300, 35_040), hours_per_unit=1e9)

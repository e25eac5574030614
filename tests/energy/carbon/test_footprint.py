"""footprint: both methods, their arithmetic, and what they refuse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfgreen as tg
from tfgreen.errors import TfgreenError

amounts = st.floats(min_value=0, max_value=1e9)
shares = st.floats(min_value=0, max_value=1)


def test_the_published_example_by_both_methods():
    found = tg.carbon_footprint(1000, intensity_kg_per_kwh=0.8, renewable_kwh=500, credit_kg=100)
    assert (found.market_based_kg, found.location_based_kg, found.credit_kg) == (500, 800, 100)
    assert found.to_dict()["market_based_kg"] == 500 and "500 kg" in found._repr_html_()
    assert "(1000 kWh - 500 kWh renewable) x 0.8 kg per kWh + 100 kg of credits sold" in str(found)
    assert str(found).endswith("grid intensity: 0.8 kg per kWh, given by the caller")
    with pytest.raises(AttributeError):
        found.credit_kg = 0


@given(amounts, st.floats(min_value=0, max_value=2), shares, amounts, st.floats(min_value=1, max_value=3))
def test_footprints_are_linear_never_negative_and_bounded(energy, intensity, share, credit, pue):
    renewable = energy * share
    found = tg.carbon_footprint(
        energy, intensity_kg_per_kwh=intensity, renewable_kwh=renewable, credit_kg=credit, pue=pue
    )
    assert found.location_based_kg == pytest.approx(energy * pue * intensity)
    assert credit <= found.market_based_kg <= found.location_based_kg + credit
    assert found.market_based_kg == pytest.approx((energy * pue - renewable) * intensity + credit)
    assert found.credit_kg == credit


@pytest.mark.parametrize("name", ["energy_kwh", "intensity_kg_per_kwh", "renewable_kwh", "credit_kg", "pue"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_unusable_numbers_are_named(name, value):
    arguments = {"energy_kwh": 10.0, "intensity_kg_per_kwh": 1.0, name: value}
    with pytest.raises(ValueError, match=name) as raised:
        tg.carbon_footprint(**arguments)
    assert isinstance(raised.value, TfgreenError)


@pytest.mark.parametrize("value", ["10", None, True])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match="energy_kwh"):
        tg.carbon_footprint(value, intensity_kg_per_kwh=1.0)


def test_renewable_energy_beyond_the_energy_drawn_is_refused():
    with pytest.raises(ValueError, match="renewable_kwh.*at most energy_kwh"):
        tg.carbon_footprint(1, intensity_kg_per_kwh=1, renewable_kwh=1.5)
    covered = tg.carbon_footprint(1, intensity_kg_per_kwh=1, renewable_kwh=1.5, pue=1.5)
    assert (covered.market_based_kg, covered.location_based_kg) == (0, 1.5)


def test_a_region_states_its_country_year_and_data_set():
    found = tg.carbon_footprint(10, region="DEU")
    assert found.location_based_kg == pytest.approx(10 * found.intensity_kg_per_kwh)
    assert all(word in str(found) for word in ("Germany", "CodeCarbon", "2023"))
    with pytest.raises(ValueError, match="Close matches: .*DEU"):
        tg.carbon_footprint(10, region="GER")


def test_a_reading_is_taken_with_its_kilowatt_hours():
    budget = tg.EnergyBudget(max_kwh=1)
    budget.kwh = 0.002
    assert tg.carbon_footprint(budget, intensity_kg_per_kwh=0.5).location_based_kg == 0.001

    class Unread:
        kwh, how = None, "no counter"

    with pytest.raises(ValueError, match="energy_kwh holds no energy reading: no counter"):
        tg.carbon_footprint(Unread(), intensity_kg_per_kwh=0.5)

    class Inference:
        joules_per_inference = 3.6

    with pytest.raises(TypeError, match="or what has kwh, received Inference. Pass joules_per_inference / 3.6e6"):
        tg.carbon_footprint(Inference(), intensity_kg_per_kwh=0.5)

"""carbon: the footprint's arithmetic and the grid table."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.energy.carbon import carbon_footprint, grid_intensity
from tfgreen.errors import TfgreenError

amounts = st.floats(min_value=0, max_value=1e9)
shares = st.floats(min_value=0, max_value=1)


def test_the_published_example():
    assert carbon_footprint(energy_kwh=1000, intensity_kg_per_kwh=0.8, renewable_kwh=500, credit_kg=100) == 500.0


@given(amounts, st.floats(min_value=0, max_value=2), shares, amounts)
def test_footprint_is_linear_never_negative_and_bounded(energy, intensity, share, credit):
    renewable = energy * share
    net = carbon_footprint(
        energy_kwh=energy, intensity_kg_per_kwh=intensity, renewable_kwh=renewable, credit_kg=credit
    )
    gross = carbon_footprint(energy_kwh=energy, intensity_kg_per_kwh=intensity)
    assert gross == energy * intensity
    assert credit <= net <= gross + credit
    without = carbon_footprint(energy_kwh=energy - renewable, intensity_kg_per_kwh=intensity)
    assert net == pytest.approx(without + credit)


@given(amounts, st.floats(min_value=0, max_value=2))
def test_units_scale(energy, intensity):
    """Doubling the energy, or the intensity, doubles the result: kWh x kg/kWh."""
    one = carbon_footprint(energy_kwh=energy, intensity_kg_per_kwh=intensity)
    assert carbon_footprint(energy_kwh=2 * energy, intensity_kg_per_kwh=intensity) == pytest.approx(2 * one)
    assert carbon_footprint(energy_kwh=energy, intensity_kg_per_kwh=2 * intensity) == pytest.approx(2 * one)


@pytest.mark.parametrize("name", ["energy_kwh", "intensity_kg_per_kwh", "renewable_kwh", "credit_kg"])
@pytest.mark.parametrize(("value", "kind"), [(-1, ValueError), (math.nan, ValueError), (math.inf, ValueError)])
def test_unusable_numbers_are_named(name, value, kind):
    arguments = {"energy_kwh": 10.0, "intensity_kg_per_kwh": 1.0, name: value}
    with pytest.raises(kind, match=name) as raised:
        carbon_footprint(**arguments)
    assert isinstance(raised.value, TfgreenError)


@pytest.mark.parametrize("value", ["10", None, True])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match="energy_kwh"):
        carbon_footprint(energy_kwh=value, intensity_kg_per_kwh=1.0)


def test_renewable_energy_beyond_the_energy_used_is_refused():
    with pytest.raises(ValueError, match="renewable_kwh.*at most energy_kwh"):
        carbon_footprint(energy_kwh=1, intensity_kg_per_kwh=1, renewable_kwh=1.5)


def test_grid_intensity_carries_its_origin():
    germany, norway, poland = map(grid_intensity, ("DEU", "NOR", "POL"))
    assert (germany.country, germany.year) == ("Germany", 2023)
    assert norway.kg_per_kwh < germany.kg_per_kwh < poland.kg_per_kwh
    assert "CodeCarbon" in germany.source and "global_energy_mix.json" in germany.source


@pytest.mark.parametrize(
    ("region", "close"),
    [(text, "DEU") for text in ("GER", "Germany", "Germny", "deu", "DE")] + [("UK", "GBR"), ("US", "USA")],
)
def test_unknown_region_names_close_matches(region, close):
    with pytest.raises(ValueError, match=f"Close matches: .*{close}"):
        grid_intensity(region)


def test_no_default_and_no_world_average():
    with pytest.raises(ValueError, match="No code or country name is close"):
        grid_intensity("XQQ")
    with pytest.raises(ValueError, match="Central African Republic"):
        grid_intensity("CAF")  # listed, but without a figure
    with pytest.raises(TypeError, match="region"):
        grid_intensity(None)

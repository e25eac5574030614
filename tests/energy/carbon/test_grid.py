"""grid: the table of countries, and one factor from a figure or a region."""

from __future__ import annotations

import pytest

from tfgreen.energy.carbon.grid import GridIntensity, chosen_intensity, grid_intensity


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


def test_a_factor_comes_from_exactly_one_place_and_names_it():
    own = GridIntensity("SITE", "our roof", 0.05, "contract of 2026", 2026)
    france = grid_intensity("FRA")
    assert chosen_intensity("intensity", None, "FRA") == (france.kg_per_kwh, france.origin)
    assert chosen_intensity("intensity", own, None) == (0.05, "0.05 kg per kWh in our roof (contract of 2026, 2026)")
    assert chosen_intensity("intensity", 0.4, None) == (0.4, "0.4 kg per kWh, given by the caller")
    assert "grams must be divided by 1000" in chosen_intensity("intensity", 380, None)[1]
    for both in ((0.4, "FRA"), (None, None)):
        with pytest.raises(ValueError, match="intensity, region: expected exactly one.*DEU"):
            chosen_intensity("intensity", *both)


@pytest.mark.parametrize("wrong", [float("nan"), -0.2, "0.3", None])
def test_an_intensity_of_ones_own_is_checked(wrong):
    with pytest.raises((ValueError, TypeError), match="GridIntensity, kg_per_kwh: expected a number >= 0"):
        GridIntensity("X", "Mine", wrong, "a contract", None)

"""The carbon of a kilowatt-hour: the grids of countries, offline, and what a caller gives instead."""

from __future__ import annotations

import dataclasses
import difflib
import numbers
from typing import Any, Protocol

from tfgreen.checks import check_instance, check_integer, check_number
from tfgreen.energy import codecarbon
from tfgreen.errors import InvalidValueError, invalid_state, invalid_type, invalid_value
from tfgreen.tables import RowResult
from tfgreen.typing import PlainDict

JOULES_PER_KWH = 3.6e6


class HasKwh(Protocol):
    """What counts a run in kilowatt-hours: :class:`tg.EnergyReading`, :class:`tg.EnergyBudget`."""

    @property
    def kwh(self) -> float | None:
        """Kilowatt-hours of the run, or None."""


def kwh_of(name: str, energy: float | HasKwh) -> float:
    """The kilowatt-hours that the argument ``name`` is or holds, >= 0."""
    if not isinstance(energy, numbers.Real) and not hasattr(energy, "kwh"):
        fix = "Pass joules_per_inference / 3.6e6." if hasattr(energy, "joules_per_inference") else ""
        raise invalid_type(name, expected="a number of kilowatt-hours, or what has kwh", received=energy, fix=fix)
    kwh: Any = getattr(energy, "kwh", energy)
    if kwh is None:
        how = getattr(energy, "how", "") or "nothing was measured"
        raise invalid_state(f"{name} holds no energy reading: {how}.", "Pass kilowatt-hours of your own.")
    check_number(name, kwh, minimum=0)
    return float(kwh)


@dataclasses.dataclass(frozen=True)
class GridIntensity(RowResult):
    """Kilograms of CO2 equivalent per kilowatt-hour of a country's grid: the national mean of a year.

    ``region`` is an ISO 3166-1 alpha-3 code, ``source`` the data set with the version of the package that carries it.
    ``year`` is None where the data set names none.

    Raises:
        ValueError: ``kg_per_kwh`` is no number >= 0.
        TypeError: A value is of the wrong type.
    """

    region: str
    country: str
    kg_per_kwh: float
    source: str
    year: int | None

    def __post_init__(self) -> None:
        for name in ("region", "country", "source"):
            check_instance(f"GridIntensity, {name}", getattr(self, name), str, "text")
        check_number("GridIntensity, kg_per_kwh", self.kg_per_kwh, minimum=0)
        check_integer("GridIntensity, year", self.year, optional=True)

    @property
    def origin(self) -> str:
        """The figure with its country, data set and year, as a phrase."""
        per_kwh = f"{self.kg_per_kwh:.4g} kg per kWh in {self.country}"
        return f"{per_kwh} ({self.source}, {self.year or 'year unknown'})"


def chosen_intensity(name: str, intensity: float | GridIntensity | None, region: str | None) -> tuple[float, str]:
    """Kilograms per kWh with their origin, from the argument ``name`` or from a region: exactly one of them."""
    if (intensity is None) == (region is None):
        fix = "Pass the kilograms per kWh of your supplier or grid, or the country, such as region='DEU'."
        received = "neither" if region is None else "both"
        raise invalid_value(f"{name}, region", expected="exactly one of them", received=received, fix=fix)
    if region is not None:
        intensity = grid_intensity(region)
    if isinstance(intensity, GridIntensity):
        return intensity.kg_per_kwh, intensity.origin
    check_number(name, intensity, minimum=0)
    return float(intensity or 0), f"{intensity:.4g} kg per kWh, given by the caller{doubt(intensity or 0)}"


def doubt(kg_per_kwh: float) -> str:
    """A remark on a figure that no grid has: the dirtiest, of lignite, emit about 1.2 kg per kWh."""
    return "" if kg_per_kwh <= 2 else "; no grid emits so much: a figure in grams must be divided by 1000"


def grid_intensity(region: str) -> GridIntensity:
    """The grid of the country with this ISO 3166-1 alpha-3 code, offline, from the data that CodeCarbon carries.

    There is no default country and no world average: a region without a figure is an error.
    """
    check_instance("region", region, str, "an ISO 3166 alpha-3 code such as 'DEU'")
    mix = codecarbon.energy_mix()
    if region not in mix:
        raise _unknown_region(region, mix)
    entry = mix[region]
    grams = entry.get("carbon_intensity")
    if not grams:
        fix = "Multiply the kWh with a figure of your own, through carbon_footprint(intensity_kg_per_kwh=...)."
        received = f"{region} ({entry['country_name']})"
        raise invalid_value("region", expected="a country with a known grid intensity", received=received, fix=fix)
    return GridIntensity(
        region=region,
        country=str(entry["country_name"]),
        kg_per_kwh=float(grams) / 1000.0,
        source=f"{codecarbon.version()}, global_energy_mix.json, national mean",
        year=int(entry["year"]) if entry.get("year") else None,
    )


def _unknown_region(region: str, mix: dict[str, PlainDict]) -> InvalidValueError:
    """The error, with the codes whose spelling or country name is close to ``region``."""
    wanted = region.strip().lower()
    names = {code: str(entry["country_name"]).lower() for code, entry in mix.items()}
    found = [code for code in mix if wanted in (code.lower(), names[code])]
    found += [code for code in mix if wanted and (code.lower().startswith(wanted) or names[code].startswith(wanted))]
    found += [code for code in mix if "".join(word[0] for word in names[code].split()) == wanted]  # UK, US
    found += difflib.get_close_matches(wanted.upper(), list(mix), n=3)
    close_names = difflib.get_close_matches(wanted, list(names.values()), n=3)
    found += [code for code in mix if names[code] in close_names]
    close = ", ".join(f"{code} ({mix[code]['country_name']})" for code in list(dict.fromkeys(found))[:5])
    fix = f"Close matches: {close}." if close else "No code or country name is close to it."
    expected = "an ISO 3166 alpha-3 code in capitals, such as 'DEU'"
    return invalid_value("region", expected=expected, received=repr(region), fix=fix)

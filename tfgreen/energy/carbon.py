"""From kilowatt-hours to kilograms of CO2 equivalent, offline and with the origin of every factor."""

from __future__ import annotations

import dataclasses
import difflib

from tfgreen.checks import check_instance, check_number
from tfgreen.energy import codecarbon
from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.tables import RowResult
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True)
class GridIntensity(RowResult):
    """Kilograms of CO2 equivalent per kilowatt-hour of a country's grid: the national mean of a year.

    ``region`` is an ISO 3166-1 alpha-3 code, ``source`` the data set with the version of the package that carries it.
    ``year`` is None where the data set names none.
    """

    region: str
    country: str
    kg_per_kwh: float
    source: str
    year: int | None


def carbon_footprint(
    *, energy_kwh: float, intensity_kg_per_kwh: float, renewable_kwh: float = 0.0, credit_kg: float = 0.0
) -> float:
    """Return the carbon footprint of electricity: ``(energy - renewable) * intensity + credits sold``.

    Energy covered by contracts or own generation counts as zero (market-based method, GHG Protocol Scope 2 Guidance,
    2015). Credits are carbon credits *issued on this energy and sold*: the buyer counts the reduction, so the seller
    adds it back (between countries: the corresponding adjustment of Article 6.2 of the Paris Agreement, decision
    2/CMA.3). Credits that were *bought* have no argument: standards ask for offsets to be stated beside a footprint.

    Args:
        energy_kwh: Electricity used, in kWh.
        intensity_kg_per_kwh: Kilograms of CO2 equivalent per kWh of the grid.
        renewable_kwh: The part of ``energy_kwh`` covered by renewable energy, in kWh.
        credit_kg: Credits sold, in kilograms of CO2 equivalent.

    Returns:
        Kilograms of CO2 equivalent, at least 0.

    Raises:
        ValueError: A value is negative, not finite, or ``renewable_kwh`` exceeds ``energy_kwh``.
        TypeError: A value is not a number.

    Example:
        >>> carbon_footprint(energy_kwh=1000, intensity_kg_per_kwh=0.8, renewable_kwh=500, credit_kg=100)
        500.0
    """
    check_number("energy_kwh", energy_kwh, minimum=0)
    check_number("intensity_kg_per_kwh", intensity_kg_per_kwh, minimum=0)
    check_number("renewable_kwh", renewable_kwh, minimum=0)
    check_number("credit_kg", credit_kg, minimum=0, fix="Credits that were bought do not lower a footprint.")
    if renewable_kwh > energy_kwh:
        fix = "Only energy that was used can be covered; a surplus belongs to another account."
        expected = f"at most energy_kwh ({energy_kwh})"
        raise invalid_value("renewable_kwh", expected=expected, received=renewable_kwh, fix=fix)
    return float((energy_kwh - renewable_kwh) * intensity_kg_per_kwh + credit_kg)


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

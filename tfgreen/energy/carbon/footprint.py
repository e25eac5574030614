"""carbon_footprint: from kilowatt-hours to kilograms of CO2 equivalent, by both methods of the GHG Protocol."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfgreen.checks import check_number
from tfgreen.energy.carbon.grid import GridIntensity, HasKwh, chosen_intensity, kwh_of
from tfgreen.errors import invalid_value
from tfgreen.tables import TableResult


@dataclasses.dataclass(frozen=True, repr=False)
class CarbonFootprint(TableResult):
    """Kilograms of CO2 equivalent of electricity by two methods, and what they were computed from.

    Attributes:
        location_based_kg: All energy at the intensity of the grid.
        market_based_kg: The energy that is not covered by renewable energy, and the credits sold.
        credit_kg: Credits sold, in kilograms of CO2 equivalent; ``market_based_kg`` holds them.
        energy_kwh: Energy of the device, in kWh, and ``pue``, the kWh drawn by the building for each of them.
        renewable_kwh: The part of the building's energy that is covered by renewable energy.
        intensity_kg_per_kwh: Intensity of the grid, with its origin in ``intensity_source``.
    """

    location_based_kg: float
    market_based_kg: float
    credit_kg: float
    energy_kwh: float
    pue: float
    renewable_kwh: float
    intensity_kg_per_kwh: float
    intensity_source: str

    _headings: ClassVar[tuple[str, ...]] = ("method", "CO2e", "how")
    _left = (0, 2)

    def _headline(self) -> str:
        return f"{self.location_based_kg:.4g} kg of CO2e location-based, {self.market_based_kg:.4g} kg market-based"

    def _rows(self) -> list[tuple[str, str, str]]:
        drawn = f"{self.energy_kwh:.6g} kWh" + ("" if self.pue == 1 else f" x PUE {self.pue:g}")
        intensity, credits = f"{self.intensity_kg_per_kwh:.4g} kg per kWh", f"{self.credit_kg:.4g} kg"
        market = f"({drawn} - {self.renewable_kwh:.6g} kWh renewable) x {intensity} + {credits} of credits sold"
        return [
            ("location-based", f"{self.location_based_kg:.4g} kg", f"{drawn} x {intensity}"),
            ("market-based", f"{self.market_based_kg:.4g} kg", market),
            ("credits sold", credits, "in the market-based figure only"),
        ]

    def _remarks(self) -> list[str]:
        return [f"grid intensity: {self.intensity_source}"]


def carbon_footprint(
    energy_kwh: float | HasKwh, *, intensity_kg_per_kwh: float | GridIntensity | None = None, region: str | None = None,
    renewable_kwh: float = 0.0, credit_kg: float = 0.0, pue: float = 1.0,
) -> CarbonFootprint:
    """Return the carbon footprint of electricity by both methods of the GHG Protocol (Scope 2 Guidance, 2015).

    Location-based: ``energy * pue * intensity``. Market-based: ``(energy * pue - renewable) * intensity + credits``,
    as energy that is covered by contracts or own generation counts as zero there. Credits are carbon credits *issued
    on this energy and sold*: the buyer counts the reduction, so the seller adds it back (between countries: the
    corresponding adjustment of Article 6.2 of the Paris Agreement, decision 2/CMA.3). Credits that were *bought* have
    no argument: standards ask for offsets to be stated beside a footprint.

    Args:
        energy_kwh: Electricity used, in kWh, or what holds its ``kwh``, such as a :class:`tg.EnergyReading`.
        intensity_kg_per_kwh: Kilograms of CO2 equivalent per kWh of the grid, or a :class:`tg.GridIntensity` of your
            own, which names its source. Either this or ``region``.
        region: ISO 3166 alpha-3 code of the country, whose yearly mean is used, from the data CodeCarbon carries.
        renewable_kwh: The part of the energy drawn (with ``pue``) that is covered by renewable energy, in kWh.
        credit_kg: Credits sold, in kilograms of CO2 equivalent.
        pue: Power usage effectiveness: kWh drawn by the building for each kWh of the device, >= 1.

    Raises:
        ValueError: A value is negative or not finite, ``renewable_kwh`` exceeds the energy, the region is unknown, or
            not exactly one of intensity and region is given.
        TypeError: A value is not a number.

    Example:
        >>> footprint = carbon_footprint(1000, intensity_kg_per_kwh=0.8, renewable_kwh=500, credit_kg=100)
        >>> footprint.location_based_kg, footprint.market_based_kg, footprint.credit_kg
        (800.0, 500.0, 100.0)
    """
    energy_kwh = kwh_of("energy_kwh", energy_kwh)
    check_number("renewable_kwh", renewable_kwh, minimum=0)
    check_number("credit_kg", credit_kg, minimum=0, fix="Credits that were bought do not lower a footprint.")
    check_number("pue", pue, minimum=1)
    intensity, source = chosen_intensity("intensity_kg_per_kwh", intensity_kg_per_kwh, region)
    drawn = energy_kwh * pue
    if renewable_kwh > drawn:
        fix = "Only energy that was used can be covered; a surplus belongs to another account."
        expected = f"at most energy_kwh{'' if pue == 1 else ' x pue'} ({drawn:g})"
        raise invalid_value("renewable_kwh", expected=expected, received=renewable_kwh, fix=fix)
    return CarbonFootprint(
        location_based_kg=float(drawn * intensity),
        market_based_kg=float((drawn - renewable_kwh) * intensity + credit_kg),
        credit_kg=float(credit_kg),
        energy_kwh=energy_kwh,
        pue=float(pue),
        renewable_kwh=float(renewable_kwh),
        intensity_kg_per_kwh=intensity,
        intensity_source=source,
    )

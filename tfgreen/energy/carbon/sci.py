"""sci: the Software Carbon Intensity of ISO/IEC 21031:2024, the carbon of one inference or of one training."""

from __future__ import annotations

import dataclasses
import re
from typing import ClassVar

from tfgreen.checks import check_instance, check_number
from tfgreen.energy.carbon.grid import GridIntensity, HasKwh, chosen_intensity, kwh_of
from tfgreen.errors import InvalidTypeError, invalid_state, invalid_value
from tfgreen.tables import RowResult, TableResult

_MARKET = re.compile(r"credit|renewable|offset|certificate|contract|market|neutral|(^|_)(recs?|eacs?|ppas?|gos?)($|_)")


@dataclasses.dataclass(frozen=True)
class EmbodiedCarbon(RowResult):
    """The carbon of making a device, and how much of it the software answers for.

    Attributes:
        total_kg: Kilograms of CO2 equivalent of making and disposing of the device (TE), as its maker states them.
        lifetime_h: Hours that it is expected to live (EL).
        share: The part of the device that the software reserves while it runs (RR / ToR), in (0, 1].

    Raises:
        ValueError: A figure is out of its bounds.

    Example:
        >>> EmbodiedCarbon(total_kg=300, lifetime_h=35_040, share=0.5)  # half of a server, for four years
        EmbodiedCarbon(total_kg=300, lifetime_h=35040, share=0.5)
    """

    total_kg: float
    lifetime_h: float
    share: float = 1.0

    def __post_init__(self) -> None:
        check_number("EmbodiedCarbon, total_kg", self.total_kg, minimum=0)
        check_number("EmbodiedCarbon, lifetime_h", self.lifetime_h, above=0)
        check_number("EmbodiedCarbon, share", self.share, above=0, maximum=1)


@dataclasses.dataclass(frozen=True, repr=False)
class CarbonIntensity(TableResult):
    """The score of :func:`tg.sci`: kilograms of CO2 equivalent per unit, in its two parts, with the origin of each."""

    unit: str
    kg_per_unit: float
    operational_kg: float
    embodied_kg: float
    operational_how: str
    embodied_how: str

    _headings: ClassVar[tuple[str, ...]] = ("part", "CO2e", "how")
    _left = (0, 2)

    def _headline(self) -> str:
        return f"{self.kg_per_unit:.4g} kg of CO2e per {self.unit}"

    def _rows(self) -> list[tuple[str, str, str]]:
        return [
            ("operational (E x I)", f"{self.operational_kg:.4g} kg", self.operational_how),
            ("embodied (M)", f"{self.embodied_kg:.4g} kg", self.embodied_how),
            (f"SCI per {self.unit}", f"{self.kg_per_unit:.4g} kg", "ISO/IEC 21031:2024, without market-based measures"),
        ]


def sci(
    energy_kwh_per_unit: float | HasKwh, *, embodied: EmbodiedCarbon | float,
    intensity: float | GridIntensity | None = None, region: str | None = None,
    hours_per_unit: float | None = None, unit: str = "inference", pue: float = 1.0,
    **market: object,
) -> CarbonIntensity:
    """Return the Software Carbon Intensity ``(E x I + M) per R`` of ISO/IEC 21031:2024.

    ``M`` is ``total_kg x hours_per_unit / lifetime_h x share``. The standard wants it included, and excludes all
    market-based measures: credits, certificates and contracts of renewable energy belong to
    :func:`tg.carbon_footprint`.

    Args:
        energy_kwh_per_unit: Electricity for one unit, in kWh (a joule is 1 / 3.6e6 of it), or what holds its ``kwh``,
            such as the :class:`tg.EnergyReading` of a training.
        embodied: :class:`tg.EmbodiedCarbon` of the device, or the kilograms of CO2 equivalent for one unit.
        intensity: Kilograms of CO2 equivalent per kWh of the grid, or a :class:`tg.GridIntensity` of your own. Either
            this or ``region``.
        region: ISO 3166 alpha-3 code of the country, whose yearly mean is used.
        hours_per_unit: Hours that the device is reserved for one unit (TiR), at most its life, for an
            ``EmbodiedCarbon``.
        unit: The functional unit R, in the singular.
        pue: Power usage effectiveness of the building, >= 1.

    Raises:
        ValueError: A figure is out of its bounds, the region is unknown, ``hours_per_unit`` is missing or not needed,
            or credits or renewable energy are passed.
        TypeError: A value is of the wrong type, or an argument is not known.

    Example:
        >>> server = EmbodiedCarbon(total_kg=300, lifetime_h=30_000, share=0.5)
        >>> score = sci(0.002, intensity=0.5, embodied=server, hours_per_unit=0.1, unit="training")
        >>> score
        <CarbonIntensity: 0.0015 kg of CO2e per training>
        >>> score.operational_kg, score.embodied_kg
        (0.001, 0.0005)
    """
    for name in market:
        _refuse(name)
    energy_kwh_per_unit = kwh_of("energy_kwh_per_unit", energy_kwh_per_unit)
    check_number("pue", pue, minimum=1)
    check_number("hours_per_unit", hours_per_unit, above=0, optional=True)
    check_instance("unit", unit, str, "a text such as 'inference'")
    if not unit.strip():
        raise invalid_value("unit", expected="a text such as 'inference'", received=repr(unit))
    factor, source = chosen_intensity("intensity", intensity, region)
    kg, how = _embodied(embodied, hours_per_unit)
    drawn = f"{energy_kwh_per_unit:.4g} kWh" + ("" if pue == 1 else f" x PUE {pue:g}")
    operational = float(energy_kwh_per_unit * pue * factor)
    return CarbonIntensity(unit, operational + kg, operational, kg, f"{drawn} x {source}", how)


def _embodied(embodied: EmbodiedCarbon | float, hours: float | None) -> tuple[float, str]:
    """Kilograms for one unit, and how they were obtained."""
    if not isinstance(embodied, EmbodiedCarbon):
        check_number("embodied", embodied, minimum=0)
        if hours is not None:
            fix = "Leave it out, or pass a tg.EmbodiedCarbon."
            raise invalid_value("hours_per_unit", expected="None beside kilograms per unit", received=hours, fix=fix)
        return float(embodied), "given by the caller"
    if hours is None:
        sentence = "embodied is of the whole device, and of how long one unit reserves it nothing is said."
        raise invalid_state(sentence, "Pass hours_per_unit, such as milliseconds / 3.6e6.")
    if hours > embodied.lifetime_h:
        expected = f"at most the {embodied.lifetime_h:g} hours that the device lives"
        raise invalid_value("hours_per_unit", expected=expected, received=hours)
    kg = embodied.total_kg * hours / embodied.lifetime_h * embodied.share
    whole = f"{embodied.total_kg:.4g} kg x {hours:.4g} h / {embodied.lifetime_h:.6g} h"
    return float(kg), f"{whole} x share {embodied.share:g}, figures of the device given by the caller"


def _refuse(name: str) -> None:
    """Raise for an argument that is none: a market-based measure with the reason."""
    if not _MARKET.search(name.lower()):
        raise InvalidTypeError(f"sci: unexpected argument '{name}'.")
    reason = "ISO/IEC 21031 excludes market-based measures such as credits, certificates and contracts"
    fix = "State them beside the score, with tg.carbon_footprint(renewable_kwh=..., credit_kg=...)."
    raise invalid_state(f"sci takes no argument '{name}': {reason}.", fix)

"""EnergyAmount: joules with their interval and source, read from what a caller gives."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Protocol, TypeAlias

from tfgreen.checks import check_number
from tfgreen.energy.carbon.grid import JOULES_PER_KWH
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.tables import RowResult

Bounds: TypeAlias = tuple[float, float]

# What an energy is read from, as joules: of one inference, and of a whole run.
ONE = {"joules_per_inference": 1.0}
WHOLE = {"joules": 1.0, "kwh": JOULES_PER_KWH, "energy_kwh": JOULES_PER_KWH}


class PerInference(Protocol):
    """What holds the energy of one inference: :class:`tg.InferenceEnergy`, :class:`tg.EnergyEstimate`."""

    @property
    def joules_per_inference(self) -> float | None:
        """Joules of one inference, or None."""


@dataclasses.dataclass(frozen=True)
class EnergyAmount(RowResult):
    """Joules with their lowest and highest value, or None for figures without an interval, and their source.

    Raises:
        ValueError: The joules are no number >= 0, or not within the interval.

    Example:
        >>> import tfgreen as tg
        >>> tg.break_even(0.010, 0.006, cost=3600).cost
        EnergyAmount(joules=3600.0, interval=None, source='given by the caller')
    """

    joules: float
    interval: Bounds | None
    source: str

    def __post_init__(self) -> None:
        check_number("EnergyAmount, joules", self.joules, minimum=0)
        if self.interval is not None and not 0 <= self.interval[0] <= self.joules <= self.interval[1]:
            expected = f"the lowest and the highest joules, with {self.joules:g} between them"
            raise invalid_value("EnergyAmount, interval", expected=expected, received=self.interval)

    @property
    def bounds(self) -> Bounds:
        """The interval; a figure without one counts as exact."""
        return self.interval or (self.joules, self.joules)


def read_amount(name: str, value: object, attributes: dict[str, float]) -> EnergyAmount:
    """The energy that an argument is or holds in one of these attributes, each with its unit in joules."""
    if isinstance(value, numbers.Real):
        check_number(name, value, minimum=0 if attributes is WHOLE else None, above=0 if attributes is ONE else None)
        return EnergyAmount(float(value), None, "given by the caller")
    if isinstance(value, EnergyAmount):
        attributes = {"joules": 1.0}
    attribute = next((attribute for attribute in attributes if hasattr(value, attribute)), None)
    if attribute is None:
        expected = f"joules, a tg.EnergyAmount, or what has {' or '.join(attributes)}"
        raise invalid_type(name, expected=expected, received=value)
    found = getattr(value, attribute)
    if not found:
        how = getattr(value, "how", "") or "nothing was measured"
        raise invalid_state(f"{name} holds no energy reading: {how}.", "Pass joules of your own.")
    scale, interval = attributes[attribute], getattr(value, "interval", None)
    check_number(f"{name}, {attribute}", found, above=0)
    bounds = None if interval is None else (interval[0] * scale, interval[1] * scale)
    if bounds is not None and not 0 <= bounds[0] <= found * scale <= bounds[1]:
        expected = f"the lowest and the highest {attribute}, with {found:g} between them"
        raise invalid_value(f"{name}, interval", expected=expected, received=interval)
    return EnergyAmount(float(found * scale), bounds, getattr(value, "source", type(value).__name__))


def total(parts: list[EnergyAmount]) -> EnergyAmount:
    """The sum of what compressing took, with the sum of the intervals."""
    if not parts:
        raise invalid_value("cost", expected="one energy or more", received="an empty list")
    interval = None
    if any(part.interval for part in parts):
        interval = (sum(part.bounds[0] for part in parts), sum(part.bounds[1] for part in parts))
    source = ", ".join(dict.fromkeys(part.source for part in parts))
    return EnergyAmount(sum(part.joules for part in parts), interval, source)

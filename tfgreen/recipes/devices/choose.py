"""What a model takes on a device, and which device to choose."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from tfgreen.tables import RowResult
from tfgreen.typing import PlainDict

Preference = Literal["energy", "carbon", "latency", "price"]

# A constraint -> what it limits in an estimate; a preference likewise.
LIMITS = {"latency_ms": "latency_ms", "joules": "joules", "price_usd": "price_usd"}
PREFERENCES = {"energy": "joules", "carbon": "carbon_kg", "latency": "latency_ms", "price": "price_usd"}
_UNKNOWN, _REMEDY = "is not known", "Give its profile the figures that it lacks (value None), or prefer another."


@dataclasses.dataclass(frozen=True)
class DeviceEstimate(RowResult):
    """What one inference takes on a device; every figure is an estimate, and None where the profile lacks a figure.

    Attributes:
        device: The name of the profile.
        latency_ms: Of one inference, by a roofline for each operator.
        joules: Arithmetic, traffic, and what the device draws beside them in that time.
        operational_kg: Kilograms of CO2 equivalent of the electricity; None without a region.
        embodied_kg: The share of making the device, by the time that the inference takes of its life.
        price_usd: What the device costs.
        blocked: Why the file cannot run there: memory, operators, dtypes; empty where it fits.
        exceeded: The constraints that it does not meet, each with the factor by which it is beyond; infinite (None in
            ``to_dict``) where the profile lacks the figure.
    """

    device: str
    latency_ms: float | None
    joules: float | None
    operational_kg: float | None
    embodied_kg: float | None
    price_usd: float | None
    blocked: tuple[str, ...]
    exceeded: Mapping[str, float]

    @property
    def joules_per_inference(self) -> float | None:
        """The same as ``joules``, as :func:`tg.break_even` reads it."""
        return self.joules

    @property
    def source(self) -> str:
        """Where the figures come from."""
        return f"estimated for {self.device}"

    @property
    def fits(self) -> bool:
        return not self.blocked

    @property
    def carbon_kg(self) -> float | None:
        """Operational and embodied; None without a region."""
        return None if self.operational_kg is None else self.operational_kg + (self.embodied_kg or 0.0)

    def to_dict(self) -> PlainDict:
        """Return the fields, ``fits``, ``carbon_kg`` and ``"source": "estimated"`` as plain values."""
        return {**super().to_dict(), "fits": self.fits, "carbon_kg": self.carbon_kg, "source": "estimated"}


def choose(
    rows: Sequence[DeviceEstimate], limits: Mapping[str, float], prefer: Preference = "energy"
) -> tuple[str | None, str]:
    """The device that is least in what is preferred among those that fit and meet the constraints, and the reason."""
    asked = " and ".join(f"{name} <= {limit:g}" for name, limit in limits.items())
    wanted = f"fits and meets {asked}" if asked else "fits"
    field = PREFERENCES[prefer]
    fitting = [row for row in rows if row.fits]
    good = sorted((row for row in fitting if not row.exceeded), key=lambda row: least(row, field))
    unknown = [f"{row.device}: {text}" for row in fitting for text in beyond(row) if text.endswith(_UNKNOWN)]
    left_out = f" Left out is {'; '.join(unknown)}." if unknown else ""
    if good:
        best = good[0]
        if len(good) == 1:
            return best.device, f"{best.device}: the only one of {len(rows)} that {wanted}.{left_out}"
        plural = wanted.replace("fits", "fit").replace("meets", "meet")
        some = f"the {len(good)} of {len(rows)} that {plural}"
        known = [row for row in good if getattr(row, field) is not None]
        lacking = ", ".join(row.device for row in good if row not in known)
        if not known:
            return None, f"Of {some} none is chosen: their {prefer} is not known ({lacking}). {_REMEDY}{left_out}"
        beside = f" It is not known of {lacking}. {_REMEDY}" if lacking else ""
        if len(known) == 1:
            return best.device, f"{best.device}: of {some} the only one whose {prefer} is known.{beside}{left_out}"
        ratio = least(known[1], field) / least(best, field) if least(best, field) else 1
        more = f"{known[1].device} takes {ratio:.3g} times as much" if least(best, field) else "it takes none"
        return best.device, f"{best.device}: least {prefer} of {some}; {more}.{beside}{left_out}"
    if not fitting:
        return None, f"No device fits; {rows[0].device}: {'; '.join(rows[0].blocked)}."
    closest = min(fitting, key=lambda row: max(row.exceeded.values()))
    name = max(closest.exceeded, key=lambda key: closest.exceeded[key])
    factor = closest.exceeded[name]
    far = "it is not known there" if math.isinf(factor) else f"it is {factor:.3g} times that there"
    nearest = f"The closest is {closest.device}; {name} <= {limits[name]:g} binds: {far}."
    return None, f"None of {len(rows)} {wanted}. {nearest}{left_out}"


def beyond(row: DeviceEstimate) -> list[str]:
    """The constraints that a device does not meet, in words."""
    factors = row.exceeded.items()
    return [f"{name} {_UNKNOWN if math.isinf(x) else f'is {x:.3g} times what is allowed'}" for name, x in factors]


def least(row: DeviceEstimate, field: str) -> float:
    """A figure of a device, infinite where it is not known."""
    value = getattr(row, field)
    return math.inf if value is None else value

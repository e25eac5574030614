"""A figure of a device with its source, a level of its memory, and how both are read from plain values."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from typing import TypedDict

from tfgreen.checks import check_instance, check_number, check_option
from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.tables import RowResult

_HOLDS = ("all", "weights", "activations")


class _Bounds(TypedDict, total=False):
    minimum: float
    maximum: float
    above: float


# What divides, or is a share, by the field of a profile or a level; the others may be 0.
_BOUNDS: Mapping[str, _Bounds] = {
    "macs_per_second": {"above": 0}, "elements_per_second": {"above": 0}, "bytes_per_second": {"above": 0},
    "capacity_bytes": {"above": 0}, "lifetime_years": {"above": 0}, "channel_tile": {"minimum": 1},
    "achievable_share": {"above": 0, "maximum": 1},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DeviceFigure(RowResult):
    """A number and where it comes from; ``value`` is None where it is not known, and ``source`` then says why.

    A source that begins with "assumption" is a guess, with its reason; one that begins with "measured" was measured.
    """

    value: float | None
    source: str

    @property
    def assumed(self) -> bool:
        return self.source.startswith("assumption")


@dataclasses.dataclass(frozen=True)
class MemoryLevel(RowResult):
    """One level of a device's memory, from the nearest to the farthest.

    Attributes:
        level: Its name.
        holds: ``"weights"``, ``"activations"`` or ``"all"``.
        capacity_bytes, bytes_per_second, picojoules_per_byte: Its size, and what reading or writing a byte takes.
    """

    level: str
    holds: str
    capacity_bytes: DeviceFigure
    bytes_per_second: DeviceFigure
    picojoules_per_byte: DeviceFigure


def check_fields(subject: str, data: Mapping[str, object], fields: Collection[str]) -> None:
    """Raise on a field that is missing or that there is not, with the name that is nearest to it."""
    unknown = [name for name in data if name not in fields]
    missing = [name for name in fields if name not in data]
    if missing:
        near = difflib.get_close_matches(missing[0], map(str, unknown), 1)
        fix = f" Is '{near[0]}' meant for it?" if near else ""
        raise InvalidValueError(f"{subject}: the field '{missing[0]}' is missing.{fix}")
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), fields, 1)
        fix = f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(fields)}."
        raise InvalidValueError(f"{subject}: '{unknown[0]}' is no field. {fix}")


def read_level(subject: str, data: object) -> MemoryLevel:
    """A level from plain values, called ``subject`` in errors."""
    check_instance(subject, data, dict, "a dict of a level's fields")
    check_fields(subject, data, [field.name for field in dataclasses.fields(MemoryLevel)])  # type: ignore[arg-type]
    level, holds, *figures = (data[field.name] for field in dataclasses.fields(MemoryLevel))  # type: ignore[index]
    check_instance(f"{subject}, level", level, str, "the name of the level")
    check_option(f"{subject}, holds", holds, _HOLDS)
    names = [field.name for field in dataclasses.fields(MemoryLevel)][2:]
    read = (read_figure(f"{subject}, {name}", item, name) for name, item in zip(names, figures))
    return MemoryLevel(level, holds, *read)


def read_figure(subject: str, data: object, field: str = "") -> DeviceFigure:
    """A figure of a field from plain values; one without a source, or out of its bounds, is refused."""
    check_instance(subject, data, dict, "{'value': number or None, 'source': where it comes from}")
    check_fields(subject, data, ("value", "source"))  # type: ignore[arg-type]
    value, source = data["value"], data["source"]  # type: ignore[index]
    bounds: _Bounds = _BOUNDS.get(field, {"minimum": 0})
    check_number(f"{subject}, value", value, **bounds, optional=True)
    check_instance(f"{subject}, source", source, str, "where the figure comes from, or 'assumption: why'")
    if not source.strip():
        fix = "Name the datasheet or paper, or write 'assumption: why'."
        raise invalid_value(f"{subject}, source", expected="where the figure comes from", received="''", fix=fix)
    return DeviceFigure(None if value is None else float(value), source)

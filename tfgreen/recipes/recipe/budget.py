"""Budget: what a model may cost, and what finding it may."""

from __future__ import annotations

import dataclasses
from typing import TypedDict

from tfgreen.checks import check_number
from tfgreen.config import Config
from tfgreen.errors import invalid_value
from tfgreen.recipes.recipe.amounts import amount

# Field -> the unit of its numbers.
OF_FILE = {
    "max_drop": "share", "max_size": "B", "max_gzip": "B", "max_latency": "ms", "max_memory": "B", "max_joules": "J",
}  # fmt: skip
OF_RUN = {"max_hours": "h", "max_kwh": "kWh", "max_co2": "kg"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget(Config):
    """Upper bounds: numbers, or texts with a unit. None is no bound.

    Args:
        max_drop: How much worse the metric may get, >= 0: "1%" or 0.01. Points of a share such as accuracy (from 92 %
            to 91 %), and a share of the value before for any other metric (from an error of 2.00 to one of 2.02).
        max_size: Bytes of the ``.tflite`` file: "100kB" is 100,000, "100KiB" 102,400.
        max_gzip: Its bytes after gzip, as it is sent.
        max_latency: Median milliseconds of one inference, batch of 1, in LiteRT on this machine: "5ms".
        max_memory: Bytes of memory: those of tensors on a microcontroller (estimated) where the recipe checks the
            target "tflm", otherwise what one more interpreter takes.
        max_joules: Joules of one inference: "1mJ".
        max_hours, max_kwh, max_co2: What the run itself may use: hours ("30min"), kilowatt-hours ("100Wh"), kilograms
            of CO2 equivalent ("50g", which needs a region). Training ends after the epoch in which one is spent; what
            costs little is still done.

    Raises:
        TypeError, ValueError: A bound is no number, not above 0 (``max_drop``: below 0), or of another unit.

    Example:
        >>> import tfgreen as tg
        >>> tg.Budget(max_drop="1%", max_size="100kB", max_hours="30min").given
        {'max_drop': 0.01, 'max_size': 100000.0, 'max_hours': 0.5}
    """

    max_drop: float | str | None = None
    max_size: float | str | None = None
    max_gzip: float | str | None = None
    max_latency: float | str | None = None
    max_memory: float | str | None = None
    max_joules: float | str | None = None
    max_hours: float | str | None = None
    max_kwh: float | str | None = None
    max_co2: float | str | None = None

    def __post_init__(self) -> None:
        for name, unit in {**OF_FILE, **OF_RUN}.items():
            value = getattr(self, name)
            if value is not None:
                number = amount(name, value, unit)
                check_number(name, number, minimum=0)
                if name != "max_drop":
                    check_number(name, number, above=0)
                object.__setattr__(self, name, number)
        if self.max_size is not None and self.max_gzip is not None and float(self.max_gzip) >= float(self.max_size):
            expected = f"less than max_size, {self.max_size} bytes, as no file grows when it is gzipped"
            raise invalid_value("max_gzip", expected=expected, received=self.max_gzip, fix="Leave one of them out.")

    @property
    def given(self) -> dict[str, float]:
        """The bounds that there are, in bytes, milliseconds, joules, hours, kWh and kg."""
        return {name: getattr(self, name) for name in (*OF_FILE, *OF_RUN) if getattr(self, name) is not None}


class BudgetOptions(TypedDict, total=False):
    """The fields of :class:`Budget` as keyword arguments."""

    max_drop: float | str | None
    max_size: float | str | None
    max_gzip: float | str | None
    max_latency: float | str | None
    max_memory: float | str | None
    max_joules: float | str | None
    max_hours: float | str | None
    max_kwh: float | str | None
    max_co2: float | str | None

"""Limit: one limit of a budget, what came out, and whether it holds."""

from __future__ import annotations

import dataclasses

from tfgreen.checks import check_bool, check_instance, check_number
from tfgreen.errors import invalid_state
from tfgreen.reports.quantities import quantity
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit of a budget and the ``value`` that came out, both in ``unit``: None with a ``reason`` if there is none.

    A unit of :func:`quantity` is scaled to read well; another is a word. The value may be ``limit`` at most, or with
    ``at_least`` no less.

    Example:
        >>> size = Limit(name="size", limit=120_000, value=101_648, unit="B")
        >>> size.holds, size.margin_text
        (True, '18.4 kB to spare')
    """

    name: str
    limit: float
    value: float | None
    unit: str = ""
    at_least: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        check_instance("limit, name", self.name, str, "a text")
        check_number(f"limit '{self.name}'", self.limit)
        check_number(f"limit '{self.name}', value", self.value, optional=True)
        check_bool(f"limit '{self.name}', at_least", self.at_least)
        if self.value is None and not self.reason:
            raise invalid_state(f"limit '{self.name}' has no value and no reason.", "Pass reason='why'.")

    @property
    def holds(self) -> bool | None:
        """Whether the value is within the limit; None where there is no value."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def margin_text(self) -> str:
        """By how much, in words; "unknown" where there is no value."""
        if self.value is None:
            return "unknown"
        gap = abs(self.limit - self.value)
        if not gap:
            return "exactly at the limit"
        wrong = "too little" if self.at_least else "too much"
        return f"{quantity(gap, self.unit)} {'to spare' if self.holds else wrong}"

    @property
    def limit_text(self) -> str:
        """The limit in words."""
        return f"at {'least' if self.at_least else 'most'} {quantity(self.limit, self.unit)}"

    @property
    def value_text(self) -> str:
        """The value in words, or why there is none."""
        return self.reason if self.value is None else quantity(self.value, self.unit)

    def to_dict(self) -> PlainDict:
        """Plain values; ``"holds"`` among them."""
        return {**dataclasses.asdict(self), "holds": self.holds}

    @classmethod
    def from_dict(cls, data: PlainDict) -> Limit:
        """Rebuild a limit from :meth:`to_dict`."""
        return cls(**{key: value for key, value in data.items() if key != "holds"})

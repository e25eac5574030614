"""What a search has used, over all processes and its parts before and after a break, and whether that is enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tfgreen.recipes.search.problem import Stage
from tfgreen.reports.quantities import quantity


@dataclasses.dataclass(frozen=True)
class Spending:
    """What stages have cost: hours in which at least one process was at work, energy and emissions of all, and epochs.

    ``kwh`` and ``co2e_kg`` are None where a stage has none.
    """

    hours: float
    kwh: float | None
    co2e_kg: float | None
    epochs: int

    @classmethod
    def of(cls, stages: Iterable[Stage]) -> Spending:
        """The sum of stages, of any number of candidates."""
        stages = list(stages)
        kwh, co2e_kg = ([getattr(stage, name) for stage in stages] for name in ("kwh", "co2e_kg"))
        hours = _covered([(stage.begin, stage.end) for stage in stages]) / 3600
        return cls(hours, _total(kwh), _total(co2e_kg), sum(stage.epochs for stage in stages))

    def spent(self, most: Mapping[str, float]) -> str:
        """Which of ``max_hours``, ``max_kwh``, ``max_co2`` and ``max_epochs`` is reached, in a sentence; or ""."""
        for name, limit in most.items():
            value, unit = self._used(name)
            if value is not None and value >= limit:
                told = f"is spent: it used {quantity(value, unit)}"
                return f"{_told(name)} of the search, {quantity(limit, unit)}, {told}."
        return ""

    def too_much(self, more: Spending, most: Mapping[str, float]) -> str:
        """Which of the limits ``more`` would go beyond, in a sentence; or ""."""
        for name, limit in most.items():
            (value, unit), ahead = self._used(name), more._used(name)[0]
            if value is not None and ahead is not None and value + ahead > limit:
                told = f"it used {quantity(value, unit)}, and the next step takes about {quantity(ahead, unit)}"
                return f"{_told(name)} of the search, {quantity(limit, unit)}, leaves too little: {told}."
        return ""

    def _used(self, name: str) -> tuple[float | None, str]:
        return {
            "max_hours": (self.hours, "h"), "max_kwh": (self.kwh, "kWh"), "max_co2": (self.co2e_kg, "kg"),
            "max_epochs": (float(self.epochs), "epochs"),
        }[name]  # fmt: skip


def _told(name: str) -> str:
    return "max_trainings" if name == "max_epochs" else name  # which users give, as a number of trainings


def expected(stages: Sequence[Stage], epochs: int) -> Spending:
    """What a stage of so many epochs will cost, from what others did: so much in any case, and so much an epoch."""

    def cost(of: Callable[[Stage], float | None]) -> float | None:
        known = [(stage.epochs, value) for stage in stages if (value := of(stage)) is not None]
        if not known:
            return None
        fixed = float(np.median([value for count, value in known if not count] or [0.0]))
        each = [max(0.0, value - fixed) / count for count, value in known if count]
        return fixed + epochs * float(np.median(each or [0.0]))

    hours = cost(lambda stage: (stage.end - stage.begin) / 3600) or 0.0
    return Spending(hours, cost(lambda stage: stage.kwh), cost(lambda stage: stage.co2e_kg), epochs)


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """The length of the union of spans."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total

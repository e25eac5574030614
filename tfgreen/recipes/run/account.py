"""The account of a run: time, energy and emissions of each step, those of attempts that were cut off among them."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from types import TracebackType

from tfgreen.energy.carbon.grid import JOULES_PER_KWH
from tfgreen.energy.meter import EnergyMeter
from tfgreen.files import write_atomic
from tfgreen.recipes.recipe.budget import OF_RUN, Budget
from tfgreen.recipes.run.folder import writing
from tfgreen.reports.limits import Limit
from tfgreen.reports.quantities import quantity
from tfgreen.typing import PlainDict

_WORDS = {"max_hours": "time", "max_kwh": "energy", "max_co2": "emissions"}


@dataclasses.dataclass(frozen=True)
class Spent:
    """Seconds, joules and kilograms of CO2 equivalent; None where there was no reading. ``source`` is the meter's."""

    seconds: float = 0.0
    joules: float | None = 0.0
    co2e_kg: float | None = 0.0
    source: str = ""

    def __add__(self, other: Spent) -> Spent:
        joules = None if self.joules is None or other.joules is None else self.joules + other.joules
        co2e = None if self.co2e_kg is None or other.co2e_kg is None else self.co2e_kg + other.co2e_kg
        return Spent(self.seconds + other.seconds, joules, co2e, other.source or self.source)

    def amount(self, bound: str) -> float | None:
        """What of it a bound of a budget is about, in the unit of that."""
        if bound == "max_hours":
            return self.seconds / 3600
        if bound == "max_co2":
            return self.co2e_kg
        return None if self.joules is None else self.joules / JOULES_PER_KWH

    def to_dict(self) -> PlainDict:
        """Plain values."""
        return dataclasses.asdict(self)


def exceeded(budget: Budget, spent: Spent) -> str:
    """The sentence that a budget of the run is spent, or ""."""
    for bound, unit in OF_RUN.items():
        most, used = getattr(budget, bound), spent.amount(bound)
        if most is not None and used is not None and used >= most:
            of = f"The {_WORDS[bound]} of the run"
            return f"{of} is at its limit of {quantity(most, unit)}: {quantity(used, unit)} are spent."
    return ""


def run_limits(budget: Budget, spent: Spent) -> list[Limit]:
    """The bounds of the run beside what it spent."""
    limits = []
    for bound, unit in OF_RUN.items():
        most, used = getattr(budget, bound), spent.amount(bound)
        if most is not None:
            reason = "" if used is not None else "there is no reading"
            limits.append(Limit(name=f"{_WORDS[bound]} of the run", limit=most, value=used, unit=unit, reason=reason))
    return limits


class Account:
    """Counts what a step spends, from one attempt to the next.

    Args:
        before: What the steps before it have spent.
        file: Where to keep what was spent, should the step be cut off; None keeps nothing.
        region: That of the meter.
    """

    def __init__(self, before: Spent = Spent(), file: Path | None = None, region: str | None = None) -> None:
        self._before, self._file = before, file
        self._earlier = Spent(**json.loads(file.read_text())) if file is not None and file.exists() else Spent()
        self._meter = EnergyMeter(region)
        self._began = 0.0

    def __enter__(self) -> Account:
        self._meter.__enter__()
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self.keep()
        finally:
            self._meter.__exit__(kind, error, traceback)

    @property
    def step(self) -> Spent:
        """What the step has spent so far, in all its attempts."""
        reading = self._meter.so_far()
        return self._earlier + Spent(time.monotonic() - self._began, reading.joules, reading.co2e_kg, reading.source)

    @property
    def run(self) -> Spent:
        """What the run has spent so far."""
        return self._before + self.step

    def keep(self) -> None:
        """Keep what the step has spent so far, for the next attempt."""
        if self._file is not None and self._file.parent.is_dir():
            with writing(self._file.parent):
                write_atomic(self._file, json.dumps(self.step.to_dict()))

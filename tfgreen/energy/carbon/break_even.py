"""break_even: after how many inferences a smaller model has saved the energy that making it cost."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Protocol, TypeAlias

from tfgreen.checks import check_number
from tfgreen.energy.carbon.grid import JOULES_PER_KWH
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.tables import TableResult
from tfgreen.typing import PlainDict

Verdict: TypeAlias = Literal["paid back", "not shown", "never"]
Bounds: TypeAlias = tuple[float, float]

# What an energy is read from, as joules: of one inference, and of a whole run.
_ONE = {"joules_per_inference": 1.0}
_WHOLE = {"joules": 1.0, "kwh": JOULES_PER_KWH, "energy_kwh": JOULES_PER_KWH}
_SENTENCES: dict[Verdict, str] = {
    "paid back": "Paid back: an inference needs less energy than before, whatever the figures within the intervals.",
    "not shown": "Not shown: the intervals of before and after overlap, so it may never be paid back. Measure longer.",
    "never": "Never: an inference needs as much energy as before, or more.",
}


class HasKwh(Protocol):
    """What counts a run in kilowatt-hours: :class:`tg.EnergyReading`, :class:`tg.EnergyBudget`."""

    @property
    def kwh(self) -> float | None:
        """Kilowatt-hours of the run, or None."""


class PerInference(Protocol):
    """What holds the energy of one inference."""

    @property
    def joules_per_inference(self) -> float | None:
        """Joules of one inference, or None."""


@dataclasses.dataclass(frozen=True)
class EnergyAmount:
    """Joules with their lowest and highest value, or None for figures without an interval, and their source.

    Example:
        >>> break_even(0.010, 0.006, cost=3600).cost
        EnergyAmount(joules=3600.0, interval=None, source='given by the caller')
    """

    joules: float
    interval: Bounds | None
    source: str

    @property
    def bounds(self) -> Bounds:
        """The interval; a figure without one counts as exact."""
        return self.interval or (self.joules, self.joules)


@dataclasses.dataclass(frozen=True, repr=False)
class BreakEven(TableResult):
    """When the energy of compressing is paid back; prints as a table.

    Attributes:
        verdict: ``"paid back"``: the interval is finite. ``"not shown"``: the intervals of the two models overlap, so
            that it may never be. ``"never"``: the new model needs as much energy as the old one, or more.
        inferences: Inferences until then, from the middle figures; None where these save nothing.
        inferences_interval: Fewest and most inferences over all figures within the given intervals; the most are
            infinite where nothing is shown. None for ``"never"``, and where no figure has an interval.
        days, days_interval: The same in days, or None without ``per_day``.
        before, after: Joules of one inference, with interval and source.
        cost: Joules of compressing, with interval and source.
        per_day: Inferences in a day, or None.
    """

    verdict: Verdict
    inferences: float | None
    inferences_interval: Bounds | None
    days: float | None
    days_interval: Bounds | None
    before: EnergyAmount
    after: EnergyAmount
    cost: EnergyAmount
    per_day: float | None

    _headings: ClassVar[tuple[str, ...]] = ("figure", "value", "interval", "source")
    _left = (0, 3)

    def _headline(self) -> str:
        if self.verdict == "never":
            return "never paid back"
        found = [f"{value} {name.split()[0]}" for name, value, _, _ in self._rows()[3:]]
        return f"{self.verdict}, after {', '.join(found)} by the middle figures"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        parts = {"before, per inference": self.before, "after, per inference": self.after, "compressing": self.cost}
        rows = [(name, _joules(x.joules), _spread(x.interval, _joules), x.source) for name, x in parts.items()]
        if self.verdict == "never":
            return [*rows, ("inferences until paid back", "never", "-", "")]
        how, spread = "cost / (before - after)", _spread(self.inferences_interval, _count)
        rows.append(("inferences until paid back", _count(self.inferences), spread, how))
        if self.per_day is not None:
            how = f"at {self.per_day:,.6g} inferences a day"
            rows.append(("days until paid back", _count(self.days), _spread(self.days_interval, _count), how))
        return rows

    def _remarks(self) -> list[str]:
        remarks = [_SENTENCES[self.verdict]]
        exact = [name for name in ("before", "after", "cost") if getattr(self, name).interval is None]
        if exact:
            remarks.append(f"Taken as exact, as no interval is given: {', '.join(exact)}.")
        if self.before.source != self.after.source:
            remarks.append(f"Before and after do not compare: {self.before.source} against {self.after.source}.")
        return remarks

    def plot(self) -> PlainDict:
        """The plot as plain data: joules over inferences of both models, as lines with bands, and where they cross.

        The keys are ``title``, ``x_label``, ``y_label``, ``series`` (``(x, y)`` points by name), ``bands``
        (``(x, low, high)`` points by name) and ``marks`` (``(x, low, high)`` by name), which a report draws.
        """
        low, high = self.inferences_interval or (0.0, 0.0)
        middle = self.inferences or low or self.cost.joules / self.before.joules
        end = max(2 * middle, 1.25 * high if math.isfinite(high) else 0.0) or 1.0
        x_scale, x_unit = _unit(end, {"": 1, "thousand ": 1e3, "million ": 1e6, "billion ": 1e9})
        most = max(self.before.bounds[1] * end, self.cost.bounds[1] + self.after.bounds[1] * end)
        y_scale, y_unit = _unit(most, {"mJ": 1e-3, "J": 1, "kJ": 1e3, "MJ": 1e6, "GJ": 1e9})
        nothing = EnergyAmount(0.0, None, "")
        series, bands = {}, {}
        for name, start, slope in (("before", nothing, self.before), ("after, with its cost", self.cost, self.after)):
            series[name] = [(x / x_scale, (start.joules + slope.joules * x) / y_scale) for x in (0.0, end)]
            if start.interval or slope.interval:
                bands[name] = [
                    (x / x_scale, *((start.bounds[i] + slope.bounds[i] * x) / y_scale for i in (0, 1)))
                    for x in (0.0, end)
                ]
        marks = {}
        if self.inferences is not None:
            spread = self.inferences_interval or (self.inferences, self.inferences)
            marks["break-even"] = (self.inferences / x_scale, spread[0] / x_scale, min(spread[1], end) / x_scale)
        return {
            "title": f"Break-even: {self.verdict}",
            "x_label": f"{x_unit}inferences",
            "y_label": f"energy ({y_unit})",
            "series": series,
            "bands": bands,
            "marks": marks,
        }


def break_even(
    before: float | PerInference, after: float | PerInference, cost: float | HasKwh | Sequence[float | HasKwh], *,
    per_day: float | None = None,
) -> BreakEven:
    """Tell after how many inferences and days a compressed model has saved the energy that compressing it cost.

    The interval holds every combination of figures within the given intervals: the cost at its lowest over the saving
    at its highest, and the reverse. Give the same kind of figure for all: an error that they share, such as that of an
    estimated power, cancels in the ratio and makes the interval wider than it need be, never narrower.

    Args:
        before, after: Energy of one inference of each model: joules, or an energy with ``joules_per_inference`` and
            ``interval``.
        cost: Energy of compressing: joules, a :class:`tg.EnergyReading`, what holds ``kwh``, or a list of these, which
            are added: count the search, the training and the calibration.
        per_day: Inferences in a day, > 0, for the days.

    Raises:
        ValueError: An energy is negative or was not read, or ``per_day`` is not positive.
        TypeError: A value is of the wrong type.

    Example:
        >>> found = break_even(0.010, 0.006, cost=3600, per_day=10_000)
        >>> round(found.inferences), round(found.days), found.verdict
        (900000, 90, 'paid back')
        >>> break_even(0.006, 0.006, cost=3600)
        <BreakEven: never paid back>
    """
    check_number("per_day", per_day, above=0, optional=True)
    old, new = (_amount(name, value, _ONE) for name, value in (("before", before), ("after", after)))
    paid = _total([_amount("cost", part, _WHOLE) for part in (cost if isinstance(cost, Sequence) else [cost])])
    saving = old.joules - new.joules
    least, most = old.bounds[0] - new.bounds[1], old.bounds[1] - new.bounds[0]
    verdict: Verdict = "never" if most <= 0 else "not shown" if least <= 0 else "paid back"
    inferences, interval = None, None
    if verdict != "never":
        inferences = paid.joules / saving if saving > 0 else None
        if any(part.interval for part in (old, new, paid)):
            interval = (paid.bounds[0] / most, paid.bounds[1] / least if least > 0 else math.inf)
    days = None if per_day is None or inferences is None else inferences / per_day
    spread = None if per_day is None or interval is None else (interval[0] / per_day, interval[1] / per_day)
    return BreakEven(verdict, inferences, interval, days, spread, old, new, paid, per_day)


def _amount(name: str, value: object, attributes: dict[str, float]) -> EnergyAmount:
    """The energy that an argument is or holds in one of these attributes, each with its unit in joules."""
    if isinstance(value, numbers.Real):
        check_number(name, value, minimum=0 if attributes is _WHOLE else None, above=0 if attributes is _ONE else None)
        return EnergyAmount(float(value), None, "given by the caller")
    attribute = next((attribute for attribute in attributes if hasattr(value, attribute)), None)
    if attribute is None:
        raise invalid_type(name, expected=f"joules, or what has {' or '.join(attributes)}", received=value)
    found = getattr(value, attribute)
    if not found:
        how = getattr(value, "how", "") or "nothing was measured"
        raise invalid_state(f"{name} holds no energy reading: {how}.", "Pass joules of your own.")
    scale, interval = attributes[attribute], getattr(value, "interval", None)
    check_number(f"{name}, {attribute}", found, above=0)
    bounds = None if interval is None else (interval[0] * scale, interval[1] * scale)
    return EnergyAmount(float(found * scale), bounds, getattr(value, "source", type(value).__name__))


def _total(parts: list[EnergyAmount]) -> EnergyAmount:
    if not parts:
        raise invalid_value("cost", expected="one energy or more", received="an empty list")
    interval = None
    if any(part.interval for part in parts):
        interval = (sum(part.bounds[0] for part in parts), sum(part.bounds[1] for part in parts))
    source = ", ".join(dict.fromkeys(part.source for part in parts))
    return EnergyAmount(sum(part.joules for part in parts), interval, source)


def _spread(interval: Bounds | None, text: Callable[[float], str]) -> str:
    if interval is None:
        return "-"
    return f"{text(interval[0])} to {text(interval[1]) if math.isfinite(interval[1]) else 'never'}"


def _joules(value: float) -> str:
    return f"{value:.4g} J"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _unit(value: float, units: dict[str, float]) -> tuple[float, str]:
    """The largest unit that is at most a fifth of the value, or the smallest."""
    name = next((name for name in reversed(units) if value >= 5 * units[name]), next(iter(units)))
    return units[name], name

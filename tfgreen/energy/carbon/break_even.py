"""break_even: after how many inferences a smaller model has saved the energy that making it cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeAlias

from tfgreen.checks import check_number
from tfgreen.energy.carbon.amount import ONE, WHOLE, Bounds, EnergyAmount, PerInference, read_amount, total
from tfgreen.energy.carbon.grid import HasKwh
from tfgreen.tables import TableResult
from tfgreen.typing import PlainDict

Verdict: TypeAlias = Literal["paid back", "not shown", "never"]

_MEASURED = ("external", "rapl", "nvml")
_SENTENCES: dict[Verdict, str] = {
    "paid back": "Paid back: an inference needs less energy than before, and the intervals of both do not overlap.",
    "not shown": "Not shown: the intervals of before and after overlap, so it may never be paid back. Measure longer.",
    "never": "Never: an inference needs as much energy as before, or more.",
}


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

    @property
    def sentences(self) -> list[str]:
        """What the verdict means, and what it does not hold."""
        return self._remarks()

    def _headline(self) -> str:
        apart = "" if self.before.source == self.after.source else ", of figures whose sources do not compare"
        return self._told() + apart

    def _told(self) -> str:
        if self.verdict == "never":
            return "never paid back"
        if self.inferences is None:
            return f"{self.verdict}: the middle figures save nothing"
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
        held = self._held()
        if held:
            remarks.append(f"The intervals hold only this: {'; '.join(held)}.")
        if self.before.source != self.after.source:
            remarks.append(f"Before and after do not compare: {self.before.source} against {self.after.source}.")
        return remarks

    def _held(self) -> list[str]:
        """What the intervals of measured and estimated figures hold, as their sources say it."""
        held = []
        if any(x.interval and x.source in (*_MEASURED, "estimate") for x in (self.before, self.after)):
            held.append("before and after, how well the figures repeat, not how accurate their source is")
        sources = self.cost.source.split(", ")
        if self.cost.interval and "estimate" in sources:
            held.append("cost, the spread of the watts that it is estimated with")
        if self.cost.interval and set(sources) & set(_MEASURED):
            held.append("cost, the time between two updates of its counter")
        return held

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
    before: float | PerInference | EnergyAmount, after: float | PerInference | EnergyAmount,
    cost: float | HasKwh | EnergyAmount | Sequence[float | HasKwh | EnergyAmount], *, per_day: float | None = None,
) -> BreakEven:
    """Tell after how many inferences and days a compressed model has saved the energy that compressing it cost.

    The interval holds every combination of figures within the given intervals: the cost at its lowest over the saving
    at its highest, and the reverse. Give the same kind of figure for all: an error that they share, such as that of an
    estimated power, cancels in the ratio and makes the interval wider than it need be, never narrower.

    Args:
        before, after: Energy of one inference of each model: joules, a :class:`tg.EnergyAmount`, or an energy with
            ``joules_per_inference``, such as that of :func:`tg.inference_energy` or :func:`tg.estimate_energy`.
        cost: Energy of compressing: joules, a :class:`tg.EnergyAmount`, a :class:`tg.EnergyReading`, what holds
            ``kwh``, or a list of these, which are added: count the search, the training and the calibration.
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
    old, new = (read_amount(name, value, ONE) for name, value in (("before", before), ("after", after)))
    paid = total([read_amount("cost", part, WHOLE) for part in (cost if isinstance(cost, Sequence) else [cost])])
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

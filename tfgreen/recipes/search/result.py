"""SearchResult: what a search has found, as a table, a plot, a report and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import ClassVar

from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.search.candidate import Candidate
from tfgreen.recipes.search.spending import Spending
from tfgreen.reports import figures
from tfgreen.reports.metric import Metric
from tfgreen.reports.page.content import cost_plots
from tfgreen.reports.quantities import quantity
from tfgreen.reports.report import RunReport
from tfgreen.reports.variant import Variant
from tfgreen.tables import RowResult, TableResult, plain
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True)
class FrontPoint(RowResult):
    """A candidate of the front, with its files.

    Attributes:
        candidate: How it was found; its figures are of the validation split.
        variant: Its figures, measured once on the test split with all of the front.
        recipe: What makes it.
        folder: Where ``model.tflite`` and ``recipe.yaml`` are.
    """

    candidate: Candidate
    variant: Variant
    recipe: Recipe
    folder: Path

    def to_dict(self) -> PlainDict:
        """Return plain values."""
        return {
            "candidate": self.candidate.to_dict(), "variant": self.variant.to_dict(),
            "recipe": self.recipe.to_dict(), "folder": str(self.folder),
        }  # fmt: skip


@dataclasses.dataclass(frozen=True, repr=False)
class SearchResult(TableResult):
    """What :func:`tfgreen.search` has found; prints as a table of the front.

    Attributes:
        front: The candidates that keep the budget and that no other dominates, by the metric. Empty if none keeps it.
        best: The one of them to take: that of the lowest costs (the geometric mean of the objectives beside the
            metric) where the budget bounds the drop, otherwise that of the best metric. None if there is none.
        closest: Bound -> the candidate that breaks it least while it keeps the others best.
        binding: The bound in the way where the front is empty: without it the most candidates would fit.
        candidates: All that were tried, by this process and others.
        ended: Why the search ended before all trials, or "".
        spending: What it took: hours, energy, emissions and epochs.
        trainings: The same as a number of whole trainings of a candidate; None where none was trained.
        improvement: Whether a candidate is better than the recipe's own settings, in a sentence.
        report: The float32 file and the front on the test split; with an empty front, the closest candidate.
    """

    front: tuple[FrontPoint, ...]
    best: FrontPoint | None
    closest: Mapping[str, Candidate]
    binding: str
    candidates: tuple[Candidate, ...]
    ended: str
    spending: Spending
    trainings: float | None
    improvement: str
    report: RunReport

    _left: ClassVar[tuple[int, ...]] = (0, 1)

    @property
    def holds(self) -> bool:
        """Whether a candidate keeps the budget on the validation split, and the best one on the test split too."""
        return self.best is not None and self.report.verdict.holds is not False

    @property
    def _metric(self) -> Metric:
        return self.report.metric

    @property
    def _shown(self) -> list[figures.Figure]:
        return [name for name in figures.used_figures([point.variant for point in self.front]) if name in _COLUMNS]

    @property
    def _headings(self) -> tuple[str, ...]:  # type: ignore[override]
        validation = f"{self._metric.name} (validation)"
        test = ("the same (test)" if name == "metric" else figures.label(name, self._metric) for name in self._shown)
        return ("candidate", "settings", validation, *test)

    def _rows(self) -> list[list[str]]:
        rows = []
        for point in self.front:
            name = f"{point.candidate.number + 1}{' (best)' if point is self.best else ''}"
            value = point.candidate.figures.get("metric")
            validation = figures.MISSING if value is None else self._metric.text(value)
            shown = (figures.value_text(point.variant, figure, self._metric) for figure in self._shown)
            rows.append([name, in_words(point.candidate.settings), validation, *shown])
        return rows

    def _marked(self) -> list[int]:
        return [number for number, point in enumerate(self.front) if point is self.best]

    def _headline(self) -> str:
        count = len(self.candidates)
        if self.best is None:
            return f"none of {count} candidates keeps the budget; {self.binding} is in the way"
        return f"{len(self.front)} of {count} candidates on the front, the best is {self.best.variant.name}"

    def _remarks(self) -> list[str]:
        spent = [quantity(self.spending.hours, "h"), f"{self.spending.epochs} epochs"]
        spent += [quantity(self.spending.kwh, "kWh")] if self.spending.kwh is not None else []
        spent += [f"{quantity(self.spending.co2e_kg, 'kg')} CO2e"] if self.spending.co2e_kg is not None else []
        worth = "" if self.trainings is None else f", as much as {self.trainings:.3g} whole trainings"
        told = [f"The search took {', '.join(spent)}{worth}."]
        paid = self.report.break_even
        if paid is not None:
            after = "" if paid.inferences is None else f", after {paid.inferences:,.0f} inferences"
            told.append(f"Break-even of the search: {paid.verdict}{after}.")
        if self.best is not None and not self.holds:
            told.insert(0, self.report.verdict.sentence)
        if self.best is None:
            told.insert(0, f"{self._headline().capitalize()}.")
            told += [
                f"Closest to {name}: candidate {one.number + 1} ({in_words(one.settings)}), "
                f"{'within it' if one.violations[name] <= 0 else f'beyond it by {one.violations[name]:.1%}'}."
                for name, one in self.closest.items()
            ]
        return [*told, *filter(None, (self.improvement, self.ended))]

    def _repr_html_(self) -> str:
        if not self.front:
            return "".join(f"<p>{escape(remark)}</p>" for remark in self._remarks())
        plots = [x for block in cost_plots(self.report.variants, self._metric) for x in getattr(block, "figures", ())]
        return super()._repr_html_() + "".join(plots)

    def to_dict(self) -> PlainDict:
        """Plain values for JSON, the report left out."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "report"}
        return {**plain(values), "holds": self.holds}


_COLUMNS = ("metric", "size_bytes", "gzip_bytes", "latency_ms", "energy")


def in_words(settings: Mapping[str, object]) -> str:
    """Settings in a line."""
    return ", ".join(f"{name} {_text(value)}" for name, value in settings.items())


def _text(value: object) -> str:
    """A value of a setting in a few characters; None leaves a step out."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return in_words(value) or "on"
    return "off" if value is None else str(value)

"""Problem: what a search is to find, whatever is measured and however: settings, objectives, bounds and stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfgreen.recipes.search.space import Space
from tfgreen.typing import PlainDict

# Of a candidate's settings at a stage, counted from 0: its figures by name.
Evaluate = Callable[[PlainDict, int], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A figure that is to be low, or high. With ``digits``, it is compared at so many significant ones.

    Times differ by a percent or two from one measurement to the next, which makes no candidate better than another.
    """

    name: str
    higher_is_better: bool = False
    digits: int | None = None

    def cost(self, figures: Mapping[str, float]) -> float:
        """The figure as a number to be minimized."""
        value = figures[self.name]
        value = value if self.digits is None else float(f"{value:.{self.digits - 1}e}")
        return -value if self.higher_is_better else value


@dataclasses.dataclass(frozen=True)
class Bound:
    """A limit on a figure: ``limit`` at most, or with ``at_least`` no less, in a unit of :func:`quantity`.

    ``trained`` says that training changes the figure."""

    name: str
    figure: str
    limit: float
    at_least: bool = False
    trained: bool = False
    unit: str = ""

    def violation(self, figures: Mapping[str, float]) -> float:
        """By how much of the limit a figure is beyond it; 0 or less if it holds."""
        excess = figures[self.figure] - self.limit
        return (-excess if self.at_least else excess) / (abs(self.limit) or 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Find the settings in ``space`` of which the objectives are best, within the bounds.

    ``evaluate`` measures a candidate at a stage, from the first, which trains nothing, to the last of so many
    ``stages``, and raises a TfgreenError for one that cannot be. ``epochs`` says for how long it trains then; ``start``
    holds the candidates to be tried first, which go through all stages. ``reference`` are the figures of the model as
    it is.
    """

    space: Space
    objectives: tuple[Objective, ...]
    evaluate: Evaluate
    bounds: tuple[Bound, ...] = ()
    stages: int = 1
    start: tuple[PlainDict, ...] = ()
    epochs: Callable[[PlainDict, int], int] = lambda settings, stage: 0
    reference: Mapping[str, float] | None = None

    def costs(self, figures: Mapping[str, float]) -> np.ndarray:
        """The objectives of a candidate, to be minimized."""
        return np.array([objective.cost(figures) for objective in self.objectives])

    def is_better(self, one: Mapping[str, float], other: Mapping[str, float]) -> bool:
        """Whether a candidate dominates another, and is not just better in what differs by chance."""
        costs, others = self.costs(one), self.costs(other)
        exact = [objective.digits is None for objective in self.objectives]
        return bool(np.all(costs <= others) and np.any(costs[exact] < others[exact]))

    def violations(self, figures: Mapping[str, float], trained: bool = True) -> dict[str, float]:
        """By how much each bound is violated; without those of figures that training changes unless it is done."""
        return {bound.name: bound.violation(figures) for bound in self.bounds if trained or not bound.trained}


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a candidate came to at a stage, when it began and ended (seconds since 1970), and what it cost."""

    figures: Mapping[str, float]
    begin: float
    end: float
    epochs: int = 0
    kwh: float | None = None
    co2e_kg: float | None = None


def stages_of(plain: Any) -> tuple[Stage, ...]:
    """Stages as a study keeps them."""
    return tuple(Stage(**stage) for stage in plain or ())

"""State: what a run has made so far, and Task: what it is about. Every step takes both and returns the next state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import keras

from tfgreen.recipes.data.data import Data
from tfgreen.recipes.measure.measure_variants import Export
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.progress import Progress
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.recipe.steps import Step
from tfgreen.reports.curves import Curve
from tfgreen.reports.limits import Limit
from tfgreen.typing import Arrays

CALIBRATION_SAMPLES = 512


@dataclasses.dataclass(frozen=True)
class Task:
    """What a run is about; the same for all its steps, but for ``ahead``, the steps that are still to come.

    ``original`` is the user's model, which no step changes; ``metric`` is None without targets.
    """

    original: keras.Model
    data: Data
    metric: Metric | None
    recipe: Recipe
    seed: int = 0
    region: str | None = None
    progress: Progress = dataclasses.field(default_factory=Progress)
    ahead: Sequence[Step] = ()

    @property
    def calibration_data(self) -> Arrays:
        """Training samples, spread evenly."""
        return self.data.train.samples(CALIBRATION_SAMPLES)


@dataclasses.dataclass(frozen=True)
class State:
    """What there is after a step.

    Attributes:
        model: The model as it is now. Steps return another one and leave it as it is.
        exports: The files so far, by the name of their variant, each with the model that it was made from.
        notes: What the last step has to say, in sentences.
        curves: What it recorded over time.
        limits: What it held the file to, besides the budget.
        measures: What the report is to measure, and how, by the name of the step.
    """

    model: keras.Model
    exports: Mapping[str, Export] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()
    limits: tuple[Limit, ...] = ()
    measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def last(self) -> str:
        """The name of the file that was made last."""
        return list(self.exports)[-1]


# A step: from a state, its settings (a Config) and the task to the next state.
StepFunction: TypeAlias = Callable[[State, Any, Task], State]

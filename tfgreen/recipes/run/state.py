"""State: what a run has made so far, and Task: what it is about. Every step takes both and returns the next state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import keras

from tfgreen.recipes.data.data import Data
from tfgreen.recipes.measure.measure_variants import Export
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.recipe.steps import Step
from tfgreen.recipes.run.account import Account
from tfgreen.reports.curves import Curve
from tfgreen.reports.limits import Limit
from tfgreen.typing import Arrays

CALIBRATION_SAMPLES = 512


@dataclasses.dataclass(frozen=True)
class Task:
    """What a run is about, and for the step that is carried out, what else it may know.

    Attributes:
        original: The user's model, which no step changes.
        data: The data; choices are made on its validation split.
        metric: What the model is judged by; None without targets.
        recipe: The recipe with the budget that counts.
        seed: That of the run; of the step, while one is carried out.
        region: Of the grid, or None.
        ahead: The steps that are still to come.
        unfinished: The folder in which the step may keep what it has, until it is done; None for nowhere.
        account: What the step and the run have spent so far.
        say: Shows how far the step is: a text, and the share of it that is done.
    """

    original: keras.Model
    data: Data
    metric: Metric | None
    recipe: Recipe
    seed: int = 0
    region: str | None = None
    ahead: Sequence[Step] = ()
    unfinished: Path | None = None
    account: Account = dataclasses.field(default_factory=Account)
    say: Callable[[str, float], None] = lambda text, share: None

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
        cut: Why it ended before its time, with the budget of the run that was spent; or "".
    """

    model: keras.Model
    exports: Mapping[str, Export] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()
    limits: tuple[Limit, ...] = ()
    cut: str = ""

    @property
    def last(self) -> str:
        """The name of the file that was made last."""
        return list(self.exports)[-1]


# A step: from a state, its settings (a Config) and the task to the next state.
StepFunction: TypeAlias = Callable[[State, Any, Task], State]

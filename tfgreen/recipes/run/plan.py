"""plan: what a recipe would do, and about how long and how much energy it would take, without doing it."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, ClassVar

import keras
from typing_extensions import Unpack

from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import run_conversion
from tfgreen.energy.carbon.grid import JOULES_PER_KWH
from tfgreen.energy.meter import EnergyMeter
from tfgreen.model.rebuild import rebuild
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.recipe.budget import OF_RUN, Budget, BudgetOptions
from tfgreen.recipes.recipe.recipe import AnyRecipe
from tfgreen.recipes.recipe.step_settings import TrainStep
from tfgreen.recipes.recipe.steps import next_training, step_names
from tfgreen.recipes.run.optimize import make_task
from tfgreen.recipes.run.pace import weights
from tfgreen.recipes.run.state import Task
from tfgreen.recipes.run.steps.batches import batches_of, epochs_of
from tfgreen.recipes.run.steps.losses import losses_of
from tfgreen.reports.quantities import quantity
from tfgreen.tables import TableResult

_TIMED, _LONGEST = 5, 10.0  # batches that are timed, and for how many seconds at most
_HOW = f"estimated from {_TIMED} batches of training and a conversion; right within a factor of about two"
_ENERGY_SECONDS = 2 * 3.0  # of the two files that are compared


@dataclasses.dataclass(frozen=True, repr=False)
class PlannedStep:
    """A step, and about what it takes; ``kwh`` is None where the machine gives no reading."""

    name: str
    settings: str
    minutes: float
    kwh: float | None


@dataclasses.dataclass(frozen=True, repr=False)
class RunPlan(TableResult):
    """What a recipe would do; see :func:`tg.plan`.

    Attributes:
        recipe: The name of the recipe.
        steps: What each step takes.
        over: The bounds of the budget for the run that it would exceed, in sentences.
        how: How the estimate was made.
    """

    recipe: str
    steps: tuple[PlannedStep, ...]
    over: tuple[str, ...]
    how: str

    _headings: ClassVar[tuple[str, ...]] = ("step", "settings", "time", "energy")
    _left: ClassVar[int] = 2

    @property
    def minutes(self) -> float:
        """Those of all steps."""
        return sum(step.minutes for step in self.steps)

    @property
    def kwh(self) -> float | None:
        """The energy of all steps."""
        found = [step.kwh for step in self.steps]
        return None if None in found else sum(kwh for kwh in found if kwh is not None)

    def _headline(self) -> str:
        energy = "" if self.kwh is None else f", {quantity(self.kwh, 'kWh')}"
        return f"{self.recipe}: {len(self.steps)} steps, about {quantity(self.minutes / 60, 'h')}{energy}"

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                step.name, step.settings, quantity(step.minutes / 60, "h") if step.minutes else "short",
                "" if not step.kwh else quantity(step.kwh, "kWh"),
            )
            for step in self.steps
        ]  # fmt: skip

    def _remarks(self) -> list[str]:
        return [self._headline(), self.how, *self.over]


def plan(
    model: keras.Model,
    data: Data,
    recipe: AnyRecipe = "balanced",
    *,
    metric: Metric | str | None = None,
    budget: Budget | None = None,
    region: str | None = None,
    **bounds: Unpack[BudgetOptions],
) -> RunPlan:
    """What :func:`tg.optimize` would do with the same arguments, and about what it would take; nothing is trained.

    A few batches of training of the original are timed, and one conversion; the rest is counted from there.

    Args:
        model, data, recipe, metric, budget, region, bounds: As for :func:`tg.optimize`.

    Returns:
        The steps with their time and energy. Take the sum for right within a factor of two: the model gets smaller on
        the way, and the machine may be busy.

    Raises:
        TypeError, ValueError: See :func:`tg.optimize`.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> data = tg.Data.from_arrays(np.ones((60, 4), "float32"), np.arange(60) % 2)
        >>> found = tg.plan(model, data, [{"train": {"epochs": 2}}, "convert"])
        >>> [step.name for step in found.steps], found.minutes > 0
        (['original', 'train', 'convert', 'measure'], True)
    """
    task = make_task(model, data, recipe, metric, budget, bounds, region, 0)
    with EnergyMeter(region) as meter:
        began = time.monotonic()
        config = next_training(task.recipe.steps)
        training = 0.0 if config is None else _seconds_of_a_sample(task, config.batch_size)
        conversion = _seconds_of_a_conversion(task)
        watts = None if (read := meter.so_far()).joules is None else read.joules / max(time.monotonic() - began, 1e-9)

    def planned(name: str, settings: str, seconds: float) -> PlannedStep:
        return PlannedStep(name, settings, seconds / 60, None if watts is None else seconds * watts / JOULES_PER_KWH)

    steps = [planned("original", "float32", conversion)]
    for name, step, weight in zip(step_names(task.recipe.steps), task.recipe.steps, weights(task.recipe.steps)):
        if step.settings is None:
            continue
        seconds = conversion if step.name == "convert" else 0.0
        if isinstance(step.config, TrainStep):
            seconds = training * weight * batches_of(data.train, step.config.batch_size) * step.config.batch_size
        given = step.to_dict()[step.name]
        steps.append(planned(name, ", ".join(f"{key}: {value}" for key, value in given.items()), seconds))
    with_energy = any(step.name == "energy" for step in task.recipe.steps)
    steps.append(planned("measure", "", conversion + _ENERGY_SECONDS * with_energy))
    found = RunPlan(task.recipe.name, tuple(steps), (), _HOW)
    return dataclasses.replace(found, over=_over(task, found))


def _seconds_of_a_sample(task: Task, size: int) -> float:
    """Seconds of plain training of the original in batches of ``size``, per sample."""
    model: Any = rebuild(task.original, lambda path, layer: layer)
    losses_of(task.original, task.data.train, task.recipe.loss).compile(model, keras.optimizers.Adam())
    batches = list(epochs_of(task.data.train, size, range(1), 0).take(_TIMED + 1))
    model.train_on_batch(*batches[0])  # traces
    began, count = time.monotonic(), 0
    for batch in batches[1:] or batches:
        model.train_on_batch(*batch)
        count += len(keras.tree.flatten(batch[0])[0])
        if time.monotonic() - began > _LONGEST:
            break
    return (time.monotonic() - began) / count


def _seconds_of_a_conversion(task: Task) -> float:
    began = time.monotonic()
    run_conversion(task.original, ConvertConfig())
    return time.monotonic() - began


def _over(task: Task, found: RunPlan) -> tuple[str, ...]:
    """The bounds of the run that the estimate exceeds."""
    expected = {"max_hours": found.minutes / 60, "max_kwh": found.kwh}
    sentences = []
    for bound, value in expected.items():
        most = getattr(task.recipe.budget, bound)
        if most is not None and value is not None and value > most:
            unit = OF_RUN[bound]
            sentences.append(f"{bound} is {quantity(most, unit)}: training would end before its last epoch.")
    return tuple(sentences)

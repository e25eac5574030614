"""Evaluate candidates of a recipe: carry it out as far as a stage goes, and measure its file on the validation split.

A stage cuts trainings short, to see early which candidates are worth a whole one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tfgreen.checks import check_integer
from tfgreen.deploy.inspection.benchmark import benchmark, ready_interpreter
from tfgreen.deploy.inspection.check_target import check_target
from tfgreen.deploy.inspection.target_tables import TargetName
from tfgreen.deploy.litert_model import LiteRTModel, load_litert
from tfgreen.energy.inference import InferenceEnergy, measure_in_turn
from tfgreen.energy.meter import EnergyMeter
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.files import atomic_folder
from tfgreen.recipes.measure.measure_variants import Export
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.recipe.budget import Budget
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.recipe.step_settings import TargetStep, TrainStep
from tfgreen.recipes.run.kept_model import CannotKeep, load_kept, save_kept
from tfgreen.recipes.run.keys import hash_of
from tfgreen.recipes.run.state import Task
from tfgreen.recipes.search.around import picked
from tfgreen.recipes.search.problem import Bound
from tfgreen.recipes.search.space import Space
from tfgreen.typing import PlainDict

# Bound of a budget -> the figure that it is about, and its unit.
FIGURES: Mapping[str, tuple[str, str]] = {
    "max_size": ("size_bytes", "B"),
    "max_gzip": ("gzip_bytes", "B"),
    "max_latency": ("latency_ms", "ms"),
    "max_memory": ("memory_bytes", "B"),
    "max_joules": ("energy", "J"),
}
STAGES = (0, 1, 3)  # longest training of each stage, in epochs, before the last
ALL_FILES = ("model.keras", "model.tflite")  # of a candidate
_UNTRAINED = ("latency_ms", "memory_bytes", "energy")  # which training does not change: measured once
_RUNS, _SECONDS = 100, 0.7  # inferences for the latency, and how long they go on for the energy

# Carries out the recipe of a task; returns the last file and the model it was made from.
CarryOut = Callable[[Task], Export]


class Evaluation:
    """Measures candidates of an open recipe, and keeps the files of those that come to the last stage.

    Args:
        task: What a run is about; the recipe is open.
        space: Its settings.
        stages: The longest training of each stage, None for the whole recipe.
        figures: What to measure: names of :data:`FIGURES`, and ``"metric"``.
        carry_out: Carries a recipe out.
        folder: Where to keep files.
    """

    def __init__(
        self, task: Task, space: Space, stages: Sequence[int | None], figures: Collection[str], carry_out: CarryOut,
        folder: Path,
    ) -> None:  # fmt: skip
        self.task, self._space, self._stages, self._figures = task, space, stages, figures
        self._carry_out, self._folder = carry_out, folder
        self._untrained: dict[str, dict[str, float]] = {}

    def __call__(self, settings: PlainDict, stage: int) -> dict[str, float]:
        """The figures of a candidate at a stage."""
        export = self._export(settings, stage)
        lite, split, metric = export.lite, self.task.data.validation, self.task.metric
        key = repr(settings)
        if key not in self._untrained:
            self._untrained = {key: file_figures(lite, self.task, self._figures)}
        figures = {"size_bytes": float(lite.size_bytes), "gzip_bytes": float(lite.gzip_bytes), **self._untrained[key]}
        if metric is not None:
            figures["metric"] = metric.evaluate(lite, split).value
        if stage == len(self._stages) - 1:
            self._keep(settings, export)
        return figures

    def recipe(self, settings: Mapping[str, Any], stage: int = -1) -> Recipe:
        """The recipe of a candidate at a stage."""
        return cut_short(picked(self.task.recipe, self._space, settings), self._stages[stage])

    def epochs(self, settings: Mapping[str, Any], stage: int) -> int:
        """How many epochs a candidate trains at a stage: none if the stage before was no shorter, and is taken over."""
        recipe = self.recipe(settings, stage)
        same = stage > 0 and recipe.to_dict() == self.recipe(settings, stage - 1).to_dict()
        return 0 if same else epochs_of(recipe)

    def export(self, settings: Mapping[str, Any], stage: int = -1) -> Export:
        """The file of a candidate at a stage, and its model: the last as it was kept, or made again."""
        place = self._place(settings)
        if stage not in (-1, len(self._stages) - 1) or not place.is_dir():
            return self._export(settings, stage)
        return Export(load_kept(place / "model.keras", self.task), load_litert(place / "model.tflite"))

    def _export(self, settings: Mapping[str, Any], stage: int) -> Export:
        return self._carry_out(dataclasses.replace(self.task, recipe=self.recipe(settings, stage)))

    def _place(self, settings: Mapping[str, Any]) -> Path:
        return self._folder / hash_of(self.recipe(settings).to_dict())[:12]

    def _keep(self, settings: Mapping[str, Any], export: Export) -> None:
        """Keep the files, unless Keras cannot keep the model: then they are made again when they are wanted."""
        with contextlib.suppress(CannotKeep), atomic_folder(self._place(settings), ALL_FILES) as folder:
            save_kept(export.model, folder / "model.keras", self.task)
            export.lite.save(folder / "model.tflite")


def file_figures(lite: LiteRTModel, task: Task, figures: Collection[str]) -> dict[str, float]:
    """The figures of a file that no training changes, of those that are asked for; what cannot be had is left out."""
    found, targets = dict[str, float](), targets_of(task.recipe)
    if targets:
        found["target_errors"] = float(sum(len(check_target(lite, target).errors) for target in targets))
    if "latency_ms" in figures or "memory_bytes" in figures:
        times = benchmark(lite, x=task.data.validation.samples(1), runs=_RUNS)
        found["latency_ms"] = times.median_ms
        memory = lite.arena_bytes.planned_bytes if "tflm" in targets else times.peak_memory_bytes
        if memory:
            found["memory_bytes"] = float(memory)
    if "energy" in figures:
        joules = file_energy(lite, task).joules_per_inference
        if joules is not None:
            found["energy"] = joules
    return {name: value for name, value in found.items() if name in (*figures, "target_errors")}


def file_energy(lite: LiteRTModel, task: Task) -> InferenceEnergy:
    """The energy of an inference, and where it comes from."""
    run = ready_interpreter(lite, sample=lite.first_sample(task.data.validation.samples(1))).invoke
    return measure_in_turn({"file": run}, EnergyMeter(task.region, components=("cpu",)), _SECONDS)["file"]


def targets_of(recipe: Recipe) -> list[TargetName]:
    """The targets that a recipe checks its file for."""
    configs = [step.config for step in recipe.steps if step.name == "check_target" and not step.is_open]
    return [config.target for config in configs if isinstance(config, TargetStep)]


def bounds_of(budget: Budget, base: Mapping[str, float], metric: Metric | None) -> tuple[Bound, ...]:
    """The bounds of files; ``base`` are the figures of the float32 file, from which a drop counts.

    Raises:
        ValueError: A bound is about a figure that this machine does not give.
    """
    bounds = []
    if "target_errors" in base:
        bounds.append(Bound("check_target", "target_errors", 0, unit="errors"))
    for name, (figure, unit) in FIGURES.items():
        limit = getattr(budget, name)
        if limit is not None:
            if figure not in base:
                sentence = f"{name}: this machine gives no {figure} of the float32 file."
                raise invalid_state(sentence, "Leave the bound out.")
            bounds.append(Bound(name, figure, limit, unit=unit))
    if budget.max_drop is not None and metric is not None:
        before = base["metric"]
        drop = float(budget.max_drop) * (1.0 if metric.is_share else abs(before))
        higher = metric.direction == "higher"
        limit = before - drop if higher else before + drop
        bounds.append(Bound("max_drop", "metric", limit, at_least=higher, trained=True))
    return tuple(bounds)


def check_stages(stages: Sequence[int]) -> None:
    """Raise unless the stages are epochs that grow."""
    if isinstance(stages, str) or not isinstance(stages, Sequence):
        raise invalid_type("stages", expected="a sequence of epochs, such as (0, 1, 3)", received=stages)
    for epochs in stages:
        check_integer("stages", epochs, minimum=0)
    if list(stages) != sorted(set(stages)):
        raise invalid_value("stages", expected="epochs that grow, such as (0, 1, 3)", received=tuple(stages))


def cut_short(recipe: Recipe, most: int | None) -> Recipe:
    """The recipe with no training longer than ``most`` epochs; at 0 those steps are left out, and None cuts nothing.

    Example:
        >>> recipe = Recipe([{"train": {"epochs": 8}}, {"distill": {"epochs": 2}}, "convert"])
        >>> [step.settings for step in cut_short(recipe, 3).steps]
        [{'epochs': 3}, {'epochs': 2}, {}]
    """
    steps = []
    for step in recipe.steps:
        config = None if step.settings is None else step.config
        if most is not None and isinstance(config, TrainStep) and config.epochs > most:
            settings: PlainDict = {**cast(Mapping[str, Any], step.settings), "epochs": most}
            step = dataclasses.replace(step, settings=settings if most else None)
        steps.append(step)
    return Recipe(steps, recipe.name, recipe.budget, recipe.description, recipe.loss)


def epochs_of(recipe: Recipe) -> int:
    """The epochs of all its trainings."""
    configs = [step.config for step in recipe.steps if step.settings is not None]
    return sum(config.epochs for config in configs if isinstance(config, TrainStep))

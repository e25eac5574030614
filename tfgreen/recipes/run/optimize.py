"""optimize: carry a recipe out on a model and its data, and report what came of it."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping
from typing import Any

import keras
from typing_extensions import Unpack

from tfgreen.checks import check_instance, check_integer
from tfgreen.config import Config, resolve_config
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.energy.carbon.break_even import break_even
from tfgreen.energy.meter import EnergyMeter, EnergyReading
from tfgreen.errors import invalid_state
from tfgreen.files import made_folder, write_atomic
from tfgreen.model.paths import check_built_model
from tfgreen.model.rebuild import rebuild
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.measure.check_fits import check_fits
from tfgreen.recipes.measure.measure_variants import measure_variants, report_metric
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.progress import Progress
from tfgreen.recipes.recipe.budget import Budget, BudgetOptions
from tfgreen.recipes.recipe.recipe import AnyRecipe, Recipe
from tfgreen.recipes.run.limits import file_limits, run_limits
from tfgreen.recipes.run.losses import compiled, losses_of
from tfgreen.recipes.run.state import State, Task
from tfgreen.recipes.run.step_functions import FUNCTIONS
from tfgreen.reports.environment import environment
from tfgreen.reports.layers import layer_rows
from tfgreen.reports.report import RunReport
from tfgreen.typing import FilePath, PlainDict

_ROWS = 64  # samples on which the errors of layers are measured


def optimize(
    model: keras.Model,
    data: Data,
    recipe: AnyRecipe = "balanced",
    *,
    output: FilePath,
    metric: Metric | str | None = None,
    budget: Budget | None = None,
    region: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **bounds: Unpack[BudgetOptions],
) -> RunReport:
    """Make a model smaller, faster and greener by a recipe, and report what it gained, what it lost and what it cost.

    The folder ``output`` gets ``model.tflite``, ``float32.tflite`` (the original), ``model.keras``, the recipe as it
    was run and the report (``report.html``, ``.json``, ``.md``). Choices are made on the validation split; the test
    split is measured once, at the end. Sets the global seeds of Python, NumPy and TensorFlow.

    Args:
        model: A trained Keras model of any kind, which is not changed.
        data: What it was trained on, prepared as for its training. Without targets, a recipe may not train.
        recipe: A :class:`tg.Recipe`, the name of one that comes with tfgreen, or the path of a YAML or JSON file.
        output: The folder of the run.
        metric: What the model is judged by: a :class:`tg.Metric`, or the name of one it was compiled with. None for
            the first of these, or what its outputs and targets tell.
        budget: Bounds, in place of those of the recipe. Its fields may be given as keyword arguments, too, which
            override.
        region: ISO 3166 alpha-3 code of the country whose grid feeds the machine; None gives no CO2 figures.
        seed: Equal seeds give equal models.
        progress: Where to show how far the run is; None for below the cell of a notebook, and elsewhere nowhere.

    Returns:
        The report.

    Raises:
        TypeError, ValueError: The model is not built, the data does not fit it or has no targets for a step that needs
            them, the recipe is open, the loss cannot be told, or a verb refuses the model.
        FileError: The folder cannot be written.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)])
        >>> x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
        >>> data = tg.Data.from_arrays(x, (x[:, 0] > 0).astype(int), test_share=0.2)
        >>> recipe = tg.Recipe([{"train": {"epochs": 2}}, {"convert": {"quantization": "int8"}}], name="quick")
        >>> report = tg.optimize(model, data, recipe, output="run", max_size="100kB")
        >>> report.verdict.holds, [variant.name for variant in report.variants]
        (True, ['float32', 'quick-int8'])
    """
    task = make_task(model, data, recipe, metric, budget, bounds, region, seed, progress)
    started = time.monotonic()
    with made_folder(output) as folder:
        with EnergyMeter(region) as meter:
            state, steps = carry_out(task)
        report = make_report(task, state, steps, meter.reading, (time.monotonic() - started) / 3600)
        write_atomic(folder / "recipe.yaml", task.recipe.to_yaml())
        state.exports["float32"].lite.save(folder / "float32.tflite")
        state.exports[state.last].lite.save(folder / "model.tflite")
        state.exports[state.last].model.save(folder / "model.keras")
        report.save(folder)
    return report


def make_task(
    model: keras.Model, data: Data, recipe: AnyRecipe, metric: Metric | str | None, budget: Budget | None,
    bounds: Mapping[str, Any], region: str | None, seed: int, progress: Progress | None,
) -> Task:  # fmt: skip
    """Check what a run is about."""
    check_built_model(model)
    check_instance("data", data, Data, "a tg.Data")
    check_integer("seed", seed, minimum=0, maximum=2**32 - 1)
    chosen = Recipe.of(recipe)
    if chosen.space:
        sentence = f"Recipe '{chosen.name}' leaves {', '.join(chosen.space)} open."
        raise invalid_state(sentence, "Search for them with tg.search(model, data, recipe), or write values there.")
    given = resolve_config(Budget, chosen.budget if budget is None else budget, bounds)
    chosen = Recipe(chosen.steps, chosen.name, given, chosen.description, chosen.loss)
    check_fits(data, model, loss=chosen.loss, metric=metric if isinstance(metric, Metric) else None)
    needs = next((step.name for step in chosen.steps if step.kind.trains and step.settings is not None), None)
    if needs and not data.train.has_targets:
        sentence = f"Step {needs} of recipe '{chosen.name}' trains, and the data ({data.source}) has no targets."
        raise invalid_state(sentence, "Pass targets, or take the recipe posttraining.")
    if given.max_co2 is not None and region is None:
        raise invalid_state("max_co2 needs a region.", "Pass the country of the grid, such as region='DEU'.")
    return Task(model, data, _metric(model, data, chosen, metric), chosen, seed, region, progress or Progress.here())


def _metric(model: keras.Model, data: Data, recipe: Recipe, metric: Metric | str | None) -> Metric | None:
    """What a model is judged by; None without targets."""
    if not data.train.has_targets:
        return None
    if isinstance(metric, Metric):
        return metric
    check_instance("metric", metric, (str, type(None)), "a tg.Metric, or the name of one")
    judged = model if model.compiled else compiled(model, losses_of(model, data.train, recipe.loss))
    return Metric.of(judged, metric)


def carry_out(task: Task) -> tuple[State, list[PlainDict]]:
    """All steps, one after the other; what is told of each, for the report."""
    state = State(rebuild(task.original, lambda path, layer: layer))
    steps = [("original", ConvertConfig()), *((s.name, s.config) for s in task.recipe.steps if s.settings is not None)]
    told = []
    for number, (name, config) in enumerate(steps):
        keras.utils.set_random_seed((task.seed + number) % 2**32)
        ahead = tuple(task.recipe.steps[number:])
        state, seconds = _one(name, config, state, dataclasses.replace(task, ahead=ahead))
        told.append({"name": name, "settings": config.to_dict()["config"], "seconds": seconds, "notes": state.notes})
    return state, told


def _one(name: str, config: Config, state: State, task: Task) -> tuple[State, float]:
    before = time.monotonic()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        kept = dataclasses.replace(state, notes=())
        after = FUNCTIONS[name](kept, config, task)
    notes = (*after.notes, *(str(item.message) for item in said if issubclass(item.category, UserWarning)))
    curves, limits = (*state.curves, *after.curves), (*state.limits, *after.limits)
    if after.curves == state.curves:
        curves = state.curves
    if after.limits == state.limits:
        limits = state.limits
    return dataclasses.replace(after, notes=notes, curves=curves, limits=limits), time.monotonic() - before


def make_report(
    task: Task, state: State, steps: list[PlainDict], cost: EnergyReading, hours: float
) -> RunReport:
    """The report of a run whose steps are done."""
    split = task.data.test if "test" in task.data.splits else task.data.validation
    with task.progress.step("measure the files"):
        variants = measure_variants(state.exports, split, task.metric, region=task.region)
        first, last = state.exports["float32"], state.exports[state.last]
        layers = layer_rows(last.model, last.lite, before=first.model, x=split.samples(_ROWS))
    paid, before, after = None, variants[0].energy, variants[-1].energy
    if before is not None and after is not None and cost.joules is not None:
        paid = break_even(before, after, cost)
    budget = task.recipe.budget
    limits = file_limits(budget, variants[-1], variants[0], task.metric)
    return RunReport(
        variants=variants, title=f"{task.original.name} on {task.data.source}", metric=report_metric(task.metric),
        chosen=state.last, limits=[*limits, *state.limits, *run_limits(budget, hours, cost.kwh, cost.co2e_kg)],
        steps=steps, layers=layers, curves=state.curves, break_even=paid, environment=environment(), seed=task.seed,
    )  # fmt: skip

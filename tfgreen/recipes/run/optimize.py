"""optimize: carry a recipe out on a model and its data, and report what came of it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from typing_extensions import Unpack

from tfgreen.checks import check_bool, check_instance, check_integer
from tfgreen.config import resolve_config
from tfgreen.errors import invalid_state
from tfgreen.files import made_folder, write_atomic
from tfgreen.model.paths import check_built_model
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.measure.check_fits import check_fits
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.progress import Progress
from tfgreen.recipes.recipe.budget import Budget, BudgetOptions
from tfgreen.recipes.recipe.recipe import AnyRecipe, Recipe
from tfgreen.recipes.run.folder import RUN_FILE, check_run_folder, locked, writing
from tfgreen.recipes.run.keys import identity
from tfgreen.recipes.run.report import make_report, measured
from tfgreen.recipes.run.runner import carry_out
from tfgreen.recipes.run.state import Task
from tfgreen.recipes.run.steps.export import ORIGINAL
from tfgreen.recipes.run.steps.losses import compiled, losses_of
from tfgreen.recipes.run.store import Store
from tfgreen.reports.report import RunReport
from tfgreen.typing import FilePath


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
    resume: bool = True,
    progress: Progress | None = None,
    **bounds: Unpack[BudgetOptions],
) -> RunReport:
    """Make a model smaller, faster and greener by a recipe, and report what it gained, what it lost and what it cost.

    The folder ``output`` gets ``model.tflite``, ``float32.tflite`` (the original), ``model.keras``, the recipe as it
    was run and the report (``report.html``, ``.json``, ``.md``). Choices are made on the validation split; the test
    split is measured once, at the end.

    Each step that is done is kept there, too, and a training after each epoch. The same call goes on where the last one
    was cut off, by whatever, and comes to the same model; a step is done anew only if the model, the data, a setting
    before it or a version has changed. (A training on files or on a ``tf.data.Dataset`` begins anew, and so does one
    with ``early_stopping``.) Sets the global seeds of Python, NumPy and TensorFlow.

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
        resume: Whether finished steps in the folder are taken from there; False does all of them anew.
        progress: Where to show how far the run is; None for below the cell of a notebook, and elsewhere nowhere.

    Returns:
        The report.

    Raises:
        TypeError, ValueError: The model is not built, the data does not fit it or has no targets for a step that needs
            them, the recipe is open, the loss cannot be told, or a verb refuses the model.
        FileError: The folder cannot be written, holds something else, or another run is running there.

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
    check_bool("resume", resume)
    task = make_task(model, data, recipe, metric, budget, bounds, region, seed)
    progress = progress or Progress.here()
    with made_folder(check_run_folder(output)) as folder, locked(folder):
        known = identity(task)
        with writing(folder):
            write_atomic(folder / RUN_FILE, json.dumps({"recipe": task.recipe.name, **known}, indent=1) + "\n")
            write_atomic(folder / "recipe.yaml", task.recipe.to_yaml())
        store = Store(folder / "steps")
        if not resume:
            store.keep_only(())
        outcome = carry_out(task, store, known, progress)
        record, place = measured(task, outcome, store, progress)
        report = make_report(task, outcome, record)
        first, last = outcome.state.exports[ORIGINAL], outcome.state.exports[outcome.state.last]
        with writing(folder):
            first.lite.save(folder / f"{ORIGINAL}.tflite")
            last.lite.save(folder / "model.tflite")
            report = _with_keras_model(report, last.model, folder / "model.keras")
            report.save(folder)
        store.keep_only([*outcome.places, place])
    return report


def _with_keras_model(report: RunReport, model: keras.Model, path: Path) -> RunReport:
    """Save the Keras model that the file was made from; where Keras cannot, say so in the report."""
    half = path.with_name(f".half-{path.name}")
    try:
        model.save(half)
        os.replace(half, path)
    except OSError:
        raise
    except Exception as error:  # noqa: B902: Keras raises whatever the code of a layer does
        half.unlink(missing_ok=True)
        return dataclasses.replace(report, skipped={**report.skipped, path.name: f"Keras cannot save it: {error}"})
    return report


def make_task(
    model: keras.Model, data: Data, recipe: AnyRecipe, metric: Metric | str | None, budget: Budget | None,
    bounds: Mapping[str, Any], region: str | None, seed: int,
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
    chosen = chosen.replace(budget=given)
    check_fits(data, model, loss=chosen.loss, metric=metric if isinstance(metric, Metric) else None)
    needs = next((step.name for step in chosen.steps if step.kind.trains and step.settings is not None), None)
    if needs and not data.train.has_targets:
        sentence = f"Step {needs} of recipe '{chosen.name}' trains, and the data ({data.source}) has no targets."
        raise invalid_state(sentence, "Pass targets, or take the recipe posttraining.")
    if given.max_co2 is not None and region is None:
        raise invalid_state("max_co2 needs a region.", "Pass the country of the grid, such as region='DEU'.")
    return Task(model, data, _metric(model, data, chosen, metric), chosen, seed, region)


def _metric(model: keras.Model, data: Data, recipe: Recipe, metric: Metric | str | None) -> Metric | None:
    """What a model is judged by; None without targets."""
    if not data.train.has_targets:
        return None
    if isinstance(metric, Metric):
        return metric
    check_instance("metric", metric, (str, type(None)), "a tg.Metric, or the name of one")
    judged = model if model.compiled else compiled(model, losses_of(model, data.train, recipe.loss))
    return Metric.of(judged, metric)

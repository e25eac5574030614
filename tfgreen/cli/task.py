"""What optimize, run, search and init are about: a model, data, a recipe and a budget."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tfgreen as tg
from tfgreen.cli.arguments import add_data, add_model, add_region
from tfgreen.cli.budget import add_budget, read_bounds
from tfgreen.cli.data import load_data
from tfgreen.cli.models import check_files, load_trained
from tfgreen.cli.start import start_tensorflow
from tfgreen.cli.values import whole
from tfgreen.cli.words import in_options
from tfgreen.errors import invalid_value

if TYPE_CHECKING:
    import keras

    from tfgreen.recipes.data.data import Data
    from tfgreen.recipes.progress import Progress
    from tfgreen.recipes.recipe.recipe import Recipe

_RECIPE_FILES = (".yaml", ".yml", ".json")


@dataclasses.dataclass(frozen=True)
class Given:
    """The model, the data, the recipe with the reason for it, and what else a verb takes: metric, region, bounds."""

    model: keras.Model
    data: Data
    recipe: Recipe
    reason: str
    options: dict[str, Any]
    bounds: dict[str, Any]
    progress: Progress


def add_task(parser: argparse.ArgumentParser, recipe: bool = True) -> None:
    """The model, the data, how the model is judged, the budget; and the recipe as an option."""
    add_model(parser)
    add_data(parser, "training data, prepared as for the training of the model", splits=True)
    if recipe:
        text = "the name of one, or a .yaml or .json file (default: the one that suits model, data and budget)"
        parser.add_argument("--recipe", metavar="RECIPE", help=text)
    text = "what the model is judged by: one that it was compiled with, or any of Keras's (default: its first)"
    parser.add_argument("--metric", metavar="NAME", help=text)
    text = "which is better, for a metric whose name does not tell"
    parser.add_argument("--direction", choices=("higher", "lower"), help=text)
    text = "loss of Keras to train with (default: that of the model, or what its outputs and targets tell)"
    parser.add_argument("--loss", metavar="NAME", help=text)
    add_budget(parser)
    add_region(parser)
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="equal seeds give equal models")


def read_task(arguments: argparse.Namespace) -> Given:
    """Check what can be without TensorFlow, start it, load the model and the data, and choose the recipe."""
    check_files(arguments.model)
    if arguments.recipe is not None:
        _check_recipe(arguments.recipe)
    bounds = read_bounds(arguments)
    if arguments.region is not None:
        from tfgreen.energy.carbon.grid import grid_intensity

        grid_intensity(arguments.region)
    read = load_data(arguments)
    progress = start_tensorflow(arguments)
    model, note = load_trained(arguments, arguments.model)
    if note and not arguments.quiet:
        print(f"{arguments.model}: {note}", file=sys.stderr)
    data = read(model)
    recipe, reason = _choose_recipe(arguments, model, data, bounds)
    metric = _metric(arguments, model)
    options = {"metric": metric, "region": arguments.region, "seed": arguments.seed}
    return Given(model, data, recipe, reason, options, bounds, progress)


def _metric(arguments: argparse.Namespace, model: keras.Model) -> tg.Metric | str | None:
    """A metric that the model was compiled with, or one of Keras's where it was not compiled."""
    name, direction = arguments.metric, arguments.direction
    if model.compiled:
        return name if direction is None else tg.Metric.of(model, name, direction=direction)
    if name is None and direction is not None:
        fix = "Name the metric too: --metric NAME."
        raise invalid_value("direction", expected="a metric that it is of", received=repr(direction), fix=fix)
    return None if name is None else tg.Metric(name, direction=direction)


def _check_recipe(recipe: str) -> None:
    """Find a recipe that is not there, or none; what its steps are is checked with Keras."""
    from tfgreen.recipes.recipe import built_in
    from tfgreen.recipes.recipe.read_file import read_file

    if Path(recipe).suffix in _RECIPE_FILES or os.path.exists(recipe):
        check_files(recipe)
        read_file(recipe)
    else:
        built_in.file_of(recipe)


def _choose_recipe(
    arguments: argparse.Namespace, model: keras.Model, data: Data, bounds: dict[str, Any]
) -> tuple[Recipe, str]:
    """The recipe that was named, or the one that suits the model, and why; with the loss of ``--loss``."""
    from tfgreen.recipes.recipe.suggest import suggest

    found, reason = arguments.recipe, "as it was named"
    if found is None:
        suggestion = suggest(model, data, tg.Budget(**bounds))
        found, reason = suggestion.name, suggestion.reason
        if not arguments.quiet:
            print(f"recipe {found}: {in_options(reason, arguments)}", file=sys.stderr)
    recipe = tg.Recipe.of(found)
    loss = recipe.loss if arguments.loss is None else arguments.loss
    return recipe.replace(loss=loss), reason

"""``tfgreen optimize`` and ``tfgreen run``: a smaller, faster, greener model by a recipe, within a budget."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tfgreen as tg
from tfgreen.cli.arguments import add_data, add_folder, add_model, add_region
from tfgreen.cli.budget import add_budget, read_bounds
from tfgreen.cli.command import FAILED, OK, Command
from tfgreen.cli.data import load_data
from tfgreen.cli.models import check_files, load_trained
from tfgreen.cli.printing import check_output_folder, show_report
from tfgreen.cli.start import start_tensorflow
from tfgreen.cli.values import whole
from tfgreen.cli.words import in_options

if TYPE_CHECKING:
    import keras

    from tfgreen.recipes.data.data import Data
    from tfgreen.recipes.recipe.recipe import Recipe

_RECIPE_FILES = (".yaml", ".yml", ".json")


def optimize(arguments: argparse.Namespace) -> int:
    """Make MODEL small, fast and green within a budget, and report; exit code 1 if the budget is not kept."""
    return _carry_out(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Carry out RECIPE, a file or the name of one, on MODEL, and report; exit code 1 if its budget is not kept."""
    return _carry_out(arguments)


def _carry_out(arguments: argparse.Namespace) -> int:
    bounds, data = check_task(arguments)
    check_output_folder(arguments)
    progress = start_tensorflow(arguments)
    model, task = load_task(arguments, data)
    recipe, _ = choose_recipe(arguments, model, task, bounds)
    options = {"region": arguments.region, "seed": arguments.seed, "metric": choose_metric(arguments, model)}
    report = tg.optimize(model, task, recipe, output=arguments.output, progress=progress, **options, **bounds)
    show_report(arguments, report)
    return OK if report.verdict.holds is not False and report.chosen_variant.verified else FAILED


def check_task(arguments: argparse.Namespace) -> tuple[dict[str, Any], Callable[[keras.Model], Data]]:
    """Check what can be without TensorFlow; the bounds of the budget, and the data as a function of the model."""
    check_files(arguments.model)
    if arguments.recipe is not None:
        _check_recipe(arguments.recipe)
    bounds = read_bounds(arguments)
    if arguments.region is not None:
        from tfgreen.energy.carbon.grid import grid_intensity

        grid_intensity(arguments.region)
    return bounds, load_data(arguments)


def _check_recipe(recipe: str) -> None:
    """Find a recipe that is not there, or none; what its steps are is checked with Keras."""
    from tfgreen.recipes.recipe import built_in
    from tfgreen.recipes.recipe.read_file import read_file

    if Path(recipe).suffix in _RECIPE_FILES or os.path.exists(recipe):
        check_files(recipe)
        read_file(recipe)
    else:
        built_in.file_of(recipe)


def load_task(arguments: argparse.Namespace, data: Callable[[keras.Model], Data]) -> tuple[keras.Model, Data]:
    """The model, with its loss and metrics where the file has them, and the data."""
    model, note = load_trained(arguments, arguments.model)
    if note and not arguments.quiet:
        print(f"{arguments.model}: {note}", file=sys.stderr)
    return model, data(model)


def choose_recipe(
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


def choose_metric(arguments: argparse.Namespace, model: keras.Model) -> tg.Metric | str | None:
    """A metric that the model was compiled with, or one of Keras's where it was not compiled."""
    return arguments.metric if arguments.metric is None or model.compiled else tg.Metric(arguments.metric)


def add_task(parser: argparse.ArgumentParser) -> None:
    """The model, the data, how the model is judged, and the budget."""
    add_model(parser)
    add_data(parser, "training data, prepared as for the training of the model", splits=True)
    text = "what the model is judged by: one that it was compiled with, or any of Keras's (default: its first)"
    parser.add_argument("--metric", metavar="NAME", help=text)
    text = "loss of Keras to train with (default: that of the model, or what its outputs and targets tell)"
    parser.add_argument("--loss", metavar="NAME", help=text)
    add_budget(parser)
    add_region(parser)
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="equal seeds give equal models")


def _add_arguments_of_optimize(parser: argparse.ArgumentParser) -> None:
    add_task(parser)
    help = "the name of one, or a .yaml or .json file (default: the one that suits model, data and budget)"
    parser.add_argument("--recipe", metavar="RECIPE", help=help)
    add_folder(parser, help="folder of the run: the model, its file, the report", required=True)


def _add_arguments_of_run(parser: argparse.ArgumentParser) -> None:
    help = "a .yaml or .json file, as tfgreen init writes it, or the name of a recipe that comes with tfgreen"
    parser.add_argument("recipe", metavar="RECIPE", help=help)
    add_task(parser)
    add_folder(parser, help="folder of the run: the model, its file, the report", required=True)


COMMAND = Command(
    optimize,
    _add_arguments_of_optimize,
    (
        "tfgreen optimize model.keras --data data.npz --max-drop 1% --max-size 100kB --output out",
        "tfgreen optimize model.keras --data data.npz --recipe recipe.yaml --max-latency 5ms --output out",
    ),
)
RUN = Command(
    run, _add_arguments_of_run, ("tfgreen run recipe.yaml model.keras --data data.npz --output out",)
)

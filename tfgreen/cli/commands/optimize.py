"""``tfgreen optimize`` and ``tfgreen run``: a smaller, faster, greener model by a recipe, within a budget."""

from __future__ import annotations

import argparse

import tfgreen as tg
from tfgreen.cli.arguments import add_folder
from tfgreen.cli.command import OK, Command
from tfgreen.cli.commands.search import add_search, search_for
from tfgreen.cli.printing import check_output_folder, exit_code, give, show_report
from tfgreen.cli.task import Given, add_task, read_task
from tfgreen.errors import InvalidValueError


def optimize(arguments: argparse.Namespace) -> int:
    """Make MODEL small, fast and green within a budget, and report; exit code 1 if the budget is not kept."""
    if arguments.search and arguments.dry_run:
        raise InvalidValueError("--dry-run: expected without --search, which has no plan: it ends with the budget.")
    return search_for(arguments) if arguments.search else _carry_out(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Carry out RECIPE, a file or the name of one, on MODEL, and report; exit code 1 if its budget is not kept."""
    return _carry_out(arguments)


def _carry_out(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        return _dry_run(arguments, read_task(arguments))
    check_output_folder(arguments)
    given = read_task(arguments)
    report = tg.optimize(
        given.model, given.data, given.recipe, output=arguments.output, resume=arguments.resume,
        progress=given.progress, **given.options, **given.bounds,
    )  # fmt: skip
    show_report(arguments, report)
    return exit_code(report)


def _dry_run(arguments: argparse.Namespace, given: Given) -> int:
    """Show what would be done, and write nothing."""
    options = {name: given.options[name] for name in ("metric", "region")}
    result = tg.plan(given.model, given.data, given.recipe, **options, **given.bounds)
    give(arguments, result.to_dict(), str(result))
    return OK


def _add_run(parser: argparse.ArgumentParser) -> None:
    """What becomes of a folder that has an earlier run, and which it is."""
    help = "go on with a run that was cut off, and take from an earlier one what has not changed (the default)"
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True, help=help)
    help = "say what would be done, and about how long it would take and how much energy; train and write nothing"
    parser.add_argument("--dry-run", action="store_true", help=help)
    add_folder(parser, help="folder of the run: the model, its file, the report; needed, but for --dry-run")


def _add_arguments_of_optimize(parser: argparse.ArgumentParser) -> None:
    add_task(parser)
    parser.add_argument("--search", action="store_true", help="search for the best settings of the recipe")
    add_search(parser)
    _add_run(parser)


def _add_arguments_of_run(parser: argparse.ArgumentParser) -> None:
    help = "a .yaml or .json file, as tfgreen init writes it, or the name of a recipe that comes with tfgreen"
    parser.add_argument("recipe", metavar="RECIPE", help=help)
    add_task(parser, recipe=False)
    _add_run(parser)


COMMAND = Command(
    optimize,
    _add_arguments_of_optimize,
    (
        "tfgreen optimize model.keras --data data.npz --max-drop 1% --max-size 100kB --output out",
        "tfgreen optimize model.keras --data data.npz --recipe recipe.yaml --max-latency 5ms --output out",
        "tfgreen optimize model.keras --data data.npz --max-hours 30min --dry-run",
        "tfgreen optimize model.keras --data data.npz --search --trials 2 --max-drop 90% --output found",
    ),
)
RUN = Command(
    run, _add_arguments_of_run, ("tfgreen run recipe.yaml model.keras --data data.npz --output out",)
)

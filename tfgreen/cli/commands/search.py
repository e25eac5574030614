"""``tfgreen search``: the settings of a recipe that are best under a budget."""

from __future__ import annotations

import argparse

import tfgreen as tg
from tfgreen.cli.arguments import add_folder
from tfgreen.cli.command import FAILED, OK, Command
from tfgreen.cli.printing import check_output_folder, give, tell_report
from tfgreen.cli.task import add_task, read_task
from tfgreen.cli.values import whole


def search(arguments: argparse.Namespace) -> int:
    """Try settings of a recipe, or settings around it, under a budget; exit code 1 if none keeps it."""
    return search_for(arguments)


def search_for(arguments: argparse.Namespace) -> int:
    """Search as the arguments of :func:`add_search` say, and print the front."""
    check_output_folder(arguments)
    given = read_task(arguments)
    result = tg.search(
        given.model, given.data, given.recipe, output=arguments.output, trials=arguments.trials,
        storage=arguments.storage, progress=given.progress, **given.options, **given.bounds,
    )  # fmt: skip
    _, written = tell_report(arguments, result.report)
    give(arguments, result.to_dict(), f"{result}\n{written}")
    return OK if result.holds else FAILED


def add_search(parser: argparse.ArgumentParser) -> None:
    """How long to search, and where the study is."""
    group = parser.add_argument_group("search")
    help = "candidates to try, by all processes together (default: %(default)s)"
    group.add_argument("--trials", type=whole(1), default=30, metavar="N", help=help)
    help = "file of the study, or URL of a database; the same command on each machine joins in (default: in --output)"
    group.add_argument("--storage", metavar="STUDY", help=help)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task(parser)
    add_search(parser)
    add_folder(parser, help="folder of the search: the front, the best model, the report", required=True)


COMMAND = Command(
    search,
    _add_arguments,
    ("tfgreen search model.keras --data data.npz --recipe recipe.yaml --trials 2 --max-drop 90% --output found",),
)

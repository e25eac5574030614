"""``tfgreen init``: a commented recipe for a model and its data, to be changed and run."""

from __future__ import annotations

import argparse
import os
import re
import shlex

import tfgreen as tg
from tfgreen.cli.arguments import add_printing
from tfgreen.cli.budget import BOUNDS
from tfgreen.cli.command import OK, Command
from tfgreen.cli.printing import check_output, give
from tfgreen.cli.steps import STEPS
from tfgreen.cli.task import add_task, read_task
from tfgreen.errors import FileError
from tfgreen.files import write_atomic


def init(arguments: argparse.Namespace) -> int:
    """Write a commented recipe that suits MODEL and its data, to be changed and given to tfgreen run."""
    if os.path.exists(arguments.output):
        raise FileError(f"--output: expected a new file, received {arguments.output}, which is there.")
    check_output(arguments)
    given = read_task(arguments)
    recipe, reason = given.recipe, given.reason
    budget = tg.Budget(**{**recipe.budget.given, **given.bounds})
    recipe = recipe.replace(budget=budget)
    facts = tg.profile(given.model)
    command = shlex.join(["tfgreen", "run", arguments.output, arguments.model, "--data", arguments.data])
    head = [
        f"{arguments.model}: {facts.parameters:,} parameters, {len(facts.layers)} layers",
        *(f"{name}: {split.count} samples, {split.source}" for name, split in given.data.splits.items()),
        f"recipe {recipe.name}: {reason}; others are {', '.join(tg.Recipe.names())}",
        f"run it: {command} --output out",
    ]
    write_atomic(arguments.output, commented(recipe, head))
    told = {"path": arguments.output, "recipe": recipe.to_dict(), "reason": reason}
    give(arguments, told, f"written to {arguments.output}: recipe {recipe.name}, {len(recipe.steps)} steps\n{head[-1]}")
    return OK


def commented(recipe: tg.Recipe, head: list[str]) -> str:
    """The file of a recipe with what each step does, and the bounds that a budget may have."""
    lines = [f"# {line}" for line in head]
    for line in recipe.to_yaml().splitlines():
        step = re.match(r" *- (\w+)", line)
        lines.append(f"{line}  # {STEPS[step[1]]}" if step and step[1] in STEPS else line)
    others = {name: told for name, told in BOUNDS.items() if name not in recipe.budget.given}
    lines += [] if recipe.budget.given else ["# budget:"]
    lines += [f"#   {name}: {example}  # {what}" for name, (example, what) in others.items()]
    return "\n".join(lines) + "\n"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task(parser)
    text = "file to write, which must not be there (default: %(default)s)"
    parser.add_argument("--output", metavar="FILE.yaml", default="recipe.yaml", help=text)
    add_printing(parser)


COMMAND = Command(init, _add_arguments, ("tfgreen init model.keras --data data.npz --max-drop 1% --output mine.yaml",))

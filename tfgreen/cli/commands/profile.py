"""``tfgreen profile``: what a model consists of."""

from __future__ import annotations

import argparse

import tfgreen as tg
from tfgreen.cli.arguments import add_model, add_result
from tfgreen.cli.command import OK, Command
from tfgreen.cli.models import check_files, load_keras
from tfgreen.cli.printing import check_output, show
from tfgreen.cli.start import start_tensorflow


def profile(arguments: argparse.Namespace) -> int:
    """Parameters, MACs, bytes and non-zero weights of every layer."""
    check_files(arguments.model)
    check_output(arguments)
    start_tensorflow(arguments)
    show(arguments, tg.profile(load_keras(arguments, arguments.model)))
    return OK


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_result(parser)


COMMAND = Command(profile, _add_arguments, ("tfgreen profile model.keras",))

"""The parser of the command line, and the arguments that several commands take.

Nothing here imports more than argparse, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from typing import Any, NoReturn

from tfgreen.cli.command import Command
from tfgreen.cli.values import folder, image_size, share, whole
from tfgreen.errors import InvalidValueError
from tfgreen.version import __version__

EXIT_CODES = "exit code: 0 done, and it holds; 1 it does not hold; 2 bad input; 130 interrupted"


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument as any other bad input, with the nearest name; options are not abbreviated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        raise InvalidValueError(f"{message}; see '{self.prog} --help'")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The same; what is not understood is said by the command, with the option that it is near to."""
        arguments, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options = arguments.parser._option_string_actions
            name = next((word for word in unknown if word.startswith("-")), unknown[0])
            arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}{_near(name.split('=')[0], options)}")
        return arguments

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            raise argparse.ArgumentError(action, f"{error.message}{_near(value, action.choices or ())}") from None


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, known, 1)
    return f". Did you mean '{found[0]}'?" if found else ""


def make_parser(commands: Iterable[Command]) -> argparse.ArgumentParser:
    """The parser of ``tfgreen``.

    Parsed arguments hold the command that was chosen as ``command``, its parser as ``parser`` and those of all commands
    by name as ``parsers``.
    """
    parser = _Parser(prog="tfgreen", description="Make Keras 3 models small, fast and measured.", epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"tfgreen {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        lines = [f"example{'s' * (len(command.examples) > 1)}:", *(f"  {line}" for line in command.examples)]
        sub = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.help,
            epilog="\n".join([*lines, "", EXIT_CODES]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(command=command, parser=sub, parsers=subparsers.choices)
    return parser


def add_result(parser: argparse.ArgumentParser) -> None:
    """How a result is given: ``--json``, ``--quiet`` and a file."""
    parser.add_argument("--output", metavar="FILE.json", help="write the result to this file too, as JSON")
    add_printing(parser)


def add_folder(
    parser: argparse.ArgumentParser,
    default: str | None = None,
    help: str = "folder to write to",
    required: bool = False,
) -> None:
    """The same for a command whose results go into a folder."""
    told = "" if default is None else f" (default: {default})"
    parser.add_argument(
        "--output", metavar="DIR", type=folder, default=default, required=required, help=help + told
    )
    add_printing(parser)


def add_printing(parser: argparse.ArgumentParser) -> None:
    """``--json`` and ``--quiet``."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="print no progress and no text, errors only")


def add_model(parser: argparse.ArgumentParser, name: str = "model", nargs: str | None = None, help: str = "") -> None:
    """A Keras model, and how to load one that needs more than its file."""
    if name:
        parser.add_argument(name, metavar="MODEL", nargs=nargs, help=help or "Keras model, .keras or .h5")
    text = "run the Python code that the file holds (a Lambda layer): only if you trust it"
    parser.add_argument("--unsafe", action="store_true", help=text)
    text = "import this Python module first, which has the model's own layers and functions"
    parser.add_argument("--import", dest="modules", action="append", default=[], metavar="MODULE", help=text)


def add_tflite(parser: argparse.ArgumentParser) -> None:
    """A LiteRT model."""
    parser.add_argument("tflite", metavar="TFLITE", help="LiteRT model, .tflite")


def add_data(
    parser: argparse.ArgumentParser, help: str, required: bool = True, samples: int | None = None, splits: bool = False
) -> None:
    """Data in any form, and how to read what its file does not say.

    ``samples`` is the default of how many are taken, None without a choice; ``splits`` tells the training data from
    the validation and test data.
    """
    group = parser.add_argument_group("data")
    forms = "an .npz, .csv or .tfrecord file, a folder of images, or module:function"
    group.add_argument("--data", metavar="DATA", required=required, help=f"{help}: {forms}")
    text = "of a .csv file: the column to predict; several, if it is given several times"
    group.add_argument("--target", dest="targets", action="append", metavar="COLUMN", help=text)
    group.add_argument("--delimiter", metavar="C", help="of a .csv file: what is between its cells (default: ,)")
    if splits:
        for name in ("validation", "test"):
            text = f"{name} data, where --data is a .csv or .tfrecord file of training data"
            group.add_argument(f"--{name}", metavar="FILE", help=text)
        text = "share of the training data that is set aside as test data where there is none, such as 0.1"
        group.add_argument("--test-share", type=share, metavar="S", help=text)
    text = "of a folder of images: their size (default: that of the model)"
    group.add_argument("--image-size", type=image_size, metavar="HxW", help=text)
    if samples is not None:
        text = "how many, evenly spread (default: %(default)s)"
        group.add_argument("--samples", type=whole(1), default=samples, metavar="N", help=text)


def add_region(parser: argparse.ArgumentParser, feeds: str = "this machine") -> None:
    """The country, for carbon."""
    help = f"country whose grid feeds {feeds}, for the CO2 figure"
    parser.add_argument("--region", metavar="DEU", help=help)

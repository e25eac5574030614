"""Give a result: as text or JSON on the screen, as JSON in a file, in the words of the command line."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tfgreen.cli.command import FAILED, OK
from tfgreen.cli.words import in_options
from tfgreen.errors import FileError
from tfgreen.files import check_writable, write_atomic
from tfgreen.typing import PlainDict

if TYPE_CHECKING:
    from tfgreen.reports.report import RunReport


class Result(Protocol):
    """What most verbs return."""

    def to_dict(self) -> PlainDict:
        """Plain values."""


def check_output(arguments: argparse.Namespace) -> None:
    """Find out before the work that the file of ``--output`` cannot be written."""
    if arguments.output is not None:
        check_writable(Path(arguments.output).absolute().parent, arguments.output)


def check_output_folder(arguments: argparse.Namespace) -> None:
    """The same for a folder, which may be there or not, and has to be named."""
    if arguments.output is None:
        arguments.parser.error("the following arguments are required: --output")
    place = Path(arguments.output).absolute()
    if place.exists() and not place.is_dir():
        raise FileError(f"--output: expected a folder to write to, received {arguments.output}, a file.")
    check_writable(next(path for path in (place, *place.parents) if path.exists()), arguments.output)


def show(arguments: argparse.Namespace, result: Result) -> None:
    """Print a result, and write it to the file of ``--output`` where there is one."""
    give(arguments, result.to_dict(), str(result), arguments.output)


def give(arguments: argparse.Namespace, value: PlainDict, text: str, file: str | None = None) -> None:
    """Print plain values as JSON or, without ``--json``, the text that says the same; write the values to a file."""
    told = json.dumps(_told(value, arguments), indent=2, allow_nan=False, ensure_ascii=False)
    if file is not None:
        write_atomic(file, told + "\n")
    if arguments.json:
        print(told)
    elif not arguments.quiet:
        print(in_options(text, arguments))


def exit_code(report: RunReport) -> int:
    """Whether a run did what it was to do: a bound whose figure is not known is not shown to be kept."""
    keeps = report.verdict.holds if report.limits else True
    return OK if keeps and report.chosen_variant.verified else FAILED


def show_report(arguments: argparse.Namespace, report: RunReport) -> None:
    """Print the report of a run that is in the folder of ``--output``."""
    told, written = tell_report(arguments, report)
    give(arguments, told.to_dict(), f"{told}\n{written}")


def tell_report(arguments: argparse.Namespace, report: RunReport) -> tuple[RunReport, str]:
    """Say in the folder of ``--output``, too, what is said here, and what repeats it; the report, and what is there."""
    plain = {**report.to_dict(), "command": report.command or shlex.join(["tfgreen", *arguments.argv])}
    told = type(report).from_dict(_told(plain, arguments))
    told.save(arguments.output)
    files = sorted(name for name in os.listdir(arguments.output) if not name.startswith("."))
    return told, f"written to {arguments.output}: {', '.join(files)}"


def _told(value: Any, arguments: argparse.Namespace) -> Any:
    """Sentences among plain values in the words of the command line; a text without a space is a name."""
    if isinstance(value, dict):
        return {key: _told(item, arguments) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_told(item, arguments) for item in value]
    return in_options(value, arguments) if isinstance(value, str) and " " in value else value

"""The entry of the command line: parse, run one command, turn errors into a line and an exit code.

TensorFlow takes seconds to import, so nothing here imports it before a command's files and folders have been checked.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from tfgreen.cli.arguments import make_parser
from tfgreen.cli.command import BAD_INPUT, INTERRUPTED, OK
from tfgreen.cli.commands import (
    benchmark,
    completion,
    convert,
    demo,
    devices,
    doctor,
    energy,
    init,
    optimize,
    profile,
    report,
    search,
    verify,
)
from tfgreen.cli.quiet import python_stderr_only
from tfgreen.cli.words import in_options, subject_in_options
from tfgreen.errors import TfgreenError

_FULL = re.compile("No space left on device|Disk quota exceeded")
COMMANDS = (
    optimize.COMMAND,
    optimize.RUN,
    search.COMMAND,
    init.COMMAND,
    report.COMMAND,
    demo.COMMAND,
    profile.COMMAND,
    convert.COMMAND,
    verify.COMMAND,
    benchmark.COMMAND,
    energy.COMMAND,
    devices.COMMAND,
    doctor.COMMAND,
    completion.COMMAND,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``tfgreen`` command and return its exit code.

    It is 0 if what was asked for was done and holds, 1 if it does not hold (a model that fails verification), 2 for bad
    input (one line on stderr says what was wrong), 130 if interrupted. A fault in tfgreen itself raises.
    """
    arguments = None
    try:
        words = sys.argv[1:] if argv is None else argv
        arguments = make_parser(COMMANDS).parse_args(words, argparse.Namespace(argv=words))
        with _stop_like_interrupt(), python_stderr_only():
            code: int = arguments.command.run(arguments)
            sys.stdout.flush()
            return code
    except TfgreenError as error:
        text = str(error)
        if arguments is not None:
            subject = re.split(r"\W", error.subject, maxsplit=1)[0]
            rest = in_options(text.removeprefix(subject), arguments)
            text = subject_in_options(subject, arguments) + rest
        text = " ".join(text.split())  # a converter's log may come with it
        print(f"tfgreen: error: {text if len(text) <= 600 else text[:600] + ' ...'}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("tfgreen: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `tfgreen profile model.keras | head`
        _let_go_of_stdout()
        return OK
    except Exception as error:  # Keras, TensorFlow, HDF5 and Python each have a class of their own for it
        if not _FULL.search(str(error)):
            raise
        _let_go_of_stdout()
        print(f"tfgreen: error: the disk is full: {' '.join(str(error).split())[:300]}", file=sys.stderr)
        return BAD_INPUT
    except SystemExit as end:  # --help and --version
        return int(end.code or OK)


def _let_go_of_stdout() -> None:
    """Have what cannot be printed not tried again when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _stop_like_interrupt() -> Iterator[None]:
    """Let a polite kill clean up as Ctrl-C does; handlers belong to the main thread, elsewhere nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

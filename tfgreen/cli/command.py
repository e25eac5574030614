"""Command: a function of the command line, its arguments and an example."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: its name and help are the name and the docstring of ``run``, which returns the exit code.

    Attributes:
        run: Called with the parsed arguments.
        add_arguments: Adds them to the parser.
        examples: Command lines that work on ``model.keras``, ``model.tflite`` and ``data.npz`` in the current folder.
    """

    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    examples: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called by."""
        return self.run.__name__

    @property
    def help(self) -> str:
        """What it does, in a sentence or two."""
        return self.run.__doc__ or ""

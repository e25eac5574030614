"""Start TensorFlow and LiteRT, once a command's files are checked, without the logs that they write."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfgreen.recipes.progress import Progress


def start_tensorflow(arguments: argparse.Namespace) -> Progress:
    """Start both; return the progress of the command."""
    from tfgreen.cli import quiet

    quiet.start_tensorflow()
    return start_litert(arguments)


def start_litert(arguments: argparse.Namespace) -> Progress:
    """Start LiteRT alone; return the progress of the command."""
    from tfgreen.cli import quiet
    from tfgreen.recipes.progress import Progress

    quiet.start_litert()
    return Progress(None if arguments.quiet else sys.stderr)

"""Show what a long run is doing: a live line in a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.markup import escape


class Progress:
    """Shows on a stream (None: silence) how far the steps of a run are, and how long each took once it is done.

    In a terminal a step shows while it runs and vanishes if it fails, so that the error stands alone. In a log it
    writes a line for each detail and one at its end.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = None if stream is None else Console(file=stream, highlight=False)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Callable[[str], None]]:
        """Begin a step and yield the function that shows how far it is."""
        console = self._console
        if console is None:
            yield lambda detail: None
            return
        started = time.monotonic()
        if console.is_terminal:
            with console.status(escape(text)) as status:
                yield lambda detail: status.update(escape(f"{text}: {detail}"))
        else:
            yield lambda detail: console.print(f"{text}: {detail}", markup=False, soft_wrap=True)
        console.print(f"{text}: {time.monotonic() - started:.1f} s", markup=False, soft_wrap=True)

"""Show what a long run is doing: a bar in a terminal and in a notebook, plain lines in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from html import escape
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TextColumn

from tfgreen.reports.quantities import quantity

_EARLIEST = 0.02  # share of a step from which on the time left is told
_PAUSE = 0.1  # seconds between two updates of a notebook


class Say(Protocol):
    """Shows how far a step is: a detail, and the share from 0 to 1 that is done, None where it is not known."""

    def __call__(self, detail: str, share: float | None = None) -> None: ...


Show = Callable[[str, "float | None"], None]


class Progress:
    """Shows how far the steps of a run are, with the time left, and how long each took once it is done.

    In a terminal and in a notebook a step shows while it runs and vanishes if it fails, so that the error stands alone.
    In a log it writes a line for each detail and one at its end.

    Args:
        stream: Where to write; None is silence.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = None if stream is None else Console(file=stream, highlight=False, force_jupyter=False)
        self._notebook: Any = None

    @classmethod
    def here(cls) -> Progress:
        """In a notebook that shows it below the cell; elsewhere silence."""
        progress, shell = cls(), getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if hasattr(shell, "kernel"):
            progress._notebook = sys.modules["IPython"].display.display
        return progress

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Say]:
        """Begin a step and yield the function that shows how far it is."""
        started = time.monotonic()
        with self._shown(text) as show:
            yield lambda detail, share=None: show(f"{text}: {detail}{_left(started, share)}", share)
        seconds = time.monotonic() - started
        told = f"{text}: {f'{seconds:.1f} s' if seconds < 60 else quantity(seconds / 3600, 'h')}"
        if self._console is not None:
            self._console.print(told, markup=False, soft_wrap=True)
        elif self._notebook is not None:
            self._notebook(_Html(told, is_done=True))

    @contextlib.contextmanager
    def _shown(self, text: str) -> Iterator[Show]:
        console = self._console
        if self._notebook is not None:
            with _in_notebook(self._notebook, text) as show:
                yield show
        elif console is None:
            yield lambda detail, share: None
        elif console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(20))
            with Bars(*columns, console=console, transient=True) as bars:
                bar = bars.add_task(text, total=None)
                yield lambda detail, share: bars.update(
                    bar, description=detail, total=None if share is None else 1.0, completed=share or 0.0
                )
        else:
            yield lambda detail, share: console.print(detail, markup=False, soft_wrap=True)


class _Html:
    """A line after a bar, which moves to and fro where no share is known, and is gone when a step is done."""

    def __init__(self, text: str, share: float | None = None, is_done: bool = False) -> None:
        self.text, self.share, self.is_done = text, share, is_done

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        value = "" if self.share is None else f' value="{self.share:.3f}"'
        bar = "" if self.is_done else f'<progress max="1"{value} style="width:20em"></progress> '
        return f"<div>{bar}{escape(self.text)}</div>" if self.text else ""


@contextlib.contextmanager
def _in_notebook(display: Any, text: str) -> Iterator[Show]:
    handle, last = display(_Html(text), display_id=True), [0.0]

    def show(detail: str, share: float | None) -> None:
        if time.monotonic() - last[0] >= _PAUSE:
            handle.update(_Html(detail, share))
            last[0] = time.monotonic()

    try:
        yield show
    finally:
        handle.update(_Html(""))


def _left(started: float, share: float | None) -> str:
    if share is None or not _EARLIEST <= share < 1:
        return ""
    seconds = (time.monotonic() - started) * (1 - share) / share
    return f", {quantity(max(seconds, 1.0) / 3600, 'h')} left of it"

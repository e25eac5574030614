"""Run a function in a Python process of its own, so that a crash of native code does not end the user's."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Native code may print: results leave through a copy of standard output, and it prints to standard error.
_START = """
import importlib, os, pickle, sys
results = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
function = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
for item in function(*pickle.load(sys.stdin.buffer)):
    pickle.dump(item, results)
    results.flush()
"""


@dataclasses.dataclass(frozen=True)
class Ended:
    """How the process ended: what the function yielded until then, the exit status, and what it wrote to its log."""

    items: list[Any]
    status: int
    log: str

    @property
    def crashed(self) -> bool:
        """Whether native code ended it, by a signal or, on Windows, by an exception."""
        return self.status < 0 or self.status > 255

    @property
    def how(self) -> str:
        """The end of it in words."""
        return f"signal {-self.status}" if self.status < 0 else f"exit status {self.status}"


class Apart:
    """A process that imports the module of a function at once and runs it when its arguments are there.

    Starting it early hides the time that the import takes. It needs no ``if __name__ == "__main__"`` in the user's
    program, and no module of it is imported. ``function`` is a generator at the top level of a module; arguments and
    what it yields are pickled.

    Example:
        >>> from tfgreen.deploy.tflite.interpreter import try_files
        >>> with Apart(try_files) as apart:
        ...     ended = apart.run([])
        >>> ended.items, ended.crashed
        ([], False)
    """

    def __init__(self, function: Callable[..., Iterator[Any]]) -> None:
        self._function = function
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()
        if sys.executable and not getattr(sys, "frozen", False):  # else it would start another program than Python
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, function.__module__, function.__name__],
                # The current folder comes first on its path: there no file of the user's may shadow a module.
                cwd=Path(__file__).parents[3],
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
            )

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._log.close()

    def run(self, *arguments: object) -> Ended:
        """Run the function, once; in this process where Python cannot be started."""
        if self._process is None:
            return Ended(list(self._function(*arguments)), 0, "")
        results, _ = self._process.communicate(pickle.dumps(arguments))
        self._log.seek(0)
        return Ended(list(_unpickled(results)), self._process.returncode, self._log.read().decode(errors="replace"))


def _unpickled(data: bytes) -> Iterator[Any]:
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        try:
            yield pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):  # cut off by the crash
            return

"""Run a function in a Python process of its own, so that a crash of native code does not end the user's."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib
import io
import json
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfgreen.files import temporary_folder

_ARGUMENTS, _RESULTS, _LOG = "arguments.pickle", "results.pickle", "log.txt"  # what the folder of a call holds

# Elsewhere there is no fork, or one of a process that has loaded native code is unsafe.
_FORKS = sys.platform == "linux"
_KEPT = 1  # servers that wait for the next function, each of about 50 MB
_idle: list[_Server] = []  # append and pop are atomic: no thread gets what another one has


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
    what it yields are pickled. On Linux the function runs in a fork of a process that is kept for the next one: a
    fork takes milliseconds, a new Python and its imports 0.2 s of a core.

    Example:
        >>> from tfgreen.deploy.tflite.interpreter import try_files
        >>> with Apart(try_files) as apart:
        ...     ended = apart.run([])
        >>> ended.items, ended.crashed
        ([], False)
    """

    def __init__(self, function: Callable[..., Iterator[Any]]) -> None:
        self._function = function
        self._server: _Server | None = None
        if sys.executable and not getattr(sys, "frozen", False):  # else it would start another program than Python
            self._server = _waiting() or _Server()
            self._server.send(function.__module__)

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._server is not None:
            if self._server.waits and len(_idle) < _KEPT:
                _idle.append(self._server)
            else:
                self._server.end()

    def run(self, *arguments: object) -> Ended:
        """Run the function, once; in this process where Python cannot be started."""
        if self._server is None:
            return Ended(list(self._function(*arguments)), 0, "")
        with temporary_folder() as folder:
            (folder / _ARGUMENTS).write_bytes(pickle.dumps(arguments))
            status = self._server.run(self._function, folder)
            files = [folder / _RESULTS, folder / _LOG]
            results, log = (file.read_bytes() if file.exists() else b"" for file in files)
        return Ended(list(_unpickled(results)), status, log.decode(errors="replace"))


class _Server:
    """A process that runs :func:`serve`."""

    def __init__(self) -> None:
        self._forks = self.waits = _FORKS
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from tfgreen.deploy.tflite.apart import serve; serve({_FORKS})"],
            # The current folder comes first on its path: there no file of the user's may shadow a module.
            cwd=Path(__file__).parents[3],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which then ends the other
        )

    def send(self, *words: str) -> None:
        """Send a line, as ``serve`` reads it."""
        with contextlib.suppress(OSError):  # the process has ended, which reading from it tells
            print(json.dumps(words), file=self.process.stdin, flush=True)

    def run(self, function: Callable[..., Iterator[Any]], folder: Path) -> int:
        """Run the function on the arguments in a folder, which then holds its results, and return the exit status."""
        self.waits = False
        self.send(function.__module__, function.__name__, str(folder))
        answer = self.process.stdout.readline() if self.process.stdout else ""
        self.waits = self._forks and bool(answer)
        return int(answer) if answer else self.process.wait()

    def end(self) -> None:
        """End the process, and what it runs."""
        if self.process.poll() is None:
            if self._forks:
                os.killpg(self.process.pid, 9)
            self.process.kill()
        with contextlib.suppress(OSError):  # a line that the process has not read
            self.process.communicate()


def _waiting() -> _Server | None:
    """A process that waits for a function, if there is one."""
    with contextlib.suppress(IndexError):
        while True:
            server = _idle.pop()
            if server.process.poll() is None:
                return server
            server.end()
    return None


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


def _forget() -> None:
    """In a fork of this process: what waits is the other's, which ends it."""
    for server in _idle:
        server.process.returncode = 0
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _unpickled(data: bytes) -> Iterator[Any]:
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        try:
            yield pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):  # cut off by the crash
            return


def serve(forks: bool) -> None:
    """Read lines until there are no more: ``[module]`` to import it, ``[module, function, folder]`` to run that.

    With ``forks`` a function runs in a fork of this process, and its exit status is answered; else it runs here and
    ends this process.
    """
    # Native code may print: answers leave through a copy of standard output, and it prints to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        module, *call = json.loads(line)
        if not call:
            with contextlib.suppress(ImportError):  # which the log of a function then tells
                importlib.import_module(module)
        elif forks and (process := os.fork()):
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            print(status, file=answers, flush=True)
        else:
            os._exit(_run(module, *call))


def _run(module: str, function: str, folder: str) -> int:
    """Run a function on the arguments in a folder, write there what it yields and what is printed; return the status
    with which the process shall end."""
    with (Path(folder) / _LOG).open("wb") as log, (Path(folder) / _RESULTS).open("wb") as results:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
        try:
            arguments = pickle.loads((Path(folder) / _ARGUMENTS).read_bytes())
            for item in getattr(importlib.import_module(module), function)(*arguments):
                pickle.dump(item, results)
                results.flush()  # a crash may come with the next one
        except BaseException:  # noqa: B902 - as Python itself ends a program
            traceback.print_exc()
            sys.stderr.flush()
            return 1
    return 0

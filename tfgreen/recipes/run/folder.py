"""The folder of a run: whether it is one, one run in it at a time, and what is said when it cannot be written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from tfgreen.errors import FileError
from tfgreen.files import check_path
from tfgreen.typing import FilePath

RUN_FILE = "run.json"
_LOCK, _OWNER = ".lock", ".owner"


def check_run_folder(output: FilePath) -> Path:
    """The path of the folder of a run; raises where it holds something else than a run."""
    check_path(output)
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{output}: expected a folder to write to, received a file.")
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.exists() else []
    if others and RUN_FILE not in others:
        expected = "expected a new or empty folder, or that of a run"
        raise FileError(f"{output}: {expected}, received one that holds '{others[0]}'. Name another folder.")
    return folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this run; the system lets go of it when the process ends, however it does.

    Raises:
        FileError: Another run holds it; the text names its process.
    """
    lock, owner = filelock.FileLock(folder / _LOCK), folder / _OWNER
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        by = f"process {owner.read_text(encoding='utf-8')}" if owner.exists() else "another process"
        raise FileError(f"{folder}: {by} is running here. Wait for it, or name another folder.") from error
    try:
        owner.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say what is left of a run when the system does not let it write, as where the disk is full."""
    try:
        yield
    except OSError as error:
        why = str(error) if isinstance(error, FileError) else f"{folder}: cannot be written: {error.strerror or error}."
        raise FileError(f"{why} What was finished is kept: make room, and run the same again.") from error

"""Write a folder of results so that an interrupted run leaves either all of its files or none."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from tfgreen.errors import FileError

RESULT_FILES = (
    "report.json", "report.html", "model.tflite", "float32.tflite", "pruned-float32.tflite", "pruned.keras",
)  # fmt: skip


@contextlib.contextmanager
def whole_folder(target: str | os.PathLike[str], files: Collection[str] = RESULT_FILES) -> Iterator[Path]:
    """Yield a temporary folder beside ``target`` that takes its place when the block ends without an error.

    Anything else (an error, Ctrl-C) removes it again, together with parent folders that were made for it, and an
    earlier result stays as it was.

    Args:
        target: The folder to write. It may exist if it is empty or holds nothing but ``files``, an earlier result.
        files: Names of the files that belong to a result.

    Raises:
        OSError: See :func:`check_target`; raised before the block begins.

    Example:
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     with whole_folder(f"{parent}/out", ["a.txt"]) as folder:
        ...         _ = (folder / "a.txt").write_text("whole")
        ...     os.listdir(f"{parent}/out")
        ['a.txt']
    """
    place = check_target(target, files)
    with made_folder(place.parent):
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        try:
            yield temporary
            _make_readable(temporary)
            _swap(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def made_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a folder that can be written, with those above it; what was made is removed if the block fails.

    Raises:
        OSError: The folder cannot be made or written, or is a file; raised before the block begins.
    """
    place = Path(folder)
    missing = [path for path in (place, *place.parents) if not path.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
        check_writable(place, folder)
        yield place
    except BaseException as error:
        for path in missing:
            with contextlib.suppress(OSError):  # not empty: somebody else has written there meanwhile
                path.rmdir()
        if isinstance(error, OSError) and error.filename is not None and not isinstance(error, FileError):
            raise FileError(f"{folder}: cannot be written: {error.strerror or error}.") from error
        raise


def check_target(target: str | os.PathLike[str], files: Collection[str] = RESULT_FILES) -> Path:
    """Return the resolved path of a folder to be written, or raise if it must not be.

    Raises:
        OSError: It is a file, the current folder or a mount point, holds files that are not a result, or the folder
            above it cannot be written.
    """
    place = Path(target).resolve()
    if place.exists() and not place.is_dir():
        raise FileError(f"{target}: expected a folder to write to, received a file.")
    if place == Path.cwd() or os.path.ismount(place):
        what = "the current folder" if place == Path.cwd() else "a mount point"
        raise FileError(f"{target}: expected a folder that can be replaced, received {what}. Name a folder inside it.")
    foreign = sorted(set(os.listdir(place)) - set(files)) if place.exists() else []
    if foreign:
        raise FileError(
            f"{target}: expected a new or empty folder, or the result of an earlier run, received one that holds "
            f"'{foreign[0]}'{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}. Name another folder."
        )
    check_writable(next(parent for parent in place.parents if parent.exists()), target)
    return place


def check_writable(folder: Path, target: str | os.PathLike[str]) -> None:
    """Raise unless a file can be made in ``folder``; tried, because rights alone do not tell of a read-only disk."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror or error} ({folder}).") from error


def _make_readable(folder: Path) -> None:
    """Give a folder made by ``mkdtemp`` (private) the rights of an ordinary one."""
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)


def _swap(temporary: Path, place: Path) -> None:
    """Rename ``temporary`` to ``place``; an earlier result is moved aside first and back again if that fails."""
    if not place.exists():
        temporary.rename(place)
        return
    old = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.old.")) / place.name
    place.rename(old)
    try:
        temporary.rename(place)
    except BaseException:
        if not place.exists():
            old.rename(place)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)

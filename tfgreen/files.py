"""Write files and folders so that an interrupted run leaves either all of them or none.

Each is made beside its target, with the rights that the system gives to a new one, and renamed when complete.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from tfgreen.errors import FileError
from tfgreen.typing import FilePath


def write_atomic(path: FilePath, data: bytes | str) -> Path:
    """Write ``data`` beside ``path`` and rename it into place.

    Args:
        path: Target file; its folder must exist. An existing file is replaced only once the new one is complete.
        data: Bytes, or text to be encoded as UTF-8.

    Returns:
        The path written.

    Raises:
        OSError: The folder is missing or cannot be written, or the disk is full; nothing is left behind.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomic(Path(folder) / "a.txt", "whole").read_text()
        'whole'
    """
    with atomic_file(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)
    return Path(path)


@contextlib.contextmanager
def atomic_file(path: FilePath) -> Iterator[BinaryIO]:
    """Yield a new file beside ``path``, open for reading and writing, that takes its place when the block ends.

    Any error in the block removes it again, and an earlier file stays as it was.

    Args:
        path: Target file; its folder must exist.

    Raises:
        OSError: The folder is missing or cannot be written, or the disk is full.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_file(f"{folder}/a.bin") as file:
        ...         _ = file.write(b"part one, ") + file.write(b"part two")
        ...     Path(folder, "a.bin").read_bytes()
        b'part one, part two'
    """
    target = Path(path)
    temporary = _beside(target)
    try:
        with open(temporary, "x+b") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except FileError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error


@contextlib.contextmanager
def atomic_folder(target: FilePath, files: Collection[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``target`` that takes its place when the block ends without an error.

    Anything else (an error, Ctrl-C) removes it again, together with parent folders that were made for it, and an
    earlier result stays as it was.

    Args:
        target: The folder to write. It may exist if it is empty or holds nothing but ``files``, an earlier result.
        files: Names of the files that belong to a result.

    Raises:
        OSError: See :func:`check_folder`; raised before the block begins.

    Example:
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     with atomic_folder(f"{parent}/out", ["a.txt"]) as folder:
        ...         _ = (folder / "a.txt").write_text("whole")
        ...     os.listdir(f"{parent}/out")
        ['a.txt']
    """
    place = check_folder(target, files)
    with made_folder(place.parent):
        temporary = _beside(place)
        temporary.mkdir()
        try:
            yield temporary
            _swap(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def made_folder(folder: FilePath) -> Iterator[Path]:
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
            raise _unwritable(folder, error) from error
        raise


def check_folder(target: FilePath, files: Collection[str]) -> Path:
    """Return the resolved path of a folder to be written, or raise if it must not be.

    Raises:
        OSError: It is a file, the current folder or a mount point, holds anything but ``files``, or the folder above
            it cannot be written.
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


def check_writable(folder: Path, target: FilePath) -> None:
    """Raise unless a file can be made in ``folder``; tried, because rights alone do not show a read-only disk."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror or error} ({folder}).") from error


def _beside(target: Path) -> Path:
    """A path in the target's folder that nothing has yet; whoever makes it there fails if something does."""
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}")


def _unwritable(target: FilePath, error: OSError) -> FileError:
    return FileError(f"{target}: cannot be written: {error.strerror or error}.")


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

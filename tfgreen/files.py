"""Read files, and write files and folders so that an interrupted run leaves either all of them or none.

Each is made beside its target, with the rights that the system gives to a new one, and renamed when complete.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from tfgreen.errors import FileError, invalid_type
from tfgreen.typing import FilePath

_OWNER = re.compile(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}")  # of a temporary file: machine and process


def write_atomic(path: FilePath, data: bytes | str) -> Path:
    """Write bytes, or text as UTF-8, as :func:`atomic_file` does; return the path."""
    with atomic_file(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)
    return Path(path)


def check_path(path: object) -> None:
    """Raise unless ``path`` is one."""
    if not isinstance(path, (str, os.PathLike)):
        raise invalid_type("path", expected="the path of a file, a text or a pathlib.Path", received=path)


def folder_kind(folder: FilePath) -> str:
    """What a folder is that was passed as a model, and how its model becomes a file."""
    if Path(folder, "saved_model.pb").exists():
        return (
            "a TensorFlow SavedModel (a folder). Load it with the Keras that wrote it and save it as one file: "
            "tf_keras.models.load_model(folder).save('model.h5')."
        )
    return "a folder."


@contextlib.contextmanager
def reading(path: FilePath) -> Iterator[None]:
    """Name the file in whatever the system says against reading it; a TypeError where ``path`` is none."""
    check_path(path)
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}.") from error


@contextlib.contextmanager
def atomic_file(path: FilePath) -> Iterator[BinaryIO]:
    """Yield a new file beside ``path``, open for reading and writing, that takes its place when the block ends.

    Any error in the block removes it again, and an earlier file stays as it was. The folder must exist.
    """
    check_path(path)
    target = Path(path)
    if not target.name:
        raise FileError(f"{target}: expected the path of a file, received one without a name.")
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
    earlier result, a folder that holds nothing but ``files``, stays as it was.
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
    """Make a folder that can be written, with those above it; what was made is removed if the block fails."""
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
    """The resolved path of a folder to be written; raises if it must not be, for instance as it holds other files."""
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


def check_room(folder: FilePath) -> None:
    """Raise unless ``folder`` is one that can be written, or can be made."""
    place = Path(folder).absolute()
    there = next(path for path in (place, *place.parents) if path.exists())
    if not there.is_dir():
        raise FileError(f"{folder}: expected a folder to write to, received a file ({there}).")
    check_writable(there, folder)


def check_writable(folder: Path, target: FilePath) -> None:
    """Raise unless a file can be made in ``folder``; tried, because rights alone do not show a read-only disk."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror or error} ({folder}).") from error


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder among the system's temporary files, for this user only, that is removed with the block."""
    folder = own_path(Path(tempfile.gettempdir()) / "tfgreen")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _beside(target: Path) -> Path:
    """A path in the target's folder that nothing has yet; whoever makes it there fails if something does."""
    return own_path(target.with_name(f".{target.name}"))


def own_path(stem: Path) -> Path:
    """A new path that begins with ``stem`` and ends with this machine and process.

    What processes that have been killed left at such paths is removed; another machine may write to the folder too.
    """
    with contextlib.suppress(OSError):  # a folder that cannot be listed may still be written
        for path in [stem.with_name(name) for name in os.listdir(stem.parent) if name.startswith(stem.name)]:
            owner = _OWNER.fullmatch(path.name[len(stem.name) :])
            if owner and owner[1] == _machine() and not _is_running(int(owner[2])):
                shutil.rmtree(path, ignore_errors=True)
                path.unlink(missing_ok=True)
    return stem.with_name(f"{stem.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}")


def _is_running(process: int) -> bool:
    import psutil  # rarely needed, and not free

    return psutil.pid_exists(process)


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _unwritable(target: FilePath, error: OSError) -> FileError:
    return FileError(f"{target}: cannot be written: {error.strerror or error}.")


def _swap(temporary: Path, place: Path) -> None:
    """Rename ``temporary`` to ``place``; an earlier result is moved aside first and back again if that fails."""
    if not place.exists():
        temporary.rename(place)
        return
    # What a killed process left there is the earlier result, if it had no time to put the new one into its place.
    old = own_path(place.with_name(f".{place.name}.old")) / place.name
    old.parent.mkdir(mode=0o700)
    place.rename(old)
    try:
        temporary.rename(place)
    except BaseException:
        if not place.exists():
            old.rename(place)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)

"""Where a study is kept: in memory, in a journal file that processes share, or in a database for several machines."""

from __future__ import annotations

import os
from pathlib import Path

import filelock
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tfgreen.errors import FileError, invalid_type
from tfgreen.files import check_writable, reading
from tfgreen.typing import FilePath

_BEGIN = b'{"op_code":'  # of a journal file


def open_storage(storage: FilePath | None) -> optuna.storages.BaseStorage:
    """The storage at the path of a journal file, which is made if there is none, or at the URL of a database.

    Raises:
        TypeError: It is neither a path nor a text.
        FileError: It cannot be opened.
    """
    if storage is None:
        return optuna.storages.InMemoryStorage()
    if not isinstance(storage, (str, os.PathLike)):
        expected = "the path of a journal file or the URL of a database, such as 'postgresql://user@host/studies'"
        raise invalid_type("storage", expected=expected, received=storage)
    if "://" in str(storage):
        return _database(str(storage))
    path = Path(storage).absolute()
    if path.is_dir():
        raise FileError(f"{storage}: expected the path of a journal file, received a folder.")
    if not path.parent.is_dir():
        raise FileError(f"{storage}: cannot be written: its folder does not exist.")
    check_writable(path.parent, storage)
    if path.exists():
        with reading(storage), open(path, "rb") as file:
            if file.read(len(_BEGIN)) not in (_BEGIN, b""):
                raise FileError(f"{storage}: expected a new file or the journal file of a study, received another one.")
    return JournalStorage(JournalFileBackend(str(path), _FileLock(path)))  # type: ignore[arg-type]


def _database(url: str) -> optuna.storages.BaseStorage:
    from sqlalchemy.exc import SQLAlchemyError

    shown = url.split("@")[-1]  # without a password
    try:
        # SQLite lets one process write at a time; the others wait, as Optuna's default of 5 s is soon over.
        options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        raise FileError(f"storage {shown}: its driver is not installed: {error}.") from error
    except (SQLAlchemyError, ValueError, RuntimeError) as error:
        told = str(error).splitlines()[0].replace(url, shown)
        raise FileError(f"storage {shown}: cannot be opened: {told}.") from error


class _FileLock:
    """Optuna's lock of a journal file, held by the system, which lets go of it when a process is killed.

    Optuna's own are files that a killed process leaves behind. What it had no time to write to its end is cut off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = filelock.FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self._lock.acquire(poll_interval=0.005)
        with open(self._path, "rb+") as journal:
            journal.seek(0, os.SEEK_END)
            end = journal.tell()
            if end:
                journal.seek(end - 1)
                if journal.read(1) != b"\n":
                    journal.seek(0)
                    journal.truncate(journal.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()

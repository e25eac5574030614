"""Parts: the splits that a reader has found, and what there is to say about them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tfgreen.errors import FileError, InvalidValueError, TfgreenError
from tfgreen.recipes.data.split import Split
from tfgreen.typing import FilePath

# What a split may be called in files and folders -> its name.
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a reader hands to :class:`tg.Data`.

    Attributes:
        splits: By name; "train" is there.
        source: Where they are from.
        how: How to give a split that is missing, with ``{name}`` in place of its name.
        class_names: In the order of the class numbers, or ().
    """

    splits: Mapping[str, Split]
    source: str
    how: str
    class_names: Sequence[str] = ()


@contextlib.contextmanager
def naming(path: FilePath) -> Iterator[None]:
    """Put the file before what is wrong with what it holds."""
    try:
        yield
    except FileError:
        raise
    except TfgreenError as error:
        raise InvalidValueError(f"{path}: {error}") from error


def check_file(path: FilePath, kind: str) -> Path:
    """The path of a file; raises if there is none, with the kind of file that was expected."""
    file = Path(path)
    if file.is_dir() or not file.exists():
        what = "received a folder" if file.is_dir() else "but there is no such file"
        raise FileError(f"{file}: expected {kind}, {what}.")
    return file

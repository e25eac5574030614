"""The models that a command names: found before TensorFlow is imported, and loaded after."""

from __future__ import annotations

import argparse
import contextlib
import os
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tfgreen as tg
from tfgreen.errors import FileError, TfgreenError
from tfgreen.files import folder_kind, reading

if TYPE_CHECKING:
    import keras


def check_files(*paths: str) -> None:
    """Find a file that cannot be read before TensorFlow is imported."""
    for path in paths:
        if os.path.isdir(path):
            raise FileError(f"{path}: expected a file, received {folder_kind(path)}")
        with reading(path), open(path, "rb") as file:
            file.read(1)


def is_tflite(path: str) -> bool:
    """Whether a file is a LiteRT model by its name; otherwise it is a Keras model."""
    return Path(path).suffix == ".tflite"


def load_keras(arguments: argparse.Namespace, path: str) -> keras.Model:
    """A Keras model, with what the options say about loading it."""
    from tfgreen.recipes.data.from_python import imported

    objects: dict[str, Any] = {}
    for name in arguments.modules:
        with running(name):
            module = imported(name, "--import")
        objects |= {key: value for key, value in vars(module).items() if callable(value)}
    return tg.load_model(path, objects, safe_mode=not arguments.unsafe)


def load(arguments: argparse.Namespace, path: str) -> Any:
    """A LiteRT model, or a Keras model."""
    return tg.load_litert(path) if is_tflite(path) else load_keras(arguments, path)


@contextlib.contextmanager
def running(name: str) -> Iterator[None]:
    """Say in one line what code of the user's raises, with its place."""
    try:
        yield
    except TfgreenError:
        raise
    except Exception as error:  # whatever it raises
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        raise FileError(f"{name}: it raises {type(error).__name__}: {error}{place}.") from error


def short_names(paths: Sequence[str]) -> list[str]:
    """The names of files without their folders, or with them where two have one name.

    Example:
        >>> short_names(["a/model.tflite", "a/int8.tflite"]), short_names(["a/x.tflite", "b/x.tflite"])
        (['model.tflite', 'int8.tflite'], ['a/x.tflite', 'b/x.tflite'])
    """
    names = [os.path.basename(path) for path in paths]
    return names if len(set(names)) == len(names) else list(paths)

"""The models that a command names: found before TensorFlow is imported, and loaded after."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import traceback
import zipfile
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
    return tg.load_model(path, _imported(arguments), safe_mode=not arguments.unsafe)


def load_trained(arguments: argparse.Namespace, path: str) -> tuple[keras.Model, str]:
    """A Keras model with the loss and the metrics that its ``.keras`` file says, or why it has none of them."""
    import keras

    model = load_keras(arguments, path)
    with zipfile.ZipFile(path) if zipfile.is_zipfile(path) else contextlib.nullcontext() as archive:
        saved = json.loads(archive.read("config.json")).get("compile_config") if archive is not None else None
    if not saved:
        return model, ""
    names = ("loss", "loss_weights", "metrics", "weighted_metrics")
    try:
        with keras.saving.custom_object_scope(_imported(arguments)):
            told = {name: saved.get(name) for name in names}
            model.compile(**keras.saving.deserialize_keras_object(told, safe_mode=not arguments.unsafe))
    except Exception as error:  # whatever Keras, or a custom class of the user's, raises over this config
        return model, f"the loss and the metrics of the file cannot be loaded: {' '.join(str(error).split())[:200]}"
    return model, ""


def _imported(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the modules of ``--import`` hold, by name."""
    from tfgreen.recipes.data.from_python import imported

    objects: dict[str, Any] = {}
    for name in arguments.modules:
        with running(name):
            module = imported(name, "--import")
        objects |= {key: value for key, value in vars(module).items() if callable(value)}
    return objects


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

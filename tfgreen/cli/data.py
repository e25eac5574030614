"""The data that a command names: files are checked before TensorFlow is imported, images get the size of the model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tfgreen as tg
from tfgreen.cli.models import running
from tfgreen.errors import FileError, invalid_state
from tfgreen.typing import Arrays

if TYPE_CHECKING:
    from tfgreen.recipes.data.data import Data

# What an .npz file may call the samples of a split.
_ARRAYS = {"train": ("x_train", "x"), "test": ("x_test",)}
_TABLES = (".csv", ".tsv")
_OF_TABLES = ("targets", "delimiter")
_OF_FILES = ("validation", "test")


def load_data(
    arguments: argparse.Namespace, check: Callable[[Data], None] = lambda data: None, **options: Any
) -> Callable[[Any], Data]:
    """What ``--data`` names, as a function of the model, whose size a folder of images gets; ``check`` may refuse it.

    What is wrong with files is found at once. A function of the user's is called with the model only, as it may import
    TensorFlow. ``options`` are those of :meth:`tg.Data.load`, beside those of the command line.
    """
    path = Path(arguments.data)
    options |= {name: value for name in ("test_share",) if (value := getattr(arguments, name, None)) is not None}
    if path.is_dir():
        own = {} if arguments.image_size is None else {"image_size": arguments.image_size}
        tg.Data.load(path, **own, **options)
        return lambda model: _checked(tg.Data.load(path, **{**_image(model), **own, **options}), check)
    if path.exists():
        data = _checked(tg.Data.load(path, **_of_file(arguments, path), **options), check)
        return lambda model: _checked(data, lambda data: _check_columns(arguments, data, model))
    if ":" in arguments.data:
        return lambda model: _checked(_called(arguments.data, options), check)
    expected = "expected an .npz, .csv, .tsv or .tfrecord file, a folder of images or module:function"
    raise FileError(f"--data: {expected}; there is no {arguments.data}.")


def load_samples(arguments: argparse.Namespace, *splits: str) -> Callable[[Any], Arrays]:
    """At most ``--samples`` samples of the first of these splits that there is, as a function of the model.

    Targets are not needed: an ``.npz`` file may hold an array for each input, a ``.csv`` file no column to predict.
    """
    count = getattr(arguments, "samples", 1)
    path = Path(arguments.data)
    if path.suffix == ".npz":
        _of_file(arguments, path)
        from tfgreen.recipes.data.npz import load_samples
        from tfgreen.recipes.data.split import Split

        arrays = load_samples(arguments.data, *(name for split in splits for name in _ARRAYS[split]))
        samples = Split(arrays, name=splits[0], source=arguments.data).samples(count)
        return lambda model: samples
    data = load_data(arguments, validation_share=0)

    def pick(model: Any) -> Arrays:
        found = data(model).splits
        return next(found[name] for name in (*splits, *found) if name in found).samples(count)

    return pick


def _called(function: str, options: dict[str, Any]) -> Data:
    with running(function):
        return tg.Data.load(function, **options)


def _checked(data: Data, check: Callable[[Data], None]) -> Data:
    check(data)
    return data


def _of_file(arguments: argparse.Namespace, path: Path) -> dict[str, Any]:
    """What the options say about reading a file of this kind."""
    given = {name: getattr(arguments, name, None) for name in (*_OF_TABLES, *_OF_FILES)}
    is_table, is_records = path.suffix in _TABLES, path.suffix.startswith(".tfrecord")
    if is_table and given["targets"] is not None and len(given["targets"]) == 1:
        given["targets"] = given["targets"][0]
    told = {name: value for name, value in given.items() if value is not None}
    fits = {name for name in told if is_table or (is_records and name in _OF_FILES)}
    if wrong := sorted(set(told) - fits):
        raise invalid_state(f"--{wrong[0].removesuffix('s')}: {path} has no such setting.", "Leave it out.")
    return {"targets": (), **told} if is_table else told


def _check_columns(arguments: argparse.Namespace, data: Data, model: Any) -> None:
    """Raise where a table has more columns than the model takes, since none was named as a target."""
    columns, inputs = list(data.train.shapes()["x"].values()), _input_shapes(model)
    if Path(arguments.data).suffix in _TABLES and not arguments.targets and len(inputs) == len(inputs[0]) == 1:
        count, size = (columns[0] or (0,))[0], inputs[0][0]
        if size is not None and count is not None and count > size:
            sentence = f"--data: {arguments.data} has {count} columns, and the model takes {size} of them."
            raise invalid_state(sentence, "Name those that are to be predicted: --target COLUMN.")


def _input_shapes(model: Any) -> list[tuple[int | None, ...]]:
    """The shapes of one sample of each input."""
    from tfgreen.model.call_spec import read_call_spec

    if isinstance(model, tg.LiteRTModel):
        return [tuple(item.shape[1:]) for item in model.inputs]
    return [tuple(item.shape) for item in read_call_spec(model).inputs]


def _image(model: Any) -> dict[str, Any]:
    """Size and channels of the images that a model takes."""
    shapes = _input_shapes(model)
    shape = shapes[0] if len(shapes) == 1 and len(shapes[0]) == 3 else None
    if shape is None or shape[2] not in (1, 3):
        told = " and ".join(map(str, shapes))
        raise invalid_state(f"--data: a folder of images does not fit the model, which takes {told}.", "Pass arrays.")
    height, width, channels = shape
    return {"channels": channels, **({} if None in (height, width) else {"image_size": (height, width)})}

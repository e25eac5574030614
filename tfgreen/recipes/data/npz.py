"""Data and samples from ``.npz`` files, checked as they are read. Nothing is unpickled."""

from __future__ import annotations

import difflib
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfgreen.errors import FileError, invalid_value
from tfgreen.files import reading
from tfgreen.recipes.data.checks import check_array
from tfgreen.recipes.data.parts import SPLITS, Parts, check_file, naming
from tfgreen.recipes.data.split import Split
from tfgreen.typing import FilePath

_KINDS = ("x", "y", "sample_weight")
_NAME = re.compile(r"(x|y|sample_weight)(?:_(\w+?))?(?:/(.+))?")


def read_npz(path: FilePath) -> Parts:
    """The splits of a file, see :meth:`tg.Data.from_npz`."""
    places = {name: place for name in array_names(path) if (place := _place(path, name))}
    found: dict[str, dict[str, Any]] = {}
    with naming(path):
        for name, array in read_arrays(path, tuple(places)).items():
            kind, split, part = places[name]
            held = found.setdefault(split, {})
            if part and isinstance(held.setdefault(kind, {}), dict) and part not in held[kind]:
                held[kind][part] = array
            elif not part and kind not in held:
                held[kind] = array
            else:
                expected = f"one array {kind}_{split}, or several {kind}_{split}/NAME"
                raise invalid_value(name, expected=expected, received="both, or one twice")
        _check_complete(path, found, places)
        file = Path(path).name
        splits = {
            name: Split(held["x"], held.get("y"), held.get("sample_weight"), name=name, source=file)
            for name, held in found.items()
        }
    return Parts(splits, file, f"Save x_{{name}} and y_{{name}} in {file}.")


def load_samples(path: FilePath, *names: str) -> np.ndarray | dict[str, np.ndarray]:
    """Read samples of a model from an ``.npz`` file: the first of the arrays ``names`` that it has, or else all arrays.

    An array may be one of several inputs, ``x_train/image``. All arrays are a dict by the name of the input; each has
    shape ``(samples, *sample shape)``.
    """
    present = array_names(path)
    if not present:
        raise FileError(f"{path}: expected an array named {' or '.join(names)}, received no arrays.")
    for first in names:
        if first in present:
            return _samples(path, {first: first})[first]
        inputs = {name: name.removeprefix(f"{first}/") for name in present if name.startswith(f"{first}/")}
        if inputs:
            return _samples(path, inputs)
    return _samples(path, {name: name for name in present})


def _samples(path: FilePath, names: dict[str, str]) -> dict[str, np.ndarray]:
    arrays = read_arrays(path, tuple(names))
    with naming(path):
        for name, array in arrays.items():
            check_array(name, array)
            if array.ndim < 2:
                received = f"shape {array.shape}"
                raise invalid_value(name, expected="shape (samples, ...) with at least one sample", received=received)
    return {names[name]: array for name, array in arrays.items()}


def array_names(path: FilePath) -> list[str]:
    """Names of the arrays of an ``.npz`` file, without reading them: the check that takes no time."""
    file = check_file(path, "an .npz file")
    try:
        with reading(file), zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise FileError(f"{file}: expected an .npz file, as numpy.savez writes it, received something else.") from error
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_arrays(path: FilePath, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file by name; all of them are there."""
    arrays = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in names:
            try:
                arrays[name] = archive[name]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                what = "Python objects, which are never loaded" if "pickle" in str(error) else "damaged data"
                raise FileError(f"{path}: expected numbers in {name}, received {what}.") from error
    return arrays


def _place(path: FilePath, name: str) -> tuple[str, str, str] | None:
    """Kind, split and part of an array ("x", "train", "image"); None for one that is not of the data."""
    found = _NAME.fullmatch(name)
    if found and (found[2] or "train") in SPLITS:
        return found[1], SPLITS[found[2] or "train"], found[3] or ""
    known = [f"{kind}_{split}" for kind in _KINDS for split in SPLITS]
    near = difflib.get_close_matches(name.split("/")[0], known, 1, 0.8)
    if found or near:  # a misspelled validation split would otherwise be left out without a word
        fix = f"Did you mean '{near[0]}'?" if near else "Rename the array."
        raise FileError(f"{path}: expected the arrays {', '.join(known)} or x and y, received {name}. {fix}")
    return None


def _check_complete(path: FilePath, found: dict[str, dict[str, Any]], places: Sequence[str] | dict[str, Any]) -> None:
    """Raise where a split has no samples, or no targets while another has some."""
    labelled = any("y" in held for held in found.values())
    wanted = ("x", "y") if labelled else ("x",)
    missing = [f"{kind}_{name}" for name in dict.fromkeys(["train", *found]) for kind in wanted
               if kind not in found.get(name, {})]  # fmt: skip
    if missing:
        received = ", ".join(places) or "no arrays of the data"
        expected = "expected x_train, y_train and, for other splits, the same of them"
        raise FileError(f"{path}: {expected}, received {received}; missing: {', '.join(missing)}.")

"""A folder in which parsed samples are kept, each content under a key of its own, so that no other is ever read back.

``tf.data.Dataset.cache(file)`` keeps whatever comes first under a name, and gives it to all that ask for the name.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import warnings
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfgreen.errors import FileError
from tfgreen.files import made_folder, own_path
from tfgreen.typing import FilePath, Tensors

_NAME = "samples"  # of the files in the folder of a content
# Operations of which the result is in no graph: what Python, files, variables and tables hold.
_OPAQUE = re.compile("PyFunc|File|Restore|VarHandle|Table|Iterator")


def kept_in(folder: FilePath, samples: tf.data.Dataset, key: str | None) -> tf.data.Dataset:
    """The same samples, read from ``folder``, where they are written first unless they are there under ``key``.

    They are written beside and renamed, so that neither a process that is killed nor another that writes the same is
    ever in the way. Without a key they are written for this dataset alone, and removed with it.

    Raises:
        FileError: The folder cannot be written, or the samples cannot be read.
    """
    with made_folder(folder) as made:
        place = None if key is None else made / key
        temporary = own_path(made / ".samples")
        if place is None or not place.exists():
            try:
                temporary.mkdir()
                # Dataset.save would be faster to read, but never returns where a sample fails after others.
                samples.cache(os.fspath(temporary / _NAME)).reduce(np.int64(0), lambda count, *_: count + 1)
                if place is not None:
                    _rename(temporary, place)
            except BaseException as error:
                shutil.rmtree(temporary, ignore_errors=True)
                if not isinstance(error, tf.errors.OpError):
                    raise
                said = re.sub(r"\{\{.*?\}\} |\[\[.*| \[Op:.*", "", error.message).strip().splitlines()[-1]
                raise FileError(f"{folder}: cannot be filled, as the samples cannot be read: {said}.") from error
        kept = samples.cache(os.fspath((place or temporary) / _NAME))
    if place is None:
        weakref.finalize(kept, shutil.rmtree, temporary, ignore_errors=True)
        warnings.warn(
            f"The samples in {folder} are kept for this pipeline alone: of a tf.data.Dataset, and of a parse that runs "
            "Python or reads files or variables, a later program could not tell whether they are still the same. Pass "
            "arrays, an image folder or TFRecord files, and a parse of TensorFlow operations, to keep them.",
            stacklevel=3,
        )
    return kept


def _rename(temporary: Path, place: Path) -> None:
    try:
        temporary.rename(place)
    except OSError:
        if not place.exists():
            raise
        shutil.rmtree(temporary, ignore_errors=True)  # somebody else was first, with the same


def content_key(source: str, parse: Callable[[Any], Tensors] | None, samples: tf.data.Dataset) -> str | None:
    """What tells samples from others: a hash of what is known of their source, and of the graph that parses them.

    None where that is not all: see ``_OPAQUE``.
    """
    graph = "" if parse is None else _graph(parse, samples.element_spec)
    if graph is None:
        return None
    known = [tf.version.VERSION, source, str(samples.element_spec), graph]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()


def of_arrays(arrays: Tensors) -> str:
    """A hash of the values of arrays."""
    digest = hashlib.sha256()
    for path, array in keras.tree.flatten_with_path(arrays):
        digest.update(f"{path} {array.dtype} {array.shape}".encode())
        digest.update(_bytes(array))
    return digest.hexdigest()


def of_files(files: Iterable[FilePath], *more: object) -> str:
    """A hash of the names, sizes and times of files."""
    stats = [(os.path.abspath(file), os.stat(file)) for file in files]
    listed = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(repr((listed, more)).encode()).hexdigest()


def _graph(function: Callable[[Any], Tensors], spec: Any) -> str | None:
    """The graph of a function of one sample with the values that it captures, as text; None where it is not all."""
    traced = tf.function(function).get_concrete_function(*(spec if isinstance(spec, tuple) else (spec,)))
    library = traced.graph.as_graph_def().library.function
    functions = [traced.function_def, *sorted(library, key=lambda one: _number(one.signature.name))]
    used = {node.op for one in functions for node in one.node_def}
    captured = [tensor for tensor, _ in traced.graph.captures]
    if any(_OPAQUE.search(op) for op in used) or any(t.dtype in (tf.resource, tf.variant) for t in captured):
        return None
    # TensorFlow numbers the functions of a process, and names tensors after them.
    numbers = {one.signature.name: f"function {number}" for number, one in enumerate(functions)}
    longest = "|".join(re.escape(name) for name in sorted(numbers, key=len, reverse=True))
    text = re.sub(rf"({longest})(?!\d)", lambda found: numbers[found[1]], "\n".join(map(str, functions)))
    return "\n".join([text, str(traced.structured_outputs), *(hashlib.sha256(_bytes(t)).hexdigest() for t in captured)])


def _number(name: str) -> int:
    return int(re.findall(r"\d*", name)[-2] or 0)


def _bytes(array: Any) -> Any:
    if array.dtype == tf.string:
        return bytes(tf.io.serialize_tensor(array).numpy())
    return np.ascontiguousarray(keras.ops.convert_to_numpy(array)).tobytes()

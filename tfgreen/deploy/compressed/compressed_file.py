"""save_compressed and load_compressed: a model as a file of the size that clustering and pruning earned it.

The file is an ``.npz`` of two byte arrays: ``header``, the architecture and the form of each weight as JSON, and
``weights``, their bytes one after the other as ``coding.py`` codes them. Nothing in it is pickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfgreen.deploy.compressed.coding import Coded, decode, encode
from tfgreen.errors import FileError, InvalidValueError, invalid_value, layer_subject
from tfgreen.files import write_atomic

if TYPE_CHECKING:
    import keras

FORMAT = 1

# What NumPy, zipfile and json raise on bytes that are no such file, or not any more.
_UNREADABLE: tuple[type[Exception], ...] = (ValueError, KeyError, EOFError, OSError, TypeError, AttributeError)
_UNREADABLE += (NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)


def save_compressed(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Write a model so that weights that share values, or are zero, take few bytes.

    Each weight is stored in the shortest of four forms: as it is; a codebook of its k different values and indices of
    ceil(log2 k) bits; or the same for its non-zero elements, with a bitmap or the gaps between them. All are then
    deflated. Compile settings and optimizer state are not stored.

    Args:
        model: A built model of plain layers: after ``tg.cluster`` or ``tg.prune``, hand in ``tg.strip(model)``.
        path: File to write, usually ``.npz``. An existing one is replaced once the new one is complete.

    Returns:
        The path written.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built, or holds layers that are still being compressed; the layer is named.
        OSError: The file cannot be written.

    Example:
        >>> import keras, tempfile, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="out")])
        >>> clustered = tg.strip(tg.cluster(model, tg.ClusterConfig(number_of_clusters=16)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = tg.save_compressed(clustered, f"{folder}/model.npz")
        ...     kernels = [m.get_layer("out").kernel.numpy() for m in (clustered, tg.load_compressed(path))]
        ...     bool((kernels[0] == kernels[1]).all()), path.stat().st_size < 4096 * 4 / 4
        (True, True)
    """
    import keras

    from tfgreen.model.paths import check_built_model, walk, weights_by_path

    check_built_model(model)
    for name, layer in [("", model), *walk(model)]:
        if hasattr(layer, "stands_for"):
            raise invalid_value(
                layer_subject(name or model.name, layer), expected="a plain layer", received="one being compressed",
                fix="Pass tg.strip(model).",
            )  # fmt: skip
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    forms, parts = {}, []
    for name, variable in weights_by_path(model).items():
        array = keras.ops.convert_to_numpy(variable)
        coded = encode(array)
        forms[name] = {
            "shape": list(array.shape), "dtype": variable.dtype, "bytes": len(coded.data),
            "form": coded.form, "values": coded.values, "stored": coded.stored, "gap_bits": coded.gap_bits,
        }  # fmt: skip
        parts.append(coded.data)
    data = b"".join(parts)
    header = {"tfgreen_format": FORMAT, "model": config, "weights": forms, "sha256": hashlib.sha256(data).hexdigest()}
    buffer = io.BytesIO()
    text = json.dumps(header, separators=(",", ":")).encode()
    np.savez_compressed(buffer, header=np.frombuffer(text, np.uint8), weights=np.frombuffer(data, np.uint8))
    return write_atomic(path, buffer.getvalue())


def load_compressed(path: str | os.PathLike[str]) -> keras.Model:
    """Read a model that :func:`save_compressed` wrote; its weights are the same to the bit.

    Args:
        path: The file. Classes of your own must be registered with
            ``keras.saving.register_keras_serializable``, as for ``keras.models.load_model``.

    Returns:
        The model, not compiled.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is damaged, cut short, or no file of :func:`save_compressed`, or a class in it is not registered.

    Example:
        >>> import keras, tempfile, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tg.load_compressed(tg.save_compressed(model, f"{folder}/model.npz")).get_layer("out").units
        2
    """
    import keras

    from tfgreen.model.paths import weights_by_path

    header, data = _read(Path(path))
    model = keras.saving.deserialize_keras_object(header["model"])
    variables, forms = weights_by_path(model), header["weights"]
    if set(variables) != set(forms):
        raise _damaged(path, f"weights {sorted(set(variables) ^ set(forms))} on one side only")
    start = 0
    for name, form in forms.items():
        variable = variables[name]
        dtype = keras.ops.convert_to_numpy(variable).dtype  # NumPy itself does not know bfloat16 by name
        try:
            if tuple(form["shape"]) != tuple(variable.shape) or form["dtype"] != variable.dtype:
                raise _damaged(path, f"'{name}' of shape {form['shape']} and dtype {form['dtype']}")
            end = start + form["bytes"]
            coded = Coded(form["form"], form["values"], form["stored"], form["gap_bits"], data[start:end])
            variable.assign(decode(coded, tuple(variable.shape), dtype))
        except (KeyError, TypeError, InvalidValueError) as error:
            raise _damaged(path, f"'{name}' described by {form}: {error}") from error
        start = end
    return model


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}.") from error
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            header, data = json.loads(arrays["header"].tobytes()), arrays["weights"].tobytes()
    except _UNREADABLE as error:
        raise _damaged(path, f"{type(error).__name__}: {str(error)[:200]}") from error
    if not isinstance(header, dict) or header.get("tfgreen_format") != FORMAT:
        raise _damaged(path, "a header of another format")
    missing = {"model", "weights", "sha256"} - set(header)
    if missing:
        raise _damaged(path, f"a header without {sorted(missing)}")
    if hashlib.sha256(data).hexdigest() != header["sha256"]:
        raise _damaged(path, "weights that do not match their checksum")
    return header, data


def _damaged(path: Any, received: str) -> InvalidValueError:
    return invalid_value(f"file '{path}'", expected="a whole file of tg.save_compressed", received=received)

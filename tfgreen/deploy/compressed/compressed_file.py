"""A model as a file of the size that clustering and pruning earned it.

The file is an ``.npz`` of two byte arrays: ``header``, the architecture and the form of each weight as JSON, and
``weights``, their bytes one after the other as ``coding.py`` codes them. Nothing in it is pickled. What a layer keeps
beyond its weights stands behind them.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import keras
import numpy as np

from tfgreen.checks import check_bool
from tfgreen.deploy.compressed.contents import Reader, Writer, damaged
from tfgreen.deploy.compressed.state import load_states, save_states
from tfgreen.errors import InvalidValueError, invalid_state, layer_subject
from tfgreen.files import check_path, reading, write_atomic
from tfgreen.model.keras2.config import one_line
from tfgreen.model.keras2.load import check_custom_objects, load_reason
from tfgreen.model.paths import check_built_model, join_path, walk, weights_by_path
from tfgreen.techniques.fold_batch_norm import check_plain
from tfgreen.typing import FilePath, PlainDict

FORMAT = 2
_READ = (1, FORMAT)  # 1 holds no state beyond weights

# What NumPy, zipfile and json raise on bytes that are no such file, or a damaged one.
_UNREADABLE: tuple[type[Exception], ...] = (ValueError, KeyError, EOFError, OSError, TypeError, AttributeError)
_UNREADABLE += (RuntimeError, zipfile.BadZipFile, zlib.error)


def save_compressed(model: keras.Model, path: FilePath) -> Path:
    """Write a model so that weights that share values, or are zero, take few bytes; return the path written.

    Each weight is stored in the shortest of four forms: as it is; a codebook of its k different values and indices of
    ceil(log2 k) bits; or the same for its non-zero elements, with a bitmap or the gaps between them. All are then
    deflated. What a layer keeps beyond its weights, in ``save_own_variables`` and ``save_assets``, is stored as well:
    an adapted mean, a vocabulary. Compile settings and optimizer state are left out.

    Args:
        model: A built model of plain layers: after ``tg.cluster`` or ``tg.prune``, hand in ``tg.strip(model)``.
        path: File to write, usually ``.npz``. An existing one is replaced once the new one is complete.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built, or holds layers that are still being compressed, or a function of your own
            that bears the name of one of Keras's, which would be loaded in its place,
            or a layer that stores what is no number in ``save_own_variables``; the layer is named.
        OSError: The file cannot be written.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="out")])
        >>> clustered = tg.strip(tg.cluster(model, tg.ClusterConfig(number_of_clusters=16)))
        >>> tg.save_compressed(clustered, "model.npz").stat().st_size < 64 * 64 * 4 / 4
        True
    """
    check_built_model(model)
    check_plain(model, "Pass tg.strip(model).")
    _check_names(model)
    try:
        config = keras.saving.serialize_keras_object(model)
    except Exception as error:  # whatever Keras, or a custom class of the user's, raises
        sentence = f"Keras cannot save model '{model.name}': {one_line(str(error))}."
        raise invalid_state(sentence, "It saves what get_config() of each class returns.") from error
    config.pop("compile_config", None)
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in weights_by_path(model).items()}
    writer = Writer()
    forms = {name: writer.add(array) for name, array in arrays.items()}
    states = save_states(model, arrays, writer)
    data = b"".join(writer.parts)
    header = {"tfgreen_format": FORMAT, "model": config, "weights": forms, "state": states}
    header["sha256"] = hashlib.sha256(data).hexdigest()
    buffer = io.BytesIO()
    text = json.dumps(header, separators=(",", ":")).encode()
    np.savez_compressed(buffer, header=np.frombuffer(text, np.uint8), weights=np.frombuffer(data, np.uint8))
    return write_atomic(path, buffer.getvalue())


def _check_names(model: keras.Model) -> None:
    """Raise for a function that Keras stores by a name by which it finds one of its own."""
    for path, layer in walk(model):
        for value in filter(inspect.isfunction, vars(layer).values()):
            name = value.__name__
            stored_alone = keras.saving.get_registered_name(value) == name and not value.__module__.startswith("keras.")
            if stored_alone and any(_knows(kind, name) for kind in (keras.activations, keras.initializers)):
                raise invalid_state(
                    f"{layer_subject(path, layer)}: its function '{name}' bears the name of one of Keras's, which "
                    "would be loaded in its place.",
                    "Rename it, or register it: keras.saving.register_keras_serializable(package='mine')(function).",
                )


def _knows(kind: ModuleType, name: str) -> bool:
    try:
        return kind.get(name) is not None
    except ValueError:
        return False


def load_compressed(
    path: FilePath, custom_objects: Mapping[str, object] | None = None, safe_mode: bool = True
) -> keras.Model:
    """Read a model that :func:`save_compressed` wrote, not compiled; its weights are the same to the bit.

    Args:
        path: The file.
        custom_objects: Name -> class or function, for what is neither Keras's nor registered with
            ``keras.saving.register_keras_serializable``.
        safe_mode: Whether to refuse Python code in the file (a Lambda layer), which would be run.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is damaged, cut short, or no file of :func:`save_compressed`, or Keras cannot build the model: a
            class is not known, or it holds code.
        TypeError: ``path`` is no path, or ``custom_objects`` no dict of names.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> tg.load_compressed(tg.save_compressed(model, "model.npz")).get_layer("out").units
        2
    """
    check_path(path)
    check_custom_objects(custom_objects)
    check_bool("safe_mode", safe_mode)
    header, data = _read(Path(path))
    try:
        model = keras.saving.deserialize_keras_object(header["model"], custom_objects, safe_mode)
    except Exception as error:  # whatever Keras, or a custom class of the user's, raises over this config
        reason = load_reason(error)
        raise InvalidValueError(f"{path}: Keras cannot build this model: {reason}") from error
    reader = Reader(path, data)
    values = {name: reader.take(name, form) for name, form in header["weights"].items()}
    if header["tfgreen_format"] == FORMAT:
        load_states(path, model, header["state"], values, reader)
    # Last, because a layer may load its weights otherwise than to the bit.
    for name, variable in _matched(path, model, values).items():
        if tuple(variable.shape) != values[name].shape or variable.dtype != values[name].dtype.name:
            raise damaged(path, f"'{name}' of shape {values[name].shape} and dtype {values[name].dtype.name}")
        variable.assign(values[name])
    if header["tfgreen_format"] == 1:
        for _, layer in walk(model):  # these compute with a copy of their weights, which they make when they load them
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()
    return model


def _matched(path: FilePath, model: keras.Model, saved: Mapping[str, object]) -> dict[str, keras.Variable]:
    """The weight for each name in the file.

    Layers go by their order, because Keras numbers those without a name in their config anew; the weights of a layer
    by name if it has these names, else by their order as well.
    """
    variables = weights_by_path(model)
    theirs, ours = _by_layer(saved), _by_layer(variables)
    if [len(names) for names in theirs.values()] != [len(names) for names in ours.values()]:
        raise damaged(path, f"weights {sorted(set(variables) ^ set(saved))} on one side only")
    found = {}
    for (at, names), (place, own) in zip(theirs.items(), ours.items()):
        for name, by_order in zip(names, own):
            found[join_path(at, name)] = variables[join_path(place, name if set(names) == set(own) else by_order)]
    return found


def _by_layer(paths: Iterable[str]) -> dict[str, list[str]]:
    """The names of the weights of each layer, by its path."""
    found: dict[str, list[str]] = {}
    for path in paths:
        layer, _, name = path.rpartition("/")
        found.setdefault(layer, []).append(name)
    return found


def _read(path: Path) -> tuple[PlainDict, bytes]:
    with reading(path):
        content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            header, data = json.loads(arrays["header"].tobytes()), arrays["weights"].tobytes()
    except _UNREADABLE as error:
        what = "a .keras file, for tg.load_model" if _is_keras(content) else "other content, or a damaged one"
        raise damaged(path, what) from error
    if not isinstance(header, dict) or header.get("tfgreen_format") not in _READ:
        raise damaged(path, "a header of another format")
    missing = {"model", "weights", "sha256", *(["state"] if header["tfgreen_format"] == FORMAT else [])} - set(header)
    if missing:
        raise damaged(path, f"a header without {sorted(missing)}")
    if hashlib.sha256(data).hexdigest() != header["sha256"]:
        raise damaged(path, "weights that do not match their checksum")
    return header, data


def _is_keras(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return "config.json" in archive.namelist()
    except _UNREADABLE:
        return False

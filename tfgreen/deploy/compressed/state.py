"""What layers keep beyond their weights: an adapted mean, a vocabulary, whatever a class of one's own writes.

A layer hands it out in ``save_own_variables`` and ``save_assets``, as it does for a ``.keras`` file, and takes it back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfgreen.deploy.compressed.contents import Reader, Writer, damaged
from tfgreen.errors import InvalidValueError, invalid_state, layer_subject
from tfgreen.model.keras2.config import one_line
from tfgreen.model.paths import join_path, walk
from tfgreen.typing import FilePath, PlainDict

Arrays = Mapping[str, np.ndarray]
_METHODS = ("save_own_variables", "load_own_variables", "save_assets", "load_assets")


def save_states(model: keras.Model, weights: Arrays, writer: Writer) -> list[PlainDict]:
    """What each layer keeps: by key the name of the weight that an array is, or its form; and its files' forms."""
    states = []
    for path, layer in _keeping(model):
        stored: PlainDict = {}
        for key, array in _own_variables(path, layer).items():
            near = (name for name in weights if name.startswith(path))
            stored[key] = next((name for name in near if _same(weights[name], array)), None) or writer.add(array)
        state: PlainDict = {"layer": path, "class": type(layer).__name__, "variables": stored}
        if hasattr(layer, "save_assets"):
            _check_vocabulary(path, layer)
            with tempfile.TemporaryDirectory() as folder:
                layer.save_assets(folder)
                files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
                names = [file.relative_to(folder).as_posix() for file in files]
                state["files"] = {name: writer.add_file(file.read_bytes()) for name, file in zip(names, files)}
        states.append(state)
    return states


def load_states(
    path: FilePath, model: keras.Model, states: list[PlainDict], weights: Arrays, reader: Reader
) -> None:
    """Hand the layers of a model, in their order, what :func:`save_states` wrote."""
    layers = _keeping(model)
    if [type(layer).__name__ for _, layer in layers] != [state["class"] for state in states]:
        raise damaged(path, f"a state of layers {[state['layer'] for state in states]}, of other classes")
    for (at, layer), state in zip(layers, states):
        absent = {form for form in state["variables"].values() if isinstance(form, str)} - set(weights)
        if absent:
            raise damaged(path, f"a state of weights {sorted(absent)} that it lacks")
        store = {
            key: weights[form] if isinstance(form, str) else reader.take(join_path(at, key), form)
            for key, form in state["variables"].items()
        }
        files = {name: reader.take(join_path(at, name), form) for name, form in state.get("files", {}).items()}
        try:
            layer.load_own_variables(store)
            if "files" in state:
                _load_files(layer, files)
        except Exception as error:  # whatever Keras, or a custom class of the user's, raises over its state
            sentence = f"{path}: {layer_subject(at, layer)} cannot load its state: {one_line(str(error))}"
            raise InvalidValueError(sentence) from error


def _keeping(model: keras.Model) -> list[tuple[str, keras.Layer]]:
    """The layers whose class saves or loads in a way of its own.

    One with LoRA does not count: Keras writes its merged kernel, while the weights hold all there is.
    """
    return [
        (path, layer)
        for path, layer in [("", model), *walk(model)]
        if any(getattr(type(layer), name, None) is not getattr(keras.Layer, name, None) for name in _METHODS)
        and not getattr(layer, "lora_enabled", False)
    ]


def _own_variables(path: str, layer: keras.Layer) -> dict[str, np.ndarray]:
    store: dict[str, object] = {}
    layer.save_own_variables(store)
    arrays = {key: _array(value) for key, value in store.items()}
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16" or array.dtype.itemsize > 8:
            raise invalid_state(
                f"{layer_subject(path, layer)}: its save_own_variables() stores '{key}' of dtype {array.dtype}, which "
                "this file cannot hold.",
                "Store numbers of at most 64 bits there, and write anything else to a file in save_assets().",
            )
    return arrays


def _check_vocabulary(path: str, layer: keras.Layer) -> None:
    """Raise for an adapted vocabulary that Keras, which writes a term a line, reads back as another."""
    if getattr(layer, "input_vocabulary", layer) is not None:  # it stands in the config, or there is none
        return
    terms = [str(term) for term in layer.get_vocabulary(include_special_tokens=False)]
    broken = [term for term in terms if term.splitlines() != [term]]
    if broken:
        sentence = f"{layer_subject(path, layer)}: its term {broken[0]!r} takes no single line of its vocabulary file."
        raise invalid_state(sentence, "Pass the terms to the constructor of the layer as vocabulary=.")
    if not terms:
        raise invalid_state(f"{layer_subject(path, layer)}: its vocabulary is empty.", "Call its adapt() first.")


def _array(value: Any) -> np.ndarray:
    if isinstance(value, keras.Variable):
        return keras.ops.convert_to_numpy(value)
    return np.asarray(value.numpy() if tf.is_tensor(value) else value)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def _load_files(layer: keras.Layer, files: Arrays) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for name, content in files.items():
            file = (root / name).resolve()
            if root not in file.parents:
                raise ValueError(f"file '{name}' is outside the folder of its layer")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.tobytes())
        layer.load_assets(folder)

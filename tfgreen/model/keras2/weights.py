"""Copy the weights of a Keras 2 ``.h5`` file into the model that was rebuilt from its config."""

from __future__ import annotations

from collections.abc import Mapping

import h5py
import keras
import numpy as np

from tfgreen.errors import FileError, layer_subject
from tfgreen.model.keras2.config import keras3_name
from tfgreen.model.keras2.tfmot import baked


def load_keras2_weights(model: keras.Model, group: h5py.Group, wrapped: Mapping[str, str]) -> None:
    """Copy every layer's weights from the file to the model.

    Layers are found by name; weights by the names of their layer and variable where these are unique, and by Keras 2's
    order (trainable, then not) otherwise. ``group`` is the ``model_weights`` group of the file, ``wrapped`` what
    :func:`tfgreen.model.keras2.tfmot.unwrapped` found.
    """
    names = {name: wrapped.get(name) or name for name in _strings(group, "layer_names")}
    saved = {keras3_name(inner): group[name] for name, inner in names.items()}
    for layer in model.layers:
        subject = layer_subject(layer.name, layer)
        variables = [*layer.trainable_weights, *layer.non_trainable_weights]
        arrays = baked(_arrays(saved[layer.name]), wrapped) if layer.name in saved else []
        if len(arrays) != len(variables):
            raise FileError(
                f"{subject}: expected {len(variables)} weights in the file, received {len(arrays)}. "
                "The file's config and weights do not belong together; save it again."
            )
        for variable, (name, array) in zip(variables, _matched(variables, arrays)):
            if tuple(variable.shape) != array.shape:
                raise FileError(
                    f"{subject}: expected shape {tuple(variable.shape)} for '{variable.path}', "
                    f"received {array.shape} from '{name}'."
                )
            variable.assign(array)
        _finalize(layer)


def _arrays(group: h5py.Group) -> list[tuple[str, np.ndarray]]:
    """Name and value of a layer's weights in the file's order, without the state of random generators."""
    names = [name for name in _strings(group, "weight_names") if not name.split(":")[0].endswith("StateVar")]
    return [(name, np.asarray(group[name])) for name in names]


def _strings(group: h5py.Group, key: str) -> list[str]:
    """A list of strings kept in HDF5 attributes; long lists are cut into ``key0``, ``key1``, ..."""
    parts = [group.attrs[key]] if key in group.attrs else []
    while f"{key}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{key}{len(parts)}"])
    return [item.decode() if isinstance(item, bytes) else str(item) for part in parts for item in part]


def _matched(variables: list[keras.Variable], arrays: list[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    wanted = [_key(variable.path) for variable in variables]
    found = {_key(name): (name, array) for name, array in arrays}
    if len(found) == len(arrays) == len(set(wanted)) and set(wanted) == set(found):
        return [found[key] for key in wanted]
    return arrays


def _key(path: str) -> tuple[str, ...]:
    """Layer and variable of ``"outer/conv/depthwise_kernel:0"``; Keras 3 calls a depthwise kernel just kernel."""
    return tuple(path.split(":")[0].replace("depthwise_kernel", "kernel").split("/")[-2:])


def _finalize(layer: keras.Layer) -> None:
    """Let preprocessing layers (Normalization) derive what they compute from their weights."""
    for inner in getattr(layer, "layers", []):
        _finalize(inner)
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()

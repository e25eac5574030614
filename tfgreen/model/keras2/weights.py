"""Copy the weights of a Keras 2 ``.h5`` file into the model that was rebuilt from its config."""

from __future__ import annotations

import h5py
import keras
import numpy as np

from tfgreen.errors import FileError
from tfgreen.model.keras2.config import keras3_name


def load_keras2_weights(model: keras.Model, group: h5py.Group) -> None:
    """Copy every layer's weights from the file to the model.

    Layers are found by name. Inside a nested model or wrapper, weights are found by the names of their layer and
    variable where these are unique, and by Keras 2's order (trainable, then not) otherwise.

    Args:
        model: From :func:`tfgreen.model.keras2.graph.model_from_keras2`.
        group: The ``model_weights`` group of the file.

    Raises:
        OSError: A layer's weights are missing or have other shapes than the layer.
    """
    saved = {keras3_name(name): group[name] for name in _strings(group, "layer_names")}
    for layer in model.layers:
        variables = [*layer.trainable_weights, *layer.non_trainable_weights]
        arrays = _arrays(saved[layer.name]) if layer.name in saved else []
        if len(arrays) != len(variables):
            raise FileError(
                f"layer '{layer.name}' ({type(layer).__name__}): expected {len(variables)} weights in the file, "
                f"received {len(arrays)}. The file's config and weights do not belong together; save it again."
            )
        for variable, (name, array) in zip(variables, _matched(variables, arrays)):
            if tuple(variable.shape) != array.shape:
                raise FileError(
                    f"layer '{layer.name}' ({type(layer).__name__}): expected shape {tuple(variable.shape)} for "
                    f"'{variable.path}', received {array.shape} from '{name}'."
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

"""Copy a model, with other layers in the place of some: every verb does.

Names, dtypes, shared layers, nested models and input and output structures are carried over, and the model passed in is
not touched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras

from tfgreen.errors import invalid_value, layer_subject
from tfgreen.model.internals import input_layers, is_container, replay, set_build_config
from tfgreen.model.paths import check_built_model, sublayers, walk, weights_by_path
from tfgreen.typing import PlainDict, Tensor

Replace = Callable[[str, keras.Layer], keras.Operation | None]
ReplaceOperation = Callable[[str, keras.Operation], keras.Operation]


def rebuild(
    model: keras.Model, replace: Replace, replace_operation: ReplaceOperation = lambda path, operation: operation
) -> keras.Layer:
    """Return an uncompiled copy of ``model`` in which ``replace(path, copy)`` stands in the place of each layer.

    Args:
        model: A built model. Sequential and functional models are rebuilt layer by layer, nested ones included. Any
            other is handed to ``replace`` whole: a model that is not a graph under the path ``""``.
        replace: Called once per layer with its path (``"encoder/conv"``) and a built copy with its weights. Returns the
            layer to use, often the copy itself, or None to pass on the input.
        replace_operation: The same for the raw operations of a graph (``x + y``), which are no layers.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built, or a layer cannot be copied from its ``get_config()``; the layer is named.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> rebuild(model, lambda path, layer: layer).get_layer("out").name
        'out'
    """
    check_built_model(model)
    copies: dict[int, keras.Operation | None] = {}  # one copy per shared layer, wherever it is used

    def copy(operation: keras.Operation, prefix: str) -> keras.Operation | None:
        if id(operation) not in copies:
            path = prefix + operation.name
            if not isinstance(operation, keras.Layer):
                copies[id(operation)] = replace_operation(path, _from_config(path, operation))
            elif is_container(operation):
                copies[id(operation)] = copy_container(operation, f"{path}/")
            else:
                copies[id(operation)] = replace(path, copy_layer(operation, path))
        return copies[id(operation)]

    def copy_container(container: keras.Model, prefix: str) -> keras.Model:
        inputs = keras.tree.map_structure(_copy_input, input_layers(container))
        if isinstance(container, keras.Sequential):
            layers = [layer for layer in (copy(layer, prefix) for layer in container.layers) if layer is not None]
            result = keras.Sequential([inputs, *layers], name=container.name)
        else:
            tensors = keras.tree.map_structure(lambda layer: layer.output, inputs)
            outputs = replay(container, tensors, lambda operation: copy(operation, prefix) or _pass_on)
            result = type(container)(tensors, outputs, name=container.name)
        _carry_trainable(container, result)
        return result

    if is_container(model):
        return copy_container(model, "")
    return replace("", copy_layer(model, model.name))


def copy_layer(layer: keras.Layer, path: str) -> keras.Layer:
    """Return a new layer with the config, the build shapes and the weights of ``layer``.

    A ValueError, with the ``path``, says that it cannot be made from its ``get_config()``, or has other weights.
    """
    copy = functools.partial(_from_config, path)
    new = layer.unbuilt_copy(copy) if hasattr(layer, "unbuilt_copy") else copy(layer)
    if layer.built:
        build_from_configs(new, build_configs(layer))
    old_weights, new_weights = weights_by_path(layer), weights_by_path(new)
    if {k: v.shape for k, v in old_weights.items()} != {k: v.shape for k, v in new_weights.items()}:
        raise invalid_value(
            layer_subject(path, layer), expected="a layer whose get_config() makes one with the same weights",
            received=f"weights {sorted(new_weights)} instead of {sorted(old_weights)}",
            fix="Let get_config() return every constructor argument.",
        )
    for name, variable in old_weights.items():
        new_weights[name].assign(variable)
    return new


def build_configs(layer: keras.Layer) -> dict[str, PlainDict]:
    """What a built layer and its sublayers were built from, by path (the layer's own under ``""``), in plain values."""
    configs = {path: sub.get_build_config() for path, sub in [("", layer), *walk(layer)] if sub.built}
    return {path: config for path, config in configs.items() if config}


def build_from_configs(layer: keras.Layer, configs: dict[str, PlainDict], path: str = "") -> None:
    """Build a layer as the one was whose :func:`build_configs` are given.

    Where it has no ``build()`` of its own, its first call would build its sublayers: they are built here one by one.
    """
    if layer.built:
        return
    config = configs.get(path, {})
    if config and type(layer).build not in (keras.Layer.build, keras.Model.build):
        layer.build_from_config(config)
    elif config:
        set_build_config(layer, config)
    for name, sub in sublayers(layer):
        build_from_configs(sub, configs, f"{path}/{name}" if path else name)
    layer.built = True


def _copy_input(layer: keras.layers.InputLayer) -> keras.layers.InputLayer:
    """A new InputLayer whose layer and tensor bear the names of the original's (they differ for anonymous inputs)."""
    new = type(layer).from_config(layer.get_config())
    new.output.name = layer.output.name
    return new


def _from_config(path: str, operation: keras.Operation) -> keras.Operation:
    try:
        config = operation.get_config()
        if isinstance(operation, keras.layers.Lambda):
            # The function is the user's own, in this process: the safe mode guards against files, not against it.
            return type(operation).from_config(config, safe_mode=False)
        return type(operation).from_config(config)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise invalid_value(
            layer_subject(path, operation), expected="a layer that can be copied from its get_config()",
            received=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            fix="Implement get_config() so that cls(**config) makes the layer again.",
        ) from error


def _pass_on(first: Tensor, *args: object, **kwargs: object) -> Tensor:
    return first


def _carry_trainable(old: keras.Model, new: keras.Model) -> None:
    """Carry over a model's own ``trainable`` flag without losing those of its layers, which setting it overwrites."""
    if old.trainable:
        return
    flags = [(layer, layer.trainable) for layer in new.layers]
    new.trainable = False
    for layer, trainable in flags:
        layer.trainable = trainable

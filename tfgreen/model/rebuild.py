"""Copy a model, with other layers in the place of some: every verb does.

Names, dtypes, shared layers, nested models and input and output structures are carried over, and the model passed in is
not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tfgreen.errors import invalid_state
from tfgreen.model.copy import Copies
from tfgreen.model.internals import (
    compile_settings,
    copy_input,
    input_layers,
    is_container,
    is_graph,
    on_copies,
    replay,
    set_build_config,
)
from tfgreen.model.paths import check_built_model, join_path, replaceable_layers, sublayers, walk
from tfgreen.typing import PlainDict, Tensor

Replace = Callable[[str, keras.Layer], keras.Operation | None]
ReplaceOperation = Callable[[str, keras.Operation], Callable[..., Any]]
ReplaceInput = Callable[[str, keras.layers.InputLayer], keras.layers.InputLayer]


def rebuild(
    model: keras.Model,
    replace: Replace,
    replace_operation: ReplaceOperation = lambda path, operation: operation,
    replace_input: ReplaceInput = lambda path, layer: layer,
) -> keras.Layer:
    """Return an uncompiled copy of ``model`` in which ``replace(path, copy)`` stands in the place of each layer.

    Args:
        model: A built model. Sequential and functional models are rebuilt layer by layer, nested ones included. Any
            other is handed to ``replace`` whole: a model that is not a graph under the path ``""``.
        replace: Called once per layer with its path (``"encoder/conv"``) and a built copy with its weights. Returns the
            layer to use, often the copy itself, or None to pass on the input.
        replace_operation: The same for the raw operations of a graph (``x + y``), which are no layers.
        replace_input: The same for the inputs of the model and of nested ones.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> rebuild(model, lambda path, layer: layer).get_layer("out").name
        'out'
    """
    check_built_model(model)
    faithful = Copies()
    paths = {id(layer): path for path, layer in replaceable_layers(model)}  # a shared layer goes by its first path
    copies: dict[int, Any] = {}  # what stands for each layer, wherever it is used

    def copy(operation: keras.Operation, prefix: str) -> Any:
        if id(operation) not in copies:
            path = paths.get(id(operation), prefix + operation.name)
            if not isinstance(operation, keras.Layer):
                copies[id(operation)] = replace_operation(path, faithful.of(operation))
            elif is_container(operation):
                copies[id(operation)] = copy_container(operation, f"{path}/")
            else:
                copies[id(operation)] = replace(path, faithful.of(operation))
        return copies[id(operation)]

    def copy_container(container: keras.Model, prefix: str) -> keras.Model:
        inputs = keras.tree.map_structure(
            lambda layer: replace_input(prefix + layer.name, copy_input(layer)), input_layers(container)
        )
        if isinstance(container, keras.Sequential):
            layers = [layer for layer in (copy(layer, prefix) for layer in container.layers) if layer is not None]
            result = keras.Sequential([inputs, *layers], name=container.name)
        else:
            tensors = keras.tree.map_structure(lambda layer: layer.output, inputs)
            outputs = replay(container, tensors, lambda old: on_copies(copy(old, prefix) or _pass_on, faithful.of))
            result = type(container)(tensors, outputs, name=container.name)
        _carry_trainable(container, result)
        return result

    if is_container(model):
        return copy_container(model, "")
    return replace("", faithful.of(model))


def build_configs(layer: keras.Layer) -> dict[str, PlainDict]:
    """What a built layer and its sublayers were built from, by path (the layer's own under ``""``), in plain values."""
    configs = {path: sub.get_build_config() for path, sub in [("", layer), *walk(layer)] if sub.built}
    return {path: config for path, config in configs.items() if config}


def build_from_configs(
    layer: keras.Layer, configs: dict[str, PlainDict], path: str = "", in_code: bool = False
) -> None:
    """Build a layer as the one was whose :func:`build_configs` are given.

    What its own ``build()`` does not build, its first call would: such sublayers are built here one by one.
    """
    config, has_build = configs.get(path, {}), type(layer).build not in (keras.Layer.build, keras.Model.build)
    if not has_build and config:
        set_build_config(layer, config)
    elif config and not layer.built:  # Keras says so of any layer that it has loaded
        layer.build_from_config(config)
    for name, sub in sublayers(layer, in_code):
        build_from_configs(sub, configs, join_path(path, name), in_code or not is_graph(layer))
    layer.built = layer.built or not has_build


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


def check_compiled(model: keras.Model) -> None:
    """Raise unless ``model`` is compiled."""
    if not model.compiled:
        raise invalid_state(f"Model '{model.name}' is not compiled.", "Call model.compile(optimizer, loss) first.")


def compiled_copy(model: keras.Model) -> keras.Model:
    """A copy of a compiled model, compiled the same way, with an optimizer, not yet used, and metrics of its own.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> model.compile("adam", lambda y, outputs: keras.ops.mean(outputs), metrics=["mae"])
        >>> compiled_copy(model).optimizer.name
        'adam'
    """

    def own(value: Any) -> Any:
        return type(value).from_config(value.get_config()) if isinstance(value, keras.Metric) else value

    settings = compile_settings(model)
    for name in ("metrics", "weighted_metrics"):
        settings[name] = keras.tree.map_structure(own, settings[name])
    settings["optimizer"] = type(model.optimizer).from_config(model.optimizer.get_config())
    result: keras.Model = rebuild(model, lambda path, layer: layer)
    result.compile(**settings)
    return result

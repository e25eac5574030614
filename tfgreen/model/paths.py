"""The layers and weights of any Keras 3 model by path (``"encoder/conv"``, ``"encoder/conv/kernel"``)."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.internals import is_container, is_graph, tracked_layers, tracked_variables


def check_built_model(model: object, argument: str = "model") -> None:
    """Raise unless ``model`` is a Keras model that has its weights.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model has not been built.
    """
    if not isinstance(model, keras.Model):
        raise invalid_type(argument, expected="a keras.Model (Keras 3)", received=model)
    if not model.built:
        raise invalid_value(
            f"{argument} '{model.name}'", expected="a built model", received="one without weights",
            fix="Give it a keras.Input, or call it once on a batch of data.",
        )


def sublayers(layer: keras.Layer) -> list[tuple[str, keras.Layer]]:
    """The direct sublayers of a layer, under names that are equal in every process.

    The layers of a Sequential or functional model go by their names, which its config holds. Those of any other
    layer go by the attribute they are held in (``"query_dense"``, ``"blocks/0"``): their own names are numbered
    anew in each process.
    """
    if is_graph(layer):
        return [(sub.name, sub) for sub in layer.layers if not isinstance(sub, keras.layers.InputLayer)]
    tracked = {id(sub): sub for sub in tracked_layers(layer)}
    found: dict[str, keras.Layer] = {}
    for attribute, value in vars(layer).items():
        if attribute == "_layers" or attribute.startswith("_self_"):  # Keras's and TensorFlow's own bookkeeping
            continue
        for suffix, sub in _flatten(value):
            if tracked.pop(id(sub), None) is not None:
                name = (attribute.lstrip("_") or attribute) + suffix
                found[name if name not in found else attribute + suffix] = sub
    for sub in tracked.values():
        found[sub.name] = sub
    return list(found.items())


def _flatten(value: object) -> Iterator[tuple[str, keras.Layer]]:
    """Layers in an attribute: itself, or in (nested) lists, tuples and dicts."""
    if isinstance(value, keras.Layer):
        yield "", value
    elif isinstance(value, dict):
        for key, item in value.items():
            for suffix, sub in _flatten(item):
                yield f"/{key}{suffix}", sub
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            for suffix, sub in _flatten(item):
                yield f"/{index}{suffix}", sub


def walk(layer: keras.Layer) -> Iterator[tuple[str, keras.Layer]]:
    """Every layer below ``layer`` once, depth first, with its path; a shared layer goes by its first path.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> [path for path, _ in walk(model)]
        ['out']
    """
    seen: set[int] = set()

    def visit(parent: keras.Layer, prefix: str) -> Iterator[tuple[str, keras.Layer]]:
        for name, sub in sublayers(parent):
            if id(sub) in seen:
                continue
            seen.add(id(sub))
            yield prefix + name, sub
            yield from visit(sub, f"{prefix}{name}/")

    yield from visit(layer, "")


def replaceable_layers(model: keras.Model) -> Iterator[tuple[str, keras.Layer]]:
    """The layers that a verb can replace, with their paths: all of a graph, nested graphs included, or a subclassed
    model as a whole under ``""``."""
    if not is_container(model):
        yield "", model
        return
    seen: set[int] = set()

    def visit(container: keras.Model, prefix: str) -> Iterator[tuple[str, keras.Layer]]:
        for name, layer in sublayers(container):
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            if is_container(layer):
                yield from visit(layer, f"{prefix}{name}/")
            else:
                yield prefix + name, layer

    yield from visit(model, "")


def own_weights(layer: keras.Layer) -> dict[str, keras.Variable]:
    """The weights a layer holds itself, not in sublayers, by name (``"kernel"``, ``"bias"``), trainable ones first."""
    found: dict[str, keras.Variable] = {}
    trainable, others = tracked_variables(layer)
    held = [*trainable, *others]
    # A wrapper such as SpectralNormalization also refers to a weight of the layer inside, whose it remains.
    below = {id(variable) for sub in tracked_layers(layer) for variable in sub.weights} if held else set()
    for variable in (variable for variable in held if id(variable) not in below):
        name, index = variable.name, 1
        while name in found:
            name, index = f"{variable.name}_{index}", index + 1
        found[name] = variable
    return found


def own_parameters(layer: keras.Layer) -> dict[str, keras.Variable]:
    """Those of :func:`own_weights` that are trained unless the layer is frozen."""
    trainable = {id(variable) for variable in tracked_variables(layer)[0]}
    return {name: variable for name, variable in own_weights(layer).items() if id(variable) in trainable}


def weights_by_path(layer: keras.Layer) -> dict[str, keras.Variable]:
    """All weights of a layer and its sublayers by path (``"kernel"``, ``"cell/recurrent_kernel"``), each once."""
    found = dict(own_weights(layer))
    for path, sub in walk(layer):
        found.update({f"{path}/{name}": variable for name, variable in own_weights(sub).items()})
    return found

"""Ties: a weight that several layers read is compressed once, or not at all.

A layer may hold another layer, or a variable of one, as an attribute (a decoder that multiplies by the table of an
embedding). Their chains then consist of the same transforms, so that all of them compute with one effective weight. A
reader that no chain can reach (a Lambda, or a raw operation that is called on a variable) reads the weight as it is
stored, which is another one: such a weight is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import keras

from tfgreen.model.copy import variables_reached
from tfgreen.model.internals import graph_calls, graph_of, is_container
from tfgreen.model.paths import join_path, replaceable_layers, walk, weights_by_path

Readers = Mapping[str, str]  # path of a layer -> path of the weight within it, "" if it is read unseen


def tied_variables(model: keras.Model) -> dict[int, Readers]:
    """The variables of a built model that more than one of its layers and operations read, by ``id``, with those.

    Example:
        >>> inputs = keras.Input((3,))
        >>> table = keras.layers.Dense(4, use_bias=False, name="table")
        >>> unseen = keras.layers.Lambda(lambda x: keras.ops.matmul(x, keras.ops.transpose(table.kernel)), name="back")
        >>> list(tied_variables(keras.Model(inputs, unseen(table(inputs)))).values())
        [{'table': 'kernel', 'back': ''}]
    """
    readers: dict[int, dict[str, str]] = {}
    layers = {path: getattr(layer, "stands_for", layer) for path, layer in replaceable_layers(model)}
    for path, layer in layers.items():
        for weight, variable in weights_by_path(layer).items():
            readers.setdefault(id(variable), {})[path] = weight
    unseen = [(path, layer) for path, layer in layers.items()] + list(_arguments(model))
    for path, holder in unseen:
        for key in variables_reached(holder):
            if key in readers:
                readers[key].setdefault(path, "")
    return {key: found for key, found in readers.items() if len(found) > 1}


def _arguments(model: keras.Model) -> Iterable[tuple[str, object]]:
    """What each call in the graphs of a model is passed, and each raw operation, by path."""
    for prefix, container in [("", model), *walk(model, is_container)]:
        if is_container(container):
            for call in graph_calls(graph_of(container)):
                path = join_path(prefix, call.operation.name)
                yield path, (call.arguments.args, call.arguments.kwargs)
                if not isinstance(call.operation, keras.Layer):
                    yield path, call.operation

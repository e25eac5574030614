"""SharedGraph: a functional model that is saved with the layers that a nested model and the model around it share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from tfgreen.model.internals import Functional, calls_of, graph_calls, graph_of, is_container
from tfgreen.model.paths import walk
from tfgreen.typing import PlainDict


@keras.saving.register_keras_serializable(package="tfgreen")
class SharedGraph(Functional):
    """A functional model whose config tells which layers are one and the same, in it and in nested models.

    Keras tells it of layers within one model alone: of others it loads a second one, which gets no weights. An
    embedding that a language model looks up tokens in, and multiplies by in its head, is such a layer.
    """

    def get_config(self) -> PlainDict:
        config: PlainDict = super().get_config()
        layers = {operation.name: operation for operation in self.operations}
        for entry in config["layers"]:
            entry["shared_object_id"] = id(layers[entry["name"]])
        return config

    @classmethod
    def from_config(cls, config: PlainDict, custom_objects: Mapping[str, object] | None = None) -> SharedGraph:
        # Keras counts the calls of a layer in this model alone, but finds them among those of nested ones too.
        layers = [keras.saving.deserialize_keras_object(entry, custom_objects) for entry in config["layers"]]
        called = [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]
        earlier = {layer.name: len(calls_of(layer)) for layer in called}
        for entry in config["layers"]:
            entry["inbound_nodes"] = _renumbered(entry["inbound_nodes"], earlier)
        for name in ("input_layers", "output_layers"):
            config[name] = _renumbered(config[name], earlier)
        model: SharedGraph = super().from_config(config, custom_objects)
        return model


def _renumbered(tree: Any, earlier: Mapping[str, int]) -> Any:
    """A part of a config in which calls are numbered from a number on, by the name of the layer: ``[name, call, tensor
    of it]``."""
    if isinstance(tree, dict):
        return {name: _renumbered(item, earlier) for name, item in tree.items()}
    if not isinstance(tree, (list, tuple)):
        return tree
    if len(tree) == 3 and tree[0] in earlier and all(type(number) is int for number in tree[1:]):
        return [tree[0], tree[1] + earlier[tree[0]], tree[2]]
    return type(tree)(_renumbered(item, earlier) for item in tree)


def let_layers_be_shared(model: keras.Model) -> keras.Model:
    """The model itself, of which each graph becomes a :class:`SharedGraph` if two of them call the same layer.

    Example:
        >>> table, (x, y) = keras.layers.Embedding(9, 4), (keras.Input((3,)), keras.Input((3,)))
        >>> nested = keras.Model(x, table(x))
        >>> type(let_layers_be_shared(keras.Model(y, nested(y) + table(y)))).__name__
        'SharedGraph'
    """
    graphs = [graph for graph in [model, *(sub for _, sub in walk(model))] if is_container(graph)]
    called = [{id(call.operation) for call in graph_calls(graph_of(graph))} for graph in graphs]
    if sum(map(len, called)) > len(set().union(*called)):
        for graph in graphs:
            if type(graph) is Functional:
                graph.__class__ = SharedGraph
    return model

"""LayerGraph: the calls that make up a Sequential or functional model, with who feeds whom, and their shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from tfgreen.errors import invalid_value
from tfgreen.model.internals import graph_calls, graph_of, input_layers, is_container, passed_inputs
from tfgreen.model.paths import check_built_model, join_path, replaceable_layers
from tfgreen.structure import CallSpec, match
from tfgreen.typing import Shape, Tensor

_TAKE_INDICES = (
    *(keras.layers.Embedding, keras.layers.CategoryEncoding, keras.layers.Discretization, keras.layers.Hashing),
    *(keras.layers.HashedCrossing, keras.layers.IntegerLookup),
)


@dataclasses.dataclass(frozen=True, eq=False)
class LayerNode:
    """One call of a layer, or of a raw operation (``x + y``), in the graph of a model; see :class:`LayerGraph`.

    All calls of a shared layer bear its first path (``"encoder/conv"``). ``producers`` returned the tensors passed in,
    whose ``input_shapes`` go in the same order, constants left out; ``consumers`` take what it returned, each once.
    ``arguments`` are those by position, ``named`` those by name.
    """

    path: str
    layer: keras.Operation
    producers: tuple[LayerNode, ...] = dataclasses.field(repr=False)
    consumers: list[LayerNode] = dataclasses.field(repr=False)
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    output_dtypes: tuple[str, ...]
    arguments: tuple = dataclasses.field(repr=False)
    named: Mapping[str, Any] = dataclasses.field(repr=False)

    @property
    def takes_indices(self) -> bool:
        """Whether the numbers that it takes in are integers in meaning: ids to look up, or to be cast or compared."""
        floats = any(keras.backend.is_float_dtype(dtype) for dtype in self.output_dtypes)
        layer = getattr(self.layer, "stands_for", self.layer)
        one_rank = len(self.output_shapes[0]) == len(self.input_shapes[0])
        multiplies = isinstance(layer, keras.layers.Embedding) and one_rank
        return not floats or (isinstance(layer, _TAKE_INDICES) and not multiplies)  # as a reversible table does


class LayerGraph:
    """The calls that make up a built Sequential or functional model, those of nested models in their place.

    Shapes are the ones with which Keras built the graph that holds the call: a nested model may have been built with
    fewer sizes known than the model around it.

    Attributes:
        nodes: All calls, producers before consumers. Each input of the model is a node too.
        inputs, outputs: The nodes of the model's inputs, and those that return its outputs, flat, in their order.

    Raises:
        ValueError: The model is not built, or is subclassed: its calls are Python code, not a graph.

    Example:
        >>> x = inputs = keras.Input((3,), name="features")
        >>> graph = LayerGraph(keras.Model(inputs, x + keras.layers.Dense(3, name="dense")(x)))
        >>> [(type(node.layer).__name__, [producer.path for producer in node.producers]) for node in graph.nodes]
        [('InputLayer', []), ('Dense', ['features']), ('Add', ['features', 'dense'])]
    """

    def __init__(self, model: keras.Model) -> None:
        check_built_model(model)
        if not is_container(model):
            raise invalid_value(
                f"model '{model.name}' ({type(model).__name__})",
                expected="a Sequential or functional model, whose graph of layers can be read",
                received="a subclass that runs its layers in code of its own",
                fix="Build the model with keras.Model(inputs, outputs).",
            )
        self.nodes: list[LayerNode] = []
        self._paths = {id(layer): path for path, layer in replaceable_layers(model)}
        inputs = keras.tree.flatten(input_layers(model))
        self.inputs = [self._add(layer.name, layer, [], [layer.output], (), {}) for layer in inputs]
        self.outputs = [node for node in self._read(model, self.inputs, "") if node is not None]

    def _read(self, model: keras.Model, inputs: Sequence[LayerNode | None], prefix: str) -> list[LayerNode | None]:
        """Add the calls of one graph, given the producers of its inputs; returns those of its outputs (a constant
        passed to a nested model has none)."""
        graph = graph_of(model)
        producers = {id(tensor): node for tensor, node in zip(graph.inputs, inputs, strict=True)}
        for call in graph_calls(graph):
            operation, path = call.operation, join_path(prefix, call.operation.name)
            if is_container(operation):
                passed = [producers.get(id(tensor)) for tensor in passed_inputs(call)]
                nodes = self._read(operation, passed, path)
            else:
                fed = [(node, tensor) for tensor in call.input_tensors if (node := producers[id(tensor)]) is not None]
                given = call.arguments.args, call.arguments.kwargs
                node = self._add(self._paths.setdefault(id(operation), path), operation, fed, call.outputs, *given)
                nodes = [node] * len(call.outputs)
            producers.update({id(tensor): node for tensor, node in zip(call.outputs, nodes, strict=True)})
        return [producers[id(tensor)] for tensor in graph.outputs]

    def _add(
        self,
        path: str,
        layer: keras.Operation,
        fed: list[tuple[LayerNode, Tensor]],
        outputs: list[Tensor],
        arguments: tuple,
        named: Mapping[str, Any],
    ) -> LayerNode:
        producers, shapes = tuple(producer for producer, _ in fed), tuple(shapes_of([tensor for _, tensor in fed]))
        dtypes = tuple(keras.backend.standardize_dtype(tensor.dtype) for tensor in keras.tree.flatten(outputs))
        node = LayerNode(path, layer, producers, [], shapes, tuple(shapes_of(outputs)), dtypes, arguments, named)
        for producer in dict.fromkeys(producers):
            producer.consumers.append(node)
        self.nodes.append(node)
        return node


def inputs_by_name(model: keras.Model, spec: CallSpec) -> dict[str, LayerNode]:
    """The nodes of the inputs of a Sequential or functional model, by their names in what it is called with."""
    nodes = {node.layer: node for node in LayerGraph(model).inputs}
    return {name: nodes[layer] for name, layer in match(spec.structure, input_layers(model), "model").items()}


def layers_without_batch(model: keras.Model) -> list[str]:
    """The paths of the layers and operations that return one tensor for a whole batch of open size, as ``ops.mean(x)``
    does; none for a subclassed model.

    Example:
        >>> x = keras.Input((3,), name="features")
        >>> layers_without_batch(keras.Model(x, x - keras.layers.Identity(name="all")(keras.ops.mean(x))))[1:]
        ['all']
    """
    if not is_container(model):
        return []
    graph = LayerGraph(model)
    open_batch = all(shape[:1] == (None,) for node in graph.inputs for shape in node.output_shapes)
    found = [node.path for node in graph.nodes if any(shape[:1] != (None,) for shape in node.output_shapes)]
    return list(dict.fromkeys(found)) if open_batch else []


def shapes_of(structure: object) -> Iterator[Shape]:
    """The shapes of all tensors in a (nested) structure."""
    for leaf in keras.tree.flatten(structure):
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            yield tuple(leaf.shape)

"""Read the structure of any Keras 3 model: its layers by path, its weights by name, the shapes of its calls.

This is the only file that touches Keras's private attributes; each use says why no public one serves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras.src.backend import compute_output_spec
from keras.src.models.functional import Functional, functional_like_constructor

from tfgreen.errors import invalid_type, invalid_value

Shape = tuple[int | None, ...]


def check_built_model(model: keras.Model, argument: str = "model") -> None:
    """Raise unless ``model`` is a Keras model that has its weights.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model has not been built.
    """
    if not isinstance(model, keras.Model):
        raise invalid_type(argument, expected="a keras.Model (Keras 3)", received=model)
    if not model.built:
        raise invalid_value(
            f"{argument} '{model.name}'",
            expected="a built model",
            received="one without weights",
            fix="Give it a keras.Input, or call it once on a batch of data.",
        )


def is_container(layer: keras.Layer) -> bool:
    """Whether a layer is a model whose layers can be replaced one by one: Sequential, or a functional graph.

    A subclassed model, or a functional model whose class has a constructor of its own, is not: Keras could not
    load it back with other layers inside.
    """
    if type(layer) is keras.Sequential:
        return layer.built and layer._functional is not None  # a deferred Sequential has no graph yet
    return isinstance(layer, Functional) and functional_like_constructor(type(layer))


def sublayers(layer: keras.Layer) -> list[tuple[str, keras.Layer]]:
    """The direct sublayers of a layer, under names that are equal in every process.

    The layers of a Sequential or functional model go by their names, which its config holds. Those of any other
    layer go by the attribute they are held in (``"query_dense"``, ``"blocks/0"``): their own names are numbered
    anew in each process.
    """
    if isinstance(layer, (Functional, keras.Sequential)):
        return [(sub.name, sub) for sub in layer.layers if not isinstance(sub, keras.layers.InputLayer)]
    tracked = {id(sub): sub for sub in layer._layers}  # what Keras counts as sublayers, without their attribute names
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


def _flatten(value: Any) -> Iterator[tuple[str, keras.Layer]]:
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
    # `layer.weights` includes the sublayers' weights and offers no way to leave them out.
    found: dict[str, keras.Variable] = {}
    held = [*layer._trainable_variables, *layer._non_trainable_variables]
    # A wrapper such as SpectralNormalization also refers to a weight of the layer inside, whose it remains.
    below = {id(variable) for sub in layer._layers for variable in sub.weights} if held else set()
    for variable in (variable for variable in held if id(variable) not in below):
        name, index = variable.name, 1
        while name in found:
            name, index = f"{variable.name}_{index}", index + 1
        found[name] = variable
    return found


def own_parameters(layer: keras.Layer) -> dict[str, keras.Variable]:
    """Those of :func:`own_weights` that are made to be trained, whether or not the layer is frozen at present."""
    # Freezing a layer sets `variable.trainable` to False, but leaves the variable in this list.
    made = {id(variable) for variable in layer._trainable_variables}
    return {name: variable for name, variable in own_weights(layer).items() if id(variable) in made}


def weights_by_path(layer: keras.Layer) -> dict[str, keras.Variable]:
    """All weights of a layer and its sublayers by path (``"kernel"``, ``"cell/recurrent_kernel"``), each once."""
    found = dict(own_weights(layer))
    for path, sub in walk(layer):
        found.update({f"{path}/{name}": variable for name, variable in own_weights(sub).items()})
    return found


def build_configs(layer: keras.Layer) -> dict[str, dict[str, Any]]:
    """What a built layer and its sublayers were built from, by path (the layer's own under ``""``).

    Plain enough to be stored in a config; :func:`build_from_configs` is the inverse.
    """
    configs = {path: sub.get_build_config() for path, sub in [("", layer), *walk(layer)] if sub.built}
    return {path: config for path, config in configs.items() if config}


def build_from_configs(layer: keras.Layer, configs: dict[str, dict[str, Any]], path: str = "") -> None:
    """Build a layer as the one was whose :func:`build_configs` are given.

    A layer without a ``build()`` of its own leaves its sublayers to be built by its first call, so they are built here
    one by one.
    """
    if layer.built:
        return
    config = configs.get(path, {})
    if config and type(layer).build not in (keras.Layer.build, keras.Model.build):
        layer.build_from_config(config)
    elif config:
        layer._build_shapes_dict = config.get("shapes_dict", config)  # what the copy's get_build_config() reads
    for name, sub in sublayers(layer):
        build_from_configs(sub, configs, f"{path}/{name}" if path else name)
    layer.built = True


def input_layers(model: keras.Model) -> Any:
    """The InputLayers of a functional or Sequential model, in the structure of its inputs."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    # A KerasTensor's own name may differ from its InputLayer's, and only the latter is the name users feed by.
    return keras.tree.map_structure(lambda tensor: tensor._keras_history.operation, graph._inputs_struct)


def copy_input(layer: keras.layers.InputLayer) -> keras.layers.InputLayer:
    """A new InputLayer whose layer and tensor bear the names of the original's (they differ for anonymous inputs)."""
    new = type(layer).from_config(layer.get_config())
    new.output.name = layer.output.name
    return new


def replay(model: keras.Model, inputs: Any, operation: Callable[[keras.Operation], keras.Operation]) -> Any:
    """Run a functional model's graph on other inputs with other operations; returns its outputs in their structure.

    ``keras.models.clone_model`` does nearly this, but renames anonymous inputs and shares the raw operations.
    """
    return model._run_through_graph(inputs, operation_fn=operation)


def shapes_of(structure: Any) -> Iterator[Shape]:
    """The shapes of all tensors in a (nested) structure."""
    for leaf in keras.tree.flatten(structure):
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            yield tuple(leaf.shape)


def run_symbolically(layer: keras.Layer, *inputs: Any, **named_inputs: Any) -> Any:
    """Run every ``call`` below a layer on KerasTensors, in a throw-away graph; returns KerasTensors.

    A functional model's own ``compute_output_spec`` would infer shapes without running its layers.
    """
    return compute_output_spec(lambda *args, **kwargs: layer(*args, **kwargs), *inputs, **named_inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class LayerNode:
    """One call of a layer, or of a raw operation (``x + y``), in the graph of a model; see :class:`LayerGraph`.

    Attributes:
        path: Where the layer is in the model (``"encoder/conv"``). All calls of a shared layer bear its first path.
        layer: The layer or operation.
        producers: For each tensor passed in, the node that made it. Constants have none and are left out.
        consumers: The nodes that take in what this one made, each once.
        input_shapes: The shapes of the tensors passed in, in the order of ``producers``.
        output_shapes: The shapes of the tensors returned.
    """

    path: str
    layer: keras.Operation
    producers: tuple[LayerNode, ...] = dataclasses.field(repr=False)
    consumers: list[LayerNode] = dataclasses.field(repr=False)
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]


class LayerGraph:
    """The calls that make up a Sequential or functional model, those of nested models in their place.

    Shapes are the ones with which Keras built the graph that holds the call: a nested model may have been built with
    fewer sizes known than the model around it.

    Args:
        model: A built model.

    Attributes:
        nodes: All calls, producers before consumers. Each input of the model is a node too.
        inputs: The nodes of the model's inputs, flat, in their order.
        outputs: For each output of the model, likewise, the node that makes it.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built, or is subclassed: its calls are Python code, not a graph.

    Example:
        >>> import keras
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
        self._nodes: list[LayerNode] = []
        self._paths = {id(layer): path for path, layer in replaceable_layers(model)}
        inputs = [self._add(layer.name, layer, [], [layer.output]) for layer in keras.tree.flatten(input_layers(model))]
        outputs = self._read(model, inputs, "")
        self.nodes: tuple[LayerNode, ...] = tuple(self._nodes)
        self.inputs: tuple[LayerNode, ...] = tuple(inputs)
        self.outputs: tuple[LayerNode, ...] = tuple(node for node in outputs if node is not None)

    def _read(self, model: keras.Model, inputs: Sequence[LayerNode | None], prefix: str) -> list[LayerNode | None]:
        """Add the calls of one graph, given the makers of its inputs; returns those of its outputs (a constant passed
        to a nested model has none)."""
        graph = model._functional if isinstance(model, keras.Sequential) else model
        makers = {id(tensor): maker for tensor, maker in zip(graph.inputs, inputs, strict=True)}
        # The public `operations` lists a shared layer once, so only the nodes hold all its calls and who feeds them.
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for call in graph._nodes_by_depth[depth]:
                if call.is_input:
                    continue
                operation, path = call.operation, prefix + call.operation.name
                if is_container(operation):
                    passed = [makers.get(id(tensor)) for tensor in _passed_inputs(call)]
                    made = self._read(operation, passed, f"{path}/")
                else:
                    taken = [(makers[id(tensor)], tensor) for tensor in call.input_tensors]
                    node = self._add(self._paths.setdefault(id(operation), path), operation, taken, call.outputs)
                    made = [node] * len(call.outputs)
                makers.update({id(tensor): maker for tensor, maker in zip(call.outputs, made, strict=True)})
        return [makers[id(tensor)] for tensor in graph.outputs]

    def _add(
        self, path: str, layer: keras.Operation, taken: list[tuple[LayerNode | None, Any]], made: list[Any]
    ) -> LayerNode:
        known = [(maker, tensor) for maker, tensor in taken if maker is not None]
        producers = tuple(maker for maker, _ in known)
        shapes = tuple(shapes_of([tensor for _, tensor in known]))
        node = LayerNode(path, layer, producers, [], shapes, tuple(shapes_of(made)))
        for producer in dict.fromkeys(producers):
            producer.consumers.append(node)
        self._nodes.append(node)
        return node


def _passed_inputs(call: Any) -> list[Any]:
    """What one call of a nested model passed for each of its inputs, in the order of the model's ``inputs``."""
    arguments, operation = call.arguments, call.operation
    passed = arguments.args[0] if arguments.args else arguments.kwargs["inputs"]
    structure = (operation._functional if isinstance(operation, keras.Sequential) else operation)._inputs_struct
    if isinstance(passed, dict) and not isinstance(structure, dict):  # Keras then goes by the names of the inputs
        passed = [passed[tensor.name] for tensor in keras.tree.flatten(structure)]
    return keras.tree.flatten(passed)

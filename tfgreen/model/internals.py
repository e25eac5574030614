"""The one door to what Keras keeps private; each use says why nothing public serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.backend import compute_output_spec
from keras.src.models.functional import Functional, functional_like_constructor

from tfgreen.typing import PlainDict, Tensor, Tensors


def is_container(layer: keras.Operation) -> bool:
    """Whether a layer is a model whose layers can be replaced one by one: Sequential, or a functional graph.

    A model whose class has a constructor of its own is not: Keras could not load it with other layers inside.
    """
    if type(layer) is keras.Sequential:
        return layer.built and layer._functional is not None  # a deferred Sequential has no graph yet
    return isinstance(layer, Functional) and functional_like_constructor(type(layer))


def is_graph(layer: keras.Layer) -> bool:
    """Whether a layer is a model whose config lists its layers by name."""
    return isinstance(layer, (Functional, keras.Sequential))


def graph_of(model: keras.Model) -> Functional:
    """The functional model that runs a Sequential model, which is one itself for any other."""
    return model._functional if isinstance(model, keras.Sequential) else model


def graph_calls(graph: Functional) -> Iterator[Any]:
    """The calls (Keras nodes) of a functional model, producers before consumers, those of its inputs left out."""
    # The public `operations` lists a shared layer once, so only the nodes hold all its calls and who feeds them.
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from (call for call in graph._nodes_by_depth[depth] if not call.is_input)


def passed_inputs(call: Any) -> list[Tensor]:
    """What a call of a nested model passed for each of its inputs, in the order of the model's ``inputs``."""
    arguments, structure = call.arguments, graph_of(call.operation)._inputs_struct
    passed = arguments.args[0] if arguments.args else arguments.kwargs["inputs"]
    if isinstance(passed, dict) and not isinstance(structure, dict):  # Keras then goes by the names of the inputs
        passed = [passed[tensor.name] for tensor in keras.tree.flatten(structure)]
    return keras.tree.flatten(passed)


def input_layers(model: keras.Model) -> Any:
    """The InputLayers of a functional or Sequential model, in the structure of its inputs."""
    # A KerasTensor's own name may differ from its InputLayer's, and only the latter is the name users feed by.
    return keras.tree.map_structure(lambda tensor: tensor._keras_history.operation, graph_of(model)._inputs_struct)


def tracked_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The direct sublayers of a layer; the public ``layers`` is that of models only."""
    return layer._layers


def tracked_variables(layer: keras.Layer) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """The variables that a layer made to be trained, frozen or not, and the others, without those of its sublayers.

    The public ``layer.weights`` includes the sublayers'.
    """
    return layer._trainable_variables, layer._non_trainable_variables


def set_build_config(layer: keras.Layer, config: PlainDict) -> None:
    """Let a layer without a ``build()`` of its own return ``config`` from ``get_build_config()``."""
    layer._build_shapes_dict = config.get("shapes_dict", config)


def replay(model: keras.Model, inputs: Tensors, operation: Callable[[keras.Operation], Callable[..., Any]]) -> Any:
    """Run a functional model's graph on other inputs with other operations; returns its outputs in their structure.

    ``keras.models.clone_model`` renames anonymous inputs, and shares the raw operations.
    """
    return model._run_through_graph(inputs, operation_fn=operation)


def run_symbolically(call: Callable[..., Any], *inputs: Tensors, **named_inputs: Tensors) -> Any:
    """Run a function, with every ``call`` below it, on KerasTensors in a throw-away graph; returns KerasTensors.

    A functional model's ``compute_output_spec`` infers shapes without running its layers.
    """
    return compute_output_spec(lambda *args, **kwargs: call(*args, **kwargs), *inputs, **named_inputs)


def calls_of(operation: keras.Operation) -> list[Any]:
    """The calls (Keras nodes) of an operation on KerasTensors, in whatever models hold them."""
    return operation._inbound_nodes


def consumers_of(operation: keras.Operation) -> list[keras.Operation]:
    """The operations that take in what an operation returns, once for each call."""
    return [call.operation for call in operation._outbound_nodes]


def producing_call(tensor: keras.KerasTensor) -> Any:
    """The call (Keras node) that returns a KerasTensor."""
    history = tensor._keras_history
    return calls_of(history.operation)[history.node_index]

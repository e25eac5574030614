"""Open layers that are made of layers: their calls become graphs, in which LiteRT's roundings can be placed.

A block of a user's or of KerasHub's is one call in the graph of a model, and its code is known to nobody. Run on
symbolic tensors it becomes a nested model of the same name, of the layers inside and of the operations between them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from tfgreen.model.copy import Copies
from tfgreen.model.internals import (
    copy_input,
    graph_calls,
    graph_of,
    history_of,
    input_layers,
    is_container,
    is_functional,
    keras_mask,
    replay,
    set_history,
)
from tfgreen.model.paths import own_weights, paths_by_name, sublayers, walk
from tfgreen.model.weights import is_own
from tfgreen.quantization.lowering import is_opaque
from tfgreen.quantization.shared_graph import let_layers_be_shared
from tfgreen.transforms.compressed import Compressed
from tfgreen.typing import Tensors


class _Closed(Exception):
    """A layer that cannot be opened."""

    _keras_call_info_injected = True  # or Keras would raise another exception in its place

    def __init__(self, layer: keras.Layer) -> None:
        super().__init__(layer.name)
        self.cls = type(layer)


def opened(model: keras.Model, keep: Callable[[str], bool] = lambda path: False) -> keras.Model:
    """A copy of a functional model of any class as a plain one, in which layers that are made of layers are graphs; the
    model itself where there is nothing to be opened, or it is no graph.

    What stays closed: layers that are to be kept so, by their path in what is returned, with weights of their own, that
    are called in several ways or with masks beside tensors, or whose Python code depends on values, on sizes that are
    open or on whether the model is trained.

    Example:
        >>> class Block(keras.layers.Layer):
        ...     def __init__(self, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.dense = keras.layers.Dense(3)
        ...     def call(self, x):
        ...         return x + self.dense(x)
        >>> model = keras.Sequential([keras.Input((3,)), Block(name="block")])
        >>> [path for path, layer in walk(opened(model)) if layer.weights]
        ['block', 'block/dense']
        >>> is_container(opened(model).get_layer("block"))
        True
    """
    closed: set[type] = set()
    names = paths_by_name(model)

    def stays(path: str) -> bool:
        return keep(names.get(path, path))

    while is_functional(model) or is_container(model):
        if is_container(model) and not any(_is_closed(la, closed) and not stays(path) for path, la in walk(model)):
            break
        try:
            return let_layers_be_shared(_Opening(closed, stays).run(Copies().of(model)))
        except _Closed as reason:
            if reason.cls in closed or reason.cls is type(model):
                break
            closed.add(reason.cls)
    return model


def _is_closed(layer: keras.Layer, closed: set[type]) -> bool:
    """Whether a layer can be opened: it is a model with code of its own, or made of layers by such code."""
    if is_container(layer) or isinstance(layer, Compressed) or type(layer) in closed:
        return False
    return is_functional(layer) or (is_opaque(layer) and any(True for _ in sublayers(layer)) and not own_weights(layer))


class _Opening:
    """Runs a model's copy on symbolic tensors, with the calls of layers that open."""

    def __init__(self, closed: set[type], keep: Callable[[str], bool]) -> None:
        self._closed = closed
        self._keep = keep
        self._models: dict[int, tuple[object, keras.Model, Any]] = {}
        self._histories: list[tuple[keras.KerasTensor, Any]] = []

    def run(self, copy: keras.Model) -> keras.Model:
        opening = [la for path, la in walk(copy) if _is_closed(la, self._closed) and not self._keep(path)]
        containers = [la for _, la in walk(copy) if is_container(la)]
        opening += [la for la in containers if not {sub for _, sub in walk(la)}.isdisjoint(opening)]
        for layer in opening:
            vars(layer)["symbolic_call"] = functools.partial(self._call, layer)
            if "_dropout" in vars(layer):  # else attention computes scores and softmax in one operation
                vars(layer)["_dropout"] = 1.0
        inputs = keras.tree.map_structure(lambda layer: copy_input(layer).output, input_layers(copy))
        outputs = replay(graph_of(copy), inputs, lambda operation: operation)
        result = self._checked(copy, keras.Model(inputs, self._restored(outputs), name=copy.name))
        for layer in opening:
            del vars(layer)["symbolic_call"]
        return result

    def _call(self, layer: keras.Layer, *args: Any, **kwargs: Any) -> Tensors:
        """What a call of the layer on symbolic tensors returns, by way of a nested model."""
        named = {name: value for name, value in kwargs.items() if name != "training"}
        flat = keras.tree.flatten((args, named))
        passed = list({id(x): x for x in flat if isinstance(x, keras.KerasTensor)}.values())
        if any(keras_mask(x) is not None for x in passed):  # a nested model would hand none on
            raise _Closed(layer)
        places = {id(x): place for place, x in enumerate(passed)}
        how = [(x.shape, x.dtype, places[id(x)]) if isinstance(x, keras.KerasTensor) else repr(x) for x in flat]
        if id(layer) not in self._models:
            self._models[id(layer)] = (how, *self._model(layer, passed, args, kwargs))
        known, model, structure = self._models[id(layer)]
        if known != how:
            raise _Closed(layer)
        outputs = keras.tree.flatten(model(passed))
        self._histories += [(tensor, history_of(tensor)) for tensor in outputs]
        return keras.tree.pack_sequence_as(structure, outputs)

    def _model(
        self, layer: keras.Layer, passed: list[keras.KerasTensor], args: tuple, kwargs: dict[str, Any]
    ) -> tuple[keras.Model, Any]:
        """The graph of a layer, and the structure of what it returns."""
        fresh = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=f"input_{i}") for i, x in enumerate(passed)]
        stands = {id(x): own for x, own in zip(passed, fresh)}
        args, kwargs = keras.tree.map_structure(lambda x: stands.get(id(x), x), (args, kwargs))
        model, structure = self._trace(layer, fresh, args, kwargs)
        if "training" in inspect.signature(layer.call).parameters:
            again, _ = self._trace(layer, fresh, args, {**kwargs, "training": True})
            if _operations(again) != _operations(model):
                raise _Closed(layer)
        return self._checked(layer, model), structure

    def _trace(
        self, layer: keras.Layer, fresh: list[keras.KerasTensor], args: tuple, kwargs: dict[str, Any]
    ) -> tuple[keras.Model, Any]:
        try:
            returned = _called(layer, args, kwargs)
        except _Closed:
            raise
        except Exception as error:  # noqa: B902 - code that needs values or sizes raises anything
            raise _Closed(layer) from error
        tensors = keras.tree.flatten(returned)
        if not tensors or not all(isinstance(x, keras.KerasTensor) for x in tensors):
            raise _Closed(layer)
        try:
            return keras.Model(fresh, self._restored(tensors), name=layer.name), returned
        except ValueError as error:  # what it returns does not follow from what it takes
            raise _Closed(layer) from error

    def _restored(self, outputs: Any) -> Any:
        """Outputs, after a layer that was opened is no longer what its tensors come from."""
        for tensor, history in self._histories:
            set_history(tensor, history)
        return outputs

    def _checked(self, layer: keras.Layer, model: keras.Model) -> keras.Model:
        """The graph of a layer; an error unless it holds all its weights, and no floats that may have come of them."""
        if {id(v) for v in model.weights} != {id(v) for v in layer.weights}:
            raise _Closed(layer)
        for call in graph_calls(model):
            found = keras.tree.flatten((call.arguments.args, call.arguments.kwargs))
            constants = [x for x in found if keras.ops.is_tensor(x) or isinstance(x, keras.Variable)]
            dtypes = [keras.backend.standardize_dtype(x.dtype) for x in constants if len(x.shape)]
            if any(map(keras.backend.is_float_dtype, dtypes)):
                raise _Closed(layer)
        return model


def _called(layer: keras.Layer, args: tuple, kwargs: dict[str, Any]) -> Tensors:
    """What the code of a layer returns; of one that runs another on each step, on all steps at once, as if they were
    samples. Statistics of a batch are then those of all steps, as they are when the model is not trained."""
    stateful = any(getattr(la, "stateful", False) for _, la in walk(layer))
    if not is_own(layer, (keras.layers.TimeDistributed,)) or stateful:
        return layer.call(*args, **kwargs)
    (x,) = args
    if x.shape[1] is None:
        raise _Closed(layer)
    outputs = layer.layer(keras.ops.reshape(x, (-1, *x.shape[2:])))
    return keras.tree.map_structure(lambda y: keras.ops.reshape(y, (-1, x.shape[1], *y.shape[1:])), outputs)


def _operations(model: keras.Model) -> list[type]:
    return [type(call.operation) for call in graph_calls(model)]

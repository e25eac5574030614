"""Listen to the calls of a model's layers as it runs, whatever kind of model it is.

:func:`listening` puts a function in the place of an attribute (``call``) of the layers at hand, until the last listener
has ended. Keras's classes stay as they are, and each of the threads that run one model at once hears its own calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import keras

from tfgreen.model.graph import shapes_of
from tfgreen.model.internals import StandIn, graph_of, is_container, is_graph, run_symbolically
from tfgreen.model.operation_layer import OperationLayer
from tfgreen.model.paths import replaceable_layers, walk
from tfgreen.typing import Shape, Tensors

# around(operation, call, *args, **kwargs) stands for call(*args, **kwargs), and returns what the caller gets.
Around = Callable[..., Any]

_lock = threading.Lock()
_arounds: ContextVar[tuple[Mapping[tuple[keras.Operation, str], Around], ...]] = ContextVar("arounds", default=())


class Listened(StandIn):
    """Stands for an attribute of an operation while someone listens to it, in this thread or in another."""

    def __init__(self, operation: keras.Operation, attribute: str) -> None:
        self.plain: Callable[..., Any] = getattr(operation, attribute)
        functools.update_wrapper(self, self.plain, updated=())  # Keras reads the signature
        self.operation = operation
        self.attribute = attribute
        self.is_own = attribute in vars(operation)
        self.listeners = 0

    def __call__(self, *args: object, **kwargs: object) -> Any:
        call = self.plain
        for arounds in _arounds.get():
            around = arounds.get((self.operation, self.attribute))
            if around is not None:
                call = functools.partial(around, self.operation, call)
        return call(*args, **kwargs)

    def restore(self) -> None:
        """Put the attribute back."""
        own = vars(self.operation)  # past Keras's __setattr__, which would track the value
        own.pop(self.attribute, None)
        if self.is_own:
            own[self.attribute] = self.plain


@contextlib.contextmanager
def listening(arounds: Mapping[tuple[keras.Operation, str], Around]) -> Iterator[None]:
    """In the block, for this thread, ``around(operation, call, *args, **kwargs)`` stands for each call.

    ``arounds`` holds them by operation and attribute: a method (see :func:`call_name`), or ``"activation"``. Of
    listeners that are nested, the inner one is called first.

    Example:
        >>> dense, seen = keras.layers.Dense(2), []
        >>> def around(layer, call, x):
        ...     seen.append(tuple(x.shape))
        ...     return call(x)
        >>> with listening({(dense, "call"): around}):
        ...     outputs = dense(keras.ops.ones((1, 3)))
        >>> seen, "call" in vars(dense)
        ([(1, 3)], False)
    """
    listened = []
    with _lock:
        for operation, attribute in arounds:
            current = vars(operation).get(attribute)
            if not isinstance(current, Listened):
                current = vars(operation)[attribute] = Listened(operation, attribute)
            current.listeners += 1
            listened.append(current)
    token = _arounds.set((*_arounds.get(), arounds))
    try:
        yield
    finally:
        _arounds.reset(token)
        with _lock:
            for current in listened:
                current.listeners -= 1
                if not current.listeners:
                    current.restore()


def call_name(operation: keras.Operation) -> str:
    """The method that Keras runs when it calls an operation."""
    return "call" if getattr(operation, "quantization_mode", None) is None else "quantized_call"


def around_calls(operations: Iterable[keras.Operation], around: Around) -> contextlib.AbstractContextManager[None]:
    """As :func:`listening`, with one function for the calls of several operations."""
    return listening({(operation, call_name(operation)): around for operation in operations})


def every_operation(model: keras.Model) -> list[keras.Operation]:
    """A model, its layers and the raw operations of its graphs (``x + y``), nested ones included, each once."""
    layers = [model, *(layer for _, layer in walk(model))]
    graphs = [graph_of(layer) for layer in layers if is_graph(layer)]  # None for a Sequential that has no graph
    raw = [operation for graph in graphs if graph is not None for operation in graph.operations]
    raw += [layer.operation for layer in layers if isinstance(layer, OperationLayer)]
    return list(dict.fromkeys([*layers, *raw]))


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer while a model runs on one batch.

    ``inputs`` holds the shapes of all tensors passed, masks left out, ``output`` that of the first tensor returned;
    ``depth`` counts the layers around it; ``operations`` are its TensorFlow operations, without its sublayers'.
    """

    layer: keras.Layer
    inputs: tuple[Shape, ...]
    output: Shape
    depth: int
    operations: tuple[Any, ...]


class LayerCalls:
    """The path of the layer of each call of a built model, and what it returned, while :meth:`listen` is in effect.

    Layers inside a block (attention, a recurrent layer) count as the block; those of a subclassed model one by one.
    ``scope(number of the call)`` is entered around each call.
    """

    def __init__(self, model: keras.Model, scope: Callable[[int], contextlib.AbstractContextManager]) -> None:
        inner = getattr(model, "stands_for", model)  # of a wrapper, the paths are those of the model inside
        layers = replaceable_layers(model) if is_container(model) else walk(inner)
        self._paths = {layer: path for path, layer in layers}
        self._scope = scope
        self.paths: list[str] = []
        self.outputs: list[Tensors | None] = []

    def listen(self) -> contextlib.AbstractContextManager[None]:
        """Record the calls made in the block."""

        def around(layer: keras.Layer, call: Around, /, *args: object, **kwargs: object) -> Tensors:
            number = len(self.paths)
            self.paths.append(self._paths[layer])
            self.outputs.append(None)
            with self._scope(number):
                outputs = call(*args, **kwargs)
            self.outputs[number] = outputs
            return outputs

        return around_calls(self._paths, around)


def trace_calls(layer: keras.Layer, *inputs: Tensors, **named_inputs: Tensors) -> list[Call]:
    """Every layer call that a model or layer, of any kind, makes for one batch of KerasTensors, its own first, in the
    order in which the calls begin."""
    import tensorflow as tf

    calls: list[Call | None] = []
    depth = 0
    claimed: set[str] = set()  # names of the operations of calls that have ended

    def around(callee: keras.Layer, call: Around, /, *args: object, **kwargs: object) -> Tensors:
        nonlocal depth
        place = len(calls)
        calls.append(None)
        graph = tf.compat.v1.get_default_graph()
        first = len(graph.get_operations())
        depth += 1
        try:
            outputs = call(*args, **kwargs)
        finally:
            depth -= 1
        operations = [op for op in graph.get_operations()[first:] if op.name not in claimed]
        claimed.update(op.name for op in operations)
        passed = args, {name: value for name, value in kwargs.items() if not name.endswith("mask")}
        calls[place] = Call(callee, tuple(shapes_of(passed)), next(shapes_of(outputs), ()), depth, tuple(operations))
        return outputs

    with around_calls([layer, *(sub for _, sub in walk(layer))], around):
        run_symbolically(layer, *inputs, **named_inputs)
    return [call for call in calls if call is not None]
